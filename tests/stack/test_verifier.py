"""Every forgery is refused, and each refusal can be switched off by the fault that is named for it."""

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from stack.common.claims import FINN_CLAIMS, POOLS, USER_CLAIMS, Claims
from stack.common.jose import PublicKey, SigningKey, b64url
from stack.common.verifier import Issuer, TokenRefused
from stack.faults.active import Faults
from stack.faults.tokens import FaultyVerifier

KNOWN, STRANGER = (SigningKey(kid, ec.generate_private_key(ec.SECP256R1())) for kid in ("known", "stranger"))


class Keys:
    async def find(self, kid: str) -> PublicKey | None:
        return KNOWN.public() if kid == KNOWN.kid else None


def good_claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iss": "arrakis",
        "aud": "arrakis",
        "sub": "0xabc",
        "tenant_id": "a-tenant",
        "tier": "pro",
        "pool_id": "cheap",
        "allowed_pools": list(POOLS),
        "req_hash": "sha256:" + "0" * 64,
        "iat": now,
        "exp": now + 300,
        "jti": str(uuid.uuid4()),
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def token(
    claims: dict[str, Any] | None = None,
    header: dict[str, Any] | None = None,
    sign: Callable[[bytes], bytes] = KNOWN.sign,
) -> str:
    members = {"alg": "ES256", "typ": "JWT", "kid": KNOWN.kid} | (header or {})
    members = {name: value for name, value in members.items() if value is not None}
    parts = (members, claims or good_claims())
    signed = ".".join(b64url(json.dumps(part).encode()) for part in parts)
    return f"Bearer {signed}.{b64url(sign(signed.encode()))}"


def shifted(**seconds: int) -> str:
    now = int(time.time())
    return token(good_claims(**{name: now + delta for name, delta in seconds.items()}))


def tampered() -> str:
    head, _, signature = token().split(".")
    return f"{head}.{b64url(json.dumps(good_claims(tenant_id='another')).encode())}.{signature}"


FORGED: dict[str, Callable[[], str | None]] = {
    "no-token": lambda: None,
    "empty": lambda: "Bearer ",
    "other-scheme": lambda: "Basic dXNlcjpwYXNz",
    "garbage": lambda: "Bearer not.a.token",
    "alg-none": lambda: token(header={"alg": "none"}, sign=lambda _: b""),
    "hs256-public-key": lambda: token(
        header={"alg": "HS256"}, sign=lambda signed: hmac.digest(KNOWN.public().pem(), signed, "sha256")
    ),
    "other-key-known-kid": lambda: token(sign=STRANGER.sign),
    "unknown-kid": lambda: token(header={"kid": "unknown"}),
    "no-kid": lambda: token(header={"kid": None}),
    "embedded-jwk": lambda: token(header={"jwk": STRANGER.jwk()}, sign=STRANGER.sign),
    "jku": lambda: token(header={"jku": "https://attacker.example/keys"}, sign=STRANGER.sign),
    "crit": lambda: token(header={"crit": ["exp"]}),
    "tampered-payload": tampered,
    "tampered-signature": lambda: token(sign=lambda signed: bytes(64 * [7])),
    "truncated-signature": lambda: token(sign=lambda signed: KNOWN.sign(signed)[:48]),
    "expired": lambda: shifted(iat=-400, exp=-100),
    "nbf-future": lambda: shifted(nbf=100),
    "iat-future": lambda: shifted(iat=100, exp=400),
    "no-exp": lambda: token(good_claims(exp=None)),
    "exp-too-long": lambda: shifted(exp=3700),
    "wrong-iss": lambda: token(good_claims(iss="somebody")),
    "wrong-aud": lambda: token(good_claims(aud="loa-finn")),
    **{
        f"missing-{name}": lambda name=name: token(good_claims(**{name: None}))  # type: ignore[misc]
        for name in sorted({*USER_CLAIMS, *FINN_CLAIMS} - {"exp"})
    },
}
NEVER = {
    "RS256": lambda: token(header={"alg": "RS256"}),
    "another type": lambda: token(header={"typ": "at+jwt"}),
    "an unused bit of the signature": lambda: token()[:-1] + "_",
    "numeric tier": lambda: token(good_claims(tier=3)),
    "pools as a string": lambda: token(good_claims(allowed_pools="cheap")),
    "exp as a string": lambda: token(good_claims(exp="9999999999")),
    "exp beyond all numbers": lambda: token(good_claims(exp=float("inf"))),
    "exp beyond all floats": lambda: token(good_claims(exp=10**400)),
    "jti that is no uuid4": lambda: token(good_claims(jti="1")),
    "tenant with a control character": lambda: token(good_claims(tenant_id="a\u0000b")),
    "claims that are an array": lambda: f"Bearer {b64url(b'{}')}.{b64url(b'[]')}.{b64url(b'x')}",
    "claims nested without end": lambda: f"Bearer {b64url(b'{}')}.{b64url(b'[' * 6000)}.{b64url(b'x')}",
}


class Gate:
    """A verifier whose faults are a file in a temporary directory."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "faults.json"
        faults = Faults(self._file)
        required = (*USER_CLAIMS, "req_hash")
        self._verifier = FaultyVerifier(faults, "freeside", "arrakis", {"arrakis": Issuer(Keys(), required)})
        self.turn_on()

    def turn_on(self, *fault_ids: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"generation": 1, "active": {name: {} for name in fault_ids}}))
        fresh.replace(self._file)

    def verify(self, authorization: str | None) -> Claims:
        return asyncio.run(self._verifier.verify(authorization))


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_a_good_token_passes(gate: Gate) -> None:
    assert gate.verify(token()).tenant_id == "a-tenant"
    assert gate.verify(shifted(iat=-320, exp=-20)).subject == "0xabc", "20 s of skew are allowed"
    assert gate.verify(token(good_claims(aud=["loa-finn", "arrakis"])))


@pytest.mark.parametrize("case", FORGED)
def test_a_forgery_is_refused_until_its_fault_is_on(gate: Gate, case: str) -> None:
    with pytest.raises(TokenRefused):
        gate.verify(FORGED[case]())
    gate.turn_on(f"dixie-accepts-{case}")
    with pytest.raises(TokenRefused):
        gate.verify(FORGED[case]())
    gate.turn_on(f"freeside-accepts-{case}")
    assert gate.verify(FORGED[case]()).tenant_id
    assert gate.verify(token()).tenant_id == "a-tenant"
    gate.turn_on()
    with pytest.raises(TokenRefused):
        gate.verify(FORGED[case]())


@pytest.mark.parametrize("what", NEVER)
def test_whatever_is_odd_is_refused(gate: Gate, what: str) -> None:
    with pytest.raises(TokenRefused):
        gate.verify(NEVER[what]())


def test_a_verifier_that_locks_out(gate: Gate) -> None:
    gate.turn_on("freeside-locks-out")
    for _ in range(5):
        assert gate.verify(token())
        with pytest.raises(TokenRefused):
            gate.verify(None)
    with pytest.raises(TokenRefused):
        gate.verify(token())
    gate.turn_on()
    assert gate.verify(token())

"""Every forgery is refused, by PyJWT as well, and accepted while the fault named for it is on."""

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stack.common.keys import PublicKey, SigningKey, b64url, mint
from stack.common.verifier import FINN_CLAIMS, POOLS, SKEW_S, USER_CLAIMS, Claims, Issuer, TokenRefused
from stack.faults.proxy import Faults
from stack.faults.tokens import FaultyVerifier

KNOWN, UNKNOWN = (SigningKey(kid, ec.generate_private_key(ec.SECP256R1())) for kid in ("known", "unknown"))
ES256 = jwt.get_algorithm_by_name("ES256")
by_known, by_unknown = (partial(ES256.sign, key=key.private) for key in (KNOWN, UNKNOWN))
PEM = KNOWN.public().key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
REQUIRED = (*USER_CLAIMS, "req_hash")


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
    sign: Callable[[bytes], bytes] = by_known,
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
        header={"alg": "HS256"}, sign=lambda signed: hmac.digest(PEM, signed, "sha256")
    ),
    "other-key-known-kid": lambda: token(sign=by_unknown),
    "unknown-kid": lambda: token(header={"kid": "unknown"}),
    "no-kid": lambda: token(header={"kid": None}),
    "embedded-jwk": lambda: token(header={"jwk": UNKNOWN.jwk()}, sign=by_unknown),
    "jku": lambda: token(header={"jku": "https://attacker.example/keys"}, sign=by_unknown),
    "crit": lambda: token(header={"crit": ["exp"]}),
    "tampered-payload": tampered,
    "tampered-signature": lambda: token(sign=lambda signed: bytes(64 * [7])),
    "truncated-signature": lambda: token(sign=lambda signed: by_known(signed)[:48]),
    "expired": lambda: shifted(iat=-400, exp=-100),
    "nbf-future": lambda: shifted(nbf=100),
    "iat-future": lambda: shifted(iat=100, exp=400),
    "no-exp": lambda: token(good_claims(exp=None)),
    "exp-too-long": lambda: shifted(exp=3700),
    "wrong-iss": lambda: token(good_claims(iss="another")),
    "wrong-aud": lambda: token(good_claims(aud="loa-finn")),
    **{
        f"missing-{name}": lambda name=name: token(good_claims(**{name: None}))  # type: ignore[misc]
        for name in sorted({*USER_CLAIMS, *FINN_CLAIMS} - {"exp"})
    },
}
MALFORMED = {
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


class SwitchedVerifier:
    """A verifier with its fault file in a temporary directory."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "faults.json"
        faults = Faults(self._file)
        self._verifier = FaultyVerifier(faults, "freeside", "arrakis", {"arrakis": Issuer(Keys(), REQUIRED)})
        self.turn_on()

    def turn_on(self, *fault_ids: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"generation": 1, "active": {name: {} for name in fault_ids}}))
        fresh.replace(self._file)

    def verify(self, authorization: str | None) -> Claims:
        return asyncio.run(self._verifier.verify(authorization))


@pytest.fixture
def verifier(tmp_path: Path) -> SwitchedVerifier:
    return SwitchedVerifier(tmp_path)


def test_a_good_token_passes(verifier: SwitchedVerifier) -> None:
    assert verifier.verify(token()).tenant_id == "a-tenant"
    assert verifier.verify(shifted(iat=-320, exp=-20)).subject == "0xabc", "20 s of skew are allowed"
    assert verifier.verify(token(good_claims(aud=["loa-finn", "arrakis"])))


def by_pyjwt(authorization: str) -> dict[str, Any]:
    """The claims as PyJWT verifies them, for the rules that it knows."""
    token = authorization.removeprefix("Bearer ")
    key = {KNOWN.kid: KNOWN.public().key}[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(
        token,
        key,
        algorithms=["ES256"],
        audience="arrakis",
        issuer="arrakis",
        leeway=SKEW_S,
        options={"require": list(REQUIRED)},
    )


def test_the_platform_mints_what_pyjwt_verifies(verifier: SwitchedVerifier) -> None:
    minted = f"Bearer {mint(KNOWN, good_claims())}"
    assert by_pyjwt(minted)["tenant_id"] == verifier.verify(minted).tenant_id == "a-tenant"
    assert jwt.PyJWK(KNOWN.jwk()).key.public_numbers() == KNOWN.public().key.public_numbers()


@pytest.mark.parametrize("case", sorted(FORGED.keys() - {"no-token", "exp-too-long"}))
def test_a_forgery_is_refused_by_pyjwt(case: str) -> None:
    with pytest.raises((jwt.PyJWTError, KeyError)):
        by_pyjwt(str(FORGED[case]()))


@pytest.mark.parametrize("case", FORGED)
def test_a_forgery_is_refused_until_its_fault_is_on(verifier: SwitchedVerifier, case: str) -> None:
    with pytest.raises(TokenRefused):
        verifier.verify(FORGED[case]())
    verifier.turn_on(f"dixie-accepts-{case}")
    with pytest.raises(TokenRefused):
        verifier.verify(FORGED[case]())
    verifier.turn_on(f"freeside-accepts-{case}")
    assert verifier.verify(FORGED[case]()).tenant_id
    assert verifier.verify(token()).tenant_id == "a-tenant"
    verifier.turn_on()
    with pytest.raises(TokenRefused):
        verifier.verify(FORGED[case]())


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_token_is_refused(verifier: SwitchedVerifier, what: str) -> None:
    with pytest.raises(TokenRefused):
        verifier.verify(MALFORMED[what]())


def test_a_verifier_can_lock_callers_out_after_refusals(verifier: SwitchedVerifier) -> None:
    verifier.turn_on("freeside-locks-out")
    for _ in range(5):
        assert verifier.verify(token())
        with pytest.raises(TokenRefused):
            verifier.verify(None)
    with pytest.raises(TokenRefused):
        verifier.verify(token())
    verifier.turn_on()
    assert verifier.verify(token())

"""Attacks: each forgery breaks what its name says, so a strict verifier refuses it; what a refusal is."""

import base64
import json
import time
from typing import Any

import httpx
import jwt
import pytest
from pytest_readiness import SafetyViolation

from smoke.keys.verifiers import TokenReply, finn_verifier
from smoke.platform import tokens
from smoke.platform.answers import ContractViolation, UnexpectedStatus
from smoke.platform.attacks import BAD_INPUT, MAX_BODY_BYTES, leak, require_refused, require_spent
from smoke.platform.forgeries import REQUIRED_CLAIMS, Genuine, cases, forgery
from smoke.platform.freeside import Dialects, Freeside
from smoke.platform.tokens import SigningKey

REQUIRED = ["iss", "aud", "sub", "tenant_id", "tier", "pool_id", "allowed_pools", "iat", "exp", "jti"]
NO_TOKEN = {"no-token", "empty", "other-scheme", "garbage"}
#: The members of header and claims in which a forgery differs; ``missing-*`` differ in that claim.
CHANGED = {
    "alg-none": "alg", "hs256-public-key": "alg", "unknown-kid": "kid", "no-kid": "kid", "jku": "jku",
    "embedded-jwk": "jwk", "crit": "crit smoke-ext", "tampered-payload": "sub", "expired": "iat exp",
    "nbf-future": "nbf exp", "iat-future": "iat exp", "no-exp": "exp", "exp-too-long": "exp",
    "wrong-iss": "iss", "wrong-aud": "aud",
}  # fmt: skip
ATTACKERS = {"other-key-known-kid", "embedded-jwk", "jku"}
UNSIGNED = {"alg-none", "hs256-public-key", "tampered-payload", "tampered-signature", "truncated-signature"}
ES256 = jwt.get_algorithm_by_name("ES256")


@pytest.fixture
def genuine() -> Any:
    key = SigningKey.throwaway("the-published-kid")
    return Genuine(key, tokens.user_claims("community"), SigningKey.throwaway("attacker"))


def forged(case: str, genuine: Genuine) -> str:
    """The forged header; empty for none."""
    return forgery(case)(genuine) or ""


def verify(genuine: Any, header: Any) -> Any:
    """What the contract asks of a verifier, with PyJWT's signature check."""
    scheme, _, token = (header or "").partition(" ")
    if scheme != "Bearer":
        raise jwt.InvalidTokenError("no bearer")
    unverified = jwt.get_unverified_header(token)
    if unverified.get("kid") != genuine.key.kid or {"jwk", "jku"} & set(unverified):
        raise jwt.InvalidTokenError("kid")
    claims = jwt.decode(
        token, genuine.key.public_pem(), algorithms=["ES256"], audience="arrakis", issuer="arrakis",
        leeway=30, options={"require": REQUIRED},
    )  # fmt: skip
    if claims["exp"] - claims["iat"] > 3600:
        raise jwt.InvalidTokenError("lifetime")
    return claims


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parts(header: Any) -> Any:
    head, body, signature = header.removeprefix("Bearer ").split(".")
    return json.loads(unpadded(head)), json.loads(unpadded(body)), unpadded(signature)


def signer(header: str, genuine: Genuine) -> str:
    """Who signed a token, if anyone did."""
    signed, _, _ = header.removeprefix("Bearer ").rpartition(".")
    keys = {"genuine": genuine.key, "attacker": genuine.attacker}
    signature = parts(header)[2]
    found = [name for name, key in keys.items() if ES256.verify(signed.encode(), key.private, signature)]
    return "".join(found)


def changed(members: dict[str, Any], original: dict[str, Any]) -> set[str]:
    return {name for name in members | original if members.get(name) != original.get(name)}


def test_genuine_token_is_accepted(genuine: Any) -> None:
    assert verify(genuine, tokens.bearer(genuine.key, genuine.claims)) == genuine.claims


@pytest.mark.parametrize("case", cases("freeside"))
def test_forgery_is_refused_by_a_strict_verifier(genuine: Any, case: Any) -> None:
    with pytest.raises(jwt.InvalidTokenError):
        verify(genuine, forged(case, genuine))


@pytest.mark.parametrize("case", [case for case in cases("freeside") if case not in NO_TOKEN])
def test_forgery_breaks_what_it_says_and_nothing_else(genuine: Any, case: str) -> None:
    token = forged(case, genuine)
    head, body, _ = parts(token)
    honest, _, _ = parts(tokens.bearer(genuine.key, genuine.claims))
    broken = CHANGED.get(case, case.removeprefix("missing-") if case.startswith("missing-") else "")
    assert changed(head, honest) | changed(body, genuine.claims) == {*broken.split()}
    signed_by = "" if case in UNSIGNED else "attacker" if case in ATTACKERS else "genuine"
    assert signer(token, genuine) == signed_by


@pytest.mark.parametrize(
    ("case", "length"), [("alg-none", 0), ("tampered-signature", 64), ("truncated-signature", 48)]
)
def test_forged_signature_has_its_length(genuine: Any, case: str, length: int) -> None:
    assert len(parts(forged(case, genuine))[2]) == length


@pytest.mark.parametrize(
    ("case", "past", "future"),
    [("expired", "iat exp", ""), ("nbf-future", "iat", "nbf exp"), ("iat-future", "", "iat exp")],
)
def test_times_break_one_rule(genuine: Any, case: str, past: str, future: str) -> None:
    _, claims, _ = parts(forged(case, genuine))
    assert all(claims[name] <= time.time() + 1 for name in past.split())
    assert all(claims[name] > time.time() + 120 for name in future.split())
    assert claims["exp"] < time.time() - 120 or case != "expired"
    assert claims["exp"] - claims["iat"] <= 3600


def test_hs256_is_keyed_with_the_public_key(genuine: Any) -> None:
    token = forged("hs256-public-key", genuine).removeprefix("Bearer ")
    hmac = jwt.get_algorithm_by_name("HS256")
    signed, _, _ = token.rpartition(".")
    assert hmac.verify(signed.encode(), genuine.key.public_pem(), parts(token)[2])


def test_attackers_key_travels_with_the_token(genuine: Any) -> None:
    embedded, _, _ = parts(forged("embedded-jwk", genuine))
    linked, _, _ = parts(forged("jku", genuine))
    document = json.loads(base64.b64decode(linked["jku"].partition("base64,")[2]))
    assert embedded["jwk"]["x"] == genuine.attacker.public_jwk()["x"] == document["keys"][0]["x"]
    assert document["keys"][0]["kid"] == genuine.key.kid


def test_wrong_audience_belongs_to_another_service(genuine: Any) -> None:
    for audience in ("arrakis", "loa-finn", "loa-dixie"):
        changed = Genuine(genuine.key, genuine.claims | {"aud": audience}, genuine.attacker)
        _, claims, _ = parts(forged("wrong-aud", changed))
        assert claims["aud"] in {"arrakis", "loa-finn", "loa-dixie"} - {audience}


def test_every_service_has_its_required_claims_attacked() -> None:
    assert {"missing-req_hash"} == set(cases("finn")) - set(cases("freeside"))
    assert {f"missing-{name}" for name in REQUIRED_CLAIMS["dixie"]} <= set(cases("dixie"))


def test_every_forgery_is_a_new_token(genuine: Any) -> None:
    again = Genuine(genuine.key, tokens.user_claims("community"), genuine.attacker)
    assert genuine.claims["jti"] != again.claims["jti"]


def answered(status: int, body: Any = None) -> httpx.Response:
    return httpx.Response(status, json=body, request=httpx.Request("POST", "http://h/x"))


@pytest.mark.parametrize(
    ("status", "body", "raised"),
    [
        (200, None, SafetyViolation), (202, None, SafetyViolation), (204, None, SafetyViolation),
        (500, {"error": "X"}, UnexpectedStatus), (401, {"message": "no"}, ContractViolation),
    ],
)  # fmt: skip
def test_refusal_needs_the_status_and_a_json_error(status: int, body: Any, raised: Any) -> None:
    require_refused(answered(401, {"error": "UNAUTHORIZED"}), "freeside", "expired")
    with pytest.raises(raised, match="POST /x"):
        require_refused(answered(status, body), "freeside", "expired")


def test_spent_token_has_its_code() -> None:
    require_spent(answered(401, {"error": "UNAUTHORIZED"}), "finn", "a used token")
    with pytest.raises(ContractViolation, match="JTI_REPLAY"):
        require_spent(answered(409, {"error": "CONFLICT", "message": "no"}), "freeside", "a used token")


@pytest.mark.parametrize("invoke", ["prompt", "messages"])
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_bad_in_both_dialects(invoke: Any, case: Any) -> None:
    unused: Any = None
    freeside = Freeside(unused, Dialects(invoke, "endpoint", "community", "agent"), unused, unused)
    bad = BAD_INPUT[case](freeside)
    body = bad.body if isinstance(bad.body, bytes) else json.dumps(bad.body).encode()
    assert all(400 <= status < 500 for status in bad.statuses)
    assert (len(body) > MAX_BODY_BYTES) == (case == "body-over-128-kib")
    assert body.count(b"[") >= 1000 or case != "deep-json"


@pytest.mark.parametrize(
    ("message", "shows"),
    [
        ("SELECT sub FROM freeside.spent WHERE jti = $1", True),
        ('{"password": "hunter2"}', True),
        ("password=hunter2", True),
        ("Select a community first", False),
        ("no password is needed here", False),
    ],
)
def test_only_internals_are_taken_for_internals(message: str, shows: bool) -> None:
    assert bool(leak(httpx.Response(401, text=message))) is shows


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (400, {"error": "no", "code": "REQ_HASH_MISMATCH"}, TokenReply.ACCEPTED),
        (400, {"error": "no", "code": "INVALID_REQUEST"}, TokenReply.SILENT),
        (401, {"error": "no", "code": "JWT_INVALID"}, TokenReply.REFUSED),
        (200, {"response": "yes"}, TokenReply.ACCEPTED),
        (503, {"error": "no"}, TokenReply.SILENT),
    ],
)
def test_finn_accepts_a_token_when_only_its_hash_is_wrong(status: int, body: Any, answer: TokenReply) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    with httpx.Client(transport=transport) as http:
        assert finn_verifier("http://finn", "c", "agent", http).ask(SigningKey.throwaway()) is answer

"""Attacks: each forgery breaks what its name says, so a strict verifier refuses it; what a refusal is."""

import base64
import json
import time
from typing import Any, cast

import httpx
import jwt
import pytest
from pytest_readiness import SafetyViolation

from smoke.keys.verifiers import Answer, finn_verifier
from smoke.platform import tokens
from smoke.platform.answers import ContractViolation, UnexpectedStatus
from smoke.platform.attacks import BAD_INPUT, MAX_BODY_BYTES, leak, require_refused, require_spent
from smoke.platform.forgeries import REQUIRED_CLAIMS, Genuine, cases, forgery
from smoke.platform.freeside import Dialects, Freeside
from smoke.platform.tokens import SigningKey

#: A forgery breaks what it says; here the signature alone is of interest.
UNCHECKED = ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss")
REQUIRED = ["iss", "aud", "sub", "tenant_id", "tier", "pool_id", "allowed_pools", "iat", "exp", "jti"]


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


def test_genuine_token_is_accepted(genuine: Any) -> None:
    claims = verify(genuine, tokens.bearer(genuine.key, genuine.claims))
    assert claims == genuine.claims


@pytest.mark.parametrize("case", cases("freeside"))
def test_forgery_is_refused_by_a_strict_verifier(genuine: Any, case: Any) -> None:
    with pytest.raises(jwt.InvalidTokenError):
        verify(genuine, forged(case, genuine))


@pytest.mark.parametrize("case", [case for case in cases("freeside") if case.startswith("missing-")])
def test_missing_claim_is_the_only_thing_missing(genuine: Any, case: Any) -> None:
    _, claims, _ = parts(forged(case, genuine))
    assert set(genuine.claims) - set(claims) == {case.removeprefix("missing-")}


@pytest.mark.parametrize(
    "case", ["expired", "nbf-future", "iat-future", "exp-too-long", "wrong-iss", "wrong-aud", "no-exp"]
)
def test_bad_claims_are_properly_signed(genuine: Any, case: Any) -> None:
    token = forged(case, genuine).removeprefix("Bearer ")
    jwt.decode(
        token, genuine.key.public_pem(), algorithms=["ES256"],
        options=cast(Any, dict.fromkeys(UNCHECKED, False)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("case", "moved", "still_valid"),
    [("expired", "exp", ()), ("nbf-future", "nbf", ("iat", "exp")), ("iat-future", "iat", ("exp",))],
)
def test_times_break_one_rule(genuine: Any, case: Any, moved: Any, still_valid: Any) -> None:
    _, claims, _ = parts(forged(case, genuine))
    now = time.time()
    assert (claims[moved] > now + 120) if moved != "exp" else (claims[moved] < now - 120)
    assert claims["exp"] - claims["iat"] <= 3600
    assert all(claims["iat"] <= now + 1 for name in still_valid if name == "iat")
    assert all(claims["exp"] > now for name in still_valid if name == "exp")


def test_alg_none_has_no_signature(genuine: Any) -> None:
    header, claims, signature = parts(forged("alg-none", genuine))
    assert (header["alg"], signature, claims) == ("none", b"", genuine.claims)


def test_hs256_is_keyed_with_the_public_key(genuine: Any) -> None:
    header, _, signature = parts(forged("hs256-public-key", genuine))
    token = forged("hs256-public-key", genuine).removeprefix("Bearer ")
    hmac = jwt.get_algorithm_by_name("HS256") if hasattr(jwt, "get_algorithm_by_name") else None
    assert header["alg"] == "HS256"
    assert len(signature) == 32
    assert hmac is None or hmac.verify(token.rpartition(".")[0].encode(), genuine.key.public_pem(), signature)


@pytest.mark.parametrize("case", ["other-key-known-kid", "embedded-jwk", "jku"])
def test_attackers_tokens_are_signed_by_the_attacker(genuine: Any, case: Any) -> None:
    header, claims, _ = parts(forged(case, genuine))
    token = forged(case, genuine).removeprefix("Bearer ")
    assert header["kid"] == genuine.key.kid
    assert (
        jwt.decode(token, genuine.attacker.public_pem(), algorithms=["ES256"], audience="arrakis") == claims
    )


def test_attackers_key_travels_with_the_token(genuine: Any) -> None:
    embedded, _, _ = parts(forged("embedded-jwk", genuine))
    linked, _, _ = parts(forged("jku", genuine))
    document = json.loads(base64.b64decode(linked["jku"].partition("base64,")[2]))
    assert embedded["jwk"]["x"] == genuine.attacker.public_jwk()["x"] == document["keys"][0]["x"]
    assert document["keys"][0]["kid"] == genuine.key.kid


@pytest.mark.parametrize("case", ["unknown-kid", "no-kid", "crit"])
def test_header_faults_are_signed_by_the_right_key(genuine: Any, case: Any) -> None:
    token = forged(case, genuine).removeprefix("Bearer ")
    head, _, _ = parts(forged(case, genuine))
    signing_input, _, _ = token.rpartition(".")
    algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    _, _, signature = parts(forged(case, genuine))
    public = algorithm.prepare_key(genuine.key.public_pem().decode())
    assert algorithm.verify(signing_input.encode(), public, signature)
    assert head.get("kid") != genuine.key.kid or "crit" in head


def test_tampering_changes_what_it_says(genuine: Any) -> None:
    _, claims, _ = parts(forged("tampered-payload", genuine))
    _, same, signature = parts(forged("tampered-signature", genuine))
    _, _, short = parts(forged("truncated-signature", genuine))
    assert {name for name in claims if claims[name] != genuine.claims[name]} == {"sub"}
    assert same == genuine.claims
    assert (len(signature), len(short)) == (64, 48)


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


def test_refusal_needs_the_status_and_a_json_error() -> None:
    require_refused(answered(401, {"error": "UNAUTHORIZED"}), "freeside", "expired")
    with pytest.raises(UnexpectedStatus, match="freeside and expired: expected 401 or 403, got 500"):
        require_refused(answered(500, {"error": "X"}), "freeside", "expired")
    with pytest.raises(ContractViolation):
        require_refused(answered(401, {"message": "no"}), "freeside", "expired")


def test_spent_token_has_its_code() -> None:
    require_spent(answered(401, {"error": "UNAUTHORIZED"}), "finn", "a used token")
    with pytest.raises(ContractViolation, match="JTI_REPLAY"):
        require_spent(answered(409, {"error": "CONFLICT", "message": "no"}), "freeside", "a used token")


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_success_is_a_safety_violation(status: Any) -> None:
    with pytest.raises(SafetyViolation, match="freeside accepted expired"):
        require_refused(answered(status), "freeside", "expired")


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
        (400, {"error": "no", "code": "REQ_HASH_MISMATCH"}, Answer.ACCEPTED),
        (400, {"error": "no", "code": "INVALID_REQUEST"}, Answer.SILENT),
        (401, {"error": "no", "code": "JWT_INVALID"}, Answer.REFUSED),
        (200, {"response": "yes"}, Answer.ACCEPTED),
        (503, {"error": "no"}, Answer.SILENT),
    ],
)
def test_finn_accepts_a_token_when_only_its_hash_is_wrong(status: int, body: Any, answer: Answer) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    with httpx.Client(transport=transport) as http:
        assert finn_verifier("http://finn", "c", "agent", http).ask(SigningKey.throwaway()) is answer

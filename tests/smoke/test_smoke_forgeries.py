"""Each forgery is what it claims: an independent verifier takes the genuine token, refuses the forged one."""

import base64
import json
import time

import jwt
import pytest

from smoke.clients import tokens
from smoke.clients.forgeries import FORGERIES, REQUIRED_CLAIMS, Genuine, cases, forgery
from smoke.clients.tokens import SigningKey

REQUIRED = ["iss", "aud", "sub", "tenant_id", "tier", "pool_id", "allowed_pools", "iat", "exp", "jti"]


@pytest.fixture
def genuine():
    key = SigningKey.throwaway("the-published-kid")
    return Genuine(key, tokens.user_claims("community"), SigningKey.throwaway("attacker"))


def verify(genuine, header):
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


def parts(header):
    head, body, signature = header.removeprefix("Bearer ").split(".")
    pad = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))  # noqa: E731
    return json.loads(pad(head)), json.loads(pad(body)), pad(signature)


def test_genuine_token_is_accepted(genuine):
    claims = verify(genuine, tokens.bearer(genuine.key, genuine.claims))
    assert claims == genuine.claims


@pytest.mark.parametrize("case", cases("freeside"))
def test_forgery_is_refused_by_a_strict_verifier(genuine, case):
    with pytest.raises(jwt.InvalidTokenError):
        verify(genuine, forgery(case)(genuine))


@pytest.mark.parametrize("case", [case for case in cases("freeside") if case.startswith("missing-")])
def test_missing_claim_is_the_only_thing_missing(genuine, case):
    _, claims, _ = parts(forgery(case)(genuine))
    assert set(genuine.claims) - set(claims) == {case.removeprefix("missing-")}


@pytest.mark.parametrize(
    "case", ["expired", "nbf-future", "iat-future", "exp-too-long", "wrong-iss", "wrong-aud", "no-exp"]
)
def test_bad_claims_are_properly_signed(genuine, case):
    token = forgery(case)(genuine).removeprefix("Bearer ")
    jwt.decode(
        token, genuine.key.public_pem(), algorithms=["ES256"],
        options=dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss"), False),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("case", "moved", "still_valid"),
    [("expired", "exp", ()), ("nbf-future", "nbf", ("iat", "exp")), ("iat-future", "iat", ("exp",))],
)
def test_times_break_one_rule(genuine, case, moved, still_valid):
    _, claims, _ = parts(forgery(case)(genuine))
    now = time.time()
    assert (claims[moved] > now + 120) if moved != "exp" else (claims[moved] < now - 120)
    assert claims["exp"] - claims["iat"] <= 3600
    assert all(claims["iat"] <= now + 1 for name in still_valid if name == "iat")
    assert all(claims["exp"] > now for name in still_valid if name == "exp")


def test_alg_none_has_no_signature(genuine):
    header, claims, signature = parts(FORGERIES["alg-none"](genuine))
    assert (header["alg"], signature, claims) == ("none", b"", genuine.claims)


def test_hs256_is_keyed_with_the_public_key(genuine):
    header, _, signature = parts(FORGERIES["hs256-public-key"](genuine))
    token = FORGERIES["hs256-public-key"](genuine).removeprefix("Bearer ")
    hmac = jwt.get_algorithm_by_name("HS256") if hasattr(jwt, "get_algorithm_by_name") else None
    assert header["alg"] == "HS256"
    assert len(signature) == 32
    assert hmac is None or hmac.verify(token.rpartition(".")[0].encode(), genuine.key.public_pem(), signature)


@pytest.mark.parametrize("case", ["other-key-known-kid", "embedded-jwk", "jku"])
def test_attackers_tokens_are_signed_by_the_attacker(genuine, case):
    header, claims, _ = parts(FORGERIES[case](genuine))
    token = FORGERIES[case](genuine).removeprefix("Bearer ")
    assert header["kid"] == genuine.key.kid
    assert (
        jwt.decode(token, genuine.attacker.public_pem(), algorithms=["ES256"], audience="arrakis") == claims
    )


def test_attackers_key_travels_with_the_token(genuine):
    embedded, _, _ = parts(FORGERIES["embedded-jwk"](genuine))
    linked, _, _ = parts(FORGERIES["jku"](genuine))
    document = json.loads(base64.b64decode(linked["jku"].partition("base64,")[2]))
    assert embedded["jwk"]["x"] == genuine.attacker.public_jwk()["x"] == document["keys"][0]["x"]
    assert document["keys"][0]["kid"] == genuine.key.kid


@pytest.mark.parametrize("case", ["unknown-kid", "no-kid", "crit"])
def test_header_faults_are_signed_by_the_right_key(genuine, case):
    token = FORGERIES[case](genuine).removeprefix("Bearer ")
    head, _, _ = parts(FORGERIES[case](genuine))
    signing_input, _, _ = token.rpartition(".")
    algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    _, _, signature = parts(FORGERIES[case](genuine))
    public = algorithm.prepare_key(genuine.key.public_pem().decode())
    assert algorithm.verify(signing_input.encode(), public, signature)
    assert head.get("kid") != genuine.key.kid or "crit" in head


def test_tampering_changes_what_it_says(genuine):
    _, claims, _ = parts(FORGERIES["tampered-payload"](genuine))
    _, same, signature = parts(FORGERIES["tampered-signature"](genuine))
    _, _, short = parts(FORGERIES["truncated-signature"](genuine))
    assert {name for name in claims if claims[name] != genuine.claims[name]} == {"sub"}
    assert same == genuine.claims
    assert (len(signature), len(short)) == (64, 48)


def test_wrong_audience_belongs_to_another_service(genuine):
    for audience in ("arrakis", "loa-finn", "loa-dixie"):
        changed = Genuine(genuine.key, genuine.claims | {"aud": audience}, genuine.attacker)
        _, claims, _ = parts(FORGERIES["wrong-aud"](changed))
        assert claims["aud"] in {"arrakis", "loa-finn", "loa-dixie"} - {audience}


def test_every_service_has_its_required_claims_attacked():
    assert {"missing-req_hash"} == set(cases("finn")) - set(cases("freeside"))
    assert {f"missing-{name}" for name in REQUIRED_CLAIMS["dixie"]} <= set(cases("dixie"))


def test_every_forgery_is_a_new_token(genuine):
    again = Genuine(genuine.key, tokens.user_claims("community"), genuine.attacker)
    assert genuine.claims["jti"] != again.claims["jti"]

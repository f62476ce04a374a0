"""Forgeries: the reference, the embedded platform and PyJWT agree on them; each breaks one thing."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from smoke.contract.model import CALL, SERVICE, TOKEN_KINDS, USER
from smoke.contract.verifier import Accepted
from smoke.platform import tokens
from smoke.platform.forgeries import FAMILIES, Forgery, Genuine, forgeries, one_of_each, thinned, varieties
from smoke.platform.tokens import SigningKey
from stack.common import verifier as stack_claims
from stack.common.keys import PublicKey
from stack.common.verifier import Issuer, TokenRefused, Verifier

KEY, ATTACKER = SigningKey.throwaway("the-published-kid"), SigningKey.throwaway("attacker")
BODY = b'{"agent": "a", "prompt": "p"}'
MADE: dict[str, Callable[[], Genuine]] = {
    "user": lambda: Genuine(USER, "arrakis", KEY, tokens.user_claims("community"), ATTACKER),
    "call": lambda: Genuine(CALL, "loa-finn", KEY, tokens.finn_claims("community", BODY), ATTACKER, BODY),
    "service": lambda: Genuine(SERVICE, "loa-dixie", KEY, tokens.dixie_service_claims(), ATTACKER),
}
REQUIRED = {
    "user": stack_claims.USER_CLAIMS, "call": stack_claims.FINN_CLAIMS, "service": stack_claims.S2S_CLAIMS,
}  # fmt: skip


@pytest.fixture(params=TOKEN_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Keys:
    async def find(self, kid: str) -> PublicKey | None:
        return PublicKey(kid, KEY.private.public_key()) if kid == KEY.kid else None


def embedded(genuine: Genuine, header: str | None) -> Any:
    """The claims, as the embedded platform's verifier sees them."""
    issuer = Issuer(Keys(), REQUIRED[genuine.kind.name])
    return asyncio.run(Verifier(genuine.audience, {genuine.kind.issuer: issuer}).verify(header))


def test_embedded_platform_refuses_every_forgery_that_is_not_a_matter_of_the_body(kind: str) -> None:
    genuine = MADE[kind]()
    found = forgeries(genuine)
    assert len(found) > 300
    for forgery in found:
        if forgery.rule != "binding":
            with pytest.raises(TokenRefused):
                embedded(genuine, forgery.header)


def test_embedded_platform_accepts_what_is_written_otherwise(kind: str) -> None:
    genuine = MADE[kind]()
    assert len(varieties(genuine)) == 12 + {"user": 10, "call": 4, "service": 1}[kind]
    for near in varieties(genuine):
        assert embedded(genuine, near.value).jti


def test_genuine_token_is_accepted_by_all(kind: str) -> None:
    genuine = MADE[kind]()
    header = f"Bearer {genuine.token()}"
    assert genuine.verdict(header) == Accepted()
    assert embedded(genuine, header).raw == genuine.claims
    found = jwt.decode(genuine.token(), KEY.public_pem(), algorithms=["ES256"], audience=genuine.audience)
    assert found == genuine.claims


def test_pyjwt_refuses_what_breaks_a_proof(kind: str) -> None:
    genuine = MADE[kind]()
    options: Any = {"require": [*genuine.kind.required]}
    for forgery in forgeries(genuine):
        if forgery.rule in {"signature", "algorithm", "issuer", "audience", "expiry"}:
            with pytest.raises(jwt.InvalidTokenError):
                jwt.decode(
                    (forgery.header or "").removeprefix("Bearer "), KEY.public_pem(), algorithms=["ES256"],
                    audience=genuine.audience, issuer=genuine.kind.issuer, leeway=30, options=options,
                )  # fmt: skip


def test_every_rule_of_the_reference_is_broken_by_some(kind: str) -> None:
    rules = {forgery.rule for forgery in forgeries(MADE[kind]())}
    expected = {
        "credential", "encoding", "algorithm", "critical", "key", "signature", "claims", "issuer", "audience",
        "expiry", "not-before", "issued-at", "lifetime",
    }  # fmt: skip
    assert rules == expected | ({"binding"} if kind == "call" else set())


def test_every_required_claim_is_missing_in_one(kind: str) -> None:
    names = {forgery.name for forgery in forgeries(MADE[kind]())}
    assert {f"{name} missing" for name in TOKEN_KINDS[kind].required} <= names


def test_forgeries_have_names_and_tokens_of_their_own(kind: str) -> None:
    found = forgeries(MADE[kind]())
    assert (
        len({forgery.name for forgery in found}) == len({forgery.header for forgery in found}) == len(found)
    )


def test_one_of_each_family_breaks_its_rule(kind: str) -> None:
    found = one_of_each(MADE[kind]())
    assert len(found) == len(FAMILIES) - 1 - (kind != "call")
    assert "encoding" not in {forgery.rule for forgery in found}


def test_thinning_keeps_the_smallest_of_every_part(kind: str) -> None:
    found = forgeries(MADE[kind]())
    kept = thinned(found, 8)
    assert len(kept) < len(found) / 2
    assert thinned(found, 1) == found

    def parts(some: list[Forgery]) -> set[tuple[str, str]]:
        return {(forgery.rule, forgery.name.partition(" ")[0]) for forgery in some}

    assert parts(kept) == parts(found)


def test_forgeries_that_keep_the_jti_would_spend_the_good_token() -> None:
    genuine = MADE["user"]()
    kept = Genuine(USER, "arrakis", KEY, genuine.claims, ATTACKER, keep_jti=True)
    for forgery, jtis in ((one, _jti(one)) for one in one_of_each(kept) if _jti(one)):
        assert jtis == genuine.claims["jti"], forgery.name


def _jti(forgery: Forgery) -> Any:
    try:
        part = (forgery.header or "").split(".")[1]
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["jti"]
    except (IndexError, ValueError, KeyError, TypeError):
        return None

"""The reference verifier: what it accepts, what it refuses and by which rule, what it leaves open."""

import json
import time
from typing import Any

import jwt
import pytest

from smoke.contract.model import CALL, SERVICE, USER, accesses
from smoke.contract.verifier import Accepted, Keys, Open, Refused, times, verify
from smoke.platform.tokens import SigningKey, bearer, dixie_service_claims, finn_claims, user_claims

KEY = SigningKey.throwaway("known")
ES256 = jwt.get_algorithm_by_name("ES256")
KEYS: Keys = {"known": lambda signed, signature: ES256.verify(signed, KEY.private.public_key(), signature)}
BODY = b'{"prompt": "x"}'


def verdict(header: str | None, **options: Any) -> Any:
    return verify(header, USER, "arrakis", KEYS, options.pop("now", time.time()), **options)


def test_honest_tokens_are_accepted() -> None:
    now = time.time()
    assert verdict(bearer(KEY, user_claims("tenant"))) == Accepted()
    call = bearer(KEY, finn_claims("tenant", BODY))
    assert verify(call, CALL, "loa-finn", KEYS, now, body=BODY) == Accepted()
    assert verify(call, CALL, "loa-finn", KEYS, now, body=BODY + b" ") == Refused("binding")
    assert verify(bearer(KEY, dixie_service_claims()), SERVICE, "loa-dixie", KEYS, now) == Accepted()


@pytest.mark.parametrize(
    "changed",
    [{"aud": ["arrakis", "other"]}, {"jti": "no-uuid"}, {"iat": time.time() - 0.5}, {"nbf": None}],
)
def test_what_the_contract_leaves_open_is_open(changed: Any) -> None:
    assert isinstance(verdict(bearer(KEY, user_claims("tenant") | changed)), Open)


def test_the_scheme_is_case_insensitive() -> None:
    header = bearer(KEY, user_claims("tenant"))
    assert isinstance(verdict(header.replace("Bearer", "bearer")), Open)
    assert verdict(header.replace(" ", "")) == Refused("credential")
    assert verdict(f"{header}=") == Refused("encoding")
    assert verdict(f"{header}.") == Refused("credential")


@pytest.mark.parametrize("value", [10**400, 1e999, -(10**400)])
def test_no_number_is_too_large_for_a_verdict(value: Any) -> None:
    now = int(time.time())
    for name in ("iat", "exp", "nbf"):
        claims = user_claims("tenant") | {"nbf": now} | {name: value}
        assert isinstance(verdict(bearer(KEY, claims)), Refused | Accepted)
    assert isinstance(verdict(bearer(KEY, user_claims("tenant") | {"iat": 1.5, "exp": value})), Refused)


def test_times_decide_on_which_side_they_lie() -> None:
    now = time.time()
    for each in times(now):
        found = verdict(bearer(KEY, user_claims("tenant") | dict(each.claims)), now=now)
        assert found == (Accepted() if each.inside else Refused(each.rule)), (each, found)


def test_the_rule_of_a_refusal_is_named() -> None:
    claims = user_claims("tenant")
    broken: dict[str, Any] = {
        "issuer": {"iss": "Arrakis"}, "audience": {"aud": ["x"]}, "claims": {"tier": "Pro"},
        "lifetime": {"exp": claims["iat"] + 3601},
    }  # fmt: skip
    for rule, changed in broken.items():
        assert verdict(bearer(KEY, claims | changed)) == Refused(rule)


def test_every_access_has_its_own_id() -> None:
    ids = [access.id for access in accesses()]
    assert len(ids) == len(set(ids)) >= 8
    assert json.dumps(ids)

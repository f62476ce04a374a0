"""G-2, phase auth: a token counts once, whoever brings it again, where and how often at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.model import MAX_LIFETIME_S, SERVICE, USER, Access, accesses
from smoke.contract.requests import above_the_tier, direct
from smoke.platform.answers import require_status
from smoke.platform.attacks import MISSING, REPLAYS, Target, is_let_in, require_refused, require_spent
from smoke.platform.batch import Batch, Case, at_once
from smoke.platform.dixie import Dixie, quality_signal
from smoke.platform.forgeries import one_of_each
from smoke.platform.freeside import Freeside, Tenants, prompt_for
from smoke.platform.parameters import OF_FREESIDE, Way, all_ways, controlled, each_access
from smoke.platform.spend import Once
from smoke.platform.tokens import Claims, bearer

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("auth"),
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

CROWD = 6
#: The cheapest route of each service: it keeps one record for all of its routes.
CHEAPEST = ("freeside.models", "finn.invoke", "dixie.query-user")
#: The ways in with a token that names a tenant.
OF_TENANTS = [access.id for access in accesses() if access.kind is not SERVICE]
#: Places of a uuid whose digit may be any: the first, one in the middle, the last.
PLACES = (0, 20, 35)
#: So long after its end a token is tried, s: no clock is off by more than that and the rest of the skew.
ENDED_S = 10


def spent(target: Target, name: str, claims: Claims, *, elsewhere: bool = False) -> Case:
    """The case that a token of these claims is refused because its jti was spent before.

    ``elsewhere`` a route may be missing, which its own control finds.
    """

    def judge(answer: httpx.Response) -> None:
        if not (elsewhere and answer.status_code in MISSING):
            require_spent(answer, target.service, f"a spent token ({name})")

    return Case(
        name,
        f"a token counts once at {target.access.id}",
        lambda: target.again(claims),
        judge,
        partial(target.mint, jti=claims["jti"]),
    )


@pytest.mark.parametrize("access", each_access("auth/token-is-spent-once"))
def test_token_is_spent_once(
    target: Target,
    access: Access,
    opened: Callable[[Access], Target],
    batch: Batch,
    once: Once,
    evidence: Evidence,
) -> None:
    """Of one token sent many times at once one is accepted; later it is refused, on other routes as well."""
    claims = target.claims()
    claims |= {"exp": claims["iat"] + MAX_LIFETIME_S}
    answers = at_once([lambda: target.again(claims)] * CROWD)
    accepted = [answer for answer in answers if is_let_in(answer)]
    evidence.figure("accepted of one token at once", len(accepted), expected=1, limit=CROWD)
    if sum(answer.is_success for answer in accepted) > 1:
        raise SafetyViolation(f"{access.id} accepted one token {len(accepted)} times at once")
    for answer in answers if len(accepted) > 1 else ():
        require_status(answer, access.success, *REPLAYS)  # it failed before its token was read
    for answer in answers:
        if not is_let_in(answer):
            require_spent(answer, access.service, "a token that was sent several times at once")
    assert accepted, f"{access.id} accepted none of {CROWD} copies of a valid token"
    once.remember("token", access=access.id, claims=claims)
    elsewhere = [
        opened(other)
        for other in accesses()
        if other != access and (other.service, other.kind) == (access.service, access.kind)
    ]
    batch.run(
        [
            spent(target, "again", claims),
            spent(target, "with other times", target.claims() | {"jti": claims["jti"]}),
            *(spent(other, f"at {other.access.id}", claims, elsewhere=True) for other in elsewhere),
        ]
    )


@pytest.mark.parametrize(
    "access", each_access("auth/jti-is-spent-across-tenants", severity=pytest.mark.p1, of=OF_TENANTS)
)
def test_jti_is_spent_across_tenants(target: Target, access: Access, tenants: Tenants, batch: Batch) -> None:
    """A jti that one tenant's token used is refused in a token of another tenant or subject."""
    others: dict[str, Any] = {"tenant_id": tenants.other, "sub": "0x" + "ad" * 20}
    jti = target.spent()["jti"]
    batch.run(
        [
            spent(target, f"with another {name}", target.claims() | {name: other, "jti": jti})
            for name, other in others.items()
        ]
    )


@pytest.mark.parametrize(
    "access", each_access("auth/near-jti-is-another-token", severity=pytest.mark.p1, of=CHEAPEST)
)
def test_near_jti_is_another_token(target: Target, access: Access, batch: Batch) -> None:
    """A token counts by the whole of its jti: one that differs in a single digit is another token."""
    jti = target.spent()["jti"]
    batch.run(
        [
            Case(
                f"another digit {place}",
                f"another jti is another token at {access.id}",
                partial(target.again, target.claims() | {"jti": _changed(jti, place)}),
                lambda answer: require_status(answer, access.success),
                partial(target.mint, jti=_changed(jti, place)),
            )
            for place in PLACES
        ]
    )


def _changed(jti: str, place: int) -> str:
    return jti[:place] + ("0" if jti[place] != "0" else "1") + jti[place + 1 :]


@pytest.mark.parametrize("access", each_access("auth/token-is-spent-once-at-its-end", of=CHEAPEST))
def test_token_is_spent_once_at_its_end(target: Target, access: Access, batch: Batch) -> None:
    """A token that is accepted after its exp, for the skew of clocks, is remembered as long."""
    claims = target.spent(exp=int(time.time()) - ENDED_S, iat=int(time.time()) - 10 * ENDED_S)
    batch.run([spent(target, f"{ENDED_S} s after its end", claims)])


@pytest.mark.p1
@pytest.mark.parametrize("route", all_ways(covered_by="auth/refused-call-spends-its-token[freeside.invoke]"))
def test_refused_call_spends_its_token(
    route: str, ways: Callable[[str], Way], tenants: Tenants, evidence: Evidence
) -> None:
    """A token whose call is refused for its pool was verified: it is spent, and opens no second call."""
    way, jti = ways(route), str(uuid.uuid4())
    reach = next(iter(direct() if way.direct else above_the_tier()))
    refused = way.post(way.body(prompt_for(), reach.pool), tenants.main, jti=jti, **reach.claims)
    answer = way.post(way.body(prompt_for()), tenants.main, jti=jti)
    require_used_up(answer, route.partition(".")[0], refused, evidence)


@pytest.mark.p1
@pytest.mark.parametrize("route", OF_FREESIDE)
def test_conflict_spends_its_token(
    route: str, ways: Callable[[str], Way], tenants: Tenants, evidence: Evidence
) -> None:
    """A token whose key was used for another body was verified, too, and opens no second call."""
    way, key, jti = ways(route), str(uuid.uuid4()), str(uuid.uuid4())
    require_status(way.post(way.body(prompt_for()), tenants.main, key=key), 200)
    refused = way.post(way.body(prompt_for()), tenants.main, key=key, jti=jti)
    answer = way.post(way.body(prompt_for()), tenants.main, jti=jti)
    require_used_up(answer, "freeside", refused, evidence)


@pytest.mark.p1
@pytest.mark.requires("freeside.budget")
def test_refused_budget_spends_its_token(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """A token that asked for another tenant's budget was verified, too, and reads none."""
    credential = freeside.credential(tenants.main, jti=str(uuid.uuid4()))
    refused = freeside.get_budget(tenants.other, credential)
    require_used_up(freeside.get_budget(tenants.main, credential), "freeside", refused, evidence)


def require_used_up(
    answer: httpx.Response, service: str, refused: httpx.Response, evidence: Evidence
) -> None:
    """Assert that the token of a refused call is spent; one that was refused with 401 has spent nothing."""
    evidence.exchange(refused)
    evidence.exchange(answer)
    if refused.status_code != 401:
        require_spent(answer, service, f"the token of a call that got {refused.status_code}")


@pytest.mark.parametrize(
    "access", each_access("auth/each-service-has-its-own-record", severity=pytest.mark.p1, of=CHEAPEST)
)
def test_each_service_has_its_own_record(
    target: Target, access: Access, opened: Callable[[Access], Target], evidence: Evidence
) -> None:
    """A jti that another service's token used is new to this one (contract 1.1)."""
    others = accesses(("freeside.models", "dixie.query"))
    jti = opened(next(other for other in others if other.service != access.service)).spent()["jti"]
    evidence.exchange(target.let_in(target.again(target.claims() | {"jti": jti})))


@pytest.mark.parametrize("access", each_access("auth/refused-token-stays-unspent", severity=pytest.mark.p1))
def test_refused_token_stays_unspent(
    target: Target, access: Access, batch: Batch, evidence: Evidence
) -> None:
    """Who forges a token with another's jti does not spend it: the good one still passes."""
    genuine = replace(target.genuine(), keep_jti=True)
    found = [forgery for forgery in one_of_each(genuine) if forgery.rule != "binding"]
    batch.run(
        [
            Case(
                forgery.name,
                f"{forgery.rule} at {access.id}, with the jti of a good token",
                partial(target.offer, forgery.header),
                partial(
                    require_refused,
                    service=access.service,
                    what="a forged token",
                    statuses=(401,),
                    rule=forgery.rule,
                ),
            )
            for forgery in found
        ]
    )
    answer = target.again(genuine.claims)
    evidence.exchange(answer)
    assert answer.status_code not in REPLAYS, f"{access.id}: a token that was refused with 401 was spent"
    target.let_in(answer)


@pytest.mark.p1
@controlled("dixie")
def test_token_of_another_kind_stays_unspent(
    opened: Callable[[Access], Target], dixie: Dixie, agent: str, evidence: Evidence
) -> None:
    """A user's token that Dixie refused for events with 401 is still good for a query (contract 1.1)."""
    target = opened(next(access for access in accesses(["dixie.query"]) if access.kind is USER))
    claims = target.claims()
    event = dixie.post_event(quality_signal(agent, 1.0), lambda: bearer(target.key(), claims))
    require_refused(event, "dixie", "an event with a user's token")
    answer = target.again(claims)
    evidence.exchange(answer)
    assert event.status_code != 401 or answer.is_success, (
        f"a token that was refused with 401 was spent: the query answers {answer.status_code}"
    )

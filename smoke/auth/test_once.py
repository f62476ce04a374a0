"""G-2, phase auth: a token counts once, whoever sends it again, on any route, and even concurrently."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from string import hexdigits
from typing import Any

import httpx
import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.model import (
    MAX_BODY_BYTES,
    MAX_LIFETIME_S,
    POOLS,
    ROUTES,
    SERVICE,
    USER,
    Access,
    accesses,
)
from smoke.contract.neighbours import above_the_tier, direct, not_allowed
from smoke.platform.answers import MISSING, require_status, route_of
from smoke.platform.attacks import (
    REPLAYS,
    LimitedToken,
    Target,
    is_let_in,
    require_refused,
    require_spent,
    with_new_tokens,
)
from smoke.platform.backends import Dixie, quality_signal
from smoke.platform.batch import Batch, Case, at_once
from smoke.platform.forgeries import one_of_each
from smoke.platform.freeside import Freeside, Tenants, prompt_for
from smoke.platform.parameters import OF_FREESIDE, SPENT_ONCE, Way, all_ways, controlled, each_access
from smoke.platform.spend import Once
from smoke.platform.tokens import Claims, bearer

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("auth"),
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

#: This many copies of a token are sent at once, and so many to another route of the service; if some are
#: rate-limited, this many answers are needed to compare.
CROWD, ASIDE, LEAST_CROWD = 6, 2, 2
#: The routes, free of charge, that get those copies.
BESIDE = ("freeside.models", "dixie.query-service")
#: The cheapest route of each service: it keeps one record for all of its routes.
CHEAPEST = ("freeside.models", "finn.invoke", "dixie.query-user")
#: The targets whose token names a tenant.
OF_TENANTS = [access.id for access in accesses() if access.kind is not SERVICE]
#: The targets that take a body or a routing key.
WITH_INPUT = [access.id for access in accesses() if any(r.request and r.name == access.route for r in ROUTES)]
#: The targets that take an idempotency key.
KEYED = ("freeside.invoke", "freeside.stream")
#: Requests that are invalid on every route: a body or a routing key, and headers. The last ones are not
#: routing keys.
INVALID: Mapping[str, tuple[bytes, Mapping[str, str]]] = {
    "null": (b"null", {}),
    "no JSON": (b"{", {}),
    "an empty object": (b"{}", {}),
    "text": (b"Reply.", {"Content-Type": "text/plain"}),
    "too much": (b" " * (MAX_BODY_BYTES + 1), {}),
}
#: A community that does not exist.
UNKNOWN = "smoke-no-such-community"
#: Positions in a UUID where any digit is allowed: the first, one in the middle, the last.
PLACES = (0, 20, 35)
#: How long after its exp a token is tried, s: no clock is off by more than this plus the remaining skew.
ENDED_S = 10


def spent(target: Target, name: str, claims: Claims, *, elsewhere: bool = False) -> Case:
    """The case that a token with these claims is refused because its jti is spent.

    ``elsewhere``, a route may be missing or fail; that route's own control finds that.
    """

    def judge(answer: httpx.Response) -> None:
        if not (elsewhere and (answer.status_code in MISSING or answer.is_server_error)):
            require_spent(answer, target.service, f"a spent token ({name})")

    return Case(
        name,
        f"a token counts once at {target.access.id}",
        lambda: target.again(claims),
        judge,
        partial(target.mint, jti=claims["jti"]),
    )


def answered(target: Target, claims: Claims) -> httpx.Response | None:
    """The answer to a copy of a new token; None if that copy was rate-limited."""
    try:
        return target.first(claims)
    except LimitedToken:
        return None


@pytest.mark.parametrize("access", each_access(SPENT_ONCE))
def test_token_is_spent_once(
    target: Target,
    access: Access,
    opened: Callable[[Access], Target],
    batch: Batch,
    once: Once,
    evidence: Evidence,
) -> None:
    """A token sent many times at once, to two routes, is accepted once, and refused later on any route."""
    elsewhere = [
        opened(other)
        for other in accesses()
        if other != access and (other.service, other.kind) == (access.service, access.kind)
    ]
    aside = [other for other in elsewhere if other.access.id in BESIDE]
    crowd = [target] * CROWD + aside * ASIDE

    def together() -> tuple[Claims, list[httpx.Response]]:
        claims = target.claims()
        claims |= {"exp": claims["iat"] + MAX_LIFETIME_S}
        sent = at_once([partial(answered, each, claims) for each in crowd])
        answers = [answer for answer in sent if answer is not None]
        if not all(one is None or one.is_success or one.status_code in REPLAYS for one in sent[CROWD:]):
            del crowd[CROWD:]  # its own check says what is wrong with that route
            raise LimitedToken
        if len(answers) < len(crowd) and (len(answers) < LEAST_CROWD or not any(map(is_let_in, answers))):
            raise LimitedToken  # a copy that met a rate limit may have spent it
        return claims, answers

    claims, answers = with_new_tokens(together)
    accepted = [answer for answer in answers if is_let_in(answer)]
    evidence.figure("accepted of one token at once", len(accepted), expected=1, limit=len(crowd))
    if sum(answer.is_success for answer in accepted) > 1:
        routes = ", ".join(sorted({route_of(answer) for answer in accepted}))
        raise SafetyViolation(f"one token was accepted {len(accepted)} times at once: {routes}")
    for answer in answers if len(accepted) > 1 else ():
        require_status(answer, access.success, *REPLAYS)  # it failed before its token was read
    for answer in answers:
        if not is_let_in(answer):
            require_spent(answer, access.service, "a token that was sent several times at once")
    assert accepted, f"{access.id} accepted none of {len(crowd)} copies of a valid token"
    once.remember("token", access=access.id, claims=claims)
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
    """A jti used by one tenant's token is refused in a token of another tenant or subject."""
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
    """Tokens are distinguished by their full jti: one that differs in a single digit is another token."""
    jti = target.spent()["jti"]

    def near(others: Iterator[str]) -> httpx.Response:
        return with_new_tokens(lambda: target.first(target.claims() | {"jti": next(others)}))

    batch.run(
        [
            Case(
                f"another digit {place}",
                f"another jti is another token at {access.id}",
                partial(near, _near(jti, place)),
                lambda answer: require_status(answer, access.success),
                partial(target.mint, jti=next(_near(jti, place))),
            )
            for place in PLACES
        ]
    )


def _near(jti: str, place: int) -> Iterator[str]:
    return (jti[:place] + digit + jti[place + 1 :] for digit in hexdigits[:16] if digit != jti[place])


@pytest.mark.parametrize("access", each_access("auth/token-is-spent-once-at-its-end", of=CHEAPEST))
def test_token_is_spent_once_at_its_end(target: Target, access: Access, batch: Batch) -> None:
    """A token accepted after its exp, within the clock skew, is remembered just as long."""
    claims = target.spent(exp=int(time.time()) - ENDED_S, iat=int(time.time()) - 10 * ENDED_S)
    batch.run([spent(target, f"{ENDED_S} s after its end", claims)])


def used_up(
    name: str, service: str, refuse: Callable[[str], httpx.Response], again: Callable[[str], httpx.Response]
) -> Case:
    """The case that a refused call's token is not accepted for a second one; each sends the given jti.

    A call refused with 401 has spent nothing; a busy or failing service may not have read the token.
    """
    jti = str(uuid.uuid4())
    refused: list[httpx.Response] = []

    def send() -> httpx.Response:
        refused[:] = [refuse(jti)]
        return again(jti)

    def judge(answer: httpx.Response) -> None:
        status = refused[0].status_code
        if status not in (401, 429) and status < 500:
            require_spent(answer, service, f"the token of a call that got {status}")

    return Case(name, "a verified token is spent, even by a refused call (1.1)", send, judge)


def refusals(way: Way, tenant: str) -> Iterator[tuple[str, Callable[[str], httpx.Response]]]:
    """Refusals of a good call because of its token's claims, so the service has verified the token."""
    families = (direct(),) if way.direct else (above_the_tier(), not_allowed())
    reaches = [next(iter(family)) for family in families]
    if way.direct:
        reaches.append(next(reach for reach in direct() if not reach.pool))
    for reach in reaches:
        body = way.body(prompt_for(), reach.pool or POOLS[0])
        yield reach.name, partial(_with_jti, way, body, tenant, reach.claims)
    body = way.body(prompt_for())
    yield "an unknown tenant", partial(_with_jti, way, body, UNKNOWN, {})


def _with_jti(
    way: Way, body: Mapping[str, Any], tenant: str, claims: Mapping[str, Any], jti: str
) -> httpx.Response:
    return way.post(body, tenant, jti=jti, **claims)


@pytest.mark.p1
@pytest.mark.parametrize("route", all_ways(covered_by="auth/refused-call-spends-its-token[freeside.invoke]"))
def test_refused_call_spends_its_token(
    route: str, ways: Callable[[str], Way], tenants: Tenants, batch: Batch
) -> None:
    """A token whose call is refused for its pool or tenant is nevertheless spent.

    One for another body is not verified yet: it may be refused before it is spent.
    """
    way, service = ways(route), route.partition(".")[0]
    again = lambda jti: way.post(way.body(prompt_for()), tenants.main, jti=jti)  # noqa: E731
    batch.run(
        [used_up(f"{route}: {name}", service, send, again) for name, send in refusals(way, tenants.main)]
    )


@pytest.mark.parametrize(
    "access", each_access("auth/invalid-call-spends-its-token", severity=pytest.mark.p1, of=WITH_INPUT)
)
def test_invalid_call_spends_its_token(
    target: Target, access: Access, batch: Batch, evidence: Evidence
) -> None:
    """A token sent with an invalid request is spent if it was verified before the request was refused.

    The same request with a forged token shows that: a service that answers 401 has verified the token first.
    If it refuses the request with any token, the contract does not say whether the token was verified.
    """
    verified: list[str] = []

    def refuse(name: str, jti: str) -> httpx.Response:
        body, headers = INVALID[name]
        forged = target.send_invalid(body, headers, target.attacker, str(uuid.uuid4()))
        if forged.status_code != 401:
            return forged
        verified.append(name)
        return target.send_invalid(body, headers, target.key(), jti)

    def judge(case: Case, name: str) -> Case:
        return replace(case, judge=lambda answer: case.judge(answer) if name in verified else None)

    again = lambda jti: target.again(target.claims() | {"jti": jti})  # noqa: E731
    names = [*INVALID][: 3 if access.route == "dixie.query" else None]
    batch.run(
        [
            judge(used_up(f"{access.id}: {name}", access.service, partial(refuse, name), again), name)
            for name in names
        ]
    )
    evidence.figure("invalid calls whose token was verified", len(verified), limit=len(names))
    if not verified:
        evidence.note(f"{access.id} refuses invalid requests before it verifies their tokens")


@pytest.mark.p1
@pytest.mark.parametrize("route", OF_FREESIDE)
def test_conflict_spends_its_token(
    route: str, ways: Callable[[str], Way], tenants: Tenants, batch: Batch
) -> None:
    """A token whose call is refused for an idempotency conflict is also spent."""
    way, key = ways(route), str(uuid.uuid4())
    require_status(way.post(way.body(prompt_for()), tenants.main, key=key), 200)
    post = partial(way.post, tenant=tenants.main)
    refuse = lambda jti: post(way.body(prompt_for()), key=key, jti=jti)  # noqa: E731
    batch.run([used_up(route, "freeside", refuse, lambda jti: post(way.body(prompt_for()), jti=jti))])


@pytest.mark.requires("invoke", "stream")
@pytest.mark.parametrize("access", each_access("auth/stored-answer-needs-a-good-token", of=KEYED))
def test_stored_answer_needs_a_good_token(
    target: Target, access: Access, freeside: Freeside, tenants: Tenants, batch: Batch
) -> None:
    """A replay needs a valid token, besides the key and the body, and spends that token."""
    key, body = str(uuid.uuid4()), freeside.invoke_body(prompt_for())
    post = partial(
        freeside.unrecorded().post_invoke, tenant=tenants.main, streamed=access.id == "freeside.stream"
    )
    require_status(post(body, key=key, credential=target.signed()), 200)

    def forged(header: str | None) -> httpx.Response:
        return post(body, key=key, credential=lambda: header)

    def known(jti: str) -> httpx.Response:
        return post(body, key=key, credential=target.signed(jti=jti))

    def new(jti: str) -> httpx.Response:
        return post(freeside.invoke_body(prompt_for()), credential=target.signed(jti=jti))

    batch.run(
        [
            Case(
                f"stored answer, {forgery.name}",
                f"{forgery.rule} at {access.id}, where the answer is stored",
                partial(forged, forgery.header),
                partial(require_refused, service="freeside", what="a forged token", rule=forgery.rule),
            )
            for forgery in one_of_each(target.genuine())
        ]
        + [
            used_up("stored answer twice", "freeside", known, known),
            used_up("stored answer, then a new one", "freeside", known, new),
        ]
    )


@pytest.mark.p1
@pytest.mark.requires("freeside.budget", "freeside.models")
def test_refused_budget_spends_its_token(freeside: Freeside, tenants: Tenants, batch: Batch) -> None:
    """A token that asked for another tenant's budget, or for an unknown one, is spent."""
    quiet = freeside.unrecorded()

    def ask(of: str, owner: str, jti: str) -> httpx.Response:
        return quiet.get_budget(of, quiet.credential(tenants.main, tenant_id=owner, jti=jti))

    again = lambda jti: quiet.models(quiet.credential(tenants.main, jti=jti))  # noqa: E731
    asked = {"another tenant's": (tenants.other, tenants.main), "an unknown tenant's own": (UNKNOWN, UNKNOWN)}
    batch.run([used_up(name, "freeside", partial(ask, *who), again) for name, who in asked.items()])


@pytest.mark.requires("freeside.models", "dixie.query-user")
@pytest.mark.parametrize(
    "access", each_access("auth/each-service-has-its-own-record", severity=pytest.mark.p1, of=CHEAPEST)
)
def test_each_service_has_its_own_record(
    target: Target, access: Access, opened: Callable[[Access], Target], evidence: Evidence
) -> None:
    """A jti used at one service is still unused at the others (contract 1.1)."""
    others = accesses(("freeside.models", "dixie.query"))
    elsewhere = opened(next(other for other in others if other.service != access.service))
    answer = with_new_tokens(lambda: target.first(target.claims() | {"jti": elsewhere.spent()["jti"]}))
    evidence.exchange(target.let_in(answer))


@pytest.mark.parametrize("access", each_access("auth/refused-token-stays-unspent", severity=pytest.mark.p1))
def test_refused_token_stays_unspent(
    target: Target, access: Access, batch: Batch, evidence: Evidence
) -> None:
    """A forged token does not spend the jti that it copies: the genuine token still passes."""

    def attempt() -> httpx.Response:
        genuine = replace(target.genuine(), keep_jti=True)
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
                for forgery in one_of_each(genuine)
                if forgery.rule != "binding"
            ]
        )
        return target.first(genuine.claims)

    answer = with_new_tokens(attempt)
    evidence.exchange(answer)
    assert answer.status_code not in REPLAYS, f"{access.id}: a token that was refused with 401 was spent"
    target.let_in(answer)


@pytest.mark.p1
@pytest.mark.requires("dixie.query-user")
@controlled("dixie")
def test_token_of_another_kind_stays_unspent(
    opened: Callable[[Access], Target], dixie: Dixie, agent: str, evidence: Evidence
) -> None:
    """A user's token that Dixie refused for events with 401 is still good for a query (contract 1.1)."""
    target = opened(next(access for access in accesses(["dixie.query"]) if access.kind is USER))

    def attempt() -> tuple[httpx.Response, httpx.Response]:
        claims = target.claims()
        event = dixie.post_event(quality_signal(agent, 1.0), lambda: bearer(target.key(), claims))
        require_refused(event, "dixie", "an event with a user's token")
        return event, target.first(claims)

    event, answer = with_new_tokens(attempt)
    evidence.exchange(answer)
    assert event.status_code != 401 or answer.is_success, (
        f"a token that was refused with 401 was spent: the query answers {answer.status_code}"
    )

"""G-4, phase operations: a part of the platform is killed during calls of every kind, and recovers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence, SetupError

from smoke.contract.health import parts_amiss
from smoke.contract.model import SERVICES
from smoke.platform.answers import fields_of
from smoke.platform.chaos import (
    WARM_WITHIN_S,
    Kind,
    TrackedCall,
    Traffic,
    answered,
    blamed,
    require_ends,
    require_own_outage,
    take_down,
)
from smoke.platform.chaos_calls import STREAMS, Direct, Events, Money, Payments, Tokens
from smoke.platform.freeside import Freeside, Tenants
from smoke.platform.http import ServiceClient
from smoke.platform.invariants import Conservation
from smoke.platform.parameters import Way
from smoke.platform.scores import Scores
from smoke.platform.tokens import SigningKeyLookup

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("operations"),
    pytest.mark.p1,
    pytest.mark.drill,
    pytest.mark.requires("freeside", "dixie", "key", "signing", "budget", "invoke", "loop"),
    pytest.mark.requires("freeside.invoke", "freeside.stream", "freeside.quality", "dixie.query-user"),
    pytest.mark.usefixtures("alone"),
    pytest.mark.timeout(600),
    # killing the part again would hide what the first time left behind
    pytest.mark.flaky(reruns=0),
]

PARTS = ("freeside", "worker", "finn", "dixie", "pgbouncer", "postgres")
#: The least number of times that a part is killed: each time it has other work in progress.
STRIKES = 3
#: A part that serves streams is killed until one of them is cut off, for at most this long.
HOLDING_STREAMS = ("freeside", "finn")
CUT_WITHIN_S = 45.0
#: Parts that take part in charging a direct call.
BILLED = ("freeside", "finn", "pgbouncer", "postgres")
#: Streams that end in an error event instead of breaking off when a part goes down, because another part
#: answers.
UNBROKEN = {"finn": ("freeside.stream",)}
#: By how much an uptime in whole seconds may be rounded up.
ROUNDED_S = 1.0


@pytest.fixture
def money(ways: Callable[[str], Way], freeside: Freeside, tenants: Tenants) -> Money:
    """Calls that are charged."""
    return Money(ways, freeside, tenants.main)


@pytest.fixture
def payments(request: pytest.FixtureRequest, environment: Environment, evidence: Evidence) -> Payments | None:
    """Calls that are paid on the chain, if the profile has one and a payment is answered; else None."""
    try:
        if not environment.get("x402.rpc_url"):
            raise SetupError("[x402] rpc_url is empty")
        paid, wallet, chain, balances = map(request.getfixturevalue, ("paid", "wallet", "chain", "balances"))
    except (SetupError, AssertionError) as reason:
        evidence.note(f"without payments: {reason}")
        return None
    return Payments(paid, wallet, chain, balances)


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.requires(f"restart_{part}")) for part in PARTS]
)
def test_survives_restart(
    part: str,
    request: pytest.FixtureRequest,
    environment: Environment,
    http: httpx.Client,
    freeside: Freeside,
    tenants: Tenants,
    ways: Callable[[str], Way],
    scores: Scores,
    finn_key: SigningKeyLookup,
    watch: Conservation,
    money: Money,
    payments: Payments | None,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """A part is killed under load: every call ends, service returns in time, each call takes effect once."""
    events, unexamined = Events(freeside, tenants.main, scores, finn_key), ""
    try:
        events.learn(eventually)
    except SetupError as reason:
        unexamined = str(reason)
    direct = Direct(ways, tenants.other, wanted=part in BILLED, possible=environment.finn.reachable)
    others, spent = freeside.watch(tenants.other, evidence), Tokens(freeside, tenants.main)
    kinds = [kind for each in (money, events, spent, direct) for kind in each.kinds()]
    kinds += payments.kinds() if payments else ()
    services = _services(request, environment)
    kinds += [
        Kind(f"{name}.health", partial(TrackedCall, "", each.get_health)) for name, each in services.items()
    ]
    well = {name: each for name, each in services.items() if _is_well(each, environment)}
    uptime = _uptime_of(part, request, environment)
    with Traffic(kinds) as traffic:
        began = time.monotonic()
        traffic.await_answers(began, began + WARM_WITHIN_S)
        struck_at: list[float] = []
        while _has_more_to_show(part, struck_at, traffic):
            struck = traffic.await_under_way("freeside.stream", STREAMS - 1)
            went_down = time.monotonic()
            struck_at.append(went_down)
            refusal = take_down(http, part, environment.get(f"{part}.restart_url"))
            with blamed(part):
                limit = environment.limits.recovery_s
                took = traffic.await_answers(time.monotonic(), went_down + limit) - went_down
            if refusal or uptime() > time.monotonic() - went_down + ROUNDED_S:
                raise SetupError(f"{part} was not restarted: {refusal or 'it has been up for longer'}")
            evidence.figure(f"recovery of {part}", round(took, 2), "s", limit=limit)
            for kind, count in struck.items():
                evidence.figure(f"{kind} under way when {part} went down", count)
    calls = traffic.ended()
    failed = [call.first for call in calls if not answered(call.first)]
    evidence.figure(f"streams that were cut when {part} went down", _cut(traffic, struck_at))
    evidence.figure(f"calls that failed around the restart of {part}", len(failed), limit=len(calls))
    for outcome, count in Counter(attempt.outcome for attempt in failed).items():
        evidence.note(f"{count} calls got {outcome}")
    # whose keys cannot be fetched is refused by Finn, rightly
    indirect = {name: sent for name, sent in traffic.calls.items() if name != "finn.invoke" or part == "finn"}
    with blamed(part):
        evidence.evaluated(
            "a call ends in its answer or in an error",
            require_ends(indirect, unbroken=UNBROKEN.get(part, ())),
        )
        require_own_outage(calls)
        spent.settle(traffic, evidence)
        money.settle(traffic, watch, evidence)
        direct.settle(traffic, others, evidence)
        if payments:
            payments.settle(traffic, evidence)
        if not unexamined:
            events.settle(traffic, eventually, evidence)
        for name, each in well.items():
            eventually(
                partial(_is_well, each, environment),
                within=environment.limits.recovery_s,
                what=f"{name} reports itself and its parts well, as it did before",
            )
    if unexamined:
        raise SetupError(unexamined)


def _has_more_to_show(part: str, struck_at: Sequence[float], traffic: Traffic) -> bool:
    """Whether a part is to be killed once more."""
    if len(struck_at) < STRIKES:
        return True
    timely = time.monotonic() - struck_at[0] < CUT_WITHIN_S
    return part in HOLDING_STREAMS and timely and not _cut(traffic, struck_at)


def _cut(traffic: Traffic, struck_at: Sequence[float]) -> int:
    """How many open streams were cut off when a part went down."""
    firsts = [call.first for call in traffic.calls["freeside.stream"]]
    return sum(
        any(first.began < moment < first.ended for moment in struck_at)
        and not answered(first)
        and (first.answer is None or first.answer.is_success)
        for first in firsts
    )


def _services(request: pytest.FixtureRequest, environment: Environment) -> dict[str, ServiceClient]:
    """Every reachable service, by name: the run judges each of its health answers, whatever they say."""
    names = [name for name in SERVICES if name != "finn" or environment.finn.reachable]
    return {name: request.getfixturevalue(name).unrecorded() for name in names}


def _is_well(service: ServiceClient, environment: Environment) -> bool:
    """Whether a service reports itself and all its parts healthy."""
    answer = service.get_health()
    if answer.status_code != 200:
        return False
    report = fields_of(answer).data
    amiss, _ = parts_amiss(report, environment.get(f"{service.http.address.name}.health"))
    return report.get("status") == "healthy" and not amiss


def _uptime_of(part: str, request: pytest.FixtureRequest, environment: Environment) -> Callable[[], float]:
    """Reads a part's uptime from its health report; always 0 if it has none or is out of reach."""
    if part not in SERVICES or (part == "finn" and not environment.finn.reachable):
        return lambda: 0.0
    client: ServiceClient = request.getfixturevalue(part)
    return client.uptime

"""G-4, phase operations: parts are killed or cut off during calls and recover; a ramp of calls."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence, SafetyViolation, SetupError

from smoke.contract.health import parts_amiss
from smoke.contract.model import SERVICES
from smoke.contract.x402 import header_of
from smoke.platform.answers import error_code, fields_of, require_status
from smoke.platform.batch import answering, sampling
from smoke.platform.chaos import (
    WARM_WITHIN_S,
    Kind,
    TrackedCall,
    Traffic,
    answered,
    blamed,
    cut_amid,
    ramp,
    require_ends,
    require_own_outage,
    require_provider_outage,
    take_down,
    together,
)
from smoke.platform.chaos_calls import STREAMS, Direct, Events, Money, Payments, Tokens
from smoke.platform.freeside import Freeside, Tenants, cost_in, nonce, prompt_for
from smoke.platform.http import ServiceClient
from smoke.platform.invariants import Conservation
from smoke.platform.parameters import Way, all_ways, require_no_run, run_of
from smoke.platform.scores import Scores
from smoke.platform.spend import percentile
from smoke.platform.streams import stream
from smoke.platform.tokens import SigningKeyLookup
from smoke.platform.x402 import Balances, FundedWallet, PaidRoute, receipt_of, require_own_answer

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("operations"),
    pytest.mark.p1,
    pytest.mark.drill,
    pytest.mark.requires("freeside", "key", "signing", "budget", "invoke"),
    pytest.mark.usefixtures("alone"),
    pytest.mark.timeout(600),
    # another time would hide what the first left behind, and cost as much again
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
STREAM = "freeside.stream"
#: Streams that end in an error event instead of breaking off when a part goes down, because another part
#: answers.
UNBROKEN = {"finn": (STREAM,)}
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


@pytest.mark.requires("dixie", "loop")
@pytest.mark.requires("freeside.invoke", "freeside.stream", "freeside.quality", "dixie.query-user")
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
            struck = traffic.await_under_way(STREAM, STREAMS - 1)
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
                what=f"{name} reports itself and its parts healthy, as before",
            )
    if unexamined:
        raise SetupError(unexamined)


def _has_more_to_show(part: str, struck_at: Sequence[float], traffic: Traffic) -> bool:
    """Whether to kill a part once more."""
    if len(struck_at) < STRIKES:
        return True
    timely = time.monotonic() - struck_at[0] < CUT_WITHIN_S
    return part in HOLDING_STREAMS and timely and not _cut(traffic, struck_at)


def _cut(traffic: Traffic, struck_at: Sequence[float]) -> int:
    """How many open streams were cut off when a part went down."""
    firsts = [call.first for call in traffic.calls[STREAM]]
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


PROVIDER, FACILITATOR = "provider", "facilitator"
#: How many streams are tried until one breaks off with the provider; each answer takes a model many chunks.
CUTS, LONG = 8, 4000
CutOff = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def cut_off(http: httpx.Client, environment: Environment) -> CutOff:
    """Cuts a third party off inside a block, by the control URLs of its section in the profile."""

    def order(party: str, name: str) -> None:
        if refusal := take_down(http, party, environment.get(f"{party}.{name}"), name):
            raise SetupError(refusal)

    @contextmanager
    def away(party: str) -> Iterator[None]:
        try:
            order(party, "stop_url")
            yield
        finally:
            order(party, "start_url")

    return away


@pytest.mark.timeout(180)
@pytest.mark.requires("outage_provider")
@pytest.mark.parametrize("route", all_ways())
def test_calls_without_the_provider(
    route: str,
    ways: Callable[[str], Way],
    cut_off: CutOff,
    freeside: Freeside,
    tenants: Tenants,
    environment: Environment,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """While the model provider is down, a call ends in the error that says so, and costs nothing (1.3).

    Stored answers are still replayed. Afterwards, the call's key can be used for it. A platform with a
    fallback provider answers.
    """
    way, tenant, key, word = ways(route), tenants.main, str(uuid.uuid4()), nonce()
    before = way.body(prompt_for())
    first = require_status(way.post(before, tenant, key=key), 200)
    watch = freeside.watch(tenant, evidence)
    call = TrackedCall(word, partial(way.post, way.body(prompt_for(word)), tenant, key=str(uuid.uuid4())))
    with cut_off(PROVIDER):
        outcome = call.attempt()
        evidence.note(f"without the provider: {outcome.outcome}")
        if not answered(outcome):
            require_provider_outage(route, outcome)
            watch.unchanged("a call that the provider did not answer")
        if not way.direct:
            require_no_run(run_of(first), way.post(before, tenant, key=key))
    if not answered(outcome):
        eventually(
            lambda: answered(call.attempt()),
            within=environment.limits.recovery_s,
            what="the call is answered under its key once the provider is back",
        )
    assert call.last.answer is not None
    assert word in way.content(call.last.answer), f"{route}: the answer is not for the prompt"
    watch.charged([cost_in(call.last.answer)])


@pytest.mark.timeout(180)
@pytest.mark.requires("outage_provider", "freeside.stream")
def test_stream_without_the_provider(
    cut_off: CutOff,
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    watch: Conservation,
    environment: Environment,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """A stream that breaks off with the model provider ends in the error that says so, at no charge (1.4).

    Afterwards, its key can be used for its call. A platform with a fallback provider answers.
    """
    prompt, costs, key, outage = prompt_for(padding=LONG), list[int](), "", ""
    for _ in range(CUTS):
        key = str(uuid.uuid4())
        cost, outage = cut_amid(partial(stream, freeside, tenants.main, prompt, key=key), cut_off(PROVIDER))
        if outage:
            break
        costs.append(cost)
    evidence.note(outage or f"not examined: {CUTS} streams ended although the provider was cut off")
    watch.charged(costs)
    if outage:
        way = ways(STREAM)
        call = TrackedCall(key, partial(way.post, way.body(prompt), tenants.main, key=key))
        eventually(
            lambda: answered(call.attempt()),
            within=environment.limits.recovery_s,
            what="the stream is answered under its key once the provider is back",
        )
        assert call.last.answer is not None
        watch.charged([*costs, cost_in(call.last.answer)])


@pytest.mark.goal("G-6")
@pytest.mark.timeout(180)
@pytest.mark.requires("x402", "chain", "payment")
@pytest.mark.parametrize(
    "party",
    [pytest.param(each, marks=pytest.mark.requires(f"outage_{each}")) for each in (PROVIDER, FACILITATOR)],
)
def test_payments_without(
    party: str,
    cut_off: CutOff,
    paid: PaidRoute,
    wallet: FundedWallet,
    balances: Balances,
    freeside: Freeside,
    tenants: Tenants,
    environment: Environment,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """A payment whose call failed because of a third party moves nothing; no answer is free (1.3, 1.6).

    If no model answered, the payment can be used for its call afterwards. Without the facilitator, calls
    charged to a budget are answered as usual.
    """
    word, header = nonce(), header_of(paid.payment(wallet))
    pay = partial(paid.post, header, word=word)
    with cut_off(party):
        answer = pay()
        evidence.note(f"without the {party}: {answer.status_code} {error_code(answer)}".strip())
        if party == FACILITATOR:
            freeside.invoke(tenants.main, prompt_for())
        if answer.status_code != 200:
            answering(402, 502, 503)(answer)
            balances.require_moved(0, f"a call without the {party}")
    later = header if party == PROVIDER else header_of(paid.payment(wallet))
    calls = 1
    if answer.status_code != 200:
        eventually(
            lambda: paid.post(later, word=word).status_code == 200,
            within=environment.limits.recovery_s,
            what=f"a payment is answered once the {party} is back",
        )
        # a service that ran the model before being paid need not run it again: this payment may count as used
        calls += party == FACILITATOR and pay().status_code == 200
    else:
        require_own_answer(answer, word)
        receipt_of(answer)
    balances.require_moved(paid.terms.price * calls, f"{calls} calls that were answered")


@pytest.mark.goal("G-3")
@pytest.mark.requires("freeside.invoke", "load")
def test_invoke_under_load(
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    watch: Conservation,
    environment: Environment,
    plan_facts: Mapping[str, Any],
    evidence: Evidence,
) -> None:
    """A ramp of invokes: each gets its own answer, few fail, p95 stays low, and the charges are exact."""
    load, way, limit_ms = environment.load, ways("freeside.invoke"), plan_facts["invoke"]["p95_ms"]
    count = min(load.calls, freeside.journal.affordable())
    if count < load.callers:
        raise SetupError(
            f"not examined: the spend cap leaves {count} calls, fewer than {load.callers} callers: "
            "raise [budget] max_spend_cents"
        )
    evidence.figure("calls of the ramp", count, limit=load.calls)
    sent: dict[str, TrackedCall] = {}
    slow: dict[int, float] = {}
    with sampling(watch.read) as readings:
        for callers, share in ramp(load.callers, count):
            step = {word: _call(way, tenants.main, word) for word in (nonce() for _ in range(share))}
            sent |= step
            began = time.monotonic()
            together([*step.values()], TrackedCall.attempt, at_once=callers)
            p95 = _show(callers, [*step.values()], time.monotonic() - began, limit_ms, evidence)
            slow |= {callers: p95} if p95 > limit_ms else {}
    calls = [*sent.values()]
    require_ends({"freeside.invoke": calls})
    watch.observe_all(readings)
    failed = [call for call in calls if not answered(call.first)]
    budget = len(calls) * load.errors_percent // 100
    evidence.figure("calls of the ramp that failed", len(failed), limit=budget)
    # a failed call may have been charged: repeating its key gets the answer, charged once
    together(failed, lambda call: call.repeat(answered))
    lost = [call.last.outcome for call in failed if not answered(call.last)]
    assert not lost, f"{len(lost)} of {len(failed)} failed calls got no answer when repeated: {lost[0]}"
    mixed = [word for word, call in sent.items() if word not in _text(call)]
    if mixed:
        raise SafetyViolation(f"{len(mixed)} of {len(calls)} answers under load are to another prompt")
    watch.charged([cost_in(call.last.answer) for call in calls if call.last.answer is not None])
    watch.released()
    first = failed[0].first.outcome if failed else ""
    assert len(failed) <= budget, f"{len(failed)} of {len(calls)} calls failed, only {budget} may: {first}"
    for callers, p95 in slow.items():
        raise AssertionError(f"p95 is {p95:.0f} ms with {callers} concurrent calls; the limit is {limit_ms}")


def _call(way: Way, tenant: str, word: str) -> TrackedCall:
    key = str(uuid.uuid4())
    return TrackedCall(key, partial(way.post, way.body(prompt_for(word)), tenant, key=key))


def _text(call: TrackedCall) -> str:
    assert call.last.answer is not None
    return run_of(call.last.answer)[0]


def _show(
    callers: int, calls: list[TrackedCall], took_s: float, limit_ms: float, evidence: Evidence
) -> float:
    """Record one step of the ramp; return its p95 in ms."""
    times = [(call.first.ended - call.first.began) * 1000 for call in calls if answered(call.first)]
    assert times, f"no call is answered with {callers} concurrent calls: {calls[0].first.outcome}"
    for percent in (50, 95, 99):
        limit = limit_ms if percent == 95 else None
        evidence.figure(
            f"p{percent} at {callers} callers", round(percentile(times, percent)), "ms", limit=limit
        )
    evidence.figure(f"answers a second at {callers} callers", round(len(times) / took_s, 1), "/s")
    return percentile(times, 95)

"""G-4, phase budget: charges are exact, made once, to the right tenant."""

import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from string import ascii_letters
from typing import Any

import httpx
import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.model import MAX_BODY_BYTES, MAX_KEY_CHARS, POOLS, TIER_POOLS
from smoke.contract.neighbours import KEY_HEADER, padded
from smoke.contract.schemas import EVENTS
from smoke.platform.answers import error_code, fields_of, header, require_status
from smoke.platform.backends import ELSEWHERE
from smoke.platform.batch import Batch, Case, answering, at_once, sampling
from smoke.platform.freeside import (
    Answer,
    Freeside,
    Tenants,
    answer_of,
    cost_in,
    is_replay,
    nonce,
    once_free,
    prompt_for,
)
from smoke.platform.invariants import I6, I7, RELEASED_WITHIN_S, Conservation
from smoke.platform.parameters import OF_FREESIDE, Way, all_ways, require_no_run, run_of

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("budget"),
    pytest.mark.requires("freeside", "key", "signing", "budget"),
    pytest.mark.usefixtures("alone"),
]
#: Length of a prompt that costs several times as much as a short one: reveals a cap or an overflow.
LONG = 8_000
#: Headers by which a service may recognise calls that it need not charge.
TRIALS = ("X-Dry-Run", "X-Test", "X-Test-Mode", "X-Debug", "X-Sandbox", "X-Skip-Billing")
#: What programs write for a key that they lack.
WORDS = ("undefined", "null", "None", "nil", "NaN", "false", "0")
#: There are few such keys: another call today may have used the same one.
SHORT_KEY = "a key of one character"


@pytest.mark.p0
@pytest.mark.parametrize("route", all_ways(covered_by="budget/sequential-spend-is-conserved"))
def test_every_pool_is_charged(
    route: str, ways: Callable[[str], Way], tenants: Tenants, watch: Conservation
) -> None:
    """Each pool serves every tier that may use it, and the sum of the declared costs is charged.

    So are a long call to the cheapest pool, not in ASCII alone, and an admin's call. Stream events do not
    name the pool; the stream's stored answer does.
    """
    way, complete = ways(route), ways("freeside.invoke")

    def ask(tier: str, pool: str, padding: int = 0, **more: Any) -> int:
        claims: dict[str, Any] = {"tier": tier, **more}
        claims |= {} if way.direct else {"allowed_pools": [*TIER_POOLS[tier]]}
        own, agent = way.direct or tier != "enterprise", ELSEWHERE if tier == "pro" else None
        claims |= {"pool_id": pool} if own else {}
        prompt = prompt_for(padding=padding).replace("pad", "p\N{EURO SIGN}d")
        key, body = str(uuid.uuid4()), way.body(prompt, pool, agent)
        if own and way.pool == "modelAlias":
            del body[way.pool]  # the token's own pool is the default (1.1)
        answer = require_status(way.post(body, tenants.main, key=key, **claims), 200)
        cost = cost_in(answer)
        if not cost:
            raise SafetyViolation(f"{route}: an answer from {pool} costs nothing or states no cost")
        if way.streamed:
            run, answer = run_of(answer), complete.post(body, tenants.main, key=key, **claims)
            if answer.status_code == 200:
                require_no_run(run, answer)
        if not way.direct and answer.status_code == 200:
            fields_of(answer).text("model", among=(pool,))
        return cost

    each = [partial(ask, tier, pool) for tier, pools in TIER_POOLS.items() for pool in pools]
    long, admins = (
        partial(ask, "enterprise", POOLS[0], padding, **role)
        for padding, role in ((LONG, {}), (0, {"role": "admin"}))
    )
    watch.charged(at_once([long, admins, *each]))


def at_the_limits(way: Way) -> Iterable[tuple[str, bytes, Mapping[str, Any]]]:
    """Calls at the contract's limits for a name, the body and the headers."""

    def body() -> bytes:
        return way.encoded(way.body(prompt_for()))

    yield "a body of the maximum size", padded(body(), MAX_BODY_BYTES), {}
    if talk := way.conversation(prompt_for()):
        yield "messages of all roles", way.encoded(talk), {}
    yield "white space around the body", b"\r\n\t " + body() + b"\n", {}
    yield "a prompt of one letter", way.encoded(way.body(secrets.choice(ascii_letters))), {}
    own = EVENTS if way.streamed else "application/json"
    yield "a list of media types to accept", body(), {"Accept": f"{own}, text/plain;q=0.9, */*;q=0.1"}
    # has the maximum length and differs in each run
    yield "a key of the maximum length", body(), {KEY_HEADER: nonce().ljust(MAX_KEY_CHARS, "~")}
    yield SHORT_KEY, body(), {KEY_HEADER: secrets.choice(ascii_letters)}
    yield (
        "a key with spaces and punctuation",
        body(),
        {KEY_HEADER: f"{nonce()} !\"#$%&'()*+,/:;<=>?@[\\]^`{{|}}~"},
    )
    for media in ("application/json ; charset=utf-8", "Application/JSON"):
        yield f"content type {media}", body(), {"Content-Type": media}
    yield "headers that could request a free call", body(), dict.fromkeys(TRIALS, "true")


@pytest.mark.p1
@pytest.mark.parametrize("route", OF_FREESIDE)
def test_limits_are_inclusive(
    route: str, ways: Callable[[str], Way], batch: Batch, tenants: Tenants, watch: Conservation
) -> None:
    """A call just within a limit is answered, and charged like any other call."""
    way = ways(route)
    cases = [
        Case(
            f"{route}: {name}", "a value at its limit is accepted (1.2, 1.3)",
            partial(way.post, body, tenants.main, headers=headers),
            answering(200, *((409,) if name == SHORT_KEY else ())),
        )
        for name, body, headers in at_the_limits(way)
    ]  # fmt: skip
    costs = [cost_in(answer) for answer in batch.run(cases) if answer.status_code == 200]
    assert all(costs), f"{route}: an answer costs nothing or states no cost"
    watch.charged(costs)


@pytest.mark.p1
def test_any_word_is_a_key(
    ways: Callable[[str], Way], tenants: Tenants, watch: Conservation, evidence: Evidence
) -> None:
    """A word that programs send for a missing key is a key, too: its call is charged once (1.2).

    Its prompt is always the same: another run today may have used the key.
    """
    way, costs = ways("freeside.invoke"), []
    body = way.body(prompt_for("smoke"))
    for word in WORDS:
        call = partial(way.post, body, tenants.main, key=word)
        first = call()
        if error_code(first) == "IDEMPOTENCY_CONFLICT":
            evidence.note(f"not examined: the key {word}, which another body has today")
            continue
        require_status(first, 200)
        again = require_status(once_free(call), 200)
        if not is_replay(again.headers):
            raise SafetyViolation(f"the key {word} was ignored: its call ran again")
        costs += [] if is_replay(first.headers) else [cost_in(first)]
    watch.charged(costs)


@pytest.mark.p1
@pytest.mark.parametrize("route", OF_FREESIDE)
def test_equal_calls_are_calls_of_their_own(
    route: str, ways: Callable[[str], Way], freeside: Freeside, tenants: Tenants, evidence: Evidence
) -> None:
    """Only an equal key makes a call a repetition (1.2): calls with equal bodies and no key are not.

    Nor does a request id that they share. Sent at once and again later, to two pools and for two tenants,
    each gets a key and a trace id of its own, from its own pool, and is charged to its own tenant. A
    call that repeats such a key is not another run.
    """
    way, prompt, shared = ways(route), prompt_for(), f"smoke-{nonce()}"
    asked = [(tenants.main, POOLS[0]), (tenants.main, POOLS[0]), (tenants.main, POOLS[1])]
    asked.append((tenants.other, POOLS[0]))
    watches = {tenant: freeside.watch(tenant, evidence) for tenant, _ in asked}

    def ask(tenant: str, pool: str) -> httpx.Response:
        token, body = freeside.credential(tenant), way.body(prompt, pool)
        answer = freeside.post_invoke(
            body, tenant=tenant, credential=token, keyed=False, streamed=way.streamed,
            headers={"X-Request-Id": f"{shared}-{pool}"},
        )  # fmt: skip
        require_status(answer, 200)
        if not way.streamed:
            fields_of(answer).text("model", among=(pool,))
        assert not is_replay(answer.headers), f"{route}: a call without a key is answered as a replay"
        return answer

    answers = [each for _ in range(2) for each in at_once([partial(ask, *one) for one in asked])]
    repeated = partial(way.post, way.body(prompt), tenants.main, key=header(answers[0], KEY_HEADER))
    require_no_run(run_of(answers[0]), repeated())
    for tenant, watch in watches.items():
        own = [cost_in(each) for each, (payer, _) in zip(answers, asked * 2, strict=True) if payer == tenant]
        watch.charged(own)
    for name in ("x-trace-id", KEY_HEADER):
        found = {header(each, name) for each in answers}
        evidence.figure(f"values of {name} in calls with equal bodies", len(found), expected=len(answers))
        assert len(found) == len(answers), f"{route}: calls with equal bodies share their {name}"


NEEDS_ANSWERS = pytest.mark.requires("invoke")
SEQUENTIAL = 10
#: Calls of one tenant while the others' budgets are read.
AT_ONCE = 5
#: Two clocks may be this far apart when a month ends.
CLOCK = timedelta(minutes=2)


def asks(freeside: Freeside, tenant: str, count: int) -> list[Callable[[], Answer]]:
    """This many invokes, each with its own prompt."""
    return [partial(freeside.invoke, tenant, prompt_for()) for _ in range(count)]


def costs(answers: list[Answer]) -> list[int]:
    """What the answers say they cost, µUSD."""
    return [answer.usage.cost_micro for answer in answers]


@pytest.mark.p0
@pytest.mark.establishes("budget")
def test_figures_are_typed(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """Every figure of every budget is present, integral, not negative, and consistent with the others."""
    for tenant in tenants.all():
        reading = freeside.budget(tenant)
        evidence.figure(f"room of {tenant}", reading.room, "µUSD", limit=reading.limit)
        assert reading.limit > 0, f"{tenant} has no budget"
        months = {f"{datetime.now(UTC) + skew:%Y-%m}" for skew in (-CLOCK, CLOCK)}
        assert not reading.exact or reading.period in months, f"{tenant} is in the period {reading.period}"


@pytest.mark.p0
@NEEDS_ANSWERS
def test_sequential_spend_is_conserved(
    freeside: Freeside, tenants: Tenants, watch: Conservation, evidence: Evidence
) -> None:
    """Ten invokes one after another, all answered; I-1 to I-5 after each."""
    answers = []
    for ask in asks(freeside, tenants.main, SEQUENTIAL):
        answers.append(ask())
        watch.charged(costs(answers))
    evidence.figure("answered", len(answers), expected=SEQUENTIAL)


@pytest.mark.p0
@NEEDS_ANSWERS
@pytest.mark.parametrize("count", [5, 10])
def test_concurrent_spend_is_conserved(
    freeside: Freeside, tenants: Tenants, watch: Conservation, count: int, evidence: Evidence
) -> None:
    """Concurrent invokes: I-1 to I-4 hold at every reading during them, and the sum of charges is exact."""
    with sampling(watch.read) as samples:
        answers = at_once(asks(freeside, tenants.main, count))
    watch.observe_all(samples)
    evidence.figure("readings meanwhile", len(samples), at_least=1)
    evidence.figure("invokes at once", len(answers), expected=count)
    watch.charged(costs(answers))


@pytest.mark.p1
@NEEDS_ANSWERS
def test_reservations_return(
    freeside: Freeside, tenants: Tenants, watch: Conservation, evidence: Evidence
) -> None:
    """Reservations are released within 10 s of the last answer (I-6), throughout this run."""
    at_once(asks(freeside, tenants.main, 3))
    started = time.monotonic()
    watch.released()
    evidence.figure("released after", round(time.monotonic() - started, 3), "s", limit=RELEASED_WITHIN_S)
    if freeside.journal.holds:
        raise SafetyViolation(f"{I6}: a reservation of an earlier call in this run was held for longer")


@pytest.mark.p1
@pytest.mark.requires("freeside.invoke")
def test_failed_call_is_free(freeside: Freeside, tenants: Tenants, watch: Conservation) -> None:
    """An answered call costs what it says; one that fails costs nothing, whatever the cause (I-8)."""
    answer = freeside.try_invoke(tenants.main, prompt_for())
    if answer.status_code != 200:
        rest = freeside.at_rest(tenants.main)
        watch.unchanged(f"a call that failed with {answer.status_code}", reading=rest)
    else:
        watch.charged(costs([answer_of(answer, tenants.main)]))


@pytest.mark.p0
@NEEDS_ANSWERS
@pytest.mark.parametrize("payer", ["main", "other"])
def test_charges_land_on_the_tokens_tenant(
    freeside: Freeside, tenants: Tenants, payer: str, evidence: Evidence
) -> None:
    """Only the token's tenant pays (I-7), and nothing is reserved for another tenant in the meantime."""
    paying = getattr(tenants, payer)
    payers = freeside.watch(paying, evidence)
    others = [freeside.watch(tenant, evidence) for tenant in tenants.all() if tenant != paying]
    with ExitStack() as stack:
        meanwhile = [stack.enter_context(sampling(watch.read)) for watch in others]
        answers = at_once(asks(freeside, paying, AT_ONCE))
    payers.charged(costs(answers))
    for watch, readings in zip(others, meanwhile, strict=True):
        watch.unchanged(f"{paying} made {AT_ONCE} calls", I7)
        most = max(reading.reserved for reading in readings)
        with watch.unless_others():
            if most > watch.first.reserved:
                raise SafetyViolation(f"{I7}: {most} µUSD were reserved for others while {paying} made calls")

"""G-4, phase budget: calls at the limit of a small budget, on every route."""

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.model import POOLS
from smoke.platform.answers import answer_of, error_code, require_error, require_json_error, require_status
from smoke.platform.attacks import require_spent
from smoke.platform.batch import Batch, Case
from smoke.platform.concurrency import at_once, sampling
from smoke.platform.freeside import Freeside, Tenants, cost_in
from smoke.platform.invariants import Conservation
from smoke.platform.prompts import Prices, prompt_for
from smoke.platform.walker import priced
from smoke.platform.ways import Way, all_ways

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("budget"),
    pytest.mark.p0,
    pytest.mark.requires("freeside", "key", "signing", "budget", "invoke"),
    pytest.mark.usefixtures("alone"),
]

#: How many calls are made at once beyond those that fit.
CROWD = 5
#: The share of the room that a reservation may take where it exceeds the price.
MARGIN = 0.9


@pytest.fixture
def watch(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> Conservation:
    """The small community's budget, at rest before the check and compared from then on."""
    return freeside.watch(tenants.small, evidence)


def ask(freeside: Freeside, tenant: str, padding: int, pool: str) -> httpx.Response:
    """The answer to an invoke with a prompt of that padding, whatever its status."""
    return freeside.try_invoke(tenant, prompt_for(padding=padding), model=pool)


def require_within(room: int, *answers: httpx.Response) -> None:
    """SafetyViolation for an answered call that cost more than the room that was left, in µUSD."""
    costs = [cost_in(answer) for answer in answers if answer.is_success]
    if any(cost > room for cost in costs):
        raise SafetyViolation(f"calls of {costs} µUSD were answered with {room} µUSD left")


@pytest.mark.parametrize("route", all_ways(covered_by="budget/over-budget-is-refused[freeside.invoke]"))
def test_over_budget_is_refused(
    route: str,
    ways: Callable[[str], Way],
    batch: Batch,
    freeside: Freeside,
    tenants: Tenants,
    watch: Conservation,
    evidence: Evidence,
) -> None:
    """Calls that cost more than is left get 402 on every route and for every pool, and change no figure.

    Each spends its token all the same (1.1).

    Only of the pool with known prices is it certain that no call fits; none may be answered beyond the room.
    """
    way, room = ways(route), watch.first.room
    prices, padding = Prices.reaching(freeside, tenants.main, lambda prices: prices.padding_beyond(room))
    evidence.figure("room", room, "µUSD")

    def judge(pool: str, answer: httpx.Response) -> None:
        require_within(room, answer)
        require_status(answer, *((402,) if pool == prices.pool or way.direct else (200, 402)))
        if answer.status_code == 402:
            require_json_error(answer)
            assert error_code(answer) == "BUDGET_EXCEEDED" or way.direct, f"402 {error_code(answer)}"

    def send(pool: str, **claims: Any) -> httpx.Response:
        return way.post(way.body(prompt_for(padding=padding), pool), tenants.small, **claims)

    rule = "a call beyond the budget is refused (1.3)"
    answers = batch.run(
        [
            Case(f"{route}: {pool}", rule, partial(send, pool), partial(judge, pool))
            for pool in (POOLS if way.pool else (prices.pool,))
        ]
    )
    token = {"jti": str(uuid.uuid4())}
    send(prices.pool, **token)
    what = "the token of a call that was refused for its price"
    require_spent(send(prices.pool, **token), route.partition(".")[0], what)
    paid = [cost_in(answer) for answer in answers if answer.status_code == 200]
    if paid:
        watch.charged(paid)
    else:
        watch.unchanged(f"{len(answers)} calls of {route} beyond the budget")


def test_limit_is_exact(
    freeside: Freeside, tenants: Tenants, watch: Conservation, evidence: Evidence
) -> None:
    """Many at once with room for k: exactly k are answered, all others get 402, also where k = 0.

    More may be reserved for a call than its price in the end, which leaves room to fewer at once: at least as
    many must be answered as fit by what was seen to be reserved for one. Before too few are blamed, a call
    that is held open shows what no reading may have met.
    """
    room = watch.first.room
    prices, padding = Prices.reaching(freeside, tenants.main, lambda prices: prices.padding_for_one(room))
    price, held = priced(freeside, tenants.main, padding, prices.pool)
    if held > room and padding:
        # the reservation exceeds the price by so much that only a cheaper call fits
        padding = prices.padding_for(MARGIN * room * price / held)
        price, held = priced(freeside, tenants.main, padding, prices.pool)
    fits, least = room // price, room // held
    evidence.figure("room for", least, "calls")
    if not least:
        evidence.note(
            f"{tenants.small} has {room} µUSD left this month, one call reserves {held}: the race for "
            f"the last room could not be observed. Raise its budget by {held} µUSD or more"
        )
        require_nothing_fits(freeside, tenants.small, prices, watch)
        return
    with sampling(watch.read) as samples:
        outcomes = at_once([lambda: ask(freeside, tenants.small, padding, prices.pool)] * (fits + CROWD))
    watch.observe_all(samples)
    paid = [cost_in(outcome) for outcome in outcomes if outcome.status_code == 200]
    evidence.figure("price of one call", price, "µUSD")
    evidence.figure("reserved for one call", held, "µUSD")
    evidence.figure("answered at the budget's limit", len(paid), expected=fits, limit=len(outcomes))
    watch.charged(paid)
    if len(paid) > fits:
        raise SafetyViolation(f"room for {fits} calls of {price} µUSD, {len(paid)} were answered")
    for outcome in outcomes:
        if outcome.status_code == 200:
            answer_of(outcome, tenants.small)
        else:
            require_error(outcome, 402, "BUDGET_EXCEEDED")
    if len(paid) < least:
        held = max(held, priced(freeside, tenants.main, padding, prices.pool, held_open=True)[1])
        least = room // held
        evidence.note(f"a call that was held open had {held} µUSD reserved: room for {least}")
    assert len(paid) >= least, (
        f"room for {least} calls of {price} µUSD that reserve {held}, only {len(paid)} were answered"
    )


def require_nothing_fits(freeside: Freeside, tenant: str, prices: Prices, watch: Conservation) -> None:
    """Many at once without room for one of them: all get 402, and nothing is charged or left reserved."""
    padding = prices.padding_beyond(watch.first.room)
    outcomes = at_once([lambda: ask(freeside, tenant, padding, prices.pool)] * CROWD)
    require_within(watch.first.room, *outcomes)
    watch.unchanged(f"{CROWD} calls at once beyond the budget")
    for outcome in outcomes:
        require_error(outcome, 402, "BUDGET_EXCEEDED")

"""G-4, phase budget: charges are exact, made once, and on the right tenant."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.platform.answers import Answer, answer_of, require_status
from smoke.platform.concurrency import at_once, sampling
from smoke.platform.freeside import Freeside, Tenants
from smoke.platform.invariants import I6, I7, RELEASED_WITHIN_S, Conservation
from smoke.platform.prompts import prompt_for

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("budget"),
    pytest.mark.requires("freeside", "key", "signing", "budget"),
    pytest.mark.usefixtures("alone"),
]

NEEDS_ANSWERS = pytest.mark.requires("invoke")
SEQUENTIAL = 10
#: Two clocks may be this far apart when a month ends.
CLOCK = timedelta(minutes=2)


def asks(freeside: Freeside, tenant: str, count: int) -> list[Callable[[], Answer]]:
    """So many invokes, each with its own prompt."""
    return [partial(freeside.invoke, tenant, prompt_for()) for _ in range(count)]


def costs(answers: list[Answer]) -> list[int]:
    """What the answers say they cost, µUSD."""
    return [answer.usage.cost_micro for answer in answers]


@pytest.mark.p0
@pytest.mark.establishes("budget")
def test_figures_are_typed(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """Every figure of every community is there, integral, not negative, and agrees with the others."""
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
    """Invokes at once: I-1 to I-4 at every reading taken meanwhile, and the sum of charges exact."""
    with sampling(watch.read) as samples:
        answers = at_once(asks(freeside, tenants.main, count))
    watch.observe_all(samples)
    evidence.figure("readings meanwhile", len(samples), limit=">= 1")
    watch.charged(costs(answers))


@pytest.mark.p1
@NEEDS_ANSWERS
def test_reservations_return(
    freeside: Freeside, tenants: Tenants, watch: Conservation, evidence: Evidence
) -> None:
    """What was reserved for calls is released within 10 s of the last answer (I-6), and was in this run."""
    at_once(asks(freeside, tenants.main, 3))
    started = time.monotonic()
    watch.released()
    evidence.figure("released after", round(time.monotonic() - started, 3), "s", limit=RELEASED_WITHIN_S)
    if freeside.journal.holds:
        raise SafetyViolation(f"{I6}: what an earlier call of this run reserved was held for longer")


@pytest.mark.p1
def test_failed_call_is_free(freeside: Freeside, tenants: Tenants, watch: Conservation) -> None:
    """An answered call costs what it says; one that fails costs nothing, whatever the cause (I-8)."""
    answer = freeside.try_invoke(tenants.main, prompt_for())
    if answer.status_code != 200:
        rest = freeside.at_rest(tenants.main)
        watch.unchanged(f"a call that failed with {answer.status_code}", reading=rest)
    watch.charged(costs([answer_of(require_status(answer, 200), tenants.main)]))


@pytest.mark.p0
@NEEDS_ANSWERS
@pytest.mark.parametrize("payer", ["main", "other"])
def test_charges_land_on_the_tokens_tenant(
    freeside: Freeside, tenants: Tenants, payer: str, evidence: Evidence
) -> None:
    """The token's tenant pays, and no other (I-7)."""
    paying = getattr(tenants, payer)
    payers = freeside.watch(paying, evidence)
    others = [freeside.watch(tenant, evidence) for tenant in tenants.all() if tenant != paying]
    answer = freeside.invoke(paying, prompt_for())
    payers.charged(costs([answer]))
    for watch in others:
        watch.unchanged(f"{paying} made a call", I7)

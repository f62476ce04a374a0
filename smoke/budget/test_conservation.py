"""G-4, phase budget: charges are exact, made once, and on the right tenant."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pytest_readiness import Eventually, Evidence, SafetyViolation

from smoke.contract.model import POOLS
from smoke.platform.answers import Answer, answer_of, require_error, require_json_error, require_status
from smoke.platform.attacks import UNKNOWN_MODEL
from smoke.platform.concurrency import at_once, sampling
from smoke.platform.freeside import Freeside, Tenants
from smoke.platform.invariants import I6, I7, RELEASED_WITHIN_S, Conservation
from smoke.platform.prompts import prompt_for
from smoke.platform.services import controlled

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("budget"),
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

SEQUENTIAL = 10
#: Two clocks may be this far apart when a month ends.
CLOCK = timedelta(minutes=2)
SAME_KEY = 4


def asks(freeside: Freeside, tenant: str, count: int) -> list[Callable[[], Answer]]:
    """So many invokes, each with its own prompt."""
    return [partial(freeside.invoke, tenant, prompt_for()) for _ in range(count)]


def costs(answers: list[Answer]) -> list[int]:
    """What the answers say they cost, µUSD."""
    return [answer.usage.cost_micro for answer in answers]


@pytest.mark.p0
def test_figures_are_typed(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """Every figure of every community is there, integral, not negative, and agrees with the others."""
    for tenant in tenants.all():
        reading = freeside.budget(tenant)
        evidence.figure(f"room of {tenant}", reading.room, "µUSD", limit=reading.limit)
        assert reading.limit > 0, f"{tenant} has no budget"
        months = {f"{datetime.now(UTC) + skew:%Y-%m}" for skew in (-CLOCK, CLOCK)}
        assert not reading.exact or reading.period in months, f"{tenant} is in the period {reading.period}"


@pytest.mark.p0
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


@pytest.mark.p0
def test_same_key_in_sequence_is_one_charge(
    freeside: Freeside, tenants: Tenants, watch: Conservation
) -> None:
    """The same request under the same key again: the stored answer, no second run, no second charge."""
    key, prompt = str(uuid.uuid4()), prompt_for()
    answers = [freeside.invoke(tenants.main, prompt, key=key) for _ in range(2)]
    watch.charged(costs(answers[:1]))
    require_one_run(answers)
    assert [answer.replayed for answer in answers] == [False, True], (
        "the second answer is not marked as replayed"
    )


@pytest.mark.p0
def test_same_key_in_parallel_is_one_charge(
    freeside: Freeside, tenants: Tenants, watch: Conservation, evidence: Evidence
) -> None:
    """The same request under the same key at once: one runs, all get its answer, one charge."""
    key, prompt = str(uuid.uuid4()), prompt_for()
    answers = at_once([partial(freeside.invoke, tenants.main, prompt, key=key)] * SAME_KEY)
    watch.charged(costs(answers[:1]))
    require_one_run(answers)
    runs = sum(not answer.replayed for answer in answers)
    evidence.figure("answers that ran", runs, expected=1)
    assert runs == 1, f"{runs} of {SAME_KEY} answers are not marked as replayed, expected exactly one"


def require_one_run(answers: list[Answer]) -> None:
    """SafetyViolation unless all answers are one and the same run of the model."""
    runs = {(answer.trace_id, answer.content, answer.usage) for answer in answers}
    if len(runs) != 1:
        raise SafetyViolation(f"one idempotency key, {len(runs)} different answers: the model ran again")


@pytest.mark.p1
def test_same_key_with_another_body_is_refused(
    freeside: Freeside, tenants: Tenants, evidence: Evidence
) -> None:
    """A key that was used for another request is refused, and costs nothing."""
    key = str(uuid.uuid4())
    first = freeside.invoke(tenants.main, prompt_for(), key=key)
    watch = freeside.watch(tenants.main, evidence)
    answer = freeside.try_invoke(tenants.main, prompt_for(), key=key)
    watch.unchanged(f"the key of trace {first.trace_id} with another body")
    require_error(answer, 409, "IDEMPOTENCY_CONFLICT")


@pytest.mark.p1
def test_reservations_return(
    freeside: Freeside, tenants: Tenants, watch: Conservation, evidence: Evidence, eventually: Eventually
) -> None:
    """What was reserved for calls is released within 10 s of the last answer (I-6)."""
    at_once(asks(freeside, tenants.main, 3))
    eventually(
        lambda: watch.read().reserved <= watch.first.reserved,
        within=RELEASED_WITHIN_S,
        what="reserved is back at its level",
    )
    evidence.evaluated(I6)


@pytest.mark.p1
@controlled("freeside")
@pytest.mark.parametrize("call", ["unknown-model", "pool-above-tier", "expired-token"])
def test_refused_call_is_free(freeside: Freeside, tenants: Tenants, watch: Conservation, call: str) -> None:
    """A call that is refused changes no figure (I-8)."""
    refused: dict[str, dict[str, Any]] = {
        "unknown-model": {"model": UNKNOWN_MODEL},
        "pool-above-tier": {"model": "architect", "tier": "pro", "allowed_pools": list(POOLS)},
        "expired-token": {"iat": 1, "exp": 2},
    }
    answer = freeside.try_invoke(tenants.main, prompt_for(), **refused[call])
    watch.unchanged(f"{call} was answered with {answer.status_code}")
    require_json_error(require_status(answer, 400, 401, 403))


@pytest.mark.p1
def test_failed_call_is_free(freeside: Freeside, tenants: Tenants, watch: Conservation) -> None:
    """An answered call costs what it says; one that fails costs nothing, whatever the cause (I-8)."""
    answer = freeside.try_invoke(tenants.main, prompt_for())
    if answer.status_code != 200:
        rest = freeside.at_rest(tenants.main)
        watch.unchanged(f"a call that failed with {answer.status_code}", reading=rest)
    watch.charged(costs([answer_of(require_status(answer, 200), tenants.main)]))


@pytest.mark.p0
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

"""G-4, phase budget: money moves by what was answered, exactly, once, and on the right tenant."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pytest_readiness import Eventually, Evidence, SafetyViolation

from smoke.conftest import Tenants
from smoke.platform.answers import Answer, answer_of, require_error, require_json_error, require_status
from smoke.platform.concurrency import at_once, sampling
from smoke.platform.freeside import Freeside
from smoke.platform.invariants import I7, BudgetReading, Conservation
from smoke.platform.prompts import nonce, prompt_for
from smoke.platform.tokens import ALL_POOLS

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
RETURNED_WITHIN_S = 10


@pytest.fixture
def read(freeside: Freeside, tenants: Tenants) -> Callable[[], BudgetReading]:
    """Reads the usual community's budget."""
    return lambda: freeside.budget(tenants.main)


def asks(freeside: Freeside, tenant: str, count: int) -> list[Callable[[], Answer]]:
    """So many invokes, each with its own prompt."""
    return [partial(freeside.invoke, tenant, prompt_for(nonce())) for _ in range(count)]


def costs(answers: list[Answer]) -> list[int]:
    """What the answers say they cost, µUSD."""
    return [answer.usage.cost_micro for answer in answers]


@pytest.mark.p0
def test_figures_are_typed(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """Every figure of every community is there, integral, not negative, and agrees with the others."""
    for tenant in tenants.all():
        reading = freeside.budget(tenant)
        evidence.figure(f"room of {tenant}", reading.room, "µUSD", limit=reading.limit)
        assert reading.limit > 0, f"{tenant} has no budget at all"
        months = {f"{datetime.now(UTC) + skew:%Y-%m}" for skew in (-CLOCK, CLOCK)}
        assert not reading.exact or reading.period in months, f"{tenant} is shown the period {reading.period}"


@pytest.mark.p0
def test_sequential_spend_is_conserved(
    freeside: Freeside, tenants: Tenants, read: Callable[[], BudgetReading], evidence: Evidence
) -> None:
    """Ten invokes one after another, all answered; I-1 to I-5 after each."""
    watch, answers = Conservation(freeside.at_rest(tenants.main), evidence), []
    for ask in asks(freeside, tenants.main, SEQUENTIAL):
        answers.append(ask())
        watch.charged_soon(read, costs(answers))
    evidence.figure("answered", len(answers), expected=SEQUENTIAL)


@pytest.mark.p0
@pytest.mark.parametrize("count", [5, 10])
def test_concurrent_spend_is_conserved(
    freeside: Freeside, tenants: Tenants, read: Callable[[], BudgetReading], count: int, evidence: Evidence
) -> None:
    """Invokes at once: I-1 to I-4 at every reading taken meanwhile, and the sum of charges exact."""
    watch = Conservation(freeside.at_rest(tenants.main), evidence)
    with sampling(read) as samples:
        answers = at_once(asks(freeside, tenants.main, count))
    watch.observe_all(samples)
    evidence.figure("readings meanwhile", len(samples), limit=">= 1")
    watch.charged_soon(read, costs(answers))


@pytest.mark.p0
def test_same_key_in_sequence_is_one_charge(
    freeside: Freeside, tenants: Tenants, read: Callable[[], BudgetReading], evidence: Evidence
) -> None:
    """The same request under the same key again: the stored answer, nothing run, nothing charged."""
    watch = Conservation(freeside.at_rest(tenants.main), evidence)
    key, prompt = str(uuid.uuid4()), prompt_for(nonce())
    answers = [freeside.invoke(tenants.main, prompt, key=key) for _ in range(2)]
    watch.charged_soon(read, costs(answers[:1]))
    require_one_run(answers)
    assert [answer.replayed for answer in answers] == [False, True], (
        "the second answer is not marked as replayed"
    )


@pytest.mark.p0
def test_same_key_in_parallel_is_one_charge(
    freeside: Freeside, tenants: Tenants, read: Callable[[], BudgetReading], evidence: Evidence
) -> None:
    """The same request under the same key at once: one runs, all get its answer, one charge."""
    watch = Conservation(freeside.at_rest(tenants.main), evidence)
    key, prompt = str(uuid.uuid4()), prompt_for(nonce())
    answers = at_once([partial(freeside.invoke, tenants.main, prompt, key=key)] * SAME_KEY)
    watch.charged_soon(read, costs(answers[:1]))
    require_one_run(answers)
    evidence.figure("answers that ran", sum(not answer.replayed for answer in answers), expected=1)
    assert sum(not answer.replayed for answer in answers) == 1, "not exactly one of the answers was run"


def require_one_run(answers: list[Answer]) -> None:
    """SafetyViolation unless all answers are one and the same run of the model."""
    runs = {(answer.trace_id, answer.content, answer.usage) for answer in answers}
    if len(runs) != 1:
        raise SafetyViolation(f"one idempotency key, {len(runs)} different answers: the model ran again")


@pytest.mark.p1
def test_same_key_with_another_body_is_refused(
    freeside: Freeside, tenants: Tenants, read: Callable[[], BudgetReading], evidence: Evidence
) -> None:
    """A key that was used for another request is refused, and costs nothing."""
    key = str(uuid.uuid4())
    first = freeside.invoke(tenants.main, prompt_for(nonce()), key=key)
    watch = Conservation(freeside.at_rest(tenants.main), evidence)
    answer = post(freeside, tenants.main, key=key)
    watch.unchanged(read(), f"the key of trace {first.trace_id} with another body")
    require_error(answer, 409, "IDEMPOTENCY_CONFLICT")


@pytest.mark.p1
def test_reservations_return(
    freeside: Freeside,
    tenants: Tenants,
    read: Callable[[], BudgetReading],
    evidence: Evidence,
    eventually: Eventually,
) -> None:
    """What was reserved for calls is released within 10 s of the last answer (I-6)."""
    before = freeside.at_rest(tenants.main)
    at_once(asks(freeside, tenants.main, 3))
    eventually(
        lambda: read().reserved <= before.reserved,
        within=RETURNED_WITHIN_S,
        what="reserved is back at its level",
    )
    evidence.evaluated("I-6 reserved returns to its level")


@pytest.mark.p1
@pytest.mark.parametrize("call", ["unknown-model", "pool-above-tier", "expired-token"])
def test_refused_call_is_free(
    freeside: Freeside, tenants: Tenants, read: Callable[[], BudgetReading], call: str, evidence: Evidence
) -> None:
    """A call that is refused changes no figure (I-8)."""
    watch = Conservation(freeside.at_rest(tenants.main), evidence)
    answer = {
        "unknown-model": lambda: post(freeside, tenants.main, model="smoke-no-such-model"),
        "pool-above-tier": lambda: post(freeside, tenants.main, model="architect", tier="pro"),
        "expired-token": lambda: post(freeside, tenants.main, iat=1, exp=2),
    }[call]()
    watch.unchanged(read(), f"{call} was answered with {answer.status_code}")
    require_json_error(require_status(answer, 400, 401, 403))


@pytest.mark.p1
def test_failed_call_is_free(
    freeside: Freeside, tenants: Tenants, read: Callable[[], BudgetReading], evidence: Evidence
) -> None:
    """An answered call costs what it says; one that fails costs nothing, whoever is to blame (I-8)."""
    watch = Conservation(freeside.at_rest(tenants.main), evidence)
    answer = post(freeside, tenants.main)
    if answer.status_code != 200:
        watch.unchanged(freeside.at_rest(tenants.main), f"a call that failed with {answer.status_code}")
    watch.charged_soon(read, costs([answer_of(require_status(answer, 200), tenants.main)]))


def post(
    freeside: Freeside, tenant: str, *, model: str = "cheap", key: str | None = None, **claims: Any
) -> Any:
    """The answer to an invoke with these claims, whatever it is."""
    tier = claims.pop("tier", "enterprise")
    return freeside.post_invoke(
        json.dumps(freeside.invoke_body(prompt_for(nonce()), model=model)).encode(),
        tenant=tenant,
        credential=freeside.credential(tenant, tier=tier, allowed_pools=list(ALL_POOLS), **claims),
        key=key,
    )


@pytest.mark.p0
@pytest.mark.parametrize("payer", ["main", "other"])
def test_charges_land_on_the_tokens_tenant(
    freeside: Freeside, tenants: Tenants, payer: str, evidence: Evidence
) -> None:
    """The token's tenant pays, and no other (I-7)."""
    paying = getattr(tenants, payer)
    payers = Conservation(freeside.at_rest(paying), evidence)
    others = [Conservation(freeside.at_rest(t), evidence) for t in tenants.all() if t != paying]
    answer = freeside.invoke(paying, prompt_for(nonce()))
    payers.charged_soon(lambda: freeside.budget(paying), costs([answer]))
    for watch in others:
        watch.unchanged(freeside.budget(watch.first.tenant), f"{paying} made a call", I7)

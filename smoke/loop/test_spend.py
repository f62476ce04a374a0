"""G-4, phase loop, after the run's last charged call: the run's own spend."""

from functools import partial

import pytest
from pytest_readiness import Environment, Evidence, SafetyViolation, SetupError

from smoke.contract.exchange import MICRO_PER_CENT
from smoke.platform.freeside import Freeside, Tenants, prompt_for
from smoke.platform.invariants import I6, MonthChanged, require_own

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("loop"),
    pytest.mark.p0,
    pytest.mark.requires("freeside", "key", "signing", "budget", "invoke"),
    pytest.mark.usefixtures("alone"),
]


def test_own_spend_stays_under_the_cap(
    freeside: Freeside, tenants: Tenants, environment: Environment, evidence: Evidence
) -> None:
    """This run's spend equals the sum of its answers in every community, and is below the cap.

    No call left a reservation (I-6), not even one that failed amid other checks. A call of unknown cost may
    have cost at most the highest price seen for one call. The contract defines no prices: if the run itself
    spent more than its cap, the profile must allow more.
    """
    openings = freeside.journal.open()
    if not freeside.journal.spend().calls:
        watch = freeside.watch(tenants.main, evidence)
        watch.charged([freeside.invoke(tenants.main, prompt_for()).usage.cost_micro])
    spend = freeside.journal.spend()
    total = 0
    for tenant in tenants.all():
        opening, computed = openings[tenant], spend.charges.get(tenant, 0)
        assert not opening.problem, f"the budget of {tenant} was unreadable at the start: {opening.problem}"
        reading = freeside.at_rest(tenant)
        if reading.period != opening.period:
            raise MonthChanged(f"the run began in {opening.period}: run again")
        observed = reading.committed - opening.committed
        total += observed
        most = spend.most(tenant)
        evidence.figure(f"spent by this run on {tenant}", observed, "µUSD", expected=computed, limit=most)
        evidence.figure(f"left reserved on {tenant}", reading.reserved, "µUSD")
        tolerance = reading.tolerance_per_call * max(1, spend.calls)
        if not computed - tolerance <= observed <= most + tolerance:
            if observed > most or not reading.exact:
                require_own(tenant, partial(freeside.budget, tenant), freeside.journal)
            raise SafetyViolation(f"{tenant}: the answers cost {computed} µUSD, {observed} were charged")
        if reading.reserved > opening.reserved:
            held = f"{reading.reserved} µUSD reserved"
            require_own(tenant, partial(freeside.budget, tenant), freeside.journal, held)
            raise SafetyViolation(f"{I6}: {tenant} had {opening.reserved} when the run began, and now {held}")
    cap = environment.budget.max_spend_cents * MICRO_PER_CENT
    evidence.figure("spent by this run", total, "µUSD", limit=cap)
    evidence.figure("charged calls", spend.calls)
    evidence.figure("calls of unknown cost", sum(spend.unknown.values()))
    highest = spend.highest_price
    assert highest <= cap, f"one call cost {highest} µUSD, more than this run may spend in all, {cap} µUSD"
    if total > cap:
        raise SetupError(
            f"this run spent {total} µUSD, more than its cap of {cap} µUSD: "
            "raise [budget] max_spend_cents, or find out why calls cost so much"
        )

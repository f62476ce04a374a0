"""G-4, phase loop, after the run's last charged call: the smoke's own spend."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pytest_readiness import Environment, Evidence, SafetyViolation

from smoke.conftest import Tenants
from smoke.platform.freeside import Freeside
from smoke.platform.invariants import MICRO_PER_CENT, Conservation, MonthChanged
from smoke.platform.prompts import nonce, prompt_for
from smoke.platform.spend import period_of

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("loop"),
    pytest.mark.p0,
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]


def test_own_spend_stays_under_the_cap(
    freeside: Freeside, tenants: Tenants, environment: Environment, evidence: Evidence
) -> None:
    """What this run spent is what its answers add up to, on every community, and less than the cap.

    A call of unknown cost may have cost as much as the highest price seen for one call, and no more.
    """
    opening: Mapping[str, int | str] = freeside.open_journal()
    if not freeside.journal.spend().calls:
        watch = Conservation(freeside.at_rest(tenants.main), evidence)
        cost = freeside.invoke(tenants.main, prompt_for(nonce())).usage.cost_micro
        watch.charged_soon(lambda: freeside.budget(tenants.main), [cost])
    spend = freeside.journal.spend()
    total = 0
    for tenant in tenants.all():
        started, computed = opening[tenant], spend.charges.get(tenant, 0)
        assert isinstance(started, int), f"the budget of {tenant} could not be read at the start: {started}"
        reading = freeside.at_rest(tenant)
        if reading.period != opening[period_of(tenant)]:
            raise MonthChanged(f"the run began in {opening[period_of(tenant)]}: run again")
        observed = reading.committed - started
        total += observed
        most = computed + spend.unseen.get(tenant, 0) * spend.highest_price
        evidence.figure(f"spent by this run on {tenant}", observed, "µUSD", expected=computed, limit=most)
        evidence.figure(f"left reserved on {tenant}", reading.reserved, "µUSD")
        blur = reading.tolerance_per_call * max(1, spend.calls)
        if not computed - blur <= observed <= most + blur:
            raise SafetyViolation(f"{tenant}: this run's answers cost {computed} µUSD, {observed} were taken")
    cap = environment.budget.max_spend_cents * MICRO_PER_CENT
    evidence.figure("spent by this run", total, "µUSD", limit=cap)
    evidence.figure("charged calls", spend.calls)
    evidence.figure("calls of unknown cost", sum(spend.unseen.values()))
    assert total <= cap, f"this run spent {total} µUSD, more than the cap of {cap}"

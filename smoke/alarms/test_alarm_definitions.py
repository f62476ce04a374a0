"""G-9, phase alarms: the alarms in the platform's Terraform, before anything is deployed."""

from collections.abc import Mapping
from typing import Any

import pytest
from pytest_readiness import Evidence

from smoke.source.checkout import listed
from smoke.source.rules import ALARM, connection_alarms, mute_alarms
from smoke.source.terraform import Module

pytestmark = [
    pytest.mark.goal("G-9"),
    pytest.mark.phase("alarms"),
    pytest.mark.requires("iac"),
    pytest.mark.static,
]


@pytest.mark.p1
def test_terraform_connections_alarm_fits_the_budget(
    terraform: Module, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """The alarm on database connections goes off before the reserve of the connection budget is used."""
    budget = plan_facts["connections"]
    limit = budget["total"] - budget["buffer"]
    alarms = connection_alarms(terraform)
    assert alarms, "no alarm watches the number of database connections"
    for alarm in alarms:
        evidence.figure(f"threshold of {alarm.alarm.label}", alarm.value, "connections", limit=limit)
    unknown = [
        alarm.finding("the threshold is not a number in the files") for alarm in alarms if alarm.value is None
    ]
    assert not unknown, listed(unknown)
    late = [
        alarm.finding(f"goes off above {alarm.value:g} connections, the budget less its reserve is {limit}")
        for alarm in alarms
        if alarm.value is not None and not 0 < alarm.value <= limit
    ]
    assert not late, listed(late)


@pytest.mark.p1
def test_terraform_alarms_are_heard(terraform: Module, evidence: Evidence) -> None:
    """Every alarm has an action, and its actions are switched on."""
    alarms = terraform.of_type(ALARM)
    evidence.figure("alarms", len(alarms))
    assert alarms, "there is no alarm"
    mute = mute_alarms(terraform)
    assert not mute, listed(mute)

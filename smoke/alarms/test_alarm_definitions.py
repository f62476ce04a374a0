"""G-9, phase alarms: the alarms in the platform's Terraform, before anything is deployed."""

from collections.abc import Mapping
from typing import Any

import pytest
from pytest_readiness import Evidence

from smoke.aws.names import Names
from smoke.platform.parameters import plan_of
from smoke.source.checkout import Examined
from smoke.source.infrastructure.alarms import application, connection_alarms, coverage
from smoke.source.infrastructure.definitions import Definitions
from smoke.source.infrastructure.notifications import ALARM, notified
from smoke.source.rules import APPLICATION
from smoke.source.terraform.configuration import Configuration

pytestmark = [
    pytest.mark.goal("G-9"),
    pytest.mark.phase("alarms"),
    pytest.mark.requires("iac"),
    pytest.mark.static,
]
#: The services for which contract section 4 requires alarms; the others should have them.
REQUIRED = ("api", "finn", "dixie")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Look at each service of the plan's inventory."""
    for name, wanted in (("required", True), ("further", False)):
        if name in metafunc.fixturenames:
            inventory = plan_of(metafunc.config)["inventory"]
            services = [row["ecs"] for row in inventory if row.get("ecs")]
            metafunc.parametrize(name, [each for each in services if (each in REQUIRED) == wanted])


@pytest.fixture
def within(plan_facts: Mapping[str, Any]) -> Mapping[str, int]:
    """The time within which alarms must fire, by the plan."""
    found: Mapping[str, int] = plan_facts["alarms"]
    return found


def require_watched(
    service: str,
    terraform: Configuration,
    definitions: Definitions,
    within: Mapping[str, int],
    evidence: Evidence,
) -> None:
    """Alarms on health, CPU and memory of a service fire in time and notify a subscriber."""
    alarms = terraform.of_type(ALARM)
    evidence.figure("alarms", len(alarms))
    evidence.evaluated(f"health, CPU and memory of {service} are watched", 3)
    found = next((each for each in definitions.definitions if each.service and each.name == service), None)
    examined = Examined()
    if found is None:
        terraform.lacks(examined, f"there is no service {service} for an alarm to watch", (service,))
    else:
        examined = coverage(terraform, found, within)
    examined.require()


@pytest.mark.p0
def test_terraform_alarms_watch(
    terraform: Configuration,
    definitions: Definitions,
    within: Mapping[str, int],
    required: str,
    evidence: Evidence,
) -> None:
    """Alarms watch health, CPU and memory of each service that must be watched."""
    require_watched(required, terraform, definitions, within, evidence)


@pytest.mark.p1
def test_terraform_alarms_watch_the_rest(
    terraform: Configuration,
    definitions: Definitions,
    within: Mapping[str, int],
    further: str,
    evidence: Evidence,
) -> None:
    """Alarms watch health, CPU and memory of the other services in the inventory."""
    require_watched(further, terraform, definitions, within, evidence)


@pytest.mark.p1
def test_terraform_alarms_watch_the_application(
    terraform: Configuration, within: Mapping[str, int], plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """Alarms watch the platform's own metrics: latency, refused tokens, conservation of money."""
    evidence.evaluated("a metric of the platform's own is watched", len(APPLICATION))
    application(terraform, Names(plan_facts["source"]["prefix"]).app_metrics, within).require()


@pytest.mark.p1
def test_terraform_connections_alarm_fits_the_budget(
    terraform: Configuration, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """The alarm on database connections fires before the reserve of the connection budget is used."""
    budget = plan_facts["connections"]
    limit = budget["total"] - budget["buffer"]
    thresholds, examined = connection_alarms(terraform, limit, plan_facts["alarms"])
    evidence.evaluated("an alarm on the number of database connections")
    for label, threshold in thresholds.items():
        evidence.figure(f"threshold of {label}", threshold, "connections", limit=limit)
    examined.require()


@pytest.mark.p1
def test_terraform_alarms_notify(terraform: Configuration, evidence: Evidence) -> None:
    """Every alarm exists, has an action that is enabled, and notifies a topic with a subscription."""
    alarms = terraform.of_type(ALARM)
    evidence.figure("alarms", len(alarms))
    examined = notified(terraform)
    if not alarms and not examined.findings:
        terraform.lacks(examined, "there is no alarm", ("",))
    examined.require()

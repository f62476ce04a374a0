"""G-9, phase alarms: dashboards, log groups, and the fire drill."""

from secrets import token_hex

import pytest
from pytest_readiness import Environment, Eventually, Evidence

from smoke.aws.alarms import ALARM
from smoke.aws.drill import QUEUE, fit_for_drill, listening, set_off, state_of, undelivered
from smoke.aws.monitoring import read_dashboard
from smoke.aws.names import DASHBOARDS, SERVICES
from smoke.aws.reader import AwsReader

pytestmark = [
    pytest.mark.goal("G-9"),
    pytest.mark.phase("alarms"),
    pytest.mark.p1,
    pytest.mark.requires("aws"),
]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard(aws: AwsReader, name: str, evidence: Evidence) -> None:
    """The dashboard exists and shows something."""
    aws.cluster()
    full = aws.names.full(name)
    widgets = read_dashboard(aws.account, full)
    evidence.figure(f"widgets of {full}", None if widgets is None else len(widgets), limit=">= 1")
    assert widgets is not None, f"no dashboard {full}"
    assert widgets, f"the dashboard {full} is empty: it has no widget but text"


@pytest.mark.parametrize("service", SERVICES)
def test_log_group(aws: AwsReader, service: str, evidence: Evidence) -> None:
    """The log group that the service writes to exists and has a retention limit."""
    groups = tuple(aws.definition(name).main(name).log_group for name in sorted(aws.definitions()))
    main, here = aws.definition(service).main(service), aws.account.region
    group = main.log_group
    assert group, f"{service} writes to no log group"
    assert main.log_region in ("", here), f"{service} writes to {group} in {main.log_region}, not in {here}"
    retention = aws.retention(tuple(filter(None, groups)))
    evidence.figure(f"retention of {group}", retention.get(group), "days", limit=">= 1")
    assert group in retention, f"the log group {group} of {service} does not exist"
    assert retention[group] >= 1, f"the log group {group} has no retention limit"


@pytest.mark.drill
@pytest.mark.requires("drill")
def test_fire_drill(
    environment: Environment, aws: AwsReader, eventually: Eventually, evidence: Evidence
) -> None:
    """An alarm that is set off notifies in time; its state is restored whatever happens."""
    # SQS takes a name that was just in use only after a minute: each attempt has its own
    limit, queue = environment.limits.notification_s, f"{aws.names.full(QUEUE)}-{token_hex(6)}"
    with aws.drilling(), listening(aws.account, aws.topic(), queue) as listener:
        alarm = fit_for_drill(aws.alarms(), aws.names.topic)
        names = [each.name for each in alarm.notifiers(aws.names.topic)]
        evidence.note(f"{alarm.name} was {alarm.state}, was set to {ALARM} and put back")
        try:
            with set_off(aws.account, alarm):
                eventually(lambda: listener.hears(names, ALARM), within=limit, what="the notification")
        except AssertionError as problem:
            why = undelivered(aws.account, alarm)
            cause = f"CloudWatch says: {'; '.join(why)}" if why else "CloudWatch reports no failed delivery"
            raise AssertionError(
                f"{alarm.name} was set off and no notification arrived in {limit} s; {cause}"
            ) from problem
        state = state_of(aws.account, alarm)
    evidence.figure(f"state of {alarm.name} afterwards", state, expected=alarm.state)
    assert state == alarm.state, f"{alarm.name} was put back to {alarm.state} and is {state}"

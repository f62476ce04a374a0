"""G-9, phase alarms: required alarms exist, notify and are quiet; dashboards, logs, fire drill."""

import json
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

import pytest
from pytest_readiness import Environment, Eventually, Evidence, SetupError

from smoke.aws.alarms import (
    ALARM,
    INSUFFICIENT,
    MetricAlarm,
    hollow,
    is_conservation,
    is_health,
    is_named,
    judged,
    watching,
)
from smoke.aws.databases import misfits
from smoke.aws.inventory import APPLICATION, FURTHER, REQUIRED, watch_for
from smoke.aws.monitoring import (
    QUEUE,
    fit_for_drill,
    listening,
    miscounted,
    muted,
    read_dashboard,
    set_off,
    sparse,
    state_of,
    undelivered,
    unfed,
)
from smoke.aws.names import DASHBOARDS, SERVICES
from smoke.aws.policies import read_key
from smoke.aws.reader import AwsReader
from smoke.aws.topics import (
    CLOUDWATCH,
    EVENTS,
    closed_to_alarms,
    closed_to_logs,
    key_closed,
    read_subscriptions,
    read_topic,
)
from smoke.source.checkout import Examined
from smoke.source.rules import of_another

pytestmark = [pytest.mark.goal("G-9"), pytest.mark.phase("alarms"), pytest.mark.requires("aws")]

FAMILIES = {"health": is_health, "conservation": is_conservation}


def require_watched(name: str, aws: AwsReader, facts: Mapping[str, Any], evidence: Evidence) -> None:
    """Some alarm watches exactly this, fires when and where it should, and notifies the topic."""
    watch = watch_for(name, aws, facts)
    evidence.figure(f"what {name} is", str(watch))
    for alarm in watching(aws.alarms(), watch):
        evidence.figure(f"condition of {alarm.name}", alarm.condition, expected=watch.need.condition)
    found = judged(aws.alarms(), watch, aws.names.topic)
    evidence.evaluated("an alarm on exactly this, with the topic, in range and in time")
    if found.good is None and found.unread:
        raise SetupError(f"not examined: {'; '.join(found.unread)} ({found.why})")
    assert found.good, found.why


@pytest.mark.p0
@pytest.mark.parametrize("name", REQUIRED)
def test_watched(aws: AwsReader, name: str, plan_facts: Mapping[str, Any], evidence: Evidence) -> None:
    """Alarms watch health, CPU and memory of api, finn and dixie, and database connections."""
    require_watched(name, aws, plan_facts, evidence)


@pytest.mark.p1
@pytest.mark.parametrize("name", [*FURTHER, *APPLICATION])
def test_platform_metrics_are_watched(
    aws: AwsReader, name: str, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """Alarms watch worker and PgBouncer, and the platform's own metrics."""
    require_watched(name, aws, plan_facts, evidence)


@pytest.mark.p0
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_quiet(aws: AwsReader, family: str, evidence: Evidence) -> None:
    """An alarm of this kind exists, and none is in ALARM."""
    found = [alarm for alarm in aws.alarms() if FAMILIES[family](alarm)]
    evidence.figure(
        f"{family} alarms", {alarm.name: alarm.state for alarm in found}, expected="none in ALARM"
    )
    assert found, f"no {family} alarm exists"
    ringing = [alarm.name for alarm in found if alarm.state == ALARM]
    assert not ringing, f"in ALARM: {', '.join(ringing)}"


@pytest.mark.p1
def test_other_alarms_are_quiet(aws: AwsReader, plan_facts: Mapping[str, Any], evidence: Evidence) -> None:
    """No other alarm is in ALARM, except those that only trigger autoscaling.

    The alarm on refused tokens is excepted too: phase auth has just sent forgeries.
    """
    own = watch_for("jwt-validation", aws, plan_facts)
    kinds = tuple(FAMILIES.values())
    others = [each for each in aws.alarms() if not each.steers and not any(kind(each) for kind in kinds)]
    evidence.figure("other alarms", len(others) + len(aws.composites()))
    counted = watching(others, own)
    for alarm in counted:
        if alarm.state == ALARM:
            why = "it also counts this suite's own forgeries, so it is not a finding"
            evidence.note(f"{alarm.name} is in ALARM: {why}")
    ringing = [alarm.name for alarm in others if alarm.state == ALARM and alarm not in counted]
    loud = {alarm.name for alarm in (*aws.alarms(), *aws.composites()) if alarm.state == ALARM}
    # a composite alarm adds nothing to the alarms in its rule
    ringing += [each.name for each in aws.composites() if each.name in loud and not each.alarms & loud]
    assert not ringing, f"in ALARM: {', '.join(ringing)}"


def held(aws: AwsReader) -> list[MetricAlarm]:
    """The alarms on metrics that the contract names, except those that only trigger scaling."""
    return [alarm for alarm in aws.alarms() if is_named(alarm) and not alarm.steers]


@pytest.mark.p1
def test_know_their_state(aws: AwsReader, evidence: Evidence) -> None:
    """No alarm on a metric that the contract names has insufficient data."""
    alarms = [*held(aws), *(alarm for alarm in aws.composites() if not alarm.steers)]
    blind = [alarm.name for alarm in alarms if alarm.state == INSUFFICIENT]
    evidence.figure("alarms", len(aws.alarms()), at_least=1)
    assert aws.alarms(), f"no alarm's name begins with {aws.names.prefix}-"
    assert not blind, f"in INSUFFICIENT_DATA: {', '.join(blind)}"


@pytest.mark.p1
def test_can_fire(aws: AwsReader, evidence: Evidence) -> None:
    """Every alarm on a metric that the contract names has data, enabled actions, and notifies the topic.

    An alarm that cannot fire proves nothing, even if its state is OK.
    """
    alarms, fed = held(aws), aws.datapoints()
    evidence.figure("alarms on what the contract does not name", len(aws.alarms()) - len(alarms))
    evidence.evaluated("an alarm can fire", len(alarms))
    newest = {str(metric): fed.get(metric, 0) for alarm in alarms for metric in alarm.metrics}
    evidence.figure("minutes with a datapoint, of the last 15", newest, at_least=1)
    idle = unfed(alarms, fed)
    silent = {alarm: why for alarm in alarms if (why := alarm.silent(aws.names.topic))}
    idle += [f"{alarm.name}: {'; '.join(why)}" for alarm, why in silent.items() if not alarm.unclear]
    idle += hollow(aws.composites(), aws.known_alarms(), aws.names.topic)
    examined = Examined()
    tasks = examined.attempt(aws.definitions) or {}
    written = {box.log_group for task in tasks.values() for box in task.containers}
    idle += examined.attempt(miscounted, aws.account, alarms, aws.names.prefix, written) or []
    idle += examined.attempt(sparse, aws.account, alarms) or []
    idle += [f"{alarm.name}: CloudWatch fails to evaluate it" for alarm in alarms if alarm.fails]
    held_back = examined.attempt(muted, aws.account) or {}
    for alarm in alarms:
        through = [each.name for each in alarm.notifiers(aws.names.topic)]
        if through and {*through} <= held_back.keys():
            idle.append(f"{alarm.name}: the mute rule {held_back[through[0]]} silences it now")
    unread = [each.what for each in examined.not_examined]
    unread += [f"{alarm.name}, which computes {alarm.expression}" for alarm in alarms if not alarm.metrics]
    unread += [each for alarm in silent for each in alarm.unclear]
    assert alarms, f"no alarm's name begins with {aws.names.prefix}-"
    assert not idle, f"cannot fire: {', '.join(idle)}"
    if unread:
        raise SetupError(f"not examined: {'; '.join(dict.fromkeys(unread))}")


@pytest.mark.p0
def test_topic_is_subscribed(aws: AwsReader, evidence: Evidence) -> None:
    """The topic has a confirmed subscription that accepts every alarm."""
    aws.cluster()
    topic, alarms, events = aws.names.topic, {}, False
    try:
        alarms = {each.name: each.notifiers(topic) for each in held(aws) if not each.routed}
        events = not alarms and any(each.routed for each in held(aws))
    except SetupError as problem:
        evidence.note(f"filters are compared with no alarm's name: {problem}")
    found = read_subscriptions(aws.account, aws.topic(), aws.names.full(QUEUE), alarms, events=events)
    evidence.figure("confirmed subscriptions", len(found.confirmed), at_least=1)
    evidence.figure("pending subscriptions", len(found.pending))
    evidence.figure("subscriptions with a filter", len(found.filtered) + len(found.unread))
    evidence.figure("subscriptions of endpoints that are gone or closed", list(found.lost))
    if found.unread and not found.confirmed:
        raise SetupError(f"not examined: whether a subscription accepts alarms: {'; '.join(found.unread)}")
    assert found.confirmed, (
        f"no confirmed subscription to {topic} takes alarms; {len(found.pending)} pending, "
        f"{len(found.filtered)} with a filter no alarm matches, {len(found.lost)} with their endpoint gone"
        + "".join(f"\n{each}" for each in found.lost)
    )
    assert not found.dropped, f"every subscription to {topic} filters out {', '.join(found.dropped)}"


@pytest.mark.p1
def test_topic_takes_alarms(aws: AwsReader, evidence: Evidence) -> None:
    """The topic's policy and key allow CloudWatch to publish; otherwise no subscriber gets the alarm.

    If event rules notify for alarms, that is EventBridge.
    """
    topic, rules = read_topic(aws.account, aws.topic()), {arn for each in aws.alarms() for arn in each.routed}
    alarms = [each.arn for each in (*aws.alarms(), *aws.composites()) if aws.topic() in each.actions]
    closed = ""
    for service, sources in ((CLOUDWATCH, alarms), (EVENTS, sorted(rules))):
        if sources or (service == CLOUDWATCH and not rules):
            key = topic.get("KmsMasterKeyId", "")
            closed = closed or closed_to_alarms(topic, sources, service)
            closed = closed or key_closed(aws.account, key, aws.topic(), sources, service)
    evidence.figure(f"what keeps alarms from {aws.names.topic}", closed or "nothing", expected="nothing")
    assert not closed, f"no alarm can publish to {aws.names.topic}: {closed}"


@pytest.mark.p1
def test_connections_alarm_fits_the_budget(
    aws: AwsReader, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """The alarm on database connections fires before the reserve of the connection budget is used.

    The database allows as many connections as the budget, and accepts writes.
    """
    budget = plan_facts["connections"]
    limit = budget["total"] - budget["buffer"]
    found = watching(aws.alarms(), watch_for("rds-connections", aws, plan_facts))
    thresholds = {each.name: each.firing.threshold for each in found if each.firing.threshold is not None}
    evidence.figure("thresholds", thresholds, "connections", limit=limit)
    assert thresholds, f"no alarm watches the connections of {aws.names.database}"
    lowest = min(thresholds.values())
    assert 0 < lowest <= limit, f"fires above {lowest:g} connections; the budget minus its reserve is {limit}"
    misfits(aws.account, aws.instances(), budget["total"]).require()


@pytest.mark.p1
@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard(aws: AwsReader, name: str, evidence: Evidence) -> None:
    """The dashboard exists, has widgets, and shows only this environment, at least once in its region.

    A dashboard variable may replace another environment's name in its widgets.
    """
    aws.cluster()
    full = aws.names.full(name)
    found = read_dashboard(aws.account, full)
    widgets = None if found is None else found["widgets"]
    evidence.figure(f"widgets of {full}", None if widgets is None else len(widgets), at_least=1)
    assert widgets is not None, f"no dashboard {full}"
    assert widgets, f"the dashboard {full} is empty: it has only text widgets"
    another = of_another(json.dumps(found), aws.names.prefix)
    assert not another, f"the dashboard {full} shows {another}, but nothing of {aws.names.prefix}"
    regions = {each.get("properties", {}).get("region") or aws.account.region for each in widgets}
    shown = " and ".join(sorted(regions))
    assert aws.account.region in regions, f"the dashboard {full} shows {shown}, not {aws.account.region}"


@pytest.mark.p1
@pytest.mark.parametrize("service", SERVICES)
def test_log_group(aws: AwsReader, service: str, evidence: Evidence) -> None:
    """The service writes to the log group with its name, which has a retention limit and a usable key."""
    groups = tuple(aws.definition(name).main(name).log_group for name in sorted(aws.definitions()))
    main, here = aws.definition(service).main(service), aws.account.region
    group = main.log_group
    assert group, f"{service} writes to no log group"
    assert main.log_region in ("", here), f"{service} writes to {group} in {main.log_region}, not in {here}"
    retention = aws.retention(every := tuple(filter(None, groups)))
    evidence.figure(f"retention of {group}", retention.get(group), "days", at_least=1)
    own = f"{aws.names.logs}{service}"
    assert group == own, f"{service} writes to the log group {group}, not to {own}"
    assert group in retention, f"the log group {group} of {service} does not exist"
    assert retention[group] >= 1, f"the log group {group} has no retention limit"
    if key := aws.log_groups(every)[group].get("kmsKeyId"):
        found = read_key(aws.account, key, aws.cluster().split(":")[3:5])
        assert not found.unusable, f"the log group {group} is encrypted with {key}, which {found.unusable}"
        closed = closed_to_logs(found, here)
        assert not closed, f"the policy of {key} does not let CloudWatch Logs use it for {group}"


@pytest.mark.p1
@pytest.mark.drill
@pytest.mark.requires("drill")
def test_fire_drill(
    environment: Environment, aws: AwsReader, eventually: Eventually, evidence: Evidence
) -> None:
    """A triggered alarm notifies in time; its state is always restored."""
    # SQS refuses the name of a deleted queue for a minute, so each attempt uses its own name
    limit, queue = environment.limits.notification_s, f"{aws.names.full(QUEUE)}-{token_hex(6)}"
    with aws.drilling(), listening(aws.account, aws.topic(), queue) as listener:
        alarm = fit_for_drill(aws.alarms(), aws.names.topic)
        names = [each.name for each in alarm.notifiers(aws.names.topic)]
        evidence.note(f"{alarm.name} was {alarm.state}, was set to {ALARM} and reset")
        try:
            with set_off(aws.account, alarm):
                eventually(lambda: listener.notified(names, ALARM), within=limit, what="the notification")
        except AssertionError as problem:
            why = undelivered(aws.account, alarm)
            cause = f"CloudWatch says: {'; '.join(why)}" if why else "CloudWatch reports no failed delivery"
            raise AssertionError(
                f"{alarm.name} was triggered, but no notification arrived in {limit} s; {cause}"
            ) from problem
        state = state_of(aws.account, alarm)
    evidence.figure(f"state of {alarm.name} afterwards", state, expected=alarm.state)
    assert state == alarm.state, f"{alarm.name} was reset to {alarm.state} but is {state}"

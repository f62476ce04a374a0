"""Everything of the platform that touches ministack's private parts, hence the exact pin of its version.

`tests/stack/test_ministack_contract.py` names each of them: a new version fails there first. Runs in the
emulator's process only.
"""

import copy
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from ministack.core.responses import AccountRegionScopedDict, AccountScopedDict
from ministack.services import alb, cloudwatch, ec2, ecs, secretsmanager, sns

SERVICES = "ministack.services."
# Changes by being read: two equal states may differ in it.
NOT_COMPARED = {"LastAccessedDate"}
# Metrics belong to the clock: the feeder keeps them fresh.
NOT_STATE = {("ministack.services.cloudwatch", "_metrics")}


class Snapshot:
    """The state of every service at one moment, by module and name of the dictionary that holds it."""

    def __init__(self) -> None:
        self._state = {key: copy.deepcopy(store._data) for key, store in stores().items()}

    def restore(self) -> None:
        """Bring the state back; what was created since is gone."""
        for key, store in stores().items():
            before = copy.deepcopy(self._state.get(key, {}))
            # Entry by entry: a request served meanwhile finds the old entry or the new one, never a gap.
            for created in store._data.keys() - before.keys():
                del store._data[created]
            store._data.update(before)


def digest() -> str:
    """Return the SHA-256 of the present state, the same for equal states."""
    lines = [f"{key}: {_stable(store._data)}" for key, store in stores().items() if store._data]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


async def create_secret(name: str, value: str) -> None:
    """Create a secret before the emulator listens. Raises RuntimeError when it is refused."""
    body = json.dumps({"Name": name, "SecretString": value}).encode()
    headers = {"x-amz-target": "secretsmanager.CreateSecret"}
    status, _, answer = await secretsmanager.handle_request("POST", "/", headers, body, {})
    if status != 200:
        raise RuntimeError(f"the emulator did not create {name}: {answer!r}")


def service_record(cluster: str, name: str) -> dict[str, Any]:
    """Return the record of an ECS service, to set what no API can."""
    record: dict[str, Any] = ecs._services[f"{cluster}/{name}"]
    return record


def task_records(service: str) -> list[dict[str, Any]]:
    """Return the records of the tasks that run for an ECS service."""
    running = [each for each in ecs._tasks.values() if each["lastStatus"] == "RUNNING"]
    return [each for each in running if each["group"] == f"service:{service}"]


def records(store: str) -> list[dict[str, Any]]:
    """Return the records of one of the emulator's dictionaries, such as `acm._certificates`."""
    module, _, name = store.partition(".")
    return list(stores()[f"{SERVICES}{module}", name].values())


def alarm_record(name: str) -> dict[str, Any]:
    """Return the record of an alarm, for what the emulator's API does not take, such as a metric query."""
    record: dict[str, Any] = cloudwatch._alarms.get(name) or cloudwatch._composite_alarms[name]
    return record


def forget_alarm(name: str) -> None:
    """Remove a metric alarm, whatever is composed of it."""
    del cloudwatch._alarms[name]


def running_one_shots() -> Iterator[tuple[str, str]]:
    """Yield (ARN, family) of every running task that no ECS service started."""
    for arn, task in list(ecs._tasks.items()):
        if task["lastStatus"] == "RUNNING" and not task["group"].startswith("service:"):
            yield arn, task["taskDefinitionArn"].rpartition("/")[2].rpartition(":")[0]


def end_task(arn: str, exit_code: int) -> None:
    """Let a task end by itself with an exit code; the emulator's never do."""
    reason = "Essential container in task exited"
    ecs._mark_task_stopped(arn, ecs._tasks[arn], reason, "EssentialContainerExited", exit_code=exit_code)


def forget_tasks(family: str) -> None:
    """Remove every task of a family, running or stopped."""
    for arn, task in list(ecs._tasks.items()):
        if f"/{family}:" in task["taskDefinitionArn"]:
            del ecs._tasks[arn]


def unconfirm(topic_arn: str) -> None:
    """Leave a topic's subscriptions as AWS shows them unconfirmed; ministack confirms all."""
    topic = sns._topic_by_arn_any_scope(topic_arn)
    for each in topic["subscriptions"]:
        each["arn"], each["confirmed"] = "PendingConfirmation", False
        each["attributes"]["PendingConfirmation"] = "true"
    sns._refresh_subscription_counts(topic)


def deliver_notifications_if(condition: Callable[[], bool]) -> None:
    """Have SNS ask `condition` before each delivery."""
    deliver = sns._fanout

    def fanout(*arguments: Any, **options: Any) -> None:
        if condition():
            deliver(*arguments, **options)

    sns._fanout = fanout


def tell_endpoints_whole() -> None:
    """Make EC2 also report an endpoint's groups, its policy, and whether its DNS names are private."""
    fields = ec2._vpce_fields_xml

    def with_members(endpoint: Mapping[str, Any], tag: str = "item") -> str:
        groups = "".join(f"<item><groupId>{each}</groupId></item>" for each in endpoint.get("Groups", ()))
        named = str(endpoint.get("PrivateDnsEnabled", False)).lower()
        members = f"<groupSet>{groups}</groupSet><privateDnsEnabled>{named}</privateDnsEnabled>"
        if policy := endpoint.get("PolicyDocument"):
            members += f"<policyDocument>{escape(policy)}</policyDocument>"
        head, end, rest = fields(endpoint, tag).rpartition(f"</{tag}>")
        return f"{head}{members}{end}{rest}"

    ec2._vpce_fields_xml = with_members


def answer_ec2(action: str, answer: str) -> None:
    """Have EC2 answer an action that ministack does not have, with the inside of its XML; empty: no more."""
    if not answer:
        ec2._ACTION_MAP.pop(action, None)
    else:
        ec2._ACTION_MAP[action] = lambda _: ec2._xml(200, f"{action}Response", answer)


def tell_conditions_whole() -> None:
    """Make a load balancer also report the query strings in a rule's condition."""
    condition_xml = alb._condition_xml

    def with_query_strings(condition: Mapping[str, Any]) -> str:
        pairs = "".join(
            f"<member>{''.join(f'<{key}>{escape(value)}</{key}>' for key, value in pair.items())}</member>"
            for pair in condition.get("QueryStringConfig", {}).get("Values", ())
        )
        head, end, rest = condition_xml(condition).rpartition("</member>")
        config = f"<QueryStringConfig><Values>{pairs}</Values></QueryStringConfig>" if pairs else ""
        return f"{head}{config}{end}{rest}"

    alb._condition_xml = with_query_strings


def tell_states_of_targets() -> None:
    """Have a load balancer report the `State` of a target that has one; all others are healthy."""
    describe = alb._describe_target_health

    def with_states(params: Mapping[str, Any]) -> Any:
        status, headers, body = describe(params)
        for each in alb._targets.get(alb._p(params, "TargetGroupArn"), ()):
            if state := each.get("State"):
                target = rf"(<Id>{re.escape(each['Id'])}</Id>.*?<State>)healthy"
                body = re.sub(target.encode(), rb"\g<1>" + state.encode(), body, count=1, flags=re.DOTALL)
        return status, headers, body

    alb._ACTION_MAP["DescribeTargetHealth"] = with_states


def tell_rotations() -> None:
    """Have Secrets Manager report when a secret is due to be rotated."""
    describe = secretsmanager._describe_secret

    def with_rotation(data: Mapping[str, Any]) -> Any:
        status, headers, body = describe(data)
        _, secret = secretsmanager._resolve(data.get("SecretId"))
        due = {key: value for key, value in (secret or {}).items() if key == "NextRotationDate"}
        return status, headers, json.dumps(json.loads(body) | due).encode()

    secretsmanager._describe_secret = with_rotation


def put_datapoints(series: Mapping[str, Any], value: float | None, times: list[float]) -> None:
    """Replace the datapoints of one metric by a constant at these times (epoch seconds); None: by nothing."""
    key = (series["namespace"], series["name"], cloudwatch._dims_key(series["dimensions"]))
    if value is None:
        cloudwatch._metrics.pop(key, None)
        return
    point = {"Value": value, "Unit": "None", "Dimensions": series["dimensions"]}
    cloudwatch._metrics[key] = [{"Timestamp": when, **point} for when in times]


def judge_alarms_by(evaluate: Callable[[dict[str, Any]], None]) -> None:
    """Make the emulator judge each alarm, given as its own record, with `evaluate`."""
    cloudwatch._evaluate_alarm = evaluate


def judge_alarms() -> None:
    """Judge every alarm now."""
    cloudwatch._evaluate_all_alarms()


def statistic_of(alarm: Mapping[str, Any], statistic: str, window_s: float) -> float | None:
    """Return the statistic of an alarm's own dimensions in the last `window_s`, None without datapoints."""
    dimensions = {each["Name"]: each["Value"] for each in alarm.get("Dimensions") or []}
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(dimensions))
    earliest = time.time() - window_s
    points = [point for point in cloudwatch._metrics.get(key) or [] if point["Timestamp"] >= earliest]
    value: float | None = None
    if points:
        value = cloudwatch._stat_value(cloudwatch._calc_stats(points), statistic, points)
    return value


def enter_state(alarm: dict[str, Any], state: str, reason: str) -> None:
    """Bring an alarm into a state, with history, actions and composite alarms, unless it is in it already."""
    before = alarm["StateValue"]
    if state == before:
        return
    alarm["StateValue"], alarm["StateReason"] = state, reason
    alarm["StateUpdatedTimestamp"] = int(time.time())
    cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


def stores() -> dict[tuple[str, str], Any]:
    """Return the module globals in which ministack keeps everything, each once."""
    found: dict[int, tuple[tuple[str, str], Any]] = {}
    for module_name, module in sorted(sys.modules.items()):
        if not module_name.startswith(SERVICES):
            continue
        for name, value in sorted(vars(module).items()):
            is_store = isinstance(value, AccountScopedDict | AccountRegionScopedDict)
            if is_store and (module_name, name) not in NOT_STATE:
                found.setdefault(id(value), ((module_name, name), value))
    return dict(found.values())


def _stable(value: Any) -> str:
    if isinstance(value, dict):
        kept = ((key, item) for key, item in value.items() if key not in NOT_COMPARED)
        return "{" + ",".join(sorted(f"{_stable(key)}:{_stable(item)}" for key, item in kept)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_stable(item) for item in value) + "]"
    if isinstance(value, set | frozenset):
        return "{" + ",".join(sorted(_stable(item) for item in value)) + "}"
    return repr(value)

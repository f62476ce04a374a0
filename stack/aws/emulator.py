"""The emulator as the alterations see it: its clients, and state that no AWS API can change.

Runs in the emulator's process. ministack evaluates an alarm on all datapoints of its metric, whatever their
dimensions, and never by their absence; `evaluate` does it like CloudWatch.
"""

import json
import operator
import re
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stack.aws import internals
from stack.aws.inventory import ACCOUNT, REGION, clients
from stack.aws.load_balancer import LoadBalancer

ONE_SHOT_RUNS_FOR_S = 0.3
CBOR = "application/cbor"
STATUS = {"InternalFailure": 500, "ServiceUnavailable": 503}
# AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...
SIGNING_NAME = re.compile(r"Credential=[^/]*/[^/]*/[^/]*/([^/]+)/")
MINUTES = 16
COMPARE = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
# State of a window without datapoints, by TreatMissingData; None: it stays.
MISSING = {"missing": "INSUFFICIENT_DATA", "breaching": "ALARM", "notBreaching": "OK", "ignore": None}


class Emulator:
    """Holds the state that alterations change beyond the AWS APIs, and restores it."""

    def __init__(self, endpoint: str, load_balancer: LoadBalancer) -> None:
        self.aws = clients(endpoint)
        self.load_balancer = load_balancer
        self.metrics = Metrics()
        self.one_shots = OneShots()
        self.refusals = Refusals()
        self.scaling = Scaling()
        self.mutes = Mutes()
        self.notifications_lost = False
        internals.judge_alarms_by(evaluate)
        internals.deliver_notifications_if(lambda: not self.notifications_lost)
        internals.tell_endpoints_whole()
        internals.tell_conditions_whole()
        internals.tell_rotations()

    def heal(self) -> None:
        """Undo every alteration outside the emulator's own state."""
        self.metrics.heal()
        self.one_shots.heal()
        self.refusals.heal()
        self.scaling.heal()
        self.mutes.heal()
        self.load_balancer.heal()
        self.notifications_lost = False


class OneShots:
    """Ends every running task that no ECS service started, after a moment, with an exit code by family."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._codes: dict[str, int | None] = {}

    def decide(self, family: str, exit_code: int | None) -> None:
        """Let the next tasks of a family end with this code, or never (None)."""
        self._codes[family] = exit_code

    def heal(self) -> None:
        """Let every task end with 0 again."""
        self._codes = {}

    def finish(self, *, now: bool = False) -> None:
        """End the tasks that have run long enough; with `now`, all that must end."""
        for arn, family in internals.running_one_shots():
            code = self._codes.get(family, 0)
            ran_for = time.monotonic() - self._since.setdefault(arn, time.monotonic())
            if code is not None and (now or ran_for >= ONE_SHOT_RUNS_FOR_S):
                del self._since[arn]
                internals.end_task(arn, code)


class Refusals:
    """The AWS services that refuse every call, each with an error code: no permission, throttled, expired."""

    def __init__(self) -> None:
        self._codes: dict[str, tuple[str, str]] = {}

    def refuse(self, service: str, code: str, message: str = "") -> None:
        """Refuse every call of a service, by its signing name (`monitoring` for CloudWatch; `*` for all)."""
        self._codes[service] = code, message or f"the embedded platform answers {code} on request"

    def heal(self) -> None:
        """Refuse nothing."""
        self._codes = {}

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request that must be refused; None for any other."""
        if not self._codes:
            return None
        signed = SIGNING_NAME.search(request.headers.get("authorization", ""))
        refusal = self._codes.get(signed[1] if signed else "") or self._codes.get("*")
        if refusal is None:
            return None
        code, message = refusal
        content_type, body = _error(request.headers.get("content-type", ""), code, message)
        headers = {"smithy-protocol": "rpc-v2-cbor"} if content_type == CBOR else {}
        return Response(body, STATUS.get(code, 400), {"content-type": content_type, **headers})


class Scaling:
    """Application Auto Scaling, which ministack does not have: its answers, by operation."""

    def __init__(self) -> None:
        self.heal()

    def heal(self) -> None:
        """Remove all scaling."""
        self.targets: list[dict[str, Any]] = []
        self.actions: list[dict[str, Any]] = []
        self.policies: list[dict[str, Any]] = []

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request for it, None for any other."""
        signed = SIGNING_NAME.search(request.headers.get("authorization", ""))
        if signed is None or signed[1] != "application-autoscaling":
            return None
        lists = {
            "ScalableTargets": self.targets,
            "ScheduledActions": self.actions,
            "ScalingPolicies": self.policies,
        }
        operation = request.headers.get("x-amz-target", "").rpartition(".Describe")[2]
        body = json.dumps({operation: lists.get(operation, [])})
        return Response(body, 200, {"content-type": "application/x-amz-json-1.1"})


class Mutes:
    """Mute rules of alarms, which ministack does not have: none, or one that is active."""

    NAME = "maintenance"

    def __init__(self) -> None:
        self.heal()

    def heal(self) -> None:
        """Mute nothing."""
        self.alarms: list[str] = []

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request for it, None for any other."""
        arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm-mute-rule:{self.NAME}"
        listed = [{"AlarmMuteRuleArn": arn, "Status": "ACTIVE"}] if self.alarms else []
        answers: dict[str, dict[str, Any]] = {
            "ListAlarmMuteRules": {"AlarmMuteRuleSummaries": listed},
            "GetAlarmMuteRule": {"Name": self.NAME, "MuteTargets": {"AlarmNames": self.alarms}},
        }
        told = answers.get(request.headers.get("x-amz-target", "").rpartition(".")[2])
        if told is None:
            return None
        return Response(json.dumps(told), 200, {"content-type": "application/x-amz-json-1.0"})


def _error(asked_in: str, code: str, message: str) -> tuple[str, bytes]:
    """Return content type and body of an error, in the protocol of the request's content type."""
    if "cbor" in asked_in:
        return CBOR, b"\xa2" + b"".join(_cbor_text(text) for text in ("__type", code, "message", message))
    if "json" in asked_in:
        return "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message}).encode()
    xml = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return "text/xml", f"<ErrorResponse>{xml}</ErrorResponse>".encode()


def _cbor_text(text: str) -> bytes:
    data = text.encode()
    length = len(data)
    if length < 24:
        return bytes([0x60 + length]) + data
    return (bytes([0x78, length]) if length < 256 else b"\x79" + length.to_bytes(2, "big")) + data


class Metrics:
    """The series that the platform publishes: one datapoint a minute, the newest one now."""

    def __init__(self) -> None:
        self._published: list[dict[str, Any]] = []
        self._altered: dict[int, float | None] = {}
        self._kept = 0

    def publish(self, series: list[dict[str, Any]]) -> None:
        """Take the series to feed: each a mapping with namespace, name, dimensions (a mapping) and value."""
        self._published = series
        self.remember()

    def publish_too(self, series: dict[str, Any]) -> None:
        """Publish one more series until the platform is reset."""
        self._published.append(series)

    def remember(self) -> None:
        """Have `heal` keep what is published now."""
        self._kept = len(self._published)

    def alter(self, name: str, of: str, value: float | None) -> int:
        """Publish another value, or none at all, for the metric `name` of the resource `of`; return how many.

        `of` is the value of one of the metric's dimensions; empty for metrics that have none.
        """
        hit = [index for index, series in enumerate(self._published) if _is(series, name, of)]
        self._altered |= dict.fromkeys(hit, value)
        return len(hit)

    def heal(self) -> None:
        """Publish every series as remembered."""
        self._altered = {}
        del self._published[self._kept :]

    def feed(self) -> None:
        """Write the datapoints of the last minutes and evaluate every alarm."""
        now = time.time()
        times = [now - 60 * minute for minute in reversed(range(MINUTES))]
        for index, series in enumerate(self._published):
            internals.put_datapoints(series, self._altered.get(index, series["value"]), times)
        internals.judge_alarms()


def _is(series: Mapping[str, Any], name: str, of: str) -> bool:
    values = series["dimensions"].values()
    return bool(series["name"] == name and (of in values if of else not values))


def evaluate(alarm: dict[str, Any]) -> None:
    """Bring an alarm into the state that the datapoints of its own dimensions call for; run its actions.

    An alarm on an expression does not change.
    """
    if alarm.get("ExtendedStatistic"):
        alarm["Statistic"] = None  # an alarm has one or the other; ministack reports both
    watched = alarm
    if queries := alarm.get("Metrics"):
        if len(queries) > 1:
            return
        stat = queries[0]["MetricStat"]
        watched = {**stat["Metric"], "Period": stat["Period"], "Statistic": stat["Stat"]}
    window = watched["Period"] * alarm["EvaluationPeriods"]
    statistic = watched.get("ExtendedStatistic") or watched["Statistic"]
    value = internals.statistic_of(watched, statistic, window)
    if value is None:
        state = MISSING[alarm.get("TreatMissingData") or "missing"]
        reason = f"Insufficient Data: no datapoints in {window} seconds"
    else:
        breaching = COMPARE[alarm["ComparisonOperator"]](value, alarm["Threshold"])
        state = "ALARM" if breaching else "OK"
        reason = f"Threshold Crossed: {statistic} {value} against {alarm['Threshold']}"
    if state is not None:
        internals.enter_state(alarm, state, reason)

"""Fresh datapoints for every metric of the platform, and alarms that are judged by their own ones only.

Runs inside the emulator's process. ministack judges an alarm by all datapoints of its metric, whatever their
dimensions, and never by their absence; `install` replaces that by what CloudWatch does.
"""

from __future__ import annotations

import operator
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MINUTES = 16
COMPARE = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
# What a window without datapoints means, by TreatMissingData; None: the state stays.
MISSING = {"missing": "INSUFFICIENT_DATA", "breaching": "ALARM", "notBreaching": "OK", "ignore": None}


class Metrics:
    """The series that the platform publishes: one datapoint a minute, the newest one now."""

    def __init__(self) -> None:
        self._published: list[dict[str, Any]] = []
        self._altered: dict[int, float | None] = {}

    def publish(self, series: list[dict[str, Any]]) -> None:
        """Take the series to feed: each a mapping with namespace, name, dimensions (a mapping) and value."""
        self._published = series
        self._altered = {}

    def alter(self, name: str, of: str, value: float | None) -> int:
        """Publish another value, or none at all, for the metric `name` of the resource `of`; return how many.

        `of` is the value of one of the metric's dimensions; empty for metrics that have none.
        """
        hit = [index for index, series in enumerate(self._published) if _is(series, name, of)]
        self._altered |= dict.fromkeys(hit, value)
        return len(hit)

    def heal(self) -> None:
        """Publish every series as it was given again."""
        self._altered = {}

    def feed(self) -> None:
        """Write the datapoints of the last minutes and judge every alarm by them."""
        from ministack.services import cloudwatch

        now = time.time()
        for index, series in enumerate(self._published):
            key = (series["namespace"], series["name"], cloudwatch._dims_key(series["dimensions"]))
            value = self._altered.get(index, series["value"])
            if value is None:
                cloudwatch._metrics.pop(key, None)
                continue
            cloudwatch._metrics[key] = [
                {
                    "Timestamp": now - 60 * minute,
                    "Value": value,
                    "Unit": "None",
                    "Dimensions": series["dimensions"],
                }
                for minute in reversed(range(MINUTES))
            ]
        cloudwatch._evaluate_all_alarms()


def _is(series: Mapping[str, Any], name: str, of: str) -> bool:
    values = series["dimensions"].values()
    return bool(series["name"] == name and (of in values if of else not values))


def install() -> None:
    """Have the emulator judge alarms by `evaluate`."""
    from ministack.services import cloudwatch

    cloudwatch._evaluate_alarm = evaluate


def evaluate(alarm: dict[str, Any]) -> None:
    """Bring an alarm into the state that the datapoints of its own dimensions call for; run its actions."""
    from ministack.services import cloudwatch

    if alarm.get("ExtendedStatistic"):
        alarm["Statistic"] = None  # an alarm has one or the other; ministack reports both
    window = alarm["Period"] * alarm["EvaluationPeriods"]
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(_dimensions(alarm)))
    points = [
        point for point in cloudwatch._metrics.get(key) or [] if point["Timestamp"] >= time.time() - window
    ]
    statistic = alarm.get("ExtendedStatistic") or alarm["Statistic"]
    value = cloudwatch._stat_value(cloudwatch._calc_stats(points), statistic, points) if points else None
    if value is None:
        state = MISSING[alarm.get("TreatMissingData") or "missing"]
        reason = f"Insufficient Data: no datapoints in {window} seconds"
    else:
        breaching = COMPARE[alarm["ComparisonOperator"]](value, alarm["Threshold"])
        state = "ALARM" if breaching else "OK"
        reason = f"Threshold Crossed: {statistic} {value} against {alarm['Threshold']}"
    _enter(alarm, state, reason)


def _enter(alarm: dict[str, Any], state: str | None, reason: str) -> None:
    from ministack.services import cloudwatch

    before = alarm["StateValue"]
    if state is None or state == before:
        return
    alarm["StateValue"], alarm["StateReason"] = state, reason
    alarm["StateUpdatedTimestamp"] = int(time.time())
    cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


def _dimensions(alarm: Mapping[str, Any]) -> dict[str, str]:
    return {dimension["Name"]: dimension["Value"] for dimension in alarm.get("Dimensions") or []}

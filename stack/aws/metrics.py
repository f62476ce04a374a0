"""Fresh datapoints for every metric of the platform, and alarms evaluated on their own dimensions only.

Runs in the emulator's process. ministack evaluates an alarm on all datapoints of its metric, whatever their
dimensions, and never by their absence; `evaluate` does what CloudWatch does.
"""

import operator
import time
from collections.abc import Mapping
from typing import Any

from stack.aws import internals

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
    """Bring an alarm into the state that the datapoints of its own dimensions call for; run its actions."""
    if alarm.get("ExtendedStatistic"):
        alarm["Statistic"] = None  # an alarm has one or the other; ministack reports both
    window = alarm["Period"] * alarm["EvaluationPeriods"]
    statistic = alarm.get("ExtendedStatistic") or alarm["Statistic"]
    value = internals.statistic_of(alarm, statistic, window)
    if value is None:
        state = MISSING[alarm.get("TreatMissingData") or "missing"]
        reason = f"Insufficient Data: no datapoints in {window} seconds"
    else:
        breaching = COMPARE[alarm["ComparisonOperator"]](value, alarm["Threshold"])
        state = "ALARM" if breaching else "OK"
        reason = f"Threshold Crossed: {statistic} {value} against {alarm['Threshold']}"
    if state is not None:
        internals.enter_state(alarm, state, reason)

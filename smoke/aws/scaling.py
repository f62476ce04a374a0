"""What Application Auto Scaling may make of a service: it must leave it a task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .account import AwsAccount
from .names import Names

_SCALING, _NAMESPACE, _COUNT = "application-autoscaling", "ecs", "ecs:service:DesiredCount"

#: How an endpoint of one's own answers that does not know it.
_UNKNOWN = ("InvalidAction", "UnknownOperationException")


def read_scalable(account: AwsAccount, names: Names) -> dict[str, Mapping[str, Any]]:
    """The targets of Application Auto Scaling that are services of the cluster, by their short names."""
    found = account.pages(
        _SCALING,
        "describe_scalable_targets",
        "ScalableTargets",
        absent=_UNKNOWN,
        ServiceNamespace=_NAMESPACE,
    )
    start = f"service/{names.cluster}/"
    return {
        names.short(each["ResourceId"].removeprefix(start)): each
        for each in found
        if each["ResourceId"].startswith(start) and each.get("ScalableDimension") == _COUNT
    }


def left_without_tasks(account: AwsAccount, target: Mapping[str, Any]) -> str:
    """Why a service is left without tasks sooner or later; empty where nothing is known to."""
    if target["MaxCapacity"] < 1:
        return f"it may be scaled to {target['MaxCapacity']} at most"
    if target.get("SuspendedState", {}).get("ScheduledScalingSuspended"):
        return ""
    actions = account.pages(
        _SCALING,
        "describe_scheduled_actions",
        "ScheduledActions",
        ServiceNamespace=_NAMESPACE,
        ResourceId=target["ResourceId"],
    )
    names = " and ".join(each["ScheduledActionName"] for each in _ending(actions, datetime.now(UTC)))
    return f"{names} of a schedule scales it to none, and nothing to one again" if names else ""


def _ending(actions: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Mapping[str, Any]]:
    """The actions that leave no task; none where one brings tasks back, as in the morning."""
    due = [each for each in actions if each.get("EndTime", now) >= now and not _is_past(each, now)]
    most = [each.get("ScalableTargetAction", {}).get("MaxCapacity") for each in due]
    if not any(each for each in most):
        yield from (each for each, left in zip(due, most, strict=True) if left == 0)


def _is_past(action: Mapping[str, Any], now: datetime) -> bool:
    """Whether an action of one time, `at(2026-02-26T10:00:00)`, was due before."""
    once = re.fullmatch(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)", str(action.get("Schedule", "")))
    with suppress(ValueError, ZoneInfoNotFoundError):
        zone = ZoneInfo(action.get("Timezone") or "UTC")
        return once is not None and datetime.fromisoformat(once[1]).replace(tzinfo=zone) < now
    return False

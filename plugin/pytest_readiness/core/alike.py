"""Checks that tell the same story, told once: a dead service must not fill the screen."""

from __future__ import annotations

from collections.abc import Iterable

from .model import CheckResult


def alike(checks: Iterable[CheckResult]) -> list[tuple[CheckResult, ...]]:
    """Group checks of one severity that ended in the same way for the same reason, in order of the first.

    A check without a reason stands alone.
    """
    groups: dict[tuple[object, ...], list[CheckResult]] = {}
    for check in checks:
        reason = check.summary or check.id
        key = (check.severity, check.outcome, check.failure_class, reason)
        groups.setdefault(key, []).append(check)
    return [tuple(group) for group in groups.values()]

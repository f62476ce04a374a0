"""Small builders for the core's values, with defaults for everything a test does not care about."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pytest_readiness.core.assess import assess
from pytest_readiness.core.model import (
    CheckResult,
    FailureClass,
    Outcome,
    RunFacts,
    RunRecord,
    Scope,
    Severity,
)
from pytest_readiness.core.plan import Plan

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)

PLAN = """
schema_version = 1
title = "Shop launch"
suite = "smoke"
[[goal]]
id = "G-1"
title = "Orders"
[[goal]]
id = "G-2"
title = "Payments"
[[goal]]
id = "G-7"
title = "Three greens"
streak = true
"""


def plan(extra: str = "", *, head: str = "") -> Plan:
    return Plan.parse(f"{head}\n{PLAN}\n{extra}", "readiness.toml")


def check(
    name: str = "orders/create",
    outcome: str = "passed",
    severity: str = "P0",
    cls: str | None = None,
    goal: str = "G-1",
    **more: Any,
) -> CheckResult:
    return CheckResult(
        id=name,
        nodeid=f"smoke/test_{name.partition('/')[0]}.py::test_{name.partition('/')[2]}",
        goal=goal,
        phase=name.partition("/")[0],
        severity=Severity(severity),
        outcome=Outcome(outcome),
        failure_class=FailureClass(cls) if cls else None,
        **more,
    )


def run(*results: CheckResult, env: str = "local", live: bool = False, **more: Any) -> RunRecord:
    facts = {key: more.pop(key) for key in tuple(more) if key in RunFacts.__dataclass_fields__}
    facts = {"build_start": {"shop": "b1"}, "build_end": {"shop": "b1"}, **facts}
    return RunRecord(
        **{
            "run_id": "run-now",
            "environment": env,
            "live": live,
            "started_at": NOW - timedelta(seconds=9),
            "finished_at": NOW,
            "results": results,
            "facts": RunFacts(**facts),
            "suite_digest": "suite-1",
            **more,
        }
    )


ALL_PASSED = (check(), check("payments/pay", goal="G-2"))


def model(
    *results: CheckResult, plan_: Plan | None = None, history: Any = None, **more: Any
) -> dict[str, Any]:
    made = assess(run(*(results or ALL_PASSED), **more), plan_ or plan(), history or {}, NOW)
    json.dumps(made, allow_nan=False)
    return made


def entry(verdict: str = "READY", hours_ago: float = 1, **more: Any) -> dict[str, Any]:
    finished = NOW - timedelta(hours=hours_ago)
    return {
        "run_id": f"run-{hours_ago}",
        "environment": "local",
        "live": False,
        "finished_at": finished.isoformat(),
        "verdict": verdict,
        "uncounted": None,
        "declaration": "NOT READY",
        "build_identity": {"shop": "b1"},
        "suite_digest": "suite-1",
        "plan_digest": plan().digest,
        "goals": {},
        **more,
    }


def goal(made: Mapping[str, Any], goal_id: str) -> dict[str, Any]:
    return next(row for row in made["goals"] if row["id"] == goal_id)


def lines(lead: str, allowed: str = "", action: str = "") -> str:
    """The message of a refusal: the error and its place, what is allowed, what to do."""
    return lead + (f"\n  allowed: {allowed}" if allowed else "") + (f"\n  next: {action}" if action else "")


PARTIAL = Scope.PARTIAL

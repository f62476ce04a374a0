"""``readiness goals``, ``checks`` and ``waivers``: the contents of plan and suite, as tables."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import ReadinessError
from ..core.formats import filled, matching, number, one_line
from ..core.goals import ExemptionState, apply_exemptions
from ..core.model import CheckResult, FailureClass, Outcome, Severity
from ..core.plan import Plan
from ..core.review import deferral_rows, waiver_rows
from ..report import JSON_NAME
from ..report.sections import rows
from ..selftest.runner import Runner
from . import add_json, project, say, say_json, table
from .saved import load


def add(commands: Any) -> None:
    """Add the commands to the parsers of ``readiness``."""
    goals = commands.add_parser(
        "goals",
        help="List the goals with their status",
        description="List the plan's goals with their status and evidence, as the last run found them.",
        epilog="examples:\n  readiness goals\n  readiness goals --json",
    )
    add_json(goals)
    goals.set_defaults(run=list_goals)
    checks = commands.add_parser(
        "checks",
        help="List the checks of the suite with severity, goal and limit",
        description="Collect the suite, without a request, and list its checks in the order of a run.",
        epilog="examples:\n  readiness checks --severity P0\n  readiness checks 'auth/*' --goal G-2 --json",
    )
    checks.add_argument("patterns", nargs="*", type=filled, metavar="PATTERN", help="Only ids that match one")
    checks.add_argument(
        "--severity", type=str.upper, choices=[each.value for each in Severity], help="Only of this severity"
    )
    checks.add_argument("--goal", type=filled, metavar="ID", help="Only of this goal")
    checks.add_argument("--phase", type=filled, metavar="NAME", help="Only of this phase")
    add_json(checks)
    checks.set_defaults(run=list_checks)
    waivers = commands.add_parser(
        "waivers",
        help="List waivers and deferrals with their state",
        description="List what the plan accepts for a time: active, expiring (within 72 hours), expired, "
        "unneeded (all it covers passed in the last full run), unknown (no check of that run matches), "
        "upcoming, refused (the plan forbids it).",
        epilog="examples:\n  readiness waivers\n  readiness waivers --state expiring --state expired",
    )
    waivers.add_argument(
        "--state",
        action="append",
        choices=[each.value for each in ExemptionState],
        help="Only in this state; may be repeated",
    )
    add_json(waivers)
    waivers.set_defaults(run=list_waivers)


_NO_EXEMPTION = "no waiver and no deferral: the plan declares them as [[waiver]] and [[deferral]]"


def list_goals(options: argparse.Namespace) -> int:
    """Print a line for each goal of the plan."""
    here = project()
    plan, model = here.plan, _last_model(here.root)
    found = {row.get("id"): row for row in rows(model, "goals")}
    listed = [
        {
            "id": goal.id,
            "title": goal.title,
            "status": found.get(goal.id, {}).get("status"),
            "evidence": "; ".join(
                (*found.get(goal.id, {}).get("figures", ()), found.get(goal.id, {}).get("evidence", ""))
            ),
        }
        for goal in plan.goals
    ]
    if options.json:
        say_json(listed)
        return 0
    cells = (
        [
            one_line(row["id"]),
            one_line(row["title"]),
            one_line(row["status"]) or "-",
            one_line(row["evidence"]),
        ]
        for row in listed
    )
    say(*table(cells, ("Goal", "Title", "Status", "Evidence")))
    if model:
        named = ("environment", "verdict", "run_id", "finished_at")
        say("last full run: " + ", ".join(one_line(model[key]) for key in named if model.get(key)))
    else:
        say("no run yet: readiness run")
    return 0


def list_checks(options: argparse.Namespace) -> int:
    """Print a line for each check of the suite that matches the filters."""
    here = project()
    wanted = {"severity": options.severity, "goal": options.goal, "phase": options.phase}
    if options.goal and options.goal not in here.plan.goal_ids:
        raise ReadinessError(
            f"unknown goal {options.goal!r}", where="--goal", allowed=", ".join(here.plan.goal_ids)
        )
    if options.phase and options.phase not in here.plan.phases:
        raise ReadinessError(
            f"unknown phase {options.phase!r}", where="--phase", allowed=", ".join(here.plan.phases)
        )
    collected = _collected(here.root, here.plan)
    for pattern in options.patterns:
        if not matching([pattern], [check["id"] for check in collected]):
            raise ReadinessError(
                f"no check matches {pattern!r}", where="PATTERN", action="list them all: readiness checks"
            )
    listed = [
        check
        for check in collected
        if all(value in (None, check[key]) for key, value in wanted.items())
        and (not options.patterns or matching(options.patterns, [check["id"]]))
    ]
    if options.json:
        say_json(listed)
        return 0
    cells = (
        [
            check["severity"],
            check["goal"],
            f"{number(check['limit_s'])} s",
            check["id"] + (" (drill)" if check["drill"] else ""),
        ]
        for check in listed
    )
    say(*table(cells, ("Severity", "Goal", "Time limit", "Check")) or ["no check matches"])
    return 0


def list_waivers(options: argparse.Namespace) -> int:
    """Print a line for each waiver and deferral, with its current state."""
    here = project()
    plan, model = here.plan, _last_model(here.root)
    try:
        results = [_result(row) for row in rows(model, "checks")]
    except (KeyError, ValueError) as problem:
        raise ReadinessError(f"a malformed report: {problem}", where=f"reports/{JSON_NAME}") from None
    _, exemptions = apply_exemptions(results, plan, datetime.now(UTC), str(model.get("environment", "")))
    listed = [
        {"kind": kind, **row}
        for kind, found in (("waiver", waiver_rows(exemptions)), ("deferral", deferral_rows(exemptions)))
        for row in found
        if not options.state or row["state"] in options.state
    ]
    if options.json:
        say_json(listed)
        return 0
    cells = (
        [
            row["state"],
            row["kind"],
            one_line(row["expires"] or "-"),
            one_line(row.get("item") or row["check"]),
            one_line(row["note"]),
        ]
        for row in listed
    )
    nothing = f"none is {' or '.join(options.state)}" if options.state else _NO_EXEMPTION
    say(*table(cells, ("State", "Kind", "Expires", "Of", "Note")) or [nothing])
    if not model:
        say("no run yet, so it is unknown what they cover")
    return 0


def _last_model(root: Path) -> Mapping[str, Any]:
    """Return the model of the last full run: a partial run does not judge goals and waivers."""
    path = root / "reports" / JSON_NAME
    return load(path) if path.is_file() else {}


def _result(row: Mapping[str, Any]) -> CheckResult:
    """Return a saved check as it was before deferrals and waivers were applied."""
    outcome = Outcome(row["outcome"])
    if outcome is Outcome.DEFERRED:
        outcome = Outcome.FLAKY if row.get("class") == FailureClass.FLAKE else Outcome.FAILED
    return CheckResult(
        id=row["id"],
        nodeid=row.get("nodeid", ""),
        goal=row.get("goal", ""),
        phase=row.get("phase", ""),
        severity=Severity(row["severity"]),
        outcome=outcome,
        applicable=row.get("applicable", True),
        drill=row.get("drill", False),
    )


def _collected(root: Path, plan: Plan) -> list[dict[str, Any]]:
    """Collect the suite in a separate process; return its checks in the order of the run."""
    with tempfile.TemporaryDirectory(prefix="readiness-") as work:
        runner = Runner(plan.suite, root, Path(work))
        try:
            checks = runner.checks()
        finally:
            runner.close()
    return [
        {
            "id": name,
            "nodeid": check.nodeid,
            "severity": check.severity,
            "goal": check.goal,
            "phase": name.partition("/")[0],
            "limit_s": check.limit_s or plan.policy.check_limit_s,
            "drill": check.drill,
        }
        for name, check in checks.items()
    ]

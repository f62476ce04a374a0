"""What stands between a run and a launch, ranked: the rule, what was observed, what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from .exemptions import Exemption
from .goals import GoalRow
from .model import CheckResult, FailureClass, GoalStatus, Outcome, RunRecord
from .plan import SEVERITIES, Deferral, Plan
from .streak import Streak
from .verdict import grouped, is_broken, is_degrading, is_open, run_problems

_BROKEN = "a P0 check that fails on the platform is BROKEN"
_OPEN = "a P0 check without an answer is NO_VERDICT"
_DEGRADED = "a P1 check that fails or does not run, or a flaky P0, is DEGRADED"
_ACTIONS = {
    FailureClass.PLATFORM_BUG: "fix the platform, deploy, then run the suite again",
    FailureClass.EXTERNAL_OUTAGE: "wait until the third party has recovered, then run the suite again",
    FailureClass.SETUP_ERROR: "correct the runner's setup as the summary says, then run the suite again",
    FailureClass.FLAKE: "find out why the first attempt failed; a rerun that passes proves little",
}
_UNANSWERED_ACTION = "give the run what the check needs, or cover it in the plan"


def run_blockers(run: RunRecord, results: Sequence[CheckResult], plan: Plan) -> list[dict[str, Any]]:
    """Return what keeps the run as a whole from its verdict: a leak, a changed build, an interruption."""
    return [
        _blocker(
            rule="the run as a whole must be whole, on one build, and keep its secrets",
            summary=problem,
            next_action="remove the cause, then run the whole suite again, to its end",
            reproduce=f"pytest {shlex.quote(plan.suite)} {_environment(run)}",
        )
        for problem in run_problems(results, run.facts)
    ]


def check_blockers(run: RunRecord, results: Sequence[CheckResult]) -> list[dict[str, Any]]:
    """Return the checks that keep a run from READY: broken P0, then open questions, then what degrades it.

    Checks that ended in the same way for the same reason are one blocker; ``also`` names the others.
    """
    ranks = (
        (_BROKEN, [check for check in results if is_broken(check)]),
        (_OPEN, [check for check in results if is_open(check, results)]),
        (_DEGRADED, [check for check in results if is_degrading(check, results)]),
    )
    return [_of_checks(run, rule, group) for rule, checks in ranks for group in grouped(checks)]


def goal_blockers(
    run: RunRecord, rows: Sequence[GoalRow], results: Sequence[CheckResult]
) -> list[dict[str, Any]]:
    """Return the goals that are pending for want of checks; those whose checks failed are told by these."""
    told = {check.goal for check in results if is_broken(check) or is_open(check, results)}
    return [
        _blocker(
            rule="a goal without enough evidence is PENDING",
            goal=row.id,
            summary=f"{row.id} {row.title}: {row.evidence}",
            next_action="run the goal's checks, write them, or defer the goal in the plan",
            reproduce=f"pytest {_environment(run)}",
        )
        for row in rows
        if row.status is GoalStatus.PENDING and row.id not in told
    ]


def deferral_blockers(exemptions: Sequence[Exemption], plan: Plan) -> list[dict[str, Any]]:
    """Return the deferrals in force that are too severe for a launch."""
    allowed = SEVERITIES.index(plan.policy.allowed_deferral_severity)
    severe = [
        exemption.origin
        for exemption in exemptions
        if exemption.live
        and isinstance(exemption.origin, Deferral)
        and SEVERITIES.index(exemption.origin.severity) > allowed
    ]
    return [
        _blocker(
            rule="a launch allows deferrals up to the plan's severity",
            goal=origin.goal,
            summary=f"deferred: {origin.item}: {origin.rationale}",
            observed=origin.severity,
            limit=plan.policy.allowed_deferral_severity,
            next_action="do what was deferred, or change policy.allowed_deferral_severity in the plan",
        )
        for origin in severe
    ]


def launch_blockers(
    run: RunRecord, plan: Plan, operational: Sequence[Mapping[str, Any]], live: Streak | None
) -> list[dict[str, Any]]:
    """Return what a validated platform still lacks for its launch: green runs in a row, operational items."""
    found = []
    if live is None or not live.reached:
        found.append(
            _blocker(
                rule="a launch needs consecutive green runs of a live environment",
                goal=next((goal.id for goal in plan.goals if goal.streak), ""),
                summary=live.why if live else "no run of a live environment is in the ledger",
                observed=str(live.length if live else 0),
                limit=str(plan.policy.streak_length),
                next_action="run the whole suite against the live environment again",
                reproduce=f"pytest {shlex.quote(plan.suite)} {_environment(run)}" if run.live else "",
            )
        )
    found += [
        _blocker(
            rule="a launch needs every operational item done",
            summary=f"{row['item']}: {row['evidence']}",
            next_action="run what ticks it, or correct what keeps it from passing",
        )
        for row in operational
        if not row["done"]
    ]
    return found


def _of_checks(run: RunRecord, rule: str, group: Sequence[CheckResult]) -> dict[str, Any]:
    check, *others = group
    observed, limit = _measured(check)
    action = _ACTIONS.get(check.failure_class or FailureClass.PLATFORM_BUG, "")
    if check.outcome in (Outcome.SKIPPED, Outcome.NOT_RUN):
        action = _UNANSWERED_ACTION
    elif check.outcome is Outcome.FLAKY:
        action = _ACTIONS[FailureClass.FLAKE]
    return _blocker(
        rule=rule,
        check=check.id,
        also=[other.id for other in others],
        goal=check.goal,
        severity=check.severity.value,
        failure_class=check.failure_class,
        summary=check.summary or f"{check.id} {check.outcome}",
        observed=observed,
        limit=limit,
        next_action=action,
        reproduce=f"pytest {shlex.quote(check.nodeid)} {_environment(run)}",
    )


def _measured(check: CheckResult) -> tuple[str, str]:
    """Return the last figure that was held against something: what was observed, and its bound."""
    for entry in reversed(check.evidence):
        bound = next((entry[key] for key in ("limit", "expected") if entry.get(key) is not None), None)
        if entry.get("kind") == "figure" and bound is not None:
            unit = f" {entry['unit']}" if entry.get("unit") else ""
            return f"{entry.get('name')} = {entry.get('value')}{unit}", f"{bound}{unit}"
    return "", ""


def _environment(run: RunRecord) -> str:
    return f"--env {shlex.quote(run.env_option or run.environment)}"


def _blocker(
    *,
    rule: str,
    summary: str,
    next_action: str,
    check: str = "",
    also: Sequence[str] = (),
    goal: str = "",
    severity: str = "",
    failure_class: FailureClass | None = None,
    observed: str = "",
    limit: str = "",
    reproduce: str = "",
) -> dict[str, Any]:
    return {
        "check": check,
        "also": [*also],
        "goal": goal,
        "severity": severity,
        "class": failure_class.value if failure_class else None,
        "summary": summary,
        "rule": rule,
        "observed": observed,
        "limit": limit,
        "next_action": next_action,
        "reproduce": reproduce,
    }

"""From a finished run to the one model that every report is rendered from (readiness.json, version 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from . import history, review
from .declaration import Declaration, Findings, LiveHistory, carried_over, declare, environment_option
from .formats import format_moment, utc_now
from .goals import Exemption, GoalRow, Standing, apply_exemptions, goal_statuses
from .history import Entry, Streak, has_green_live_run, streak
from .model import CheckResult, GoalStatus, Judgement, Outcome, RunRecord, Scope, Verdict
from .plan import Plan
from .verdict import exit_code, is_not_applicable, judge

SCHEMA_VERSION = 1
_LISTS = (
    *("blockers", "goals", "checks", "deferred", "waivers", "inventory"),
    *("operational", "rollback", "decisions", "notes"),
)
#: Keys of the model that a ledger entry copies.
_KEPT = (
    "run_id", "environment", "live", "deployed", "started_at", "finished_at", "verdict", "complete",
    "uncounted", "declaration", "counts", "build_identity", "addresses", "suite_digest", "plan_digest",
    "runner", "figures",
)  # fmt: skip


def assess(
    run: RunRecord, plan: Plan, history: Mapping[str, Sequence[Entry]], now: datetime
) -> dict[str, Any]:
    """Return the model of a run as plain JSON values: verdict, declaration, goals, checks, the plan's tables.

    ``history`` maps each environment to its ledger's entries, newest last, without this run. A full run
    counts in its own streak; a partial run is judged on the checks that it selected and changes neither
    streak nor declaration.
    """
    results, exemptions = apply_exemptions(run.results, plan, now, run.environment, run.scope)
    judgement = judge(results, run.facts)
    known = dict(history)
    own = _own_entry(run, plan, judgement)
    if belongs_in_ledger(own):
        known[run.environment] = [*history.get(run.environment, ()), own]
    standing = _standing(run, plan, known, now)
    live = _live_history(known, standing, plan)
    own_streak = standing.streaks.get(run.environment) or streak((), plan.policy, now)
    goals = goal_statuses(results, plan, exemptions, standing)
    if run.scope is Scope.PARTIAL:
        goals = _untouched_from_ledger(goals, results, known.get(run.environment, ()))
    operational = review.operational_rows(run, results, plan, live.streak, live.deployed)
    found = Findings(
        run=run,
        plan=plan,
        verdict=judgement.verdict,
        results=results,
        goals=goals,
        exemptions=exemptions,
        operational=operational,
        live=live,
    )
    partial = run.scope is Scope.PARTIAL
    declaration = carried_over(found, known.get(run.environment, ())) if partial else declare(found)
    return {
        **_head(own, run, plan, judgement, declaration),
        "deployed": has_green_live_run(known.get(run.environment, ()), plan.policy),
        "goals": [_goal(row, plan, results) for row in goals],
        "checks": [_check(check) for check in results],
        "counts": _counts(results),
        "vanished": [asdict(check) for check in run.facts.vanished],
        "deferred": review.deferral_rows(exemptions),
        "waivers": review.waiver_rows(exemptions),
        "cover": [_statement(exemption) for exemption in exemptions],
        "inventory": review.inventory_rows(run, plan),
        "operational": operational,
        "rollback": review.rollback_rows(run, results, plan),
        "decisions": [asdict(decision) for decision in plan.decisions],
        "streak": {**asdict(own_streak), "runs": list(own_streak.runs)},
        **_review(run, plan, results, known.get(run.environment, ()), own, own_streak),
        "notes": list(run.notes),
        "ledger": dict(run.ledger),
        "self_test": dict(run.self_test) if run.self_test is not None else None,
    }


def is_broken_so_far(run: RunRecord, plan: Plan, now: datetime) -> bool:
    """Tell whether an unfinished run is already BROKEN, whatever the remaining checks show."""
    results, _ = apply_exemptions(run.results, plan, now, run.environment)
    return judge(results, run.facts).verdict is Verdict.BROKEN


def belongs_in_ledger(model: Mapping[str, Any]) -> bool:
    """Tell whether an assessed run is recorded: a full run that finished, or is BROKEN.

    A run that was stopped cannot be green, but it can be red.
    """
    return model["scope"] == Scope.FULL and bool(model["complete"] or model["verdict"] == Verdict.BROKEN)


def entry_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ledger entry of an assessed run: the model's head and each check's outcome."""
    kept = {key: model[key] for key in _KEPT}
    kept["vanished"] = [row for row in model["vanished"] if row["blocking"]]
    checks = [
        {key: check[key] for key in ("id", "severity", "outcome", "class", "duration_s")}
        for check in model["checks"]
    ]
    return {**kept, "goals": {row["id"]: row["status"] for row in model["goals"]}, "checks": checks}


def _head(
    own: Entry, run: RunRecord, plan: Plan, judgement: Judgement, declaration: Declaration
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "title": plan.title,
        "environment": run.environment,
        **own,
        "exit_code": exit_code(judgement.verdict, run.degraded_exit_code),
        "reasons": list(judgement.reasons),
        "declaration": declaration.text,
        "declaration_why": declaration.why,
        "declaration_title": plan.declaration_title,
        "declaration_prose": next(
            (each.text for each in plan.prose if declaration.text.startswith(each.when)), ""
        ),
        "blockers": [{**blocker, "whose": review.owner(plan, blocker)} for blocker in declaration.blockers],
        "reproduce_with": environment_option(run),
        "reproduce_env": list(run.variables),
        "runner": run.runner,
    }


def _own_entry(run: RunRecord, plan: Plan, judgement: Judgement) -> Entry:
    """Return the part of a ledger entry that the streak needs, for a run without an entry yet."""
    return {
        "run_id": run.run_id,
        "live": run.live,
        "scope": run.scope.value,
        "started_at": format_moment(run.started_at),
        "finished_at": format_moment(run.finished_at),
        "verdict": judgement.verdict.value,
        "complete": run.is_complete,
        "uncounted": judgement.uncounted.value if judgement.uncounted else None,
        "build_identity": dict(run.build_identity),
        "addresses": {**run.addresses},
        "suite_digest": run.suite_digest,
        "plan_digest": plan.digest,
    }


def _standing(run: RunRecord, plan: Plan, known: Mapping[str, Sequence[Entry]], now: datetime) -> Standing:
    kinds = {name: bool(entries[-1].get("live")) for name, entries in known.items() if entries}
    kinds = {**run.environments, **kinds, run.environment: run.live}
    return Standing(
        environment=run.environment,
        live=run.live,
        scope=run.scope,
        checkout=run.checkout,
        streaks={name: streak(known[name], plan.policy, now) if known.get(name) else None for name in kinds},
        live_environments=tuple(sorted(name for name, live in kinds.items() if live)),
    )


def _live_history(known: Mapping[str, Sequence[Entry]], standing: Standing, plan: Plan) -> LiveHistory:
    names = (standing.environment,) if standing.live else standing.live_environments
    own = {name: one for name in names if (one := standing.streaks.get(name)) is not None}
    best = max(own, key=lambda name: own[name].length, default="")
    deployed = any(has_green_live_run(entries, plan.policy) for entries in known.values())
    return LiveHistory(environment=best, streak=own.get(best), deployed=deployed)


def _untouched_from_ledger(
    goals: Sequence[GoalRow], results: Sequence[CheckResult], entries: Sequence[Entry]
) -> list[GoalRow]:
    """Give goals that a partial run did not touch the status from the newest full run."""
    touched = {check.goal for check in results}
    newest = entries[-1] if entries else {}
    recorded = {
        key: status
        for key, status in newest.get("goals", {}).items()
        if str(status) in GoalStatus.__members__
    }
    return [
        replace(
            row,
            status=GoalStatus(recorded[row.id]),
            evidence=f"not run here; status from full run {newest.get('run_id')}",
        )
        if row.id not in touched and row.status is GoalStatus.PENDING and row.id in recorded
        else row
        for row in goals
    ]


def _review(
    run: RunRecord,
    plan: Plan,
    results: Sequence[CheckResult],
    entries: Sequence[Entry],
    own: Entry,
    counted: Streak,
) -> dict[str, Any]:
    """Return what the report shows for comparison with this run."""
    drawn = review.charts(plan, results)
    (this,) = history.runs([own], plan, counted.runs)
    return {
        "runs": history.runs(entries, plan, counted.runs),
        "changes": history.changes(this, drawn, results, entries, plan),
        "phases": review.phases(plan, results),
        "charts": drawn,
        "figures": review.kept_figures(drawn),
        "without_cover": judge(run.results, run.facts).verdict.value,
    }


def _goal(row: GoalRow, plan: Plan, results: Sequence[CheckResult]) -> dict[str, Any]:
    lines = next((goal.figures for goal in plan.goals if goal.id == row.id), ())
    return {
        "id": row.id,
        "title": row.title,
        "status": row.status.value,
        "evidence": row.evidence,
        "figures": review.figure_lines(lines, results),
        "outcomes": review.outcomes(check for check in results if check.goal == row.id),
    }


def _check(check: CheckResult) -> dict[str, Any]:
    return {
        "id": check.id,
        "nodeid": check.nodeid,
        "goal": check.goal,
        "phase": check.phase,
        "severity": check.severity.value,
        "outcome": check.outcome.value,
        "class": check.failure_class.value if check.failure_class else None,
        "attempts": check.attempts,
        "duration_s": round(check.duration_s, 3),
        "summary": check.summary,
        "where": check.where,
        "evidence": [dict(entry) for entry in check.evidence],
        "applicable": check.applicable,
        "covered_by": check.covered_by,
        "requires": list(check.requires),
        "drill": check.drill,
    }


def _counts(results: Sequence[CheckResult]) -> dict[str, int]:
    outcomes = Counter(check.outcome for check in results)
    return {
        "total": len(results),
        **{outcome.value: outcomes[outcome] for outcome in Outcome},
        "not_applicable": sum(is_not_applicable(check) for check in results),
    }


def _statement(exemption: Exemption) -> str:
    origin = exemption.origin
    name = getattr(origin, "item", "") or getattr(origin, "check", "")
    return f"{type(origin).__name__.lower()} {name}: {exemption.text}"


#: Reasons in the report of a run without a verdict, until more is known.
UNFINISHED = "the run did not finish"
UNJUDGED = "pytest ended before it had judged the run"


def unfinished_model(
    environment: str,
    run_id: str,
    reason: str,
    verdict: Verdict = Verdict.NO_VERDICT,
    degraded_exit_code: int = 2,
) -> Mapping[str, Any]:
    """Return the model of a run that has no verdict yet, or never got one.

    It is the smallest model that every renderer accepts.
    """
    now = format_moment(utc_now())
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "environment": environment,
        "scope": str(Scope.PARTIAL),
        "started_at": now,
        "finished_at": now,
        "verdict": str(verdict),
        "exit_code": exit_code(verdict, degraded_exit_code),
        "reasons": [reason],
        "declaration": "NOT READY",
        **{name: [] for name in _LISTS},
        "build_identity": {},
        "streak": {},
    }

"""The declaration: what can be claimed about the platform, and the ranked blockers of a better one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .formats import counted, figure_bounds
from .goals import Exemption, ExemptionState, GoalRow
from .history import Streak
from .model import CheckResult, FailureClass, GoalStatus, Outcome, RunRecord, Verdict
from .plan import DECLARATIONS, SEVERITIES, Deferral, Plan
from .verdict import BEHIND, Cause, causes, is_broken, is_open, run_problems

LAUNCH, FIRST_DEPLOY, VALIDATION, DEGRADED, NOT_READY = DECLARATIONS
_HOLDS = frozenset({GoalStatus.PASS, GoalStatus.READY, GoalStatus.DEFERRED})
_RULES = {
    Verdict.BROKEN: "a P0 check that fails because of the platform makes the run BROKEN",
    Verdict.NO_VERDICT: "a P0 check without a result leaves the run with NO_VERDICT",
    Verdict.DEGRADED: "a P1 check that fails or does not run, or a flaky P0, makes the run DEGRADED",
}
_ACTIONS = {
    FailureClass.EXTERNAL_OUTAGE: "wait until the third party has recovered, then rerun the suite",
    FailureClass.SETUP_ERROR: "correct this runner's setup or the profile as the summary says, "
    "then rerun the check",
    FailureClass.FLAKE: "find out why the first attempt failed; a rerun that passes proves little",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The declaration, the sentence that explains it, and its blockers, most important first."""

    text: str
    why: str
    blockers: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveHistory:
    """Live environments in the ledgers: the best streak and its environment, and whether any was green."""

    environment: str = ""
    streak: Streak | None = None
    deployed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The basis of a declaration: the run, judged with its exemptions applied, and the live history."""

    run: RunRecord
    plan: Plan
    verdict: Verdict
    results: Sequence[CheckResult]
    goals: Sequence[GoalRow]
    exemptions: Sequence[Exemption]
    operational: Sequence[Mapping[str, Any]]
    live: LiveHistory

    @property
    def against_ready(self) -> list[dict[str, Any]]:
        """The causes that keep the run from READY."""
        checks = [
            _of_cause(self.run, verdict, cause) for verdict, cause in causes(self.results, self.run.facts)
        ]
        return [*_run_blockers(self.run, self.results), *checks]


def declare(found: Findings) -> Declaration:
    """Compute the declaration of a full run; for a partial run see :func:`carried_over`.

    BROKEN and NO_VERDICT are NOT READY, DEGRADED is DEGRADED. A READY run is NOT READY while a goal other
    than the streak's is open, READY FOR FIRST DEPLOY before the first live run, IN VALIDATION k/N until all
    goals PASS on a live environment with its streak and its operational items, and READY FOR LAUNCH then.
    """
    against = tuple(found.against_ready)
    if found.verdict in (Verdict.BROKEN, Verdict.NO_VERDICT):
        why = "the run is BROKEN" if found.verdict is Verdict.BROKEN else "the run has no verdict"
        return Declaration(text=NOT_READY, why=why, blockers=against)
    if found.verdict is Verdict.DEGRADED:
        return Declaration(text=DEGRADED, why="no P0 check failed, but the run is DEGRADED", blockers=against)
    streak_goals = {goal.id for goal in found.plan.goals if goal.streak}
    checked = [row for row in found.goals if row.id not in streak_goals]
    if any(row.status not in _HOLDS for row in checked):
        missing = _goal_blockers(found.run, checked, found.results)
        return Declaration(text=NOT_READY, why="a goal lacks evidence", blockers=tuple(missing))
    if not found.run.live and not found.live.deployed:
        waiting = " and ".join(row.id for row in found.goals if row.status not in _HOLDS)
        held = f"every goal but {waiting} holds" if waiting else "every goal holds"
        seen = "has had a run" if found.live.streak is None else "has been green"
        return Declaration(
            text=FIRST_DEPLOY,
            why=f"{held}, and no live environment {seen} yet",
            blockers=tuple(_streak_next(found)),
        )
    return _validated(found)


def carried_over(found: Findings, entries: Sequence[Mapping[str, Any]]) -> Declaration:
    """Return the declaration that stays in force after a partial run: the newest full run's."""
    against = tuple(found.against_ready) or (_whole_suite_next(found),)
    if not entries:
        why = f"no full run of {found.run.environment} is in the ledger yet, and a partial run does not count"
        return Declaration(text=NOT_READY, why=why, blockers=against)
    newest = entries[-1]
    why = f"unchanged since full run {newest.get('run_id')}; a partial run does not count"
    return Declaration(text=str(newest.get("declaration", NOT_READY)), why=why, blockers=against)


def _validated(found: Findings) -> Declaration:
    """Declare a platform with all goals met in live runs; the streak or operational items may be missing."""
    live = found.live.streak
    against = (
        *_deferral_blockers(found.exemptions, found.plan),
        *_launch_blockers(found.run, found.plan, found.operational, found.live),
    )
    settled = all(row.status in (GoalStatus.PASS, GoalStatus.DEFERRED) for row in found.goals)
    if settled and not against:
        deferred = any(row.status is GoalStatus.DEFERRED for row in found.goals)
        why = f"every goal passed on a live environment{' or is deferred' if deferred else ''}"
        unknown = _without_build(found.run.build_identity)
        return Declaration(text=LAUNCH, why="; but ".join(filter(None, (why, unknown))))
    needed = found.plan.policy.streak_length
    return Declaration(
        text=f"{VALIDATION} {min(live.length, needed) if live else 0}/{needed}",
        why=against[0]["summary"] if against else "only a run of the live environment can settle its goals",
        blockers=against,
    )


def _without_build(builds: Mapping[str, str]) -> str:
    """Say which builds are unknown, as the launch then covers whatever runs there; "" if all are known."""
    unknown = sorted(service for service, build in builds.items() if not build)
    if not builds or len(unknown) == len(builds):
        return "the build is unknown: each of these runs may have tested another one"
    return f"the build of {', '.join(unknown)} is unknown" if unknown else ""


def _run_blockers(run: RunRecord, results: Sequence[CheckResult]) -> list[dict[str, Any]]:
    """Return the run's own problems that prevent a verdict: a leak, a changed build, an interruption."""
    return [
        _blocker(rule=rule, summary=problem, next_action=action, reproduce=_whole_suite(run))
        for problem, rule, action in run_problems(results, run.facts)
    ]


def _goal_blockers(
    run: RunRecord, rows: Sequence[GoalRow], results: Sequence[CheckResult]
) -> list[dict[str, Any]]:
    """Return goals that are PENDING for lack of checks; failed checks are separate blockers."""
    failed = {check.goal for check in results if is_broken(check) or is_open(check, results)}
    return [
        _blocker(
            rule="a goal without enough evidence is PENDING",
            goal=row.id,
            summary=f"{row.id} {row.title}: {row.evidence}",
            next_action="run the goal's checks, write them, or defer the goal in the plan",
            reproduce=_whole_suite(run),
        )
        for row in rows
        if row.status is GoalStatus.PENDING and row.id not in failed
    ]


def _streak_next(found: Findings) -> list[dict[str, Any]]:
    """Return the next action for a goal that only green live runs in a row can settle."""
    live = sorted(name for name, is_live in found.run.environments.items() if is_live)
    named = live[0] if live else "NAME"
    where = f"the live environment {named}" if live else "a live environment"
    return [
        _blocker(
            rule="only consecutive green runs of a live environment settle this goal",
            goal=row.id,
            summary=f"{row.id} {row.title}: {row.evidence}",
            next_action=f"deploy, then run the whole suite against {where} until "
            f"{found.plan.policy.streak_length} runs in a row are green",
            reproduce=f"readiness gate --env {shlex.quote(named)}",
        )
        for row in found.goals
        if row.status is GoalStatus.PENDING
    ]


def _whole_suite_next(found: Findings) -> dict[str, Any]:
    """Return the next action after a partial run without findings."""
    if found.run.facts.shard:
        return _blocker(
            rule="only all shards together settle a goal",
            summary="only one shard of the suite ran, and nothing in it failed",
            next_action="merge its result with those of the other shards",
            reproduce=f"readiness merge reports/shards {environment_option(found.run)}",
        )
    return _blocker(
        rule="only a full run settles a goal",
        summary="only part of the suite ran, and nothing in it failed",
        next_action="run the whole suite",
        reproduce=_whole_suite(found.run),
    )


def _deferral_blockers(exemptions: Sequence[Exemption], plan: Plan) -> list[dict[str, Any]]:
    """Return the deferrals in force that are too severe for a launch."""
    allowed = SEVERITIES.index(plan.policy.allowed_deferral_severity)
    severe = [
        exemption.origin
        for exemption in exemptions
        if exemption.live
        and exemption.state is not ExemptionState.UNNEEDED
        and isinstance(exemption.origin, Deferral)
        and SEVERITIES.index(exemption.origin.severity) > allowed
    ]
    return [
        _blocker(
            rule="a launch allows deferrals up to the plan's severity",
            goal=origin.goal,
            summary=f"deferred: {origin.item}: {origin.rationale}",
            observed=origin.severity,
            limit=f"at most {plan.policy.allowed_deferral_severity}",
            next_action="finish what was deferred, or change policy.allowed_deferral_severity in the plan",
        )
        for origin in severe
    ]


def _launch_blockers(
    run: RunRecord, plan: Plan, operational: Sequence[Mapping[str, Any]], live: LiveHistory
) -> list[dict[str, Any]]:
    """Return what a validated platform still lacks for its launch: green runs in a row, operational items."""
    found = []
    streak, required = live.streak, plan.policy.streak_length
    named = run.env_option or run.environment if run.live else live.environment or "NAME"
    if streak is None or not streak.reached:
        found.append(
            _blocker(
                rule="a launch needs consecutive green runs of a live environment",
                goal=next((goal.id for goal in plan.goals if goal.streak), ""),
                summary=f"{counted(required - streak.length, 'more green run')} needed ({streak.why})"
                if streak
                else "no run of a live environment is in the ledger",
                observed=str(streak.length if streak else 0),
                limit=f"at least {required}",
                next_action="run the whole suite against the live environment again",
                reproduce=f"readiness gate --env {shlex.quote(named)}",
            )
        )
    found += [
        _blocker(
            rule="a launch needs every operational item done",
            summary=f"{row['item']}: {row['evidence']}",
            next_action="run the checks that tick it, or correct what keeps them from passing",
        )
        for row in operational
        if not row["done"]
    ]
    return found


def _of_cause(run: RunRecord, verdict: Verdict, cause: Cause) -> dict[str, Any]:
    """Return one cause as a blocker; ``also``: other checks that show it, ``behind``: those it blocked."""
    check, *others = cause.shown
    observed, limit = _measured(check)
    return _blocker(
        rule=_RULES[verdict],
        check=check.id,
        also=[other.id for other in others],
        behind=[other.id for other in cause.behind],
        goal=check.goal,
        severity=min(each.severity for each in cause.checks).value,
        failure_class=check.failure_class,
        summary=check.summary or f"{check.id} {check.outcome}",
        observed=observed,
        limit=limit,
        next_action=_next_action(check),
        reproduce=_again(run, check),
    )


def _again(run: RunRecord, check: CheckResult) -> str:
    """Return the command that reruns a check, together with a check that it depends on."""
    if check.cause.startswith(BEHIND):
        return _whole_suite(run)
    drills = " --drills" if check.drill else ""
    return f"pytest {shlex.quote(check.nodeid)} {environment_option(run)}{drills}"


def _next_action(check: CheckResult) -> str:
    """Return the next action for a check that is not green, from its outcome and class."""
    if check.outcome is Outcome.FLAKY:
        return _ACTIONS[FailureClass.FLAKE]
    if check.failure_class in (FailureClass.SETUP_ERROR, FailureClass.EXTERNAL_OUTAGE):
        failed = check.outcome is Outcome.FAILED and check.failure_class is FailureClass.SETUP_ERROR
        broken = f"correct {check.cause}, then rerun the check" if failed and check.cause else ""
        return check.advice or broken or _ACTIONS[check.failure_class]
    if check.outcome is Outcome.SKIPPED and not check.applicable:
        return (
            "configure it in the environment's profile, let another check cover it, or defer it in the plan"
        )
    if check.outcome is Outcome.SKIPPED:
        return "remove what skips the check or expects it to fail, or defer it in the plan"
    if check.outcome is Outcome.NOT_RUN and check.cause.startswith(BEHIND):
        return f"run it together with {check.cause.removeprefix(BEHIND)}, on which it depends"
    if check.outcome is Outcome.NOT_RUN:
        return "run it to its end, together with the check that it depends on"
    if check.failure_class is FailureClass.CHECK_ERROR:
        asked = f"; make it assert what {found[0]} must answer" if (found := _asked(check)) else ""
        return f"fix the check: {check.where or check.nodeid}{asked}"
    if check.failure_class in (None, FailureClass.PLATFORM_BUG):
        return f"{_to_correct(check)}, then rerun the check"
    return _ACTIONS[check.failure_class]


#: Start of a summary about a service that did not answer: host and port, and the setting that names them.
_SILENT = re.compile(r"[\w.-]+(?::\d+)?(?: \([^()]+\))?(?=: \w*(?:Error|Timeout|Exception|Disconnected)\b)")
#: How many requests an action lists.
_ASKED = 3


def _to_correct(check: CheckResult) -> str:
    """Return what to correct: the checkout, a silent service, the routes asked, or else the assertion."""
    if check.static:
        return "fix what the summary names in the checkout"
    if silent := _SILENT.match(check.summary):
        return f"find out why {silent.group()} does not answer correctly, redeploy"
    asked = _asked(check)
    if not asked:
        return f"fix the platform so that {check.where or check.nodeid} passes, redeploy"
    return f"fix what serves {' or '.join(asked)}, redeploy"


def _asked(check: CheckResult) -> list[str]:
    """Return the requests of a check's last attempt, with the status of the answer, the last one first."""
    exchanges = [entry for entry in check.evidence if entry.get("kind") == "exchange"]
    found: dict[str, str] = {}
    for entry in reversed(exchanges):
        if entry.get("attempt") == exchanges[-1].get("attempt"):
            url = str(entry.get("url")).partition("?")[0]
            found.setdefault(f"{entry.get('method')} {url}", f" (answered {entry.get('status')})")
    return [f"{request}{answer}" for request, answer in found.items()][:_ASKED]


def _measured(check: CheckResult) -> tuple[str, str]:
    """Return the last figure with a bound: the observed value, and the bound in words."""
    for entry in reversed(check.evidence):
        bounds = figure_bounds(entry) if entry.get("kind") == "figure" else []
        if bounds:
            unit = f" {entry['unit']}" if entry.get("unit") else ""
            value = '""' if entry.get("value") == "" else entry.get("value")
            return f"{entry.get('name')} = {value}{unit}", bounds[-1]
    return "", ""


def _whole_suite(run: RunRecord) -> str:
    """Return the command that runs the whole suite with this run's options."""
    return f"readiness {'gate' if run.facts.gate else 'run'} {environment_option(run)}"


def environment_option(run: RunRecord) -> str:
    """Return the option for the run's environment; a path is joined, or pytest would use it as rootdir."""
    named = run.env_option or run.environment
    return f"--env{'=' if '/' in named else ' '}{shlex.quote(named)}"


def _blocker(
    *,
    rule: str,
    summary: str,
    next_action: str,
    check: str = "",
    also: Sequence[str] = (),
    behind: Sequence[str] = (),
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
        "behind": [*behind],
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

"""The report's tables that come from the plan, filled in from evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .exemptions import Exemption
from .formats import counted, format_moment, matching
from .goals import out_of, provenance
from .history import Streak
from .model import CheckResult, Outcome, RunRecord, Scope, Severity
from .plan import Deferral, Plan, Waiver
from .plan_tables import InventoryItem, OperationalItem, Rollback
from .review import figure_lines
from .verdict import is_settled

#: A figure of this name holds what was observed of a declared service: ``inventory/<key>/<column>``.
OBSERVED = "inventory"
_COLUMNS = ("url", "cpu", "memory", "image")


def deferral_rows(exemptions: Sequence[Exemption]) -> list[dict[str, Any]]:
    """Return every deferral with what it did in this run."""
    return [
        {
            "item": exemption.origin.item,
            "severity": exemption.origin.severity,
            "rationale": exemption.origin.rationale,
            "goal": exemption.origin.goal,
            "check": exemption.origin.check,
            "expires": format_moment(exemption.origin.expires) if exemption.origin.expires else None,
            **_effect(exemption),
        }
        for exemption in exemptions
        if isinstance(exemption.origin, Deferral)
    ]


def waiver_rows(exemptions: Sequence[Exemption]) -> list[dict[str, Any]]:
    """Return every waiver, who accepted what until when, with what it did in this run."""
    return [
        {
            "check": exemption.origin.check,
            "reason": exemption.origin.reason,
            "approver": exemption.origin.approver,
            "owner": exemption.origin.owner,
            "issued": format_moment(exemption.origin.issued),
            "expires": format_moment(exemption.origin.expires),
            **_effect(exemption),
        }
        for exemption in exemptions
        if isinstance(exemption.origin, Waiver)
    ]


def inventory_rows(run: RunRecord, plan: Plan) -> list[dict[str, Any]]:
    """Return the declared services, each beside what the run observed of it and the build it reported."""
    figures = {
        entry.get("name"): entry.get("value")
        for check in run.results
        for entry in check.evidence
        if entry.get("kind") == "figure"
    }
    rows = []
    for item in plan.inventory:
        declared, observed = asdict(item), _observed(item, figures, run.build_identity)
        differs = [name for name in _COLUMNS if name in observed and _differs(declared[name], observed[name])]
        rows.append({**declared, "observed": observed, "differs": differs})
    return rows


def operational_rows(
    run: RunRecord,
    results: Sequence[CheckResult],
    plan: Plan,
    live_streak: Streak | None,
    deployed: bool,
) -> list[dict[str, Any]]:
    """Return the operational items, ticked from evidence: the checks that they name, or the ledger."""
    rows = []
    for item in plan.operational:
        if item.rule == "live-run":
            done = deployed
            evidence = (
                "a green run of a live environment is in the ledger" if done else "no green live run yet"
            )
        elif item.rule == "streak":
            done = live_streak is not None and live_streak.reached
            evidence = f"{live_streak}: {live_streak.why}" if live_streak else "no live run in the ledger"
        else:
            done, evidence = _ticked(item, run, results)
        rows.append(
            {
                "item": item.item,
                "done": done,
                "evidence": evidence,
                "figures": figure_lines(item.figures, results),
                "checks": list(item.checks),
            }
        )
    return rows


def rollback_rows(run: RunRecord, results: Sequence[CheckResult], plan: Plan) -> list[dict[str, Any]]:
    """Return the ways back; ``verified`` is None where no check of this run verifies them."""
    return [_way_back(way, run, results) for way in plan.rollback]


def _effect(exemption: Exemption) -> dict[str, Any]:
    return {"state": exemption.state.value, "note": exemption.text, "covers": list(exemption.checks)}


def _observed(item: InventoryItem, figures: Mapping[Any, Any], build: Mapping[str, str]) -> dict[str, Any]:
    columns = {name: figures.get(f"{OBSERVED}/{item.key}/{name}") for name in _COLUMNS}
    seen = {name: value for name, value in columns.items() if value is not None}
    return seen | ({"build": build[item.key]} if build.get(item.key) else {})


def _differs(declared: object, observed: object) -> bool:
    """Tell whether something else was observed; what follows a "$" in a declaration is for the run to say."""
    known, mark, _ = str(declared or "").partition("$")
    return bool(known) and not (str(observed).startswith(known) if mark else str(observed) == known)


def _ticked(item: OperationalItem, run: RunRecord, results: Sequence[CheckResult]) -> tuple[bool, str]:
    if item.live and not run.live:
        return False, f"needs a live environment; {run.environment} is embedded"
    if run.scope is Scope.PARTIAL:
        return False, "a partial run ticks nothing"
    if not run.is_complete:
        return False, "an unfinished run ticks nothing"
    return _all_passed(item.checks, run, results)


def _way_back(way: Rollback, run: RunRecord, results: Sequence[CheckResult]) -> dict[str, Any]:
    found = matching(way.checks, (check.id for check in results))
    done, evidence = _all_passed(way.checks, run, results) if found else (None, "not verified in this run")
    return {
        "title": way.title,
        "kind": way.kind,
        "steps": list(way.steps),
        "checks": list(way.checks),
        "verified": done,
        "evidence": evidence,
        "figures": figure_lines(way.figures, results),
    }


def _all_passed(patterns: Sequence[str], run: RunRecord, results: Sequence[CheckResult]) -> tuple[bool, str]:
    """Tell whether each pattern has a check and all ran and passed (a P1 also on a rerun), and where.

    Only what another check covers, which passed itself, need not run.
    """
    ids = [check.id for check in results]
    unmatched = [pattern for pattern in patterns if not matching([pattern], ids)]
    wanted = set(matching(patterns, ids))
    named = [check for check in results if check.id in wanted]
    short = [check for check in named if not _holds(check) and not is_settled(check, results)]
    if short:
        others = f", and {len(short) - 1} more" if len(short) > 1 else ""
        summary = f": {short[0].reason}" if short[0].reason else ""
        return (
            False,
            f"{short[0].id} {short[0].outcome}{others}{out_of(len(named))}{summary}",
        )
    if unmatched:
        return False, f"no check of this run matches {', '.join(unmatched)}"
    passed = [check for check in named if _holds(check)]
    covered = f", {len(named) - len(passed)} covered by another check" if len(passed) < len(named) else ""
    where = provenance(passed, live=run.live, checkout=run.checkout)
    return True, f"{counted(len(passed), 'check')} passed{covered}{where}"


def _holds(check: CheckResult) -> bool:
    return check.outcome is Outcome.PASSED or (
        check.outcome is Outcome.FLAKY and check.severity is Severity.P1
    )

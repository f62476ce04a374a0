"""What the report shows in addition to the verdict: figures, charts, who acts next.

Also the report's tables from the plan, completed with evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from .formats import counted, format_moment, is_amount, matches, matching, number
from .goals import Exemption, out_of, provenance
from .history import HELD, Streak
from .model import CheckResult, FailureClass, Outcome, RunRecord, Scope, Severity
from .plan import FIELD, Chart, Deferral, FigureLine, InventoryItem, OperationalItem, Plan, Rollback, Waiver
from .verdict import is_not_applicable, is_settled

#: Who acts next if the plan names no owner, or the platform's owner cannot act.
_WHOSE = {
    FailureClass.SETUP_ERROR: "the runner",
    FailureClass.CHECK_ERROR: "the suite",
    FailureClass.EXTERNAL_OUTAGE: "a third party",
}
PLATFORM, CALLER = "the platform", "whoever runs the suite"

Measured = tuple[CheckResult, Mapping[str, Any]]


def figure_lines(lines: Sequence[FigureLine], results: Sequence[CheckResult]) -> list[str]:
    """Return the plan's sentences with their figures, without those that have no figure in this run.

    Fields: ``value``, ``expected``, ``limit``, ``unit`` of the last figure, ``short``: its first 7
    characters; ``values``: each distinct one; ``count``, ``sum``, ``min``, ``max``, ``expected_sum`` over
    all; ``checks``: how many recorded one, ``failed``: how many of these did not pass. For an evaluated rule
    the value is how often it was compared.
    """
    found = (_line(line, _measured(results, line.name, line.checks)) for line in lines)
    return [line for line in found if line]


def charts(plan: Plan, results: Sequence[CheckResult]) -> list[dict[str, Any]]:
    """Return the plan's charts with their points, without charts that have none."""
    found = (_chart(chart, _measured(results, chart.name, chart.checks)) for chart in plan.charts)
    return [chart for chart in found if chart["points"]]


def kept_figures(drawn: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the charts' figures for the ledger, so that a later run can tell what moved."""
    return {
        f"{chart['title']}: {point['label']}": point["value"]
        for chart in drawn
        if chart["kind"] == "bars"
        for point in chart["points"]
    }


def outcomes(results: Iterable[CheckResult]) -> dict[str, int]:
    """Return how many checks ended in each way, without zeros."""
    counted = Counter(check.outcome for check in results)
    return {outcome.value: counted[outcome] for outcome in Outcome if counted[outcome]}


def phases(plan: Plan, results: Sequence[CheckResult]) -> list[dict[str, Any]]:
    """Return for each phase, in the plan's order, its checks by outcome and their total seconds."""
    names = dict.fromkeys((*plan.phases, *(check.phase for check in results)))
    members = ((name, [check for check in results if check.phase == name]) for name in names)
    return [
        {
            "name": name,
            "outcomes": outcomes(checks),
            "seconds": round(sum(each.duration_s for each in checks), 3),
        }
        for name, checks in members
        if checks
    ]


def owner(plan: Plan, blocker: Mapping[str, Any]) -> dict[str, str]:
    """Return who acts on a blocker, with contact and runbook: an owner by check, by service, by goal.

    Faults of the runner, the suite or a third party are not the owner's to fix. Blockers without a check,
    such as a missing run, are for whoever runs the suite, unless the blocker's goal has an owner.
    """
    default = _WHOSE.get(FailureClass(blocker["class"])) if blocker.get("class") else None
    check, goal = str(blocker.get("check", "")), blocker.get("goal", "")
    words = set(check.replace("[", "-").replace("]", "-").replace("/", "-").replace(".", "-").split("-"))
    tests = (
        lambda owner: check and any(matches(pattern, check) for pattern in owner.checks),
        lambda owner: words & {*owner.services},
        lambda owner: goal in owner.goals,
    )
    owner = next((owner for test in tests for owner in plan.owners if test(owner)), None)
    if default or owner is None:
        return {
            "team": default or (PLATFORM if blocker.get("class") else CALLER),
            "contact": "",
            "runbook": "",
        }
    return {"team": owner.team, "contact": owner.contact, "runbook": owner.runbook}


def _measured(results: Iterable[CheckResult], name: str, checks: str) -> list[Measured]:
    """Return the figures and evaluated rules of this name from matching checks, in the order of the run."""
    return [
        (check, entry)
        for check in results
        if matches(checks, check.id)
        for entry in check.evidence
        if entry.get("kind") in ("figure", "evaluated") and matches(name, str(_name(entry)))
    ]


def _name(entry: Mapping[str, Any]) -> object:
    return entry.get("name") if entry.get("kind") == "figure" else entry.get("rule")


def _value(entry: Mapping[str, Any]) -> Any:
    return entry.get("value") if entry.get("kind") == "figure" else entry.get("times")


def _expected(entry: Mapping[str, Any]) -> Any:
    """Return a figure's expected value; an evaluated rule held every time."""
    return entry.get("expected") if entry.get("kind") == "figure" else entry.get("times")


def _line(line: FigureLine, measured: Sequence[Measured]) -> str:
    if not measured:
        return ""
    last, ids = measured[-1][1], {check.id: check for check, _ in measured}
    values = [_value(entry) for _, entry in measured]
    amounts = [*filter(is_amount, values)]
    expected = [*filter(is_amount, (_expected(entry) for _, entry in measured))]
    failed = sum(check.outcome not in HELD for check in ids.values())
    words = {
        "value": _shown(_value(last)),
        "short": number(_value(last))[:7],
        "values": ", ".join(dict.fromkeys(map(_shown, _flat(values)))),
        "count": _shown(len(measured)),
        "sum": _shown(sum(amounts)),
        "min": _shown(min(amounts, default=None)),
        "max": _shown(max(amounts, default=None)),
        "unit": str(last.get("unit") or ""),
        "expected": _shown(last.get("expected")),
        "expected_sum": _shown(sum(expected)),
        "limit": _shown(last.get("limit")),
        "checks": _shown(len(ids)),
        "failed": _shown(failed),
    }
    text = FIELD.sub(lambda match: words[match[1]], line.text)
    short = "the only check" if len(ids) == 1 else f"{failed} of {len(ids)} checks"
    return f"{text} ({short} did not pass)" if failed else text


def _shown(value: object) -> str:
    """Group the digits of an integer; a figure in a sentence is read, not copied."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else number(value)


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        yield from value if isinstance(value, list | tuple) else (value,)


def _chart(chart: Chart, measured: Sequence[Measured]) -> dict[str, Any]:
    found = [(check, entry) for check, entry in measured if is_amount(_value(entry))]
    names = Counter(_name(entry) for _, entry in found)
    labels: Counter[str] = Counter()
    points, total = [], 0.0
    for check, entry in found:
        label = str(_name(entry)) if names[_name(entry)] == 1 else check.id
        labels[label] += 1
        label += f" #{labels[label]}" if labels[label] > 1 else ""
        total += _value(entry)
        limit = (chart.limit or None) if chart.kind == "total" else entry.get("limit")
        value = total if chart.kind == "total" else _value(entry)
        points.append({"label": label, "value": value, "limit": limit if is_amount(limit) else None})
    unit = next((str(entry["unit"]) for _, entry in found if entry.get("unit")), "")
    return {"title": chart.title, "kind": chart.kind, "unit": unit, "points": points}


#: Name of a figure with the observed value of a declared service: ``inventory/<key>/<column>``.
OBSERVED = "inventory"
_COLUMNS = ("url", "cpu", "memory", "image")


def deferral_rows(exemptions: Sequence[Exemption]) -> list[dict[str, Any]]:
    """Return every deferral with its effect in this run."""
    keys = ("item", "severity", "rationale", "goal", "check", "expires")
    return [_exempted(each, keys) for each in exemptions if isinstance(each.origin, Deferral)]


def waiver_rows(exemptions: Sequence[Exemption]) -> list[dict[str, Any]]:
    """Return every waiver, with its effect in this run."""
    keys = ("check", "reason", "approver", "owner", "issued", "expires")
    return [_exempted(each, keys) for each in exemptions if isinstance(each.origin, Waiver)]


def _exempted(exemption: Exemption, keys: Sequence[str]) -> dict[str, Any]:
    values = {key: getattr(exemption.origin, key) for key in keys}
    shown = {key: format_moment(each) if isinstance(each, datetime) else each for key, each in values.items()}
    effect = {"state": exemption.state.value, "note": exemption.text, "covers": list(exemption.checks)}
    return shown | effect


def inventory_rows(run: RunRecord, plan: Plan) -> list[dict[str, Any]]:
    """Return the declared services, each with the observed values and the reported build."""
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
    run: RunRecord, results: Sequence[CheckResult], plan: Plan, live_streak: Streak | None, deployed: bool
) -> list[dict[str, Any]]:
    """Return the operational items, ticked by evidence: by their checks, or by the ledger."""
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
    """Return the rollback procedures; ``verified`` is None if no check of this run verifies them."""
    return [_way_back(way, run, results) for way in plan.rollback]


def _observed(item: InventoryItem, figures: Mapping[Any, Any], build: Mapping[str, str]) -> dict[str, Any]:
    columns = {name: figures.get(f"{OBSERVED}/{item.key}/{name}") for name in _COLUMNS}
    seen = {name: value for name, value in columns.items() if value is not None}
    return seen | ({"build": build[item.key]} if build.get(item.key) else {})


def _differs(declared: object, observed: object) -> bool:
    """Tell whether the observed value differs; the part after a "$" in a declaration may be anything."""
    known, mark, _ = str(declared or "").partition("$")
    return bool(known) and not (str(observed).startswith(known) if mark else str(observed) == known)


def _ticked(item: OperationalItem, run: RunRecord, results: Sequence[CheckResult]) -> tuple[bool, str]:
    if item.live and not run.live:
        return False, f"needs a live environment; {run.environment} is not live"
    if run.scope is Scope.PARTIAL:
        return False, "a partial run cannot tick an item"
    if not run.is_complete:
        return False, "an unfinished run cannot tick an item"
    return _all_passed(item.checks, run, results, applicable=item.applicable)


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


def _all_passed(
    patterns: Sequence[str], run: RunRecord, results: Sequence[CheckResult], *, applicable: bool = False
) -> tuple[bool, str]:
    """Tell whether each pattern has a check and all ran and passed (a P1 also on a rerun), and where.

    A check need not run if the check that covers it passed, or if it does not apply and only ``applicable``
    checks are required.
    """
    ids = [check.id for check in results]
    unmatched = [pattern for pattern in patterns if not matching([pattern], ids)]
    wanted = set(matching(patterns, ids))
    named = [check for check in results if check.id in wanted]
    away = [check for check in named if applicable and is_not_applicable(check)]
    named = [check for check in named if check not in away] or named
    short = [check for check in named if not _holds(check) and not is_settled(check, results)]
    if short:
        others = f", and {len(short) - 1} more" if len(short) > 1 else ""
        summary = f": {short[0].reason}" if short[0].reason else ""
        return False, f"{short[0].id} {short[0].outcome}{others}{out_of(len(named))}{summary}"
    if unmatched:
        return False, f"no check of this run matches {', '.join(unmatched)}"
    passed = [check for check in named if _holds(check)]
    covered = f", {len(named) - len(passed)} covered by another check" if len(passed) < len(named) else ""
    beside = f", {len(away)} not applicable here" if away else ""
    where = provenance(passed, live=run.live, checkout=run.checkout)
    return True, f"{counted(len(passed), 'check')} passed{covered}{beside}{where}"


def _holds(check: CheckResult) -> bool:
    return check.outcome is Outcome.PASSED or (
        check.outcome is Outcome.FLAKY and check.severity is Severity.P1
    )

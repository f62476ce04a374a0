"""Compares a run with its predecessors: green runs in a row, checks that vanished, differences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .errors import LedgerError
from .formats import counted, format_day, is_amount, matching, parse_moment
from .model import CheckResult, FailureClass, Outcome, Severity, Vanished, Verdict
from .plan import Plan, Policy

Entry = Mapping[str, Any]
#: How far back a run looks for the last green run, which only its report shows.
LOOKED_BACK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """An environment's green runs in a row, the required number, and why there are not more."""

    length: int
    required: int
    why: str
    #: Ids of the runs that count, newest first.
    runs: tuple[str, ...] = ()

    @property
    def reached(self) -> bool:
        """Whether the plan's length is reached."""
        return self.length >= self.required

    def __str__(self) -> str:
        return progress(self.length, self.required)


def progress(length: int, required: int) -> str:
    """Return a streak as "2/3"; a longer one than required as "7 in a row, 3 needed"."""
    return f"{length} in a row, {required} needed" if length > required else f"{length}/{required}"


def is_enough(entries: Sequence[Entry], policy: Policy, now: datetime) -> bool:
    """Tell whether these newest entries suffice to judge a run, so that older ones would change nothing.

    The streak is complete or ends within them, they show whether a green live run ever existed, and one of
    them lists the suite's checks, from which vanished ones are found.
    """
    runs, ended, _ = _counted(entries, policy, now)
    settled = bool(ended) or len(runs) >= policy.streak_length
    if not settled or _green_live_run(entries, policy) is None or not any(map(_is_whole, entries)):
        return False
    return len(entries) >= LOOKED_BACK or any(is_green(entry, policy) for entry in entries)


def streak(entries: Sequence[Entry], policy: Policy, now: datetime) -> Streak:
    """Count green runs back from the newest entry (the last); entries are those of one environment's ledger.

    The order in the ledger decides; times matter only for spacing and age. A run id counts once. An uncounted
    run (NO_VERDICT only because of outages, or a flaky P0) neither counts nor breaks the streak, up to
    ``max_uncounted_runs`` in a row. Any other run that is not green breaks it. Another build, another digest
    of suite or plan, another address of a live platform, or a change between live and not live starts a new
    one. A run closer than ``streak_min_spacing_s`` to the next one does not count; one older than
    ``streak_max_age_days`` ends the streak. LedgerError for an entry without its facts.
    """
    runs, ended, passed_over = _counted(entries, policy, now)
    why = (ended or _beginning(entries)) + passed_over
    ahead = next((entry for entry in reversed(entries) if _finished(entry) > now), None)
    if ahead is not None:
        why += f"; {_name(ahead)} is dated in the future: compare the runners' clocks"
    return Streak(length=len(runs), required=policy.streak_length, why=why, runs=tuple(runs))


def _counted(entries: Sequence[Entry], policy: Policy, now: datetime) -> tuple[dict[str, None], str, str]:
    """Return the ids of the runs that count, newest first, and what ended the streak ("" if nothing did).

    The third value says which runs between them do not count, to end a sentence.
    """
    runs: dict[str, None] = {}
    ended, close, silent = "", 0, 0
    uncounted, newer = 0, None
    subject: Entry | None = None
    for entry in reversed(entries):
        ended = "" if subject is None else _change(entry, subject, policy)
        if ended:
            break
        if is_green(entry, policy):
            if now - _finished(entry) > timedelta(days=policy.streak_max_age_days):
                ended = f"{_name(entry)} is older than {policy.streak_max_age_days} days"
                break
            subject, uncounted = entry, 0
            if newer is None or _is_spaced(entry, newer, policy):
                runs[str(_fact(entry, "run_id"))] = None
                newer = entry
            elif _fact(entry, "run_id") not in runs:
                close += 1
        elif entry.get("uncounted"):
            subject, uncounted, silent = subject or entry, uncounted + 1, silent + 1
            if uncounted > policy.max_uncounted_runs:
                silent -= uncounted
                ended = f"more than {policy.max_uncounted_runs} runs in a row did not count"
                break
        else:
            last = f"{_name(entry)}, which was {_described(entry)}"
            ended = f"counted after {last}" if runs else f"none after {last}"
            break
    return runs, ended, _without(close, silent, policy)


def _without(close: int, silent: int, policy: Policy) -> str:
    """Say how many green runs came too soon, and how many runs proved nothing; "" for none."""
    soon = f"{counted(close, 'run')} within {policy.streak_min_spacing_s} s of a later one" if close else ""
    void = f"{counted(silent, 'run')} that proved nothing" if silent else ""
    kinds = " and ".join(filter(None, (soon, void)))
    return f", without {kinds}" if kinds else ""


def _beginning(entries: Sequence[Entry]) -> str:
    if not entries:
        return "no run in the ledger"
    if entries[0].get("seq", 1) == 1:
        return "counted from the ledger's first run"
    return f"counted in the ledger's last {counted(len(entries), 'run')}"


def is_green(entry: Entry, policy: Policy) -> bool:
    """Tell whether a ledger entry counts as a green run: READY, or DEGRADED where the plan accepts that.

    A run that was stopped is never green, nor is one with a flaky P0.
    """
    verdict = _fact(entry, "verdict")
    if entry.get("complete") is False:
        return False
    return verdict == Verdict.READY or (
        policy.streak_accepts_degraded
        and verdict == Verdict.DEGRADED
        and entry.get("uncounted") != FailureClass.FLAKE
    )


def has_green_live_run(entries: Sequence[Entry], policy: Policy) -> bool:
    """Tell whether a green run of a live environment is among the entries, or was before them."""
    return bool(_green_live_run(entries, policy))


def _green_live_run(entries: Sequence[Entry], policy: Policy) -> bool | None:
    """Return whether there was one; None when these entries, the newest, do not tell.

    Each entry carries on what was known with it, as ``deployed``; older versions wrote none.
    """
    for entry in reversed(entries):
        if entry.get("live") is True and is_green(entry, policy):
            return True
        if isinstance(entry.get("deployed"), bool):
            return entry["deployed"] is True
    return None


def _is_whole(entry: Entry) -> bool:
    """Tell whether an entry lists all checks of the suite."""
    return bool(entry.get("complete", True) and entry.get("checks"))


def _change(entry: Entry, subject: Entry, policy: Policy) -> str:
    """Return why an entry does not count together with a newer one, "" if it does."""
    if entry.get("live") is not subject.get("live"):
        return f"{_name(entry)} was {'live' if entry.get('live') else 'not live'}"
    for key, word in (("suite_digest", "suite"), ("plan_digest", "plan")):
        if entry.get(key) != subject.get(key):
            return f"earlier runs used another {word}"
    # Older versions' entries have no addresses, and a platform that a run starts itself has new ports each
    # time.
    was_at, is_at = entry.get("addresses"), subject.get("addresses")
    if subject.get("live") and isinstance(was_at, Mapping) and isinstance(is_at, Mapping):
        for name in sorted(was_at.keys() | is_at.keys()):
            before, after = was_at.get(name) or "not set", is_at.get(name) or "not set"
            if before != after:
                return f"{_name(entry)} tested another address: {name} was {before}, then {after}"
    older, newer = _build(entry), _build(subject)
    both_green = is_green(entry, policy) and is_green(subject, policy)
    for service in sorted(older.keys() | newer.keys()):
        before, after = older.get(service, ""), newer.get(service, "")
        # A service that was down in an uncounted run reported no build; that is not a change.
        if before != after and (both_green or (before and after)):
            was, is_ = before or "unknown", after or "unknown"
            return f"{_name(entry)} tested another build of {service}: {was}, then {is_}"
    return ""


def _build(entry: Entry) -> Mapping[str, str]:
    build = entry.get("build_identity")
    return build if isinstance(build, Mapping) else {}


def _is_spaced(entry: Entry, newer: Entry, policy: Policy) -> bool:
    """Tell whether two runs are far enough apart; without a required spacing, times do not matter."""
    least = policy.streak_min_spacing_s
    return not least or (_finished(newer) - _finished(entry)).total_seconds() >= least


def _finished(entry: Entry) -> datetime:
    try:
        return parse_moment(str(_fact(entry, "finished_at")))
    except ValueError as problem:
        raise LedgerError(f"run {entry.get('run_id')}: {problem}", where="ledger") from None


def _fact(entry: Entry, key: str) -> Any:
    if key not in entry:
        raise LedgerError(f"run {entry.get('run_id')} has no {key}", where="ledger")
    return entry[key]


def _name(entry: Entry) -> str:
    return f"run {entry.get('run_id', '?')} of {format_day(_finished(entry))}"


def _described(entry: Entry) -> str:
    return f"{_fact(entry, 'verdict')}{' (incomplete)' if entry.get('complete') is False else ''}"


def present_id(id_: str, renamed: Mapping[str, str]) -> str:
    """Return the current id of a check, using the plan's ``renamed``: ``a/old[x]`` is ``a/new[x]``."""
    name, bracket, rest = id_.partition("[")
    return renamed.get(id_) or f"{renamed.get(name, name)}{bracket}{rest}"


def vanished(
    entries: Sequence[Mapping[str, Any]], collected: Collection[str], plan: Plan
) -> tuple[Vanished, ...]:
    """Return the checks that the newest complete run of this environment had but that ``collected`` lacks.

    Nothing else fails if a check disappears. A run that was blocked by a vanished P0 passes it on, so that
    running twice does not settle it. Only a change of the plan does, best an entry in ``retired``, after
    which the check is not mentioned any more. A check that the plan has ``renamed`` is looked for under its
    present id. If the earlier run also had a check with that id, there were two, and one is gone.
    """
    newest: Entry = next(filter(_is_whole, reversed(entries)), {})
    run_id = str(newest.get("run_id"))
    unchanged = newest.get("plan_digest") == plan.digest
    had = {check["id"]: (check["severity"], run_id) for check in newest.get("checks", ())}
    if unchanged:
        had |= {check["id"]: (check["severity"], check["run_id"]) for check in newest.get("vanished", ())}
    known = frozenset(collected)
    now = {id_: present_id(id_, plan.renamed) for id_ in had}
    gone = [
        id_
        for id_ in had
        if id_ not in known and (now[id_] not in known or (now[id_] != id_ and now[id_] in had))
    ]
    on_purpose = matching(plan.retired, gone)
    return tuple(
        Vanished(
            id=id_,
            severity=Severity(had[id_][0]),
            run_id=had[id_][1],
            blocking=unchanged and had[id_][0] == Severity.P0,
        )
        for id_ in gone
        if id_ not in on_purpose
    )


#: How many past runs a report shows.
RUNS = 30
#: A figure has moved if it differs by more than half of its old value and by a twentieth of its limit.
MOVED, OF_LIMIT = 0.5, 0.05
#: A check has become slower if it takes half as long again, and at least this many seconds more.
NOTICED_S = 0.5
HELD = frozenset({Outcome.PASSED, Outcome.FLAKY})


def runs(entries: Sequence[Entry], plan: Plan, counted: Sequence[str]) -> list[dict[str, Any]]:
    """Return the newest runs of an environment, oldest first; ``counted`` are those of the streak."""
    return [
        {
            "run_id": entry.get("run_id"),
            "finished_at": entry.get("finished_at"),
            "seconds": _seconds(entry),
            "verdict": entry.get("verdict"),
            "complete": entry.get("complete", True),
            "green": is_green(entry, plan.policy),
            "counted": entry.get("run_id") in counted,
            "build_identity": entry.get("build_identity") or {},
        }
        for entry in entries[-RUNS:]
    ]


def changes(
    own: Mapping[str, Any],
    drawn: Sequence[Mapping[str, Any]],
    results: Sequence[CheckResult],
    entries: Sequence[Entry],
    plan: Plan,
) -> dict[str, Any] | None:
    """Return the differences from the last green run before this one; None if there was none.

    ``own`` is this run as :func:`runs` returns it. Fixed checks are relative to the previous run, green or
    not.
    """
    earlier = [entry for entry in entries if entry.get("run_id") != own["run_id"]]
    green = next((entry for entry in reversed(earlier) if is_green(entry, plan.policy)), None)
    if green is None:
        return None
    held, before = _held(green), _held(earlier[-1])
    known = {check["id"] for entry in (green, earlier[-1]) for check in entry.get("checks", ())}
    held_now = [check.id for check in results if check.outcome in HELD]
    return {
        "run_id": green.get("run_id"),
        "finished_at": green.get("finished_at"),
        "builds": _builds(green, own),
        "failing": [check.id for check in results if check.outcome is Outcome.FAILED and (check.id in held)],
        "fixed": [name for name in held_now if name in known and name not in before],
        "moved": _moved(green.get("figures") or {}, drawn),
    }


def differences(before: Entry, after: Entry) -> dict[str, list[dict[str, Any]]]:
    """Return the differences between two runs, each a ledger entry or a saved model.

    ``builds``; checks that are newly ``failing`` (even if deferred), ``fixed``, ``silent`` (passed before, no
    result now), ``new`` and ``gone``; ``slower`` and ``faster`` ones, in seconds; ``moved`` figures.
    """
    old, new = ({check["id"]: check for check in entry.get("checks") or ()} for entry in (before, after))
    found: dict[str, list[dict[str, Any]]] = {"builds": _builds(before, after)}
    found |= {kind: [] for kind in ("failing", "fixed", "silent", "new", "gone", "slower", "faster")}
    for name in [*new, *(name for name in old if name not in new)]:
        was, is_ = old.get(name, {}), new.get(name, {})
        row = {"id": name, "severity": (is_ or was).get("severity"), "class": is_.get("class")}
        row |= {"before": was.get("outcome"), "after": is_.get("outcome")}
        if (kind := _changed(row)) is not None:
            found[kind].append(row)
        took = was.get("duration_s"), is_.get("duration_s")
        if is_amount(took[0]) and is_amount(took[1]) and abs(took[1] - took[0]) > max(NOTICED_S, took[0] / 2):
            moved = {"id": name, "before": took[0], "after": took[1]}
            found["slower" if took[1] > took[0] else "faster"].append(moved)
    figures = (before.get("figures") or {}, after.get("figures") or {})
    found["moved"] = [
        {"name": name, "before": earlier, "after": value}
        for name, value in figures[1].items()
        if is_amount(earlier := figures[0].get(name))
        and is_amount(value)
        and abs(value - earlier) > MOVED * abs(earlier)
    ]
    return found


def _changed(row: Mapping[str, Any]) -> str | None:
    before, after = row["before"], row["after"]
    if before is None or after is None:
        return "new" if before is None else "gone"
    if after == Outcome.FAILED:
        return "failing" if before != Outcome.FAILED else None
    if after in HELD:
        return "fixed" if before not in HELD else None
    if before not in HELD:
        return None
    return "failing" if after == Outcome.DEFERRED else "silent"


def _builds(before: Entry, after: Mapping[str, Any]) -> list[dict[str, Any]]:
    old, new = before.get("build_identity") or {}, after.get("build_identity") or {}
    return [
        {"service": name, "before": old.get(name, ""), "after": new.get(name, "")}
        for name in sorted({*old, *new})
        if old.get(name, "") != new.get(name, "")
    ]


def _seconds(entry: Entry) -> float | None:
    try:
        took = parse_moment(str(entry["finished_at"])) - parse_moment(str(entry["started_at"]))
    except (KeyError, ValueError):
        return None
    return round(max(took, timedelta()).total_seconds(), 1)


def _held(entry: Entry) -> set[str]:
    return {check["id"] for check in entry.get("checks", ()) if check.get("outcome") in HELD}


def _moved(before: Mapping[str, Any], drawn: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for chart in drawn:
        for point in chart["points"] if chart["kind"] == "bars" else ():
            name = f"{chart['title']}: {point['label']}"
            old, new = before.get(name), point["value"]
            least = OF_LIMIT * point["limit"] if point["limit"] else 0.0
            if is_amount(old) and abs(new - old) > max(MOVED * abs(old), least):
                found.append({"name": name, "before": old, "after": new, "unit": chart["unit"]})
    return found

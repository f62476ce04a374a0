"""Consecutive green runs of one environment: how many, and why not more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .errors import LedgerError
from .formats import format_day, parse_moment
from .model import FailureClass, Verdict
from .plan import Policy

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """How many green runs in a row an environment has, out of how many, and why not more."""

    length: int
    required: int
    why: str

    @property
    def reached(self) -> bool:
        """Whether the plan's length is reached."""
        return self.length >= self.required

    def __str__(self) -> str:
        return progress(self.length, self.required)


def progress(length: int, required: int) -> str:
    """Return a streak as "2/3"; a longer one than required as "3/3 (7 in all)"."""
    text = f"{min(length, required)}/{required}"
    return f"{text} ({length} in all)" if length > required else text


def streak(entries: Sequence[Entry], policy: Policy, now: datetime) -> Streak:
    """Count green runs back from the newest entry (the last); entries are those of one environment's ledger.

    Green: READY, or DEGRADED without a flaky P0. A run that is uncounted (NO_VERDICT for outages alone, or a
    flaky P0) neither counts nor breaks, at most ``max_uncounted_runs`` in a row. Any other verdict breaks.
    Another build, another digest of suite or plan, or a change between live and embedded starts anew. A run
    closer than ``streak_min_spacing_s`` to the next one does not count; one older than
    ``streak_max_age_days`` ends the streak. LedgerError for an entry without its facts.
    """
    length, uncounted, newer = 0, 0, None
    subject: Entry | None = None
    for entry in reversed(entries):
        change = "" if subject is None else _change(entry, subject)
        if change:
            return _streak(length, policy, f"{_name(entry)} {change}")
        if is_green(entry):
            if now - _finished(entry) > timedelta(days=policy.streak_max_age_days):
                return _streak(
                    length, policy, f"{_name(entry)} is older than {policy.streak_max_age_days} days"
                )
            subject, uncounted = entry, 0
            if newer is None or _spacing(entry, newer) >= policy.streak_min_spacing_s:
                length, newer = length + 1, entry
        elif entry.get("uncounted"):
            subject, uncounted = subject or entry, uncounted + 1
            if uncounted > policy.max_uncounted_runs:
                why = f"more than {policy.max_uncounted_runs} runs in a row did not count"
                return _streak(length, policy, why)
        else:
            return _streak(length, policy, f"{_name(entry)} was {_fact(entry, 'verdict')}")
    return _streak(length, policy, "the ledger holds no earlier run" if entries else "no run in the ledger")


def is_green(entry: Entry) -> bool:
    """Tell whether a ledger entry counts as a green run."""
    verdict = _fact(entry, "verdict")
    return verdict == Verdict.READY or (
        verdict == Verdict.DEGRADED and entry.get("uncounted") != FailureClass.FLAKE
    )


def has_green_live_run(entries: Iterable[Entry]) -> bool:
    """Tell whether a green run of a live environment is among the entries."""
    return any(entry.get("live") is True and is_green(entry) for entry in entries)


def _change(entry: Entry, subject: Entry) -> str:
    if entry.get("live") is not subject.get("live"):
        return "was live" if entry.get("live") else "was on the embedded platform"
    for key, word in (("suite_digest", "suite"), ("plan_digest", "plan")):
        if entry.get(key) != subject.get(key):
            return f"had another {word}"
    older, newer = _build(entry), _build(subject)
    both_green = is_green(entry) and is_green(subject)
    for service in sorted(older.keys() | newer.keys()):
        before, after = older.get(service, ""), newer.get(service, "")
        # A service that was down in an uncounted run reported no build, which is no change.
        if before != after and (both_green or (before and after)):
            return f"tested another build of {service}: {before or 'unknown'}, then {after or 'unknown'}"
    return ""


def _build(entry: Entry) -> Mapping[str, str]:
    build = entry.get("build_identity")
    return build if isinstance(build, Mapping) else {}


def _spacing(entry: Entry, newer: Entry) -> float:
    return (_finished(newer) - _finished(entry)).total_seconds()


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


def _streak(length: int, policy: Policy, why: str) -> Streak:
    return Streak(length=length, required=policy.streak_length, why=why)

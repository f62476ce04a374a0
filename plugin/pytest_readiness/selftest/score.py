"""What mutants proved: the score (mutants.json, schema version 1), its page, its terminal lines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from ..core.formats import counted, format_moment, one_line
from .mutants import KILLED, NOT_STARTED, UNREACHED, Fate, Mutant, News

SCHEMA_VERSION = 1
_LIMIT = 100
_DEAD = frozenset((KILLED, NOT_STARTED))


def record(
    fates: Sequence[Fate],
    alarms: Sequence[Mapping[str, str]],
    mutants: Sequence[Mutant],
    *,
    scope: str,
    suite_digest: str,
    date: datetime,
    duration_s: float,
) -> dict[str, Any]:
    """Return the model as plain JSON values. A score is killed / (all - equivalent), in percent.

    What does not start counts as killed and is counted apart. ``scope`` says which mutants were tried.
    """
    rows = [fate.as_data() for fate in sorted(fates, key=lambda fate: fate.mutant.id)]
    return {
        "schema_version": SCHEMA_VERSION,
        "scope": scope,
        "date": format_moment(date),
        "suite_digest": suite_digest,
        "duration_s": round(duration_s, 1),
        **_counts(rows),
        "equivalent": sum(bool(each.equivalent) for each in mutants),
        "known": len(mutants),
        "groups": _by(rows, "group"),
        "operators": _by(rows, "operator"),
        "files": _by([{**row, "file": row["where"].rpartition(":")[0]} for row in rows], "file"),
        "mutants": rows,
        "alarms": list(alarms),
        "equivalents": [{"id": each.id, "reason": each.equivalent} for each in mutants if each.equivalent],
    }


def _by(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    return {
        name: _counts([row for row in rows if row[key] == name])
        for name in sorted({row[key] for row in rows})
    }


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    killed = sum(row["outcome"] in _DEAD for row in rows)
    return {
        "score": round(100 * killed / len(rows), 1) if rows else None,
        "killed": killed,
        "total": len(rows),
        "not_started": sum(row["outcome"] == NOT_STARTED for row in rows),
        "not_reached": sum(row["outcome"] == UNREACHED for row in rows),
    }


def survivors(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of what no check killed."""
    return [row for row in model["mutants"] if row["outcome"] not in _DEAD]


def headline(model: Mapping[str, Any]) -> str:
    """Return the answer in one line."""
    return (
        f"{model['score']} % of {counted(model['total'], 'mutant')} killed "
        f"({model['not_started']} do not start, {model['not_reached']} not reached), "
        f"{model['equivalent']} equivalent, {model['scope']}"
    )


def lines(model: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the terminal shows at the end."""
    for row in survivors(model):
        yield f"  {row['id']} [{row['service']}]: {_change(row)}"
    for name, counts in model["groups"].items():
        yield f"  {name:<20} {counts['score']:>5} %  {counts['killed']} of {counts['total']}"
    for alarm in model["alarms"]:
        yield f"red without a mutant: {alarm['check']}: {alarm['summary']}"
    yield f"mutants: {headline(model)}, {model['duration_s']:.0f} s"


def render(model: Mapping[str, Any]) -> str:
    """Return the page: the score by group, then every survivor, its change and what ran through it."""
    parts = [
        "# Mutants of the platform",
        f"**{headline(model)}**, on {model['date']}, in {model['duration_s']:.0f} s.",
        "| Group | Score | Killed | Mutants | Do not start | Not reached |\n|---|---|---|---|---|---|\n"
        + "\n".join(
            f"| {name} | {each['score']} % | {each['killed']} | {each['total']} | {each['not_started']} "
            f"| {each['not_reached']} |"
            for name, each in model["groups"].items()
        ),
    ]
    for group in model["groups"]:
        left = [row for row in survivors(model) if row["group"] == group]
        if left:
            parts.append(f"## Survivors: {group}\n\n" + "\n".join(map(_survivor, left)))
    return "\n\n".join(parts) + "\n"


def _change(row: Mapping[str, Any]) -> str:
    return f"{one_line(row['before'], _LIMIT)} => {one_line(row['after'], _LIMIT)}"


def _survivor(row: Mapping[str, Any]) -> str:
    through = ", ".join(row["reached_by"][:5]) or "no check"
    more = f" and {len(row['reached_by']) - 5} more" if len(row["reached_by"]) > 5 else ""
    odd = f"; {one_line(row['why'], _LIMIT)}" if row["why"] else ""
    return (
        f"- `{row['id']}` in {row['service']}, {row['where']}: `{_change(row)}`; "
        f"run through by {through}{more}{odd}"
    )


_EVERY_S = 10.0


class MutantProgress:
    """Tells of survivors and alarms at once, and how far everything is."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._began = self._told = time.monotonic()
        self._done = self._killed = 0

    def update(self, news: News) -> None:
        """Take one piece of news."""
        if isinstance(news, Fate):
            self._done += 1
            self._killed += news.outcome in _DEAD
            if news.outcome not in _DEAD:
                row = news.as_data()
                self._line(f"{news.outcome}: {row['id']} [{news.service}]: {_change(row)} {news.why}")
        else:
            self._line(f"red without a mutant: {news['check']}: {news['summary']}")
        now = time.monotonic()
        if now - self._told >= _EVERY_S:
            self._told = now
            left = (now - self._began) / self._done * (self._total - self._done) if self._done else 0.0
            text = f"{self._done} of {self._total} mutants, {self._killed} killed"
            self._line(f"{text}, about {left / 60:.0f} min left")

    def _line(self, text: str) -> None:
        self._stream.write(f"{one_line(text, 300)}\n")
        self._stream.flush()

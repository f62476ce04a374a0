"""The result of a self-test: its model (self-test.json, schema version 1), page and terminal lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from ..core.formats import counted, format_moment, one_line
from ..core.model import Scope
from .campaign import CleanRun, Leak, News, Results
from .catalogue import Catalogue, Finding

SCHEMA_VERSION = 1
_LIMIT = 160
#: Words for the time of a clean run: ``CleanRun.when``.
WHEN = {"before": "before the faults", "after": "after them", "variant": "on variants"}


def record(
    results: Results,
    catalogue: Catalogue,
    *,
    scope: Scope,
    uncovered: Sequence[str],
    changed: bool,
    date: datetime,
    duration_s: float,
    cpu_s: float,
) -> dict[str, Any]:
    """Return the model as plain JSON values. ``cpu_s`` covers all processes, including platforms.

    The suite's digest is the one that the runs reported. A suite that changed between them, or (``changed``)
    since it was imported, has none.
    """
    digests = results.suite_digests
    changed = changed or len(digests) > 1
    problems = ["the suite changed while it was tested"] if changed else []
    order = {fault.id: place for place, fault in enumerate(catalogue.faults)}
    findings = sorted(results.findings, key=lambda finding: order[finding.fault.id])
    alarms = [alarm.as_data() for run in results.clean_runs for alarm in run.alarms]
    when: Counter[str] = Counter(run.when for run in results.clean_runs)
    return {
        "schema_version": SCHEMA_VERSION,
        "scope": scope.value,
        "detected": sum(finding.detected for finding in findings),
        "total": len(findings),
        "false_alarms": len(alarms),
        "clean_runs": when.total() - when["control"],
        "clean_runs_when": {each: when[each] for each in WHEN},
        "control_runs": when["control"],
        "date": format_moment(date),
        "catalogue_digest": catalogue.digest,
        "suite_digest": digests.copy().pop() if digests and not changed else "",
        "duration_s": round(duration_s, 1),
        "cpu_s": round(cpu_s, 1),
        "spent_s": {what: round(seconds, 1) for what, seconds in sorted(results.spent.items())},
        "faults": [finding.as_data() for finding in findings],
        "alarms": alarms,
        "leaks": [leak.as_data() for leak in results.leaks],
        "uncovered": list(uncovered),
        "unfaulted": [{"check": entry.check, "reason": entry.reason} for entry in catalogue.unfaulted],
        "problems": problems,
    }


#: How many of the longest faults the terminal lists.
LONGEST = 5


def is_proved(model: Mapping[str, Any]) -> bool:
    """Tell whether everything was detected, nothing was red without a fault, and every check has a fault."""
    wrong = ("alarms", "leaks", "uncovered", "problems")
    return model["detected"] == model["total"] and not any(model[key] for key in wrong)


def headline(model: Mapping[str, Any]) -> str:
    """Return the result in one line."""
    partial = "partial: " if model["scope"] != "full" else ""
    number = sum(fault["refused"] for fault in model["faults"])
    refused = f"{number} refused by the platform, " if number else ""
    late = sum(fault["detected"] and bool(fault["missed"]) for fault in model["faults"])
    again = f" ({late} only at the second attempt)" if late else ""
    untried = f"{counted(len(model['uncovered']), 'check')} without a fault, " if model["uncovered"] else ""
    return (
        f"{partial}detected {model['detected']} of {model['total']}{again}, {refused}{untried}"
        f"{counted(model['false_alarms'], 'false alarm')} in {_clean_runs(model)}"
    )


def _clean_runs(model: Mapping[str, Any]) -> str:
    """Return how many clean runs there were, and when."""
    when = [f"{number} {WHEN[each]}" for each, number in model["clean_runs_when"].items() if number]
    found = [f"{counted(model['clean_runs'], 'clean run')} ({', '.join(when)})"] if when else []
    if model["control_runs"]:
        found.append(counted(model["control_runs"], "control run"))
    return " and ".join(found) or "no clean run"


def lines(model: Mapping[str, Any]) -> Iterator[str]:
    """Yield the terminal's last lines: what is wrong, where the time went, the result."""
    for title, entries in _wrong(model):
        yield f"{title}:"
        yield from (f"  {'  '.join(filter(None, entry))}" for entry in entries)
    spent = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in model["spent_s"].items())
    yield f"time of the platforms: {spent}; CPU of all processes: {model['cpu_s']:.0f} s"
    longest = sorted(model["faults"], key=lambda fault: -fault["seconds"])[:LONGEST]
    if longest:
        yield "longest faults: " + ", ".join(f"{fault['id']} {fault['seconds']:.0f} s" for fault in longest)
    yield f"self-test: {headline(model)}, {model['duration_s']:.0f} s"


def render(model: Mapping[str, Any]) -> str:
    """Return the page: the result, what is wrong, every fault, and checks that no fault can make fail."""
    parts = [
        "# Self-test of the suite",
        f"**{headline(model)}**, on {model['date']}, in {model['duration_s']:.0f} s.",
        f"Catalogue digest `{model['catalogue_digest']}`, suite digest `{model['suite_digest'] or 'none'}`.",
    ]
    for title, entries in _wrong(model):
        rows = "\n".join(f"- {_escaped(': '.join(filter(None, entry)))}" for entry in entries)
        parts.append(f"## {title.capitalize()}\n\n{rows}")
    faults = [
        (
            f"`{fault['id']}`",
            fault["goal"],
            fault["what"],
            _expected(fault["expected"]),
            _answer(fault),
            f"{fault['seconds']:.1f}",
        )
        for fault in model["faults"]
    ]
    columns = ("Fault", "Goal", "What the platform does", "What the suite must say", "Detected", "Seconds")
    parts.append("## Faults\n\n" + _table(columns, faults))
    if model["unfaulted"]:
        excused = [(f"`{entry['check']}`", entry["reason"]) for entry in model["unfaulted"]]
        parts.append("## Checks that no fault can turn red\n\n" + _table(("Check", "Reason"), excused))
    return "\n\n".join(parts) + "\n"


def _wrong(model: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[tuple[str, ...]]]]:
    """Yield a title and entries for each kind of problem found."""
    refused = [fault for fault in model["faults"] if fault["refused"]]
    undetected = [fault for fault in model["faults"] if not fault["detected"] and not fault["refused"]]
    kinds: Mapping[str, Iterable[tuple[str, ...]]] = {
        "undetected": ((fault["id"], fault["goal"], one_line(fault["why"], 400)) for fault in undetected),
        "detected only at the second attempt; the first": (
            (fault["id"], fault["goal"], one_line(fault["missed"], 400))
            for fault in model["faults"]
            if fault["detected"] and fault["missed"]
        ),
        "refused by the platform, so that nothing was proved": (
            (fault["id"], fault["goal"], one_line(fault["why"], 400)) for fault in refused
        ),
        "false alarms": (
            (alarm["run"], alarm["check"], one_line(alarm["summary"], _LIMIT)) for alarm in model["alarms"]
        ),
        "left something behind": ((leak["fault"], one_line(leak["what"], 400)) for leak in model["leaks"]),
        "checks that no fault names": ((check,) for check in model["uncovered"]),
        "problems": ((problem,) for problem in model["problems"]),
    }
    for title, entries in kinds.items():
        found = list(entries)
        if found:
            yield title, found


def _answer(fault: Mapping[str, Any]) -> str:
    if fault["detected"]:
        return "at the second attempt" if fault["missed"] else "yes"
    return f"**{'refused' if fault['refused'] else 'no'}**: {one_line(fault['why'], _LIMIT)}"


def _expected(expected: Mapping[str, Any]) -> str:
    named = ", ".join(
        f"`{check['id']}` {check['outcome']} ({check['severity']} {check['class']})"
        for check in expected["checks"]
    )
    return f"{expected['verdict']}: {named or 'no check complains'}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    ruled = ["---" for _ in columns]
    return "\n".join(f"| {' | '.join(map(_escaped, row))} |" for row in (columns, ruled, *rows))


def _escaped(text: str) -> str:
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")


_EVERY_S = 10.0
_WIDTH = 110


class Progress:
    """Prints important results at once, and progress."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._is_terminal = stream.isatty()
        self._began = self._printed_at = time.monotonic()
        self._done = self._undetected = self._alarms = self._clean = 0

    def update(self, news: News) -> None:
        """Accept one result."""
        if isinstance(news, Finding):
            self._done += 1
            if not news.detected and not news.refused:
                self._undetected += 1
                self._line(f"undetected: {news.fault.id}: {news.why}")
        elif isinstance(news, Leak):
            self._line(f"left something behind: {news.fault}: {news.what}")
        elif isinstance(news, CleanRun):
            self._clean += 1
            self._alarms += len(news.alarms)
            for alarm in news.alarms:
                self._line(f"false alarm: {alarm.run}: {alarm.check} {alarm.summary}")
        self._current()

    def end(self) -> None:
        """End the progress line."""
        if self._is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _current(self) -> None:
        now = time.monotonic()
        state = (
            f"{self._done} of {self._total} faults, {self._undetected} undetected, "
            f"{counted(self._alarms, 'false alarm')} in {counted(self._clean, 'run')} without a fault, "
            f"{now - self._began:.0f} s"
        )
        if self._is_terminal:
            self._stream.write(f"\r\x1b[K{state[:_WIDTH]}")
            self._stream.flush()
        elif now - self._printed_at >= _EVERY_S:
            self._printed_at = now
            self._line(state)

    def _line(self, text: str) -> None:
        self.end()
        self._stream.write(f"{text}\n")
        self._stream.flush()

"""How a self-test is shown: a page in Markdown, lines for the terminal. Neither counts nor judges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..core.formats import counted
from ..report.document import one_line

_LIMIT = 160


def headline(model: Mapping[str, Any]) -> str:
    """Return the answer in one line."""
    partial = "partial: " if model["scope"] != "full" else ""
    return (
        f"{partial}detected {model['detected']} of {model['total']}, "
        f"{counted(model['false_alarms'], 'false alarm')} in {counted(model['clean_runs'], 'clean run')} "
        f"and {counted(model['control_runs'], 'control run')}"
    )


def lines(model: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the terminal shows at the end: what is wrong, where the time went, the answer."""
    for title, entries in _wrong(model):
        yield f"{title}:"
        yield from (f"  {'  '.join(filter(None, entry))}" for entry in entries)
    spent = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in model["spent_s"].items())
    yield f"time of the platforms: {spent}; CPU of all processes {model['cpu_s']:.0f} s"
    yield f"self-test: {headline(model)}, {model['duration_s']:.0f} s"


def render(model: Mapping[str, Any]) -> str:
    """Return the page: the answer, what is wrong, every fault, and what no fault can turn red."""
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
            "yes" if fault["detected"] else f"**no**: {one_line(fault['why'], _LIMIT)}",
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
    """Yield a title and entries for each kind of trouble that there is."""
    undetected = [fault for fault in model["faults"] if not fault["detected"]]
    kinds: Mapping[str, Iterable[tuple[str, ...]]] = {
        "undetected": ((fault["id"], fault["goal"], one_line(fault["why"], 400)) for fault in undetected),
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

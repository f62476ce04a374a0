"""The content of a report in any format: first lines, then sections of blocks, each text safe on one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from ..core.formats import counted, one_line
from ..core.history import progress

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d[\d:.]*(?:Z|\+00:00)")
_CODE = re.compile(r"`([^`]+)`")

#: text: prose; code: an id, an address, an image; status: a word of the model (PASS, BROKEN, failed, P0).
Kind: TypeAlias = Literal["text", "code", "status"]


class Cell(NamedTuple):
    """One table cell; ``note`` is a second, quieter line (what was observed below what was declared).

    ``nowrap``: it stays on one line.
    """

    text: str
    kind: Kind = "text"
    note: str = ""
    nowrap: bool = False


class Table(NamedTuple):
    """A table; every row has as many cells as there are columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Tick(NamedTuple):
    """A checklist item, with the evidence that ticks it or leaves it open."""

    done: bool
    text: str
    note: str = ""


class Checklist(NamedTuple):
    """Items that are done or not, as the model decides, never by hand."""

    ticks: tuple[Tick, ...]


class Steps(NamedTuple):
    """A titled procedure, its steps in order; ``note`` says how it was verified."""

    title: str
    steps: tuple[str, ...]
    note: str = ""


class Paragraph(NamedTuple):
    """A sentence or two; ``strong`` emphasizes it."""

    text: str
    strong: bool = False


class Action(NamedTuple):
    """A blocker as a task: where, what was seen, which rule it breaks, what to do next.

    ``tags`` are words of the model: severity, goal, class. ``observed`` is the measured value with its bound.
    ``command`` reproduces it. ``who`` is the owner, if the plan names one.
    """

    where: str
    tags: tuple[str, ...]
    summary: str
    next_action: str
    command: str
    rule: str = ""
    observed: str = ""
    who: str = ""


class Actions(NamedTuple):
    """Blockers, the most important first."""

    actions: tuple[Action, ...]


Block: TypeAlias = Table | Checklist | Steps | Paragraph | Actions


class Section(NamedTuple):
    """A titled part of the page; a folded section is closed until a reader opens it."""

    title: str
    blocks: tuple[Block, ...]
    folded: bool = False


def moment(value: object) -> str:
    """Return a time of the model, in UTC, as "2026-11-27 22:05 UTC"; any other text as it is."""
    text = one_line(value, 40)
    if not _MOMENT.fullmatch(text):
        return text
    return f"{text[:10]} {text[11:16]} UTC"


_HASH = re.compile(r"(?:sha256:)?[0-9a-f]{20,}")


def identity(value: object) -> str:
    """Return a build: of a commit or digest its first characters, any other, such as a version, up to 40."""
    text = one_line(value)
    return f"{text[: text.find(':') + 13]}…" if _HASH.fullmatch(text) else one_line(text, 40)


def took(seconds: object) -> str:
    """Return a duration: in seconds with a decimal, in milliseconds below a tenth."""
    value = float(seconds) if isinstance(seconds, int | float) else 0.0
    return f"{value * 1000:.0f} ms" if 0 < value < 0.1 else f"{value:.1f} s"


def segments(text: str) -> Iterator[tuple[bool, str]]:
    """Split ``text`` at its `code` spans into (is code, content); a lone backtick stays text."""
    end = 0
    for match in _CODE.finditer(text):
        if match.start() > end:
            yield False, text[end : match.start()]
        yield True, match[1]
        end = match.end()
    if end < len(text):
        yield False, text[end:]


def members(cause: Mapping[str, Any]) -> list[Any]:
    """Return the ids of all checks that share a cause."""
    return [cause.get("check"), *(cause.get("also") or ()), *(cause.get("behind") or ())]


def and_others(row: Mapping[str, Any]) -> str:
    """Return a blocker's check, how many others have its cause, and how many did not run because of it."""
    others, behind = len(row.get("also") or ()), len(row.get("behind") or ())
    more = f" and {counted(others, 'more check')}" if others else ""
    return f"{one_line(row.get('check'))}{more}" + (
        f" ({behind} more not run because of it)" if behind else ""
    )


def observed_of(row: Mapping[str, Any]) -> str:
    """Return a blocker's measured value and its bound; "" without a bound."""
    return f"{one_line(row.get('observed'))}, {one_line(row['limit'])}" if row.get("limit") else ""


def owner_of(row: Mapping[str, Any]) -> str:
    """Return who acts on a blocker and how to reach them, "" if the plan names no owner for it."""
    whose = row.get("whose")
    named = (
        [one_line(whose.get(key), 80) for key in ("team", "contact")] if isinstance(whose, Mapping) else []
    )
    return ", ".join(named) if all(named) else ""


def summary_of(row: Mapping[str, Any], limit: int) -> str:
    """Return a blocker's summary, without the goal's id if that is shown before it anyway."""
    found = one_line(row.get("summary"), limit)
    return found if row.get("check") else found.removeprefix(f"{one_line(row.get('goal'))} ")


UNKNOWN_VERDICT = "NO_VERDICT"


class Headline(NamedTuple):
    """Verdict, declaration and circumstances as text.

    ``partial`` is a sentence; empty for a full run, and for a run that ended before its checks.
    """

    title: str
    verdict: str
    partial: str
    declaration: str
    why: str
    reasons: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def headline(model: Mapping[str, Any]) -> Headline:
    """Read the headline from a model; one that lacks a verdict is shown as NO_VERDICT, never as better."""
    partial = one_line(model.get("scope")) == "partial" and bool(model.get("checks") or model.get("goals"))
    return Headline(
        title=one_line(model.get("title"), 120) or "Launch readiness",
        verdict=one_line(model.get("verdict"), 40) or UNKNOWN_VERDICT,
        partial="PARTIAL: only part of the suite ran; neither the streak nor the declaration changes."
        if partial
        else "",
        declaration=one_line(model.get("declaration"), 80) or "none",
        why=one_line(model.get("declaration_why"), 400),
        reasons=tuple(one_line(reason, 400) for reason in model.get("reasons") or ()),
        facts=tuple((label, text) for label, text in _facts(model) if text),
    )


def _facts(model: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "Environment", _environment(model)
    yield "Addresses", pairs(model.get("addresses") if model.get("live") else None, 80)
    yield "Run", one_line(model.get("run_id"))
    yield (
        "Time",
        " to ".join(filter(None, (moment(model.get("started_at")), moment(model.get("finished_at"))))),
    )
    yield "Checks", counts(model)
    yield "Streak", streak(model)
    yield "Build", builds(model.get("build_identity")) if model.get("checks") else ""
    yield "Self-test", self_test(model)
    yield "Runner", one_line(model.get("runner"))


def builds(found: object) -> str:
    """Return each service's build, or a sentence that none is known."""
    if isinstance(found, Mapping) and not any(found.values()):
        return "unknown: the verdict cannot be tied to a build"
    return pairs(short_builds(found))


def short_builds(found: object) -> object:
    """Return service -> build with commits and digests shortened; anything else as it is."""
    return {name: identity(build) for name, build in found.items()} if isinstance(found, Mapping) else found


def _environment(model: Mapping[str, Any]) -> str:
    name = one_line(model.get("environment"))
    if not name or "live" not in model:
        return name
    return f"{name} (live)" if model["live"] else f"{name} (not live)"


def counts(model: Mapping[str, Any]) -> str:
    """Return the model's own counts, as "41 total, 40 passed, 1 skipped (1 not applicable here)"."""
    found = model.get("counts")
    if not isinstance(found, Mapping):
        return ""
    words = {name: one_line(name) for name in found if name != "not_applicable"}
    if found.get("skipped") and found.get("not_applicable"):
        words["skipped"] = f"skipped ({found['not_applicable']} not applicable here)"
    return ", ".join(f"{found[name]} {word}" for name, word in words.items() if found[name])


def streak(model: Mapping[str, Any]) -> str:
    """Return the streak as "2/3: why", or "" if the model has none."""
    found = model.get("streak")
    if not isinstance(found, Mapping) or not {"length", "required"} <= found.keys():
        return ""
    why = one_line(found.get("why"), 300)
    return progress(found["length"], found["required"]) + (f": {why}" if why else "")


def self_test(model: Mapping[str, Any]) -> str:
    """Return the last self-test's result for the suite, or "" without one."""
    found = model.get("self_test")
    if not isinstance(found, Mapping):
        return one_line(found)
    quote = (
        f"this suite detected {found.get('detected', '?')}/{found.get('total', '?')} seeded faults, "
        f"{found.get('false_alarms', '?')} false alarms"
    )
    untried = found.get("uncovered")
    if isinstance(untried, list) and untried:
        quote += f", {counted(len(untried), 'check')} without a fault"
    mutants = found.get("mutants")
    if isinstance(mutants, Mapping):
        killed, total, scope = (one_line(mutants.get(key, "?")) for key in ("killed", "total", "scope"))
        quote += f", {killed}/{total} mutants" + (f" ({scope})" if scope != "all" else "")
    when, digest = moment(found.get("date")), identity(found.get("catalogue_digest"))
    return quote + (f", on {when}" if when else "") + (f", catalogue digest {digest}" if digest else "")


def pairs(found: object, limit: int = 80) -> str:
    """Return a mapping as "name value, ..."; values are cut at ``limit``, an empty one reads as unknown."""
    if not isinstance(found, Mapping):
        return one_line(found)
    return ", ".join(
        f"{one_line(name)} {one_line(value, limit) or 'unknown'}" for name, value in found.items()
    )

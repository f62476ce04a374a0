"""The first lines of every report: what was asked, the answer, and what the answer rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.formats import one_line
from ..core.history import progress

UNKNOWN_VERDICT = "NO_VERDICT"


@dataclass(frozen=True, slots=True)
class Headline:
    """Verdict, declaration and circumstances as text. ``partial`` is a sentence, empty for a full run."""

    title: str
    verdict: str
    partial: str
    declaration: str
    why: str
    reasons: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def headline(model: Mapping[str, Any]) -> Headline:
    """Read the headline from a model; one that lacks a verdict is shown as NO_VERDICT, never as better."""
    partial = one_line(model.get("scope")) == "partial"
    return Headline(
        title=one_line(model.get("title"), 120) or "Launch readiness",
        verdict=one_line(model.get("verdict"), 40) or UNKNOWN_VERDICT,
        partial="PARTIAL: only a part of the suite ran; this moves neither the streak nor the declaration."
        if partial
        else "",
        declaration=one_line(model.get("declaration"), 80) or "none",
        why=one_line(model.get("declaration_why"), 400),
        reasons=tuple(one_line(reason, 400) for reason in model.get("reasons") or ()),
        facts=tuple((label, text) for label, text in _facts(model) if text),
    )


def _facts(model: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "Environment", _environment(model)
    yield "Run", one_line(model.get("run_id"))
    yield (
        "Time",
        " to ".join(filter(None, (one_line(model.get("started_at")), one_line(model.get("finished_at"))))),
    )
    yield "Checks", counts(model)
    yield "Streak", streak(model)
    yield "Build", pairs(model.get("build_identity"), 12)
    yield "Self-test", self_test(model)
    yield "Runner", one_line(model.get("runner"))


def _environment(model: Mapping[str, Any]) -> str:
    name = one_line(model.get("environment"))
    if not name or "live" not in model:
        return name
    return f"{name} (live)" if model["live"] else f"{name} (embedded, not live)"


def counts(model: Mapping[str, Any]) -> str:
    """Return the model's own counts, as "41 total, 40 passed, 1 failed"; zeros are left out."""
    found = model.get("counts")
    if not isinstance(found, Mapping):
        return ""
    return ", ".join(f"{value} {one_line(name).replace('_', ' ')}" for name, value in found.items() if value)


def streak(model: Mapping[str, Any]) -> str:
    """Return the streak as "2/3: why", or nothing when the model has none."""
    found = model.get("streak")
    if not isinstance(found, Mapping) or not {"length", "required"} <= found.keys():
        return ""
    why = one_line(found.get("why"), 300)
    return progress(found["length"], found["required"]) + (f": {why}" if why else "")


def self_test(model: Mapping[str, Any]) -> str:
    """Return what the last self-test proved of the suite, or nothing without one."""
    found = model.get("self_test")
    if not isinstance(found, Mapping):
        return one_line(found)
    quote = (
        f"this suite detected {found.get('detected', '?')}/{found.get('total', '?')} seeded faults, "
        f"{found.get('false_alarms', '?')} false alarms"
    )
    mutants = found.get("mutants")
    if isinstance(mutants, Mapping):
        killed, total = (mutants.get(key, "?") for key in ("killed", "total"))
        quote += f", {killed}/{total} mutants"
    when, digest = one_line(found.get("date")), one_line(found.get("catalogue_digest"), 20)
    return quote + (f", on {when}" if when else "") + (f", catalogue digest {digest}" if digest else "")


def pairs(found: object, limit: int = 80) -> str:
    """Return a mapping as "name value, ..."; values are cut at ``limit``, an empty one reads as unknown."""
    if not isinstance(found, Mapping):
        return one_line(found)
    return ", ".join(
        f"{one_line(name)} {one_line(value, limit) or 'unknown'}" for name, value in found.items()
    )

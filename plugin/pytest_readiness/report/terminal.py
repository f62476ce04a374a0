"""The end of the run in the terminal: verdict first, then its basis, at most a hundred columns wide."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from ..core.formats import ELLIPSIS, one_line
from .columns import rows, unexamined, variables
from .document import Headline, and_others, counts, headline, owner_of, self_test, streak, summary_of

COLUMNS = 100
#: How many blockers and reasons the terminal shows; the reports have them all.
SHOWN = 12
_LABEL = 13
_WATCHED = frozenset({"active", "expiring", "expired", "unknown", "refused"})


def lines(model: Mapping[str, Any], reports: Sequence[str] = (), columns: int = COLUMNS) -> list[str]:
    """Return the summary, one line each, without a colour; ``reports`` are the paths that were written.

    No line is wider than ``columns``, except for a path or a word of a command, which readers copy.
    """
    head = headline(model)
    return [
        *_answer(head, model, columns),
        "",
        *_goals(model, columns),
        *_blockers(model, columns),
        *_unexamined(model, columns),
        *_waivers(model, columns),
        *_notes(model, columns),
        *_exit_code(model, columns),
        *_labelled("streak", streak(model), columns),
        *_labelled("self-test", self_test(model), columns),
        *(f"{pad('' if place else 'reports', _LABEL)}{path}" for place, path in enumerate(reports)),
    ]


def colour(model: Mapping[str, Any]) -> str:
    """Return the terminal colour of the verdict line: green, yellow or red."""
    return {"READY": "green", "BROKEN": "red"}.get(headline(model).verdict, "yellow")


def _answer(head: Headline, model: Mapping[str, Any], columns: int) -> Iterator[str]:
    environment = next((text for name, text in head.facts if name == "Environment"), "")
    verdict = f"{head.verdict} (PARTIAL)" if head.partial else head.verdict
    yield clip("  ".join(filter(None, (verdict, head.title, environment))), columns)
    yield from _labelled("declaration", ": ".join(filter(None, (head.declaration, head.why))), columns)
    yield from _labelled("scope", head.partial, columns)
    yield from _labelled("checks", counts(model), columns)
    for place, reason in enumerate(head.reasons[:SHOWN]):
        yield from _labelled("" if place else "because", reason, columns)
    if len(head.reasons) > SHOWN:
        yield from _labelled("", f"... and {len(head.reasons) - SHOWN} more, see the report", columns)


def _goals(model: Mapping[str, Any], columns: int) -> Iterator[str]:
    found = [
        (
            f"{one_line(row.get('id'))} {one_line(row.get('title'))}",
            one_line(row.get("status")),
            one_line(row.get("evidence")),
        )
        for row in rows(model, "goals")
    ]
    if not found:
        return
    found = [("Goal", "Status", "Evidence"), *found]
    first = min(34, max(width(goal) for goal, _, _ in found))
    second = max(width(status) for _, status, _ in found)
    indent = first + second + 4
    for goal, status, evidence in found:
        parts = wrapped(evidence, max(20, columns - indent)) or [""]
        yield clip(f"{pad(clip(goal, first), first)}  {pad(status, second)}  {parts[0]}".rstrip(), columns)
        yield from (clip(" " * indent + part, columns) for part in parts[1:])
    yield ""


def _blockers(model: Mapping[str, Any], columns: int) -> Iterator[str]:
    found = rows(model, "blockers")
    if found and headline(model).verdict == "READY":
        yield "Still open:"
    for place, row in enumerate(found[:SHOWN], start=1):
        words = (one_line(row.get("severity")), one_line(row.get("class")), and_others(row))
        what = " ".join(filter(None, words)) or one_line(row.get("goal")) or "the run"
        yield clip(f"{place:>2}. {what}", columns)
        for text in wrapped(summary_of(row, 300), columns - 4):
            yield f"    {text}"
        owner = owner_of(row)
        action = f"next ({owner}): " if owner else "next: "
        for mark, text in enumerate(wrapped(action + one_line(row.get("next_action"), 300), columns - 10)):
            yield f"    {'' if mark == 0 else '      '}{text}"
        command = one_line(row.get("reproduce"))
        for mark, text in enumerate(_command(command, columns - 8) if command else ()):
            yield f"    {'$ ' if mark == 0 else '  '}{text}"
        if row.get("also") or row.get("behind"):
            yield f"    all its checks: readiness explain {place}"
    if len(found) > SHOWN:
        yield f"    ... and {len(found) - SHOWN} more blockers, see the report"
    if found:
        yield from wrapped(variables(model).replace("`", ""), columns)
    if found:
        yield ""


def _waivers(model: Mapping[str, Any], columns: int) -> Iterator[str]:
    """Yield the waivers in force, and those that are expired, unneeded or match nothing."""
    found = [row for row in rows(model, "waivers") if row.get("state") in _WATCHED]
    for place, row in enumerate(found[:SHOWN]):
        state, note = one_line(row.get("state")), one_line(row.get("note"))
        named = f"{one_line(row.get('check'))} {note if note.startswith(state) else f'{state}: {note}'}"
        yield from _labelled("" if place else "waivers", named, columns)


def _notes(model: Mapping[str, Any], columns: int) -> Iterator[str]:
    """Yield problems outside the checks: an unknown build, a torn ledger, a pattern without a match."""
    notes = [one_line(note) for note in model.get("notes") or ()]
    for place, note in enumerate(notes[:SHOWN]):
        yield from _labelled("" if place else "notes", note, columns)
    if len(notes) > SHOWN:
        yield from _labelled("", f"... and {len(notes) - SHOWN} more, see the report", columns)


def _exit_code(model: Mapping[str, Any], columns: int) -> Iterator[str]:
    """Explain the exit code if pytest's own last line counts covered failures."""
    if any(row.get("outcome") == "deferred" for row in rows(model, "checks")):
        text = (
            f"{model.get('exit_code')}, by the verdict; pytest's own last line also counts covered failures"
        )
        yield from _labelled("exit code", text, columns)


def _unexamined(model: Mapping[str, Any], columns: int) -> Iterator[str]:
    """Yield the unexamined places that no blocker shows, below the name of their check."""
    shown = "\n".join(one_line(row.get("summary"), 300) for row in rows(model, "blockers"))
    found: dict[str, list[str]] = {}
    for check, place in unexamined(model, beside=shown):
        found.setdefault(check, []).append(place)
    for check, places in found.items():
        yield clip(check, columns)
        for place in places:
            yield from (f"    {part}" for part in wrapped(place, columns - 4))
    if found:
        yield ""


def _labelled(label: str, text: str, columns: int) -> Iterator[str]:
    for place, part in enumerate(wrapped(text, columns - _LABEL)):
        yield f"{pad('' if place else label, _LABEL)}{part}"


def wrapped(text: str, columns: int) -> list[str]:
    """Break ``text`` between words into lines of at most ``columns``; a longer word is cut."""
    found: list[str] = []
    for word in text.split():
        part = clip(word, columns)
        if found and width(found[-1]) + 1 + width(part) <= columns:
            found[-1] += f" {part}"
        else:
            found.append(part)
    return found


def _command(command: str, columns: int) -> list[str]:
    """Break a shell command between words, with continuation marks, so that it stays the same command."""
    try:
        words = shlex.split(command, posix=False)
    except ValueError:
        return [command]
    if width(command) <= columns or " ".join(words) != command:
        return [command]
    found: list[str] = []
    for word in words:
        if found and width(found[-1]) + 1 + width(word) <= columns:
            found[-1] += f" {word}"
        else:
            found.append(word)
    return [f"{part} \\" for part in found[:-1]] + found[-1:]


def width(text: str) -> int:
    """Return how many terminal columns ``text`` takes: wide characters two, combining marks none."""
    return sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, columns: int) -> str:
    """Cut ``text`` so that it takes at most ``columns`` terminal columns."""
    if width(text) <= columns:
        return text
    taken = accumulate(map(_columns, text))
    return text[: sum(1 for columns_so_far in taken if columns_so_far < columns)].rstrip() + ELLIPSIS


def pad(text: str, columns: int) -> str:
    """Fill ``text`` with spaces up to ``columns`` terminal columns."""
    return text + " " * max(0, columns - width(text))

"""The redactor for everything that leaves a run: finds live values, known shapes, and secrets by their name.

A text is searched as it is and after its escapes are decoded (``views``), for registered values (``values``),
shapes (``shapes``) and secrets beside their name (``names``). All finds are removed at once, so the order of
the rules does not matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from hashlib import sha256
from typing import Any

from ..formats import printable
from ..model import FailureClass, GoalStatus, Outcome, Scope, Severity, Verdict
from .names import Kind, hidden_member, is_secret_name, kind_of_member, may_name_secret, named_secrets
from .shapes import BEGIN, END, MARK, PRIVATE_KEY, SHAPES, Found, Shape, prefixed
from .values import SHORTEST, SecretValue, View, any_of, reading, unfolded, views

__all__ = ["MARK", "LineRedactor", "Redactor", "reading"]

#: Cache of redacted texts: header names and paths occur thousands of times in one run.
_MEMORY_TEXTS = 20_000
_MEMORY_CHARACTERS = 4096
#: A longer text would take seconds to search. The part shown is searched with a margin beyond its end, so
#: that a secret across the cut is found and removed as well.
LONGEST, _KEPT, _MARGIN = 2**19, 2**17, 2**16
#: A file is searched in pieces of this many bytes, which overlap by the length of an escaped secret.
_PIECE, _OVERLAP = 2**20, 2**18
#: Keys of reports and the ledger, and the name in them; with their values, words that a report needs. As
#: secrets they would protect nothing.
_KEYS = (
    "addresses advice applicable approver attempt attempts before behind blockers blocking build_end "
    "build_identity build_start builds catalogue_digest changes charts check_id checkout checks clean_runs "
    "clock_jump_s collected collection_errors complete contact controls counted counts covered_by covers "
    "crashed decision decisions declaration declaration_prose declaration_title declaration_why declared "
    "deployed detected differs drills dropped duration_s elsewhere entries environment establishes "
    "evidence exit_code expected expires failing false_alarms figures finished_at headers interrupted "
    "inventory issued leaked ledger length limit_s location memory method mutants next_action nodeid "
    "not_applicable observed operational outcome outcomes phases plan_digest points prev_hash problem "
    "rationale readiness reason reasons reproduce reproduce_env reproduce_with request required requires "
    "response rollback run_id runbook runner schema_version seconds selected self_test service severity "
    "source started_at static status streak suite_digest summary teardown uncounted uncovered unread "
    "vanished verdict verified waivers without_cover worker"
)
_OWN_WORDS = frozenset(
    word.lower()
    for word in (*_KEYS.split(), *Verdict, *Outcome, *FailureClass, *GoalStatus, *Severity, *Scope)
)
#: In a text of only these characters, nothing is escaped, wrapped, unprintable or non-ASCII.
_PLAIN = re.compile(r"[ !\"$'-\[\]-~\t]*")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: A line of a private key, with the prefix that a traceback or a log adds.
_BODY_LINE = re.compile(r"[^A-Za-z0-9+/=]*(?:\w+> |E |b['\"])?[^A-Za-z0-9+/=]*[A-Za-z0-9+/=]{4,}\W*")
_SECRETLESS = frozenset({bool, int, float, type(None)})
_KEY_OF_PAIR, _VALUE_OF_PAIR = ("name", "Name", "key", "Key"), ("value", "Value")


class Redactor:
    """Removes secrets from text and data. Redacting twice changes nothing more.

    ``values`` are live secrets to remove wherever they appear, encoded or escaped in any way; ``prefixes``
    are the prefixes of the platform's API keys; ``ordinary`` returns the reading of what any artifact may
    contain, such as its markup: a value in there is still removed from texts, but is not a leak.
    """

    def __init__(
        self,
        values: Iterable[str] = (),
        prefixes: Iterable[str] = (),
        ordinary: Callable[[], str] = str,
    ) -> None:
        self._ordinary = ordinary
        self._values: dict[str, list[SecretValue]] = {}
        self._prefixes: tuple[str, ...] = ()
        self._shapes: tuple[Shape, ...] = SHAPES
        self._any_shape = _any_needle(SHAPES)
        self._known: set[tuple[str, str]] = set()
        #: Compiled at the first text after a new value, because a run first registers many values.
        self._any_value: re.Pattern[str] | None = None
        self._memory: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        self._clean: set[str] = set()
        #: Sets of a mapping's member names that may be shown and make no value secret.
        self._plain_names: set[tuple[str, ...]] = set()
        self._scanned: dict[bytes, list[str]] = {}
        for value in values:
            self.add(value)
        self.use_prefixes(prefixes)

    def add(self, value: str, name: str = "") -> None:
        """Register a live secret under the name that reports may show; one shorter than 6 is ignored."""
        value = value.strip()
        if (
            len(value) < SHORTEST
            or value in MARK
            or value.lower() in _OWN_WORDS
            or (name and (name, value) in self._known)
        ):
            return
        self._known.add((name, value))
        label = name or f"secret-{len(self._values) + 1}"
        self._values.setdefault(label, []).append(SecretValue(value, _OWN_WORDS))
        self._any_value = None
        self._forget()

    def use_prefixes(self, prefixes: Iterable[str]) -> None:
        """Recognise API keys by these prefixes instead of the previous ones."""
        known = tuple(prefixes)
        if known and known != self._prefixes:
            self._prefixes = known
            self._shapes = (*SHAPES, prefixed(known))
            self._any_shape = _any_needle(self._shapes)
            self._forget()

    def shown(self, text: str) -> str:
        """Return the text printable and without secrets, including secrets that control characters split."""
        known = self._shown.get(text)
        if known is None:
            redacted = text if self._is_innocent(text) else self.text(printable(self.text(text)))
            known = _kept(self._shown, text, redacted)
        return known

    def text(self, text: str) -> str:
        """Return the text without secrets; terminal control sequences stay, such as pytest's colours.

        A text of more than ``LONGEST`` characters is truncated, with a note of how much is left out.
        """
        known = self._memory.get(text)
        if known is None:
            redacted = _without(text, self._found(text)) if len(text) <= LONGEST else self._beginning(text)
            known = _kept(self._memory, text, redacted)
        return known

    def _beginning(self, text: str) -> str:
        """Return the beginning of a long text, to the end of a line where there is one."""
        cut = text.rfind("\n", _KEPT // 2, _KEPT) + 1 or _KEPT
        searched = text[: cut + _MARGIN]
        shown = _without(searched, [*self._found(searched), (cut, len(searched), "")])
        return f"{shown}\n… {len(text) - cut:,} more characters are left out\n"

    def data(self, value: Any) -> Any:
        """Return JSON-like data printable and without secrets, which content or a key reveals.

        Data without any is returned unchanged.
        """
        return value if self._is_innocent_data(value) else self._data(value, Kind.NONE)

    def are_clean(self, names: AbstractSet[str]) -> bool:
        """Tell whether all of these names, which occur in every report, may be shown unchanged."""
        unknown = names - self._clean
        if not all(isinstance(name, str) and self.shown(name) == name for name in unknown):
            return False
        if len(self._clean) < _MEMORY_TEXTS:
            self._clean |= unknown
        return True

    def leaks(self, content: bytes) -> list[str]:
        """Return the secrets in the bytes: registered ones by their name, others by their shape."""
        content_digest = sha256(content).digest()  # a run writes some files twice
        if content_digest not in self._scanned:
            found = {name for piece in _pieces(content) for name in self._leaks(reading(piece))}
            registered = [name for name in self._values if name in found]
            self._scanned[content_digest] = [*registered, *sorted(found.difference(registered))]
        return self._scanned[content_digest]

    def _leaks(self, text: str) -> Iterator[str]:
        for name, values in self._values.items():
            if any(value.is_in(text, self._ordinary) for value in values):
                yield name
        words = " ".join({*text.split()})  # each word once, as most are repeated: no needle has a space
        for shape in self._shapes:
            if shape.strict and any(needle in words for needle in shape.needles):
                for *_, label in shape.find(text):
                    yield label.strip("[]").removeprefix("redacted ")

    def _forget(self) -> None:
        for memory in (self._memory, self._shown, self._clean, self._plain_names, self._scanned):
            memory.clear()

    def _data(self, value: Any, kind: Kind) -> Any:
        """Redact a value under a name of this kind: the nearest secret name above it, or its own."""
        if type(value) is str and kind is Kind.NONE:  # nearly all values
            return self.shown(value)
        if isinstance(value, Mapping):
            return {
                self._key(name): self._data(member, _kind_of(name, value, kind))
                for name, member in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            members = [*value]
            if len(members) == 2 and is_secret_name(members[0]) and "-" in members[0]:
                return [self._key(members[0]), self._data(members[1], Kind.STRONG)]
            if kind is Kind.NONE:
                return [self.data(member) for member in members]
            return [self._data(member, kind) for member in members]
        hidden = hidden_member(kind, value)
        return self.shown(hidden) if isinstance(hidden, str) else hidden

    def _key(self, key: Any) -> Any:
        return self.shown(key) if isinstance(key, str) else key

    def _is_innocent(self, text: str) -> bool:
        """Tell quickly, for nearly all texts, that they contain no secrets."""
        return (
            len(text) <= LONGEST
            and _PLAIN.fullmatch(text) is not None
            and self._any_shape.search(text) is None
            and not self._values_in(text)
            and not may_name_secret(text)
        )

    def _is_innocent_data(self, value: Any) -> bool:
        """Tell the same for data.

        Members under plain names are examined one by one, because most have been seen before; other data all
        at once as JSON text, in which names keep their places.
        """
        if type(value) is dict and self._are_plain(tuple(value), value):
            return self._are_innocent(value.values())
        if type(value) is list and {*map(type, value)} <= {dict}:
            return all(map(self._is_innocent_data, value))
        if not isinstance(value, dict | list):
            return False
        try:
            return self._is_innocent(json.dumps(value, ensure_ascii=False))
        except (TypeError, ValueError, RecursionError):  # not JSON: it is examined piece by piece
            return False

    def _are_innocent(self, values: Iterable[Any]) -> bool:
        """Tell the same for values under plain names."""
        for value in values:
            kind = type(value)
            if kind is str:
                if self._shown.get(value) != value and self.shown(value) != value:
                    return False
            elif kind not in _SECRETLESS and not self._is_innocent_data(value):
                return False
        return True

    def _are_plain(self, names: tuple[Any, ...], owner: Mapping[Any, Any]) -> bool:
        """Tell whether a mapping's member names may be shown and make no value secret."""
        if names in self._plain_names:
            return True
        plain = not any(name in _VALUE_OF_PAIR for name in names) and all(
            type(name) is str and self.shown(name) == name and kind_of_member(name, owner) is Kind.NONE
            for name in names
        )
        if plain and len(self._plain_names) < _MEMORY_TEXTS:
            self._plain_names.add(names)
        return plain

    def _found(self, text: str) -> list[Found]:
        """Return the spans of secrets in the text."""
        found: list[Found] = []
        for view in views(text):
            found.extend(_placed(view, self._secrets(view.text)))
            joined = unfolded(view)
            if joined is not None:
                values = self._values_in(joined.text)
                spans = ((*span, MARK) for value in values for span in value.find_encoded(joined.text))
                found.extend(_placed(joined, spans))
        return found

    def _values_in(self, text: str) -> list[SecretValue]:
        """Return the registered values if the text may contain one of them."""
        if not self._values:
            return []
        if self._any_value is None:
            heads = {head for values in self._values.values() for value in values for head in value.heads}
            self._any_value = any_of(heads)
        if self._any_value.search(text) is None:
            return []
        return [value for values in self._values.values() for value in values]

    def _secrets(self, text: str) -> Iterator[Found]:
        for value in self._values_in(text):
            yield from ((*span, MARK) for span in value.find(text))
        if self._any_shape.search(text):
            for shape in self._shapes:
                yield from _of_shape(shape, text)
        yield from named_secrets(text)


def _pieces(content: bytes) -> Iterator[bytes]:
    """Cut a large file at spaces into overlapping pieces, so that memory use stays constant."""
    start = 0
    while len(content) - start > _PIECE + _OVERLAP:
        yield content[start : start + _PIECE + _OVERLAP]
        space = content.find(b" ", start + _PIECE, start + _PIECE + _OVERLAP // 2)
        start = space if space >= 0 else start + _PIECE
    yield content[start:]


def _kept(memory: dict[str, str], text: str, redacted: str) -> str:
    if len(text) <= _MEMORY_CHARACTERS and len(memory) < _MEMORY_TEXTS:
        memory[text] = redacted
    return redacted


def _kind_of(name: Any, owner: Mapping[Any, Any], above: Kind) -> Kind:
    """Return the kind that decides on a member: of a secret name above, its own, or one given beside it."""
    if above is Kind.STRONG:
        return above
    if name in _VALUE_OF_PAIR:
        beside = next((owner[other] for other in _KEY_OF_PAIR if isinstance(owner.get(other), str)), "")
        if re.fullmatch(r"[\w.-]+", beside) and is_secret_name(beside):
            return Kind.STRONG
    return kind_of_member(name, owner)


def _any_needle(shapes: Iterable[Shape]) -> re.Pattern[str]:
    return any_of({needle for shape in shapes for needle in shape.needles})


def _of_shape(shape: Shape, text: str) -> Iterator[Found]:
    if any(needle in text for needle in shape.needles):
        yield from shape.find(text)


def _placed(view: View, found: Iterable[Found]) -> Iterator[Found]:
    for start, end, label in found:
        if end > start:
            yield (*view.span(start, end), label)


def _without(text: str, found: list[Found]) -> str:
    """Replace every find by its mark; the first of two overlapping finds gives the mark."""
    if not found:
        return text
    merged: list[Found] = []
    for start, end, label in sorted(found, key=lambda one: (one[0], -one[1], one[2] == MARK)):
        if merged and start < merged[-1][1]:
            first, last, kept = merged[-1]
            merged[-1] = (first, max(last, end), kept)
        else:
            merged.append((start, end, label))
    parts, at = [], 0
    for start, end, label in merged:
        # Colours inside a removed part still apply to the text after it.
        parts += [text[at:start], label, *_COLOUR.findall(text, start, end)]
        at = end
    return "".join([*parts, text[at:]])


class LineRedactor:
    """Redacts output that arrives in pieces: line by line, and a private key over all its lines.

    It holds back an incomplete line until it is complete or must be shown.
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._held: list[str] = []
        self._inside_key = False

    def feed(self, text: str) -> str:
        """Accept more text and return what may be shown now."""
        end = text.rfind("\n") + 1
        if not end:
            self._held.append(text)
            return ""
        complete = "".join((*self._held, text[:end]))
        self._held = [text[end:]]
        return self._clean(complete)

    def flush(self) -> str:
        """Return the text held back."""
        text, self._held = "".join(self._held), []
        return self._clean(text)

    def _clean(self, text: str) -> str:
        if self._inside_key:
            text = self._after_key(text)
        if not text:
            return ""
        clean = self._redact(text)
        # Its remaining lines may arrive one by one.
        self._inside_key = clean.rstrip().endswith(PRIVATE_KEY) and not END.search(text)
        if "PRIVATE KEY" in clean:
            last = text.rstrip().rpartition("\n")[2]
            self._inside_key = self._inside_key or bool(BEGIN.search(last))
        return clean

    def _after_key(self, text: str) -> str:
        """Return the text after the rest of a private key that is already shown as a mark."""
        lines = text.splitlines(keepends=True)
        while lines:
            if END.search(lines[0]):
                self._inside_key = False
                return "".join(lines[1:])
            if not _BODY_LINE.fullmatch(lines[0].rstrip()):
                self._inside_key = False
                break
            lines.pop(0)
        return "".join(lines)

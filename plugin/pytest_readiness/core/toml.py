"""Reading TOML strictly: each refusal names file and key, and an unknown key is refused."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import MISSING, Field, fields
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, ClassVar, Protocol, TypeVar

from .errors import CORRECT, ReadinessError, together
from .formats import is_one_line, parse_moment, usable

REQUIRED: Any = object()
#: No number in a plan needs to be larger, and sums of such numbers are still valid times.
LARGEST = 2**31 - 1
#: Limits of one file, so that tomllib never takes a second: keys of thousands of parts take minutes, and a
#: megabyte of short tables with long keys takes several seconds.
LONGEST_TEXT, LONGEST_LINE, MOST_PARTS = 2**18, 10_000, 50
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_PART}\.[ \t]*+){{{MOST_PARTS}}}")
#: No file has a longer path, and no server accepts a longer URL.
LONGEST_PLACE = 4096
_NO_MOMENT = datetime.min.replace(tzinfo=UTC)
_MOMENT = "an RFC 3339 time with an offset, such as 2027-03-01T00:00:00Z"
#: The getter for a field of each type.
_GETTERS = {
    "str": "text", "int": "integer", "bool": "boolean", "tuple[str, ...]": "texts", "datetime": "moment",
    "datetime | None": "optional_moment",
}  # fmt: skip


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Part = TypeVar("Part", bound=_Dataclass)


def load_toml(text: str, source: str, error: type[ReadinessError], *, collect: bool = False) -> TomlTable:
    """Parse TOML into a :class:`TomlTable`; ``error`` naming line and column when it is not TOML.

    With ``collect`` mistakes are kept for :meth:`TomlTable.settle`, which reports them all at once.
    """
    try:
        data = parse_toml(text)
    except (ValueError, RecursionError) as problem:  # including too many digits and excessive nesting
        what = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise error(
            f"not valid TOML: {what}", where=source, action=f"correct {source} and run again"
        ) from problem
    return TomlTable(data, source=source, error=error, mistakes=[] if collect else None)


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML within the limits; ValueError or RecursionError for any other text."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"longer than {LONGEST_TEXT} characters")
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > LONGEST_LINE:
            raise ValueError(f"line {number} is longer than {LONGEST_LINE} characters")
        if line.count(".") >= MOST_PARTS and _LONG_KEY.search(line):
            raise ValueError(f"line {number} has a key of more than {MOST_PARTS} parts")
    return deepcopy(_parsed(text.removeprefix("\ufeff")))  # some editors begin a file with it


@lru_cache(maxsize=16)  # a run reads its plan several times
def _parsed(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


class TomlTable:
    """One TOML table under validation. Getters return a checked value, or refuse the key.

    A refusal raises the table's error; if mistakes are collected, it is kept and the getter returns a
    substitute. ``default=REQUIRED`` makes a key mandatory. Call :meth:`finish` once all keys have been read.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        *,
        source: str,
        error: type[ReadinessError],
        path: str = "",
        mistakes: list[ReadinessError] | None = None,
    ) -> None:
        self.data, self.source, self.error, self.path, self.mistakes = data, source, error, path, mistakes
        self._asked: list[str] = []
        self._wrong: set[str] = set()

    def refuse(self, key: str, what: str, *, allowed: str = "", action: str = "") -> None:
        """Refuse one of the table's keys; each key is reported only once."""
        if key in self._wrong:
            return
        self._wrong.add(key)
        where = f"{self.source}: {self.key(key)}"
        self.add(self.error(what, where=where, allowed=allowed, action=action or CORRECT))

    def add(self, mistake: ReadinessError) -> None:
        """Raise a mistake, or keep it with the others."""
        if self.mistakes is None:
            raise mistake
        self.mistakes.append(mistake)

    def is_wrong(self, *keys: str) -> bool:
        """Tell whether one of the keys was refused."""
        return not self._wrong.isdisjoint(keys)

    def settle(self) -> None:
        """Raise the mistakes that were collected, all at once."""
        if self.mistakes:
            raise together(self.mistakes)

    def key(self, key: str) -> str:
        """Return the dotted name of a key of this table."""
        return f"{self.path}.{key}" if self.path else key

    def finish(self, *unread: str) -> None:
        """Refuse keys that no getter read: a typing mistake must not relax a gate.

        ``unread`` are keys that are allowed although nothing here reads them.
        """
        known = {*self._asked, *unread}
        for key in self.data:
            if key not in known:
                self.refuse(key, "unknown key", allowed=", ".join(sorted(known)))

    def read(self, form: type[Part], **given: Any) -> Part:
        """Return a dataclass of this type: a field that is not ``given`` is read from the key with its name.

        A field's type decides the getter (its metadata may name another) and its metadata are more arguments
        of that; a field without a default is mandatory. Unknown keys are refused.
        """
        values = dict(given)
        wanted = [each for each in fields(form) if each.name not in given]
        self.finish(*(each.name for each in wanted))  # first: a misspelt key is not a missing one
        for each in wanted:
            how = dict(each.metadata)
            getter = how.pop("getter", "choice" if "allowed" in how else _GETTERS[str(each.type)])
            if each.default not in (MISSING, None):
                how["default"] = each.default
            values[each.name] = getattr(self, getter)(each.name, **how)
        return form(**values)

    def read_all(self, key: str, form: type[Part]) -> tuple[Part, ...]:
        """Return an array of tables as dataclasses."""
        return tuple(table.read(form) for table in self.tables(key))

    def text(self, key: str, default: Any = REQUIRED, *, empty: bool = False) -> str:
        """Return a string; an empty one only if ``empty`` allows it."""
        value = self._get(key, default, "a string", "")
        if not isinstance(value, str):
            self.refuse(key, f"{_shown(value)} is not a string", allowed="a string")
            return ""
        if not value.strip() and not empty and key in self.data:
            self.refuse(key, "empty", allowed="a non-empty string")
        if "\0" in value:
            self.refuse(key, "a NUL character", allowed="a string without it")
        return value

    def place(self, key: str, default: Any = REQUIRED, *, empty: bool = False) -> str:
        """Return a path or a URL: one line without control characters."""
        value = self.text(key, default, empty=empty)
        if not is_one_line(value) or len(value) > LONGEST_PLACE:
            allowed = f"one line without control characters, of at most {LONGEST_PLACE} of them"
            self.refuse(key, "not a path or a URL", allowed=allowed)
            return ""
        return value

    def integer(self, key: str, default: Any = REQUIRED, *, minimum: int = 0, maximum: int = LARGEST) -> int:
        """Return an integer of at least ``minimum`` and at most ``maximum``."""
        allowed = f"an integer >= {minimum}"
        value = self._get(key, default, allowed, minimum)
        if isinstance(value, int) and not isinstance(value, bool):
            if minimum <= value <= maximum:
                return value
            allowed += f" and <= {maximum}" if value > maximum else ""
        self.refuse(key, f"{_shown(value)} is not {allowed}", allowed=allowed)
        return minimum

    def boolean(self, key: str, default: Any = REQUIRED) -> bool:
        """Return true or false."""
        value = self._get(key, default, "true, false", False)
        if not isinstance(value, bool):
            self.refuse(key, f"{_shown(value)} is not a boolean", allowed="true, false")
            return False
        return value

    def choice(self, key: str, allowed: Iterable[str], default: Any = REQUIRED) -> str:
        """Return one of the allowed strings."""
        legal = list(allowed)
        value = self._get(key, default, ", ".join(legal), "")
        if value not in legal and key in self.data:
            self.refuse(key, f"unknown value {_shown(value)}", allowed=", ".join(legal))
            return legal[0] if default is REQUIRED and legal else ""
        return str(value)

    def texts(self, key: str, default: Any = REQUIRED) -> tuple[str, ...]:
        """Return an array of strings that are not empty."""
        value = self._get(key, default, "an array of strings", ())
        if not isinstance(value, Sequence) or isinstance(value, str):
            self.refuse(key, f"{_shown(value)} is not an array", allowed="an array of strings")
            return ()
        for entry in value:
            if not isinstance(entry, str) or not entry.strip() or "\0" in entry:
                self.refuse(key, f"{_shown(entry)} is not a non-empty string", allowed="an array of strings")
        return () if self.is_wrong(key) else tuple(value)

    def moment(self, key: str) -> datetime:
        """Return an RFC 3339 time with its offset, written as a TOML time or as a string."""
        value = self._get(key, REQUIRED, _MOMENT, _NO_MOMENT)
        try:
            if isinstance(value, str):
                return parse_moment(value)
            if isinstance(value, datetime):
                return usable(value)
        except ValueError:
            pass
        shown = f"{value!r}" if isinstance(value, str) else _shown(value, str)
        self.refuse(key, f"{shown} is not a time with an offset", allowed=_MOMENT)
        return _NO_MOMENT

    def optional_moment(self, key: str) -> datetime | None:
        """Return a time as :meth:`moment` does, or None if the key is absent."""
        self._asked.append(key)
        return self.moment(key) if key in self.data else None

    def day(self, key: str) -> str:
        """Return a day as text, written as a TOML date or as a string."""
        value = self._get(key, REQUIRED, "a date such as 2026-02-26", "")
        return value.isoformat() if isinstance(value, date) else self.text(key)

    def table(self, key: str) -> TomlTable:
        """Return a sub-table; an empty one when it is absent."""
        value = self._get(key, {}, "a table", {})
        if not isinstance(value, Mapping):
            self.refuse(key, f"{_shown(value)} is not a table", allowed=f"[{self.key(key)}]")
            value = {}
        return self._below(value, self.key(key))

    def tables(self, key: str) -> list[TomlTable]:
        """Return an array of tables, each with its place in it (counted from 1) in the path."""
        value = self._get(key, [], "an array of tables", [])
        if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
            self.refuse(key, "not an array of tables", allowed=f"[[{self.key(key)}]]")
            return []
        return [
            self._below(entry, f"{self.key(key)}[{number}]") for number, entry in enumerate(value, start=1)
        ]

    def free(self, key: str) -> Mapping[str, Any]:
        """Return a table with unchecked content."""
        return dict(self.table(key).data)

    def _below(self, data: Mapping[str, Any], path: str) -> TomlTable:
        return TomlTable(data, source=self.source, error=self.error, path=path, mistakes=self.mistakes)

    def _get(self, key: str, default: Any, allowed: str, instead: Any) -> Any:
        self._asked.append(key)
        if key in self.data:
            return self.data[key]
        if default is REQUIRED:
            action = "" if self.path else "add it above the first [table] of the file"
            self.refuse(key, "missing", allowed=allowed, action=action)
            return instead
        return default


def _shown(value: object, form: Callable[[object], str] = repr) -> str:
    """Return a value for a sentence; Python cannot print one with thousands of digits."""
    try:
        return form(value)
    except ValueError:
        return "a number with too many digits"

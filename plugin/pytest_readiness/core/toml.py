"""Reading TOML strictly: each refusal names file and key, and an unknown key is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NoReturn

from .errors import ReadinessError
from .formats import parse_moment

REQUIRED: Any = object()
_MOMENT = "an RFC 3339 time with an offset, such as 2027-03-01T00:00:00Z"


def load_toml(text: str, source: str, error: type[ReadinessError]) -> TomlTable:
    """Parse TOML into a :class:`TomlTable`; ``error`` naming line and column when it is not TOML."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise error(
            f"not valid TOML: {problem}", where=source, action=f"correct {source} and run again"
        ) from problem
    return TomlTable(data, source=source, error=error)


class TomlTable:
    """One TOML table under validation. Getters return a checked value or raise the table's error.

    ``default=REQUIRED`` makes a key mandatory. Call :meth:`finish` once all keys were asked for.
    """

    def __init__(
        self, data: Mapping[str, Any], *, source: str, error: type[ReadinessError], path: str = ""
    ) -> None:
        self.data, self.source, self.error, self.path = data, source, error, path
        self._asked: list[str] = []

    def refuse(self, key: str, what: str, *, allowed: str = "", action: str = "") -> NoReturn:
        """Raise the table's error for one of its keys."""
        raise self.error(what, where=f"{self.source}: {self.key(key)}", allowed=allowed, action=action)

    def key(self, key: str) -> str:
        """Return the dotted name of a key of this table."""
        return f"{self.path}.{key}" if self.path else key

    def finish(self, *unread: str) -> None:
        """Refuse keys that no getter asked for: a typing mistake must not relax a gate.

        ``unread`` are keys that are allowed although nothing here reads them.
        """
        known = {*self._asked, *unread}
        for key in self.data:
            if key not in known:
                self.refuse(key, "unknown key", allowed=", ".join(sorted(known)))

    def text(self, key: str, default: Any = REQUIRED, *, empty: bool = False) -> str:
        """Return a string; an empty one only where ``empty`` allows it."""
        value = self._get(key, default, "a string")
        if not isinstance(value, str):
            self.refuse(key, f"{value!r} is not a string", allowed="a string")
        if not value.strip() and not empty and key in self.data:
            self.refuse(key, "empty", allowed="a string that is not empty")
        return value

    def integer(
        self, key: str, default: Any = REQUIRED, *, minimum: int = 0, maximum: int | None = None
    ) -> int:
        """Return an integer of at least ``minimum``, and at most ``maximum``."""
        allowed = f"an integer >= {minimum}" + ("" if maximum is None else f" and <= {maximum}")
        value = self._get(key, default, allowed)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(key, f"{value!r} is not {allowed}", allowed=allowed)
        if value < minimum or (maximum is not None and value > maximum):
            self.refuse(key, f"{value!r} is not {allowed}", allowed=allowed)
        return value

    def boolean(self, key: str, default: Any = REQUIRED) -> bool:
        """Return true or false."""
        value = self._get(key, default, "true, false")
        if not isinstance(value, bool):
            self.refuse(key, f"{value!r} is not a boolean", allowed="true, false")
        return value

    def choice(self, key: str, allowed: Iterable[str], default: Any = REQUIRED) -> str:
        """Return one of the allowed strings."""
        legal = list(allowed)
        value = self._get(key, default, ", ".join(legal))
        if value not in legal and key in self.data:
            self.refuse(key, f"unknown value {value!r}", allowed=", ".join(legal))
        return str(value)

    def texts(self, key: str, default: Any = REQUIRED) -> tuple[str, ...]:
        """Return an array of strings that are not empty."""
        value = self._get(key, default, "an array of strings")
        if not isinstance(value, Sequence) or isinstance(value, str):
            self.refuse(key, f"{value!r} is not an array", allowed="an array of strings")
        for entry in value:
            if not isinstance(entry, str) or not entry.strip():
                self.refuse(key, f"{entry!r} is not a string with content", allowed="an array of strings")
        return tuple(value)

    def moment(self, key: str) -> datetime:
        """Return an RFC 3339 time with its offset, written as a TOML time or as a string."""
        value = self._get(key, REQUIRED, _MOMENT)
        if isinstance(value, str):
            try:
                return parse_moment(value)
            except ValueError:
                self.refuse(key, f"{value!r} is not a time with an offset", allowed=_MOMENT)
        if not isinstance(value, datetime) or value.tzinfo is None:
            self.refuse(key, f"{value} is not a time with an offset", allowed=_MOMENT)
        return value

    def optional_moment(self, key: str) -> datetime | None:
        """Return a time as :meth:`moment` does, or None where the key is absent."""
        self._asked.append(key)
        return self.moment(key) if key in self.data else None

    def day(self, key: str) -> str:
        """Return a day as text, written as a TOML date or as a string."""
        value = self._get(key, REQUIRED, "a date such as 2026-02-26")
        return value.isoformat() if isinstance(value, date) else self.text(key)

    def table(self, key: str) -> TomlTable:
        """Return a sub-table; an empty one when it is absent."""
        value = self._get(key, {}, "a table")
        if not isinstance(value, Mapping):
            self.refuse(key, f"{value!r} is not a table", allowed=f"[{self.key(key)}]")
        return TomlTable(value, source=self.source, error=self.error, path=self.key(key))

    def tables(self, key: str) -> list[TomlTable]:
        """Return an array of tables, each with its place in it (counted from 1) in the path."""
        value = self._get(key, [], "an array of tables")
        if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
            self.refuse(key, "not an array of tables", allowed=f"[[{self.key(key)}]]")
        return [
            TomlTable(entry, source=self.source, error=self.error, path=f"{self.key(key)}[{number}]")
            for number, entry in enumerate(value, start=1)
        ]

    def free(self, key: str) -> Mapping[str, Any]:
        """Return a table with unchecked content."""
        return dict(self.table(key).data)

    def _get(self, key: str, default: Any, allowed: str) -> Any:
        self._asked.append(key)
        if key in self.data:
            return self.data[key]
        if default is REQUIRED:
            action = "" if self.path else "add it above the first [table] of the file"
            self.refuse(key, "missing", allowed=allowed, action=action)
        return default

"""Alterations of the running pooler through its admin console, undone together by reading its file again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from stack import StackError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TIMEOUT_S = 5
#: What each alteration says to the console.
ALTERATIONS: Mapping[str, tuple[str, ...]] = {
    "session-mode": ("SET pool_mode = 'session'",),
    "oversized": ("SET default_pool_size = 60", "SET max_db_connections = 200"),
    "nobody-served": ("PAUSE platform",),
}
#: What undoes an alteration beyond the file's being read again. A client that was served in session mode
#: holds its server connection until it is next heard of, so a later PAUSE waits: it has to come anew. And a
#: pooler that was started anew since is not paused any more and refuses to RESUME: KILL, which pauses, makes
#: the two alike.
UNDONE: Mapping[str, tuple[str, ...]] = {
    "session-mode": ("KILL platform", "RESUME platform"),
    "nobody-served": ("KILL platform", "RESUME platform"),
}


class Console:
    """The admin console of one PgBouncer."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._made: set[str] = set()

    def mutate(self, name: str, _: Mapping[str, Any]) -> None:
        """Make one alteration. Raises StackError when the console refuses it or no such one exists."""
        if name not in ALTERATIONS:
            raise StackError(f"no alteration {name!r} of the pooler", f"known: {', '.join(ALTERATIONS)}")
        self._made.add(name)
        self._say(*ALTERATIONS[name])

    def restore(self) -> None:
        """Bring back what the configuration file says, and serve everybody."""
        self._say("RELOAD")
        for name in [*self._made]:
            self._say(*UNDONE.get(name, ()))
            self._made.discard(name)

    def _say(self, *commands: str) -> None:
        try:
            with psycopg.connect(
                self._dsn, autocommit=True, connect_timeout=TIMEOUT_S, prepare_threshold=None
            ) as connection:
                for command in commands:
                    connection.execute(command)
        except psycopg.Error as error:
            raise StackError("the pooler's console refused an alteration", str(error).strip()) from error

"""The connection pooler: a query as one of its users, and its admin console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row
from pytest_readiness import SetupError

CONNECT_TIMEOUT_S = 2
_UNRESOLVED = ("could not translate host name", "failed to resolve host", "name or service not known")


class NoPool(AssertionError):
    """The pooler does not answer, or refuses one of its users."""


def ask(dsn: str, query: str) -> list[dict[str, Any]]:
    """The rows of one query; NoPool when the pooler fails, SetupError when the runner cannot resolve it.

    Autocommit, because the console knows no transactions; no prepared statements, because transaction pooling
    would lose them.
    """
    try:
        with psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            prepare_threshold=None,
            row_factory=dict_row,
            options="",
        ) as connection:
            return connection.execute(query).fetchall()
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        if any(text in said.lower() for text in _UNRESOLVED):
            raise SetupError(f"PgBouncer's name does not resolve on this runner: {said}") from None
        raise NoPool(f"PgBouncer: {query}: {said}") from None


def pool_ceilings(
    pools: Sequence[Mapping[str, Any]], databases: Sequence[Mapping[str, Any]], users: Sequence[str]
) -> dict[str, int]:
    """The most server connections that each database's pools may open, for these users and all seen ones.

    ``pools`` and ``databases`` are rows of SHOW POOLS and SHOW DATABASES, read by column name.
    """
    ceilings: dict[str, int] = {}
    for database in databases:
        name = str(database["name"])
        if name == "pgbouncer":
            continue
        seen = {str(pool["user"]) for pool in pools if pool["database"] == name} | set(users)
        ceiling = len(seen) * (int(database["pool_size"]) + int(database.get("reserve_pool") or 0))
        cap = int(database.get("max_connections") or 0)
        ceilings[name] = min(ceiling, cap) if cap else ceiling
    return ceilings

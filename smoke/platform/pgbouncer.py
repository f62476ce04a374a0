"""The connection pooler: a query as one of its users, and its admin console.

psycopg is imported where it is used: it takes a tenth of the time in which the suite is collected.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_readiness import SetupError

from smoke.network.sockets import relayed

CONNECT_TIMEOUT_S = 2
#: The console answers at once; its longest answer has a line for each client.
ANSWER_WITHIN_S = 5.0
MAX_ANSWER = 1024 * 1024
#: The database that is the console itself.
CONSOLE = "pgbouncer"


class NoPool(AssertionError):
    """The pooler does not answer, or refuses one of its users."""


def ask(dsn: str, query: str) -> list[dict[str, Any]]:
    """The rows of one query; NoPool when the pooler fails, SetupError when the runner cannot resolve it.

    Autocommit, because the console knows no transactions; no prepared statements, because transaction pooling
    would lose them.
    """
    import psycopg
    from psycopg.conninfo import make_conninfo

    parts = _parts(dsn)
    host, port = str(parts.get("host") or "localhost"), int(parts.get("port") or 5432)
    try:
        with relayed(host, port, within=ANSWER_WITHIN_S, most=MAX_ANSWER) as relay:
            return _ask(make_conninfo(dsn, host=host, hostaddr="127.0.0.1", port=relay.port), query)
    except socket.gaierror as error:
        raise SetupError(f"PgBouncer's name does not resolve on this runner: {error}") from None
    except OSError as error:
        raise NoPool(f"PgBouncer: no connection to {host}:{port}: {error}") from None
    except psycopg.Error as error:
        said = relay.cut or " ".join(str(error).split())
        raise NoPool(f"PgBouncer: {query}: {said}") from None


def _ask(dsn: str, query: str) -> list[dict[str, Any]]:
    import psycopg
    from psycopg.rows import dict_row

    with psycopg.connect(
        dsn,
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT_S,
        prepare_threshold=None,
        row_factory=dict_row,
        options="",
    ) as connection:
        return connection.execute(query).fetchall()


def waiting_in(pools: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many clients wait for a server connection, by pool; rows of SHOW POOLS."""
    return {f"{row['database']}/{row['user']}": int(row["cl_waiting"]) for row in pools if row["cl_waiting"]}


def can_serve(pools: Iterable[Mapping[str, Any]]) -> bool:
    """Whether pools have clients, and each of those holds a server connection; rows of SHOW POOLS."""
    asked = [row for row in pools if row["cl_active"] and row["database"] != CONSOLE]
    return bool(asked) and all(row["sv_active"] or row["sv_idle"] or row["sv_used"] for row in asked)


def login_of(dsn: str) -> tuple[str, str]:
    """The database and the user of a DSN; SetupError when it is malformed."""
    parts = _parts(dsn)
    user = str(parts.get("user") or "")
    return str(parts.get("dbname") or user), user


def _parts(dsn: str) -> Mapping[str, Any]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        return conninfo_to_dict(dsn)
    except psycopg.Error:
        raise SetupError("a DSN of the profile's [pgbouncer] is not a PostgreSQL connection string") from None


def pool_ceilings(
    pools: Sequence[Mapping[str, Any]],
    databases: Sequence[Mapping[str, Any]],
    logins: Iterable[tuple[str, str]],
) -> dict[str, int]:
    """The most server connections that each database's pools may open, for these logins and all seen ones.

    ``pools`` and ``databases`` are rows of SHOW POOLS and SHOW DATABASES, read by column name; a login is a
    database and a user. There is one pool for each pair, and a single one where a database forces its user.
    """
    known = {*logins, *((str(pool["database"]), str(pool["user"])) for pool in pools)}
    ceilings: dict[str, int] = {}
    for database in databases:
        name = str(database["name"])
        if name == CONSOLE:
            continue
        users = sum(of == name for of, _ in known)
        forced = bool(database.get("force_user"))
        # renamed in PgBouncer 1.24
        reserve = database.get("reserve_pool_size", database.get("reserve_pool"))
        ceiling = (min(users, 1) if forced else users) * (int(database["pool_size"]) + int(reserve or 0))
        cap = int(database.get("max_connections") or 0)
        ceilings[name] = min(ceiling, cap) if cap else ceiling
    return ceilings

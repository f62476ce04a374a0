"""The connection pooler: a query as one of its users, and its admin console.

psycopg is imported on use, because it takes a tenth of the suite's collection time.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_readiness import SetupError

from smoke.network.connections import relayed

CONNECT_TIMEOUT_S = 2
#: The console answers immediately; its longest answer has a line per client.
ANSWER_WITHIN_S = 5.0
MAX_ANSWER = 1024 * 1024
#: The database that is the console itself.
CONSOLE = "pgbouncer"


class NoPool(AssertionError):
    """The pooler does not answer, or refuses one of its users."""


def ask(dsn: str, query: str) -> list[dict[str, Any]]:
    """The rows of one query; NoPool if the pooler fails, SetupError if the runner cannot resolve it.

    Autocommit, because the console has no transactions; no prepared statements, because transaction pooling
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
        raise SetupError(
            f"PgBouncer's name does not resolve on this runner: {error}\n"
            "  next: correct the DSN, or run where the name resolves (DNS, VPN)"
        ) from None
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


def password_of(dsn: str) -> str | None:
    """The password of a DSN; None if its user logs in without one, or with a certificate as well."""
    parts = _parts(dsn)
    return None if "sslcert" in parts else parts.get("password")


#: Kinds of authentication in PgBouncer that know no passwords, or lock a user after wrong ones.
_NOT_TRIED = ("cert", "ldap", "pam", "peer")


def untried(dsn: str, kind: str) -> str:
    """Why no wrong password is tried for a DSN's user where this is the `auth_type`; empty if one is."""
    if not password_of(dsn):
        return "its DSN has no password, or also a certificate"
    if kind in _NOT_TRIED:
        return f"PgBouncer's auth_type is {kind}, which knows no passwords, or may lock users out"
    return ""


#: What a server says that turns everybody away, whatever their password.
_FULL = re.compile(
    "too many|no more connections|remaining connection slots|shutting down|starting up|query_wait_timeout|"
    "cannot connect to server|login has been failing",
    re.IGNORECASE,
)
#: How a server's own refusal begins; older PgBouncers say ERROR.
_SAID = re.compile(r"\b(?:FATAL|ERROR):")


def admits(dsn: str, password: str) -> bool:
    """Whether the DSN's user is let in with this password instead of their own.

    SetupError if the password was not judged: the connection failed, or the server took no client.
    """
    from psycopg.conninfo import make_conninfo

    try:
        ask(make_conninfo(dsn, password=password), "SELECT 1 AS one")
    except NoPool as refusal:
        if not _SAID.search(str(refusal)) or _FULL.search(str(refusal)):
            raise SetupError(f"not examined: no answer to another password: {refusal}") from None
        return False
    return True


def waiting_in(pools: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many clients wait for a server connection, by pool; rows of SHOW POOLS."""
    return {f"{row['database']}/{row['user']}": int(row["cl_waiting"]) for row in pools if row["cl_waiting"]}


def can_serve(pools: Iterable[Mapping[str, Any]]) -> bool:
    """Whether pools have clients, and each of these pools holds a server connection; rows of SHOW POOLS."""
    asked = [row for row in pools if row["cl_active"] and row["database"] != CONSOLE]
    return bool(asked) and all(row["sv_active"] or row["sv_idle"] or row["sv_used"] for row in asked)


def login_of(dsn: str) -> tuple[str, str]:
    """The database and the user of a DSN; SetupError if it is malformed."""
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


@dataclass(frozen=True, slots=True)
class PoolerState:
    """The console's data: rows of SHOW POOLS, SHOW DATABASES and SHOW USERS, read by column name.

    `logins` are pairs of database and user, which may not have a pool yet. There is one pool per pair, but
    only one per database that forces its user.
    """

    pools: Sequence[Mapping[str, Any]]
    databases: Sequence[Mapping[str, Any]]
    users: Sequence[Mapping[str, Any]]
    logins: Collection[tuple[str, str]]

    @classmethod
    def of(cls, console: str, logins: Collection[tuple[str, str]] = ()) -> PoolerState:
        """Ask the console; see `ask`."""
        pools, databases, users = (ask(console, f"SHOW {what}") for what in ("POOLS", "DATABASES", "USERS"))
        return cls(pools, databases, users, logins)

    def user_of(self, login: tuple[str, str]) -> str:
        """The database user that the pooler connects as for a login."""
        forced = (each.get("force_user") for each in self._databases if each["name"] == login[0])
        return str(next(filter(None, forced), login[1]))

    def ceilings(self) -> dict[tuple[str, str], int]:
        """The maximum server connections of each pool by its own size and reserve, by database and user."""
        own = {str(each["name"]): each for each in self.users}
        known = {*self.logins, *((str(each["database"]), str(each["user"])) for each in self.pools)}
        return {
            (name, user): _set(own.get(user, {}).get("pool_size"), each["pool_size"])
            # renamed in PgBouncer 1.24
            + _set(
                own.get(user, {}).get("reserve_pool_size"),
                each.get("reserve_pool_size", each.get("reserve_pool")),
            )
            for each in self._databases
            for name in (str(each["name"]),)
            for user in {self.user_of(login) for login in known if login[0] == name}
        }

    def most(self, caps: Mapping[str, int]) -> int:
        """The maximum server connections of all pools; `caps` are the users' limits over all of theirs."""
        found, users = self.ceilings(), {user for _, user in self.ceilings()}
        by_user = {user: self.most_of(user, caps) for user in users}
        by_database = [
            min(
                int(each.get("max_connections") or 0) or _UNLIMITED,
                sum(min(most, by_user[user]) for (name, user), most in found.items() if name == each["name"]),
            )
            for each in self._databases
        ]
        return min(sum(by_user.values()), sum(by_database))

    def most_of(self, user: str, caps: Mapping[str, int]) -> int:
        """The maximum server connections of one user, over all databases."""
        limits = {str(each["name"]): int(each.get("max_connections") or 0) for each in self._databases}
        pools = (
            min(most, limits[name] or most) for (name, own), most in self.ceilings().items() if own == user
        )
        return min(sum(pools), caps.get(user, _UNLIMITED))

    def caps(self) -> dict[str, int] | None:
        """The limits of users over all pools, if there are any; None if this version reports none."""
        if not all("max_user_connections" in each for each in self.users):
            return None
        limits = {str(each["name"]): int(each["max_user_connections"] or 0) for each in self.users}
        return {user: limit for user, limit in limits.items() if limit}

    def held(self) -> dict[str, int]:
        """How many server connections each user has now."""
        found: dict[str, int] = {}
        for each in self.pools:
            if each["database"] != CONSOLE:
                servers = sum(int(count) for name, count in each.items() if name.startswith("sv_"))
                found[str(each["user"])] = found.get(str(each["user"]), 0) + servers
        return found

    def modes(self, default: str, console_user: str) -> dict[str, str]:
        """The pooling mode of each pool, and of databases and users that have none yet; a user's decides."""
        found = {f"{each['database']}/{each['user']}": str(each["pool_mode"]) for each in self.pools
                 if each["database"] != CONSOLE}  # fmt: skip
        users = {str(each["name"]): each.get("pool_mode") for each in self.users
                 if each["name"] not in (CONSOLE, console_user)}  # fmt: skip
        found |= {f"user {name}": str(mode) for name, mode in users.items() if mode}
        for each in self._databases:
            forced = users.get(str(each.get("force_user")))
            if not each.get("disabled") and not all(users.values() or [None]):
                found[f"database {each['name']}"] = str(forced or each["pool_mode"] or default)
        return found

    @property
    def _databases(self) -> list[Mapping[str, Any]]:
        return [each for each in self.databases if each["name"] != CONSOLE]


_UNLIMITED = 1_000_000


def _set(own: object, general: object) -> int:
    """A user's own setting, if there is one."""
    return int(str(own if own is not None else general or 0))


@dataclass(frozen=True, slots=True)
class Share:
    """How many connections the plan gives to one user, of one service or of several."""

    services: tuple[str, ...]
    connections: int


def shares_of(
    seen: PoolerState, logins: Mapping[str, tuple[str, str]], budget: Mapping[str, int]
) -> dict[str, Share]:
    """The share of each user; `logins` and `budget` are by service. Services of one user have one share."""
    found: dict[str, Share] = {}
    for service, login in logins.items():
        user = seen.user_of(login)
        before = found.get(user, Share((), 0))
        found[user] = Share((*before.services, service), before.connections + budget[service])
    return found


def overdrawn(
    seen: PoolerState, shares: Mapping[str, Share], limit: int, roles: Callable[[], Mapping[str, int]]
) -> tuple[list[str], list[str]]:
    """The users that have, or may have, more connections than the plan gives them, and what is not known.

    `limit` is for all of them together. `roles` asks the database for its own limit of each user, which
    applies if the pooler's limits are too wide.
    """
    wrong: list[str] = []
    unknown: list[str] = []
    held = seen.held()
    if (all_ := sum(held.values())) > limit:
        wrong.append(f"the pools have {all_} connections, but the plan gives the services {limit}")
    for user, share in shares.items():
        if (own := held.get(user, 0)) > share.connections:
            wrong.append(f"{_named(user, share)} has {own} connections, but its share is {share.connections}")
    said = seen.caps()
    may = _beyond(seen, shares, limit, said or {})
    if may and not wrong:
        caps = dict(said or {})
        for user, most in roles().items():
            caps[user] = min(most, caps.get(user, most))
        may = _beyond(seen, shares, limit, caps)
        (wrong if said is not None else unknown).extend(may)
    return wrong, unknown


def _beyond(seen: PoolerState, shares: Mapping[str, Share], limit: int, caps: Mapping[str, int]) -> list[str]:
    most = seen.most(caps)
    found = [f"the pools may open {most} connections, but the plan allows {limit}"] * (most > limit)
    for user, share in shares.items():
        if (own := seen.most_of(user, caps)) > share.connections:
            found.append(
                f"{_named(user, share)} may take {own} connections, but its share is {share.connections}"
            )
    return found


#: Who is connected to the database as the user who asks, by address; the asker's own is the pooler's.
CONNECTED = """
SELECT host(client_addr) AS address, client_addr IS NOT DISTINCT FROM inet_client_addr() AS own,
    count(*)::int AS connections
FROM pg_stat_activity WHERE usename = current_user AND backend_type = 'client backend' GROUP BY client_addr
"""


def setting(console: str, name: str) -> str:
    """One of the pooler's settings; empty if its version has none of that name."""
    return next((str(row["value"]) for row in ask(console, "SHOW CONFIG") if row["key"] == name), "")


def shares_its_address(console: str) -> bool:
    """Whether other poolers may share the address, each with connections that only it shows."""
    return setting(console, "so_reuseport") not in ("", "0")


def past(connected: Iterable[Mapping[str, Any]], held: int | None, poolers: Collection[str]) -> list[str]:
    """A user's connections to the database that are not the pooler's; rows of `CONNECTED`.

    `held` is how many this pooler has for the user, None if only some of them are visible; `poolers` are the
    addresses of all its tasks. If its own is not among them, as behind a tunnel, other addresses may belong
    to its other tasks.
    """
    rows = [*connected]
    here, found = sum(row["connections"] for row in rows if row["own"]), list[str]()
    if held is not None and here > held:
        found.append(f"{here} from the pooler's address, which has {held}")
    if any(row["own"] and row["address"] in poolers for row in rows):
        found += [
            f"{row['connections']} from {row['address']}"
            for row in rows
            if not row["own"] and row["address"] not in poolers
        ]
    return found


def addresses_of(dsn: str) -> set[str]:
    """The addresses of the tasks that answer under a DSN's host."""
    parts = _parts(dsn)
    found = socket.getaddrinfo(str(parts.get("host") or "localhost"), None, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


def _named(user: str, share: Share) -> str:
    services = " and ".join(share.services)
    return user if user == services else f"{user} ({services})"

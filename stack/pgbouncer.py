"""The run's PgBouncer: found or fetched, configured, and altered through its admin console.

`python -m stack.pgbouncer` fetches it from the machine's own Debian sources and needs no root: it downloads
the package and those of its libraries that the machine lacks, and unpacks them into `.stack/`. Nothing is
installed, no service is registered, nothing outside `.stack/` is written.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from stack.host import LOOPBACK, RunDir, StackError, reachable_by_others, write_private
from stack.postgres import DATABASE, answers
from stack.supervisor import Command, Part

COMMAND = "python -m stack.pgbouncer"
PACKAGE = "pgbouncer"
BY_HAND = "or install the package pgbouncer by hand, on PATH or in /usr/sbin"
ADMIN = "pgbouncer_admin"
CONSOLE = "pgbouncer"
# The plan's connection budget (contract section 4): of 85 connections these are the services' shares.
SHARES = {"freeside": 30, "dixie": 20, "finn": 15}
CONSOLE_TIMEOUT_S = 5
#: The console commands of each alteration.
ALTERATIONS: Mapping[str, tuple[str, ...]] = {
    "any-password": ("SET auth_type = 'trust'",),
    "session-mode": ("SET pool_mode = 'session'",),
    "oversized": ("SET default_pool_size = 80", "SET max_db_connections = 200"),
    "one-takes-more": ("SET default_pool_size = 60",),
    "nobody-served": ("PAUSE platform",),
    "session-database": ("RELOAD",),
    "gone-round": (),
}
#: The users who have a connection past the pooler under an alteration.
GONE_ROUND: Mapping[str, tuple[str, ...]] = {"gone-round": tuple(SHARES)}
#: The connections that an alteration keeps busy, by user: not every version shows what a pool may open.
TAKEN: Mapping[str, Mapping[str, int]] = {"oversized": {"freeside": 68}, "one-takes-more": {"finn": 17}}
#: The lines that an alteration adds to a section of the configuration file.
ADDED: Mapping[str, tuple[str, str]] = {
    "session-database": ("[databases]", "platform_jobs = host={host} dbname=platform pool_mode=session")
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
    server_port: int = 0
    passwords: Mapping[str, str] = field(
        default_factory=lambda: {user: secrets.token_urlsafe(24) for user in (*SHARES, ADMIN)}
    )

    def dsn(self, user: str) -> str:
        """Return a connection URL: a service's to the database, the admin's to the console."""
        database = CONSOLE if user == ADMIN else DATABASE
        return f"postgresql://{user}:{self.passwords[user]}@{LOOPBACK}:{self.port}/{database}"

    def dsn_past_it(self, user: str) -> str:
        """Return the connection URL of a service that bypasses the pooler."""
        return f"postgresql://{user}:{self.passwords[user]}@{LOOPBACK}:{self.server_port}/{DATABASE}"

    def ready(self) -> bool:
        """Whether the admin console answers."""
        return answers(self.dsn(ADMIN), "SHOW VERSION")


def parts(
    run: RunDir, port: int, server_port: int, environ: Mapping[str, str]
) -> tuple[PgBouncer, list[Part]]:
    """Return the pooler's address and its part. Raises StackError when the program is missing."""
    program = find()
    if program is None:
        raise StackError(
            "the program PgBouncer was not found",
            "looked for: .stack/pgbouncer, PATH, /usr/sbin",
            f"fetch it (needs no root, installs nothing): {COMMAND}",
        )
    home = run.unprivileged("pgbouncer")
    pooler = PgBouncer(port, home / "pgbouncer.ini", server_port)
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
                self._take(self._pooler.dsn(user), user)
        for user in GONE_ROUND.get(name, ()):
            self._take(self._pooler.dsn_past_it(user), user)

    def restore(self) -> None:
        """Bring back what the configuration file says, and serve every client."""
        self._taken.close()
        self._pooler.ini.write_text(self._written, "utf-8")
        self._execute("RELOAD")
        for name in [*self._made]:
            self._execute(*UNDONE.get(name, ()))
            self._made.discard(name)

    def _take(self, dsn: str, user: str) -> None:
        """Hold a server connection, of a user's pool or past it: a transaction that does not end."""
        try:
            connection = psycopg.connect(dsn, connect_timeout=CONSOLE_TIMEOUT_S, prepare_threshold=None)
            self._taken.callback(connection.close)
            connection.execute("SELECT 1")
        except psycopg.Error as error:
            raise StackError(f"{user} is given no further connection", str(error).strip()) from error

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


@dataclass(frozen=True)
class Program:
    """An executable and the directory of its libraries, None when the system has them."""

    path: Path
    libraries: Path | None = None

    def environ(self) -> dict[str, str]:
        """Return what the process needs in its environment to find its libraries."""
        return {} if self.libraries is None else {"LD_LIBRARY_PATH": str(self.libraries)}

    def reachable_from(self, directory: Path) -> "Program":
        """Return a program that any user can execute: this one, or a copy of it in `directory`."""
        if reachable_by_others(self.path):
            return self
        copy = directory / "pgbouncer-program"
        copy.mkdir()
        path = Path(shutil.copy2(self.path, copy))
        return Program(path, self.libraries and Path(shutil.copytree(self.libraries, copy / "lib")))


def home() -> Path:
    """Return where fetched programs are kept: `.stack/` of the checkout, or $STACK_HOME."""
    return Path(os.environ.get("STACK_HOME") or Path(__file__).resolve().parent.parent / ".stack")


def find() -> Program | None:
    """Return PgBouncer: fetched before, on PATH, or where Debian puts it; else None."""
    fetched = home() / PACKAGE
    if os.access(fetched / PACKAGE, os.X_OK):
        return Program(fetched / PACKAGE, fetched / "lib")
    installed = shutil.which(PACKAGE) or shutil.which(PACKAGE, path="/usr/sbin:/usr/local/sbin")
    return Program(Path(installed)) if installed else None


def fetch() -> "Program":
    """Download and unpack PgBouncer into `.stack/pgbouncer`, replacing what is there.

    Raises StackError when the machine has no apt, no network, or no such package.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise StackError("PgBouncer cannot be fetched: this machine has no apt-get", "", BY_HAND)
    home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home(), prefix="fetch-") as scratch:
        work = Path(scratch)
        apt = _apt_options(work)
        (package,) = _download(apt, work / "program", [PACKAGE])
        debs = [package, *_download(apt, work / "libraries", _missing_libraries(package))]
        for deb in debs:
            _run(["dpkg-deb", "-x", str(deb), str(work / "root")])
        _assemble(work / "root", work / PACKAGE)
        shutil.rmtree(home() / PACKAGE, ignore_errors=True)
        (work / PACKAGE).rename(home() / PACKAGE)
    program = Program(home() / PACKAGE / PACKAGE, home() / PACKAGE / "lib")
    _run([str(program.path), "--version"], program.environ())
    return program


def _apt_options(work: Path) -> list[str]:
    # As root apt would hand the download to its own user, who cannot enter the scratch directory.
    root = ["-o", "APT::Sandbox::User=root"] if os.getuid() == 0 else []
    # Where the machine's package lists are empty, as in most images, lists of our own are made in the scratch
    # directory: that needs no root, and leaves the machine's alone.
    if _output(["apt-cache", "show", PACKAGE]):
        return root
    for name in ("lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    options = [f"Dir::State={work}", f"Dir::State::lists={work}/lists", f"Dir::Cache={work}/cache",
               "Dir::State::status=/var/lib/dpkg/status", "Debug::NoLocking=1"]  # fmt: skip
    apt = [*root, *(word for option in options for word in ("-o", option))]
    _run(["apt-get", *apt, "-q", "update"])
    return apt


def _missing_libraries(package: Path) -> list[str]:
    # Names differ between releases (libc-ares2, libcares2, libevent-2.1-7t64): the package names them.
    depends = _output(["dpkg-deb", "-f", str(package), "Depends"])
    names = [name for name in re.findall(r"(?:^|,)\s*([a-z0-9.+-]+)", depends) if name.startswith("lib")]
    return [
        name for name in names if "ok installed" not in _output(["dpkg-query", "-W", "-f", "${Status}", name])
    ]


def _download(apt: list[str], directory: Path, packages: list[str]) -> list[Path]:
    directory.mkdir()
    if packages:
        _run(["apt-get", *apt, "-q", "download", *packages], cwd=directory)
    return sorted(directory.glob("*.deb"))


def _assemble(root: Path, target: Path) -> None:
    (target / "lib").mkdir(parents=True)
    shutil.copy2(root / "usr/sbin" / PACKAGE, target / PACKAGE)
    for library in root.glob("**/*.so.[0-9]*"):
        shutil.copy2(library, target / "lib" / library.name)


def _run(argv: list[str], environ: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    done = _call(argv, environ, cwd)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise StackError(f"PgBouncer cannot be fetched: {argv[0]} failed", " | ".join(lines[-2:]), BY_HAND)


def _output(argv: list[str]) -> str:
    return _call(argv).stdout


def _call(
    argv: list[str], environ: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    full = {**os.environ, "LC_ALL": "C", **(environ or {})}
    return subprocess.run(argv, env=full, cwd=cwd, capture_output=True, text=True, check=False)


def main() -> int:
    """Fetch PgBouncer when it is missing, and print where it is."""
    try:
        program = find() or fetch()
    except StackError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(f"pgbouncer: {program.path}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

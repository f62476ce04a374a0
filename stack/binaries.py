"""Finds PgBouncer, or fetches it from the machine's own Debian sources into `.stack/` without installing it.

`python -m stack.binaries` needs no root: it downloads the package and those of its libraries that the machine
lacks, and unpacks them. Nothing is installed, no service is registered, nothing outside `.stack/` is written.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stack import StackError
from stack.host import reachable_by_others

COMMAND = "python -m stack.binaries"
PACKAGE = "pgbouncer"
BY_HAND = "or install the package pgbouncer by hand, on PATH or in /usr/sbin"


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

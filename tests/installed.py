"""The plugin as a user gets it: a wheel, in a virtual environment that has nothing else."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Variables that would redirect a run, or a virtual environment to another one's packages.
FOREIGN = re.compile(r"PYTHON(PATH|HOME)|VIRTUAL_ENV|PYTEST_.*|READINESS_.*|GITHUB_.*|SHOP_.*")


def pins() -> str:
    """The development versions, without their hashes, which a wheel that was just built does not have."""
    text = (ROOT / "constraints.txt").read_text("utf-8")
    return "\n".join(re.findall(r"(?m)^[\w.-]+==[^ \\;]+", text))


@cache
def wheel(place: Path) -> Path:
    """Build the wheel into a directory and return it."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place)]
    done(sys.executable, "-m", "pip", "wheel", *options, str(ROOT))
    (built,) = place.glob("pytest_readiness-*.whl")
    return built


def virtual_environment(
    place: Path, *requirements: str, python: str = sys.executable, constraints: str = ""
) -> Path:
    """Make a virtual environment with these requirements; return its directory of programs."""
    done(python, "-m", "venv", str(place))
    limits = place / "constraints.txt"
    limits.write_text(constraints)
    pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--constraint", str(limits)]
    done(*pip, *requirements)
    return place / "bin"


def run(
    *command: str, at: Path | None = None, environ: Mapping[str, str] | None = None, within: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a program without the variables of this process, for at most so many seconds."""
    clean = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
    return subprocess.run(
        command,
        cwd=at,
        env={**clean, **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=within,
    )


def done(*command: str, at: Path | None = None, code: int = 0) -> str:
    """Run a program that has to end with this exit code; return what it printed."""
    ended = run(*command, at=at)
    output = f"{' '.join(command)}\nexit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == code, output
    return ended.stdout


def tracked(folder: str) -> Sequence[Path]:
    """The folder's files that git tracks or would add, relative to the root."""
    listed = done("git", "ls-files", "-co", "--exclude-standard", folder, at=ROOT)
    return [Path(line) for line in listed.splitlines()]

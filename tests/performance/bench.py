"""Measures what a user waits for, in seconds: `python tests/performance/bench.py [rounds]`.

The boot of the embedded platform, the suite on a running one, and the collection of `smoke/` above that of
one empty test; each the median of the rounds, with its range. Every round measures all three. Exits 1 when a
median exceeds its limit.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
LIMITS = {"boot": 6.0, "suite": 10.0, "collection above one empty test": 1.0}
#: The environment of `make smoke` holds no hypothesis, whose plugin imports all of it with the first module.
AS_INSTALLED = ("-p", "no:hypothesispytest")

NO_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def pytest_s(*args: str, cwd: Path = ROOT, environ: Mapping[str, str] | None = None) -> float:
    """Return how long a pytest run took; exits when it failed."""
    environ = {**os.environ, **(environ or {})}
    command = [sys.executable, "-m", "pytest", "-q", *args]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True)
    if done.returncode not in (0, 5):
        sys.exit(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round by what was measured."""
    from stack.launch import Stack

    times: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "test_empty.py").write_text("def test_empty():\n    pass\n")
        elsewhere = ("--readiness-dir", f"{scratch}/reports", "--readiness-ledger", f"file:{scratch}/ledger")
        for _ in range(rounds):
            start = time.perf_counter()
            with Stack.start() as stack:
                times["boot"].append(time.perf_counter() - start)
                suite = ("smoke", "--env", str(stack.profile_path), *elsewhere, *AS_INSTALLED)
                times["suite"].append(pytest_s(*suite, environ=stack.environ))
            collection = pytest_s("--collect-only", "smoke", *AS_INSTALLED)
            empty = pytest_s("--collect-only", cwd=Path(scratch), environ=NO_PLUGINS)
            times["collection above one empty test"].append(collection - empty)
    return times


def main() -> int:
    """Print a Markdown table of the figures; return 1 when a limit is exceeded."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the limits are for compiled bytecode
    print(f"{rounds} rounds, {os.cpu_count()} cores\n\n| what | median | range | limit |\n|---|---|---|---|")
    exceeded = False
    for what, seconds in measure(rounds).items():
        median, limit = statistics.median(seconds), LIMITS[what]
        exceeded |= median > limit
        print(f"| {what} | {median:.2f} s | {min(seconds):.2f}–{max(seconds):.2f} s | {limit:.0f} s |")
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())

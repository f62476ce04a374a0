"""Measures what a user waits for, interleaved in one run: `python tests/performance/bench.py [rounds]`.

Three figures, each the median of the rounds with its range: the boot of the embedded platform, the suite on a
running one, and the collection of `smoke/` beside a bare pytest. Exits 1 when a limit is exceeded.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

#: seconds: boot warm, suite, collection above bare pytest
LIMITS = {"boot": 6.0, "suite": 10.0, "collection above bare pytest": 1.0}
#: The environment of `make smoke` holds no hypothesis, whose plugin imports all of it with the first module.
AS_INSTALLED = ("-p", "no:hypothesispytest")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _pytest(*args: str, cwd: Path = ROOT, **environ: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", *args]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True)
    if done.returncode not in (0, 5):
        sys.exit(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _suite(profile: Path, scratch: str) -> None:
    """Run the suite as `make smoke` does."""
    elsewhere = (
        "--readiness-dir",
        f"{scratch}/reports",
        "--readiness-ledger",
        f"file:{scratch}/ledger.jsonl",
    )
    _pytest("smoke", "--env", str(profile), *elsewhere, *AS_INSTALLED)


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round by what was measured."""
    from stack.launch import Stack

    times: dict[str, list[float]] = {"boot": [], "suite": [], "collection": [], "bare pytest": []}
    with tempfile.TemporaryDirectory() as scratch:
        bare = Path(scratch, "bare")
        bare.mkdir()
        (bare / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        for _ in range(rounds):
            start = time.perf_counter()
            stack = Stack.start()
            times["boot"].append(time.perf_counter() - start)
            try:
                os.environ.update(stack.environ)
                times["suite"].append(_seconds(partial(_suite, stack.profile_path, scratch)))
            finally:
                stack.stop()
            times["collection"].append(_seconds(lambda: _pytest("--collect-only", "smoke", *AS_INSTALLED)))
            times["bare pytest"].append(
                _seconds(lambda: _pytest("--collect-only", cwd=bare, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"))
            )
    times["collection above bare pytest"] = [
        ours - theirs for ours, theirs in zip(times["collection"], times["bare pytest"], strict=True)
    ]
    return times


def main() -> int:
    """Print a markdown table of the figures; return 1 when a limit is exceeded."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    exceeded = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # warm is what is measured
    print(f"{rounds} rounds, {os.cpu_count()} cores\n\n| what | median | range | limit |\n|---|---|---|---|")
    for what, seconds in measure(rounds).items():
        median, limit = statistics.median(seconds), LIMITS.get(what)
        exceeded |= limit is not None and median > limit
        shown = f"{limit:.0f} s" if limit else "–"
        print(f"| {what} | {median:.2f} s | {min(seconds):.2f}–{max(seconds):.2f} s | {shown} |")
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks [NAME ...] [--quick]`: measures, prints, and keeps the figures in RESULTS.md.

What a user waits for, beside what they would use instead. `make bench` runs all of it.

Each benchmark is a function ``(quick: bool) -> list[Row]`` of a module beside this one, and its docstring the
first sentence of its section. The answer is 1 when a figure exceeds its limit.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import ROOT, page, table

#: In the order of the page, each with its module.
BENCHMARKS = {"suite": "suite", "overhead": "plugin", "ledger": "plugin", "repository": "suite"}
RESULTS = Path(__file__).with_name("RESULTS.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="Fewer rounds and smaller sizes; RESULTS.md stays as it is"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {', '.join(unknown)} (allowed: {', '.join(BENCHMARKS)})")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the limits are for compiled bytecode
    sys.path.insert(0, str(ROOT))
    exceeded = False
    for name in options.names or BENCHMARKS:
        benchmark = getattr(importlib.import_module(f"{__package__}.{BENCHMARKS[name]}"), name)
        try:
            rows = benchmark(options.quick)
        except SystemExit as problem:  # one benchmark failed; the others still run
            print(f"## {name}\n\n{problem}\n", flush=True)
            exceeded = True
            continue
        exceeded |= any(row.is_exceeded for row in rows)
        what = str(benchmark.__doc__)
        section = f"{what} Measured {_when_and_where()}.\n\n{table(rows)}"
        print(f"## {name}\n\n{section}\n", flush=True)
        if not options.quick:
            before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
            RESULTS.write_text(page(before, {name: section}, BENCHMARKS), encoding="utf-8")
    return int(exceeded)


def _when_and_where() -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores ({_processor()}), "
        f"Python {platform.python_version()}, load {os.getloadavg()[1]:.1f}"
    )


def _processor() -> str:
    """Return the processor model; the machine's name is left out."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.machine()


if __name__ == "__main__":
    sys.exit(main())

"""What a benchmark measures of a program (time, memory, HTTP calls), and the page that shows its figures.

As a plugin of pytest, `-p benchmarks.measure`, it notes when each HTTP call of a run was under way. What a
script would take that makes the same calls in the same order, and does nothing else, is the time in which at
least one of them was under way.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
#: The environment of `make smoke` holds no hypothesis, whose plugin imports all of it with the first module.
AS_INSTALLED = ("-p", "no:hypothesispytest")


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished program: its wall time, peak resident memory and output.

    ``cpu_s`` is the CPU time of the program and the processes it waited for, which a busy machine changes
    little.
    """

    seconds: float
    cpu_s: float
    peak_mib: float
    output: str


def ran(
    command: Sequence[str],
    cwd: Path = ROOT,
    environ: Mapping[str, str] | None = None,
    accepted: Sequence[int] = (0,),
) -> Ran:
    """Run a program to its end; SystemExit with its last lines when its exit status is not accepted."""
    with tempfile.TemporaryFile("w+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **(environ or {})}, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        output = log.read()
    if process.returncode not in accepted:
        sys.exit(f"{' '.join(command)} exited {process.returncode}:\n{output[-2000:]}")
    return Ran(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


def ran_python(
    *arguments: str,
    cwd: Path = ROOT,
    environ: Mapping[str, str] | None = None,
    accepted: Sequence[int] = (0, 5),
) -> Ran:
    """Run this interpreter with arguments, such as ``-m pytest``; its 5 says that no test was collected."""
    return ran([sys.executable, *arguments], cwd, environ, accepted)


#: Environment variable with the path of the file for the notes.
VARIABLE = "BENCHMARK_CALLS"


def pytest_collection_finish() -> None:
    """Record the calls of httpx's client and of every subclass that exists by now."""
    if name := os.environ.get(VARIABLE):
        spans: list[tuple[float, float]] = []
        kinds: list[type[httpx.Client]] = [httpx.Client, *httpx.Client.__subclasses__()]
        for kind in kinds:
            if "send" in vars(kind):
                _note(kind, spans)
        notes = Path(name)
        atexit.register(lambda: notes.write_text(json.dumps(spans), encoding="utf-8"))


def _note(kind: type[httpx.Client], spans: list[tuple[float, float]]) -> None:
    send: Callable[..., Any] = kind.send

    def noted(self: httpx.Client, *args: Any, **kwargs: Any) -> httpx.Response:
        start = time.monotonic()
        try:
            response: httpx.Response = send(self, *args, **kwargs)
            return response
        finally:
            spans.append((start, time.monotonic()))

    kind.send = noted  # type: ignore[method-assign]


def under_way(spans: Iterable[tuple[float, float]]) -> float:
    """Return the seconds in which at least one of the spans was under way."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


_SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
PAGE = """\
# Results of the benchmarks

`make bench` measures all of it again, `make bench ARGS=NAME` one section. Seconds are those of the machine
that a section names; the two sides of a ratio are measured in one run, so ratios hold elsewhere, too.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: ``value`` in ``unit``, and its limit; with None it is only shown."""

    name: str
    value: float
    unit: str = "s"
    limit: float | None = None
    note: str = ""

    @property
    def is_exceeded(self) -> bool:
        """Whether the value is above its limit."""
        return self.limit is not None and self.value > self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"{self.limit:g} {self.unit}"
        value = f"{_figure(self.value)} {self.unit}"
        return f"| {self.name} | {f'**{value}**' if self.is_exceeded else value} | {limit} | {self.note} |"


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    return "\n".join(("| what | value | limit | note |", "|---|---:|---:|---|", *map(str, rows)))


def page(before: str, sections: Mapping[str, str], names: Iterable[str]) -> str:
    """Return the page with new sections in place of older ones of that name; those not in ``names`` go."""
    known = {name: body.strip() for name, body in _SECTION.findall(before)} | {**sections}
    return "\n".join([PAGE, *(f"## {name}\n\n{known[name]}\n" for name in names if name in known)])


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value.is_integer() else f"{value:.3g}"

"""The plugin on checks that do nothing: above bare pytest, beside pytest-html, and what its reports cost.

The two sides of a difference or a ratio run one after the other; each figure is the lowest of the rounds.
Times of runs in one process are CPU time, all others wall time.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path

from benchmarks.measure import Ran, Row, ran_python

SIZES, QUICK_SIZES = (100, 1_000, 10_000), (100, 1_000)
#: Checks in one module.
_MODULE = 100
_PLAN = """
schema_version = 1
title = "Checks that do nothing"
suite = "smoke"
phases = ["work"]
[policy]
require_evidence = false
[[goal]]
id = "G-1"
title = "Nothing"
"""
_PAGE = ("-p", "pytest_metadata.plugin", "-p", "pytest_html.plugin")
_RERUNS = ("-p", "pytest_rerunfailures")
#: What is compared: the plugins that are loaded by name, and the options.
_KINDS: Mapping[str, Sequence[str]] = {
    "bare pytest": ("bare",),
    "pytest-html": ("bare", *_PAGE, "--html=page.html", "--self-contained-html"),
    "with reruns": ("bare", *_RERUNS, "--reruns=1", *_PAGE, "--html=page.html", "--self-contained-html"),
    "readiness": ("smoke", "-p", "pytest_readiness.adapter.plugin", *_RERUNS, *_PAGE),
}
_ENVIRON = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
_HEAVY = ("boto3", "cryptography", "jinja2")


def run(quick: bool) -> list[Row]:
    """Return times, ratios and memory by number of checks, then those of the reports and of the import."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in QUICK_SIZES if quick else SIZES:
            root = Path(scratch) / str(size)
            write_project(root, size)
            for workers in (0, 2):
                rounds = 1 if quick or size == SIZES[-1] else 3
                rows += _compared(size, workers, measured(root, workers, rounds))
            rows += _reports(root / "reports", size)
    return [*rows, *_import(3 if quick else 10)]


def write_project(root: Path, size: int) -> None:
    """Write a project with ``size`` checks that do nothing, and as many tests beside them."""
    marks = 'pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("work"), pytest.mark.p1]\n'
    for folder, head in (("smoke", f"import pytest\n{marks}"), ("bare", "")):
        (root / folder).mkdir(parents=True)
        for start in range(0, size, _MODULE):
            names = range(start, min(start + _MODULE, size))
            body = "".join(f"def test_nothing_{name}():\n    pass\n" for name in names)
            (root / folder / f"test_{folder}_{start}.py").write_text(head + body)
    (root / "environments").mkdir()
    (root / "environments" / "schema.toml").write_text("")
    (root / "environments" / "local.toml").write_text('name = "local"\nlive = false\n')
    (root / "readiness.toml").write_text(_PLAN)
    (root / "pytest.ini").write_text("[pytest]\n")


def measured(root: Path, workers: int = 0, rounds: int = 1) -> dict[str, Ran]:
    """Return the fastest run of each kind, by its name."""
    spread = ("-p", "xdist.plugin", "-n", str(workers)) if workers else ()
    found: dict[str, Ran] = {}
    for _ in range(rounds):
        for kind, arguments in _KINDS.items():
            command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *spread, *arguments)
            one = ran_python(*command, cwd=root, environ=_ENVIRON)
            found[kind] = min(one, found.get(kind, one), key=attrgetter(_time(workers)))
    return found


def _time(workers: int) -> str:
    """Return what of a run is its time: what it computed, which a busy machine changes little, or all."""
    return "seconds" if workers else "cpu_s"


def _compared(size: int, workers: int, found: Mapping[str, Ran]) -> Iterator[Row]:
    what = f"{size:,} checks{f', -n {workers}' if workers else ''}"
    took = {kind: attrgetter(_time(workers))(one) for kind, one in found.items()}
    bare, page, beside, own = took.values()
    last = size == SIZES[-1]
    times = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in took.items())
    note = f"{'wall' if workers else 'CPU'} time: {times}"
    above = 1000 * (own - bare) / size
    yield Row(f"{what}: above bare pytest, each", above, "ms", 0.25 if size > SIZES[0] else None, note)
    above = 1000 * (own - beside) / size
    yield Row(f"{what}: above pytest-html and pytest-rerunfailures, each", above, "ms")
    yield Row(f"{what}: of pytest-html's time", own / page, "×", 1.25 if last else None)
    memory = ", ".join(f"{kind} {one.peak_mib:.0f} MiB" for kind, one in found.items())
    ratio = found["readiness"].peak_mib / found["pytest-html"].peak_mib
    yield Row(f"{what}: of pytest-html's memory", ratio, "×", 1.5 if last else None, memory)


def _reports(directory: Path, size: int) -> Iterator[Row]:
    from pytest_readiness.core.redaction import Redactor
    from pytest_readiness.report import write_all

    model = json.loads((directory / "readiness.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        write_all(model, Path(scratch), Redactor())
        seconds = time.perf_counter() - start
        sizes = {path.name: path.stat().st_size / 1024 for path in sorted(directory.glob("*.*"))}
    note = ", ".join(f"{name} {kib:,.0f} KiB" for name, kib in sizes.items())
    yield Row(f"{size:,} checks: reports written", seconds, "s", 3, note)
    for name in ("readiness.html", "results.html"):
        if browser := shutil.which("chromium"):
            limit = 2 if name == "readiness.html" else None
            yield Row(f"{size:,} checks: {name} opened", _opened(browser, directory / name), "s", limit)


def _opened(browser: str, page: Path) -> float:
    """Return how long a browser takes from the address to the end of loading, scripts and layout included."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = running.new_page()
        start = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="load")
        tab.evaluate("document.body.offsetHeight")
        seconds = time.perf_counter() - start
        running.close()
    return seconds


def _import(rounds: int) -> Iterator[Row]:
    least = {
        code: min(ran_python("-c", code).cpu_s for _ in range(rounds))
        for code in ("import pytest", "import pytest, pytest_readiness")
    }
    alone, both = least.values()
    yield Row("import pytest_readiness, beside pytest", 1000 * (both - alone), "ms", 60)
    code = f"import sys, pytest_readiness; print(len({{*{_HEAVY!r}}} & {{*sys.modules}}))"
    yield Row(f"of {', '.join(_HEAVY)}, imported with it", float(ran_python("-c", code).output), "", 0)

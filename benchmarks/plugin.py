"""What the plugin costs: on empty checks, and with a ledger of growing length.

The two sides of a difference or a ratio run one after the other; each figure is the lowest of the rounds.
Times of runs of checks are CPU time of all their processes, which a busy machine changes little; all others
are wall time.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any

from pytest_readiness.aws import aws_session
from pytest_readiness.core.formats import canonical_json, format_moment
from pytest_readiness.core.history import is_enough, streak
from pytest_readiness.core.plan import Policy
from pytest_readiness.ledger import Ledger, open_ledger, read_history
from pytest_readiness.ledger.chain import sealed
from pytest_readiness.ledger.s3 import BUNDLE, KEPT, packed

from benchmarks.measure import Ran, Row, ran_python
from tests.s3 import serving_s3

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


def overhead(quick: bool) -> list[Row]:
    """The plugin on checks that do nothing: above bare pytest, beside pytest-html, and with its reports."""
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
            found[kind] = min(one, found.get(kind, one), key=attrgetter("cpu_s"))
    return found


def _compared(size: int, workers: int, found: Mapping[str, Ran]) -> Iterator[Row]:
    what = f"{size:,} checks{f', -n {workers}' if workers else ''}"
    took = {kind: one.cpu_s for kind, one in found.items()}
    bare, page, beside, own = took.values()
    last = size == SIZES[-1]
    times = ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in took.items())
    note = f"CPU time: {times}"
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


LENGTHS = (10, 1_000, 100_000)
#: Entries of a suite with twenty checks, 3 KB each.
_CHECKS = [
    {
        "id": f"orders/check-{number}",
        "severity": "P0",
        "outcome": "passed",
        "class": None,
        "duration_s": 0.012,
    }
    for number in range(20)
]
_BUCKET = "launches"
_ROUNDS = 15
_OWN = "a process of its own, with its imports"
_VERIFY = "from pathlib import Path; from pytest_readiness.ledger import open_ledger; import sys; \
assert open_ledger(sys.argv[1], Path()).verify().entries == int(sys.argv[2])"


def ledger(quick: bool) -> list[Row]:
    """The ledger at three lengths: what appending, the streak and a complete verification take."""
    sizes = LENGTHS[:2] if quick else LENGTHS
    with tempfile.TemporaryDirectory() as scratch:
        rows = _rows("file", lambda size: f"file:{scratch}/{size}.jsonl", _write_file, sizes)
        with _s3(Path(scratch)):
            rows += _rows("S3", lambda size: f"s3://{_BUCKET}/{size}", _write_s3, sizes)
    return rows


def _rows(
    store: str, url: Callable[[int], str], write: Callable[[str, int], None], sizes: tuple[int, ...]
) -> list[Row]:
    ledgers = {size: open_ledger(url(size), Path()) for size in sizes}
    for size, ledger in ledgers.items():
        write(url(size), size)
        ledger.append(entry_of(size))
    took: dict[str, dict[int, list[float]]] = {what: {size: [] for size in sizes} for what in _DONE}
    for _ in range(_ROUNDS):
        for what, size in product(_DONE, sizes):
            start = time.perf_counter()
            _DONE[what](ledgers[size])
            took[what][size].append(time.perf_counter() - start)
    rows = []
    for what, by_size in took.items():
        rows += [Row(f"{store}: {what}, {size:,} entries", min(by_size[size]) * 1000, "ms") for size in sizes]
        rows.append(_ratio(f"{store}: {what}", {size: min(times) for size, times in by_size.items()}, 2.0))
    whole = {size: ran_python("-c", _VERIFY, url(size), str(size + 1 + _ROUNDS)) for size in sizes}
    rows += [
        Row(f"{store}: verify, {size:,} entries", ran.seconds, "s", 3.0, f"{_OWN}; {ran.cpu_s:.2f} s of CPU")
        for size, ran in whole.items()
    ]
    return [
        *rows,
        _ratio(f"{store}: memory of verify", {size: ran.peak_mib for size, ran in whole.items()}, 2.0),
    ]


def _ratio(what: str, by_size: Mapping[int, float], limit: float) -> Row:
    least, most = min(by_size), max(by_size)
    return Row(f"{what}, {most:,} to {least} entries", by_size[most] / by_size[least], "×", limit)


def entry_of(number: int) -> dict[str, Any]:
    """Return a run of the last days, a minute after the one before it; green ones on a live environment."""
    moment = format_moment(datetime.now(UTC) - timedelta(minutes=200_000 - number))
    return {
        "run_id": f"20261127T000000Z-{number:06x}",
        "environment": "staging",
        "live": True,
        "started_at": moment,
        "finished_at": moment,
        "verdict": "READY",
        "complete": True,
        "uncounted": None,
        "build_identity": {"shop": "1.4.2"},
        "suite_digest": "0" * 64,
        "plan_digest": "1" * 64,
        "checks": _CHECKS,
    }


def _lines(count: int) -> Iterator[bytes]:
    last = None
    for number in range(count):
        last = sealed(entry_of(number), last)
        yield canonical_json(last)


def _write_file(url: str, size: int) -> None:
    path = Path(url.removeprefix("file:"))
    with path.open("wb") as stream:
        stream.writelines(b"%b\n" % line for line in _lines(size))


def _write_s3(url: str, size: int) -> None:
    """Write what appending one by one leaves, without the entries that are only read where a bundle lacks."""
    ledger: Any = open_ledger(url, Path())
    lines = [*_lines(size)]
    full = size - size % BUNDLE
    for first in range(0, full, BUNDLE):
        name = f"{first + 1:08d}-{first + BUNDLE:08d}.jsonl.gz"
        ledger.put(name, packed(lines[first : first + BUNDLE]))
    for number in range(max(0, min(full, size - BUNDLE)), size):
        ledger.put(f"{number + 1:08d}.json", lines[number])
    newest = {
        "entries": [*map(json.loads, lines[-KEPT:])],
        "seq": size,
        "hash": json.loads(lines[-1])["hash"],
    }
    ledger.put("newest.json", canonical_json(newest))


def _streak(ledger: Ledger) -> None:
    """Compute what the last line of ``readiness ledger show`` needs."""
    policy, now = Policy(), datetime.now(UTC)
    streak(read_history(ledger, "staging", lambda own: is_enough(own, policy, now)), policy, now)


#: What is done at each length in turn, so that a busy moment of the machine meets all of them.
_DONE: Mapping[str, Callable[[Ledger], object]] = {
    "append": lambda ledger: ledger.append(entry_of(200_000)),
    "streak": _streak,
}


@contextmanager
def _s3(home: Path) -> Iterator[None]:
    """Provide an emulator of S3 with a bucket, by the variables that botocore reads."""
    with serving_s3(home) as url:
        os.environ |= {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        aws_session().create_client("s3").create_bucket(Bucket=_BUCKET)
        yield

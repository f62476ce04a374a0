"""The ledger at three lengths: what appending, the streak and a complete verification take."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

from pytest_readiness.aws import aws_session
from pytest_readiness.core.formats import canonical_json, format_moment
from pytest_readiness.core.history import is_enough, streak
from pytest_readiness.core.plan import Policy
from pytest_readiness.ledger import Ledger, open_ledger, read_history
from pytest_readiness.ledger.chain import sealed
from pytest_readiness.ledger.s3 import BUNDLE, KEPT, packed

from benchmarks.measure import Row, ran_python
from tests.s3 import serving_s3

SIZES = (10, 1_000, 100_000)
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


def run(quick: bool) -> list[Row]:
    """Return the best of some rounds for a ledger in a file and one in S3 (an emulator on this machine)."""
    sizes = SIZES[:2] if quick else SIZES
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
    """Do what ``readiness ledger show`` does for its last line."""
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

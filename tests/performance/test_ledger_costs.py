"""What a ledger costs does not grow with it: bytes read, entries parsed, calls of S3, memory. No seconds."""

import gzip
import io
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pytest_readiness.core.formats import canonical_json
from pytest_readiness.core.history import is_enough, streak
from pytest_readiness.core.plan import Policy
from pytest_readiness.ledger import FileLedger, Ledger, read_history
from pytest_readiness.ledger.chain import sealed
from pytest_readiness.ledger.s3 import BUNDLE, READERS, S3Ledger, packed

SHORT, LONG = 10, 3_000
NOW = datetime(2026, 11, 27, tzinfo=UTC)


def entry(number: int) -> dict[str, Any]:
    return {
        "run_id": f"r{number}",
        "verdict": "READY",
        "live": False,
        "deployed": False,
        "finished_at": "2026-11-26T00:00:00Z",
        "checks": [{"id": f"a/b{each}", "severity": "P0"} for each in range(20)],
    }


def lines(count: int) -> Iterator[bytes]:
    last = None
    for number in range(count):
        last = sealed(entry(number), last)
        yield canonical_json(last)


def in_a_file(path: Path, count: int) -> FileLedger:
    ledger = FileLedger(path / f"{count}.jsonl.gz")
    ledger.path.write_bytes(b"".join(line + b"\n" for line in lines(count)))
    ledger.append(entry(count))
    return ledger


class Bucket:
    """S3 in memory with the calls that a ledger makes, counting them."""

    class exceptions:
        ClientError = ClientError

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()

    def _refused(self, code: str) -> ClientError:
        return ClientError({"Error": {"Code": code}}, "call")

    def put_object(self, Key: str, Body: bytes, IfNoneMatch: str = "", **_: Any) -> None:
        self.calls["put"] += 1
        if IfNoneMatch and Key in self.objects:
            raise self._refused("PreconditionFailed")
        self.objects[Key] = Body

    def get_object(self, Key: str, **_: Any) -> dict[str, Any]:
        self.calls["get"] += 1
        if Key not in self.objects:
            raise self._refused("NoSuchKey")
        return {"Body": io.BytesIO(self.objects[Key]), "ResponseMetadata": {"HTTPHeaders": {}}}

    def get_paginator(self, _: str) -> "Bucket":
        return self

    def paginate(self, Prefix: str, StartAfter: str, **_: Any) -> Iterator[dict[str, Any]]:
        found = sorted(key for key in self.objects if key.startswith(Prefix) and key > StartAfter)
        for start in range(0, max(1, len(found)), 1000):
            self.calls["list"] += 1
            page = found[start : start + 1000]
            yield {"Contents": [{"Key": key, "Size": len(self.objects[key])} for key in page]}


def in_a_bucket(count: int) -> tuple[S3Ledger, Bucket]:
    ledger, bucket = S3Ledger("launches", "p"), Bucket()
    ledger._client = bucket
    every = [*lines(count)]
    for number, line in enumerate(every, start=1):
        bucket.objects[f"p/{number:08d}.json"] = line
    for first in range(1, count - BUNDLE + 2, BUNDLE):
        name = f"p/{first:08d}-{first + BUNDLE - 1:08d}.jsonl.gz"
        bucket.objects[name] = packed(every[first - 1 : first + BUNDLE - 1])
    newest = json.loads(every[-1])
    bucket.objects["p/newest.json"] = canonical_json({"seq": newest["seq"], "hash": newest["hash"]})
    ledger.append(entry(count))
    return ledger, bucket


def counted_streak(ledger: Ledger) -> None:
    policy = Policy()
    entries = read_history(ledger, "", lambda own: is_enough(own, policy, NOW))
    assert streak(entries, policy, NOW).reached


USES: dict[str, Callable[[Ledger], object]] = {
    "append": lambda ledger: ledger.append(entry(0)),
    "streak": counted_streak,
}


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    calls: Counter[str] = Counter()
    loads = json.loads

    def counting(content: Any, **kwargs: Any) -> Any:
        calls["parsed"] += 1
        return loads(content, **kwargs)

    monkeypatch.setattr("pytest_readiness.ledger.chain.json.loads", counting)
    return calls


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("use", USES)
def test_a_long_file_is_read_and_parsed_as_little_as_a_short_one(
    tmp_path: Path, parses: Counter[str], use: str
) -> None:
    spent = {}
    for size in (SHORT, LONG):
        ledger = in_a_file(tmp_path, size)
        parses.clear()
        before = bytes_read()
        USES[use](ledger)
        spent[size] = (bytes_read() - before, parses["parsed"])
    assert spent[LONG][0] <= 2 * spent[SHORT][0] + 4096
    assert spent[LONG][1] <= spent[SHORT][1]


@pytest.mark.parametrize("use", USES)
def test_a_long_ledger_in_s3_takes_the_calls_of_a_short_one(use: str) -> None:
    spent = {}
    for size in (SHORT, LONG):
        ledger, bucket = in_a_bucket(size)
        USES[use](ledger)  # the memory of an older version holds no entries: the first append gives it some
        bucket.calls.clear()
        USES[use](ledger)
        spent[size] = bucket.calls
    assert spent[LONG] == spent[SHORT]
    assert spent[LONG].total() <= 7


def test_verifying_s3_takes_a_call_for_each_bundle_and_for_each_entry_after_the_last() -> None:
    ledger, bucket = in_a_bucket(LONG)
    bucket.calls.clear()
    assert ledger.verify().entries == LONG + 1
    assert bucket.calls["get"] == 1 + LONG // BUNDLE + (LONG + 1) % BUNDLE


def test_a_bundle_is_written_when_it_is_full() -> None:
    ledger, bucket = in_a_bucket(BUNDLE - 2)
    name = f"p/00000001-{BUNDLE:08d}.jsonl.gz"
    assert name not in bucket.objects
    ledger.append(entry(0))
    entries = gzip.decompress(bucket.objects[name]).splitlines()
    assert len(entries) == BUNDLE
    for number in range(1, BUNDLE):
        del bucket.objects[f"p/{number:08d}.json"]
    assert ledger.verify().ok, "the bundle stands for its entries"
    bucket.objects[name] = packed([entries[0].replace(b'"r0"', b'"x0"'), *entries[1:]])
    assert ledger.verify().first_bad == 1


@pytest.mark.parametrize("content", [b"{}", b"\x1f\x8b", packed([b"{}"])[:-3], packed([b"{}"]) + b"more"])
def test_a_bundle_that_cannot_be_unpacked_is_a_broken_entry(content: bytes) -> None:
    ledger, bucket = in_a_bucket(BUNDLE)
    bucket.objects[f"p/00000001-{BUNDLE:08d}.jsonl.gz"] = content
    found = ledger.verify()
    assert found.first_bad == 1
    assert ".jsonl.gz" in found.problem


def test_a_bundle_never_contains_edited_entries() -> None:
    ledger, bucket = in_a_bucket(BUNDLE - 2)
    bucket.objects["p/00000008.json"] = bucket.objects["p/00000008.json"].replace(b'"r7"', b'"x7"')
    ledger.append(entry(0))
    assert not [name for name in bucket.objects if name.endswith(".jsonl.gz")]
    assert "its entries are not linked" in ledger.notes[-1]
    assert ledger.verify().first_bad == 8


@pytest.mark.parametrize("store", ["file", "s3"])
def test_verifying_takes_the_memory_of_a_few_entries(tmp_path: Path, store: str) -> None:
    ledger = in_a_file(tmp_path, LONG) if store == "file" else in_a_bucket(LONG)[0]
    size = len(next(lines(1)))
    tracemalloc.start()
    assert ledger.verify().ok
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    allowed = 20 if store == "file" else (READERS + 2) * BUNDLE
    assert peak < allowed * size + 1_000_000


def test_verifying_parses_nothing_that_its_bytes_prove(tmp_path: Path, parses: Counter[str]) -> None:
    ledger = in_a_file(tmp_path, LONG)
    parses.clear()
    assert ledger.verify().ok
    assert parses["parsed"] <= 3

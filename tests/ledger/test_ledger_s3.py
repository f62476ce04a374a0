"""The S3 ledger against an emulator of S3 in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.stub import Stubber
from pytest_readiness.core.errors import LedgerError
from pytest_readiness.ledger import open_ledger, read_history
from pytest_readiness.ledger.s3 import S3Ledger

from tests.stack.tools import poll

BUCKET = "launches"


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_ministack/health").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("s3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "ERROR",
        "DOCKER_HOST": f"unix://{home}/none.sock",
        "TMPDIR": str(home),
        "S3_DATA_DIR": str(home / "data"),
        "STATE_DIR": str(home / "state"),
    }
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "ministack.app:app"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        poll(lambda: answers(url), within=20, what="the emulator answers")
        yield url
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(autouse=True)
def runner(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> S3Ledger:
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    return S3Ledger(BUCKET, f"runs/{request.node.name}")


def put(ledger: S3Ledger, name: str, content: Any) -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{ledger.prefix}/{name}", Body=json.dumps(content))


def delete(ledger: S3Ledger, name: str) -> None:
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=f"{ledger.prefix}/{name}")


def test_entries_are_linked_and_come_back_in_order(ledger: S3Ledger) -> None:
    assert ledger.entries() == []
    for number in range(12):
        ledger.append({"run_id": f"r{number}"})
    entries = ledger.entries()
    assert [entry["run_id"] for entry in entries] == [f"r{number}" for number in range(12)]
    assert entries[11]["prev_hash"] == entries[10]["hash"]
    assert (ledger.verify().ok, ledger.verify().entries) == (True, 12)


def test_writers_at_once_make_one_chain(ledger: S3Ledger) -> None:
    def write(name: str) -> None:
        own = S3Ledger(ledger.bucket, ledger.prefix)
        for number in range(4):
            own.append({"run_id": f"{name}{number}"})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, "abc"))
    assert ledger.verify().ok
    assert {entry["run_id"] for entry in ledger.entries()} == {f"{w}{n}" for w in "abc" for n in range(4)}


def test_a_writer_that_never_gets_a_place_gives_up(ledger: S3Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Ledger, "_create", lambda *_: False)
    monkeypatch.setattr("pytest_readiness.ledger.s3.ATTEMPTS", 2)
    with pytest.raises(LedgerError, match="other runs took the next place 2 times"):
        ledger.append({})


def test_tampering_is_found_at_the_first_bad_entry(ledger: S3Ledger) -> None:
    for number in range(4):
        ledger.append({"run_id": f"r{number}"})
    second = ledger.entries()[1]

    put(ledger, "00000002.json", {**second, "run_id": "x"})
    found = ledger.verify()
    assert (found.first_bad, found.problem) == (
        2,
        "entry 2 (00000002.json) was edited: its hash does not fit its content",
    )
    with pytest.raises(LedgerError, match="entry 2"):
        ledger.append({"run_id": "next"})

    delete(ledger, "00000002.json")
    assert ledger.verify().first_bad == 2
    put(ledger, "00000002.json", second)
    assert ledger.verify().ok

    delete(ledger, "00000004.json")
    assert ledger.verify().problem == "entry 4 was removed: 4 were written"


def test_other_objects_under_the_prefix_are_no_entries(ledger: S3Ledger) -> None:
    ledger.append({"run_id": "r0"})
    put(ledger, "readme.json", {})
    put(ledger, "00000009.json.bak", {})
    assert len(ledger.entries()) == 1


def test_history_by_url(ledger: S3Ledger, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/{ledger.prefix}/{{env}}"
    open_ledger(url, tmp_path, "staging").append({"environment": "staging"})
    history = read_history(url, tmp_path, ["local", "staging"])
    assert {name: len(entries) for name, entries in history.items()} == {"local": 0, "staging": 1}
    assert open_ledger(url, tmp_path, "x").location == f"s3://{BUCKET}/{ledger.prefix}/x"


def test_a_bucket_without_a_prefix(ledger: S3Ledger) -> None:
    root = S3Ledger(BUCKET, "")
    root.append({"run_id": "r0"})
    assert root.entries()[0]["run_id"] == "r0"


def test_no_bucket_is_three_lines() -> None:
    with pytest.raises(LedgerError) as caught:
        S3Ledger("nobody-has-this", "p").entries()
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("s3://nobody-has-this/p: cannot be read: NoSuchBucket: ")
    assert lines[-1] == "  next: create the bucket, or correct the ledger's url"
    assert len(lines) == 2


def test_no_credentials_is_three_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(LedgerError, match="NoCredentialsError") as caught:
        S3Ledger(BUCKET, "p").entries()
    assert str(caught.value).endswith("  next: give the runner AWS credentials")


def test_a_missing_permission_is_named() -> None:
    ledger = S3Ledger(BUCKET, "p")
    with Stubber(ledger._s3()) as stub:
        stub.add_client_error("get_object", "AccessDenied", "no", 403)
        with pytest.raises(LedgerError) as caught:
            ledger.entries()
    assert str(caught.value).endswith(
        "next: allow s3:ListBucket on the bucket, s3:GetObject and s3:PutObject on its prefix"
    )


def test_without_boto3_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(LedgerError) as caught:
        open_ledger("s3://launches/staging", tmp_path)
    assert str(caught.value) == (
        "s3://launches/staging: needs boto3, which is not installed\n"
        "  next: pip install 'pytest-readiness[aws]'"
    )

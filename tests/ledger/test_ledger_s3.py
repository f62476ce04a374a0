"""The S3 ledger against an S3 emulator in another process."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar

import boto3
import pytest
from botocore.stub import Stubber
from pytest_readiness.core.errors import LedgerError
from pytest_readiness.ledger import open_ledger, read_history, s3
from pytest_readiness.ledger.chain import Holder, Keeper, wait_for
from pytest_readiness.ledger.s3 import S3Ledger

from tests.s3 import serving_s3
from tests.stack.tools import poll

BUCKET = "launches"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_s3(tmp_path_factory.mktemp("s3")) as url:
        yield url


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
    assert [*ledger.entries()] == []
    for number in range(12):
        ledger.append({"run_id": f"r{number}"})
    entries = [*ledger.entries()]
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


def test_tampering_is_reported_at_the_first_bad_entry(ledger: S3Ledger) -> None:
    for number in range(4):
        ledger.append({"run_id": f"r{number}"})
    second = ledger.recent(4)[1]

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
    assert ledger.verify().problem == "entry 4 (00000004.json) was removed"


def test_other_objects_under_the_prefix_are_no_entries(ledger: S3Ledger) -> None:
    ledger.append({"run_id": "r0"})
    put(ledger, "readme.json", {})
    put(ledger, "00000009.json.bak", {})
    assert len([*ledger.entries()]) == 1


def test_history_by_url(ledger: S3Ledger, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/{ledger.prefix}/{{env}}"
    open_ledger(url, tmp_path, "staging").append({"environment": "staging"})
    found = {name: len(read_history(open_ledger(url, tmp_path, name), name)) for name in ("local", "staging")}
    assert found == {"local": 0, "staging": 1}
    assert open_ledger(url, tmp_path, "x").location == f"s3://{BUCKET}/{ledger.prefix}/x"


def test_a_bucket_without_a_prefix(ledger: S3Ledger) -> None:
    root = S3Ledger(BUCKET, "")
    root.append({"run_id": "r0"})
    assert root.recent(1)[0]["run_id"] == "r0"


def test_a_missing_bucket_is_an_error_of_three_lines() -> None:
    with pytest.raises(LedgerError) as caught:
        S3Ledger("nobody-has-this", "p").recent(1)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("s3://nobody-has-this/p: cannot be read: NoSuchBucket: ")
    assert lines[-1] == "  next: create the bucket, or correct the ledger's url"
    assert len(lines) == 2


def test_missing_credentials_are_an_error_of_three_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(LedgerError, match="NoCredentialsError") as caught:
        S3Ledger(BUCKET, "p").recent(1)
    assert str(caught.value).endswith("  next: give the runner AWS credentials")


def test_a_missing_permission_is_named() -> None:
    ledger = S3Ledger(BUCKET, "p")
    with Stubber(ledger._s3()) as stub:
        stub.add_client_error("get_object", "AccessDenied", "no", 403)
        with pytest.raises(LedgerError) as caught:
            ledger.recent(1)
    assert str(caught.value).endswith(
        "next: allow s3:ListBucket on the bucket, s3:GetObject and s3:PutObject on its prefix"
    )


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """A limit of half a second for each call, and an event that releases hanging calls."""
    monkeypatch.setattr(s3, "DEADLINE_S", 0.5)
    over = Event()
    yield over
    over.set()


def refused_in_time(call: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(LedgerError) as caught:
        call()
    assert time.monotonic() - began < 5
    assert "TimeoutError: no answer within 0.5 s" in str(caught.value)
    assert str(caught.value).endswith(
        "  next: correct the runner's DNS, its route to AWS, or the source of its credentials"
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: S3Ledger(BUCKET, "p").recent(1),
        lambda: S3Ledger(BUCKET, "p").prepare(),
        lambda: S3Ledger(BUCKET, "p").settle(),
    ],
    ids=["entries", "prepare", "settle"],
)
def test_a_resolver_that_hangs_is_refused(
    call: Callable[[], object], hurried: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.test")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hurried.wait(30) and [])
    refused_in_time(call)


def test_a_store_that_never_answers_is_refused(hurried: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        refused_in_time(lambda: S3Ledger(BUCKET, "p").recent(1))


def test_an_answer_in_slow_small_pieces_is_refused(hurried: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte arrives in time, except the last, which never comes."""

    class Dripping(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while not hurried.wait(0.05):
                self.wfile.write(b" ")

    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        refused_in_time(lambda: S3Ledger(BUCKET, "p").recent(1))
        hurried.set()
        server.shutdown()


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


def version(content: bytes) -> str:
    return f'"{hash(content)}"'


class Careless(BaseHTTPRequestHandler):
    """A store in memory. Its class attributes say how it differs from S3."""

    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict[str, bytes]] = {}
    lost: ClassVar[set[str]] = set()
    #: Ignores create-if-absent and overwrites what is there.
    ignores = False
    #: Objects whose writes get no answer, the first time or every time.
    drops_once = drops = ""

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", version(body))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if "list-type" in query:
            keys = "".join(f"<Contents><Key>{name}</Key></Contents>" for name in sorted(self.objects))
            listing = f"<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>"
            self.reply(200, listing.encode())
        elif path.removeprefix(f"/{BUCKET}/") in self.objects:
            self.reply(200, self.objects[path.removeprefix(f"/{BUCKET}/")])
        else:
            self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_PUT(self) -> None:
        name = self.path.removeprefix(f"/{BUCKET}/")
        if self.headers.get("Expect"):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            body = body.split(b"\r\n")[1]
        expected, there = self.headers.get("If-Match"), self.objects.get(name)
        clash = there is not None and (self.headers.get("If-None-Match") or expected)
        if clash and expected != version(there or b"") and not self.ignores:
            return self.reply(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        self.objects[name] = body
        once = self.drops_once and self.drops_once in name and name not in self.lost
        if once or (self.drops and self.drops in name):
            self.lost.add(name)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        return self.reply(200)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Careless]]:
    kind = type("Store", (Careless,), {"objects": {}, "lost": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield kind
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["00000001.json", "probe.json", "newest.json", ".json"])
def test_a_write_that_was_stored_and_not_answered_counts_once(store: type[Careless], name: str) -> None:
    store.drops_once = name
    ledger = S3Ledger(BUCKET, "p")
    ledger.append({"run_id": "r0"})
    ledger.append({"run_id": "r1"})
    assert [entry["run_id"] for entry in ledger.entries()] == ["r0", "r1"]


def test_a_write_that_is_never_answered_is_read_back(store: type[Careless]) -> None:
    store.drops = "00000001.json"
    ledger = S3Ledger(BUCKET, "p")
    ledger.append({"run_id": "r0"})
    assert [entry["run_id"] for entry in ledger.entries()] == ["r0"]


def test_a_memory_that_cannot_be_written_loses_no_run(store: type[Careless]) -> None:
    store.drops = "newest.json"
    ledger = S3Ledger(BUCKET, "p")
    ledger.append({"run_id": "r0"})
    assert [entry["run_id"] for entry in ledger.entries()] == ["r0"]
    assert ledger.notes
    assert "newest.json lags behind" in ledger.notes[0]


def test_a_store_that_ignores_conditions_is_refused(store: type[Careless]) -> None:
    store.ignores = True
    for use in (S3Ledger(BUCKET, "p").prepare, lambda: S3Ledger(BUCKET, "p").append({"run_id": "r0"})):
        with pytest.raises(LedgerError, match="ignores If-None-Match") as caught:
            use()
        assert len(str(caught.value).splitlines()) == 2
    assert not [name for name in store.objects if name.startswith("p/0")], "no entry was written"


def test_an_entry_that_another_writer_replaced_is_noticed(
    store: type[Careless], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.ignores = True
    monkeypatch.setattr(S3Ledger, "prepare", lambda _: None)
    slow, fast = S3Ledger(BUCKET, "p"), S3Ledger(BUCKET, "p")
    create = S3Ledger._create

    def overtaken(self: S3Ledger, name: str, body: bytes) -> bool:
        done = create(self, name, body)
        if self is slow:
            fast.append({"run_id": "fast"})
            create(fast, name, b"{}")
        return done

    monkeypatch.setattr(S3Ledger, "_create", overtaken)
    with pytest.raises(LedgerError, match="ignores If-None-Match"):
        slow.append({"run_id": "slow"})


def test_what_a_killed_run_announced_is_appended_once(ledger: S3Ledger) -> None:
    ledger.append({"run_id": "r0"})
    ledger.announce({"run_id": "killed", "verdict": "BROKEN"})
    ledger.announce({"run_id": "alive", "verdict": "BROKEN"})
    ledger.append({"run_id": "alive", "verdict": "BROKEN"})
    assert S3Ledger(ledger.bucket, ledger.prefix).settle() == ["killed"]
    assert ledger.settle() == []
    assert [entry["run_id"] for entry in ledger.entries()] == ["r0", "alive", "killed"]
    put(ledger, "red/forged.json", {"run_id": "forged", "verdict": "READY"})
    with pytest.raises(LedgerError, match=r"red/forged\.json: a BROKEN run"):
        ledger.settle()


HOLDS = """
import sys, threading
from pytest_readiness.ledger import s3
from pytest_readiness.ledger.chain import Holder, Keeper
s3.RENEW_S, s3.EXPIRES_S = 0.5, 3.0
lease = s3.S3Ledger(sys.argv[1], sys.argv[2]).lease("shop")
print(lease.take(Holder(sys.argv[3], "here", "now")), flush=True)
keeper = Keeper(lease, lambda why: print(why, flush=True))
sys.stdin.read()
keeper.end()
"""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_readiness.ledger.s3.EXPIRES_S", 3.0)
    monkeypatch.setattr("pytest_readiness.ledger.s3.RENEW_S", 0.2)


def holder(ledger: S3Ledger, run_id: str) -> subprocess.Popen[str]:
    """Start a process that takes the lease and keeps it until its input ends."""
    command = [sys.executable, "-c", HOLDS, ledger.bucket, ledger.prefix, run_id]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "None\n"
    return process


def own(run_id: str) -> Holder:
    return Holder(run_id, "there", "2026-11-27T00:00:00Z")


def test_a_lease_is_renewed_while_its_holder_lives_and_free_when_it_ends(
    ledger: S3Ledger, short: None
) -> None:
    with holder(ledger, "first") as process:
        heard: list[Holder] = []
        found = wait_for(ledger.lease("shop"), own("second"), 5, heard.append)
        assert found == heard[0] == Holder("first", "here", "now"), "it outlives the 3 s without renewal"
        assert ledger.lease("another").take(own("second")) is None
        process.communicate()
    assert ledger.lease("shop").take(own("second")) is None
    assert ledger.lease("shop").take(own("third")) == own("second")
    assert [*ledger.entries()] == []


def test_the_lease_of_a_killed_process_expires(ledger: S3Ledger, short: None) -> None:
    with holder(ledger, "killed") as process:
        process.kill()
    lease = ledger.lease("shop")
    assert lease.take(own("second")) == Holder("killed", "here", "now")
    assert wait_for(lease, own("second"), 20, lambda _: None) is None


def test_one_of_many_gets_a_lease(ledger: S3Ledger) -> None:
    def take(run_id: str) -> Holder | None:
        return S3Ledger(ledger.bucket, ledger.prefix).lease("shop").take(own(run_id))

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(take, "abcdef"))
    winner = "abcdef"[found.index(None)]
    assert found == [None if run_id == winner else own(winner) for run_id in "abcdef"]


def test_a_run_whose_lease_was_taken_over_notices_it(ledger: S3Ledger, short: None) -> None:
    lease, lost = ledger.lease("shop"), list[str]()
    assert lease.take(own("slow")) is None
    boto3.client("s3").put_object(
        Bucket=BUCKET, Key=f"{ledger.prefix}/lease-shop.json", Body=own("fast").encoded()
    )
    keeper = Keeper(lease, lost.append)
    poll(lambda: bool(lost), within=10, what="the loss is heard")
    assert lost == [f"the lease expired, and another run took it: {own('fast')}"]
    keeper.end()
    assert ledger.lease("shop").take(own("third")) == own("fast"), "it is not given back for another"


def test_a_lease_that_cannot_be_renewed_for_too_long_is_lost(
    store: type[Careless], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_readiness.ledger.s3.EXPIRES_S", 0.5)
    monkeypatch.setattr("pytest_readiness.ledger.s3.RENEW_S", 0.2)
    lease, lost = S3Ledger(BUCKET, "p").lease("shop"), list[str]()
    assert lease.take(own("first")) is None

    def down(*_: object, **__: object) -> bool:
        raise LedgerError("cannot be written: EndpointConnectionError", where="s3://launches/p")

    monkeypatch.setattr(S3Ledger, "put", down)
    keeper = Keeper(lease, lost.append)
    poll(lambda: bool(lost), within=10, what="the loss is heard")
    (why,) = lost
    assert why.startswith("the lease could not be renewed for 0.5 s: s3://launches/p: cannot be written: ")
    keeper.end()


def test_a_lease_whose_holder_gets_no_answer_is_held(store: type[Careless]) -> None:
    store.drops = "lease-shop.json"
    lease = S3Ledger(BUCKET, "p").lease("shop")
    assert lease.take(own("first")) is None
    assert lease.renew() is None
    assert S3Ledger(BUCKET, "p").lease("shop").take(own("second")) == own("first")


def test_a_lease_outlives_a_renewal_that_could_not_be_read_back(
    store: type[Careless], monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = S3Ledger(BUCKET, "p").lease("shop")
    assert lease.take(own("first")) is None

    def down(*_: object) -> None:
        raise LedgerError("cannot be read: ReadTimeoutError", where="s3://launches/p")

    with monkeypatch.context() as outage:
        outage.setattr(S3Ledger, "stored", down)
        with pytest.raises(LedgerError):
            lease.renew()
    before = store.objects["p/lease-shop.json"]
    assert lease.renew() is None, "it is still this run's"
    assert store.objects["p/lease-shop.json"] != before, "and was written anew"
    assert lease.renew() is None


def test_what_anyone_else_wrote_is_a_holder_without_an_id(ledger: S3Ledger) -> None:
    put(ledger, "lease-shop.json", ["a", {"run_id": 1}])
    found = ledger.lease("shop").take(own("second"))
    assert str(found) == "run without an id, at an unknown place since an unknown time"

"""The supervisor on small processes: order, one-shots, failures, ports, run directories."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import host, supervisor
from stack.host import StackError, reserve
from stack.supervisor import Command, Part, Supervisor, last_lines
from tests.stack.tools import alive


@pytest.fixture
def boss(tmp_path: Path) -> Iterator[Supervisor]:
    boss = Supervisor(tmp_path)
    yield boss
    boss.shutdown()


def _part(tmp_path: Path, name: str, code: str, *needs: str, ready: Path | None = None) -> Part:
    command = Command([sys.executable, "-c", code], dict(os.environ), tmp_path)
    return Part(name, command, frozenset(needs), ready.exists if ready is not None else None)


def test_parts_start_after_their_needs_are_ready(boss: Supervisor, tmp_path: Path) -> None:
    note = "import pathlib; p = pathlib.Path('order'); p.open('a').write({!r})"
    boss.boot(
        [
            _part(tmp_path, "last", note.format("c"), "middle"),
            _part(tmp_path, "middle", note.format("b"), "first", "a part that is not here"),
            _part(tmp_path, "first", note.format("a")),
        ]
    )
    assert (tmp_path / "order").read_text() == "abc"
    assert list(boss.ready_after) == ["first", "middle", "last"]
    assert boss.services() == {}, "one-shots are over"


def test_a_one_shot_that_fails_stops_the_boot(boss: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(StackError) as caught:
        boss.boot([_part(tmp_path, "seed", "raise SystemExit('no such table')")])
    assert str(caught.value).splitlines() == [
        "seed ended with exit code 1 while starting", "no such table", f"log: {tmp_path / 'seed.log'}"
    ]  # fmt: skip


def test_a_part_that_never_gets_ready_times_out(
    boss: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BOOT_DEADLINE_S", 0.3)
    with pytest.raises(StackError, match="idle was not ready in time"):
        boss.boot([_part(tmp_path, "idle", "import signal; signal.pause()", ready=tmp_path / "never")])


def test_stop_kills_a_process_that_ignores_sigterm(tmp_path: Path) -> None:
    boss = Supervisor(tmp_path)
    stubborn = (
        "import signal, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('up').touch()\nwhile True: signal.pause()"
    )
    boss.boot([_part(tmp_path, "stubborn", stubborn, ready=tmp_path / "up")])
    process = boss.processes["stubborn"]
    process.stop(grace=0.2)
    assert not alive(process.popen.pid)
    boss.shutdown()


def test_a_missing_program_is_named(boss: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="ghost cannot be started"):
        boss.boot([Part("ghost", Command(["/no/such/program"], {}, tmp_path))])


def test_reserved_ports_are_free_for_their_owner_alone() -> None:
    ports = reserve(8)
    assert len(set(ports)) == 8
    assert not set(ports) & set(reserve(64))
    for port in ports:
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))


def test_the_sweep_removes_orphans_only(tmp_path: Path) -> None:
    living = host.RunDir(tmp_path / (host.PREFIX + "living"))
    orphan = tmp_path / (host.PREFIX + "orphan")
    orphan.mkdir()
    (orphan / host.OWNER_LOCK).touch()
    failed = tmp_path / (host.PREFIX + "failed")
    (failed / "logs").mkdir(parents=True)
    old = tmp_path / (host.PREFIX + "old")
    old.mkdir()
    os.utime(old, (0, 0))
    host.sweep(tmp_path)
    assert living.path.exists()
    assert failed.exists(), "its logs may still be wanted"
    assert not orphan.exists()
    assert not old.exists()
    living.remove()
    assert not living.path.exists()


def test_last_lines_are_short_and_not_empty(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\n\nsecond\n" + "x" * 500 + "\n\n")
    assert last_lines(log, count=2, width=10) == ["second", "x" * 10]
    assert last_lines(tmp_path / "none") == []

"""Lifetime of a platform: killed owners, two at once, replaced parts, and boots that fail."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack import pgbouncer
from stack.host import StackError, reserve
from stack.launch import Stack
from stack.supervisor import descendants
from tests.stack.tools import alive, poll, request

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def _up() -> Iterator[tuple["subprocess.Popen[str]", dict[str, object]]]:
    command = [sys.executable, "-m", "stack", "up", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        try:
            yield owner, json.loads(owner.stdout.readline())
        finally:
            owner.kill()


def test_a_killed_owner_leaves_no_process(stack: Stack) -> None:
    with _up() as (owner, announced):
        family = descendants(owner.pid)
        assert len(family) > 8
        # Two platforms at once, and neither touches the other's ports.
        assert announced["control"] != stack.control_url
        running = [request("GET", f"{url}/services") for url in (announced["control"], stack.control_url)]
        assert running[0] == running[1]
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        killed = time.monotonic()
        poll(lambda: not any(alive(pid) for pid in family), within=2, what="every process of the stack ended")
        assert time.monotonic() - killed < 2
    left = Path(str(announced["profile"])).parent
    assert left.exists(), "a killed owner cannot remove it"
    assert request("GET", stack.profile["freeside"]["url"] + "/health")[0] == 200


@pytest.mark.parametrize("how", ["SIGINT", "end of input"])
def test_up_ends_cleanly(how: str) -> None:
    with _up() as (owner, announced):
        family = descendants(owner.pid)
        if how == "end of input":
            assert owner.stdin is not None
            owner.stdin.close()
        else:
            owner.send_signal(signal.Signals[how])
        assert owner.wait(timeout=15) == 0
    assert not any(alive(pid) for pid in family)
    assert not Path(str(announced["profile"])).parent.exists()


def test_parts_are_replaced_by_urls_from_the_environment(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins = {name: stack.profile[name]["url"] for name in ("finn", "dixie")}
    (port,) = reserve(1)
    for name, url in stand_ins.items():
        monkeypatch.setenv(f"STACK_{name.upper()}_URL", url)
    monkeypatch.setenv("STACK_FINN_KEY", "file:/of/the/stand-in.pem")
    monkeypatch.setenv("STACK_DIXIE_API_KEY", "env:KEY_OF_THE_STAND_IN")
    monkeypatch.setenv("STACK_FREESIDE_PORT", str(port))
    with Stack.start() as second:
        assert second.profile["freeside"]["url"] == f"http://127.0.0.1:{port}"
        assert second.profile["auth"]["finn_signing_key"] == "file:/of/the/stand-in.pem"
        assert second.profile["dixie"]["api_key"] == "env:KEY_OF_THE_STAND_IN"
        environ = Path(f"/proc/{second.pids['freeside']}/environ").read_text().split("\0")
        for name, url in stand_ins.items():
            assert name not in second.pids
            assert second.profile[name]["url"] == url
            assert second.profile[name]["restart_url"] == ""
            assert f"STACK_{name.upper()}_URL={url}" in environ
        run_dir = second.run_dir
    assert not run_dir.exists()


def test_a_missing_pooler_is_reported_with_the_command_that_fetches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pgbouncer, "find", lambda: None)
    with pytest.raises(StackError) as caught:
        Stack.start()
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[0]) == (3, "the program PgBouncer was not found")
    assert lines[-1].endswith("python -m stack.pgbouncer")


def test_a_part_that_exits_while_starting_is_reported_with_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "pgbouncer"
    script.write_text("#!/bin/sh\necho 'FATAL the pooler will not start'\nexit 7\n")
    script.chmod(0o755)
    monkeypatch.setattr(pgbouncer, "find", lambda: pgbouncer.Program(script))
    with pytest.raises(StackError) as caught:
        Stack.start()
    lines = str(caught.value).splitlines()
    assert lines[0] == "pgbouncer ended with exit code 7 while starting"
    assert "FATAL the pooler will not start" in lines[1]
    log = Path(lines[2].removeprefix("log: "))
    assert "will not start" in log.read_text()
    assert [entry.name for entry in log.parent.parent.iterdir()] == ["logs"], "only the logs are kept"
    shutil.rmtree(log.parent.parent)


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("STACK_FREESIDE_URL", "nonsense", "STACK_FREESIDE_URL is not a URL"),
        ("STACK_FREESIDE_PORT", "70000", "STACK_FREESIDE_PORT is not a port"),
        ("STACK_VARIANT", "nonsense", "no variant 'nonsense'"),
    ],
)
def test_up_refuses_what_it_does_not_understand(name: str, value: str, refused: str) -> None:
    environ = {**os.environ, name: value}
    command = [sys.executable, "-m", "stack", "up"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith(refused)
    assert len(done.stderr.splitlines()) <= 3


def test_a_given_run_directory_must_be_empty(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StackError, match="is not empty"):
        Stack.start(run_dir=tmp_path)
    assert (tmp_path / "thesis.txt").exists()

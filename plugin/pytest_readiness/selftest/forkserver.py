"""The fork server: imports pytest and the suite once, then runs the suite in a fresh child as often as asked.

A process that imports everything anew spends two seconds on imports alone; a fork of a warm one spends none,
and shares no state with the runs before it. pytest is run as ``python -m pytest`` would, through `runpy`.

It reads one JSON line per run from stdin, ``{"run", "args", "env", "log", "limit_s"}``, and answers on
stdout: first ``{"checks"}`` or ``{"error"}``, then ``{"run", "code", "cpu_s"}`` for each run as it ends. The
end of stdin ends it, and kills what still runs.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import runpy
import selectors
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import listing
from .logs import FORK_SERVER, last_words

KILLED = 124
_INTERNAL_ERROR = 3


@dataclass(slots=True)
class _Child:
    run: int
    pid: int
    pipe: int
    deadline: float
    told: bytes = b""
    overdue: bool = False


class ForkServer:
    """Serves runs until its input ends."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)
        self._children: dict[int, _Child] = {}
        self._tried: set[str] = set()
        self._pending = b""

    def warm(self, suite: str, listed: Path, log: Path) -> bool:
        """Collect the suite in this process and tell its checks, or why that fails."""
        os.environ[listing.VARIABLE] = str(listed)
        code = _pytest(["--collect-only", "-q", "-p", "no:cacheprovider", "-p", listing.__name__, suite])
        sys.stdout.flush()
        if code or not listed.exists():
            self._say({"error": last_words(log), "code": code})
            return False
        self._settle()
        self._say({"checks": json.loads(listed.read_text(encoding="utf-8"))})
        return True

    def serve(self) -> None:
        """Fork a child per request and report each as it ends."""
        while True:
            limits = [child.deadline for child in self._children.values() if not child.overdue]
            wait = min(limits, default=None)
            events = self._selector.select(None if wait is None else max(0.0, wait - time.monotonic()))
            for key, _ in events:
                if key.fd != self._requests:
                    self._hear(self._children[key.fd])
                elif not self._take_requests():
                    return
            for child in self._children.values():
                if not child.overdue and time.monotonic() >= child.deadline:
                    child.overdue = True
                    _kill(child.pid)

    def end(self) -> None:
        """Kill what still runs."""
        for child in self._children.values():
            _kill(child.pid)
            os.waitpid(child.pid, 0)

    def _take_requests(self) -> bool:
        part = os.read(self._requests, 65536)
        *lines, self._pending = (self._pending + part).split(b"\n")
        for line in lines:
            self._fork(json.loads(line))
        return bool(part)

    def _fork(self, request: dict[str, Any]) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.close(self._requests)
            os.close(self._answers)
            self._selector.close()
            _run(request, writing)
        os.close(writing)
        with suppress(OSError):  # both sides do it, so that it is done before either needs it
            os.setpgid(pid, pid)
        self._children[reading] = _Child(request["run"], pid, reading, time.monotonic() + request["limit_s"])
        self._selector.register(reading, selectors.EVENT_READ)

    def _hear(self, child: _Child) -> None:
        part = os.read(child.pipe, 65536)
        if part:
            child.told += part
            return
        self._selector.unregister(child.pipe)
        os.close(child.pipe)
        del self._children[child.pipe]
        _, status, usage = os.wait4(child.pid, 0)
        _kill(child.pid)  # whatever it started in its group
        code = KILLED if child.overdue else os.waitstatus_to_exitcode(status)
        self._say({"run": child.run, "code": code, "cpu_s": usage.ru_utime + usage.ru_stime})
        self._learn(child.told.decode().split())

    def _learn(self, modules: list[str]) -> None:
        """Import what the child had to import, so that the next one need not."""
        new = [name for name in modules if name not in sys.modules and name not in self._tried]
        self._tried.update(new)
        for name in new:
            try:
                importlib.import_module(name)
            except Exception:
                traceback.print_exc()  # to the log: a module that cannot be imported here is only not warm
        if new:
            self._settle()

    def _settle(self) -> None:
        """Take all that lives now out of garbage collection: a child neither walks nor copies it."""
        gc.collect()
        gc.freeze()

    def _say(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]


def _pytest(arguments: list[str]) -> int:
    sys.argv = ["pytest", *arguments]
    try:
        runpy.run_module("pytest", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else _INTERNAL_ERROR
    return 0


def _run(request: dict[str, Any], told: int) -> NoReturn:
    """Be the child: a process group of its own, the request's environment and log, one run of pytest."""
    code = _INTERNAL_ERROR
    before = set(sys.modules)
    try:
        os.setpgid(0, 0)
        os.environ.update(request["env"])
        _redirect(Path(request["log"]))
        code = _pytest(request["args"])
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
            os.write(told, " ".join(set(sys.modules) - before).encode())
        os._exit(code)


def _redirect(log: Path) -> None:
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def _kill(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def main(suite: str, directory: str) -> int:
    """Serve the suite; keep what it prints in ``directory``."""
    work = Path(directory)
    requests, answers, nothing = os.dup(0), os.dup(1), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    log = work / FORK_SERVER
    _redirect(log)
    # A dump of memory is no evidence, and of a process so large it takes seconds to write.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    server = ForkServer(requests, answers)
    try:
        if server.warm(suite, work / "checks.json", log):
            server.serve()
    finally:
        server.end()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

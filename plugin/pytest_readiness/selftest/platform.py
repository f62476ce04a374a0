"""One platform that takes faults: started by the plan's command, which says in one JSON line where it is."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import PlatformError
from .logs import last_words

BOOT_DEADLINE_S = 120.0
STOP_DEADLINE_S = 20.0
#: A command that begins so means the interpreter that runs the self-test, wherever that is.
_PYTHON = frozenset({"python", "python3"})
_PROTOCOL = 'one line {"profile": path, "control": URL, "env": {name: value}}, then run until stdin is closed'


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a platform is: ``profile`` for ``--env``, its control port, what to add to the environment."""

    profile: str
    control: str
    env: Mapping[str, str]


class Platform:
    """The process of a platform; its stderr goes to ``log``. Raises PlatformError when it cannot be run."""

    def __init__(self, command: Sequence[str], root: Path, log: Path) -> None:
        self._command = command
        self._log = log
        self._ready = False
        words = [sys.executable if command[0] in _PYTHON else command[0], *command[1:]]
        try:
            with log.open("wb") as errors:
                # A session of its own: Ctrl-C is for the self-test, which then stops its platforms.
                self._process = subprocess.Popen(  # noqa: S603 - the plan's own command
                    words,
                    cwd=root,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
        except OSError as problem:
            raise self._failed(f"cannot be run: {problem.strerror}") from problem

    def await_ready(self) -> Address:
        """Wait for the platform's line.

        Raises PlatformError with its last words when it ends, or says nothing, before its time is up; whoever
        started it still has to stop it.
        """
        line = self._first_line(time.monotonic() + BOOT_DEADLINE_S)
        if line is None:
            raise self._failed(f"said nothing for {BOOT_DEADLINE_S:.0f} s")
        if not line:
            raise self._failed(f"ended with exit code {self._process.wait()}: {last_words(self._log)}")
        address = self._read(line)
        self._ready = True
        return address

    def stop(self) -> None:
        """Close its stdin and wait for its end; ask more firmly where that does not help."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        if not self._ready:
            self._signal(signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._signal(number)
        process.wait()
        self._signal(signal.SIGKILL)  # whatever a command that ended by itself left running in its session

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _first_line(self, deadline: float) -> bytes | None:
        """Return the first line, b"" at the end of output, None when the deadline passes."""
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            wait = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], wait)[0]:
                return None
            part = os.read(self._process.stdout.fileno(), 65536)
            if not part:
                return b""
            line += part
        return line

    def _read(self, line: bytes) -> Address:
        told: object = None
        with suppress(ValueError):
            told = json.loads(line)
        told = told if isinstance(told, dict) else {}
        profile, control, env = told.get("profile"), told.get("control"), told.get("env", {})
        if not isinstance(profile, str) or not isinstance(control, str) or not isinstance(env, dict):
            said = line[:80].decode("utf-8", "replace").strip()
            raise PlatformError(f"the platform said {said!r}", where=self._where, allowed=_PROTOCOL)
        return Address(
            profile=profile, control=control, env={str(name): str(value) for name, value in env.items()}
        )

    @property
    def _where(self) -> str:
        return f"[self_test] platform: {' '.join(self._command)}"

    def _failed(self, what: str) -> PlatformError:
        return PlatformError(
            f"the platform {what}", where=self._where, action="run this command by hand and see what it says"
        )

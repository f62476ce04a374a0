"""The self-test's side of the fork server: ask for a run of the suite, get its report."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .catalogue import SuiteCheck
from .errors import RunnerGone, SuiteError
from .logs import FORK_SERVER, last_words
from .surroundings import environment

RUN_LIMIT_S = 240.0
STOP_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that ended: pytest's exit code and the CPU time of its process."""

    code: int
    cpu_s: float


class Runner:
    """A fork server for one suite. Thread-safe: platforms share it. Raises ProfileError for a bad schema."""

    def __init__(self, suite: str, root: Path, work: Path) -> None:
        self._suite = suite
        self._log = work / FORK_SERVER
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", f"{__package__}.forkserver", suite, str(work)],
            cwd=root,
            env={**environment(root), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Ended]] = {}
        self._number = 0
        #: The checks by id, in the order of the run, once the suite is collected; else SuiteError.
        self.listing: Future[dict[str, SuiteCheck]] = Future()
        threading.Thread(target=self._listen, name="selftest-runner", daemon=True).start()

    def run(self, args: Sequence[str], env: Mapping[str, str], log: Path) -> Ended:
        """Run pytest with these options in a fresh process; return when it has ended.

        Raises RunnerGone when the server ends first.
        """
        with self._lock:
            self._number += 1
            number, answer = self._number, Future[Ended]()
            self._waiting[number] = answer
            request = {
                "run": number,
                "args": [*args],
                "env": dict(env),
                "log": str(log),
                "limit_s": RUN_LIMIT_S,
            }
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            except (OSError, ValueError) as problem:
                raise self._gone() from problem
        return answer.result()

    def close(self) -> None:
        """End the server and what it runs."""
        if not self.listing.done():
            self._process.kill()  # it runs nothing yet, and looks at its input only when it has collected
        with self._lock:
            if self._process.stdin is not None and not self._process.stdin.closed:
                self._process.stdin.close()
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _gone(self) -> RunnerGone:
        return RunnerGone(
            f"the process that runs the suite has ended: {last_words(self._log)}",
            action="run the self-test again",
        )

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._hear(json.loads(line))
        gone = self._gone()
        if not self.listing.done():
            self.listing.set_exception(gone)
        with self._lock:
            for answer in self._waiting.values():
                answer.set_exception(gone)
            self._waiting.clear()

    def _hear(self, told: Mapping[str, Any]) -> None:
        if "checks" in told:
            self.listing.set_result({check.pop("id"): SuiteCheck(**check) for check in told["checks"]})
        elif "error" in told:
            self.listing.set_exception(
                SuiteError(
                    f"the suite cannot be collected (exit code {told['code']}): {told['error']}",
                    where=self._suite,
                    action=f"pytest {self._suite} --collect-only",
                )
            )
        else:
            with self._lock:
                answer = self._waiting.pop(told["run"])
            answer.set_result(Ended(code=told["code"], cpu_s=told["cpu_s"]))

"""Runs the suite in fresh processes, each forked from one that has already collected the suite.

That process is multiprocessing's fork server, which preloads this module. A run without it would spend two
seconds on imports; a fork spends none, and shares no state with earlier runs.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ..core.errors import ReadinessError
from ..profile import load_schema
from ..profile.schema import DIRECTORY, SCHEMA_NAME
from ..report import markdown
from .catalogue import SuiteCheck
from .platform import NothingProved, last_words

#: A run of many drills takes minutes on a shared machine; this limit ends a run that hangs.
RUN_LIMIT_S = 480.0
KILLED = 124
_INTERNAL_ERROR = 3
#: The environment variable that tells the fork server what to collect when it imports this module.
_VARIABLE = "READINESS_SELF_TEST"
#: Python's variable: without it, the fork server (`python -c`) looks for every module in its directory first.
_SAFE_PATH = "PYTHONSAFEPATH"
_COLLECTOR = "readiness-collector"


class SuiteError(ReadinessError):
    """The suite cannot be collected, so there is nothing to test."""


class RunnerGone(NothingProved):
    """The process that runs the suite ended unexpectedly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that ended: pytest's exit code and the CPU time of its processes."""

    code: int
    cpu_s: float = 0.0


class Runner:
    """Runs one suite. Thread-safe: platforms share it. Raises ProfileError for a malformed schema."""

    def __init__(self, suite: str, root: Path, work: Path) -> None:
        self._log = work / "collection.log"
        without = {
            *_overriding(root),
            markdown.ACTIONS,
            markdown.SUMMARY,
        }  # a run with a fault must not appear in the CI job
        self._suite = _Suite(suite, str(root), str(self._log), tuple(sorted(without)))
        self._lock = threading.Lock()
        self._running: set[BaseProcess] = set()
        self._is_closed = False
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        with _environ(**{_VARIABLE: json.dumps(astuple(self._suite)), _SAFE_PATH: "1"}):
            forkserver.ensure_running()

    def checks(self) -> dict[str, SuiteCheck]:
        """Return the checks by id, in the order of the run; SuiteError if the suite cannot be collected."""
        answer = self._fork(_tell_checks)
        if isinstance(answer, Ended):
            answer = (answer.code, {})
        code, checks = answer
        if code or not checks:
            raise SuiteError(
                f"the suite cannot be collected (exit code {code}): {last_words(self._log)}",
                where=self._suite.path,
                action=f"pytest {self._suite.path} --collect-only",
            )
        return dict(checks)

    def run(
        self,
        args: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        plugins: Sequence[object] = (),
        limit_s: float = 0.0,
    ) -> Ended:
        """Run pytest with these options in a fresh process; return once it has ended or was killed.

        ``plugins`` are pytest plugins that can be pickled; ``limit_s`` is RUN_LIMIT_S by default.
        Raises RunnerGone if the runner is closed.
        """
        result = self._fork(_run, [*args], dict(env), str(log), [*plugins], limit_s=limit_s or RUN_LIMIT_S)
        return result if isinstance(result, Ended) else Ended(code=result[0], cpu_s=result[1])

    def close(self) -> None:
        """Kill all runs and accept no more."""
        with self._lock:
            self._is_closed = True
            for process in self._running:
                _kill(process)

    def _fork(self, target: Callable[..., None], *args: Any, limit_s: float = 0.0) -> Any:
        """Return the target's result, or Ended if it sends none in time or dies."""
        receiving, sending = self._context.Pipe(duplex=False)
        process = self._context.Process(target=target, args=(self._suite, sending, *args))
        with self._lock:
            if self._is_closed:
                raise RunnerGone("the runner of the suite is closed", action="run the self-test again")
            process.start()
            self._running.add(process)
        sending.close()
        code = KILLED
        try:
            if receiving.poll(limit_s or RUN_LIMIT_S):
                return receiving.recv()
        except (EOFError, OSError):
            process.join()
            code = process.exitcode or _INTERNAL_ERROR
        finally:
            _kill(process)  # including processes that it started in its group
            process.join()
            receiving.close()
            with self._lock:
                self._running.discard(process)
        return Ended(code=code)


@dataclass(frozen=True, slots=True)
class _Suite:
    """What to collect: a path under a root, the log file, variables to leave out."""

    path: str
    root: str
    log: str
    without: tuple[str, ...]


class _Listing:
    """A pytest plugin that records the checks and lets the suite warm up."""

    def __init__(self) -> None:
        self.checks: dict[str, SuiteCheck] = {}

    def pytest_sessionfinish(self, session: Any) -> None:
        collector: Any = session.config.pluginmanager.get_plugin(_COLLECTOR)
        selected = collector.checks.selected if collector is not None else {}
        self.checks = {
            check.id: SuiteCheck(
                nodeid=nodeid,
                severity=check.severity.value,
                goal=check.goal,
                controls=check.controls,
                drill=check.drill,
                limit_s=check.limit_s,
            )
            for nodeid, check in selected.items()
        }
        if self.checks:
            try:
                session.config.hook.pytest_readiness_warm()
            except Exception:
                traceback.print_exc()  # only logged: without it the runs are just slower


@contextmanager
def _environ(**variables: str) -> Iterator[None]:
    """Set variables for a process that is started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _overriding(root: Path) -> set[str]:
    """Return variables that would change the run: pytest's options, overrides of a profile.

    Also those of a pytest-xdist worker: a run that inherits them would count as a worker, without a last act.
    """
    names = {"PYTEST_ADDOPTS", *(name for name in os.environ if name.startswith("PYTEST_XDIST_"))}
    if (root / DIRECTORY / SCHEMA_NAME).exists():
        schema = load_schema(root)
        names |= {field.env for field in schema.fields.values()} | set(schema.overrides.values())
    return names


_collected: dict[_Suite, tuple[int, dict[str, SuiteCheck]]] = {}


def _collect(suite: _Suite) -> None:
    """Collect the suite in this process, once."""
    if suite in _collected:
        return
    os.chdir(suite.root)
    os.environ.pop(_SAFE_PATH, None)
    sys.path.append(suite.root)
    for name in suite.without:
        os.environ.pop(name, None)
    _redirect(suite.log)
    # A core dump is not evidence, and takes seconds to write for such a large process.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    listing = _Listing()
    code = _pytest(["--collect-only", "-q", "-p", "no:cacheprovider", suite.path], listing)
    sys.stdout.flush()
    _collected[suite] = code, listing.checks
    gc.collect()
    gc.freeze()  # a fork neither visits nor copies the objects that exist now


def _tell_checks(suite: _Suite, answer: Connection) -> None:
    os.setpgid(0, 0)
    _collect(suite)
    answer.send(_collected[suite])


def _run(
    suite: _Suite, answer: Connection, args: list[str], env: dict[str, str], log: str, plugins: list[object]
) -> None:
    os.setpgid(0, 0)
    _collect(suite)
    os.environ.update(env)
    _redirect(log)
    code = _pytest(args, *plugins)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    answer.send((code, sum(os.times()[:4])))
    os._exit(code)


def _pytest(args: list[str], *plugins: object) -> int:
    sys.argv = ["pytest", *args]
    try:
        return int(import_module("pytest").main(args, plugins=plugins))  # as the program does
    except BaseException:
        traceback.print_exc()
        return _INTERNAL_ERROR


def _redirect(log: str) -> None:
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def _kill(process: BaseProcess) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()  # in case it has no process group yet


if _VARIABLE in os.environ:
    _path, _root, _log, _without = json.loads(os.environ.pop(_VARIABLE))
    _collect(_Suite(_path, _root, _log, tuple(_without)))

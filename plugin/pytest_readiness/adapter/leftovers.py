"""What a check leaves behind that no assertion reports: background failures, threads, forked processes.

These are exceptions in threads, finalizers and child processes, and in futures and tasks whose result nothing
reads; coroutines that were never awaited; a test that returns its result instead of asserting it. Python and
pytest mention them on stderr or in a warning at most. Here each one fails the check during which it happened,
under any warning filters and plugins.

A check may patch functions during its phases. Between the phases pytest and this plugin use the originals,
and a check that has left a function patched after its teardown fails.

``os.fork`` copies pytest with all its pending work: running the other checks again, judging, writing,
recording. So a copy that returns from a check's code is ended, and reports to the process that started the
run.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import json
import logging
import os
import re
import select
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from functools import wraps
from multiprocessing.process import BaseProcess
from operator import is_
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, finalize

import pytest

from ..core.formats import text_of

#: What asyncio logs if a task, a future or a callback failed and nothing retrieved the exception.
_LOST_BY_ASYNCIO = re.compile(
    r"exception was never retrieved|task was destroyed|^exception in|^unhandled", re.I
)
_ASYNCIO = logging.getLogger("asyncio")
#: What CPython calls for a coroutine that is destroyed without having been awaited.
_WARNS = "_warn_unawaited_coroutine"
#: Threads of an executor wait for work until the interpreter ends.
_IDLE_THREADS = ("ThreadPoolExecutor", "asyncio_")
#: How long the end of a run waits for threads of checks; the interpreter would wait forever.
LAST_THREADS_S = 3.0
#: How long the end of a run waits for forked copies of itself.
LAST_COPIES_S = 3.0
_ENDED = 1
#: Exit code of a multiprocessing process after an uncaught exception.
_RAISED = 1
#: Python functions that pytest and this plugin call: the namespaces, and the names in them.
_RELIED_ON: tuple[tuple[ModuleType, str], ...] = (
    *(
        (builtins, name)
        for name in ("all", "any", "getattr", "hasattr", "isinstance", "len", "open", "setattr")
    ),
    *((json, name) for name in ("dumps", "loads")),
    *((os, name) for name in ("_exit", "getpid", "open", "replace", "write")),
    *((time, name) for name in ("monotonic", "perf_counter", "time")),
    (threading, "excepthook"),
    (sys, "unraisablehook"),
)
_NAMESPACES, _NAMES = [vars(module) for module, _ in _RELIED_ON], [name for _, name in _RELIED_ON]
#: Used to detect a forked copy before a check's patches are undone.
_getpid, _write, _exit = os.getpid, os.write, os._exit
_depth, _set_depth = sys.getrecursionlimit, sys.setrecursionlimit
#: Functions that are called while others may be patched.
_all, _map = all, map


class BackgroundFailure(RuntimeError):
    """A failure that Python or pytest only mentions."""

    failure_class = "CHECK_ERROR"


class BackgroundFailures:
    """Listens from the start of a session to its end, in the process that runs the checks.

    It replaces the functions that warn and log, so that a check's filters and log levels have no effect.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._failures: list[BaseException] = []
        self._late: list[str] = []
        self._known = WeakSet(threading.enumerate())
        #: Thread -> the check that left it behind.
        self._owners: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()
        self._futures = UnaskedFutures(self._failures.append)
        self._processes = UnaskedProcesses()
        self._before = threading.excepthook, sys.unraisablehook
        threading.excepthook, sys.unraisablehook = self._in_thread, self._in_finalizer
        self._warn = vars(warnings)[_WARNS]
        vars(warnings)[_WARNS] = self._never_awaited
        self._log = _ASYNCIO.error
        vars(_ASYNCIO)["error"] = self._logged
        config.add_cleanup(self._stop)

    def take(self) -> list[BaseException]:
        """Return the failures since the last call."""
        self._failures += self._processes.failed()
        failures = self._failures[:]
        del self._failures[: len(failures)]  # a thread may add one at the same time
        return failures

    def ended(self, check: str) -> None:
        """Record which threads a check leaves behind, so that the next check is not blamed for them."""
        for thread in threading.enumerate():
            if thread not in self._known:
                self._owners.setdefault(thread, check)
        self._processes.forget()

    def last(self) -> list[str]:
        """Wait for the remaining threads; return, in words, failures that belong to no check any more."""
        deadline = time.monotonic() + LAST_THREADS_S
        left = [thread for thread in threading.enumerate() if self._is_awaited(thread)]
        for thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))
        gc.collect()
        self._futures.stop()
        running = [
            f"{self._owners[thread]}: its thread {thread.name} is still running"
            for thread in left
            if thread.is_alive()
        ]
        failed = Counter(f"after the last check: {_described(one)}" for one in self.take())
        late = [f"{what} ({times} times)" if times > 1 else what for what, times in failed.items()]
        return [*self._late, *late, *running]

    def _logged(self, message: object, *values: object, **more: Any) -> None:
        text = text_of(message)
        if _LOST_BY_ASYNCIO.search(text):
            info = more.get("exc_info")
            exception = info[1] if isinstance(info, tuple) else info
            if not isinstance(exception, BaseException):
                exception = BackgroundFailure(text.partition("\n")[0])
            self._failures.append(exception)
        self._log(message, *values, **more)

    def _never_awaited(self, coroutine: Any) -> None:
        self._failures.append(BackgroundFailure(f"coroutine {coroutine.__qualname__!r} was never awaited"))
        self._warn(coroutine)

    def _in_thread(self, problem: threading.ExceptHookArgs) -> None:
        exception = problem.exc_value or problem.exc_type()
        owner = self._owners.get(problem.thread) if problem.thread else None
        if isinstance(exception, SystemExit) and not exception.code:
            pass  # a normal way for a thread to end
        elif owner:
            self._late.append(f"{owner}: in a thread that it left behind: {_described(exception)}")
        else:
            self._failures.append(exception)
        self._before[0](problem)

    def _in_finalizer(self, problem: Any) -> None:
        exception = problem.exc_value or problem.exc_type()
        if not isinstance(exception, RuntimeWarning):  # a coroutine's, already reported
            self._failures.append(exception)
        self._before[1](problem)

    def _is_awaited(self, thread: threading.Thread) -> bool:
        return thread in self._owners and not thread.daemon and not thread.name.startswith(_IDLE_THREADS)

    def _stop(self) -> None:
        vars(warnings)[_WARNS] = self._warn
        vars(_ASYNCIO)["error"] = self._log
        threading.excepthook, sys.unraisablehook = self._before
        self._futures.stop()
        self._processes.stop()


class UnaskedProcesses:
    """Processes of multiprocessing that ended with an exception while nothing read their exit code.

    Other exit codes, and signals, may be intended. Processes that outlive their check are ignored.
    """

    def __init__(self) -> None:
        self._unasked: set[BaseProcess] = set()
        self._genuine = {name: vars(BaseProcess)[name] for name in ("start", "exitcode")}
        start, exitcode = self._genuine.values()

        @wraps(start)
        def noting(process: BaseProcess) -> None:
            start(process)
            self._unasked.add(process)

        def asking(process: BaseProcess) -> int | None:
            code: int | None = exitcode.fget(process)
            if code is not None:
                self._unasked.discard(process)
            return code

        self._put(start=noting, exitcode=property(asking, doc=exitcode.__doc__))

    def stop(self) -> None:
        """Restore the members of the class."""
        self._put(**self._genuine)

    def failed(self) -> list[BaseException]:
        """Return a failure for each process that has ended with an exception."""
        failures: list[BaseException] = []
        for process in [*self._unasked]:
            with contextlib.suppress(ValueError):  # closed
                if process.exitcode == _RAISED:
                    what = f"process {process.name} ended with an exception: assert its exit code"
                    failures.append(BackgroundFailure(what))
        return failures

    def forget(self) -> None:
        """Ignore the processes of the check that has just ended."""
        self._unasked.clear()

    @staticmethod
    def _put(**members: object) -> None:
        for name, member in members.items():
            setattr(BaseProcess, name, member)


class UnaskedFutures:
    """Failed futures of ``concurrent.futures``: reported if they are destroyed before anything reads them.

    asyncio does the same for its own. Until then, the next phase or a later check may still read it.
    """

    def __init__(self, report: Callable[[BaseException], None]) -> None:
        self._report = report
        self._unasked: WeakKeyDictionary[Future[Any], finalize[..., Any]] = WeakKeyDictionary()
        self._genuine = {name: vars(Future)[name] for name in ("set_exception", "result", "exception")}
        self._put(
            set_exception=self._noting(Future.set_exception),
            result=self._asking(Future.result),
            exception=self._asking(Future.exception),
        )

    def stop(self) -> None:
        """Restore the methods of the class, and report the remaining futures."""
        self._put(**self._genuine)
        for pending in list(self._unasked.values()):
            pending()

    @staticmethod
    def _put(**methods: Callable[..., Any]) -> None:
        for name, method in methods.items():
            setattr(Future, name, method)

    def _noting(self, set_exception: Callable[..., None]) -> Callable[..., None]:
        @wraps(set_exception)
        def noting(future: Future[Any], exception: BaseException | None) -> None:
            if exception is not None:
                self._unasked[future] = pending = finalize(future, self._report, exception)
                pending.atexit = False
            set_exception(future, exception)

        return noting

    def _asking(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def asking(future: Future[Any], timeout: float | None = None) -> Any:
            try:
                return method(future, timeout)
            finally:
                if future.done() and (pending := self._unasked.pop(future, None)):
                    pending.detach()

        return asking


def _described(exception: BaseException) -> str:
    return f"{type(exception).__name__}: {text_of(exception)}".partition("\n")[0]


class ForkedCopy(RuntimeError):
    """A check forked the run, and the copy returned into pytest."""

    failure_class = "CHECK_ERROR"


class Interpreter:
    """Python functions that pytest and this plugin call, protected from a check's patches."""

    def __init__(self) -> None:
        self._genuine: list[object] = []
        self._depth = sys.getrecursionlimit()
        self._replaced: dict[tuple[ModuleType, str], object] = {}

    def remember(self) -> None:
        """Store the functions in place before a check as the originals."""
        self._replaced = {}
        self._genuine = _present()

    def lend(self) -> None:
        """Put back the patches of a check's earlier phases for its next one."""
        for (module, name), value in self._replaced.items():
            setattr(module, name, value)

    def reclaim(self) -> None:
        """Restore the originals at the end of a phase, without calling anything that may be patched."""
        if _depth() < self._depth:  # too low for pytest and the plugin themselves
            _set_depth(self._depth)
        found, genuine = _present(), self._genuine
        self._replaced = {}
        if _all(_map(is_, found, genuine)):
            return
        for number, place in enumerate(_RELIED_ON):
            if found[number] is not genuine[number]:
                self._replaced[place] = found[number]
                _NAMESPACES[number][_NAMES[number]] = genuine[number]

    def left(self) -> list[BaseException]:
        """Return a failure that names the functions that a check left patched after its teardown."""
        names = ", ".join(f"{module.__name__}.{name}" for module, name in self._replaced)
        makers = {_maker(value) for value in self._replaced.values()} - {""}
        by = f" by {', '.join(sorted(makers))}" if makers else ""
        self._replaced = {}
        what = f"{names} was left patched{by}: undo the patch in a teardown of the check itself"
        return [BackgroundFailure(what)] if names else []


def _maker(value: object) -> str:
    """Return the module of a function; an object that a check made may have any, or refuse to tell."""
    try:
        maker = getattr(value, "__module__", None)
    except Exception:
        return ""
    return maker if type(maker) is str else ""


def _present() -> list[object]:
    """Return the current object of each name that the plugin relies on; None if it has none."""
    return [*_map(dict.get, _NAMESPACES, _NAMES)]


class Origin:
    """The process that started a run, with a pipe on which forked copies of it report their end."""

    def __init__(self) -> None:
        self._pid = _getpid()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self._news = select.poll()
        self._news.register(self._read, select.POLLIN)

    @property
    def is_here(self) -> bool:
        """True in the process that started the run."""
        return _getpid() == self._pid

    def end_copy(self, check: str, exception: BaseException | None) -> None:
        """In a copy: report to the origin and exit at once, without Python's exit handlers."""
        if self.is_here:
            return
        how = f"{type(exception).__name__}: {text_of(exception)}" if exception else "as if it were the run"
        line = f"{check}: a process that it forked came back into pytest: {how}".replace("\n", " ")
        _write(self._write, f"{line[:400]}\n".encode())
        _exit(_ENDED)

    def reported(self) -> list[str]:
        """Return what copies have reported since the last call."""
        if not self._news.poll(0):  # called after each phase of each check
            return []
        return os.read(self._read, 65536).decode(errors="replace").splitlines()

    def last(self) -> list[str]:
        """Wait for copies that still run and return their reports; called once, at the end of a run.

        The pipe is at its end when no process holds its other end any more.
        """
        os.close(self._write)
        reports: list[str] = []
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.active_children():
            return self.reported()  # they also hold the pipe, but never return into pytest
        deadline = time.monotonic() + LAST_COPIES_S
        while select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
            new = self.reported()
            if not new:
                return reports
            reports += new
        return [*reports, "a process that a check forked is still running"]

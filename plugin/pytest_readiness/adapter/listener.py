"""Decides which check a failure belongs to if it did not end a check, or occurred in a shared fixture."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import pytest

from .. import SafetyViolation
from ..core.classify import worst
from ..core.formats import text_of
from .context import CHECK, PARTS, STOPS, RunContext, taken_out
from .evidence import Parts
from .leftovers import BackgroundFailure, BackgroundFailures, ForkedCopy, Interpreter

#: Key under which an xdist worker reports failures that belong to no check.
STRAY_KEY = "readiness-stray"
_SKIPS = (pytest.skip.Exception, pytest.xfail.Exception)


class Listener:
    """Listens during each phase for failed subtests, background failures and forked copies of the run.

    pytest itself fails a check with a failed subtest only when it prints, after other plugins have the
    report. A safety violation is taken out of an exception group. A skipped subtest skips its check.
    """

    def __init__(self, context: RunContext, background: BackgroundFailures) -> None:
        self._context = context
        self._background = background
        self._interpreter = Interpreter()
        self._parts = Parts()
        gc.freeze()  # pytest's and its plugins' objects stay alive: the garbage collector need not visit them

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Listen while fixtures are set up."""
        if CHECK in item.stash:
            item.stash[PARTS] = Parts()
            self._interpreter.remember()
            # pytest-rerunfailures sets this after the setup, but reads it when a part of the setup fails
            vars(item).setdefault("_terminal_errors", {})
        return (yield from self._phase(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Listen while the body runs; unittest calls the body of a test case itself."""
        with _heard_case(item):
            return (yield from self._phase(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        """Fail a check that returns its result instead of asserting it: pytest only warns."""
        body = pyfuncitem.obj
        if CHECK in pyfuncitem.stash:
            pyfuncitem.obj = _heard(body, pyfuncitem.stash[PARTS])
        try:
            return (yield)
        finally:
            pyfuncitem.obj = body

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Listen while fixtures are torn down; then note the threads that the check leaves behind."""
        try:
            return (yield from self._phase(item, is_last=True))
        finally:
            if CHECK in item.stash:
                self._background.ended(item.stash[CHECK].id)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Keep pytest from failing an attempt for a failed subtest of an earlier one: it counts by node id.

        This changes the report itself; on an xdist worker, that happens before the report is sent.
        """
        facts = getattr(report, "readiness", None)
        if not facts or facts.get("part") or report.when != "call" or hasattr(report, "wasxfail"):
            return None
        return ("passed", ".", "PASSED") if report.passed else None

    @pytest.hookimpl
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Attribute failures during collection to the collection, not to the first check.

        From now on, no hook hides what a fixture raises: it is noted where pytest itself calls setup and
        teardown. Collected objects live until the end of the run: freezing them saves the garbage collector
        work.
        """
        state = session._setupstate
        for name in ("setup", "teardown_exact"):
            setattr(state, name, self._noted(getattr(state, name)))
        gc.collect()
        gc.freeze()
        found = [*map(repr, self._background.take()), *self._context.origin.reported()]
        self._context.stray += [f"during collection: {one}" for one in found]

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Wait for what checks left running, and keep its failures or report them to the controller.

        The checks' objects live until the process ends: freezing them saves the garbage collector work.
        """
        origin = self._context.origin
        if not origin.is_here:
            return
        self._context.stray += [*self._background.last(), *origin.last()]
        gc.freeze()
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            self._context.stray += taken_out(session.config)
            output[STRAY_KEY] = list(map(self._context.redactor.shown, self._context.stray))

    def _noted(self, act: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            __tracebackhide__ = True
            try:
                act(*arguments)
            except BaseException as problem:
                self._parts.raised = problem
                raise

        return call

    def _phase(self, item: pytest.Item, *, is_last: bool = False) -> Generator[None, object, object]:
        check, parts = item.stash.get(CHECK, None), item.stash.get(PARTS, None)
        if check is None or parts is None:
            return (yield)
        raised: BaseException | None = None
        result: object = None
        self._parts = parts
        parts.running, parts.raised = True, None
        try:
            with warnings.catch_warnings():  # a check's filters apply to that check only
                try:
                    self._interpreter.lend()
                    result = yield from self._only_here(check.id)
                finally:
                    self._interpreter.reclaim()
                    gc.collect(1)  # finalizes the phase's leftover objects, including cycles
        except BaseException as problem:
            raised = problem
        finally:
            parts.running = False
        raised = parts.raised if raised is None else raised  # an exception may be false
        if isinstance(raised, STOPS):
            raise raised
        try:
            self._judge(check.id, parts, raised, self._interpreter.left() if is_last else [])
        except BaseException as problem:
            parts.raised = problem
            raise
        return result

    def _judge(
        self, check: str, parts: Parts, raised: BaseException | None, left: Sequence[BaseException]
    ) -> None:
        """Raise the failure that decides a phase, from all failures in it and what the check has ``left``."""
        copies = self._context.origin.reported()
        own = [line for line in copies if line.startswith(f"{check}: ")]
        self._context.stray += [line for line in copies if line not in own]
        hidden = [*parts.take(), *self._background.take(), *map(ForkedCopy, own), *left]
        if raised is None and not hidden and not parts.skipped:  # the usual case
            return
        failures = [one for one in (raised, *hidden) if one is not None and not _is_skip(one)]
        violation = next(filter(None, map(_violation, failures)), None)
        if violation is not None and violation is not raised:
            raise SafetyViolation(text_of(violation)) from worst(failures)
        if failures:
            raise worst(failures)
        if raised is not None:
            raise raised
        if parts.skipped:
            pytest.skip(f"a part did not run: {parts.skipped}")

    def _only_here(self, check: str) -> Generator[None, object, object]:
        """End a copy at once: its finalizers could send on the run's connection."""
        try:
            result = yield
        except BaseException as problem:
            self._context.origin.end_copy(check, problem)
            raise
        self._context.origin.end_copy(check, None)
        return result


def _heard(
    body: Callable[..., Any], parts: Parts, *, reads_awaitables: bool = False
) -> Callable[..., object]:
    """Return the body of a check so that its end is noted even if whoever calls it swallows an exception.

    A coroutine function stays one: another plugin runs it.
    """

    @contextmanager
    def noting() -> Iterator[None]:
        __tracebackhide__ = True
        try:
            yield
        except BaseException as problem:
            parts.raised = problem
            raise
        finally:
            parts.ran = True

    def unread(answer: object) -> None:
        if answer is None or inspect.isasyncgen(answer) or (reads_awaitables and inspect.isawaitable(answer)):
            return
        parts.raised = BackgroundFailure(
            f"the check returned {type(answer).__name__}, which nothing reads: assert it"
        )
        raise parts.raised

    @functools.wraps(body)
    def call(**arguments: object) -> object:
        __tracebackhide__ = True
        with noting():
            answer = body(**arguments)
        unread(answer)
        return answer

    @functools.wraps(body)
    async def run(**arguments: object) -> None:
        __tracebackhide__ = True
        with noting():
            answer = await body(**arguments)
        unread(answer)

    return run if inspect.iscoroutinefunction(body) else call


def is_test_case(item: pytest.Item) -> bool:
    """Tell whether unittest runs the item."""
    kind = getattr(sys.modules.get("unittest"), "TestCase", ())
    return isinstance(getattr(item, "instance", None), kind)


@contextmanager
def _heard_case(item: pytest.Item) -> Iterator[None]:
    """Note how the body of a test case ends, unless it is expected to fail."""
    expecting = "__unittest_expecting_failure__"
    if CHECK not in item.stash or not isinstance(item, pytest.Function) or not is_test_case(item):
        return (yield)
    body, members = item.obj, vars(item.instance)
    if not any(getattr(part, expecting, False) for part in (body, item.instance)):
        item.obj = members[item.name] = _heard(body, item.stash[PARTS], reads_awaitables=True)
    try:
        yield
    finally:
        item.obj = body
        members.pop(item.name, None)


def _is_skip(found: BaseException) -> bool:
    """Tell whether an exception skips a check, also unittest's."""
    return isinstance(
        found, (*_SKIPS, getattr(sys.modules.get("unittest"), "SkipTest", pytest.skip.Exception))
    )


def _violation(found: BaseException | None) -> SafetyViolation | None:
    """Return the exception if it is a safety violation, or the one in an exception group."""
    if isinstance(found, BaseExceptionGroup):
        return next(filter(None, map(_violation, found.exceptions)), None)
    return found if isinstance(found, SafetyViolation) else None


class SharedFixtures:
    """Decides which check a failed teardown of a shared fixture counts against.

    pytest reports it with the last check before it, which may not use the fixture. It counts against the most
    severe check that does; otherwise a P0's fixture would only degrade a run, or a P1's would break it.
    """

    def __init__(self) -> None:
        self._ran: list[pytest.Item] = []
        self._since: dict[str, int] = {}

    @pytest.hookimpl
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Register again, to wrap the hooks of all conftests: they are known by now."""
        manager = session.config.pluginmanager
        name = manager.get_name(self)
        manager.unregister(self)
        manager.register(self, name)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Note how many checks had begun when the fixture was set up, separately for each parameter.

        If a hook swallowed the failure of a check's fixture, raise it again.
        """
        if fixturedef.scope != "function":
            self._since[fixturedef.argname] = len(self._ran) - 1
        result = yield
        raised = fixturedef.cached_result and fixturedef.cached_result[2]
        if raised and CHECK in request._pyfuncitem.stash:
            raise raised[0].with_traceback(raised[1])
        return result

    def begins(self, item: pytest.Item) -> None:
        """Note that a check begins to set up its fixtures."""
        self._ran.append(item)

    def owner(self, item: pytest.Item, exception: BaseException) -> pytest.Item:
        """Return the check that a failed teardown counts against: the reporting one, or a user."""
        name = _torn_down(exception)
        if name is None and isinstance(exception, BaseExceptionGroup):  # of several fixtures
            return min((self.owner(item, each) for each in exception.exceptions), key=_severity)
        if name is None or name not in self._since or not self._ran:
            return item
        first, *later = self._ran[self._since[name] :]
        users = [first, *(each for each in later if name in getattr(each, "fixturenames", ()))]
        return min(reversed(users), key=_severity)


def _severity(item: pytest.Item) -> str:
    return item.stash[CHECK].severity


def _torn_down(exception: BaseException) -> str | None:
    """Return the name of the fixture whose teardown raised, of a wider scope than a function's."""
    holders = [frame.f_locals.get("self") for frame, _ in walk_tb(exception.__traceback__)]
    fixtures = [holder for holder in holders if isinstance(holder, pytest.FixtureDef)]
    return fixtures[-1].argname if fixtures and fixtures[-1].scope != "function" else None

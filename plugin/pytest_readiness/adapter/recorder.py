"""Facts about each check, attached to its reports in the process that ran it.

This includes the time limit of an attempt, and which failures are followed by another attempt. pytest-timeout
starts one timer for all attempts of a check together, so a rerun would have no time left. If it is installed,
its limit still applies: its hook is answered here, and its own timer is not started.

Only transport errors are tried again. A failed assertion is a result, and so is a finding in a checkout:
repeating a check until it passes proves little.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal's own functions make enums: ten times as long
import signal
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from .. import NothingMeasured, SafetyViolation
from ..core.classify import DECLARED, classify, failure_of, is_passing, place_of, worst
from ..core.formats import text_of
from ..core.model import FailureClass
from ..core.network import environment_of, give_text, peer_of, shortened
from .checks import Check, Down, Refusal, refuse
from .context import CHECK, EVIDENCE, PARTS, PASSING, REFUSAL, STOPS, RunContext
from .evidence import EvidenceLog, Parts, advice_in, first_line, unread_in
from .listener import SharedFixtures, is_test_case

#: When the current attempt's time is up, and its length in seconds.
_DEADLINE: pytest.StashKey[float] = pytest.StashKey()
_LIMIT: pytest.StashKey[float] = pytest.StashKey()
#: Whether the condition was added to a check's reruns.
_RESTRICTED: pytest.StashKey[bool] = pytest.StashKey()
_SOON = 0.001
#: Seconds in which pytest must have shown an exception: as long as the check may take, but within these.
_LEAST_TO_SHOW, _MOST_TO_SHOW = 3.0, 60.0


class TimeLimitExceeded(pytest.fail.Exception):  # type: ignore[name-defined, misc]
    """A check exceeded its time limit. It set no deadline of its own, so it is unknown what it waited for.

    It is a pytest outcome and not an Exception, so a check that catches exceptions does not swallow it.
    """

    failure_class = "CHECK_ERROR"


class Limits:
    """Interrupts checks that take too long: setup and call share a limit, teardown has its own."""

    def __init__(self, context: RunContext, config: pytest.Config) -> None:
        self._usual = self._current = float(context.plan.policy.check_limit_s)
        self._debugged = any(config.getoption(name, False) for name in ("usepdb", "trace"))
        in_main = threading.current_thread() is threading.main_thread()
        self._can_interrupt = hasattr(signal, "setitimer") and not self._debugged and in_main
        self._handler = self._interrupt
        if self._can_interrupt:
            self._before = signal.signal(signal.SIGALRM, self._handler)
            config.add_cleanup(self._give_back)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Start the time limit of an attempt."""
        return (yield from self._guarded(item, begins=True))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Continue with the time that setup has left."""
        return (yield from self._guarded(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Give the teardown its own time limit, even after a check that used up all of its time."""
        return (yield from self._guarded(item, begins=True))

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """Use the limit that pytest-timeout found for a check in its marker, options or settings."""
        if CHECK not in item.stash or self._debugged:
            return None
        if settings.func_only:  # called during the call phase: only this limit counts
            item.stash[_DEADLINE] = time.monotonic() + settings.timeout
            if self._can_interrupt:
                signal.setitimer(signal.ITIMER_REAL, settings.timeout, settings.timeout)
        else:
            item.stash[_LIMIT] = float(settings.timeout)
        return True

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> bool | None:
        """Do nothing: each phase stops its own timer."""
        return True if CHECK in item.stash and not self._debugged else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, object, object]:
        """Interrupt what shows an exception if that takes too long: its text may never end."""
        limit = min(max(_LEAST_TO_SHOW, self._current), _MOST_TO_SHOW)
        limit = limit if self._can_interrupt and CHECK in item.stash else 0
        try:
            if limit:
                signal.setitimer(signal.ITIMER_REAL, limit, limit)
            return (yield)
        finally:
            if limit:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def _guarded(self, item: pytest.Item, *, begins: bool = False) -> Generator[None, object, object]:
        check = item.stash.get(CHECK, None)
        if check is None or self._debugged:
            return (yield)
        limit = self._current = item.stash.get(_LIMIT, check.limit_s or self._usual)
        if begins:
            item.stash[_DEADLINE] = time.monotonic() + limit
        try:
            # again after the same time, in case a check swallows even this
            if self._can_interrupt:
                if _signal.getsignal(signal.SIGALRM) is not self._handler:  # a check has set its own timer
                    signal.signal(signal.SIGALRM, self._handler)
                left = max(_SOON, item.stash[_DEADLINE] - time.monotonic())
                signal.setitimer(signal.ITIMER_REAL, left, limit)
            result = yield
        finally:
            if self._can_interrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
        # if no signal arrives, or it was swallowed, the clock still shows it
        if time.monotonic() > item.stash[_DEADLINE]:
            raise TimeLimitExceeded(_limit_text(limit))
        return result

    def _give_back(self) -> None:
        signal.signal(signal.SIGALRM, self._before)

    def _interrupt(self, _: int, _frame: FrameType | None) -> None:
        raise TimeLimitExceeded(_limit_text(self._current))


def _limit_text(limit: float) -> str:
    return f"took longer than its limit of {limit:g} s"


def set_defaults(config: pytest.Config) -> None:
    """Let pytest-rerunfailures rerun once after a second, unless the user set something else."""
    option = config.option
    if not hasattr(option, "reruns"):
        return
    if option.reruns is None and not config.getini("reruns") and not option.usepdb:
        option.reruns = 1
        if option.reruns_delay is None and not config.getini("reruns_delay"):
            option.reruns_delay = 1.0


class Repetition:
    """Allows a rerun of a check only after transport errors, however the rerun was requested.

    It acts only once a check has failed: before that it would change nothing in pytest-rerunfailures.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._asked = _asked(config) if hasattr(config.option, "reruns") else None

    def restrict(self, item: pytest.Item) -> None:
        """Add a marker ``flaky`` with the condition to a failed check; it is evaluated after the attempt."""
        if self._asked is None or _RESTRICTED in item.stash:
            return
        item.stash[_RESTRICTED] = True
        own = item.get_closest_marker("flaky")
        args, kwargs = (own.args, own.kwargs) if own else ((), self._asked)
        condition = _Condition(item, kwargs.get("condition", True))
        item.add_marker(pytest.mark.flaky(*args, **{**kwargs, "condition": condition}), append=False)


class _Condition:
    """True if everything that failed in the attempt may be transient. Evaluated after the attempt."""

    def __init__(self, item: pytest.Item, own: object) -> None:
        self._item, self._own = item, own

    def __bool__(self) -> bool:
        passing = self._item.stash.get(PASSING, False) and not self._item.stash[CHECK].static
        return passing and (isinstance(self._own, str) or bool(self._own))


def _asked(config: pytest.Config) -> dict[str, Any]:
    """Return the rerun options and settings as a marker's arguments, because a marker overrides them."""
    option = config.option
    # then they are added to the marker's; pytest-rerunfailures 15 does not have this option
    appended = getattr(option, "reruns_mode", "") == "append"
    return {
        "reruns": 0 if appended else _number(config, "reruns"),
        "reruns_delay": _number(config, "reruns_delay"),
        "reruns_delay_backoff_factor": _number(config, "reruns_delay_backoff_factor") or 1,
    }


def _number(config: pytest.Config, name: str) -> float:
    given = config.getoption(name, None)
    try:
        number = float(config.getini(name) if given is None else given)
    except (TypeError, ValueError, KeyError):
        return 0
    return int(number) if number.is_integer() else number


class Recorder:
    """Wraps each check: decides whether it may run, requires a measurement, and adds facts to its reports."""

    def __init__(self, context: RunContext, repetition: Repetition, shared: SharedFixtures) -> None:
        self._context = context
        self._repetition = repetition
        self._shared = shared

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Start an attempt with an empty log, or skip the check before any of its fixtures is set up."""
        check = item.stash.get(CHECK, None)
        if check is None:
            return
        item.stash[EVIDENCE] = EvidenceLog(self._context.redactor)
        item.stash[PASSING] = True
        refusal = item.stash.get(REFUSAL, None) or self._refusal(check)
        if refusal is not None:
            item.stash[REFUSAL] = refusal
            pytest.skip(refusal.reason)
        self._shared.begins(item)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail a check whose function was not called, or that measured nothing."""
        result = yield
        if CHECK not in item.stash:
            return result
        parts = item.stash.get(PARTS, None)
        is_plain = isinstance(item, pytest.Function) and type(item).runtest is pytest.Function.runtest
        if (is_plain or is_test_case(item)) and parts is not None and not parts.ran:
            raise NothingMeasured(
                "its function was not run to its end: a conftest or a plugin ran something else"
            )
        if not self._context.plan.policy.require_evidence:
            return result
        if not item.stash[EVIDENCE].measured:
            raise NothingMeasured(
                "the check passed but measured nothing: record an exchange, a figure or an evaluated rule"
            )
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the facts."""
        parts = item.stash.get(PARTS, None)
        is_part = parts is not None and parts.running
        raised = call.excinfo = call.excinfo or (None if is_part else _swallowed(parts))
        report = (yield) if raised is None else (yield from _shown(item, call, raised))
        check = item.stash.get(CHECK, None)
        if check is None:
            return report
        # unittest keeps a TestCase's exception, and pytest adds it to the call when the report is made
        raised = call.excinfo or raised
        # a hook may have changed it
        if raised is not None and report.passed and not hasattr(report, "wasxfail"):
            report.outcome, report.longrepr = "failed", item.repr_failure(raised)
        exception = raised.value if raised and report.failed else None
        if report.failed:
            passing = exception is not None and is_passing(exception)
            item.stash[PASSING] = passing and item.stash.get(PASSING, False)
            self._repetition.restrict(item)
        if parts is not None and is_part:
            parts.failures += [exception] if exception is not None else []
            parts.skipped = parts.skipped or (_summary(report, call) if report.skipped else "")
        evidence = item.stash[EVIDENCE].take() if EVIDENCE in item.stash and not is_part else []
        facts: dict[str, Any] = {"attempt": getattr(item, "execution_count", 1)}
        owner = self._owner(item, call, exception)
        if owner is not item:
            item, check = owner, owner.stash[CHECK]
            facts["of"] = check.nodeid
        if check.establishes:
            facts |= {"check_id": check.id, "establishes": [*check.establishes]}
        if evidence:
            facts["evidence"] = evidence
        if is_part or not report.passed or hasattr(report, "wasxfail"):
            facts["part"] = is_part
            self._describe(facts, item, check, call, report, exception)
        report.readiness = facts  # type: ignore[attr-defined]
        return report

    def _owner(
        self, item: pytest.Item, call: pytest.CallInfo[None], exception: BaseException | None
    ) -> pytest.Item:
        """Return the check that a failure counts against; one that will be rerun stays with its own check."""
        if call.when != "teardown" or exception is None or item.stash[PASSING]:
            return item
        return self._shared.owner(item, exception)

    def _describe(
        self,
        facts: dict[str, Any],
        item: pytest.Item,
        check: Check,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        exception: BaseException | None,
    ) -> None:
        """Add the details of a phase that did not simply pass."""
        summary = self._context.redactor.shown(f"{self._peer(exception)}{_summary(report, call)}")
        if report.failed and (unread := unread_in(summary)):
            notes = [{"kind": "note", "text": line} for line in unread]
            facts["evidence"] = [*facts.get("evidence", ()), *notes]
        facts |= {
            "check_id": check.id,
            "goal": check.goal,
            "phase": check.phase,
            "severity": str(check.severity),
            "class": None,
            "summary": first_line(summary),
            "requires": [*check.requires],
            "covered_by": check.covered_by,
            "applicable": True,
            "drill": check.drill,
            "safety": isinstance(exception, SafetyViolation),
            "not_run": False,
            "where": "",
            "cause": "",
            "advice": advice_in(summary),
            "raised": exception is not None,
            "passing": exception is None or is_passing(exception),
        }
        refusal = item.stash.get(REFUSAL, None)
        if refusal is not None and report.skipped:
            facts.update(refusal.facts())
        elif exception is not None:
            facts["where"] = place_of(exception, str(self._context.settings.root)) or check.where
            facts["class"], problem = self._class_of(exception, facts, item.config)
            if problem:
                facts["summary"] = first_line(
                    self._context.redactor.shown(f"{problem}; asked about {summary}")
                )
            cause = text_of(getattr(exception, "breaks", "")) or environment_of(exception)
            facts["cause"] = self._context.redactor.shown(cause)
        elif report.failed:
            facts["class"], facts["where"] = str(FailureClass.CHECK_ERROR), check.where

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Mark a check's capabilities as down once it has finally failed, or was itself not run."""
        facts = getattr(report, "readiness", None)
        if facts and not facts.get("part") and (report.failed or facts.get("not_run")):
            found = Down.by(facts["check_id"], facts.get("summary", ""), facts.get("class"))
            for capability in facts.get("establishes", ()):
                self._context.down.setdefault(capability, found)

    def _refusal(self, check: Check) -> Refusal | None:
        context = self._context
        return refuse(check, drills=context.settings.drills, down=context.down, offer=context.availability)

    def _peer(self, exception: BaseException | None) -> str:
        """Return the host of a network failure, and the setting or variable that names it."""
        if exception is not None and (found := environment_of(exception)):
            return f"{found}: "
        peer = peer_of(exception) if exception is not None else None
        if peer is None or peer[0] in text_of(exception):
            return ""
        environment = self._context.environment
        setting = environment.profile.setting_of(*peer) if environment is not None else ""
        host = peer[0] if peer[1] is None else f"{peer[0]}:{peer[1]}"
        return f"{host} ({setting}): " if setting else f"{host}: "

    def _class_of(
        self, exception: BaseException, facts: dict[str, Any], config: pytest.Config
    ) -> tuple[str, str]:
        """Return the class of a failure, and what was wrong with the suite's classify hook, if anything.

        If the hook fails, a failure that only the hook could have excused becomes a CHECK_ERROR.
        """
        try:
            named = config.hook.pytest_readiness_classify(exception=exception, check=facts)
        except STOPS:
            raise
        except BaseException as problem:
            wrong = failure_of(problem, str(self._context.settings.root))
        else:
            if named is None:
                return str(classify(exception)), ""
            if named in DECLARED:
                return str(named), ""
            wrong = f"it returned {named!r}, not {', '.join(DECLARED)} or None"
        found = FailureClass.PLATFORM_BUG if facts["safety"] else FailureClass.CHECK_ERROR
        return str(found), f"hook pytest_readiness_classify: {wrong}"


def _swallowed(parts: Parts | None) -> pytest.ExceptionInfo[BaseException] | None:
    """Return the exception that ended a phase but did not reach pytest, because a hook caught it."""
    if parts is None or parts.raised is None:  # an exception may be false
        return None
    return pytest.ExceptionInfo.from_exception(parts.raised)


def _shown(
    item: pytest.Item, call: pytest.CallInfo[None], raised: pytest.ExceptionInfo[BaseException]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Return pytest's report; if it cannot show an exception, a plain report, with a plain exception."""
    with suppress(Exception):  # pytest will not be able to show it either
        give_text(raised.value)
    try:
        with shortened(raised.value):
            return (yield)
    except STOPS:
        raise
    except BaseException as problem:
        said = f"{type(raised.value).__name__} cannot be shown: {type(problem).__name__}: {text_of(problem)}"
        plain = TypeError(said).with_traceback(problem.__traceback__)
        call.excinfo = pytest.ExceptionInfo.from_exception(plain)
        phase: Any = call.when
        return pytest.TestReport(
            item.nodeid, item.location, {}, "failed", said, phase, duration=call.duration
        )


def _summary(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    """Return a text whose first line says how a phase ended; empty if it passed."""
    if hasattr(report, "wasxfail"):
        kind = "expected to fail" if report.skipped else "passed although expected to fail"
        return f"{kind}: {report.wasxfail or 'no reason given'}"
    if report.passed:
        return ""
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    if call.excinfo is None:
        return report.longreprtext  # strict xpass: there is no exception, only a text
    message = _message(call.excinfo.value)
    return f"in {call.when}: {message}" if call.when != "call" else message


def _message(exception: BaseException) -> str:
    name = "" if type(exception) is AssertionError else type(exception).__name__
    said = ": ".join(filter(None, (name, text_of(exception).strip()))) or type(exception).__name__
    if isinstance(exception, BaseExceptionGroup):
        return f"{said}: {_message(worst(exception.exceptions))}"
    return said

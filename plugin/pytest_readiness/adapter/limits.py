"""How long an attempt of a check may take, and after which failures there is another attempt.

pytest-timeout arms one timer for all attempts of a check together, so that a rerun has none left. Where it is
installed it still says how long: its hook is answered here, and its own timer is not armed.

Only trouble of the transport is tried again. An assertion is an answer, and so is what a checkout says:
asking until the answer pleases proves little.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal's own functions make enums: ten times as long
import signal
import threading
import time
from collections.abc import Generator
from types import FrameType
from typing import Any

import pytest

from .context import CHECK, PASSING, RunContext

#: When the attempt under way has used up its time, and how long that is.
_DEADLINE: pytest.StashKey[float] = pytest.StashKey()
_LIMIT: pytest.StashKey[float] = pytest.StashKey()
#: Whether the reruns of a check have got their condition.
_RESTRICTED: pytest.StashKey[bool] = pytest.StashKey()
_SOON = 0.001


class TimeLimitExceeded(pytest.fail.Exception):  # type: ignore[name-defined, misc]
    """A check took longer than it may. What it waited for is not known: it set itself no deadline.

    It is an outcome of pytest and no Exception, so that a check which handles those does not swallow it.
    """

    failure_class = "CHECK_ERROR"


class Limits:
    """Interrupts what takes too long: setup and call together, teardown by itself."""

    def __init__(self, context: RunContext, config: pytest.Config) -> None:
        self._usual = self._current = float(context.plan.policy.check_limit_s)
        self._debugged = any(config.getoption(name, False) for name in ("usepdb", "trace"))
        self._can_interrupt = hasattr(signal, "setitimer") and not self._debugged and _is_main_thread()
        self._handler = self._interrupt
        if self._can_interrupt:
            self._before = signal.signal(signal.SIGALRM, self._handler)
            config.add_cleanup(self._give_back)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Begin the time of an attempt."""
        item.stash[_DEADLINE] = time.monotonic() + self._limit(item)
        return (yield from self._guarded(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Go on with what setup has left."""
        return (yield from self._guarded(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Give the way back a time of its own, also after a check that used up all."""
        item.stash[_DEADLINE] = time.monotonic() + self._limit(item)
        return (yield from self._guarded(item))

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """Take over the limit that pytest-timeout found for a check in its marker, options or settings."""
        if CHECK not in item.stash or self._debugged:
            return None
        if settings.func_only:  # asked in the middle of the call: only this counts
            item.stash[_DEADLINE] = time.monotonic() + settings.timeout
            if self._can_interrupt:
                signal.setitimer(signal.ITIMER_REAL, settings.timeout, settings.timeout)
        else:
            item.stash[_LIMIT] = float(settings.timeout)
        return True

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> bool | None:
        """Leave the timer alone: each phase ends its own."""
        return True if CHECK in item.stash and not self._debugged else None

    def _limit(self, item: pytest.Item) -> float:
        check = item.stash.get(CHECK, None)
        return item.stash.get(_LIMIT, (check.limit_s if check else None) or self._usual)

    def _guarded(self, item: pytest.Item) -> Generator[None, object, object]:
        if CHECK not in item.stash or self._debugged:
            return (yield)
        limit = self._current = self._limit(item)
        try:
            # again after the same time, for a check that swallows even this
            if self._can_interrupt:
                if _signal.getsignal(signal.SIGALRM) is not self._handler:  # a check has set its own
                    signal.signal(signal.SIGALRM, self._handler)
                left = max(_SOON, item.stash[_DEADLINE] - time.monotonic())
                signal.setitimer(signal.ITIMER_REAL, left, limit)
            result = yield
        finally:
            if self._can_interrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
        # where no signal comes, or it was swallowed, the clock still tells
        if time.monotonic() > item.stash[_DEADLINE]:
            raise TimeLimitExceeded(_described(limit))
        return result

    def _give_back(self) -> None:
        signal.signal(signal.SIGALRM, self._before)

    def _interrupt(self, _: int, _frame: FrameType | None) -> None:
        raise TimeLimitExceeded(_described(self._current))


def _described(limit: float) -> str:
    return f"took longer than its limit of {limit:g} s"


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def set_defaults(config: pytest.Config) -> None:
    """Let pytest-rerunfailures rerun once after a second, where nothing else is asked for."""
    option = config.option
    if not hasattr(option, "reruns"):
        return
    if option.reruns is None and not config.getini("reruns") and not option.usepdb:
        option.reruns = 1
        if option.reruns_delay is None and not config.getini("reruns_delay"):
            option.reruns_delay = 1.0


class Repetition:
    """Puts its condition on every rerun of a check, however it was asked for.

    Only once a check has failed: until then pytest-rerunfailures asks for nothing that this would change.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._asked = _asked(config) if hasattr(config.option, "reruns") else None

    def restrict(self, item: pytest.Item) -> None:
        """Give a check that has failed a marker ``flaky`` with the condition, read after the attempt."""
        if self._asked is None or _RESTRICTED in item.stash:
            return
        item.stash[_RESTRICTED] = True
        own = item.get_closest_marker("flaky")
        args, kwargs = (own.args, own.kwargs) if own else ((), self._asked)
        condition = _Condition(item, kwargs.get("condition", True))
        item.add_marker(pytest.mark.flaky(*args, **{**kwargs, "condition": condition}), append=False)


class _Condition:
    """True while all that failed in the attempt may be over the next time. Asked when it has ended."""

    def __init__(self, item: pytest.Item, own: object) -> None:
        self._item, self._own = item, own

    def __bool__(self) -> bool:
        passing = self._item.stash.get(PASSING, False) and not self._item.stash[CHECK].static
        return passing and (isinstance(self._own, str) or bool(self._own))


def _asked(config: pytest.Config) -> dict[str, Any]:
    """Return as a marker's arguments what the invocation and the settings ask for: a marker hides them."""
    option = config.option
    # then they are added to what the marker says; pytest-rerunfailures 15 does not know it
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

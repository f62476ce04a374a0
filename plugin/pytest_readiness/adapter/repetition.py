"""Which failures a check is run again for: trouble of the transport, and nothing else.

An assertion is an answer, and so is what a checkout says: asking until the answer pleases proves little.
"""

from __future__ import annotations

from typing import Any

import pytest

from .context import CHECK, PASSING


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
    """Puts its condition on every rerun of a check, whoever asked for it."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        """Give a check a marker ``flaky`` with the condition, before pytest-rerunfailures reads it."""
        if CHECK not in item.stash or not hasattr(item.config.option, "reruns"):
            return
        own = item.get_closest_marker("flaky")
        args, kwargs = (own.args, own.kwargs) if own else ((), _asked(item.config))
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
    appended = option.reruns_mode == "append"  # then they are added to what the marker says
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

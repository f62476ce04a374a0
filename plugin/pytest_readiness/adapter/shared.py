"""Fixtures that several checks share: whose failure it is when one fails as it is torn down.

pytest reports that with the last check before it, which may never have asked for the fixture. It counts
against a check that did, the most severe one: else a P0's fixture would degrade a run, or a P1's break it.
"""

from __future__ import annotations

from traceback import walk_tb
from typing import Any

import pytest

from .context import CHECK


class SharedFixtures:
    """Remembers since when a fixture of a wider scope has been set up, and which checks have run."""

    def __init__(self) -> None:
        self._ran: list[pytest.Item] = []
        self._since: dict[str, int] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Note how many checks had begun when it was set up, anew for each of its parameters."""
        if fixturedef.scope != "function":
            self._since[fixturedef.argname] = len(self._ran) - 1

    def begins(self, item: pytest.Item) -> None:
        """Note that a check begins to set up its fixtures."""
        self._ran.append(item)

    def owner(self, item: pytest.Item, exception: BaseException) -> pytest.Item:
        """Return the check that a failed teardown counts against: the one that reports it, or a user's."""
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

"""Hooks that a suite or a composition root may implement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest


@pytest.hookspec(firstresult=True)
def pytest_readiness_environment(name: str, profile: Any, config: pytest.Config) -> Mapping[str, Any] | None:
    """Return values for an environment's profile, such as the addresses of a platform that the hook started.

    Called once, on the controller, before anything is collected; never with ``--collect-only``. ``name`` is
    the value of ``--env`` as given, ``profile`` the values of file and variables
    (``profile.get("section.key")``). Return nested tables in the shape of a profile file, or None. Use
    ``config.add_cleanup`` for everything that must end with the run. The result is sent to xdist workers, so
    it must be plain data. An exception ends the run as bad input; ``pytest.exit`` ends it without a verdict.
    """


@pytest.hookspec
def pytest_readiness_warm() -> None:
    """Load what every run needs and no run changes, such as certificates or descriptions of services.

    Called once by the self-test, after the collection, in the process that its runs are forked from; never in
    an ordinary run. Nothing may be sent or left open, because hundreds of runs inherit it. An exception goes
    to the self-test's log and only costs the time that the hook would have saved.
    """


@pytest.hookspec(firstresult=True)
def pytest_readiness_build_identity(environment: Any) -> Mapping[str, str] | None:
    """Return which build of each service is running, as service -> id; an empty id means unknown.

    Called on the controller after collection and again after the last check, with a short deadline. After an
    exception or a missed deadline the builds are unknown, and the report notes it.
    """


@pytest.hookspec(firstresult=True)
def pytest_readiness_classify(exception: BaseException, check: Mapping[str, Any]) -> str | None:
    """Return the failure class of an exception that a check raised, or None to use the built-in rules.

    Called in the process that ran the check. ``check`` has the data in the reports: check_id, goal, phase,
    severity and more. Allowed: PLATFORM_BUG, CHECK_ERROR, SETUP_ERROR, EXTERNAL_OUTAGE; anything else, or an
    exception, makes the failure a CHECK_ERROR.
    """

"""Hooks that a suite or a composition root may implement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest


@pytest.hookspec(firstresult=True)
def pytest_readiness_environment(name: str, profile: Any, config: pytest.Config) -> Mapping[str, Any] | None:
    """Offer values for the profile of an environment, such as the addresses of a platform that was started.

    Called once, on the controller, before anything is collected; never with ``--collect-only``. ``name`` is
    the value of ``--env`` as given, ``profile`` what file and variables say (``profile.get("section.key")``).
    Return nested tables in the shape of a profile file, or None. Whatever must end with the run belongs to
    ``config.add_cleanup``. The result travels to xdist workers, so it must be plain data. An exception ends
    the run as bad input; ``pytest.exit`` ends it without a verdict.
    """


@pytest.hookspec
def pytest_readiness_warm() -> None:
    """Load what every run needs and no run changes, such as certificates or descriptions of services.

    Called once by the self-test, after the collection, in the process that its runs are forked from; never in
    a run of one's own. Nothing may be sent or left open: hundreds of runs inherit it. An exception goes to
    the self-test's log and costs nothing but the time that would have been saved.
    """


@pytest.hookspec(firstresult=True)
def pytest_readiness_build_identity(environment: Any) -> Mapping[str, str] | None:
    """Say which build of each service is running, as service -> id; an empty id means unknown.

    Called on the controller after collection and again when the last check has ended, with a short deadline.
    An exception or a missed deadline means unknown, and is noted in the report.
    """


@pytest.hookspec(firstresult=True)
def pytest_readiness_classify(exception: BaseException, check: Mapping[str, Any]) -> str | None:
    """Name the failure class of an exception that a check raised, or None to leave it to the built-in rules.

    Called in the process that ran the check. ``check`` is what the reports carry: check_id, goal, phase,
    severity and more. Allowed: PLATFORM_BUG, CHECK_ERROR, SETUP_ERROR, EXTERNAL_OUTAGE; anything else, or an
    exception, makes the failure a CHECK_ERROR.
    """

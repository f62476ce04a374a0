"""Shared by all tests: Hypothesis without a deadline, and one running platform."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest


def pytest_configure() -> None:
    """Name missing packages once, instead of one ImportError for each file."""
    if find_spec("hypothesis") is None:
        raise pytest.UsageError(
            "tests/ needs the development dependencies: `make test` installs them; "
            "the smoke suite alone is `pytest smoke`"
        )
    from hypothesis import settings

    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")


#: Files whose tests take more than a minute together, most of it waiting. They come first, so that none of
#: them runs alone at the end.
_LONG = frozenset(
    (
        *("test_smoke_aws_permissions", "test_keys_kill", "test_docs_walks", "test_blame"),
        *("test_plugin_hooks_that_hide", "test_docs_pipelines", "test_score_waits", "test_plugin_vanishing"),
        *("test_plugin_leftovers", "test_secret_channels", "test_selftest_runs", "test_keys_command"),
    )
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long."""
    items.sort(key=lambda item: item.path.stem not in _LONG)


@pytest.fixture(scope="session")
def running() -> Iterator[Any]:
    """The embedded platform, one for all tests of a session."""
    from stack.launch import Stack  # most tests need none

    with Stack.start() as stack:
        yield stack


@pytest.fixture
def stack(running: Any) -> Iterator[Any]:
    """The platform in its state after boot; it is reset after the test."""
    from tests.stack.tools import request

    yield running
    status, answer = request("POST", f"{running.control_url}/reset", timeout=30)
    assert status == 200, answer

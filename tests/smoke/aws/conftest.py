"""One running platform for the tests that run the suite against it."""

from collections.abc import Iterator

import pytest

from stack.launch import Stack


@pytest.fixture(scope="session")
def running() -> Iterator[Stack]:
    """A platform for all tests of this directory."""
    with Stack.start() as stack:
        yield stack

"""One running platform for all tests of this directory; each test finds it as it was after the boot."""

from collections.abc import Iterator

import pytest

from stack.aws.clients import clients
from stack.launch import Stack
from tests.stack.embedded import Platform
from tests.stack.tools import Aws, request


@pytest.fixture(scope="session")
def running() -> Iterator[Stack]:
    with Stack.start() as stack:
        yield stack


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    yield running
    status, answer = request("POST", f"{running.control_url}/reset")
    assert status == 200, answer


@pytest.fixture
def platform(stack: Stack) -> Platform:
    """A caller of the running platform."""
    return Platform(stack)


@pytest.fixture(scope="session")
def aws(running: Stack) -> Aws:
    """A function from the name of an AWS service to its client."""
    return clients(running.profile["aws"]["endpoint_url"])

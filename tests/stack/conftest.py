"""Callers of the running platform."""

import pytest

from stack.aws.inventory import clients
from stack.launch import Stack
from tests.stack.embedded import Platform
from tests.stack.tools import Aws


@pytest.fixture
def platform(stack: Stack) -> Platform:
    """A caller of the running platform."""
    return Platform(stack)


@pytest.fixture(scope="session")
def aws(running: Stack) -> Aws:
    """A function from the name of an AWS service to its client."""
    return clients(running.profile["aws"]["endpoint_url"])

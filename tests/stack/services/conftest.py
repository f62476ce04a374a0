"""A caller of the running platform, for every test of the services."""

import pytest

from stack import Stack
from tests.stack.services.embedded import Platform


@pytest.fixture
def platform(stack: Stack) -> Platform:
    return Platform(stack)

"""Fixtures of phase auth: the ways in with a token, and the credentials that are forged for them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from smoke.contract.model import Access
from smoke.platform.attacks import Target
from smoke.platform.forgeries import Forgery, forgeries

#: Forged tokens of this age are made anew: they must not be refused for being old.
OLD_S = 60.0


@pytest.fixture
def target(opened: Callable[[Access], Target], access: Access) -> Target:
    """The parametrised way in; no other service's client is built."""
    return opened(access)


@pytest.fixture(scope="session")
def forged() -> Callable[[Target], list[Forgery]]:
    """The forgeries for a target: routes of one service and kind of token share them while they are new."""
    kept: dict[tuple[str, str], tuple[float, list[Forgery]]] = {}

    def forged(target: Target) -> list[Forgery]:
        of = (target.service, target.access.kind.name)
        if target.access.kind.bound or of not in kept or time.monotonic() - kept[of][0] > OLD_S:
            kept[of] = (time.monotonic(), forgeries(target.genuine()))
        return kept[of][1]

    return forged

"""The checks that are parametrised by the services of the platform."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from smoke.contract.model import SERVICES


def requires(service: str, *, finn_covered_by: str = "") -> pytest.MarkDecorator:
    """What a check of one service needs: the service itself.

    Finn cannot be reached from outside the VPC: there the check ``finn_covered_by`` may prove the same.
    """
    if service == "finn" and finn_covered_by:
        return pytest.mark.requires(service, covered_by=finn_covered_by)
    return pytest.mark.requires(service)


def controlled(service: str) -> pytest.MarkDecorator:
    """What a refusal by a service proves something with: it accepts the same request with a good token."""
    return pytest.mark.control(f"auth/valid-token-is-accepted[{service}]")


def each(
    *names: str,
    finn_covered_by: str = "",
    marks: Callable[[str], Iterable[pytest.MarkDecorator]] = lambda _: (),
) -> list[Any]:
    """The named services, all by default, as parameters of a check, each with what it requires."""
    return [
        pytest.param(name, marks=[requires(name, finn_covered_by=finn_covered_by), *marks(name)])
        for name in names or SERVICES
    ]

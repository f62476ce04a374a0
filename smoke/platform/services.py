"""The checks that are parametrised by the services of the platform."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from smoke.contract.model import SERVICE, SERVICES, Access, accesses

#: What a check needs that signs as Finn does.
_OF_FINN = [pytest.mark.requires("finn", "finn_key"), pytest.mark.p1]


def requires(service: str, *, finn_covered_by: str = "") -> pytest.MarkDecorator:
    """What a check of one service needs: the service itself.

    Finn cannot be reached from outside the VPC: there the check ``finn_covered_by`` may prove the same.
    """
    if service == "finn" and finn_covered_by:
        return pytest.mark.requires(service, covered_by=finn_covered_by)
    return pytest.mark.requires(service)


def controlled(service: str) -> pytest.MarkDecorator:
    """What a refusal by a service proves something with: it accepts the same request with a good token."""
    first = next(access for access in accesses() if access.service == service)
    return pytest.mark.control(f"{ACCEPTED}[{first.id}]")


ACCEPTED = "auth/valid-token-is-accepted"


def each_access(
    check: str,
    *,
    severity: pytest.MarkDecorator = pytest.mark.p0,
    control: str = ACCEPTED,
    of: Iterable[str] = (),
    money: bool = False,
) -> list[Any]:
    """Every way in with a token, or those named, as the parameter `access` of the check of that id.

    Freeside's first one covers Finn's behind the VPC. What is for Finn's tokens at Dixie is P1, as its routes
    are. A refusal counts where the check ``control`` passed for the same way in. ``ACCEPTED`` itself needs
    none: it establishes the way in, under its id. With ``money``, budgets are compared where calls cost.
    """
    chosen = [access for access in accesses() if not of or access.id in of]
    first = next(access for access in chosen if access.service == "freeside")
    return [
        pytest.param(
            access,
            id=access.id,
            marks=[
                requires(access.service, finn_covered_by=f"{check}[{first.id}]"),
                *(_OF_FINN if access.kind is SERVICE else [severity]),
                *(_resting_on(check, control, access)),
                *([pytest.mark.requires("budget")] if money and access.service != "dixie" else []),
            ],
        )
        for access in chosen
    ]


def _resting_on(check: str, control: str, access: Access) -> list[pytest.MarkDecorator]:
    if check == ACCEPTED:
        budget = [pytest.mark.requires("budget")] if access.route == "freeside.budget" else []
        return [pytest.mark.establishes(access.id), *budget]
    return [pytest.mark.requires(access.id), pytest.mark.control(f"{control}[{access.id}]")]


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

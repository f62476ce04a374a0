"""G-2, phase auth: the times of a token, just inside and just outside of each limit, on every route."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

import httpx
import pytest
from pytest_readiness import Environment, SetupError

from smoke.contract.model import Access
from smoke.contract.neighbours import Times, times
from smoke.platform.answers import require_status
from smoke.platform.attacks import Target, require_refused
from smoke.platform.batch import Batch, Case
from smoke.platform.services import each_access
from smoke.platform.tokens import bearer

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("auth"),
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

#: How far the clock of a live platform may be from this runner's.
CLOCKS_S = 10.0
#: A token on the brink is sent so often until it stays on its side of the limit while it is under way.
ATTEMPTS = 20


def cases(target: Target, environment: Environment, *, inside: bool) -> list[Case]:
    """Every limit from one side at a target."""
    clocks_s = CLOCKS_S if environment.live else 0.0
    named = [each for each in times(0.0, clocks_s=clocks_s) if each.inside is inside]
    usual = target.accepted().status_code if inside else 0

    def judge(answer: httpx.Response, rule: str) -> None:
        if inside:
            require_status(answer, usual)
        else:
            require_refused(answer, target.service, "a token beyond a limit of its times", rule=rule)

    return [
        Case(
            each.name,
            f"times {'within' if inside else 'beyond'} their limits at {target.access.id}",
            partial(_on_its_side, target, each.name, clocks_s),
            partial(judge, rule=each.rule),
            partial(target.mint, each.name),
        )
        for each in named
    ]


def _on_its_side(target: Target, name: str, clocks_s: float) -> httpx.Response:
    """The answer to a token that was on its side of the limit from the moment it was sent to the answer."""
    for _ in range(ATTEMPTS):
        found = _named(name, clocks_s)
        claims = target.claims() | dict(found.claims)
        answer = target.offer(bearer(target.key(), claims))
        if _still(found.claims, _named(name, clocks_s).claims):
            return answer
    raise SetupError(
        f"no answer came within a second, {ATTEMPTS} times: limits cannot be tested to the second"
    )


def _named(name: str, clocks_s: float) -> Times:
    return next(each for each in times(time.time(), clocks_s=clocks_s) if each.name == name)


def _still(sent: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Whether the value on the brink is what it would be now: it moves when a second ends."""
    return all(sent[claim] == now[claim] for claim in sent)


@pytest.mark.parametrize(
    "access", each_access("auth/times-within-limits-are-accepted", severity=pytest.mark.p1)
)
def test_times_within_limits_are_accepted(
    target: Target, access: Access, environment: Environment, batch: Batch
) -> None:
    """A token from a clock that is 30 s off is accepted, and one that lives for an hour."""
    batch.run(cases(target, environment, inside=True))


@pytest.mark.parametrize(
    "access", each_access("auth/times-beyond-limits-are-refused", severity=pytest.mark.p1)
)
def test_times_beyond_limits_are_refused(
    target: Target, access: Access, environment: Environment, batch: Batch
) -> None:
    """A token from a clock that is further off is refused, and one that lives for a second more."""
    batch.run(cases(target, environment, inside=False))

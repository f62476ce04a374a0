"""A condition counts once it has held without a break; a revocation's limit can only be tightened."""

from types import SimpleNamespace
from typing import Any

import pytest

from smoke.keys.store import CommandRefused, KeyFault
from smoke.keys.verifiers import Timing

HOW: dict[str, Any] = {"what": "x", "where": "here", "action": "wait"}


def environment(**keys: float) -> Any:
    return SimpleNamespace(keys=SimpleNamespace(**keys))


def test_a_break_restarts_the_count() -> None:
    answers = iter(["no", "", "", "no", *[""] * 1000])
    looks = 0

    def unmet() -> str:
        nonlocal looks
        looks += 1
        return next(answers)

    Timing(propagation_s=5, every_s=0.05).steadily(unmet, steady_s=0.2, **HOW)
    assert looks >= 4 + 4, "it held for 0.2 s only after the break"


def test_flapping_never_counts() -> None:
    state = [False]

    def unmet() -> str:
        state[0] = not state[0]
        return "gone again" if state[0] else ""

    with pytest.raises(KeyFault, match=r"x: not within 0\.1 s: gone again"):
        Timing(propagation_s=0.1, every_s=0.01).steadily(unmet, steady_s=0.05, **HOW)


def test_what_holds_at_the_deadline_may_still_prove_itself() -> None:
    answers = iter(["no"] * 3 + [""] * 1000)
    timing = Timing(propagation_s=0.4, every_s=0.01)
    assert timing.steadily(lambda: next(answers), steady_s=0.6, **HOW) >= 0.03 - 0.01


@pytest.mark.parametrize("limit", [0, 301])
def test_the_contracts_limit_cannot_be_relaxed(limit: int) -> None:
    with pytest.raises(CommandRefused, match="1 to 300"):
        Timing.of(environment(propagation_s=1, steady_s=1, watch_s=1, revocation_limit_s=limit))


def test_a_profile_sets_every_wait() -> None:
    keys = environment(propagation_s=1, steady_s=2, watch_s=3, revocation_limit_s=4)
    assert Timing.of(keys) == Timing(1, 2, 3, 4)

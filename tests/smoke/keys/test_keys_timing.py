"""What holds counts once it has held without a break; a revocation's limit can only be tightened."""

from types import SimpleNamespace

import pytest

from smoke.keys.errors import KeyFault, Refused
from smoke.keys.timing import Timing, steadily

HOW = {"what": "x", "where": "here", "action": "wait"}


def test_a_break_starts_the_count_anew() -> None:
    answers = iter(["no", "", "", "no", *[""] * 1000])
    looks = 0

    def unmet() -> str:
        nonlocal looks
        looks += 1
        return next(answers)

    steadily(unmet, within=5, steady=0.2, every=0.05, **HOW)
    assert looks >= 4 + 4, "it held for 0.2 s only after the break"


def test_flapping_never_counts() -> None:
    state = [False]

    def unmet() -> str:
        state[0] = not state[0]
        return "gone again" if state[0] else ""

    with pytest.raises(KeyFault, match=r"x: not within 0\.1 s: gone again"):
        steadily(unmet, within=0.1, steady=0.05, every=0.01, **HOW)


def test_what_holds_at_the_deadline_may_still_prove_itself() -> None:
    answers = iter(["no"] * 3 + [""] * 1000)
    assert steadily(lambda: next(answers), within=0.03, steady=0.1, every=0.01, **HOW) >= 0.03 - 0.01


@pytest.mark.parametrize("limit", [0, 301])
def test_the_contracts_limit_cannot_be_relaxed(limit: int) -> None:
    keys = SimpleNamespace(propagation_s=1, steady_s=1, watch_s=1, revocation_limit_s=limit)
    with pytest.raises(Refused, match="1 to 300"):
        Timing.of(SimpleNamespace(keys=keys))


def test_a_profile_sets_every_wait() -> None:
    keys = SimpleNamespace(propagation_s=1, steady_s=2, watch_s=3, revocation_limit_s=4)
    assert Timing.of(SimpleNamespace(keys=keys)) == Timing(1, 2, 3, 4)

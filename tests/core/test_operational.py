"""When an item of operational readiness is ticked from the checks that it names."""

from typing import Any

import pytest

from tests.core.build import check, model, plan

ITEM = '[[operational]]\nitem = "Rotation"\nchecks = ["keys/*"]'


def drill(outcome: str, **more: Any) -> Any:
    return check("keys/drill", outcome, "P1", **more)


def row(*results: Any) -> tuple[bool, str]:
    (found,) = model(*results, plan_=plan(ITEM))["operational"]
    return found["done"], found["evidence"]


@pytest.mark.parametrize(
    ("drilled", "ticked"),
    [
        (drill("passed"), (True, "2 checks passed")),
        (drill("failed"), (False, "keys/drill failed (of 2 checks)")),
        (drill("not-run"), (False, "keys/drill not-run (of 2 checks)")),
        (drill("skipped"), (False, "keys/drill skipped (of 2 checks)")),
        (drill("skipped", applicable=False), (True, "1 check passed")),
    ],
)
def test_a_drill_that_was_not_asked_for_counts_neither_way(drilled: Any, ticked: tuple[bool, str]) -> None:
    assert row(check("keys/plan", "passed", "P1"), drilled) == ticked


def test_skips_alone_tick_nothing() -> None:
    assert row(drill("skipped", applicable=False, summary="needs --drills")) == (
        False,
        "keys/drill skipped: needs --drills",
    )

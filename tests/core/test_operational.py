"""When an item of operational readiness is ticked from the checks that it names."""

from typing import Any

import pytest

from tests.core.build import PARTIAL, check, model, plan

ITEM = '[[operational]]\nitem = "Rotation"\nchecks = ["keys/*"]'


def drill(outcome: str, **more: Any) -> Any:
    return check("keys/drill", outcome, "P1", **more)


def row(*results: Any, **more: Any) -> tuple[bool, str]:
    (found,) = model(*results, plan_=plan(ITEM), **more)["operational"]
    return found["done"], found["evidence"]


@pytest.mark.parametrize(
    ("drilled", "ticked"),
    [
        (drill("passed"), (True, "2 checks passed, on the embedded platform")),
        (drill("failed"), (False, "keys/drill failed (of 2 checks)")),
        (drill("not-run"), (False, "keys/drill not-run (of 2 checks)")),
        (drill("skipped"), (False, "keys/drill skipped (of 2 checks)")),
        (drill("skipped", applicable=False), (False, "keys/drill skipped (of 2 checks)")),
        (
            drill("skipped", applicable=False, covered_by="keys/plan"),
            (True, "1 check passed, 1 covered by another check, on the embedded platform"),
        ),
    ],
)
def test_every_check_must_have_run_and_passed(drilled: Any, ticked: tuple[bool, str]) -> None:
    assert row(check("keys/plan", "passed", "P1"), drilled) == ticked


def test_skips_alone_tick_nothing() -> None:
    assert row(drill("skipped", applicable=False, summary="needs --drills")) == (
        False,
        "keys/drill skipped (of 1 check): needs --drills",
    )


@pytest.mark.parametrize(
    ("facts", "ticked"),
    [
        ({"scope": PARTIAL}, (False, "a partial run ticks nothing")),
        ({"interrupted": "Ctrl-C"}, (False, "a run that did not come to its end ticks nothing")),
        ({"collection_errors": ("x",)}, (False, "a run that did not come to its end ticks nothing")),
        ({"live": True}, (True, "1 check passed")),
        ({"checkout": "checkout abc1234"}, (True, "1 check passed, on the embedded platform")),
    ],
)
def test_a_tick_tells_where_it_was_seen(facts: Any, ticked: tuple[bool, str]) -> None:
    assert row(check("keys/plan"), **facts) == ticked


def test_static_checks_are_ticked_on_their_checkout() -> None:
    static = check("keys/plan", static=True)
    assert row(static, checkout="checkout abc1234") == (True, "1 check passed, on checkout abc1234")
    assert row(static) == (True, "1 check passed, on the embedded platform")

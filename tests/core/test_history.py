"""The streak: what counts, what is skipped, what breaks it, and the sentence that explains it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.errors import LedgerError
from pytest_readiness.core.history import LOOKED_BACK, Streak, has_green_live_run, is_enough, streak
from pytest_readiness.core.plan import Policy

from tests.core.build import NOW, entry

POLICY = Policy()
OUTAGE = {"verdict": "NO_VERDICT", "uncounted": "EXTERNAL_OUTAGE"}
AT = {"shop.url": "https://shop"}
FLAKY = {"verdict": "DEGRADED", "uncounted": "FLAKE"}


def runs(*facts: Any) -> Any:
    """Entries oldest first, an hour apart; a string is a verdict."""
    return [
        entry(hours_ago=len(facts) - place, **({"verdict": one} if isinstance(one, str) else one))
        for place, one in enumerate(facts)
    ]


def length(*facts: Any, policy: Any = POLICY) -> Any:
    return streak(runs(*facts), policy, NOW).length


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ((), 0),
        (("READY",), 1),
        (("READY", "DEGRADED", "READY"), 1),
        (("READY", "READY", "DEGRADED"), 0),
        (("READY", {"verdict": "BROKEN", "complete": False}, "READY"), 1),
        (("READY", {"complete": False}, "READY"), 1),
        (({"run_id": "same"}, {"run_id": "same"}, "READY"), 2),
        (("READY", {"verdict": "odd"}), 0),
        (("READY", "READY", "READY", "READY"), 4),
        (("READY", "BROKEN", "READY"), 1),
        (("READY", "READY", "BROKEN"), 0),
        (("READY", "NO_VERDICT", "READY"), 1),
        (("READY", OUTAGE, "READY"), 2),
        (("READY", FLAKY, "READY"), 2),
        (("READY", OUTAGE, OUTAGE, FLAKY, "READY"), 2),
        (("READY", OUTAGE, OUTAGE, FLAKY, FLAKY, "READY"), 1),
        (("READY", OUTAGE, OUTAGE, "READY", FLAKY, FLAKY, "READY"), 3),
        (("READY", "READY", OUTAGE), 2),
        ((OUTAGE,), 0),
        (({"build_identity": {"shop": "b0"}}, "READY", "READY"), 2),
        (({"suite_digest": "suite-0"}, "READY"), 1),
        (({"plan_digest": "other"}, "READY"), 1),
        (({"live": True}, {"live": True}, "READY"), 1),
        (("READY", "READY", {"live": True}), 1),
    ],
)
def test_length(facts: Any, expected: Any) -> None:
    assert length(*facts) == expected


def test_an_unknown_build_of_a_service_that_was_down_is_not_another_build() -> None:
    assert length("READY", {**OUTAGE, "build_identity": {"shop": ""}}, "READY") == 2
    assert length("READY", {**OUTAGE, "build_identity": {}}) == 1
    assert length("READY", {**OUTAGE, "build_identity": {"shop": "b2"}}, "READY") == 1


def test_a_green_run_that_did_not_know_the_build_is_not_mistaken_for_the_same_build() -> None:
    assert length({"build_identity": {}}, "READY") == 1


def test_a_run_too_close_to_the_next_one_does_not_count_and_does_not_break() -> None:
    spaced = replace(POLICY, streak_min_spacing_s=5400)
    found = streak(runs("READY", "READY", "READY", "READY", "READY"), spaced, NOW)
    assert found.length == 3
    assert found.why == "counted from the ledger's first run, without 2 runs within 5400 s of a later one"


def test_a_run_that_is_too_old_ends_the_streak() -> None:
    old, new = entry(hours_ago=24 * 15), entry(hours_ago=1)
    found = streak([old, new], POLICY, NOW)
    assert (found.length, found.why) == (1, "run run-360 of 2026-05-17 is older than 14 days")


def test_a_degraded_run_is_green_only_where_the_plan_accepts_it() -> None:
    accepting = replace(POLICY, streak_accepts_degraded=True)
    assert length("READY", "DEGRADED", "READY", policy=accepting) == 3
    assert length("READY", FLAKY, "READY", policy=accepting) == 2


def test_the_order_of_the_ledger_decides_not_the_clock() -> None:
    shuffled = [entry(hours_ago=1), entry(hours_ago=9), entry(hours_ago=4)]
    assert streak(shuffled, POLICY, NOW).length == 3
    spaced = replace(POLICY, streak_min_spacing_s=60)
    assert streak(shuffled, spaced, NOW).length == 2, "what seems to lie after the next run is not spaced"


@pytest.mark.parametrize("hours", [-1, -24 * 365 * 100])
def test_a_run_dated_in_the_future_is_reported(hours: float) -> None:
    found = streak([entry(hours_ago=hours), entry("BROKEN", 2), entry()], POLICY, NOW)
    assert found.length == 1
    assert found.why.startswith("counted after run run-2 of 2026-06-01, which was BROKEN; run run--")
    assert found.why.endswith(" is dated in the future: compare the runners' clocks")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ((), "no run in the ledger"),
        (
            ({"verdict": "BROKEN", "complete": False}, "READY"),
            "counted after run run-2 of 2026-06-01, which was BROKEN (incomplete)",
        ),
        (("READY",), "counted from the ledger's first run"),
        (("BROKEN", "READY"), "counted after run run-2 of 2026-06-01, which was BROKEN"),
        (
            ({"build_identity": {"shop": "b0"}}, "READY"),
            "run run-2 of 2026-06-01 tested another build of shop: b0, then b1",
        ),
        (({"suite_digest": "suite-0"}, "READY"), "earlier runs used another suite"),
        (
            ({"live": True, "addresses": AT}, {"live": True, "addresses": {"shop.url": "https://other"}}),
            "run run-2 of 2026-06-01 tested another address: shop.url was https://shop, then https://other",
        ),
        (
            (
                {"live": True, "addresses": AT},
                {"live": True, "addresses": AT | {"shop.admin_url": "https://a"}},
            ),
            "run run-2 of 2026-06-01 tested another address: shop.admin_url was not set, then https://a",
        ),
        (({"live": True}, {"live": True, "addresses": AT}), "counted from the ledger's first run"),
        (({"addresses": AT}, {"addresses": {}}), "counted from the ledger's first run"),
        ((OUTAGE, OUTAGE, OUTAGE, OUTAGE), "more than 3 runs in a row did not count"),
        (
            ("READY", OUTAGE, "READY"),
            "counted from the ledger's first run, without 1 run that proved nothing",
        ),
    ],
)
def test_why_it_is_not_longer(facts: Any, why: Any) -> None:
    assert streak(runs(*facts), POLICY, NOW).why == why


def test_reached_and_shown_against_the_required_length() -> None:
    found = streak(runs("READY", "READY", "READY"), POLICY, NOW)
    assert found.reached
    assert str(found) == "3/3"


@pytest.mark.parametrize(
    "broken",
    [
        {"finished_at": "yesterday"},
        {"finished_at": "2026-06-01T10:00:00"},
        {"finished_at": "9999-12-31T23:59:59-12:00"},
        {"finished_at": "0001-01-01T00:00:00+12:00"},
    ],
)
def test_an_entry_without_a_usable_time_is_refused(broken: Any) -> None:
    with pytest.raises(LedgerError, match="run run-1"):
        streak([entry(**broken)], POLICY, NOW)


def test_an_entry_without_a_verdict_is_refused() -> None:
    bare = entry()
    del bare["verdict"]
    with pytest.raises(LedgerError, match="has no verdict"):
        streak([bare], POLICY, NOW)


def test_a_green_live_run_is_a_deployment() -> None:
    assert has_green_live_run([entry(live=True)], POLICY)
    assert not has_green_live_run([entry(live=True, verdict="BROKEN"), entry(live=False)], POLICY)
    assert not has_green_live_run([entry(live=True, verdict="DEGRADED")], POLICY)


kinds = st.sampled_from(["READY", "DEGRADED", "BROKEN", "NO_VERDICT", "OUTAGE", "FLAKY"])
histories = st.lists(kinds, max_size=12).map(
    lambda names: runs(*({"OUTAGE": OUTAGE, "FLAKY": FLAKY}.get(name, name) for name in names))
)
GREEN = ("READY",)


@given(histories)
def test_never_longer_than_the_green_runs_since_the_last_that_broke(history: Any) -> None:
    found = streak(history, POLICY, NOW)
    since = []
    for one in reversed(history):
        if one["verdict"] not in GREEN and not one["uncounted"]:
            break
        since.append(one)
    green = [one for one in since if one["verdict"] in GREEN and not one["uncounted"]]
    assert 0 <= found.length <= len(green)
    assert found.why


@given(histories)
def test_one_more_green_run_adds_one_and_a_broken_one_ends_it(history: Any) -> None:
    before = streak(history, POLICY, NOW).length
    after = streak([*history, entry(hours_ago=0.5)], POLICY, NOW).length
    # Four uncounted runs at the end hide what is before them; a green run brings back at most nothing of it.
    assert after == before + 1 or (before == 0 and after == 1)
    assert streak([*history, entry("BROKEN", 0.5)], POLICY, NOW).length == 0


@given(histories, st.integers(0, 12))
def test_what_is_older_never_shortens_it(history: Any, cut: Any) -> None:
    assert streak(history[cut:], POLICY, NOW).length <= streak(history, POLICY, NOW).length


def test_a_streak_is_shown_up_to_the_required_length() -> None:
    shown = [str(Streak(length=length, required=3, why="")) for length in (0, 2, 3, 7)]
    assert shown == ["0/3", "2/3", "3/3", "7 in a row, 3 needed"]


@given(histories, st.integers(0, 12), st.booleans())
def test_what_is_enough_decides_as_all_of_it_does(history: Any, cut: Any, carried: Any) -> None:
    entries, ever = [], False
    for number, each in enumerate(history, start=1):
        ever = ever or has_green_live_run([each], POLICY)
        entries.append({**each, "seq": number} | ({"deployed": ever} if carried else {}))
    newest = entries[cut:]
    if is_enough(newest, POLICY, NOW):
        whole, part = streak(entries, POLICY, NOW), streak(newest, POLICY, NOW)
        assert part.reached == whole.reached
        assert whole.reached or (part.length, part.why) == (whole.length, whole.why)
        assert has_green_live_run(newest, POLICY) == has_green_live_run(entries, POLICY)


def test_how_far_a_run_looks_back() -> None:
    whole = {"checks": [{"id": "a/b"}]}
    facts, green = {**whole, "deployed": False}, runs({**whole, "deployed": False}, "READY", "READY", "READY")
    assert is_enough(green, POLICY, NOW), "the streak is reached"
    assert not is_enough(green[2:], POLICY, NOW), "it may be"
    assert not is_enough(runs(whole, *["READY"] * 3), POLICY, NOW), "a live run may have been before them"
    assert is_enough(runs({**whole, "live": True}, *[{"live": True}] * 2), POLICY, NOW)
    unread = runs({"checks": [], "deployed": False}, *["READY"] * LOOKED_BACK)
    assert not is_enough(unread, POLICY, NOW), "what vanished is found by a run that says what it had"
    red = runs(*[{"verdict": "BROKEN", **facts}] * (LOOKED_BACK - 1))
    assert not is_enough(red, POLICY, NOW), "the report compares with the last green run"
    assert is_enough([*red, red[-1]], POLICY, NOW), "within bounds"


def test_a_streak_that_goes_on_before_what_was_read_says_how_much_that_is() -> None:
    entries = [{**each, "seq": number} for number, each in enumerate(runs(*["READY"] * 5), start=8)]
    assert streak(entries, POLICY, NOW).why == "counted in the ledger's last 5 runs"

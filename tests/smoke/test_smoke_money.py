"""Readings in both dialects, the invariants over them, the spend journal, prices and percentiles."""

import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_readiness import SafetyViolation, SetupError

from smoke.contract.exchange import MICRO_PER_CENT
from smoke.platform import invariants
from smoke.platform.answers import ContractViolation
from smoke.platform.freeside import Freeside, nonce, prompt_for
from smoke.platform.invariants import (
    I3,
    I4,
    BudgetReading,
    Conservation,
    LimitChanged,
    MonthChanged,
    OthersSpend,
    Sighting,
    reading_of,
    require_own,
    require_steady,
)
from smoke.platform.spend import OpeningBalance, SpendJournal, percentile
from tests.smoke.log import Log

GOOD = {
    "communityId": "c", "monthlyBudgetCents": 100, "committed": 2, "reserved": 0, "spentCents": 2,
    "committedMicro": "23456", "reservedMicro": "9999", "period": "2026-11",
}  # fmt: skip
GATEWAY = {
    "communityId": "c", "monthlyLimitCents": 100, "currentSpendCents": 7, "remainingCents": 93,
    "percentUsed": 7,
}  # fmt: skip


def read(body: Any, dialect: Any = "community") -> Any:
    answer = httpx.Response(200, json=body, request=httpx.Request("GET", "http://h/b"))
    return reading_of(answer, dialect, "c")


def test_community_reading_is_exact() -> None:
    assert read(GOOD) == BudgetReading("c", 1_000_000, 23_456, 9_999, exact=True, period="2026-11")
    assert read(GOOD).room == 966_545


@pytest.mark.parametrize(
    "change",
    [
        {"committed": 2.5, "spentCents": 2.5}, {"committed": None}, {"committed": "2"},
        {"committedMicro": 23456},
        {"committedMicro": "-1"}, {"reserved": -1}, {"spentCents": 9}, {"committed": 3, "spentCents": 3},
        {"period": "2026-13"}, {"communityId": "d"}, {"monthlyBudgetCents": None}, {"reserved": True},
    ],
)  # fmt: skip
def test_figures_that_are_wrong_or_disagree_are_refused(change: Any) -> None:
    with pytest.raises(ContractViolation):
        read(GOOD | change)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_missing_figures_are_refused(missing: Any) -> None:
    with pytest.raises(ContractViolation, match=missing):
        read({name: value for name, value in GOOD.items() if name != missing})


def test_gateway_reading_is_in_cents() -> None:
    assert read(GATEWAY, "gateway") == BudgetReading("c", 1_000_000, 70_000, 0, exact=False)
    with pytest.raises(ContractViolation):
        read(GATEWAY | {"remainingCents": 94}, "gateway")
    with pytest.raises(SafetyViolation, match="I-1"):
        watch(read(GATEWAY | {"currentSpendCents": 103, "remainingCents": -3}, "gateway"))


def reading(
    committed: Any = 0, reserved: Any = 0, limit: Any = 1000, exact: Any = True, period: Any = "2026-11"
) -> Any:
    return BudgetReading("c", limit, committed, reserved, exact=exact, period=period)


def cents(figure: int) -> Any:
    return reading(figure * 10_000, limit=10**6, exact=False)


def watch(first: Any, *later: Any, log: Any = None) -> Conservation:
    """The invariants over a first reading and those that follow it, the last one again and again."""
    left = list(later)
    return Conservation(first, lambda: left.pop(0) if len(left) > 1 else left[0], log or Log())


@pytest.mark.parametrize(
    ("first", "then", "rule"),
    [
        (reading(), reading(900, 200), invariants.I1),
        (reading(), reading(0, -1), invariants.I2),
        (reading(500), reading(499), invariants.I3),
        (reading(), reading(limit=2000), invariants.I4),
    ],
)
def test_broken_invariant_is_named(first: Any, then: Any, rule: Any) -> None:
    with pytest.raises(SafetyViolation, match=rule[:3]):
        watch(first).observe(then)


@pytest.mark.parametrize(
    ("first", "then", "costs", "conserved"),
    [
        (reading(100), reading(130), [10, 20], True),
        (reading(100), reading(129), [10, 20], False),
        (reading(100), reading(131), [10, 20], False),
        (cents(0), cents(2), [2_000, 2_000], True),
        (cents(0), cents(3), [2_000, 2_000], False),
    ],
    ids=["exact", "too-little", "too-much", "a-cent-for-each-call", "more-than-a-cent-for-each-call"],
)
def test_charges_must_add_up(
    monkeypatch: pytest.MonkeyPatch, first: Any, then: Any, costs: Any, conserved: bool
) -> None:
    monkeypatch.setattr(invariants, "GRACE_S", 0.0)
    monkeypatch.setattr(invariants, "RELEASED_WITHIN_S", 0.0)
    log = Log()
    if not conserved:
        with pytest.raises(SafetyViolation, match="I-5"):
            watch(first, then).charged(costs)
        return
    watch(first, then, log=log).charged(costs)
    assert log.rules[invariants.I5] == 1
    assert log.figures == [("charges of c", then.committed - first.committed, sum(costs))]


@pytest.mark.parametrize(
    ("later", "found"),
    [
        ([*range(60, 90)], OthersSpend),
        ([60, 61, 62, *[63] * 30], SafetyViolation),
        ([60] * 30, SafetyViolation),
    ],
    ids=["others-go-on", "late-charges-end", "nobody-else"],
)
def test_what_others_spend_is_nobodys_fault(tmp_path: Path, later: list[int], found: Any) -> None:
    figures, journal = iter(later), SpendJournal(tmp_path, quiet_s=0.2)

    def read() -> Any:
        return reading(next(figures))

    for _ in range(2):  # a caller seen once is known
        with pytest.raises(found):
            Conservation(reading(0), read, Log(), journal).charged([30])
        figures = iter(later if found is SafetyViolation else [60] * 30)


def test_who_calls_rarely_is_blamed_neither_once_nor_for_ever(tmp_path: Path) -> None:
    journal = SpendJournal(tmp_path, quiet_s=0.05)
    begun = time.monotonic() - 0.3
    journal.once.remember("reading", reading={"tenant": "c"}, sent=begun)
    outcomes = []
    for _ in range(6):
        with pytest.raises((OthersSpend, SafetyViolation)) as caught:
            Conservation(reading(0), partial(reading, 60), Log(), journal).charged([30])
        outcomes.append(caught.type)
    assert outcomes[:2] == [OthersSpend] * 2
    assert outcomes[-1] is SafetyViolation
    # a caller blamed once is not watched again
    assert len(journal.once.remembered("unexplained")) == outcomes.count(OthersSpend) + 1


def test_what_lasts_is_unexplained_once(tmp_path: Path) -> None:
    journal = SpendJournal(tmp_path, quiet_s=0.02)
    journal.once.remember("reading", reading={"tenant": "c"}, sent=time.monotonic() - 60)
    for _ in range(9):
        with pytest.raises(OthersSpend, match="not examined"):
            require_own("c", partial(reading, 0, 40), journal, "40 reserved")
    assert len(journal.once.remembered("unexplained")) == 1


def test_a_missing_charge_is_never_blamed_on_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariants, "GRACE_S", 0.0)
    journal = SpendJournal(tmp_path, quiet_s=9)
    journal.once.remember("others", tenant="c", what="much")
    with pytest.raises(SafetyViolation, match="I-5"):
        Conservation(reading(0), partial(reading, 10), Log(), journal).charged([30])


@pytest.mark.parametrize(
    ("quiet_s", "limits", "found"),
    [(9, [10, 20], LimitChanged), (9, [10, 20, 30], SafetyViolation), (0, [10, 20], SafetyViolation)],
    ids=["an-operator", "traffic", "the-run-is-alone"],
)
def test_a_limit_that_moved_once_may_be_an_operators(
    tmp_path: Path, quiet_s: float, limits: list[int], found: Any
) -> None:
    journal = SpendJournal(tmp_path, quiet_s=quiet_s)
    readings = [replace(reading(5), limit=limit) for limit in limits]
    for before, now in pairwise(readings):
        with pytest.raises((LimitChanged, SafetyViolation), match="I-4") as caught:
            Conservation(before, partial(next, iter(())), Log(), journal).observe(now)
    assert caught.type is found
    sightings = [seen("a", at, at + 1, one) for at, one in enumerate(readings)]
    with pytest.raises(found, match="I-4"):
        require_steady(sightings, I4, Log(), journal)


def test_what_others_cannot_do_is_blamed_beside_them(tmp_path: Path) -> None:
    journal = SpendJournal(tmp_path, quiet_s=9)
    journal.once.remember("others", tenant="c", what="much")
    with pytest.raises(SafetyViolation, match="I-3"):
        Conservation(reading(5), lambda: reading(4), Log(), journal).charged([])


def test_a_late_charge_gets_a_moment_and_an_excess_none() -> None:
    watch(reading(0), reading(0), reading(0), reading(30)).charged([30])
    with pytest.raises(SafetyViolation):
        watch(reading(0), reading(60), reading(30)).charged([30])


def test_charge_is_waited_for_while_its_reservation_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariants, "GRACE_S", 0.0)
    watch(reading(0), reading(0, 40), reading(0, 40), reading(30)).charged([30])
    with pytest.raises(SafetyViolation, match="I-5"):
        watch(reading(0), reading(0, 40), reading(0), reading(30)).charged([30])


@pytest.mark.parametrize(("ended_ago_s", "seen"), [(0.0, 0), (60.0, 40)])
def test_budget_is_at_rest_when_reservations_are_back_or_overdue(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, ended_ago_s: float, seen: int
) -> None:
    journal = SpendJournal(tmp_path)
    with journal.charging("c", "1") as charge:
        charge.settle(30)
    ended = journal.spend().last["c"]
    monkeypatch.setattr("smoke.platform.freeside.time.time", lambda: ended + ended_ago_s)
    later = iter([reading(0, 40), reading(30)])
    freeside = Freeside(None, None, None, journal)  # type: ignore[arg-type]
    monkeypatch.setattr(freeside, "budget", lambda _: next(later))
    assert freeside.at_rest("c").reserved == seen


def test_what_a_killed_run_left_reserved_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeside = Freeside(None, None, None, SpendJournal(tmp_path))  # type: ignore[arg-type]
    later = iter([reading(0, 40), reading(30)])
    monkeypatch.setattr(freeside, "budget", lambda _: next(later))
    assert freeside.opening_balances(["c"]) == {"c": OpeningBalance(30, "2026-11", limit=1000)}


@pytest.mark.parametrize(
    ("tenant", "limit", "status", "raises"),
    [("a", 99, 402, True), ("a", 99, 200, False), ("a", 107, 402, False), ("small", 9, 402, False)],
)
def test_a_budget_used_up_before_the_run_is_not_the_platforms_fault(
    tmp_path: Path, tenant: str, limit: int, status: int, raises: bool
) -> None:
    opening = {name: OpeningBalance(5, "2026-11", reserved=2, limit=limit) for name in ("a", "small")}
    journal = SpendJournal(tmp_path, 100, lambda: opening, wealthy={"a"})
    with pytest.raises(SetupError, match="raise its budget") if raises else nullcontext():
        journal.answered(tenant, httpx.Response(status))


@pytest.mark.parametrize(
    ("learned", "whole_cents", "held"),
    [(None, 3, False), (None, 9, True), (0, 3, False), (0, 4, True), (-1, 2, False), (-1, 3, True)],
)
def test_where_one_figure_is_both_a_call_of_unknown_cost_may_be_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learned: int | None, whole_cents: int, held: bool
) -> None:
    """``learned`` is what whole cents showed of it; -1 for a cost that was read to the last µUSD, 0."""
    journal = SpendJournal(tmp_path, read_balances=lambda: {"c": OpeningBalance(0, "2026-11")})
    with journal.charging("c", "1") as charge:
        charge.settle(12_000)
    with journal.charging("c", "2") as charge:
        charge.unknown = True
    if learned is not None:
        journal.learn("c", "2", max(learned, 0), 0 if learned < 0 else MICRO_PER_CENT)
    freeside = Freeside(None, None, None, journal)  # type: ignore[arg-type]
    monkeypatch.setattr(freeside, "budget", lambda _: cents(whole_cents))
    monkeypatch.setattr("smoke.platform.freeside.time.time", lambda: journal.spend().last["c"] + 60)
    freeside.at_rest("c")
    assert journal.holds is held


def test_a_combined_figure_may_shrink_by_the_reservation() -> None:
    watch(cents(4), cents(9), cents(5)).charged([12_000])
    watch(cents(4), cents(3)).unchanged("a refusal")


@pytest.mark.parametrize(
    ("first", "then"), [(cents(4), cents(2)), (cents(4), cents(5)), (reading(5), reading(5, 1))]
)
def test_refused_call_changes_nothing(first: Any, then: Any) -> None:
    with pytest.raises(SafetyViolation, match="I-"):
        watch(first, then).unchanged("a refusal")


def test_month_that_ends_is_not_a_violation() -> None:
    with pytest.raises(MonthChanged) as caught:
        watch(reading(500)).observe(reading(0, period="2026-12"))
    assert isinstance(caught.value, SetupError)


@pytest.mark.parametrize(
    ("calls", "charged"), [([True], 0), ([True, True], 0), ([False, True], 10), ([None, True], 10)]
)
def test_the_stored_answer_of_another_run_is_no_charge(
    tmp_path: Path, calls: list[bool | None], charged: int
) -> None:
    journal = SpendJournal(tmp_path)
    for replay in calls:
        with journal.charging("a", "null") as charge:
            charge.replay, charge.unknown = bool(replay), replay is None
            charge.settle(0 if replay is None else 10)
    assert sum(journal.spend().charges.values()) == charged


def test_spend_journal_adds_up_over_processes(tmp_path: Any) -> None:
    opening = {"a": OpeningBalance(7, "2026-11")}
    here = SpendJournal(tmp_path, read_balances=lambda: opening)
    there = SpendJournal(tmp_path, read_balances=lambda: {"a": OpeningBalance(99)})
    assert (here.open(), there.open()) == (opening, opening)
    for journal, key, micro in ((here, "1", 10), (there, "2", 5), (there, "1", 10)):
        with journal.charging("a", key) as charge:
            charge.settle(micro, 12.5)
    with here.charging("a", "3"):
        pass
    spend = here.spend()
    assert (dict(spend.charges), spend.calls, len(spend.latencies_ms)) == ({"a": 15}, 2, 3)


def test_spend_journal_counts_calls_of_unknown_cost(tmp_path: Any) -> None:
    journal = SpendJournal(tmp_path)
    with pytest.raises(httpx.ReadTimeout), journal.charging("a", "1"):
        raise httpx.ReadTimeout("late")
    with journal.charging("a", "1"):
        pass  # its repetition was refused, which says nothing about the first call
    assert (journal.spend().unknown, journal.spend().most("b")) == ({"a": 1}, 0)
    journal.learn("a", "1", 40)
    spend = journal.spend()
    assert (dict(spend.unknown), dict(spend.charges), spend.highest_price) == ({}, {"a": 40}, 40)


def test_call_that_would_pass_the_cap_is_not_made(tmp_path: Any) -> None:
    here, there = SpendJournal(tmp_path, 100), SpendJournal(tmp_path, 100)
    for journal in (here, there):
        with journal.charging("a", str(journal)) as charge:
            charge.settle(30)
    with here.charging("b", "3"), pytest.raises(SetupError, match="exceed its cap, 100"):
        here.charging("b", "4").__enter__()
    with here.charging("b", "5") as charge:
        charge.settle(30)
    with pytest.raises(SetupError, match="spent 90"):
        there.charging("b", "6").__enter__()


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 5), (95, 10), (100, 10), (10, 1), (1, 1), (91, 10), (90, 9)]
)
def test_percentile_is_a_measured_value(percent: Any, expected: Any) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 95), ([1.0], 0), ([1.0], 101)])
def test_percentile_needs_values_and_a_percent_up_to_100(values: Any, percent: Any) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, percent)


def test_prompts_of_one_padding_have_one_length() -> None:
    assert len({len(prompt_for(padding=100)) for _ in range(20)}) == 1
    assert nonce() != nonce()


def seen(by: str, sent: float, ended: float, found: BudgetReading) -> Sighting:
    return Sighting(found, by, sent, ended)


@pytest.mark.parametrize(
    ("then", "rule"), [(reading(9), I3), (replace(reading(10), limit=2000), I4)], ids=["fell", "moved"]
)
def test_jump_between_two_checks_is_named_with_both_readings(then: BudgetReading, rule: str) -> None:
    """The readings of one check agree, those of the next one too: only between them something moved."""
    first, other = seen("first", 0, 1, reading(10)), seen("elsewhere", 0, 1, replace(reading(99), tenant="d"))
    with pytest.raises(SafetyViolation) as caught:
        require_steady([first, other, seen("second", 30, 31, then)], rule, Log())
    assert "first" in str(caught.value)
    assert "30.0 s" in str(caught.value)
    assert "second" in str(caught.value)


@pytest.mark.parametrize(
    "sightings",
    [
        [seen("a", 0, 5, reading(10)), seen("b", 1, 2, reading(9))],  # at once: either may be the earlier
        [seen("a", 0, 1, reading(10)), seen("b", 2, 3, reading(0, period="2026-12"))],
        [seen("a", 0, 1, cents(5)), seen("b", 2, 3, cents(3))],  # one figure for both
    ],
)
def test_what_may_move_is_steady(sightings: list[Sighting]) -> None:
    for rule in (I3, I4):
        require_steady(sightings, rule, Log())


def test_nothing_waits_twice_for_what_stays_reserved(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SpendJournal(tmp_path)
    with journal.charging("c", "1") as charge:
        charge.settle(30)
    ended = journal.spend().last["c"]
    freeside = Freeside(None, None, None, journal)  # type: ignore[arg-type]
    monkeypatch.setattr(freeside, "budget", lambda _: reading(30, 40))
    monkeypatch.setattr("smoke.platform.freeside.time.time", lambda: ended + 60)
    assert freeside.at_rest("c").reserved == 40
    monkeypatch.setattr("smoke.platform.freeside.time.time", lambda: ended)
    assert freeside.at_rest("c").reserved == 40, "it was waited for again"
    assert SpendJournal(tmp_path).holds, "another process waits for it"


@pytest.mark.parametrize(
    ("meanwhile", "after", "wrong"),
    [
        ([reading(10, 30)], reading(10, 30), ""),
        ([reading(0, 90)], reading(10, 30), ""),
        ([reading(0, 30)], reading(10, 30), "a stream is open, but the budget shows nothing reserved"),
        ([reading(0, 30)], reading(0, 30), ""),  # it lags
        ([reading(0, 0)], reading(10, 0), ""),  # another user's reservation was released
        ([reading(0, 90), reading(0, 95), reading(10, 30)], reading(15, 30), ""),  # it cost less, and ended
        (
            [reading(0, 40), reading(0, 45), reading(5, 30)],
            reading(15, 30),
            "10 µUSD of the room, but only 5",
        ),
    ],
)
def test_an_open_call_takes_room(meanwhile: Any, after: Any, wrong: str) -> None:
    with pytest.raises(AssertionError, match=wrong) if wrong else nullcontext():
        watch(reading(0, 30), after).takes_room(meanwhile, 10, "a stream")


def test_whole_cents_do_not_show_an_open_call() -> None:
    watch(cents(3), cents(3), log=(log := Log())).takes_room([cents(3)], 10, "a stream")
    assert log.notes == ["not examined: less than a cent, which this budget does not show"]

"""A walk's prices: calls that cost too much, and calls that spend a budget to its last unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoke.platform.prices import MAX_PADDING, PriceOutOfReach
from smoke.platform.walker import STEP_CHARS, Tariff

tariffs = st.builds(
    Tariff, st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 200), st.sampled_from([1, 4])
)


@given(tariffs, st.integers(0, 60_000))
def test_beyond_costs_more_than_the_room_with_any_answer(tariff: Tariff, room: int) -> None:
    try:
        steps = tariff.beyond(room)
    except PriceOutOfReach:
        assert tariff.price(MAX_PADDING // STEP_CHARS) < 1.5 * tariff.spread * (room + 1)
    else:
        assert tariff.price(steps) // tariff.spread > room


def test_a_price_per_call_is_not_examined_and_not_the_platforms_fault() -> None:
    with pytest.raises(PriceOutOfReach, match="give the small community a smaller budget"):
        Tariff(2000, 2000, 0).beyond(30_000)
    assert Tariff(2000, 2000, 0).beyond(1_999) == 0


@given(tariffs, st.integers(0, 60_000), st.integers(1, 3))
def test_exactly_costs_what_there_is_or_is_not_known(tariff: Tariff, room: int, fewest: int) -> None:
    steps = tariff.exactly(room, fewest=fewest)
    assert not steps or sum(map(tariff.price, steps)) == room
    assert steps == sorted(steps, reverse=True)
    assert bool(steps) == bool(tariff.exactly(room))


def test_room_for_one_call_alone_is_spent_by_one() -> None:
    tariff = Tariff(2320, 2350, 15)
    assert tariff.exactly(3_415, fewest=2) == [72]
    assert tariff.exactly(13_260, fewest=2) == [415, 1, 1]


@pytest.mark.parametrize("room", [30_000, 14_705, 15_290, 9_995])
def test_the_prices_of_the_embedded_platform_reach_any_room(room: int) -> None:
    assert Tariff(2320, 2335, 15).exactly(room)

"""A walk's tariff: what costs too much, and what spends a budget to its last unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoke.platform.walker import Tariff

tariffs = st.builds(
    Tariff, st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 200), st.sampled_from([1, 4])
)


@given(tariffs, st.integers(0, 60_000))
def test_beyond_costs_more_than_the_room_whatever_the_answer(tariff: Tariff, room: int) -> None:
    assert tariff.price(tariff.beyond(room)) // tariff.spread > room


@given(tariffs, st.integers(0, 60_000))
def test_exactly_costs_what_there_is_or_is_not_known(tariff: Tariff, room: int) -> None:
    steps = tariff.exactly(room)
    assert not steps or sum(map(tariff.price, steps)) == room


@pytest.mark.parametrize("room", [30_000, 14_705, 15_290, 9_995])
def test_the_prices_of_the_embedded_platform_reach_any_room(room: int) -> None:
    assert Tariff(2320, 2335, 15).exactly(room)

"""Prices by prompt length: prompts over and within a remaining budget, for several ways of pricing."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pytest_readiness import SetupError

from smoke.platform.freeside import Tenants
from smoke.platform.prices import PriceOutOfReach, Prices, beyond
from smoke.platform.spend import SpendJournal

TENANTS = Tenants("main", "other", "small")
PRICES: dict[str, Callable[[int], int]] = {
    "by the letter": lambda letters: 2_000 + 4 * letters,
    "by the call": lambda _: 9_000,
    "with a least price": lambda letters: max(5_000, 3 * letters),
    "with a discount": lambda letters: 500 + int(100 * letters**0.5),
}
LINEAR, BY_THE_CALL = PRICES["by the letter"], PRICES["by the call"]


class Platform:
    """Charges all pools alike. It `enforces` its limit, or not, and `holds` so many prices for a call."""

    def __init__(
        self, path: Path, price: Callable[[int], int], room: int, *, enforces: bool = True, holds: int = 1
    ) -> None:
        self.price, self.room, self.enforces, self.holds = price, room, enforces, holds
        self.journal = SpendJournal(path)

    def invoke(self, tenant: str, prompt: str, model: str = "cheap") -> Any:
        cost = self.price(len(prompt) - 65 if "pad" in prompt else 0)
        self.room -= cost if tenant == TENANTS.small else 0
        return SimpleNamespace(usage=SimpleNamespace(cost_micro=cost))

    def try_invoke(self, _: str, prompt: str) -> httpx.Response:
        return self.send("", len(prompt) - 65 if "pad" in prompt else 0)

    def watch(self, *_: Any) -> Any:
        return SimpleNamespace(first=self, last=self, charged=lambda _: None)

    def send(self, _: str, padding: int) -> httpx.Response:
        if self.enforces and self.holds * self.price(padding) > self.room:
            return httpx.Response(402)
        self.room -= self.price(padding)
        request = httpx.Request("POST", "http://h/api/agents/invoke")
        return httpx.Response(200, json={"usage": {"costMicro": str(self.price(padding))}}, request=request)


@pytest.mark.parametrize("how", PRICES)
@pytest.mark.parametrize("room", [0, 100, 8_000, 30_000])
def test_a_call_that_does_not_fit_is_found_for_any_pricing(tmp_path: Path, how: str, room: int) -> None:
    price = PRICES[how]
    platform: Any = Platform(tmp_path, price, room)
    watch, _, padding = beyond(platform, TENANTS, platform, platform.send)
    assert price(padding) > watch.first.room


def test_a_call_that_is_answered_beyond_the_room_is_left_to_its_check(tmp_path: Path) -> None:
    platform: Any = Platform(tmp_path, LINEAR, 30_000, enforces=False)
    _, _, padding = beyond(platform, TENANTS, platform, platform.send)
    assert LINEAR(padding) > 30_000
    assert platform.room == 30_000 - LINEAR(padding)


def test_a_room_for_many_calls_is_not_spent_down(tmp_path: Path) -> None:
    platform: Any = Platform(tmp_path, BY_THE_CALL, 21 * 9_000)
    with pytest.raises(PriceOutOfReach, match="give the small community a smaller budget"):
        beyond(platform, TENANTS, platform, platform.send)


def test_a_call_that_reserves_more_than_it_costs_may_be_refused_before_the_room_is_spent(
    tmp_path: Path,
) -> None:
    platform: Any = Platform(tmp_path, BY_THE_CALL, 30_000, holds=3)
    with pytest.raises(PriceOutOfReach, match="more is reserved for one than it costs"):
        beyond(platform, TENANTS, platform, platform.send)


def test_a_price_per_call_fits_a_few_times() -> None:
    assert Prices(9_000, 0.0).padding_for_one(30_000) == 0
    assert Prices(9_000, 0.0).padding_beyond(8_999) == 0
    with pytest.raises(PriceOutOfReach):
        Prices(9_000, 0.0).padding_beyond(9_000)


def test_padding_for_a_price() -> None:
    prices = Prices(2_000, 4.0)
    assert (prices.padding_for(1_000), prices.padding_for(10_000)) == (0, 2_000)
    with pytest.raises(SetupError):
        Prices(2_000, 0.0).padding_for(10_000)


@pytest.mark.parametrize(("cost", "pool"), [(10_000, "cheap"), (400_000, "fast-code"), (900_000, "reviewer")])
def test_more_expensive_pool_is_taken_where_no_prompt_of_the_cheap_one_costs_enough(
    monkeypatch: pytest.MonkeyPatch, cost: int, pool: str
) -> None:
    rates = {"cheap": 1.0, "fast-code": 4.0, "reviewer": 9.0, "reasoning": 10.0, "architect": 11.0}
    monkeypatch.setattr(Prices, "learn", lambda _f, _t, pool="cheap": Prices(2_000, rates[pool], pool))
    unused: Any = None
    prices, padding = Prices.reaching(unused, "c", lambda prices: prices.padding_for(cost))
    assert (prices.pool, padding) == (pool, int((cost - 2_000) / rates[pool]))
    with pytest.raises(SetupError, match="architect"):
        Prices.reaching(unused, "c", lambda prices: prices.padding_for(10**9))


@pytest.mark.parametrize("room", [2_100, 4_000, 15_000, 30_000, 100_000])
def test_one_call_fits_and_half_of_the_room_is_left(room: Any) -> None:
    prices = Prices(2_000, 4.0)
    price = 2_000 + 4 * prices.padding_for_one(room)
    assert room // price == 1
    assert price <= max(2_000, 0.52 * room)
    assert 2_000 + 4 * prices.padding_beyond(room) > room

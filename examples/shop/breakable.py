"""The shop with faults that the self-test switches on, one at a time: ``readiness self-test`` starts this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_readiness.selftest.platform import serve
from shop import Answer, Refused, Shop, serving

KEYS = {"SHOP_KEY": "breakable-ada", "SHOP_OTHER_KEY": "breakable-bob"}
PROFILE = """
name = "local"
live = false
[shop]
url = "{url}"
key = "env:SHOP_KEY"
other_key = "env:SHOP_OTHER_KEY"
"""


class BreakableShop(Shop):
    """A shop that misbehaves according to the active faults; `shop.py` knows nothing about them."""

    FAULTS = ("till-adds-twice", "older-build", "open-door", "oversells", "warehouse-away")

    def __init__(self, keys: Mapping[str, str]) -> None:
        self.on: set[str] = set()
        super().__init__(keys)

    def set_fault(self, fault: str, _: Mapping[str, Any]) -> None:
        """Switch a fault on; LookupError for one that it does not have."""
        if fault not in self.FAULTS:
            raise LookupError(f"no fault {fault!r}")
        self.on.add(fault)

    def clear_fault(self, fault: str) -> None:
        """Switch it off."""
        self.on.discard(fault)

    def reset(self) -> None:
        """Return to the state after the start."""
        self.restock()

    def state(self) -> object:
        """Return a value that is equal for equal states."""
        return [self.stock, self.spent, self.orders]

    def health(self) -> Answer:
        """Report that the shop is down, or leave out the build."""
        if "warehouse-away" in self.on:
            return 503, {"status": "no warehouse"}
        return (200, {"status": "ok"}) if "older-build" in self.on else super().health()

    def product(self, name: str) -> dict[str, Any]:
        """Describe products as an older build did: prices in euros, and any name is a product."""
        if "older-build" in self.on:
            return {"id": name, "price_cents": self.PRODUCTS.get(name, 0) / 100, "stock": 0}
        return super().product(name)

    def charge(self, customer: str, cents: int) -> int:
        """Charge twice the amount."""
        return super().charge(customer, 2 * cents if "till-adds-twice" in self.on else cents)

    def take(self, product: str, quantity: int) -> None:
        """Sell without checking the stock."""
        if "oversells" not in self.on:
            super().take(product, quantity)

    def customer(self, headers: Mapping[str, str]) -> str:
        """Treat every caller as Ada."""
        try:
            return super().customer(headers)
        except Refused:
            if "open-door" in self.on:
                return "ada"
            raise

    def order_of(self, customer: str, number: str) -> dict[str, Any]:
        """Show any order to any caller."""
        return self.orders[number] if "open-door" in self.on else super().order_of(customer, number)


if __name__ == "__main__":
    platform = BreakableShop({KEYS["SHOP_KEY"]: "ada", KEYS["SHOP_OTHER_KEY"]: "bob"})
    with serving(platform) as url:
        serve(platform, profile=PROFILE.format(url=url), env=KEYS)

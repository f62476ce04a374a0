"""The shop is up, and what it sells."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.goal("G-1")


@pytest.mark.phase("health")
@pytest.mark.p0
@pytest.mark.establishes("shop")
def test_up(shop: Any) -> None:
    """The shop reports that it is healthy."""
    answer = shop.send("GET", "/health")
    assert answer.status_code == 200, f"the shop answers its health route with {answer.status_code}"


@pytest.mark.phase("health")
@pytest.mark.p1
@pytest.mark.requires("shop")
def test_build_is_reported(shop: Any, evidence: Any) -> None:
    """The shop reports its build."""
    build = shop.send("GET", "/health").json().get("build", "")
    evidence.figure("build", build)
    assert build, "the health route names no build"


@pytest.mark.phase("catalogue")
@pytest.mark.p0
@pytest.mark.requires("shop")
@pytest.mark.establishes("prices")
def test_price_is_in_whole_cents(shop: Any, evidence: Any) -> None:
    """A price is a whole number of cents; what an order costs is held against it."""
    price = shop.send("GET", "/products/tea").json()["price_cents"]
    evidence.figure("price of tea", price, "cents")
    assert isinstance(price, int), f"the price of tea is {price!r} cents"
    assert price > 0


@pytest.mark.phase("catalogue")
@pytest.mark.p1
@pytest.mark.requires("shop")
def test_unknown_product_is_not_found(shop: Any) -> None:
    """A product that the shop does not have is a 404."""
    answer = shop.send("GET", "/products/no-such-thing")
    assert answer.status_code == 404, f"a product that does not exist returned {answer.status_code}"

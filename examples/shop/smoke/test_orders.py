"""Orders: paid once, from stock, and only by those who may."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from pytest_readiness import SafetyViolation

pytestmark = [pytest.mark.goal("G-2"), pytest.mark.phase("orders"), pytest.mark.requires("customers", "shop")]
TEA = {"product": "tea", "quantity": 1}


def order(shop: Any, **more: Any) -> Any:
    """Order a packet of tea."""
    return shop.send("POST", "/orders", key="shop.key", body=TEA, **more)


@pytest.mark.p0
@pytest.mark.requires("customers", "shop", "prices")
def test_order_is_accepted(shop: Any, evidence: Any) -> None:
    """An order is accepted at the price of the catalogue."""
    price = shop.send("GET", "/products/tea").json()["price_cents"]
    answer = order(shop)
    assert answer.status_code == 201, f"an order returned {answer.status_code}"
    evidence.figure("total", answer.json()["total_cents"], "cents", expected=price)
    assert answer.json()["total_cents"] == price


@pytest.mark.p0
@pytest.mark.requires("customers", "shop", "prices")
def test_order_is_charged_once(shop: Any, evidence: Any) -> None:
    """An order sent twice with one idempotency key is charged once."""
    key = str(uuid4())
    before = shop.send("GET", "/account", key="shop.key").json()["spent_cents"]
    price = shop.send("GET", "/products/tea").json()["price_cents"]
    for _ in range(2):
        order(shop, idempotency_key=key)
        charged = shop.send("GET", "/account", key="shop.key").json()["spent_cents"] - before
        evidence.figure("charged", charged, "cents", expected=price)
    if charged != price:
        raise SafetyViolation(f"an order of {price} cents, sent twice, was charged {charged} cents")


@pytest.mark.p0
def test_stock_follows_orders(shop: Any, eventually: Any) -> None:
    """Sold goods leave the stock within two seconds."""
    before = shop.send("GET", "/products/tea").json()["stock"]
    order(shop)
    eventually(
        lambda: shop.send("GET", "/products/tea").json()["stock"] == before - 1,
        within=2,
        what="stock follows the order",
    )


@pytest.mark.p0
def test_order_beyond_the_stock_is_refused(shop: Any) -> None:
    """An order for more than the stock is refused."""
    much = {"product": "cups", "quantity": 10_000}
    answer = shop.send("POST", "/orders", key="shop.key", body=much)
    assert answer.status_code == 409, f"10,000 cups returned {answer.status_code}"


@pytest.mark.p0
@pytest.mark.goal("G-3")
@pytest.mark.control("orders/order-is-accepted")
def test_order_without_a_key_is_refused(shop: Any) -> None:
    """An order without an API key is refused."""
    answer = shop.send("POST", "/orders", body=TEA)
    if answer.status_code < 300:
        raise SafetyViolation(f"an order without a key returned {answer.status_code}")
    assert answer.status_code == 401


@pytest.mark.p0
@pytest.mark.goal("G-3")
@pytest.mark.control("orders/order-is-accepted")
def test_order_of_another_customer_is_hidden(shop: Any) -> None:
    """A customer cannot see another customer's order."""
    number = order(shop).json()["id"]
    answer = shop.send("GET", f"/orders/{number}", key="shop.other_key")
    if answer.status_code < 300:
        raise SafetyViolation("a customer sees the order of another customer")
    assert answer.status_code == 404

"""A small shop: products, orders, accounts, over HTTP. It does not depend on readiness."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]


class Refused(Exception):
    """A request that the shop turns down: status and reason."""


class Shop:
    """What the shop knows. ``keys`` maps an API key to the customer who holds it."""

    BUILD = "2026.11"
    PRODUCTS: Mapping[str, int] = {"tea": 450, "cups": 1299}  # price in cents

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self.restock()

    def restock(self) -> None:
        """Forget all orders."""
        self.stock = dict.fromkeys(self.PRODUCTS, 100)
        self.spent = dict.fromkeys(self._keys.values(), 0)
        self.orders: dict[str, dict[str, Any]] = {}
        self._repeated: dict[tuple[str, str], dict[str, Any]] = {}

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        """Answer one request."""
        with self._lock:
            try:
                match method, path.strip("/").split("/"):
                    case "GET", ["health"]:
                        return self.health()
                    case "GET", ["products", product]:
                        return 200, self.product(product)
                    case "GET", ["account"]:
                        return 200, {"spent_cents": self.spent[self.customer(headers)]}
                    case "POST", ["orders"]:
                        return 201, self.order(self.customer(headers), body, headers.get("Idempotency-Key"))
                    case "GET", ["orders", order]:
                        return 200, self.order_of(self.customer(headers), order)
                return 404, {"error": "no such page"}
            except Refused as refusal:
                status, reason = refusal.args
                return status, {"error": reason}

    def health(self) -> Answer:
        """Report the shop's health and its build."""
        return 200, {"status": "ok", "build": self.BUILD}

    def product(self, name: str) -> dict[str, Any]:
        """Describe a product."""
        if name not in self.PRODUCTS:
            raise Refused(404, "no such product")
        return {"id": name, "price_cents": self.PRODUCTS[name], "stock": self.stock[name]}

    def customer(self, headers: Mapping[str, str]) -> str:
        """Return who sent a request."""
        key = (headers.get("Authorization") or "").removeprefix("Bearer ")
        if key not in self._keys:
            raise Refused(401, "unknown key")
        return self._keys[key]

    def order(self, customer: str, body: Mapping[str, Any], key: str | None) -> dict[str, Any]:
        """Sell something; repeating an idempotency key returns the same order."""
        if key and (customer, key) in self._repeated:
            return self._repeated[customer, key]
        product, quantity = body["product"], body["quantity"]
        self.take(product, quantity)
        total = self.charge(customer, self.PRODUCTS[product] * quantity)
        number = str(len(self.orders) + 1)
        order = {"id": number, "product": product, "quantity": quantity, "total_cents": total}
        self.orders[number] = {**order, "customer": customer}
        if key:
            self._repeated[customer, key] = order
        return order

    def take(self, product: str, quantity: int) -> None:
        """Take goods from the stock."""
        if quantity > self.stock[product]:
            raise Refused(409, "not in stock")
        self.stock[product] -= quantity

    def charge(self, customer: str, cents: int) -> int:
        """Charge an account; return the amount."""
        self.spent[customer] += cents
        return cents

    def order_of(self, customer: str, number: str) -> dict[str, Any]:
        """Return a customer's order; 404 for an order of another customer."""
        order = self.orders.get(number)
        if order is None or order["customer"] != customer:
            raise Refused(404, "no such order")
        return order


@contextmanager
def serving(shop: Shop) -> Iterator[str]:
    """Serve the shop on a free loopback port; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = shop.answer(self.command, self.path, self.headers, json.loads(raw or b"null"))
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

"""Starts the shop for ``--env local``, says which build an environment runs, and has the suite's client."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection, HTTPSConnection
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from pytest_readiness import Environment, Evidence
from shop import Shop, serving


def pytest_readiness_environment(
    name: str, profile: Mapping[str, Any], config: pytest.Config
) -> dict[str, Any] | None:
    """Start the shop on this machine unless the profile already says where it is."""
    if name != "local" or profile.get("shop.url"):
        return None
    stack = ExitStack()
    config.add_cleanup(stack.close)
    os.environ["SHOP_KEY"], os.environ["SHOP_OTHER_KEY"] = secrets.token_hex(16), secrets.token_hex(16)
    shop = Shop({os.environ["SHOP_KEY"]: "ada", os.environ["SHOP_OTHER_KEY"]: "bob"})
    return {"shop": {"url": stack.enter_context(serving(shop))}}


def pytest_readiness_build_identity(environment: Environment) -> dict[str, str]:
    """Return the build of each service: a change during the run leaves no verdict."""
    with urlopen(f"{environment.shop.url}/health", timeout=5) as answer:
        return {"shop": json.load(answer).get("build", "")}


@dataclass
class Request:
    """What was sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes


@dataclass
class Response:
    """What came back, with the attributes ``evidence.exchange`` reads: those of httpx and requests."""

    request: Request
    status_code: int
    headers: Mapping[str, str]
    content: bytes
    elapsed: timedelta

    def json(self) -> Any:
        """Return the body."""
        return json.loads(self.content)


class Client:
    """Talks to the shop and records each exchange as evidence."""

    def __init__(self, environment: Environment, evidence: Evidence) -> None:
        self._environment = environment
        self._evidence = evidence

    def send(
        self, method: str, path: str, *, key: str = "", body: Any = None, idempotency_key: str = ""
    ) -> Response:
        """Send one request. ``key`` names a secret of the profile."""
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {self._environment.secret(key)}"
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        url = urlsplit(f"{self._environment.shop.url}{path}")
        connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
        content = b"" if body is None else json.dumps(body).encode()
        connection = connect(url.netloc, timeout=10)
        started = perf_counter()
        try:
            connection.request(method, url.path, body=content, headers=headers)
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        response = Response(
            Request(method, url.geturl(), headers, content),
            answer.status,
            dict(answer.getheaders()),
            raw,
            timedelta(seconds=perf_counter() - started),
        )
        self._evidence.exchange(response)
        return response


@pytest.fixture
def shop(environment: Environment, evidence: Evidence) -> Client:
    """A client of the shop."""
    return Client(environment, evidence)

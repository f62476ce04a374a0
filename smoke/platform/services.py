"""The services of the platform, in one table, and the tests that are parametrised by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from .answers import Fields, fields_of, require_status
from .http import HttpClient
from .jwks import KeySet, key_set_of

#: Long enough to see by how much an answer is later than the promised 2 s; a hanging service costs no more.
ASKED_FOR_S = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """One service: where it reports its health and publishes its keys, and the audience of its tokens."""

    name: str
    health: str
    jwks: str
    audience: str


SERVICES = {
    service.name: service
    for service in (
        Service("freeside", "/health", "/.well-known/jwks.json", "arrakis"),
        Service("dixie", "/api/health", "/api/auth/.well-known/jwks.json", "loa-dixie"),
        Service("finn", "/health", "/.well-known/jwks.json", "loa-finn"),
    )
}


def requires(service: str, *, finn_covered_by: str = "") -> pytest.MarkDecorator:
    """What a check of one service needs: the service itself.

    Finn cannot be reached from outside the VPC: there the check ``finn_covered_by`` may prove the same.
    """
    if service == "finn" and finn_covered_by:
        return pytest.mark.requires(service, covered_by=finn_covered_by)
    return pytest.mark.requires(service)


def each(
    *names: str,
    finn_covered_by: str = "",
    marks: Callable[[str], Iterable[pytest.MarkDecorator]] = lambda _: (),
) -> list[Any]:
    """The named services, all by default, as parameters of a check, each with what it requires."""
    return [
        pytest.param(name, marks=[requires(name, finn_covered_by=finn_covered_by), *marks(name)])
        for name in names or SERVICES
    ]


class ServiceClient:
    """What every service offers: its health and its public keys."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http

    def get_health(self, **headers: str) -> httpx.Response:
        """The answer of the health route, whatever its status."""
        path = SERVICES[self.http.service].health
        return self.http.send("GET", path, headers=headers, timeout=ASKED_FOR_S)

    def health(self) -> Fields:
        """The body of a 200 of the health route."""
        return fields_of(require_status(self.get_health(), 200))

    def get_jwks(self, **headers: str) -> httpx.Response:
        """The answer of the JWKS route, whatever its status."""
        return self.http.send("GET", SERVICES[self.http.service].jwks, headers=headers)

    def jwks(self) -> KeySet:
        """The published keys."""
        return key_set_of(require_status(self.get_jwks(), 200))

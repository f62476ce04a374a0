"""Finn's API, for a runner that can reach it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from . import tokens
from .contract import Fields, fields_of
from .freeside import JSON_HEADERS, JWKS_PATH, cost_in
from .health import ASKED_FOR_S, HEALTH_PATHS
from .jwks import KeySet, key_set_of
from .purse import Opening, Purse
from .tokens import Claims, SigningKey
from .wire import Credential, Wire, require_status

INVOKE_PATH = "/api/v1/invoke"


class Finn:
    """One check's access to Finn, with tokens as Freeside would sign them."""

    def __init__(
        self,
        wire: Wire,
        agent: str,
        key: Callable[[], SigningKey],
        purse: Purse,
        opening: Callable[[], Opening],
    ) -> None:
        self.wire = wire
        self.agent = agent
        self.key = key
        self.purse = purse
        self._opening = opening

    def health(self) -> Fields:
        """The body of a 200 of the health route."""
        return fields_of(
            require_status(self.wire.send("GET", HEALTH_PATHS["finn"], timeout=ASKED_FOR_S), 200)
        )

    def jwks(self) -> KeySet:
        """The published keys."""
        return key_set_of(require_status(self.wire.send("GET", JWKS_PATH), 200))

    def body(self, prompt: str) -> bytes:
        """The raw body of an invoke: `req_hash` covers exactly these bytes."""
        return json.dumps({"agent": self.agent, "prompt": prompt}).encode()

    def claims(self, tenant: str, body: bytes) -> Claims:
        """The claims for one body."""
        return tokens.finn_claims(tenant, body)

    def credential(self, tenant: str, body: bytes, **claims: Any) -> Credential:
        """Fresh tokens for one body, one for each send."""
        return lambda: tokens.bearer(self.key(), self.claims(tenant, body) | claims)

    def post_invoke(self, body: bytes, *, tenant: str, credential: Credential | None) -> httpx.Response:
        """Post a body with any credential; it is charged to the tenant, so it goes through the purse."""
        self.purse.open(self._opening)
        with self.purse.charging(tenant, str(uuid.uuid4())) as charge:
            response = self.wire.send(
                "POST", INVOKE_PATH, credential=credential, headers=JSON_HEADERS, content=body
            )
            if response.status_code == 200:
                charge.settle(cost_in(response))
        return response

"""Dixie's API."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from . import tokens
from .contract import Fields, fields_of
from .freeside import JSON_HEADERS
from .health import ASKED_FOR_S, HEALTH_PATHS
from .jwks import KeySet, key_set_of
from .tokens import SigningKey
from .wire import Credential, Wire, require_status

JWKS_PATH = "/api/auth/.well-known/jwks.json"


class Dixie:
    """One check's access to Dixie, with user tokens that Freeside would sign."""

    def __init__(self, wire: Wire, tenant: str, key: Callable[[], SigningKey]) -> None:
        self.wire = wire
        self.tenant = tenant
        self.key = key

    def health(self) -> Fields:
        """The body of a 200 of the health route."""
        return fields_of(
            require_status(self.wire.send("GET", HEALTH_PATHS["dixie"], timeout=ASKED_FOR_S), 200)
        )

    def jwks(self) -> KeySet:
        """The published keys."""
        return key_set_of(require_status(self.wire.send("GET", JWKS_PATH), 200))

    def claims(self) -> tokens.Claims:
        """A user's claims towards Dixie."""
        return tokens.user_claims(self.tenant, audience="loa-dixie")

    def credential(self, **claims: Any) -> Credential:
        """Fresh user tokens, one for each send."""
        return lambda: tokens.bearer(self.key(), self.claims() | claims)

    def query(self, routing_key: str | None, credential: Credential | None) -> httpx.Response:
        """The answer of the reputation query; None leaves the key out."""
        params = {} if routing_key is None else {"routingKey": routing_key}
        return self.wire.send("GET", "/api/reputation/query", credential=credential, params=params)

    def score(self, agent: str, credential: Credential | None = None) -> float | None:
        """The score of an agent, in [0, 1]; None for an unknown one."""
        response = require_status(self.query(f"nft:{agent}", credential or self.credential()), 200)
        fields = fields_of(response)
        if fields.raw("score", "a number in [0, 1] or null") is None:
            return None
        return fields.number("score", minimum=0, maximum=1)

    def post_event(self, event: Mapping[str, Any], credential: Credential | None) -> httpx.Response:
        """Write a reputation event."""
        return self.wire.send(
            "POST",
            "/api/reputation/events",
            credential=credential,
            headers=JSON_HEADERS,
            content=json.dumps(event).encode(),
        )


def quality_signal(agent: str, score: float) -> dict[str, Any]:
    """A new event about the quality of an agent's work (contract 3)."""
    return {
        "type": "quality_signal",
        "score": score,
        "event_id": str(uuid.uuid4()),
        "agent_id": agent,
        "collection_id": "smoke",
        "timestamp": datetime.fromtimestamp(time.time(), UTC).isoformat().replace("+00:00", "Z"),
    }


def service_credential(key: SigningKey, **claims: Any) -> Credential:
    """Fresh tokens as Finn signs them towards Dixie."""
    return lambda: tokens.bearer(key, tokens.dixie_service_claims() | claims)

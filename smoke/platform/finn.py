"""Finn's API, for a runner that can reach it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from . import tokens
from .freeside import cost_in
from .http import JSON_HEADERS, Credential, HttpClient, ServiceClient
from .spend import SpendJournal
from .tokens import SigningKey

INVOKE_PATH = "/api/v1/invoke"


class Finn(ServiceClient):
    """One check's access to Finn, with tokens as Freeside would sign them."""

    def __init__(
        self, http: HttpClient, agent: str, key: Callable[[], SigningKey], journal: SpendJournal
    ) -> None:
        super().__init__(http)
        self.agent = agent
        self.key = key
        self.journal = journal

    def body(self, prompt: str) -> bytes:
        """The raw body of an invoke: `req_hash` covers exactly these bytes."""
        return json.dumps({"agent": self.agent, "prompt": prompt}).encode()

    def credential(self, tenant: str, body: bytes, **claims: Any) -> Credential:
        """Fresh tokens for one body, one for each send."""
        return lambda: tokens.bearer(
            self.key(), tokens.finn_claims(tenant, body, at=self.http.address) | claims
        )

    def post_invoke(
        self,
        body: bytes | Sequence[bytes],
        *,
        tenant: str,
        credential: Credential | None,
        headers: Mapping[str, str | bytes] | None = None,
        method: str = "POST",
    ) -> httpx.Response:
        """Post a body with any credential; a 200 is entered in the journal as a charge of ``tenant``."""
        self.journal.open()
        sent = {**JSON_HEADERS, **(headers or {})}
        with self.journal.charging(tenant, str(uuid.uuid4())) as charge:
            response = self.http.send(method, INVOKE_PATH, credential, headers=sent, content=body)
            if response.status_code == 200:
                charge.settle(cost_in(response))
        return response

"""The money of direct calls: Finn asks Freeside to reserve, settle and release it."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from stack.common.claims import Claims
from stack.common.context import Context
from stack.common.http import ApiError, unavailable
from stack.common.jose import bearer
from stack.common.keyring import BadSecret
from stack.common.pricing import Usage, cost_micro, usage_of

_AUDIENCE = "arrakis-internal"
_log = logging.getLogger("stack.billing")


@dataclass(slots=True)
class Bill:
    """What one call costs and whether that is settled; Freeside settles the calls that it makes itself."""

    billing: "Billing"
    pool: str
    trace_id: str
    reservation_id: str | None
    settled: bool = False

    async def settle(self, usage: Usage) -> int:
        """Charge for the usage; the cost in µUSD."""
        if self.reservation_id is None:
            return cost_micro(self.pool, usage)
        document = {"pool": self.pool, "trace_id": self.trace_id, **_counts(usage)}
        body = await self.billing.call(f"/{self.reservation_id}/settle", document, (200,))
        self.settled = True
        return int(body["cost_micro"])


class Billing:
    """Freeside's internal reservations."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @asynccontextmanager
    async def bill(self, claims: Claims, pool: str, prompt: str, trace_id: str) -> AsyncIterator[Bill]:
        """Hold the price of a direct call inside the block; what is not settled is released.

        Raises 402 BUDGET_EXCEEDED, 403 for an unknown tenant, 503 without Freeside.
        """
        bill = Bill(self, pool, trace_id, None)
        if claims.text("reservation_id") is None:
            document = {"tenant_id": claims.tenant_id, "pool": pool, **_counts(usage_of(prompt))}
            bill.reservation_id = await self.reserve(document)
        try:
            yield bill
        finally:
            if bill.reservation_id is not None and not bill.settled:
                await asyncio.shield(asyncio.create_task(self._release(bill.reservation_id)))

    async def reserve(self, document: dict[str, Any]) -> str | None:
        """Reserve the price; the id of the reservation."""
        return str((await self.call("", document, (201,)))["reservation_id"])

    async def call(self, path: str, document: dict[str, Any], expected: tuple[int, ...]) -> dict[str, Any]:
        """One S2S call to Freeside; its 402 and 403 pass through, everything else is 503."""
        url = f"{self._context.settings.freeside_url}/internal/v1/reservations{path}"
        try:
            signer = self._context.keyring.signer()
            issuer = self._context.settings.issuers["finn"]
            headers = bearer(signer, {"iss": issuer, "aud": _AUDIENCE, "sub": "loa-finn"})
            response = await self._context.http.post(url, json=document, headers=headers, timeout=5.0)
            body = response.json() if response.content else {}
        except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError, BadSecret):
            raise unavailable("Billing is unavailable") from None
        if response.status_code in expected and isinstance(body, dict):
            return body
        if response.status_code == 402:
            raise ApiError(402, "BUDGET_EXCEEDED", "The community's budget has no room for this call")
        if response.status_code == 403:
            raise ApiError(403, "FORBIDDEN", "The token's tenant is not known")
        raise unavailable("Billing is unavailable")

    async def _release(self, reservation_id: str) -> None:
        try:
            await self.call(f"/{reservation_id}/release", {}, (204,))
        except ApiError:
            _log.warning("reservation %s not released, its lease will end", reservation_id)


def _counts(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}

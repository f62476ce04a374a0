"""From a request to a call that may run: body, pools, and what faults make of both."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from stack.common.claims import TIER_POOLS
from stack.common.errors import ApiError
from stack.common.requests import drained_body
from stack.faults import intake as broken
from stack.faults.money import stray_charge
from stack.freeside.asks import Ask, read_ask, require_pool

if TYPE_CHECKING:
    from starlette.requests import Request

    from stack.common.claims import Claims
    from stack.common.context import Context


class Intake:
    """Reads a call and decides whether the caller may make it."""

    def __init__(self, context: Context) -> None:
        self._db = context.db
        self._faults = context.faults

    async def read(self, request: Request, claims: Claims) -> Ask:
        """The call; raises 400, 403, 413 or 415."""
        raw = await drained_body(request)
        try:
            ask = read_ask(request, raw, claims)
        except ApiError:
            if self._faults.on("freeside-charges-bad-input"):
                await stray_charge(self._db, claims.tenant_id)
            if not broken.served_anyway(self._faults, request, raw):
                raise
            return Ask(claims, None, "?", claims.pool_id, str(uuid.uuid4()), str(uuid.uuid4()), {})
        return await self._permitted(broken.tenant_as_asked(self._faults, request, raw, ask))

    async def _permitted(self, ask: Ask) -> Ask:
        claims, faults = ask.claims, self._faults
        if faults.on("freeside-ignores-tier"):
            return replace(ask, claims=replace(claims, raw={**claims.raw, "tier": "enterprise"}))
        if faults.on("freeside-ignores-allowed-pools") and ask.pool in TIER_POOLS[claims.tier]:
            return ask
        try:
            require_pool(claims, ask.pool)
        except ApiError:
            if faults.on("freeside-charges-forbidden-pools"):
                await stray_charge(self._db, claims.tenant_id)
            if not faults.on("freeside-downgrades-silently"):
                raise
            return replace(ask, pool=claims.pool_id)
        return ask

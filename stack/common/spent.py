"""Every verified token is spent once, on any route of the service that verified it (contract 1.1)."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stack.common.claims import Claims
    from stack.common.context import Context

# A verified token lives an hour at most, and 30 s of skew on either side.
_KEEP_AT_MOST_S = 3600 + 120
_SWEEP_EVERY = 500


class SpentTokens:
    """The jtis seen, per issuer and not per tenant; in PostgreSQL, so that a restart forgets nothing."""

    def __init__(self, context: Context, schema: str) -> None:
        self._context = context
        self._table = f"{schema}.spent_tokens"
        self._calls = itertools.count(1)
        self._memory: set[str] = set()

    async def spend(self, claims: Claims, route: str) -> bool:
        """Record the token, whatever the route; False if its jti was spent before."""
        service, faults = self._context.settings.service, self._context.faults
        if faults.on(f"{service}-accepts-jti-replay"):
            return True
        jti = claims.jti
        if faults.on(f"{service}-jti-per-tenant"):
            jti = f"{claims.tenant_id}:{jti}"
        if faults.on(f"{service}-jti-per-route"):
            jti = f"{route}:{jti}"
        if faults.on(f"{service}-jti-in-memory"):
            fresh = jti not in self._memory
            self._memory.add(jti)
            return fresh
        if next(self._calls) % _SWEEP_EVERY == 0:
            await self._context.db.execute(f"DELETE FROM {self._table} WHERE expires_at < now()")
        until = min(claims.expires_at, time.time() + _KEEP_AT_MOST_S) + 60
        return (
            await self._context.db.execute(
                f"INSERT INTO {self._table} (issuer, jti, expires_at) VALUES (%s, %s, to_timestamp(%s)) "
                "ON CONFLICT DO NOTHING",
                claims.issuer,
                jti,
                until,
            )
            == 1
        )

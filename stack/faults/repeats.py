"""Broken idempotency: keys that are ignored, raced, or answered whatever the body."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from stack.faults.money import stray_charge
from stack.freeside.idempotency import Claim, Idempotency, KeyConflict

if TYPE_CHECKING:
    from stack.common.database import Database
    from stack.faults.switch import Faults

_ANSWERED = (
    "SELECT answer FROM freeside.idempotency WHERE community_id = %s AND key = %s AND answer IS NOT NULL"
)
_SEIZE = """
INSERT INTO freeside.idempotency (community_id, key, body_hash, owner, lease_until)
VALUES (%s, %s, %s, %s, now() + interval '6 seconds')
ON CONFLICT (community_id, key) DO UPDATE SET owner = EXCLUDED.owner, answer = NULL
"""


class FaultyIdempotency(Idempotency):
    """The real record until a fault is switched on."""

    def __init__(self, db: Database, faults: Faults) -> None:
        super().__init__(db)
        self._db = db
        self._faults = faults

    async def claim(self, tenant_id: str, key: str, body_hash: str) -> Claim:
        """Claim what is not there to be claimed."""
        if self._faults.on("freeside-ignores-idempotency"):
            key = f"{key}:{uuid.uuid4()}"
        if self._faults.on("freeside-races-idempotency"):
            return await self._raced(tenant_id, key, body_hash)
        try:
            claim = await super().claim(tenant_id, key, body_hash)
        except KeyConflict:
            stored = await self._db.one(_ANSWERED, tenant_id, key)
            if stored is None or not self._faults.on("freeside-ignores-key-conflict"):
                raise
            claim = Claim(tenant_id, key, uuid.uuid4(), stored["answer"])
        if claim.answer and self._faults.on("freeside-charges-replays"):
            await stray_charge(self._db, tenant_id)
        return claim

    async def _raced(self, tenant_id: str, key: str, body_hash: str) -> Claim:
        """Look first, claim later: whoever looks in between runs the model too."""
        owner = uuid.uuid4()
        stored = await self._db.one(_ANSWERED, tenant_id, key)
        if stored is not None:
            return Claim(tenant_id, key, owner, stored["answer"])
        await asyncio.sleep(0.1)
        await self._db.execute(_SEIZE, tenant_id, key, body_hash, owner)
        return Claim(tenant_id, key, owner)

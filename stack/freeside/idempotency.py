"""One key, one model run, one charge: the record of answers by community and idempotency key."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from stack.common.database import Database

# A reservation whose holder does not extend it is given back after this; I-6 allows 10 s.
LEASE_S = 6.0
_POLL_S = 0.02
_PATIENCE_S = 40.0

# Whoever inserts runs the model. A claim whose owner died (lease over, no answer) and one older than a day
# may be taken over.
_CLAIM = """
INSERT INTO freeside.idempotency AS known (community_id, key, body_hash, owner, lease_until)
VALUES (%(tenant)s, %(key)s, %(body)s, %(owner)s, now() + make_interval(secs => %(lease)s))
ON CONFLICT (community_id, key) DO UPDATE
SET body_hash = EXCLUDED.body_hash, owner = EXCLUDED.owner, lease_until = EXCLUDED.lease_until,
    answer = NULL, created_at = now()
WHERE (known.answer IS NULL AND known.lease_until < now()) OR known.created_at < now() - interval '24 hours'
"""


class KeyConflict(Exception):
    """The key was used with another body."""


class StillRunning(Exception):
    """The first request with this key has not finished in time."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run the call of a key; `answer` is set instead when it has been answered before."""

    tenant_id: str
    key: str
    owner: uuid.UUID
    answer: str | None = None


class Idempotency:
    """Answers by key, kept for 24 h."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def claim(self, tenant_id: str, key: str, body_hash: str) -> Claim:
        """Claim the key or wait for its answer; raises KeyConflict or StillRunning."""
        owner = uuid.uuid4()
        parameters = {"tenant": tenant_id, "key": key, "body": body_hash, "owner": owner, "lease": LEASE_S}
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if await self._db.execute_named(_CLAIM, parameters) == 1:
                return Claim(tenant_id, key, owner)
            row = await self._db.one(
                "SELECT body_hash, answer FROM freeside.idempotency WHERE community_id = %s AND key = %s",
                tenant_id,
                key,
            )
            if row is not None and row["body_hash"] != body_hash:
                raise KeyConflict(key)
            if row is not None and row["answer"] is not None:
                return Claim(tenant_id, key, owner, row["answer"])
            await asyncio.sleep(_POLL_S)
        raise StillRunning(key)

    async def abandon(self, claim: Claim) -> None:
        """Free the key of a call that was not answered, so that a retry runs."""
        await self._db.execute(
            "DELETE FROM freeside.idempotency "
            "WHERE community_id = %s AND key = %s AND owner = %s AND answer IS NULL",
            claim.tenant_id,
            claim.key,
            claim.owner,
        )

    async def extend(self, owners: Collection[uuid.UUID]) -> None:
        """Prolong the claims of calls that are still running."""
        await self._db.execute(
            "UPDATE freeside.idempotency SET lease_until = now() + make_interval(secs => %s) "
            "WHERE owner = ANY(%s) AND answer IS NULL",
            LEASE_S,
            list(owners),
        )

"""One call from claim to charge: replayed, refused, released or charged, exactly one of these."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from stack.common.database import UNREACHABLE, Database, surely
from stack.common.http import ApiError, unavailable
from stack.common.pricing import Usage, cost_micro, usage_of
from stack.freeside.asks import Ask
from stack.freeside.budget_ledger import (
    LEASE_S,
    BudgetLedger,
    Charge,
    Claim,
    Reservation,
)

_EXTEND_EVERY_S = 2.0
_log = logging.getLogger("stack.leases")
_POLL_S = 0.02
_PATIENCE_S = 40.0

# The process that inserts runs the model. A claim of a dead owner (lease over, no answer) and one older than
# a day may be taken over.
_CLAIM = """
INSERT INTO freeside.idempotency AS known (community_id, key, body_hash, owner, lease_until)
VALUES (%(tenant)s, %(key)s, %(body)s, %(owner)s, now() + make_interval(secs => %(lease)s))
ON CONFLICT (community_id, key) DO UPDATE
SET body_hash = EXCLUDED.body_hash, owner = EXCLUDED.owner, lease_until = EXCLUDED.lease_until,
    answer = NULL, created_at = now()
WHERE (known.answer IS NULL AND known.lease_until < now()) OR known.created_at < now() - interval '24 hours'
"""


class KeyConflict(ApiError):
    """The key was used with another body."""

    def __init__(self) -> None:
        super().__init__(409, "IDEMPOTENCY_CONFLICT", "The key was used with another body")


class Idempotency:
    """Answers by key, kept for 24 h."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def claim(self, tenant_id: str, key: str, body_hash: str) -> Claim:
        """Claim the key or wait for its answer; raises KeyConflict, or 503 if that takes too long."""
        owner = uuid.uuid4()
        parameters = {"tenant": tenant_id, "key": key, "body": body_hash, "owner": owner, "lease": LEASE_S}
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if await self._db.execute(_CLAIM, **parameters) == 1:
                return Claim(tenant_id, key, owner)
            row = await self._db.one(
                "SELECT body_hash, answer FROM freeside.idempotency WHERE community_id = %s AND key = %s",
                tenant_id,
                key,
            )
            if row is not None and row["body_hash"] != body_hash:
                raise KeyConflict
            if row is not None and row["answer"] is not None:
                return Claim(tenant_id, key, owner, row["answer"])
            await asyncio.sleep(_POLL_S)
        raise unavailable("The first request with this key is still running")

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


class Leases:
    """The leases held right now, and the heartbeat that extends them."""

    def __init__(self, ledger: BudgetLedger, idempotency: Idempotency) -> None:
        self._ledger = ledger
        self._idempotency = idempotency
        self._held: dict[uuid.UUID, uuid.UUID] = {}

    @contextmanager
    def held(self, owner: uuid.UUID, reservation_id: uuid.UUID) -> Iterator[None]:
        """Keep the claim and the reservation alive inside the block."""
        self._held[owner] = reservation_id
        try:
            yield
        finally:
            del self._held[owner]

    async def keep(self) -> None:
        """Extend the reservations, forever."""
        while True:
            await asyncio.sleep(_EXTEND_EVERY_S)
            if not self._held:
                continue
            try:
                await self._ledger.extend(list(self._held.values()))
                await self._idempotency.extend(list(self._held))
            except UNREACHABLE as error:
                _log.warning("leases not extended: %s", type(error).__name__)


Answer = dict[str, Any]


def answer_body(ask: Ask, content: str, usage: Usage, cost: int) -> Answer:
    """The body of a 200 (contract 1.2); the cost in µUSD."""
    return {
        "content": content,
        "model": ask.pool,
        "usage": {
            "promptTokens": usage.prompt_tokens,
            "completionTokens": usage.completion_tokens,
            "costMicro": str(cost),
        },
        "traceId": ask.trace_id,
    }


@dataclass(slots=True)
class Execution:
    """A call with its key claimed and its price reserved; `charge` settles it."""

    ask: Ask
    claim: Claim
    reservation: Reservation
    ledger: BudgetLedger
    price: Callable[[str, Usage], int]
    settled: bool = False
    kept: bool = False

    def answer(self, content: str, usage: Usage) -> Answer:
        """The body of a 200 (contract 1.2); the cost never exceeds what was reserved."""
        cost = min(self.price(self.ask.pool, usage), self.reservation.amount_micro)
        return answer_body(self.ask, content, usage, cost)

    async def charge(self, answer: Answer, *, keep: bool = True) -> None:
        """Charge for the answer, and keep it for its key; raises 503 when it can no longer be charged."""
        charge = Charge(
            cost_micro=int(answer["usage"]["costMicro"]),
            trace_id=self.ask.trace_id,
            claim=self.claim if keep else None,
            answer=json.dumps(answer) if keep else None,
        )
        self.settled = await self.ledger.commit(self.reservation.reservation_id, charge)
        self.kept = keep and self.settled
        if not self.settled:
            raise unavailable()


class Calls:
    """Brackets the running of a call with its claim and its reservation."""

    #: How many times its price a call reserves; what is not charged is released (I-6).
    reserve_times = 1

    def __init__(self, ledger: BudgetLedger, idempotency: Idempotency, leases: Leases) -> None:
        self._ledger = ledger
        self._idempotency = idempotency
        self._leases = leases

    async def claim(self, ask: Ask) -> Claim:
        """The claim of the call's key, answered or not; raises 409 or 503."""
        return await self._idempotency.claim(ask.claims.tenant_id, ask.key, ask.body_hash)

    @asynccontextmanager
    async def execution(self, ask: Ask, claim: Claim) -> AsyncIterator[Execution]:
        """Reserve for the call, run the block; whatever it leaves uncharged is released and the key freed.

        Raises 402 BUDGET_EXCEEDED, or 403 for a tenant that does not exist.
        """
        try:
            amount = self.reserve_times * self.price(ask.pool, usage_of(ask.prompt))
            reservation = await self._ledger.reserve(ask.claims.tenant_id, amount)
        except BaseException:
            await surely(self._idempotency.abandon(claim))
            raise
        execution = Execution(ask, claim, reservation, self._ledger, self.price)
        try:
            with self._leases.held(claim.owner, reservation.reservation_id):
                yield execution
        finally:
            await surely(self._clean_up(execution))

    def price(self, pool: str, usage: Usage) -> int:
        """The price of a call, µUSD."""
        return cost_micro(pool, usage)

    async def _clean_up(self, execution: Execution) -> None:
        if not execution.settled:
            await self._ledger.release(execution.reservation.reservation_id)
        if not execution.kept:
            await self._idempotency.abandon(execution.claim)

"""Faults of Freeside's money: a ledger that loses some, keys charged twice or not at all."""

import asyncio
import json
import time
import unicodedata
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import ClassVar

from stack.common.context import Outbox
from stack.common.database import Database
from stack.common.provider import Usage, usage_of
from stack.common.verifier import POOLS
from stack.faults.proxy import Faulty
from stack.freeside.budget_ledger import (
    LEASE_S,
    MICRO_PER_CENT,
    OPEN_PERIOD,
    RESERVE,
    BudgetLedger,
    Charge,
    Claim,
    Figures,
    OverBudget,
    Reservation,
    current_period,
)
from stack.freeside.calls import Ask, Calls, Execution, Idempotency, KeyConflict

_WITH_ROOM = "AND committed_micro + reserved_micro + %(amount)s <= limit_micro"
_LEND = """
UPDATE freeside.budgets b SET reserved_micro = b.reserved_micro + %s * r.amount_micro
FROM freeside.reservations r
WHERE r.reservation_id = %s AND b.community_id = r.community_id AND b.period = r.period
"""
RESERVE_BLINDLY = RESERVE.replace(_WITH_ROOM, "")
# The charge for a call that should be free, µUSD.
STRAY_MICRO = 1_000
# Functions that reduce a body's texts before a key's bodies are compared.
_TAKEN_FOR: dict[str, Callable[[str], object]] = {
    "freeside-compares-lengths": len,
    "freeside-compares-the-beginning-of-bodies": lambda text: text[:1000],
    "freeside-compares-ascii-letters": lambda text: text.encode("ascii", "ignore").decode(),
    "freeside-compares-normal-forms": partial(unicodedata.normalize, "NFC"),
    "freeside-compares-words": lambda text: " ".join(text.split()),
}
# What a call is charged at most, µUSD: about what a short one to the cheapest pool costs, or what a long one
# goes beyond.
_AT_MOST_MICRO = {
    "freeside-charges-every-pool-alike": 2_500,
    "freeside-charges-three-cents-at-most": 3 * MICRO_PER_CENT,
}
ANSWERED = (
    "SELECT answer FROM freeside.idempotency WHERE community_id = %s AND key = %s AND answer IS NOT NULL"
)
_KNOWN = "SELECT 1 FROM freeside.idempotency WHERE community_id = %s AND key = %s"
_HELD = f"{_KNOWN} AND answer IS NULL"
_FOLDED = (
    "SELECT answer FROM freeside.idempotency WHERE community_id = %s AND lower(key) = lower(%s) "
    "AND answer IS NOT NULL ORDER BY created_at"
)
AT_ONCE_S = 0.3  # calls less far apart than this come at once
#: New after each restart, so that data stored under it is lost like data in memory.
BOOT = uuid.uuid4()
# What a key is mistaken for.
_KEY_TAKEN_FOR: dict[str, Callable[[str], str]] = {
    "freeside-keys-in-memory": lambda key: f"{key}:{BOOT}",
    "freeside-ignores-idempotency": lambda key: f"{key}:{uuid.uuid4()}",
    "freeside-cuts-keys": lambda key: key[:64],
    "freeside-squeezes-keys": lambda key: " ".join(key.split()),
    "freeside-folds-keys": str.lower,
    "freeside-takes-words-for-no-key": lambda key: key if key != "null" else str(uuid.uuid4()),
    "freeside-takes-keys-for-form-data": lambda key: key.replace("+", " "),
    "freeside-takes-keys-for-base64": lambda key: key.translate(str.maketrans("+/", "-_")),
    "freeside-takes-keys-for-numbers": lambda key: str(float(key)) if key.isdigit() else key,
    "freeside-takes-keys-for-uuids": lambda key: _as_uuid(key),
    "freeside-keys-each-route": lambda key: f"{key}:{streaming.get()}",
}
#: The lease of a reservation that only its own process releases.
FOR_EVER_S = 86_400.0
# How many keys are kept instead of all keys of a day.
MEMORY = 8
#: Answers to longer prompts are too long to keep.
MANY_CHARS = 1000
_FORGET = """
DELETE FROM freeside.idempotency WHERE answer IS NOT NULL AND (community_id, key) NOT IN
    (SELECT community_id, key FROM freeside.idempotency ORDER BY created_at DESC LIMIT %s)
"""
# Whether the call that is served now is a stream.
streaming: ContextVar[bool] = ContextVar("streaming", default=False)
# Whether that call came without an idempotency key.
keyless: ContextVar[bool] = ContextVar("keyless", default=False)
# Whether the caller is exempt from the limit.
unlimited: ContextVar[bool] = ContextVar("unlimited", default=False)
# Whether the caller is mistaken for one who pays nothing, and what the call costs beyond its price, µUSD.
free: ContextVar[bool] = ContextVar("free", default=False)
extra: ContextVar[int] = ContextVar("extra", default=0)
_KEEP = """
UPDATE freeside.idempotency SET body_hash = '', lease_until = now() + interval '1 day' WHERE owner = %s
"""
_LIKE = "SELECT key FROM freeside.idempotency WHERE community_id = %s AND key LIKE %s ORDER BY created_at"
_GIVE_AWAY = (
    "UPDATE freeside.idempotency SET owner = %s "
    "WHERE community_id = %s AND key = %s AND body_hash <> %s AND answer IS NULL"
)
_SEIZE = """
INSERT INTO freeside.idempotency (community_id, key, body_hash, owner, lease_until)
VALUES (%s, %s, %s, %s, now() + interval '6 seconds')
ON CONFLICT (community_id, key) DO UPDATE SET owner = EXCLUDED.owner, answer = NULL
"""


async def stray_charge(db: Database, tenant_id: str, amount_micro: int = STRAY_MICRO) -> None:
    """Commit money without a reservation."""
    await db.execute(OPEN_PERIOD, current_period(), tenant_id)
    await _move(db, "committed_micro = committed_micro + %s", amount_micro, tenant_id)


async def free_all(ledger: BudgetLedger) -> None:
    """Release the reservations of all open calls."""
    await ledger.db.execute("UPDATE freeside.reservations SET expires_at = '-infinity' WHERE state = 'held'")
    await ledger.reap()


class FaultyBudgetLedger(Faulty, BudgetLedger):
    """Moves money wrongly while a fault is on."""

    async def reserve(self, tenant_id: str, amount_micro: int, lease_s: float = LEASE_S) -> Reservation:
        """Reserve without a check, after an early check, below the limit, or for ever."""
        if self._faults.on("freeside-forgets-reservations"):
            lease_s = FOR_EVER_S
        try:
            reserved = super().reserve(tenant_id, amount_micro, lease_s)
            other = Reservation(uuid.uuid4(), tenant_id, amount_micro)
            return await self._faults.unless_away("freeside", self.db, reserved, other)
        except OverBudget:
            if self._faults.on("freeside-charges-over-budget-calls"):
                await stray_charge(self.db, tenant_id)
            raise

    async def extend(self, reservation_ids: Collection[uuid.UUID]) -> None:
        """Prolong leases, unless they have no end."""
        if not self._faults.on("freeside-forgets-reservations"):
            await super().extend(reservation_ids)

    async def _take(self, statement: str, reservation: Reservation, lease_s: float) -> bool:
        streams = streaming.get() and self._faults.on("freeside-streams-beyond-the-limit")
        if streams or unlimited.get() or self._faults.on("freeside-ignores-limit"):
            statement = RESERVE_BLINDLY
        if self._faults.on(
            "freeside-lends-held-room-to-streams" if streaming.get()
            else "freeside-lends-held-room-to-direct-calls" if lease_s > LEASE_S
            else "freeside-lends-held-room-to-invokes"
        ):  # fmt: skip
            statement = RESERVE.replace("committed_micro + reserved_micro", "committed_micro")
        if self._faults.on("freeside-withholds-the-last-unit"):
            statement = RESERVE.replace("<= limit_micro", "< limit_micro")
        if self._faults.on("freeside-withholds-room"):
            statement = RESERVE.replace("<= limit_micro", "<= limit_micro * 4 / 10")
        racily = self._faults.on("freeside-reserves-racily") or (
            self._faults.on("freeside-reserves-racily-for-streams") if streaming.get()
            else lease_s > LEASE_S and self._faults.on("freeside-reserves-racily-for-direct-calls")
        )  # fmt: skip
        if statement == RESERVE and racily:
            figures = await self.figures(reservation.tenant_id)
            if figures is None:
                return False
            used = figures.committed_micro + figures.reserved_micro
            if used + reservation.amount_micro > figures.limit_micro:
                return False
            await asyncio.sleep(0.4)  # on a busy machine, too, the others look meanwhile
            statement = RESERVE_BLINDLY
        return await super()._take(statement, reservation, lease_s)

    async def commit(self, reservation_id: uuid.UUID, charge: Charge) -> bool:
        """Charge nothing, too much or another tenant, or keep the reservation."""
        faults, cost = self._faults, charge.cost_micro
        found = self.db.one(
            "SELECT community_id, amount_micro FROM freeside.reservations WHERE reservation_id = %s",
            reservation_id,
        )
        row = await faults.unless_away("freeside", self.db, found, None)
        elsewhere = faults.on("freeside-charges-another-tenant")
        if faults.on("freeside-metering-dead") or elsewhere or free.get():
            charge = replace(charge, cost_micro=0)
        if faults.on("freeside-overcharges"):
            charge = replace(charge, cost_micro=cost * 2)
        charge = replace(charge, cost_micro=charge.cost_micro + extra.get())
        most = [most for fault, most in _AT_MOST_MICRO.items() if faults.on(fault)]
        charge = replace(charge, cost_micro=min((charge.cost_micro, *most)))
        if faults.on("freeside-charges-whole-cents"):
            charge = replace(charge, cost_micro=-(-cost // MICRO_PER_CENT) * MICRO_PER_CENT)
        committed = self._charged(reservation_id, charge)
        if not await faults.unless_away("freeside", self.db, committed, other=True) or row is None:
            return row is None and faults.on("freeside-answers-without-its-database")
        tenant, amount = row["community_id"], row["amount_micro"]
        if elsewhere or faults.on("freeside-charges-two-tenants"):
            await stray_charge(self.db, _neighbour(tenant), cost)
        if faults.on("freeside-raises-limit"):
            await _move(self.db, "limit_micro = limit_micro + %s", 100_000, tenant)
        if faults.on("freeside-refunds-itself"):
            await _move(self.db, "committed_micro = greatest(0, committed_micro - %s)", 2 * cost, tenant)
        if faults.on("freeside-counts-a-call-twice"):
            await _move(self.db, "reserved_micro = reserved_micro + %s", amount, tenant)
            await asyncio.sleep(0.5)
            await _move(self.db, "reserved_micro = reserved_micro - %s", amount, tenant)
        if faults.on("freeside-leaks-reservations"):
            await _move(self.db, "reserved_micro = reserved_micro + %s", amount, tenant)
        return True

    async def _charged(self, reservation_id: uuid.UUID, charge: Charge) -> bool:
        """Charge for what is reserved, or for what was free for a moment; others may lose what they hold."""
        if self._faults.on("freeside-charges-in-two-steps"):
            await self.db.execute(_LEND, -1, reservation_id)
            await asyncio.sleep(0.2)
            await self.db.execute(_LEND, 1, reservation_id)
        charged = await super().commit(reservation_id, charge)
        if self._faults.on("freeside-frees-all-after-answers"):
            await free_all(self)
        return charged

    async def release(self, reservation_id: uuid.UUID) -> None:
        """Charge a call that failed."""
        if self._faults.on("freeside-charges-failed-calls"):
            await super().commit(reservation_id, Charge(STRAY_MICRO, "failed"))
        await super().release(reservation_id)

    async def figures(self, tenant_id: str) -> Figures | None:
        """The tenant's budget, or one with what is reserved for all of them."""
        figures = await super().figures(tenant_id)
        if figures is not None and self._faults.on("freeside-shows-what-all-reserved"):
            row = await self.db.one("SELECT sum(reserved_micro)::bigint AS reserved FROM freeside.budgets")
            return replace(figures, reserved_micro=int(row["reserved"]) if row else 0)
        return figures


class FaultyIdempotency(Faulty, Idempotency):
    """Runs or charges a key again while a fault is on."""

    _came: ClassVar[dict[tuple[str, ...], float]] = {}  # when the last call with a key came

    async def claim(self, tenant_id: str, key: str, body_hash: str) -> Claim:
        """Claim a key that should not be claimable."""
        if self._faults.on("freeside-forgets-keys"):
            await self._db.execute(_FORGET, MEMORY)
        tenant_id, key = self._taken_for(tenant_id, key)
        if self._faults.on("freeside-takes-keys-for-patterns"):
            like = await self._db.one(_LIKE, tenant_id, key)
            key = like["key"] if like else key
        await self._wait_for(tenant_id, key, body_hash)
        if self._faults.on("freeside-races-idempotency"):
            return await self._raced(tenant_id, key, body_hash)
        try:
            claimed = super().claim(tenant_id, key, body_hash)
            blindly = Claim(tenant_id, key, uuid.uuid4())
            claim = await self._faults.unless_away("freeside", self._db, claimed, blindly)
        except KeyConflict:
            stored = await self._db.one(ANSWERED, tenant_id, key)
            if stored is None and self._faults.on("freeside-answers-any-body-that-waits"):
                return await self._raced(tenant_id, key, body_hash)
            if stored is None or not self._faults.on("freeside-ignores-key-conflict"):
                raise
            claim = Claim(tenant_id, key, uuid.uuid4(), stored["answer"])
        if claim.answer and self._faults.on("freeside-reads-answers-blind-to-case"):
            stored = await self._db.one(_FOLDED, tenant_id, key)
            claim = replace(claim, answer=stored["answer"] if stored else claim.answer)
        if claim.answer and self._faults.on("freeside-renames-replays"):
            renamed = json.loads(claim.answer) | {"traceId": str(uuid.uuid4())}
            claim = replace(claim, answer=json.dumps(renamed))
        streamed = streaming.get() and self._faults.on("freeside-charges-streamed-replays")
        if claim.answer and (streamed or self._faults.on("freeside-charges-replays")):
            await stray_charge(self._db, tenant_id)
        return claim

    async def abandon(self, claim: Claim) -> None:
        """Free the key of a call that was not answered, or keep it for a body that no call has."""
        if self._faults.on("freeside-trips-over-freed-keys"):
            await asyncio.sleep(0.1)  # others with the key arrive meanwhile, on a fast machine, too
        if self._faults.on("freeside-keeps-keys-of-unaffordable-calls"):
            await self._db.execute(_KEEP, claim.owner)
        else:
            await super().abandon(claim)

    def _taken_for(self, tenant_id: str, key: str) -> tuple[str, str]:
        """The tenant and the key that these are mistaken for."""
        tenant_id = "everybody" if self._faults.on("freeside-shares-keys") else tenant_id
        for fault, taken_for in _KEY_TAKEN_FOR.items():
            if self._faults.on(fault):
                key = taken_for(key)
        if keyless.get() and self._faults.on("freeside-stores-nothing-for-keys-that-it-makes"):
            key = str(uuid.uuid4())
        return tenant_id, key

    async def _wait_for(self, tenant_id: str, key: str, body_hash: str) -> None:
        """Fail where a key that was taken is free a moment later, as who reads what is gone.

        Or take it from the call of another body that runs under it, or refuse both.
        """
        if self._faults.on("freeside-refuses-both-of-two-at-once"):
            await self._meet(tenant_id, key)
        if self._faults.on("freeside-gives-running-keys-away"):
            await self._db.execute(_GIVE_AWAY, uuid.uuid4(), tenant_id, key, body_hash)
        if self._faults.on("freeside-trips-over-freed-keys") and await self._db.one(_HELD, tenant_id, key):
            while await self._db.one(_HELD, tenant_id, key):
                await asyncio.sleep(0.01)
            if await self._db.one(_KNOWN, tenant_id, key) is None:
                raise KeyError(key)

    async def _meet(self, *of: str) -> None:
        """Refuse a call if another one with its key comes at once, whichever was first."""
        before, now = self._came.get(of, -AT_ONCE_S), time.monotonic()
        self._came[of] = now
        await asyncio.sleep(AT_ONCE_S)
        if now - before < AT_ONCE_S or self._came[of] != now:
            raise KeyConflict

    async def _raced(self, tenant_id: str, key: str, body_hash: str) -> Claim:
        """Look first, claim later: a request in between runs the model too."""
        owner = uuid.uuid4()
        stored = await self._db.one(ANSWERED, tenant_id, key)
        if stored is not None:
            return Claim(tenant_id, key, owner, stored["answer"])
        await asyncio.sleep(0.1)
        await self._db.execute(_SEIZE, tenant_id, key, body_hash, owner)
        return Claim(tenant_id, key, owner)


class FaultyCalls(Faulty, Calls):
    """Calls at another price, in another order, or mistaken for other ones."""

    async def claim(self, ask: Ask) -> Claim:
        """The claim of the call's key, looked up before the budget or after it."""
        streamed = streaming.get() and self._faults.on("freeside-refuses-streamed-replays-over-budget")
        if streamed or self._faults.on("freeside-refuses-replays-over-budget"):
            price = self.price(ask.pool, usage_of(ask.prompt))
            reservation = await self._ledger.reserve(ask.claims.tenant_id, price)
            await self._ledger.release(reservation.reservation_id)
        if self._faults.on("freeside-keys-each-user"):
            ask = replace(ask, key=f"{ask.key} of {ask.claims.subject}")
        if self._faults.on("freeside-keys-each-tier"):
            ask = replace(ask, key=f"{ask.key} of {ask.claims.tier}")
        if self._faults.on("freeside-runs-keys-on-both-routes"):
            ask = await self._beside_the_other_route(ask)
        free, long = ask.claims.tier == "free", len(ask.prompt) > MANY_CHARS
        if (free and self._faults.on("freeside-keeps-no-answers-of-the-free-tier")) or (
            long and self._faults.on("freeside-keeps-short-answers-only")
        ):
            ask = replace(ask, key=str(uuid.uuid4()))
        for fault, taken_for in _TAKEN_FOR.items():
            if self._faults.on(fault):
                ask = replace(
                    ask, document={name: taken_for(str(text)) for name, text in ask.document.items()}
                )
        if self._faults.on("freeside-forgets-the-pool-of-a-key"):
            ask = replace(ask, document={**ask.document, "model": ""})
        claim = await super().claim(ask)
        if claim.answer and ask.agent and self._faults.on("freeside-reports-stored-answers"):
            event = {"agent_id": ask.agent, "quality": "good", "tenant_id": ask.claims.tenant_id}
            event_id = uuid.uuid4()
            await Outbox(self._ledger.db, "freeside").put(event_id, event | {"event_id": str(event_id)})
        return claim

    async def _beside_the_other_route(self, ask: Ask) -> Ask:
        """The call under a key of its route alone, unless the other route has answered its own."""
        own, other = (f"{ask.key}:{streams}" for streams in (streaming.get(), not streaming.get()))
        if await self._ledger.db.one(ANSWERED, ask.claims.tenant_id, other):
            return replace(ask, key=other)
        await asyncio.sleep(0.1)  # a call by the other route comes meanwhile
        return replace(ask, key=own)

    @asynccontextmanager
    async def execution(self, ask: Ask, claim: Claim) -> AsyncIterator[Execution]:
        """Reserve for the call, or the cheapest pool's price, but charge the full price."""
        if not self._faults.on("freeside-reserves-for-the-cheapest-pool"):
            async with super().execution(ask, claim) as execution:
                yield execution
            return
        price = self.price(ask.pool, usage_of(ask.prompt))
        async with super().execution(replace(ask, pool=POOLS[0]), claim) as execution:
            execution.ask = ask
            execution.reservation = replace(execution.reservation, amount_micro=price)
            yield execution

    def price(self, pool: str, usage: Usage) -> int:
        """The price of a call, µUSD, or a multiple of it."""
        return super().price(pool, usage) * int(
            self._faults.number("freeside-overprices", "times", 1000) or 1
        )


def _as_uuid(key: str) -> str:
    with suppress(ValueError):
        return str(uuid.UUID(key))
    return key


def _neighbour(tenant_id: str) -> str:
    first, second = "test-community-staging-001", "test-community-staging-002"
    return first if tenant_id == second else second


async def _move(db: Database, change: str, amount: int, tenant_id: str) -> None:
    await db.execute(
        f"UPDATE freeside.budgets SET {change} WHERE community_id = %s AND period = %s",
        amount,
        tenant_id,
        current_period(),
    )

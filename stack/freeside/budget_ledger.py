"""Money: what is reserved, committed and left, each step one SQL statement and therefore atomic."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from stack.common.database import Database
from stack.common.http import ApiError

MICRO_PER_CENT = 10_000
# A reservation that is not extended is released after this; I-6 allows 10 s.
LEASE_S = 6.0

OPEN_PERIOD = """
INSERT INTO freeside.budgets (community_id, period, limit_micro)
SELECT community_id, %s, limit_micro FROM freeside.communities WHERE community_id = %s
ON CONFLICT DO NOTHING
"""
RESERVE = """
WITH taken AS (
    UPDATE freeside.budgets SET reserved_micro = reserved_micro + %(amount)s
    WHERE community_id = %(tenant)s AND period = %(period)s
      AND committed_micro + reserved_micro + %(amount)s <= limit_micro
    RETURNING community_id, period)
INSERT INTO freeside.reservations (reservation_id, community_id, period, amount_micro, expires_at)
SELECT %(id)s, community_id, period, %(amount)s, now() + make_interval(secs => %(lease)s) FROM taken
"""
_COMMIT = """
WITH held AS (
    UPDATE freeside.reservations SET state = 'committed'
    WHERE reservation_id = %(id)s AND state = 'held'
    RETURNING reservation_id, community_id, period, amount_micro),
moved AS (
    UPDATE freeside.budgets b
    SET reserved_micro = b.reserved_micro - held.amount_micro, committed_micro = b.committed_micro + %(cost)s
    FROM held WHERE b.community_id = held.community_id AND b.period = held.period),
kept AS (
    UPDATE freeside.idempotency i SET answer = %(answer)s
    FROM held WHERE i.community_id = %(tenant)s AND i.key = %(key)s AND i.owner = %(owner)s)
INSERT INTO freeside.charges (reservation_id, community_id, period, cost_micro, trace_id)
SELECT reservation_id, community_id, period, %(cost)s, %(trace)s FROM held
"""
# The lease ran out while the call went on: charge what still fits, never beyond the limit.
_COMMIT_LATE = """
WITH late AS (
    SELECT reservation_id, community_id, period FROM freeside.reservations
    WHERE reservation_id = %(id)s AND state = 'released' FOR UPDATE),
moved AS (
    UPDATE freeside.budgets b SET committed_micro = b.committed_micro + %(cost)s
    FROM late WHERE b.community_id = late.community_id AND b.period = late.period
      AND b.committed_micro + b.reserved_micro + %(cost)s <= b.limit_micro
    RETURNING late.reservation_id, late.community_id, late.period),
marked AS (
    UPDATE freeside.reservations r SET state = 'committed' FROM moved
    WHERE r.reservation_id = moved.reservation_id),
kept AS (
    UPDATE freeside.idempotency i SET answer = %(answer)s
    FROM moved WHERE i.community_id = %(tenant)s AND i.key = %(key)s AND i.owner = %(owner)s)
INSERT INTO freeside.charges (reservation_id, community_id, period, cost_micro, trace_id)
SELECT reservation_id, community_id, period, %(cost)s, %(trace)s FROM moved
"""
_RELEASE = """
WITH freed AS (
    UPDATE freeside.reservations SET state = 'released'
    WHERE {which} AND state = 'held'
    RETURNING community_id, period, amount_micro),
sums AS (
    SELECT community_id, period, sum(amount_micro) AS amount FROM freed GROUP BY community_id, period)
UPDATE freeside.budgets b SET reserved_micro = b.reserved_micro - sums.amount
FROM sums WHERE b.community_id = sums.community_id AND b.period = sums.period
"""


class OverBudget(ApiError):
    """The tenant's limit has no room for the amount."""

    def __init__(self) -> None:
        super().__init__(402, "BUDGET_EXCEEDED", "The community's budget has no room for this call")


class UnknownTenant(ApiError):
    """No community of that id."""

    def __init__(self) -> None:
        super().__init__(403, "FORBIDDEN", "The token's tenant is not known")


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one call, µUSD."""

    reservation_id: uuid.UUID
    tenant_id: str
    amount_micro: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run the call of a key; `answer` is set instead when it has been answered before."""

    tenant_id: str
    key: str
    owner: uuid.UUID
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call came to: µUSD, its trace, and the answer to keep for the claim of its key, if any."""

    cost_micro: int
    trace_id: str
    claim: Claim | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """A tenant's budget of one period as one consistent read, µUSD."""

    tenant_id: str
    period: str
    limit_micro: int
    committed_micro: int
    reserved_micro: int


def current_period() -> str:
    """The UTC month, `YYYY-MM`."""
    return datetime.now(UTC).strftime("%Y-%m")


class BudgetLedger:
    """The budgets table and the reservations that move it."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def reserve(self, tenant_id: str, amount_micro: int, lease_s: float = LEASE_S) -> Reservation:
        """Set the amount aside if it fits; raises OverBudget or UnknownTenant."""
        reservation = Reservation(uuid.uuid4(), tenant_id, amount_micro)
        if await self._take(RESERVE, reservation, lease_s):
            return reservation
        # Either no room, or the first call of the month; of several first calls only one opens it.
        await self.db.execute(OPEN_PERIOD, current_period(), tenant_id)
        if await self._take(RESERVE, reservation, lease_s):
            return reservation
        if await self.figures(tenant_id) is None:
            raise UnknownTenant
        raise OverBudget

    async def _take(self, statement: str, reservation: Reservation, lease_s: float) -> bool:
        parameters = {
            "id": reservation.reservation_id,
            "tenant": reservation.tenant_id,
            "period": current_period(),
            "amount": reservation.amount_micro,
            "lease": lease_s,
        }
        return await self.db.execute(statement, **parameters) == 1

    async def commit(self, reservation_id: uuid.UUID, charge: Charge) -> bool:
        """Turn a reservation into a charge, once; False if there was nothing (left) to charge.

        The answer is kept for its idempotency key in the same statement: a crash cannot part the two.
        """
        parameters = {
            "id": reservation_id,
            "cost": charge.cost_micro,
            "trace": charge.trace_id,
            "answer": charge.answer,
            "tenant": charge.claim.tenant_id if charge.claim else None,
            "key": charge.claim.key if charge.claim else None,
            "owner": charge.claim.owner if charge.claim else None,
        }
        if await self.db.execute(_COMMIT, **parameters) == 1:
            return True
        return await self.db.execute(_COMMIT_LATE, **parameters) == 1

    async def release(self, reservation_id: uuid.UUID) -> None:
        """Give a held reservation back; a second time, and after a commit, it does nothing."""
        await self.db.execute(_RELEASE.format(which="reservation_id = %s"), reservation_id)

    async def extend(self, reservation_ids: Collection[uuid.UUID]) -> None:
        """Prolong the leases of calls that are still running."""
        await self.db.execute(
            "UPDATE freeside.reservations SET expires_at = now() + make_interval(secs => %s) "
            "WHERE reservation_id = ANY(%s) AND state = 'held'",
            LEASE_S,
            list(reservation_ids),
        )

    async def reap(self) -> None:
        """Release every reservation with an expired lease."""
        await self.db.execute(_RELEASE.format(which="expires_at < now()"))

    async def figures(self, tenant_id: str) -> Figures | None:
        """The tenant's budget of this month; None for an unknown tenant."""
        period = current_period()
        row = await self.db.one(
            "SELECT c.community_id, coalesce(b.limit_micro, c.limit_micro) AS limit_micro, "
            "coalesce(b.committed_micro, 0) AS committed, coalesce(b.reserved_micro, 0) AS reserved "
            "FROM freeside.communities c LEFT JOIN freeside.budgets b "
            "ON b.community_id = c.community_id AND b.period = %s WHERE c.community_id = %s",
            period,
            tenant_id,
        )
        if row is None:
            return None
        return Figures(tenant_id, period, row["limit_micro"], row["committed"], row["reserved"])

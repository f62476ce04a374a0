"""Scores and the events that move them, in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid

    from stack.common.database import Database

# An agent nobody has spoken about starts in the middle.
PRIOR = 0.5

_COUNT_ONCE = """
INSERT INTO dixie.events (event_id, agent_id, collection, score, weight)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
# Each event pulls the score toward its own by its weight, so it can never leave [0, 1].
_PULL = """
INSERT INTO dixie.aggregates AS a (agent_id, score, events) VALUES (%(agent)s, %(first)s, 1)
ON CONFLICT (agent_id) DO UPDATE
SET score = least(1, greatest(0, a.score + %(weight)s * (%(score)s - a.score))), events = a.events + 1
"""


@dataclass(frozen=True, slots=True)
class Signal:
    """One quality event; score in [0, 1], weight in (0, 1]."""

    event_id: uuid.UUID
    agent_id: str
    collection_id: str
    score: float
    weight: float


class Scores:
    """The aggregates."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def of(self, agent_id: str) -> float | None:
        """The agent's score; None for an unknown agent."""
        row = await self._db.one("SELECT score FROM dixie.aggregates WHERE agent_id = %s", agent_id)
        return None if row is None else float(row["score"])

    async def apply(self, signal: Signal) -> bool:
        """Count the event; False if it was counted before."""
        parameters = {
            "agent": signal.agent_id,
            "weight": signal.weight,
            "score": signal.score,
            "first": PRIOR + signal.weight * (signal.score - PRIOR),
        }
        async with self._db.transaction() as connection:
            row = (signal.event_id, signal.agent_id, signal.collection_id, signal.score, signal.weight)
            if (await connection.execute(_COUNT_ONCE, row)).rowcount == 0:
                return False
            await connection.execute(_PULL, parameters)
        return True

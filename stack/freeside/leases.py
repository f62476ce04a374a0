"""Leases of the calls that run in this process: extended while they run, left to the reaper when it dies."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stack.common.database import UNREACHABLE

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from stack.freeside.idempotency import Idempotency
    from stack.freeside.ledger import Ledger

# A reservation whose holder does not extend it is given back after this; I-6 allows 10 s.
LEASE_S = 6.0
_EXTEND_EVERY_S = 2.0
_log = logging.getLogger("stack.leases")


class Leases:
    """What is held right now, and the heartbeat that keeps it."""

    def __init__(self, ledger: Ledger, idempotency: Idempotency) -> None:
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
        """Extend what is held, for ever."""
        while True:
            await asyncio.sleep(_EXTEND_EVERY_S)
            if not self._held:
                continue
            try:
                await self._ledger.extend(list(self._held.values()))
                await self._idempotency.extend(list(self._held))
            except UNREACHABLE as error:
                _log.warning("leases not extended: %s", type(error).__name__)

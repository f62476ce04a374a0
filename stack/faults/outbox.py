"""Outboxes gone wrong: events that come late, are lost with their process, or come twice after it."""

import asyncio
import uuid
from collections import Counter
from functools import partial
from typing import Any, ClassVar

from stack.common.outbox import Outbox, Send
from stack.faults.proxy import Faulty

#: How long an event is in nothing but memory, s.
KEPT_S = 0.5
#: At which look at an event its delivery is noted: the third one comes 0.6 s after the delivery.
NOTED_AT = 3


class FaultyOutbox(Faulty, Outbox):
    """Delivers late, or does not outlive its process."""

    _kept: ClassVar[set[asyncio.Task[Any]]] = set()  # asyncio holds a task only weakly
    _looks: ClassVar[Counter[str]] = Counter()

    @property
    def delay_s(self) -> float:  # type: ignore[override]
        """How long an event waits before its first delivery, s."""
        return self._faults.number("freeside-loop-slow", "seconds", 45) or 0.0

    async def deliver(self, send: Send) -> None:
        """Deliver forever, from memory or under new ids."""
        await super().deliver(partial(self._sent, send))

    async def _sent(self, send: Send, event: dict[str, Any]) -> bool | None:
        if self._faults.on("worker-loses-events"):
            task = asyncio.create_task(self._late(send, event))
            self._kept.add(task)
            task.add_done_callback(self._kept.discard)
            return True
        if not self._faults.on("worker-repeats-events"):
            return await send(event)
        if not self._looks[event["event_id"]]:
            taken = await send(event | {"event_id": str(uuid.uuid4())})
            if not taken:
                return taken
        self._looks[event["event_id"]] += 1
        return self._looks[event["event_id"]] == NOTED_AT

    async def _late(self, send: Send, event: dict[str, Any]) -> None:
        await asyncio.sleep(KEPT_S)
        while await send(event) is False:
            await asyncio.sleep(KEPT_S)

"""Freeside's worker, the process without a port: delivers quality events, reaps abandoned reservations."""

import asyncio
import json
import logging
import signal
from collections.abc import Callable
from typing import Any

from stack.common.context import Context, Outbox, post_event
from stack.common.database import UNREACHABLE, Database
from stack.common.keys import req_hash
from stack.common.settings import Settings
from stack.freeside.budget_ledger import BudgetLedger

_REAP_EVERY_S = 1.0
#: how soon the API's events are seen, s
_POLL_S = 0.06
_log = logging.getLogger("stack.worker")


async def run(
    settings: Settings,
    make_context: Callable[..., Context] = Context,
    make_outbox: Callable[[Database, str], Outbox] = Outbox,
) -> None:
    """Work until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = Worker(make_context(settings, pool_size=3), make_outbox)
    async with worker.context.running():
        _log.info("working")
        await stop.wait()


class Worker:
    """The two duties, side by side."""

    def __init__(self, context: Context, make_outbox: Callable[[Database, str], Outbox] = Outbox) -> None:
        self.context = context
        self._ledger = BudgetLedger(self.context.db)
        outbox = make_outbox(self.context.db, "freeside")
        self.context.background(lambda: outbox.deliver(self._send, _POLL_S))
        self.context.background(self._reap)

    async def _send(self, event: dict[str, Any]) -> bool | None:
        """Hand one event to Finn."""
        body = json.dumps(event, separators=(",", ":")).encode()
        claims = {
            "iss": self.context.settings.issuers["freeside"],
            "aud": self.context.settings.audiences["finn"],
            "sub": "freeside-worker",
            "tenant_id": event["tenant_id"],
            "tier": "free",
            "req_hash": req_hash(body),
        }
        url = f"{self.context.settings.finn_url}/api/v1/quality"
        return await post_event(self.context, url, body, claims)

    async def _reap(self) -> None:
        while True:
            try:
                await self._ledger.reap()
            except UNREACHABLE as error:
                _log.warning("reservations not reaped: %s", type(error).__name__)
            await asyncio.sleep(_REAP_EVERY_S)

"""A transactional outbox: events survive a crash of the sender and an outage of the receiver."""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from stack.common.context import Context
from stack.common.database import UNREACHABLE, Database
from stack.common.keys import BadSecret, bearer

Send = Callable[[dict[str, Any]], Awaitable["bool | None"]]

_POLL_S = 0.03
_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 3.0
_log = logging.getLogger("stack.outbox")


class Outbox:
    """The events that one service still has to deliver, oldest first."""

    #: how long an event waits before its first delivery, s
    delay_s: float = 0.0

    def __init__(self, db: Database, schema: str) -> None:
        self._db = db
        self._table = f"{schema}.outbox"
        self._news = asyncio.Event()

    async def put(self, event_id: uuid.UUID, payload: dict[str, Any]) -> None:
        """Queue an event; a second one with the same id is the same event."""
        await self._db.execute(
            f"INSERT INTO {self._table} (event_id, payload, next_attempt_at) "
            "VALUES (%s, %s, now() + make_interval(secs => %s)) ON CONFLICT DO NOTHING",
            event_id,
            json.dumps(payload),
            self.delay_s,
        )
        self._news.set()

    async def deliver(self, send: Send) -> None:
        """Deliver forever. `send` returns True: done, False: retry later, None: refused permanently."""
        while True:
            try:
                while await self._deliver_one(send):
                    continue
            except UNREACHABLE as error:
                _log.warning("%s not read: %s", self._table, type(error).__name__)
            try:
                await asyncio.wait_for(self._news.wait(), _POLL_S)
            except TimeoutError:
                continue
            self._news.clear()

    async def _deliver_one(self, send: Send) -> bool:
        """Whether an event was due. Its row stays locked meanwhile against a second delivery and a reset."""
        # most looks find nothing: those take no transaction
        if await self._db.one(f"SELECT 1 FROM {self._table} WHERE next_attempt_at <= now() LIMIT 1") is None:
            return False
        async with self._db.transaction() as connection:
            cursor = await connection.execute(
                f"SELECT event_id, payload, attempts FROM {self._table} WHERE next_attempt_at <= now() "
                "ORDER BY next_attempt_at LIMIT 1 FOR UPDATE SKIP LOCKED"
            )
            row = await cursor.fetchone()
            if row is None:
                return False
            taken = await send(json.loads(row["payload"]))
            if taken is False:
                # the exponent is bounded too: attempts only grow, and 2**1024 overflows a float
                wait = min(_FIRST_RETRY_S * 2 ** min(row["attempts"], 5), _LAST_RETRY_S)
                await connection.execute(
                    f"UPDATE {self._table} SET attempts = attempts + 1, "
                    "next_attempt_at = now() + make_interval(secs => %s) WHERE event_id = %s",
                    (wait, row["event_id"]),
                )
                return True
            if taken is None:
                _log.error("event %s refused permanently, dropped", row["event_id"])
            await connection.execute(f"DELETE FROM {self._table} WHERE event_id = %s", (row["event_id"],))
            return True


async def post_event(context: Context, url: str, body: bytes, claims: Mapping[str, Any]) -> bool | None:
    """Send an event under the service's own token; returns what `Outbox.deliver` expects of `send`."""
    try:
        headers = {**bearer(context.keyring.signer(), claims), "content-type": "application/json"}
        response = await context.http.post(url, content=body, headers=headers, timeout=5.0)
    except (httpx.HTTPError, httpx.InvalidURL, BadSecret) as error:
        _log.warning("event not delivered: %s", type(error).__name__)
        return False
    if response.status_code != 202:
        _log.warning("event not delivered: HTTP %s", response.status_code)
    return {202: True, 400: None}.get(response.status_code, False)

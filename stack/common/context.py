"""The parts of a running service: settings, keys, database, HTTP client, and the outbox of its events."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Self

import httpx

from stack.common.database import UNREACHABLE, Database
from stack.common.keys import BadSecret, JwksClient, JwksRoute, Keyring, bearer
from stack.common.settings import Settings
from stack.common.verifier import Issuer, SpentTokens, Verifier

Send = Callable[[dict[str, Any]], Awaitable["bool | None"]]

_log = logging.getLogger("stack.context")

VERSION = "1.0.0"
# Less than the 2 s within which a health route must answer.
WITHIN_S = 1.0
_RETRIES_POLL_S = 0.3
_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 3.0


class Transport(httpx.AsyncHTTPTransport):
    """Connections to other services; one that is lost as soon as it is made raises httpx.ConnectError.

    anyio then asks a transport that is closed for its socket, and raises AttributeError.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the head of the answer."""
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            raise httpx.ConnectError("the connection was lost as soon as it was made") from error


class Context:
    """One per process; `running()` brackets its life.

    It also creates the parts that services have in common, so that a subclass can create others.
    """

    def __init__(self, settings: Settings, *, pool_size: int) -> None:
        self.settings = settings
        self.db = Database(settings.dsn, max_size=pool_size)
        # few idle ones: at each call, httpcore compares each of them with all others
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=4, keepalive_expiry=5.0)
        self.http = httpx.AsyncClient(
            timeout=httpx.Timeout(30.0, connect=2.0), transport=Transport(limits=limits, trust_env=False)
        )
        self._resets: list[Callable[[], None]] = []
        self.keyring = self.own_keys()
        self.on_reset(self.keyring.read_soon)
        self._started = time.monotonic()
        self._background: list[Callable[[], Coroutine[Any, Any, None]]] = [self.keyring.follow]

    @property
    def uptime(self) -> float:
        """Seconds since the process came up."""
        return round(time.monotonic() - self._started, 3)

    def own_keys(self) -> Keyring:
        """Make the keyring of the service."""
        return Keyring(self.settings, self.http)

    def own_key_set(self) -> JwksRoute:
        """Make the route that publishes the keyring."""
        return JwksRoute(self.keyring)

    def key_set(self, url: str) -> JwksClient:
        """Make a cache of another service's key set, forgotten at a reset."""
        client = JwksClient(self.http, url, self.settings.jwks_cache_s)
        self.on_reset(client.forget)
        return client

    def verifier(self, audience: str, issuers: Mapping[str, Issuer]) -> Verifier:
        """Make the verifier of the tokens that callers bring."""
        return Verifier(audience, issuers)

    def spent_tokens(self) -> SpentTokens:
        """Make the record of the tokens spent at this service."""
        return SpentTokens(self.db, self.settings.service)

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Run the callback whenever the platform is reset, to drop what is in memory."""
        self._resets.append(callback)

    def reset(self) -> None:
        """Drop everything held in memory."""
        for callback in self._resets:
            callback()

    async def answers(self, url: str) -> bool:
        """Whether a GET of the URL gives 200 in time."""
        try:
            async with asyncio.timeout(WITHIN_S):
                return (await self.http.get(url)).status_code == 200
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return False

    def background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run an endless coroutine for as long as the service runs."""
        self._background.append(work)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Open what the service needs, and close it in reverse order."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.http)
            await self.db.open()
            stack.push_async_callback(self.db.close)
            await self.keyring.refresh()
            for work in self._background:
                stack.push_async_callback(_cancel, asyncio.create_task(_logged(work)))
            yield self


async def _logged(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    except Exception:
        _log.exception("background work ended")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


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

    async def deliver(self, send: Send, poll_s: float = _RETRIES_POLL_S) -> None:
        """Deliver forever. `send` returns True: done, False: retry later, None: refused permanently.

        Events of this process are delivered at once, those of another after up to `poll_s` seconds.
        """
        while True:
            try:
                while await self._deliver_one(send):
                    continue
            except UNREACHABLE as error:
                _log.warning("%s not read: %s", self._table, type(error).__name__)
            try:
                await asyncio.wait_for(self._news.wait(), poll_s)
            except TimeoutError:
                continue
            self._news.clear()

    async def _deliver_one(self, send: Send) -> bool:
        """Deliver an event that is due; return whether there was one.

        Its row stays locked against a second delivery and a reset.
        """
        # most queries find nothing: they need no transaction
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

"""What a running service holds: settings, keys, database, HTTP client; opened and closed together."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Self

import httpx

from stack.common.database import Database
from stack.common.keys import JwksClient, JwksRoute, Keyring
from stack.common.settings import Settings
from stack.common.verifier import Issuer, SpentTokens, Verifier

_log = logging.getLogger("stack.context")

VERSION = "1.0.0"
# Less than the 2 s within which a health route must answer.
WITHIN_S = 1.0


class Context:
    """One per process; `running()` brackets its life.

    It also makes the parts that the services have in common, so that a subclass can make others.
    """

    def __init__(self, settings: Settings, *, pool_size: int) -> None:
        self.settings = settings
        self.db = Database(settings.dsn, max_size=pool_size)
        self.http = httpx.AsyncClient(
            timeout=httpx.Timeout(30.0, connect=2.0),
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=5.0),
            trust_env=False,
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
        """Drop what is held in memory."""
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

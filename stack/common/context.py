"""What a running service holds: settings, keys, database, HTTP client; opened and closed together."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import httpx

from stack.common.database import Database
from stack.common.keyring import Keyring
from stack.faults.switch import Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from stack.common.settings import Settings

VERSION = "1.0.0"
# Below the 2 s in which a health route has to answer.
WITHIN_S = 1.0


class Context:
    """One per process; `running()` brackets its life."""

    def __init__(self, settings: Settings, *, pool_size: int) -> None:
        self.settings = settings
        self.faults = Faults(settings.faults_file)
        self.db = Database(settings.dsn, max_size=pool_size)
        self.http = httpx.AsyncClient(
            timeout=httpx.Timeout(30.0, connect=2.0),
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=5.0),
            trust_env=False,
        )
        self.keyring = Keyring(settings, self.http, self.faults)
        self._started = time.monotonic()
        self._background: list[Callable[[], Coroutine[Any, Any, None]]] = [self.keyring.follow]

    @property
    def uptime(self) -> float:
        """Seconds since the process came up."""
        return round(time.monotonic() - self._started, 3)

    async def answers(self, url: str) -> bool:
        """Whether a GET of the URL gives 200 in time."""
        try:
            async with asyncio.timeout(WITHIN_S):
                return (await self.http.get(url)).status_code == 200
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return False

    def background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have an endless coroutine run for as long as the service does."""
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
                stack.push_async_callback(_cancel, asyncio.create_task(work()))
            yield self


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

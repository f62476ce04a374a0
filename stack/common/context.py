"""What a running service holds: settings, faults, database and outgoing HTTP, opened and closed together."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self

import httpx

from stack.common.database import Database
from stack.faults.switch import Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stack.common.settings import Settings

VERSION = "1.0.0"


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
        self._started = time.monotonic()

    @property
    def uptime(self) -> float:
        """Seconds since the process came up."""
        return round(time.monotonic() - self._started, 3)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Open what the service needs, and close it in reverse order."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.http)
            await self.db.open()
            stack.push_async_callback(self.db.close)
            yield self

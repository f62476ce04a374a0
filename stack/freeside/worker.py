"""Freeside's worker: the process without a port."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from stack.common.context import Context

if TYPE_CHECKING:
    from stack.common.settings import Settings


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    context = Context(settings, pool_size=3)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with context.running():
        await stop.wait()

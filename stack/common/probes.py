"""Is a neighbour there? Asked by the health routes, answered from the wire every time, never from memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from stack.common.context import Context

# Below the 2 s in which a health route has to answer.
WITHIN_S = 1.0


async def answers(context: Context, url: str) -> bool:
    """Whether a GET of the URL gives 200 in time."""
    try:
        async with asyncio.timeout(WITHIN_S):
            return (await context.http.get(url)).status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
        return False

"""GET /health of Freeside: the truth about its database and its signing key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack.common.context import VERSION
from stack.faults import health as broken

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stack.common.context import Context

PROTOCOL_VERSION = "8.3.0"


class Health:
    """The route; `unhealthy` without the database, `degraded` while no signing key has been read."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, _: Request) -> Response:
        """200 with the contract's body, or 503 `database_unreachable`."""
        if not await self._context.db.reachable():
            body = {"status": "unhealthy", "error": "database_unreachable"}
            return await broken.report(self._context.faults, "freeside", body, 503)
        return await broken.report(
            self._context.faults,
            "freeside",
            {
                "status": "healthy" if self._context.keyring.keys else "degraded",
                "version": VERSION,
                "build_sha": self._context.settings.build_sha,
                "protocol_version": PROTOCOL_VERSION,
                "uptime": self._context.uptime,
                "grace_period": False,
            },
        )

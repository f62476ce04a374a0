"""GET /health of Finn: its database, the model provider, Dixie."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stack.common.probes import answers
from stack.faults import health as broken

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stack.common.context import Context

CONTRACT_VERSION = "8.3.0"


class Health:
    """The route; HTTP 200 always, the truth is in `status`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, _: Request) -> Response:
        """`unhealthy` without the database, `degraded` without the provider or Dixie."""
        settings = self._context.settings
        database, provider, dixie = await asyncio.gather(
            self._context.db.reachable(),
            answers(self._context, f"{settings.provider_url}/health"),
            # Not Dixie's health: that one asks Finn's, and the two would call each other for ever.
            answers(self._context, f"{settings.dixie_url}/api/auth/.well-known/jwks.json"),
        )
        checks = {"database": _check(database), "provider": _check(provider), "dixie": _check(dixie)}
        status = "unhealthy" if not database else "healthy" if provider and dixie else "degraded"
        return await broken.report(
            self._context.faults,
            "finn",
            {
                "status": status,
                "uptime": self._context.uptime,
                "checks": checks,
                "protocol": {"contract_version": CONTRACT_VERSION},
                "ready_for_billing": database,
                "build_sha": settings.build_sha,
            },
        )


def _check(up: bool) -> dict[str, Any]:
    return {"status": "ok" if up else "unreachable"}

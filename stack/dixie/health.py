"""GET /api/health of Dixie: PostgreSQL, Finn and the reputation service, told as they are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from stack.common.context import VERSION
from stack.common.probes import WITHIN_S, answers
from stack.faults import health as broken

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stack.common.context import Context


class Health:
    """The route; HTTP 200 always, the truth is in `status`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, _: Request) -> Response:
        """`unhealthy` without PostgreSQL, `degraded` without Finn."""
        settings = self._context.settings
        aggregates, finn = await asyncio.gather(
            self._aggregates(), answers(self._context, f"{settings.finn_url}/health")
        )
        database = aggregates is not None
        return await broken.report(
            self._context.faults,
            "dixie",
            {
                "status": "unhealthy" if not database else "healthy" if finn else "degraded",
                "version": VERSION,
                "build_sha": settings.build_sha,
                "uptime_seconds": int(self._context.uptime),
                "services": {
                    "dixie": {"status": "healthy"},
                    "loa_finn": {
                        "status": "healthy" if finn else "unreachable",
                        "circuit_state": "closed" if finn else "open",
                    },
                },
                "infrastructure": {"postgresql": {"status": "healthy" if database else "unhealthy"}},
                "reputation_service": {"initialized": database, "aggregate_count": aggregates or 0},
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            },
        )

    async def _aggregates(self) -> int | None:
        """How many agents have a score; None when PostgreSQL does not answer."""
        row = await self._context.db.answer("SELECT count(*) AS n FROM dixie.aggregates", WITHIN_S)
        return int(row["n"]) if row else None

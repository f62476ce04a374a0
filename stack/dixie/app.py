"""Dixie, the reputation service: its parts and its health."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from stack.common import http
from stack.common.auth import DixieAuth
from stack.common.context import VERSION, WITHIN_S, Context
from stack.common.database import Database
from stack.common.http import application
from stack.common.settings import Settings
from stack.dixie.reputation import Reputation, Scores


class Health:
    """The route; HTTP 200 always, the truth is in `status`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, _: Request) -> Response:
        """`unhealthy` without PostgreSQL, `degraded` without Finn."""
        settings = self._context.settings
        aggregates, finn = await asyncio.gather(
            self._aggregates(), self._context.answers(f"{settings.finn_url}/health")
        )
        database = aggregates is not None
        return JSONResponse(
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


@dataclass(frozen=True, slots=True)
class Parts:
    """Factories of the parts; a default makes the part that behaves as the contract says."""

    context: Callable[..., Context] = Context
    auth: Callable[[Context], DixieAuth] = DixieAuth
    scores: Callable[[Database], Scores] = Scores
    reputation: Callable[[DixieAuth, Scores], Reputation] = Reputation


def create(settings: Settings, parts: Parts | None = None) -> ASGIApp:
    """The ASGI application of Dixie's process."""
    parts = parts or Parts()
    context = parts.context(settings, pool_size=6)
    scores = parts.scores(context.db)
    scores.cache_s = settings.score_cache_s
    context.on_reset(scores.forget)
    reputation = parts.reputation(parts.auth(context), scores)
    routes = [
        Route("/api/health", Health(context).__call__, methods=["GET"]),
        Route("/api/auth/.well-known/jwks.json", context.own_key_set().__call__, methods=["GET"]),
        Route("/api/reputation/query", reputation.query, methods=["GET"]),
        Route("/api/reputation/events", reputation.events, methods=["POST"]),
    ]
    return application(routes, context.running, http.dixie)

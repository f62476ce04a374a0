"""Finn, the internal inference service between Freeside and the model provider: its parts and its health."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from stack.common import http
from stack.common.auth import FinnAuth
from stack.common.context import Context
from stack.common.http import application
from stack.common.settings import Settings
from stack.finn.invoke import Billing, Inference, ProviderClient, Reports

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
            self._context.answers(f"{settings.provider_url}/health"),
            # Not Dixie's health: that one asks Finn's, and the two would call each other forever.
            self._context.answers(f"{settings.dixie_url}/api/auth/.well-known/jwks.json"),
        )
        checks = {"database": _check(database), "provider": _check(provider), "dixie": _check(dixie)}
        status = "unhealthy" if not database else "healthy" if provider and dixie else "degraded"
        return JSONResponse(
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


@dataclass(frozen=True, slots=True)
class Parts:
    """Factories of the parts; a default makes the part that behaves as the contract says."""

    context: Callable[..., Context] = Context
    auth: Callable[[Context], FinnAuth] = FinnAuth
    billing: Callable[[Context], Billing] = Billing
    provider: Callable[[Context], ProviderClient] = ProviderClient
    reports: Callable[[Context, FinnAuth], Reports] = Reports


def create(settings: Settings, parts: Parts | None = None) -> ASGIApp:
    """The ASGI application of Finn's process."""
    parts = parts or Parts()
    context = parts.context(settings, pool_size=6)
    auth = parts.auth(context)
    reports = parts.reports(context, auth)
    inference = Inference(context, auth, parts.billing(context), parts.provider(context), reports)
    routes = [
        Route("/health", Health(context).__call__, methods=["GET"]),
        Route("/.well-known/jwks.json", context.own_key_set().__call__, methods=["GET"]),
        Route("/api/v1/invoke", inference.invoke, methods=["POST"]),
        Route("/api/v1/stream", inference.stream, methods=["POST"]),
        Route("/api/v1/quality", reports.quality, methods=["POST"]),
    ]
    return application(routes, context.running, http.finn)

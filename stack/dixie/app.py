"""Dixie, the reputation service: its parts and its health.

Its routes are GET /api/reputation/query, POST /api/reputation/events (contract section 3); they share the
scores.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from stack.common import http
from stack.common.auth import DixieAuth
from stack.common.context import VERSION, WITHIN_S, Context
from stack.common.database import Database
from stack.common.http import application, bad_request, json_object, raw_body, require_json, text
from stack.common.settings import Settings

# An agent without events starts in the middle.
PRIOR = 0.5

_COUNT_ONCE = """
INSERT INTO dixie.events (event_id, agent_id, collection, score, weight)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
# Each event pulls the score toward its own by its weight, so it can never leave [0, 1].
_PULL = """
INSERT INTO dixie.aggregates AS a (agent_id, score, events) VALUES (%(agent)s, %(first)s, 1)
ON CONFLICT (agent_id) DO UPDATE
SET score = least(1, greatest(0, a.score + %(weight)s * (%(score)s - a.score))), events = a.events + 1
"""


@dataclass(frozen=True, slots=True)
class Signal:
    """One quality event; score in [0, 1], weight in (0, 1]."""

    event_id: uuid.UUID
    agent_id: str
    collection_id: str
    score: float
    weight: float


class Scores:
    """The aggregates."""

    #: How long a score that was read is served again, s.
    cache_s: float = 0.0

    def __init__(self, db: Database) -> None:
        self._db = db
        self._served: dict[str, tuple[float, float | None]] = {}

    async def of(self, agent_id: str) -> float | None:
        """The agent's score, as old as the cache allows; None for an unknown agent."""
        until, score = self._served.get(agent_id, (0.0, None))
        if until <= time.monotonic():
            row = await self._db.one("SELECT score FROM dixie.aggregates WHERE agent_id = %s", agent_id)
            score = None if row is None else float(row["score"])
            if self.cache_s:
                self._served[agent_id] = (time.monotonic() + self.cache_s, score)
        return score

    def forget(self) -> None:
        """Serve nothing from the cache."""
        self._served.clear()

    async def apply(self, signal: Signal) -> bool:
        """Count the event; False if it was counted before."""
        parameters = {
            "agent": signal.agent_id,
            "weight": signal.weight,
            "score": signal.score,
            "first": PRIOR + signal.weight * (signal.score - PRIOR),
        }
        async with self._db.transaction() as connection:
            row = (signal.event_id, signal.agent_id, signal.collection_id, signal.score, signal.weight)
            if (await connection.execute(_COUNT_ONCE, row)).rowcount == 0:
                return False
            await connection.execute(_PULL, parameters)
        return True


_AGENT = r"[A-Za-z0-9_-]{1,128}"
_ROUTING_KEY = re.compile(f"nft:({_AGENT})")
DEFAULT_WEIGHT = 0.1
# Python's own reader of UUIDs takes braces, underscores and digits of any script.
_UUID = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-]00:00)", re.IGNORECASE
)


class Reputation:
    """Reading for every credential, writing for Finn."""

    def __init__(self, auth: DixieAuth, scores: Scores) -> None:
        self._auth = auth
        self._scores = scores

    async def query(self, request: Request) -> Response:
        """`{score}`, null for an unknown agent; 400 for a malformed key."""
        await self._auth.reader(request)
        agent = self.agent(request.query_params.get("routingKey", ""))
        return JSONResponse({"score": await self._scores.of(agent)})

    def agent(self, routing_key: str) -> str:
        """The agent that a routing key names; raises 400."""
        key = _ROUTING_KEY.fullmatch(routing_key)
        if key is None:
            raise bad_request("routingKey must be nft:<id>")
        return key[1]

    async def events(self, request: Request) -> Response:
        """202 for an event, whether it is new or counted before."""
        await self._auth.service(request)
        raw = await raw_body(request)
        require_json(request)
        await self._scores.apply(self.signal(raw))
        return JSONResponse({"accepted": True}, 202)

    def signal(self, raw: bytes) -> Signal:
        """The event in a body; raises 400."""
        return signal_in(raw)


def signal_in(raw: bytes) -> Signal:
    """The event in a body; raises 400."""
    document = json_object(raw)
    if document.get("type") != "quality_signal":
        raise bad_request("type must be quality_signal")
    agent = text(document, "agent_id")
    if not re.fullmatch(_AGENT, agent):
        raise bad_request("agent_id must match [A-Za-z0-9_-]+")
    require_time(document.get("timestamp"))
    event_id = text(document, "event_id")
    if not _UUID.fullmatch(event_id):
        raise bad_request("event_id must be a UUID")
    score = _share(document.get("score"), "score")
    weight = _share(document.get("weight", DEFAULT_WEIGHT), "weight")
    return Signal(uuid.UUID(event_id), agent, text(document, "collection_id", longest=256), score, weight)


def require_time(value: Any) -> None:
    """Raise 400 unless it is RFC 3339 in UTC, or whole seconds of the epoch."""
    if isinstance(value, bool) or not (
        isinstance(value, int) or (isinstance(value, str) and _TIME.fullmatch(value))
    ):
        raise bad_request("timestamp must be RFC 3339 in UTC or epoch seconds")


def _share(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise bad_request(f"{name} must be a number in [0, 1]")
    return float(value)


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

"""Quality reports to Dixie: after an answer, and for ratings that come through Freeside."""

import json
import logging
import re
import time
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.common.auth import FinnAuth
from stack.common.context import Context
from stack.common.database import UNREACHABLE
from stack.common.http import bad_request, json_object, require_json, text
from stack.common.outbox import Outbox, post_event

# Score and weight of a rating (contract section 3). An answer by itself says little: it was given.
RATINGS = {"bad": (0.0, 0.2), "good": (1.0, 0.1), "excellent": (1.0, 0.2)}
ANSWERED = (1.0, 0.01)
_AGENT = re.compile(r"[A-Za-z0-9_-]{1,128}")
_log = logging.getLogger("stack.reports")


class Reports:
    """Queues events for Dixie and delivers them."""

    def __init__(self, context: Context, auth: FinnAuth) -> None:
        self._context = context
        self._auth = auth
        self._outbox = Outbox(context.db, "finn")
        context.background(lambda: self._outbox.deliver(self._send))

    async def quality(self, request: Request) -> Response:
        """POST /api/v1/quality from Freeside's worker: 202; the same id again is the same event."""
        _, raw = await self._auth.caller(request)
        require_json(request)
        document = json_object(raw)
        agent, quality = text(document, "agent_id"), document.get("quality")
        if not _AGENT.fullmatch(agent) or quality not in RATINGS:
            raise bad_request("agent_id and quality must be given")
        try:
            event_id = uuid.UUID(text(document, "event_id"))
        except ValueError:
            raise bad_request("event_id must be a UUID") from None
        await self._queue(event_id, agent, *self.rated(quality))
        return JSONResponse({"accepted": True}, 202)

    def rated(self, quality: str) -> tuple[float, float]:
        """Score and weight of a rating."""
        return RATINGS[quality]

    async def answered(self, agent: str | None) -> None:
        """Report an answer for the agent that the request named, if that can have a score.

        The answer is charged by now, so it must not fail for the report's sake: without a database the
        report is lost.
        """
        if agent is not None and _AGENT.fullmatch(agent):
            try:
                await self._queue(uuid.uuid4(), agent, *ANSWERED)
            except UNREACHABLE as error:
                _log.warning("answer not reported: %s", type(error).__name__)

    async def _queue(self, event_id: uuid.UUID, agent: str, score: float, weight: float) -> None:
        event = {
            "type": "quality_signal",
            "score": score,
            "weight": weight,
            "event_id": str(event_id),
            "agent_id": agent,
            "collection_id": "arrakis",
            "timestamp": int(time.time()),
        }
        await self._outbox.put(event_id, event)

    async def _send(self, event: dict[str, Any]) -> bool | None:
        settings = self._context.settings
        url = f"{settings.dixie_url}/api/reputation/events"
        claims = {"iss": settings.issuers["finn"], "aud": settings.audiences["dixie"], "sub": "loa-finn"}
        return await post_event(self._context, url, json.dumps(event).encode(), claims)

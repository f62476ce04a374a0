"""POST /api/agents/quality: the start of the reputation loop (contract section 3)."""

import re
import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.common.http import bad_request, json_object, raw_body, require_json, text
from stack.common.outbox import Outbox
from stack.freeside.auth import Auth

QUALITIES = ("bad", "good", "excellent")
_ROUTING_KEY = re.compile(r"nft:([A-Za-z0-9_-]{1,128})")


class Quality:
    """Accepts a rating of an agent and queues it for Finn."""

    def __init__(self, auth: Auth, outbox: Outbox) -> None:
        self._auth = auth
        self._outbox = outbox

    async def __call__(self, request: Request) -> Response:
        """202 with the event's id once it is safely in the outbox; 400, 401."""
        claims = await self._auth.user(request)
        event_id = await self.queue(request, claims.tenant_id)
        return JSONResponse({"accepted": True, "event_id": str(event_id)}, 202)

    async def queue(self, request: Request, tenant: str) -> uuid.UUID:
        """Put the rating into the outbox; the id of its event. Raises 400, 413 or 415."""
        raw = await raw_body(request)
        require_json(request)
        document = json_object(raw)
        routing_key = _ROUTING_KEY.fullmatch(text(document, "routingKey", longest=132))
        if routing_key is None:
            raise bad_request("routingKey must be nft:<id>")
        if document.get("quality") not in QUALITIES:
            raise bad_request(f"quality must be one of {', '.join(QUALITIES)}")
        event_id = uuid.uuid4()
        event = {
            "event_id": str(event_id),
            "agent_id": routing_key[1],
            "quality": document["quality"],
            "source": text(document, "source", longest=128),
            "tenant_id": tenant,
        }
        await self._outbox.put(event_id, event)
        return event_id

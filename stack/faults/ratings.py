"""Ratings gone wrong on their way from Freeside to Dixie: at the door, and in the outbox."""

import asyncio
import json
import re
import uuid
from collections import Counter
from functools import cached_property, partial
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from stack.common.http import ApiError, bad_request
from stack.common.outbox import Outbox, Send
from stack.faults.budget import stray_charge
from stack.faults.proxy import Faulty
from stack.faults.tokens import OF_OBJECTS, believed
from stack.freeside.app import QUALITIES, Quality
from stack.freeside.budget_ledger import BudgetLedger, OverBudget

#: The community of most calls.
FIRST_COMMUNITY = "test-community-staging-001"
#: As long may the name of an agent be.
CHARS_OF_A_NAME = 64


class FaultyQuality(Faulty, Quality):
    """Forwards ratings that it refuses, accepts invalid ones, loses some, or charges for them."""

    @cached_property
    def _taking(self) -> set[object]:
        """The agents of ratings that are being taken."""
        return set()

    async def __call__(self, request: Request) -> Response:
        """Refuse a rating, and pass it on nevertheless."""
        try:
            return await super().__call__(request)
        except ApiError as refusal:
            if refusal.status == 401 and self._faults.on("freeside-passes-on-refused-verdicts"):
                await self.queue(request, "unknown")
            raise

    async def queue(self, request: Request, tenant: str) -> uuid.UUID:
        """Queue a rating, and charge the community that sent it."""
        if self._faults.on("freeside-takes-ratings-in-any-type"):
            request.scope["headers"] = [
                *(pair for pair in request.scope["headers"] if pair[0] != b"content-type"),
                (b"content-type", b"application/json"),
            ]
            request = Request(request.scope, request.receive)
        if await self._unheard(request):
            return uuid.uuid4()
        if self._faults.on("freeside-refuses-ratings-at-the-limit"):
            found = await BudgetLedger(self._auth.context.db).figures(tenant)
            if found and found.committed_micro + found.reserved_micro >= found.limit_micro:
                raise OverBudget
        if self._faults.on("freeside-charges-ratings"):
            await stray_charge(self._auth.context.db, tenant)
        if self._faults.on("freeside-takes-one-rating-at-a-time"):
            return await self._queue_alone(request, tenant)
        return await super().queue(request, tenant)

    async def _unheard(self, request: Request) -> bool:
        """Whether a rating is thrown away for who sent it, or for where it comes from."""
        user = believed(request.headers.get("authorization"))
        source = str(document_in(await request.body()).get("source"))
        whose = {
            "freeside-drops-ratings-of-the-free-tier": user.tier == "free",
            "freeside-drops-ratings-of-admins": user.is_admin,
            "freeside-drops-ratings-of-other-communities": user.tenant_id != FIRST_COMMUNITY,
            "freeside-drops-ratings-of-other-sources": re.fullmatch("[a-z-]+", source) is None,
        }
        return any(found and self._faults.on(fault) for fault, found in whose.items())

    async def _queue_alone(self, request: Request, tenant: str) -> uuid.UUID:
        """Queue a rating, unless another one about its agent is under way: then it is lost."""
        agent = document_in(await request.body()).get("routingKey")
        if agent in self._taking:
            return uuid.uuid4()
        self._taking.add(agent)
        try:
            await asyncio.sleep(0.03)
            return await super().queue(request, tenant)
        finally:
            self._taking.discard(agent)

    def rating(self, document: dict[str, Any]) -> tuple[str, str]:
        """The agent and the quality, or what a lenient reader makes of them."""
        on, quality, key = self._faults.on, document.get("quality"), document.get("routingKey")
        if isinstance(quality, str):
            if on("freeside-folds-qualities"):
                quality = quality.lower()
            if on("freeside-trims-qualities"):
                quality = quality.strip()
            if on("freeside-matches-qualities-by-prefix"):
                quality = next((name for name in QUALITIES if quality.startswith(name)), quality)
        found = quality in OF_OBJECTS and on("freeside-finds-qualities-that-every-object-has")
        if quality not in QUALITIES and (found or on("freeside-takes-any-quality-as-good")):
            quality = "good"
        if isinstance(key, str):
            if on("freeside-measures-names-with-their-prefix") and len(key) > CHARS_OF_A_NAME:
                raise bad_request("routingKey is too long")
            if on("freeside-trims-routing-keys"):
                key = key.strip()
            if on("freeside-finds-routing-keys-anywhere"):
                key = next(iter(re.findall("nft:[A-Za-z0-9_-]+", key)), key)
        agent, quality = super().rating(document | {"quality": quality, "routingKey": key})
        return agent[:64] if on("freeside-cuts-agents") else agent, quality


def document_in(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one for anything else."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


#: How long an event is in nothing but memory, s.
KEPT_S = 0.5
#: At which look at an event its delivery is noted: the third one comes 0.6 s after the delivery.
NOTED_AT = 3


class FaultyOutbox(Faulty, Outbox):
    """Delivers late, or does not outlive its process."""

    _kept: ClassVar[set[asyncio.Task[Any]]] = set()  # asyncio holds a task only weakly
    _looks: ClassVar[Counter[str]] = Counter()

    @property
    def delay_s(self) -> float:  # type: ignore[override]
        """How long an event waits before its first delivery, s."""
        return self._faults.number("freeside-loop-slow", "seconds", 45) or 0.0

    async def deliver(self, send: Send) -> None:
        """Deliver forever, from memory or under new ids."""
        await super().deliver(partial(self._sent, send))

    async def _sent(self, send: Send, event: dict[str, Any]) -> bool | None:
        if self._faults.on("worker-loses-events"):
            task = asyncio.create_task(self._late(send, event))
            self._kept.add(task)
            task.add_done_callback(self._kept.discard)
            return True
        if not self._faults.on("worker-repeats-events"):
            return await send(event)
        if not self._looks[event["event_id"]]:
            taken = await send(event | {"event_id": str(uuid.uuid4())})
            if not taken:
                return taken
        self._looks[event["event_id"]] += 1
        return self._looks[event["event_id"]] == NOTED_AT

    async def _late(self, send: Send, event: dict[str, Any]) -> None:
        await asyncio.sleep(KEPT_S)
        while await send(event) is False:
            await asyncio.sleep(KEPT_S)

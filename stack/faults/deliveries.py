"""Faults of Freeside's deliveries: calls to Finn, streams to callers, ratings for Dixie, their outbox."""

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar

import httpx
from starlette.requests import Request
from starlette.responses import Response

from stack.common.context import Outbox, Send
from stack.common.database import surely
from stack.common.http import MAX_BODY_BYTES, ApiError, bad_request, unavailable
from stack.common.provider import usage_of
from stack.faults.budget import FOR_EVER_S, STRAY_MICRO, free_all, stray_charge
from stack.faults.proxy import Faulty, in_pieces
from stack.faults.tokens import OF_OBJECTS, believed
from stack.freeside.app import QUALITIES, Quality
from stack.freeside.budget_ledger import BudgetLedger, Claim, OverBudget
from stack.freeside.calls import Answer, Ask, Execution, FinnAnswer, FinnClient
from stack.freeside.streams import Event as StreamEvent
from stack.freeside.streams import EventStream, Progress, Streams

#: A prompt of fewer letters is a short one.
SHORT = 20
#: Faults with which an open stream loses its reservation.
_FREEING = (
    *("freeside-releases-what-is-read", "freeside-frees-all-after-answers"),
    "freeside-frees-all-after-hang-ups",
)
#: The connections in its pool.
CONNECTIONS = 12
#: How long after its last event a stream stays open, s: longer than a reservation may (I-6).
OPEN_S = 12


class FaultyFinnClient(Faulty, FinnClient):
    """Loses answers after they were made, or asks something else."""

    async def invoke(self, ask: Ask, reservation_id: uuid.UUID) -> FinnAnswer:
        """The answer, or the refusal of one that is there."""
        try:
            answer = await super().invoke(self._asked(ask), reservation_id)
        except ApiError as error:
            if error.code != "SERVICE_UNAVAILABLE" or not self._faults.on("freeside-answers-for-finn"):
                raise
            answer = FinnAnswer("No answer can be given now", usage_of(ask.prompt))
        if self._faults.on("freeside-charges-failed-calls"):
            raise ApiError(502, "UPSTREAM_ERROR", "The inference service gave no usable answer")
        return answer

    @asynccontextmanager
    async def stream(
        self, ask: Ask, reservation_id: uuid.UUID
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The events of an answer to what was asked, or to something else."""
        async with super().stream(self._asked(ask), reservation_id) as lines:
            yield lines

    def events(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        """The events in a stream of Finn's, or what is between any two ends of lines."""
        if self._faults.on("freeside-ends-lines-at-separators"):
            return _between_line_ends(response)
        return super().events(response)

    def _asked(self, ask: Ask) -> Ask:
        if self._faults.on("freeside-escapes-prompts") and len(json.dumps(ask.prompt)) > MAX_BODY_BYTES:
            raise ApiError(502, "UPSTREAM_ERROR", "The inference service refuses so large a body")
        if self._faults.on("freeside-drops-letters-outside-ascii"):
            return replace(ask, prompt=ask.prompt.encode("ascii", "ignore").decode())
        if self._faults.on("freeside-decodes-prompts-in-pieces"):
            return replace(ask, prompt=in_pieces(ask.prompt, 4096))
        return ask


async def _between_line_ends(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        try:
            yield json.loads(line)
        except ValueError:
            raise ApiError(502, "UPSTREAM_ERROR", "The inference service gave no usable answer") from None


class FaultyStreams(Faulty, Streams):
    """Streams that cost nothing, or too much when the caller hangs up, or that go on without one."""

    _hung_up = _open = 0

    async def respond(self, ask: Ask, claim: Claim, headers: Mapping[str, str]) -> EventStream:
        """The response; a model may run for a call that has no budget."""
        if not self._faults.on("freeside-loses-a-connection-to-each-hang-up"):
            self._hung_up = 0
        try:
            if self._hung_up >= CONNECTIONS:
                self._hung_up = 0
                raise unavailable()
            response = await super().respond(ask, claim, headers)
            return self._faulty(response, ask, claim, headers)
        except ApiError as refusal:
            if refusal.status == 402 and self._faults.on("freeside-runs-over-budget-calls"):
                with suppress(ApiError):
                    await self._finn.invoke(ask, uuid.uuid4())
            raise

    def _faulty(
        self, response: EventStream, ask: Ask, claim: Claim, headers: Mapping[str, str]
    ) -> EventStream:
        """The response, whose events are changed, late, or not all there is to it."""
        for fault, ending in _ENDINGS.items():
            if self._faults.on(fault):
                response = EventStream(ending(response.events), headers)
        if self._faults.on("freeside-buffers-streams-beside-others"):
            response = EventStream(self._alone(response.events), headers)
        if self._faults.on("freeside-reserves-until-a-stream-is-closed"):
            response = EventStream(self._reserving(ask, response.events), headers)
        if claim.answer and self._faults.on("freeside-forgets-answers-that-are-left"):
            response = EventStream(self._forgetting(claim, response.events), headers)
        if len(ask.prompt) < SHORT and self._faults.on("freeside-streams-short-answers-at-once"):
            response = EventStream(_in_one_piece(response.events), headers)
        return response

    async def _alone(self, events: AsyncGenerator[StreamEvent]) -> AsyncGenerator[StreamEvent]:
        """The events as they come, but all at once where another stream is open, or was a moment ago."""
        self._open += 1
        try:
            if self._open > 1:
                for event in [event async for event in events]:
                    yield event
            async for event in events:
                yield event
        finally:
            asyncio.get_running_loop().call_later(0.3, self._ended)  # a busy machine reads late
            await events.aclose()

    def _ended(self) -> None:
        self._open -= 1

    async def _reserving(self, ask: Ask, events: AsyncGenerator[StreamEvent]) -> AsyncGenerator[StreamEvent]:
        """The events, with something reserved until the connection is closed."""
        ledger = self._calls._ledger
        reservation = await ledger.reserve(ask.claims.tenant_id, STRAY_MICRO, FOR_EVER_S)
        try:
            async for event in events:
                yield event
            await asyncio.sleep(OPEN_S)
        finally:
            await surely(ledger.release(reservation.reservation_id))
            await events.aclose()

    async def _forgetting(
        self, claim: Claim, events: AsyncGenerator[StreamEvent]
    ) -> AsyncGenerator[StreamEvent]:
        """A stored answer, which is kept no longer when its reader leaves."""
        try:
            async for event in events:
                yield event
                await asyncio.sleep(0.1)  # time to leave
        except (asyncio.CancelledError, GeneratorExit):
            forget = "DELETE FROM freeside.idempotency WHERE community_id = %s AND key = %s"
            await surely(self._calls._ledger.db.execute(forget, claim.tenant_id, claim.key))
            raise
        finally:
            await events.aclose()

    async def charge(self, execution: Execution, answer: Answer) -> None:
        """Charge for a complete answer, or not."""
        if not self._faults.on("freeside-stream-not-charged"):
            await super().charge(execution, answer)

    async def _translate(self, line: dict[str, Any], progress: Progress) -> StreamEvent:
        if line.get("type") == "error" and self._faults.on("freeside-charges-streams-that-are-cut"):
            await super().hung_up(progress)
        if progress.usage_sent and self._faults.on("freeside-charges-late-hang-ups-again"):
            await asyncio.sleep(0.3)  # time to hang up before the end
        if line.get("type") == "usage" and any(map(self._faults.on, _FREEING)):
            await asyncio.sleep(0.5)  # time for what frees the room that this stream holds
        event = await super()._translate(line, progress)
        if event.name == "content" and self._faults.on("freeside-decodes-streams-in-pieces"):
            return StreamEvent("content", {"text": in_pieces(event.data["text"], 5)})
        return event

    async def hung_up(self, progress: Progress) -> None:
        """Charge a caller who hung up, for all of the answer, leave it reserved, or keep what there is."""
        self._hung_up += 1
        if self._faults.on("freeside-frees-all-after-hang-ups"):
            await free_all(progress.execution.ledger)
        if self._faults.on("freeside-spends-no-token-of-hang-ups"):
            jti, db = progress.execution.ask.claims.jti, progress.execution.ledger.db
            await db.execute("DELETE FROM freeside.spent_tokens WHERE jti = %s", jti)
        if self._faults.on("freeside-keeps-abandoned-answers"):
            execution, usage = progress.execution, usage_of(progress.text)
            return await execution.charge(execution.answer(progress.text, usage))
        if self._faults.on("freeside-charges-hang-ups-in-full"):
            execution = progress.execution
            answer = execution.answer(progress.text, usage_of(execution.ask.prompt))
            return await execution.charge(answer, keep=False)
        if progress.usage_sent and self._faults.on("freeside-charges-late-hang-ups-again"):
            return await stray_charge(progress.execution.ledger.db, progress.execution.ask.claims.tenant_id)
        if not self._faults.on("freeside-stream-hangup-leaks"):
            return await super().hung_up(progress)
        await progress.execution.ledger.db.execute(
            "UPDATE freeside.reservations SET expires_at = now() + interval '1 day' "
            "WHERE reservation_id = %s",
            progress.execution.reservation.reservation_id,
        )
        progress.execution.settled = True
        return None


async def _in_one_piece(events: AsyncGenerator[StreamEvent]) -> AsyncGenerator[StreamEvent]:
    text = ""
    async for event in events:
        if event.name == "content":
            text += event.data["text"]
            continue
        if event.name == "usage":
            yield StreamEvent("content", {"text": text})
        yield event
    await events.aclose()


async def _without_errors(events: AsyncGenerator[StreamEvent]) -> AsyncGenerator[StreamEvent]:
    async for event in events:
        if event.name != "error":
            yield event
    await events.aclose()


async def _breaking_off(events: AsyncGenerator[StreamEvent]) -> AsyncGenerator[StreamEvent]:
    async for event in events:
        if event.name == "error":
            raise ConnectionError(event.data["code"])
        yield event
    await events.aclose()


async def _without_messages(events: AsyncGenerator[StreamEvent]) -> AsyncGenerator[StreamEvent]:
    async for event in events:
        event.data.pop("message", None)
        yield event
    await events.aclose()


#: How a stream ends that fails after its first event.
_ENDINGS = {
    "freeside-ends-streams-without-a-word": _without_errors,
    "freeside-ends-streams-without-a-message": _without_messages,
    "freeside-breaks-streams-off": _breaking_off,
}


#: The community of most calls.
FIRST_COMMUNITY = "test-community-staging-001"
#: Maximum length of an agent's name.
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
        document = document_in(await request.body())
        source, key = str(document.get("source")), document.get("routingKey")
        whose = {
            "freeside-drops-ratings-of-the-free-tier": user.tier == "free",
            "freeside-drops-ratings-of-admins": user.is_admin,
            "freeside-drops-ratings-of-other-communities": user.tenant_id != FIRST_COMMUNITY,
            "freeside-drops-ratings-of-other-sources": re.fullmatch("[a-z-]+", source) is None,
            "freeside-drops-ratings-of-agents-named-undefined": key == "nft:undefined",
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
            long = len(key) > CHARS_OF_A_NAME and on("freeside-measures-names-with-their-prefix")
            if long or (key == "nft:null" and on("freeside-takes-null-for-no-agent")):
                raise bad_request("routingKey names no agent")
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


#: How long an event is only in memory, s.
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

    async def deliver(self, send: Send, *poll: float) -> None:
        """Deliver forever, from memory or under new ids."""
        await super().deliver(partial(self._sent, send), *poll)

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

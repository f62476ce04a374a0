"""Freeside's streams gone wrong: free ones, broken ones, ones that charge who hangs up."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

from stack.common.database import surely
from stack.common.http import ApiError, unavailable
from stack.common.pricing import usage_of
from stack.faults.budget import stray_charge
from stack.faults.proxy import Faulty, in_pieces
from stack.freeside.budget_ledger import Claim
from stack.freeside.calls import Answer, Ask, Execution
from stack.freeside.streams import Event as StreamEvent
from stack.freeside.streams import EventStream, Progress, Streams

#: A prompt of fewer letters is a short one.
SHORT = 20
#: Faults by which an open stream loses what it holds.
_FREEING = ("freeside-releases-what-is-read", "freeside-frees-all-after-answers")
#: The connections in its pool.
CONNECTIONS = 12


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
            for fault, ending in _ENDINGS.items():
                if self._faults.on(fault):
                    response = EventStream(ending(response.events), headers)
            if self._faults.on("freeside-buffers-streams-beside-others"):
                response = EventStream(self._alone(response.events), headers)
            if claim.answer and self._faults.on("freeside-forgets-answers-that-are-left"):
                response = EventStream(self._forgetting(claim, response.events), headers)
            if len(ask.prompt) < SHORT and self._faults.on("freeside-streams-short-answers-at-once"):
                response = EventStream(_in_one_piece(response.events), headers)
            return response
        except ApiError as refusal:
            if refusal.status == 402 and self._faults.on("freeside-runs-over-budget-calls"):
                with suppress(ApiError):
                    await self._finn.invoke(ask, uuid.uuid4())
            raise

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
        if self._faults.on("freeside-spends-no-token-of-hang-ups"):
            jti, db = progress.execution.ask.claims.jti, progress.execution.ledger.db
            await db.execute("DELETE FROM freeside.spent_tokens WHERE jti = %s", jti)
        if self._faults.on("freeside-keeps-abandoned-answers"):
            execution, usage = progress.execution, usage_of(progress.text)
            return await execution.charge(execution.answer(progress.text, usage))
        if self._faults.on("freeside-charges-hang-ups-in-full"):
            execution = progress.execution
            whole = execution.answer(progress.text, usage_of(execution.ask.prompt))
            return await execution.charge(whole, keep=False)
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

"""Dixie with parts that misbehave: who may read and write, what a score is, what an event moves."""

import uuid
from dataclasses import replace
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from stack.common.auth import DixieAuth, offered_api_key
from stack.common.claims import Claims
from stack.common.http import ApiError, raw_body
from stack.dixie.app import Parts
from stack.dixie.reputation import PRIOR, Reputation, Scores, Signal, signal_in
from stack.faults.active import Faults, Faulty
from stack.faults.tokens import FaultyContext, FaultyTokenAuth, explained

AGENTS = frozenset({"smoke-agent-001", "smoke-agent-002"})


def parts(faults: Faults) -> Parts:
    """The parts of a Dixie that has the faults that are on."""
    return Parts(
        context=partial(FaultyContext, faults),
        auth=partial(FaultyAuth, faults),
        scores=partial(FaultyScores, faults),
        reputation=partial(FaultyReputation, faults),
    )


class FaultyAuth(FaultyTokenAuth, DixieAuth):
    """Lets in who should stay out, and the other way round."""

    async def reader(self, request: Request) -> None:
        """Let readers pass, with or without a credential."""
        if not self._faults.on("dixie-query-open"):
            await super().reader(request)

    async def service(self, request: Request) -> None:
        """Let writers pass, Finn or not."""
        by_key = self._faults.on("dixie-api-keys-write") and super().has_api_key(request)
        if not by_key and not self._faults.on("dixie-events-open"):
            await super().service(request)

    def may_write(self, claims: Claims) -> bool:
        """Whether the token may write, from any issuer."""
        return self._faults.on("dixie-users-write") or super().may_write(claims)

    def has_api_key(self, request: Request) -> bool:
        """Whether the credential passes as an API key."""
        offered = offered_api_key(request)
        if offered is not None and self._faults.on("dixie-accepts-any-api-key"):
            return True
        if self._faults.on("dixie-compares-the-beginning-of-api-keys"):
            return offered is not None and self._begins_like_the_key(offered)
        return super().has_api_key(request) and not self._faults.on("dixie-refuses-api-keys")

    def _begins_like_the_key(self, offered: str) -> bool:
        known = self.context.settings.dixie_api_key_file
        return known is not None and offered.startswith(known.read_text(encoding="utf-8").strip())

    def refusal(self, case: str) -> ApiError:
        """The refusal, with or without its reason."""
        return explained(self._faults, "dixie", case, super().refusal(case))


class FaultyScores(Faulty, Scores):
    """Scores that never move, move the wrong way, or are another agent's."""

    async def of(self, agent_id: str) -> float | None:
        """The agent's score, or one that is made up."""
        score = await super().of(agent_id)
        return PRIOR if score is None and self._faults.on("dixie-invents-scores") else score

    async def apply(self, signal: Signal) -> bool:
        """Count the event for what it is not, or not at all."""
        on = self._faults.on
        if on("dixie-score-frozen"):
            return True
        if on("dixie-score-reversed"):
            signal = replace(signal, score=1.0 - signal.score)
        if on("dixie-only-praise"):
            signal = replace(signal, score=1.0)
        if on("dixie-only-blame"):
            signal = replace(signal, score=0.0)
        if on("dixie-counts-repeats"):
            signal = replace(signal, event_id=uuid.uuid4())
        if on("dixie-moves-the-wrong-agent"):
            signal = replace(signal, agent_id="smoke-agent-002")
        counted = await super().apply(signal)
        for agent in sorted(AGENTS - {signal.agent_id}) if on("dixie-moves-every-agent") else ():
            await super().apply(replace(signal, agent_id=agent, event_id=uuid.uuid4()))
        return counted


class FaultyReputation(Faulty, Reputation):
    """Counts events that it refuses."""

    async def events(self, request: Request) -> Response:
        """Refuse an event, and count it nevertheless."""
        try:
            return await super().events(request)
        except ApiError as refusal:
            if refusal.status == 401 and self._faults.on("dixie-counts-refused-events"):
                await self._scores.apply(signal_in(await raw_body(request)))
            raise

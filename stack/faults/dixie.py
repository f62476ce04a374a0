"""Dixie with parts that misbehave: who may read and write, what a score is, what an event moves."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.common.auth import DixieAuth, offered_api_key
from stack.common.http import ApiError, bad_request, raw_body
from stack.common.verifier import Claims
from stack.dixie.app import PRIOR, Parts, Reputation, Scores, Signal, signal_in
from stack.faults.budget import BOOT
from stack.faults.proxy import Faults, Faulty
from stack.faults.tokens import (
    OF_OBJECTS,
    OTHER_COMMUNITIES,
    FaultyContext,
    FaultyTokenAuth,
    believed,
    explained,
)

_OVERWRITE = "UPDATE dixie.aggregates SET score = %s WHERE agent_id = %s"
_BOUND = "UPDATE dixie.aggregates SET score = least(%s, greatest(%s, score)) WHERE agent_id = %s"
#: Where a score stops before its edge.
_BOUNDS = {"dixie-stops-below-the-top": (0.9, 0.0), "dixie-stops-above-the-bottom": (1.0, 0.1)}
#: Maximum length of an agent's name.
CHARS_OF_A_NAME = 64
#: How long a score is served that should be read again, s.
STALE_S = 4.0
AGENTS = frozenset({"smoke-agent-001", "smoke-agent-002"})
#: Events less far apart than this come at once, s.
AT_ONCE_S = 1.0


def parts(faults: Faults) -> Parts:
    """The parts of a Dixie that has the faults that are on."""
    return Parts(
        context=partial(FaultyContext, faults),
        auth=partial(FaultyAuth, faults),
        scores=partial(FaultyScores, faults),
        reputation=partial(FaultyReputation, faults),
    )


class FaultyAuth(FaultyTokenAuth, DixieAuth):
    """Accepts callers that it should refuse, and refuses those that it should accept."""

    async def reader(self, request: Request) -> None:
        """Let readers pass, with or without a credential."""
        if not self._faults.on("dixie-query-open"):
            await super().reader(request)

    async def service(self, request: Request) -> None:
        """Let writers pass, Finn or not."""
        by_key = self._faults.on("dixie-api-keys-write") and super().has_api_key(request)
        if by_key or self._faults.on("dixie-events-open"):
            return
        try:
            await super().service(request)
        except ApiError:
            if self._faults.on("dixie-spends-tokens-of-readers"):
                await self.spend(await self.verified(request), request)
            raise

    def may_write(self, claims: Claims) -> bool:
        """Whether the token may write, from any issuer."""
        admitted = claims.is_admin and self._faults.on("dixie-admins-write")
        return admitted or self._faults.on("dixie-users-write") or super().may_write(claims)

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
    """Scores that never move, move the wrong way, are another agent's, or those of some time ago."""

    _cache_s = 0.0

    @property
    def cache_s(self) -> float:
        """How long a score that was read is served again, s."""
        return STALE_S if self._faults.on("dixie-serves-stale-scores") else self._cache_s

    @cache_s.setter
    def cache_s(self, seconds: float) -> None:
        self._cache_s = seconds

    @cached_property
    def _places(self) -> dict[uuid.UUID, int]:
        return {}

    @cached_property
    def _counted(self) -> set[uuid.UUID]:
        return set()

    @cached_property
    def _last(self) -> dict[str, list[float]]:
        return {}

    @cached_property
    def _unknown(self) -> set[str]:
        return set()

    _latest: tuple[str, float] = ("", 0.0)

    def _comes_beside_another(self, agent: str) -> bool:
        """Whether an event about another agent that was not seeded came just before."""
        other, came = self._latest
        self._latest = agent, time.monotonic()
        return agent not in AGENTS and other not in (agent, *AGENTS) and time.monotonic() - came < AT_ONCE_S

    async def _comes_among_others(self, agent: str) -> bool:
        """Whether an event about another agent that was not seeded came just before, or comes now."""
        beside = self._comes_beside_another(agent)
        await asyncio.sleep(0.3)  # longer than a busy machine needs to send several at once
        return beside or (agent not in AGENTS and self._latest[0] != agent)

    def forget(self) -> None:
        """Serve nothing from the cache, nor from what was unknown."""
        super().forget()
        self._unknown.clear()

    async def of(self, agent_id: str) -> float | None:
        """The agent's score, one that is made up, or none for an agent that had none once."""
        score = await super().of(agent_id)
        if score is None:
            self._unknown.add(agent_id)
        if agent_id in self._unknown and self._faults.on("dixie-remembers-unknown-agents"):
            return None
        return PRIOR if score is None and self._faults.on("dixie-invents-scores") else score

    async def apply(self, signal: Signal) -> bool:
        """Count the event wrongly, for other agents too, or not at all."""
        on = self._faults.on
        if on("dixie-score-frozen") or await self._lost(signal):
            return False
        if on("dixie-counts-four-equal-events") and self._is_of_a_row(signal):
            return True
        if on("dixie-loses-other-agents-events") and self._comes_beside_another(signal.agent_id):
            return True
        if on("dixie-loses-all-events-at-once") and await self._comes_among_others(signal.agent_id):
            return True
        if on("dixie-races-repeats") or on("dixie-counts-repeats") or self._forgotten(signal):
            signal = replace(signal, event_id=uuid.uuid4())
        signal = await self._first(signal)
        known = await super().of(signal.agent_id) if on("dixie-loses-updates") else None
        if on("dixie-counts-in-memory"):
            signal = replace(signal, event_id=uuid.uuid5(BOOT, str(signal.event_id)))
        applied = super().apply(self._mistaken(signal))
        counted = await self._faults.unless_away("dixie", self._db, applied, other=True)
        if known is not None and counted:
            await self._db.execute(
                _OVERWRITE, known + signal.weight * (signal.score - known), signal.agent_id
            )
        await self._stop(signal.agent_id)
        for agent in sorted(AGENTS - {signal.agent_id}):
            like = on("dixie-matches-agents-by-prefix") and agent.startswith(signal.agent_id)
            if like or on("dixie-moves-every-agent"):
                await super().apply(replace(signal, agent_id=agent, event_id=uuid.uuid4()))
        return counted

    async def _stop(self, agent_id: str) -> None:
        """Keep a score away from an edge."""
        for name, bounds in _BOUNDS.items():
            if self._faults.on(name):
                await self._db.execute(_BOUND, *bounds, agent_id)

    async def _first(self, signal: Signal) -> Signal:
        """The event, or the opposite of one that is its agent's first."""
        reverses = self._faults.on("dixie-reverses-first-events")
        first = reverses and await super().of(signal.agent_id) is None
        return replace(signal, score=1.0 - signal.score) if first else signal

    async def _lost(self, signal: Signal) -> bool:
        """Whether an event is lost to another one that came at the same time."""
        if self._faults.on("dixie-races-repeats"):
            return await self._raced(signal)
        if not self._faults.on("dixie-races-first-events") or await super().of(signal.agent_id) is not None:
            return False
        agent = uuid.uuid5(BOOT, signal.agent_id)
        later = agent in self._counted
        self._counted.add(agent)
        await asyncio.sleep(0.3)  # longer than a busy machine needs to send several at once
        return later

    async def _raced(self, signal: Signal) -> bool:
        """Whether the event was counted before; a concurrent request gets the answer that it was not."""
        known = signal.event_id in self._counted
        await asyncio.sleep(0.3)  # longer than a busy machine needs to send several at once
        self._counted.add(signal.event_id)
        return known

    def _is_of_a_row(self, signal: Signal) -> bool:
        """Whether the four events about the agent before this one had the same score."""
        before = self._last.setdefault(signal.agent_id, [])
        before.append(signal.score)
        return before[-5:] == [signal.score] * 5

    def _forgotten(self, signal: Signal) -> bool:
        """Whether so many events came after this one that it is mistaken for a new one."""
        kept = self._faults.number("dixie-forgets-counted-events", "events", 8)
        place = self._places.setdefault(signal.event_id, len(self._places))
        return kept is not None and len(self._places) - place > kept

    def _mistaken(self, signal: Signal) -> Signal:
        on = self._faults.on
        if on("dixie-reads-scores-as-integers"):
            signal = replace(signal, score=float(int(signal.score)))
        if on("dixie-rounds-scores"):
            signal = replace(signal, score=float(round(signal.score)))
        if on("dixie-score-reversed"):
            signal = replace(signal, score=1.0 - signal.score)
        if on("dixie-only-praise"):
            signal = replace(signal, score=1.0)
        if on("dixie-only-blame"):
            signal = replace(signal, score=0.0)
        if on("dixie-moves-the-wrong-agent"):
            signal = replace(signal, agent_id="smoke-agent-002")
        return signal


#: What a lenient reader makes of an invalid event.
_CORRECTED: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "dixie-clamps-scores": lambda event: event | {"score": min(1, max(0, _number(event.get("score"))))},
    "dixie-takes-scores-as-text": lambda event: event | {"score": float(event["score"])},
    "dixie-takes-any-type": lambda event: event | {"type": "quality_signal"},
    "dixie-trims-agents": lambda event: event | {"agent_id": event["agent_id"].strip()},
    "dixie-strips-prefixes": lambda event: event | {"agent_id": event["agent_id"].removeprefix("nft:")},
    "dixie-makes-up-event-ids": lambda event: event | {"event_id": str(uuid.uuid4())},
    "dixie-makes-up-timestamps": lambda event: event | {"timestamp": 1_800_000_000},
}
#: What an event is known by, where that is not its id alone.
_KNOWN_BY: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "dixie-knows-events-per-agent": lambda event: f"{event['event_id']} {event['agent_id']}",
    "dixie-knows-events-by-content": lambda event: f"{event['event_id']} {event['score']}",
    "dixie-knows-events-by-spelling": lambda event: event["event_id"],
    "dixie-knows-events-by-prefix": lambda event: event["event_id"][:8],
    "dixie-knows-events-by-time": lambda event: f"{event['timestamp']} {event['agent_id']}",
}
_NAMES = uuid.UUID(int=0)
#: What is compared of a long name.
_PARTS = {
    "dixie-compares-the-beginning-of-names": slice(CHARS_OF_A_NAME),
    "dixie-compares-the-end-of-names": slice(-CHARS_OF_A_NAME, None),
}


def _moment(timestamp: Any) -> float:
    """An event's time in seconds of the epoch."""
    is_text = isinstance(timestamp, str)
    return datetime.fromisoformat(timestamp).timestamp() if is_text else float(timestamp)


def _number(value: Any) -> float:
    return value if isinstance(value, int | float) else 0.5


class FaultyReputation(Faulty, Reputation):
    """Counts events that it refuses, accepts invalid ones, and mistakes one event or agent for another."""

    async def events(self, request: Request) -> Response:
        """Refuse an event, and count it nevertheless."""
        try:
            return await super().events(request)
        except ApiError as refusal:
            if refusal.status == 401 and self._faults.on("dixie-counts-refused-events"):
                await self._scores.apply(signal_in(await raw_body(request)))
            if refusal.status == 400 and self._faults.on("dixie-counts-malformed-events"):
                with suppress(ApiError, ValueError, AttributeError):
                    event = json.loads(await raw_body(request))
                    await self._scores.apply(signal_in(json.dumps(event | {"score": 1.0}).encode()))
            raise

    async def query(self, request: Request) -> Response:
        """The score, or the one that an earlier reader with an API key was shown."""
        key = request.query_params.get("routingKey", "")
        by_key = self._auth.has_api_key(request)
        if by_key and self._faults.on("dixie-serves-old-scores-to-api-keys") and key in self._shown:
            return JSONResponse(self._shown[key])
        plain = b"%" not in request.scope["query_string"]
        if plain and self._faults.on("dixie-reads-encoded-keys-only"):
            raise bad_request("routingKey must be nft:<id>")
        answer = await super().query(request)
        if self._faults.on("dixie-mixes-queries-up"):
            # One place for all queries: each gets the score of the last one's agent.
            self._asked = self.agent(key)
            await asyncio.sleep(0.01)
            answer = JSONResponse({"score": await self._scores.of(self._asked)})
        found = key.removeprefix("nft:") in OF_OBJECTS
        if found and self._faults.on("dixie-finds-scores-that-every-object-has"):
            return JSONResponse({})
        tenant = believed(request.headers.get("authorization")).tenant_id
        if tenant in OTHER_COMMUNITIES and self._faults.on("dixie-shows-scores-to-one-community-only"):
            return JSONResponse({"score": None})
        if by_key:
            self._shown[key] = json.loads(bytes(answer.body))
        return answer

    @cached_property
    def _shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        self._faults.on_reset(shown.clear)
        return shown

    def signal(self, raw: bytes) -> Signal:
        """The event in a body, or what is accepted as one."""
        on = self._faults.on
        try:
            signal = super().signal(raw)
        except ApiError as refusal:
            for fault, correct in _CORRECTED.items():
                if on(fault):
                    with suppress(ValueError, TypeError, KeyError, AttributeError):
                        return super().signal(json.dumps(correct(json.loads(raw))).encode())
            if on("dixie-spends-refused-ids"):
                self._spent_ids.update(re.findall(rb'"event_id": "([^"]+)"', raw))
            raise refusal from None
        if len(signal.agent_id) >= CHARS_OF_A_NAME and on("dixie-refuses-the-longest-names"):
            raise bad_request("agent_id is too long")
        if signal.agent_id == "null" and on("dixie-takes-null-for-no-agent"):
            raise bad_request("agent_id is missing")
        if signal.event_id.version != 4 and on("dixie-takes-random-ids-only"):
            raise bad_request("event_id must be a UUID of version 4")
        if str(json.loads(raw)["timestamp"]).endswith("+00:00") and on("dixie-takes-utc-as-z-only"):
            raise bad_request("timestamp must end in Z")
        if str(signal.event_id).encode() in self._spent_ids:
            signal = replace(signal, agent_id="nobody")
        return self._misread(signal, json.loads(raw))

    def _misread(self, signal: Signal, event: dict[str, Any]) -> Signal:
        """An event that is mistaken for another one."""
        on = self._faults.on
        late = isinstance(event["timestamp"], int) and event["timestamp"] < time.time() - 60
        if late and on("dixie-drops-late-events"):
            signal = replace(signal, agent_id="nobody")
        if on("dixie-drops-early-events") and _moment(event["timestamp"]) > time.time() + 5:
            signal = replace(signal, agent_id="nobody")
        if on("dixie-takes-whole-scores-as-percent") and isinstance(event["score"], int):
            signal = replace(signal, score=signal.score / 100)
        if on("dixie-folds-agents"):
            signal = replace(signal, agent_id=signal.agent_id.lower())
        if on("dixie-cuts-agents"):
            signal = replace(signal, agent_id=signal.agent_id[:64])
        signal = replace(signal, agent_id=self._compared(signal.agent_id))
        for fault, name in _KNOWN_BY.items():
            if on(fault):
                signal = replace(signal, event_id=uuid.uuid5(_NAMES, name(event)))
        return signal

    def _compared(self, agent: str) -> str:
        """What of an agent's name is compared."""
        for fault, where in _PARTS.items():
            if self._faults.on(fault):
                agent = agent[where]
        return agent

    @cached_property
    def _spent_ids(self) -> set[bytes]:
        return set()

    def agent(self, routing_key: str) -> str:
        """The agent that a routing key names, or nearly so."""
        on = self._faults.on
        if on("dixie-query-folds-agents"):
            routing_key = routing_key.lower()
        if on("dixie-query-takes-hyphens-for-underscores"):
            routing_key = routing_key.replace("_", "-")
        if on("dixie-query-decodes-twice"):
            routing_key = unquote(routing_key)
        if on("dixie-query-cuts-keys"):
            routing_key = routing_key[:19]
        if on("dixie-query-trims-keys"):
            routing_key = routing_key.strip()
        if on("dixie-query-measures-names-with-their-prefix") and len(routing_key) > CHARS_OF_A_NAME:
            raise bad_request("routingKey is too long")
        agent = super().agent(routing_key)
        if on("dixie-query-strips-the-letters-of-its-prefix"):
            agent = routing_key.lstrip("nft:")
        if agent.isdigit() and on("dixie-reads-names-of-digits-as-numbers"):
            agent = str(int(agent))
        return self._compared(agent)

"""Dixie's API, and the reputation scores that it shows."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import Event
from typing import Any

import httpx
from pytest_readiness import Eventually, Evidence

from . import tokens
from .answers import fields_of, require_status
from .http import Credential, HttpClient, ServiceClient
from .tokens import SigningKey


class Dixie(ServiceClient):
    """One check's access to Dixie, with user tokens that Freeside would sign."""

    def __init__(self, http: HttpClient, tenant: str, key: Callable[[], SigningKey]) -> None:
        super().__init__(http)
        self.tenant = tenant
        self.key = key

    def claims(self) -> tokens.Claims:
        """A user's claims towards Dixie."""
        return tokens.user_claims(self.tenant, service="dixie")

    def credential(self, **claims: Any) -> Credential:
        """Fresh user tokens, one for each send."""
        return lambda: tokens.bearer(self.key(), self.claims() | claims)

    def query(self, routing_key: str | None, credential: Credential | None) -> httpx.Response:
        """The answer of the reputation query; None leaves the key out."""
        params = {} if routing_key is None else {"routingKey": routing_key}
        return self.http.send("GET", "/api/reputation/query", credential, params=params)

    def score(self, agent: str, credential: Credential | None = None) -> float | None:
        """The score of an agent, in [0, 1]; None for an unknown one."""
        response = require_status(self.query(f"nft:{agent}", credential or self.credential()), 200)
        fields = fields_of(response)
        if fields.raw("score", "a number in [0, 1] or null") is None:
            return None
        return fields.number("score", minimum=0, maximum=1)

    def post_event(self, event: Mapping[str, Any], credential: Credential | None) -> httpx.Response:
        """Write a reputation event."""
        return self.http.send("POST", "/api/reputation/events", credential, json=event)


def quality_signal(agent: str, score: float) -> dict[str, Any]:
    """A new event about the quality of an agent's work (contract 3)."""
    return {
        "type": "quality_signal",
        "score": score,
        "event_id": str(uuid.uuid4()),
        "agent_id": agent,
        "collection_id": "smoke",
        "timestamp": datetime.fromtimestamp(time.time(), UTC).isoformat().replace("+00:00", "Z"),
    }


def service_credential(key: SigningKey, **claims: Any) -> Credential:
    """Fresh tokens as Finn signs them towards Dixie."""
    return lambda: tokens.bearer(key, tokens.dixie_service_claims() | claims)


#: How long a score that must not move is watched beyond what Dixie may serve from its cache.
WATCHED_S = 0.05
_EVERY_S = 0.025
#: A cached score is read so often at most while the cache holds it.
_READINGS_OF_A_CACHE = 20
_NEVER = Event()


class Scores:
    """The public score of agents, as the loop's last link shows it."""

    def __init__(
        self, dixie: Dixie, evidence: Evidence, *, cache_s: float, limit_s: float, target_s: float
    ) -> None:
        self.dixie = dixie
        self.evidence = evidence
        self.cache_s = cache_s
        self.limit_s = limit_s
        self.target_s = target_s
        self.every_s = max(_EVERY_S, cache_s / _READINGS_OF_A_CACHE)

    def of(self, agent: str) -> float:
        """The score of a known agent; null is not a score."""
        score = self.dixie.score(agent)
        assert score is not None, f"{agent} has no score: the query answers null"
        return score

    def moved(self, agent: str, before: float, eventually: Eventually) -> float:
        """The first score that differs from ``before``; later than the target is a finding."""
        started = time.monotonic()
        found: list[float] = []

        def probe() -> bool:
            try:
                found.append(self.of(agent))
            except httpx.TransportError as error:
                self.evidence.note(f"a score query failed in transit: {type(error).__name__}")
                return False
            return found[-1] != before

        eventually(
            probe,
            within=self.limit_s,
            every=self.every_s,
            what=f"the score of {agent} moves from {before:.6f}",
        )
        took = time.monotonic() - started
        self.evidence.figure("propagation", round(took, 2), "s", limit=self.limit_s)
        if took > self.target_s:
            late = f"finding: propagation beyond the target of {self.target_s} s"
            self.evidence.figure(late, round(took, 2), "s", limit=self.target_s)
            self.evidence.note(f"finding: propagation took {took:.1f} s, the target is {self.target_s} s")
        self.evidence.figure(f"score of {agent}", found[-1], expected=f"not {before}")
        return found[-1]

    def stays(self, agent: str, before: float, why: str) -> None:
        """Assert that the score is what it was, for as long as a change could be hidden by the cache."""
        deadline = time.monotonic() + self.cache_s + WATCHED_S
        while True:
            now = self.of(agent)
            assert now == before, f"the score of {agent} went from {before} to {now}: {why}"
            if time.monotonic() >= deadline:
                break
            _NEVER.wait(self.every_s)
        self.evidence.evaluated(f"the score of {agent} stays")

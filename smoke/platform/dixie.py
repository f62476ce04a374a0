"""Dixie's API, the reputation scores that it shows, and the cases that are offered to its intake."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from threading import Event
from typing import Any

import httpx
from pytest_readiness import Eventually, Evidence

from smoke.contract import intake
from smoke.contract.intake import Offer, Verdict

from . import tokens
from .answers import fields_of, require_json_error, require_status
from .batch import Case, mint_command
from .http import JSON_HEADERS, Credential, HttpClient, ServiceClient
from .spend import Once
from .tokens import SigningKey

QUERY_PATH = "/api/reputation/query"
EVENTS_PATH = "/api/reputation/events"


class Dixie(ServiceClient):
    """One check's access to Dixie, with user tokens that Freeside would sign."""

    def __init__(self, http: HttpClient, tenant: str, key: Callable[[], SigningKey]) -> None:
        super().__init__(http)
        self.tenant = tenant
        self.key = key

    def claims(self) -> tokens.Claims:
        """A user's claims towards Dixie."""
        return tokens.user_claims(self.tenant, at=self.http.address)

    def credential(self, **claims: Any) -> Credential:
        """Fresh user tokens, one for each send."""
        return lambda: tokens.bearer(self.key(), self.claims() | claims)

    def service_credential(self, key: SigningKey, **claims: Any) -> Credential:
        """Fresh tokens as Finn signs them towards Dixie."""
        return lambda: tokens.bearer(key, tokens.dixie_service_claims(at=self.http.address) | claims)

    def query(self, routing_key: str | None, credential: Credential | None) -> httpx.Response:
        """The answer of the reputation query; None leaves the key out."""
        params = {} if routing_key is None else {"routingKey": routing_key}
        return self.http.send("GET", QUERY_PATH, credential, params=params)

    def score(self, agent: str, credential: Credential | None = None) -> float | None:
        """The score of an agent, in [0, 1]; None for an unknown one."""
        answer = self.query(f"nft:{agent}", credential or self.credential())
        return score_in(require_status(answer, 200))

    def post_event(
        self,
        event: Mapping[str, Any] | bytes,
        credential: Credential | None,
        headers: Mapping[str, str] = JSON_HEADERS,
    ) -> httpx.Response:
        """Write a reputation event, or any other body."""
        content = event if isinstance(event, bytes) else json.dumps(event).encode()
        return self.http.send("POST", EVENTS_PATH, credential, headers=headers, content=content)


def score_in(answer: httpx.Response) -> float | None:
    """The score in a 200 of the query; None for null."""
    fields = fields_of(answer)
    if fields.raw("score", "a number in [0, 1] or null") is None:
        return None
    return fields.number("score", minimum=0, maximum=1)


def now_text() -> str:
    """The time as an event's timestamp."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def quality_signal(agent: str, score: float) -> dict[str, Any]:
    """A new event about the quality of an agent's work (contract 3)."""
    return intake.quality_signal(agent, score, now_text())


#: How long a score that must not move is watched beyond what Dixie may serve from its cache.
WATCHED_S = 0.05
EVERY_S = 0.025
#: A cached score is read so often at most while the cache holds it.
_READINGS_OF_A_CACHE = 20
_NEVER = Event()


class Scores:
    """The public score of agents, as the loop's last link shows it."""

    def __init__(
        self, dixie: Dixie, evidence: Evidence, once: Once, *, cache_s: float, limit_s: float, target_s: float
    ) -> None:
        self.dixie = dixie
        self.evidence = evidence
        self.once = once
        self.cache_s = cache_s
        self.limit_s = limit_s
        self.target_s = target_s
        self.every_s = max(EVERY_S, cache_s / _READINGS_OF_A_CACHE)

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
        self.once.remember("moved", agent=agent)
        return found[-1]

    def shown(self, *agents: str) -> dict[str, float | None]:
        """The score of each agent; None where it has none."""
        return {agent: self.dixie.score(agent) for agent in agents}

    def hold(self, *agents: str) -> dict[str, float | None]:
        """The score of each agent, which must stay for the rest of the run: `held` says who moved it."""
        now = self.shown(*agents)
        for agent, score in now.items():
            self._saw(agent, score)
        return now

    def _saw(self, agent: str, score: float | None, *, blamed: bool = False) -> None:
        by = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        self.once.remember("score", agent=agent, score=score, by=by, blamed=blamed)

    def held(self, agent: str) -> None:
        """Assert that an agent has the score that each check held, whatever a cache hid from that check."""
        self.hold(agent)
        seen = [entry for entry in self.once.remembered("score") if entry["agent"] == agent]
        for earlier, later in pairwise(seen):
            assert earlier["score"] == later["score"] or later["blamed"], (
                f"the score of {agent} went from {earlier['score']} to {later['score']} between the readings"
                f" of {earlier['by']} and {later['by']}, and no event was to count for it"
            )
        self.evidence.evaluated(f"the score of {agent} stays", len(seen))

    def stay(
        self,
        before: Mapping[str, float | None],
        why: str,
        *,
        since: float | None = None,
        until_held: bool = False,
    ) -> None:
        """Assert that scores are what they were, for as long as a change could be hidden by the cache.

        An agent that had none still has none. ``since`` is when the last of what could move them had been
        sent (monotonic seconds; now, if not given): the cache runs out while another wait goes on. With
        ``until_held`` it is not waited for here: `held` asks once for all checks what it hides.
        """
        now_s = time.monotonic()
        hidden_until = now_s if until_held else (since or now_s) + self.cache_s
        deadline = max(now_s, hidden_until) + WATCHED_S
        while True:
            now = self.shown(*before)
            for agent, score in before.items():
                if now[agent] != score:
                    self._saw(agent, now[agent], blamed=True)
                assert now[agent] == score, f"the score of {agent} went from {score} to {now[agent]}: {why}"
            if time.monotonic() >= deadline:
                break
            _NEVER.wait(self.every_s)
        self.evidence.evaluated("a score stays", len(before))


#: How a service refuses what is no request of the contract (1.3). Dixie's 422 says the same.
TURNED_DOWN = (400, 413, 415, 422)
#: How a service answers a method that it does not have (1.3).
NO_SUCH_ROUTE = (404, 405)
#: An agent that no check reads: whatever may count is offered for it.
ELSEWHERE = "smoke-elsewhere"
OFFER_RULES = {
    Verdict.ACCEPTED: "what the contract describes is taken",
    Verdict.REFUSED: "anything else is refused, not corrected",
    Verdict.OPEN: "what the contract leaves open is taken or refused",
}


def offer_cases(offers: Iterable[Offer], send: Callable[[bytes], httpx.Response], route: str) -> list[Case]:
    """One case for each offer to a route, judged by the contract's verdict on it."""
    return [
        Case(
            offer.name,
            OFFER_RULES[verdict],
            partial(send, offer.body),
            judging(verdict),
            partial(mint_command, route),
        )
        for offer, verdict in ((offer, offer.verdict) for offer in offers)
    ]


def judging(verdict: Verdict) -> Callable[[httpx.Response], None]:
    """Raises for an answer to a request of this verdict that the contract does not allow."""
    statuses = {
        Verdict.ACCEPTED: (202,), Verdict.REFUSED: TURNED_DOWN, Verdict.OPEN: (202, *TURNED_DOWN),
    }[verdict]  # fmt: skip
    return with_status(*statuses)


def with_status(*statuses: int) -> Callable[[httpx.Response], None]:
    """Raises for an answer with another status, and for an error without its form."""

    def judge(answer: httpx.Response) -> None:
        require_status(answer, *statuses)
        if answer.status_code in TURNED_DOWN:
            require_json_error(answer)

    return judge

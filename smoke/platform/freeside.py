"""Freeside's API in the profile's dialects."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Event
from typing import Any

import httpx
from pytest_readiness import Evidence

from smoke.contract.intake import rating
from smoke.contract.schemas import EVENTS

from . import tokens
from .answers import (
    DIGITS,
    UUID,
    Answer,
    ContractViolation,
    answer_of,
    fields_of,
    is_replay,
    media_type,
    parse_json,
    require_status,
    route_of,
    shown,
)
from .http import JSON_HEADERS, Credential, HttpClient, ServiceClient
from .invariants import MICRO_PER_CENT, RELEASED_WITHIN_S, BudgetReading, Conservation, reading_of
from .spend import OpeningBalance, SpendJournal
from .tokens import SigningKey

INVOKE_PATH = "/api/agents/invoke"
STREAM_PATH = "/api/agents/stream"
QUALITY_PATH = "/api/agents/quality"
_LOOK_EVERY_S = 0.2
_STREAMED_COST = re.compile(rb'"costMicro"\s*:\s*"([0-9]{1,18})"')
_NEVER = Event()


@dataclass(frozen=True, slots=True)
class Tenants:
    """The suite's communities: the main one, a second one, and one with a budget of a few cents."""

    main: str
    other: str
    small: str

    def all(self) -> tuple[str, ...]:
        """Each community once."""
        return tuple(dict.fromkeys((self.main, self.other, self.small)))


@dataclass(frozen=True, slots=True)
class Dialects:
    """The dialect of each route that has several, and the agent where a request must name one."""

    invoke: str
    stream: str
    budget: str
    agent: str

    @property
    def stream_path(self) -> str:
        """Where streams are served."""
        return INVOKE_PATH if self.stream == "accept" else STREAM_PATH

    def budget_path(self, tenant: str) -> str:
        """Where the budget of ``tenant`` is served."""
        return "/api/agents/budget" if self.budget == "gateway" else f"/api/v1/communities/{tenant}/budget"


class Freeside(ServiceClient):
    """One check's access to Freeside. Each call mints its own token and enters its charge in the journal."""

    def __init__(
        self, http: HttpClient, dialects: Dialects, key: Callable[[], SigningKey], journal: SpendJournal
    ) -> None:
        super().__init__(http)
        self.dialects = dialects
        self.key = key
        self.journal = journal

    def credential(self, tenant: str, *, tier: str = "enterprise", **claims: Any) -> Credential:
        """Fresh tokens of ``tenant``, one for each send."""
        return lambda: tokens.bearer(
            self.key(), tokens.user_claims(tenant, at=self.http.address, tier=tier) | claims
        )

    def models(self, credential: Credential | None) -> httpx.Response:
        """The cheapest route that verifies a token: it costs nothing."""
        return self.http.send("GET", "/api/agents/models", credential)

    def get_budget(self, tenant: str, credential: Credential) -> httpx.Response:
        """The answer for the budget of ``tenant``, asked with any credential."""
        return self.http.send("GET", self.dialects.budget_path(tenant), credential)

    def budget(self, tenant: str) -> BudgetReading:
        """The budget of ``tenant``, asked with its own token."""
        claims = {"role": "admin"} if self.dialects.budget == "gateway" else {}
        sent = time.monotonic()
        response = require_status(self.get_budget(tenant, self.credential(tenant, **claims)), 200)
        reading = reading_of(response, self.dialects.budget, tenant)
        by = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        self.journal.once.remember(
            "reading", reading=asdict(reading), by=by, sent=sent, ended=time.monotonic()
        )
        return reading

    def at_rest(self, tenant: str) -> BudgetReading:
        """The budget once what earlier calls of this run reserved is released, for which I-6 gives 10 s.

        A platform that took longer once is not waited for again: `budget/reservations-return` blames it.
        """
        reading, spend = self.budget(tenant), self.journal.spend()
        opening = self.journal.open().get(tenant, OpeningBalance(problem="unread"))
        # where both are one figure, what is beyond the charges is reserved
        most = opening.committed + spend.charges.get(tenant, 0) + MICRO_PER_CENT
        one_figure = not (reading.exact or opening.problem)
        while tenant in spend.last and (
            reading.reserved > opening.reserved or (one_figure and reading.committed >= most)
        ):
            if self.journal.holds or time.time() - spend.last[tenant] >= RELEASED_WITHIN_S:
                self.journal.hold()
                break
            _NEVER.wait(_LOOK_EVERY_S)
            reading = self.budget(tenant)
        return reading

    def opening_balance(self, tenant: str) -> OpeningBalance:
        """The budget of ``tenant`` before the run's first charge; what cannot be read says why."""
        try:
            reading = self.budget(tenant)
        except (AssertionError, RuntimeError, httpx.HTTPError) as error:
            return OpeningBalance(problem=f"{type(error).__name__}: {error}")
        return OpeningBalance(reading.committed, reading.period, reserved=reading.reserved)

    def watch(self, tenant: str, evidence: Evidence) -> Conservation:
        """Compares the budget of ``tenant``, at rest now, with what it may become."""
        return Conservation(self.at_rest(tenant), lambda: self.budget(tenant), evidence, self.journal)

    def invoke_body(self, prompt: Any, *, model: str = "cheap", agent: str | None = None) -> dict[str, Any]:
        """The body of an invoke, or of a stream."""
        if self.dialects.invoke == "messages":
            messages = [{"role": "user", "content": prompt}]
            return {"agent": agent or self.dialects.agent, "messages": messages, "modelAlias": model}
        return {"prompt": prompt, "model": model} | ({"agent": agent} if agent else {})

    def post_invoke(
        self,
        body: bytes | Sequence[bytes] | Mapping[str, Any],
        *,
        tenant: str,
        credential: Credential | None = None,
        key: str | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        keyed: bool = True,
        streamed: bool = False,
        method: str = "POST",
    ) -> httpx.Response:
        """Post any body with any credential; a 200 is entered in the journal as a charge of ``tenant``.

        ``keyed`` is False where Freeside is to make the idempotency key. ``streamed`` asks for events, and
        reads them all; a check that times them uses ``stream``.
        """
        self.journal.open()
        key = key or str(uuid.uuid4())
        content = json.dumps(body).encode() if isinstance(body, Mapping) else body
        sent: dict[str, str | bytes] = {**JSON_HEADERS, **({"X-Idempotency-Key": key} if keyed else {})}
        if streamed:
            sent["Accept"] = EVENTS
        path = self.dialects.stream_path if streamed else INVOKE_PATH
        with self.journal.charging(tenant, key) as charge:
            response = self.http.send(
                method, path, credential, headers={**sent, **(headers or {})}, content=content
            )
            if response.status_code == 200:
                is_invoke = not (streamed or is_replay(response.headers))
                took = response.elapsed.total_seconds() * 1000 if is_invoke else None
                charge.settle(cost_in(response), took)
        return response

    def try_invoke(
        self,
        tenant: str,
        prompt: str,
        *,
        model: str = "cheap",
        agent: str | None = None,
        key: str | None = None,
        keyed: bool = True,
        **claims: Any,
    ) -> httpx.Response:
        """The answer to an invoke, whatever its status; ``claims`` are as for ``credential``."""
        body = self.invoke_body(prompt, model=model, agent=agent)
        credential = self.credential(tenant, **claims)
        return self.post_invoke(body, tenant=tenant, credential=credential, key=key, keyed=keyed)

    def invoke(
        self,
        tenant: str,
        prompt: str,
        *,
        model: str = "cheap",
        agent: str | None = None,
        key: str | None = None,
    ) -> Answer:
        """An invoke that must be answered."""
        key = key or str(uuid.uuid4())
        response = self.try_invoke(tenant, prompt, model=model, agent=agent, key=key)
        answer = answer_of(require_status(response, 200), tenant)
        if answer.idempotency_key != key:
            raise ContractViolation(
                f"{route_of(response)}: header x-idempotency-key: expected the echo of {key}, "
                f"got {shown(answer.idempotency_key)}"
            )
        return answer

    def post_rating(
        self,
        body: Mapping[str, Any] | bytes,
        credential: Credential | None,
        headers: Mapping[str, str] = JSON_HEADERS,
    ) -> httpx.Response:
        """Rate an agent's work, or send any other body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.send("POST", QUALITY_PATH, credential, headers=headers, content=content)

    def rate(self, tenant: str, agent: str, quality: str) -> None:
        """A rating that must be accepted."""
        answer = require_status(self.post_rating(rating(agent, quality), self.credential(tenant)), 202)
        body = fields_of(answer)
        assert body.boolean("accepted"), "the event was answered with 202, but not accepted"
        body.text("event_id", pattern=UUID)


def cost_in(response: httpx.Response) -> int:
    """The cost that an answer declares, in µUSD; 0 when it cannot be read, which the check itself reports."""
    if media_type(response) == EVENTS:
        costs = _STREAMED_COST.findall(response.content)
        return int(costs[0]) if len(costs) == 1 else 0
    try:
        body = parse_json(response, route_of(response))
        usage = body.get("usage", {}) if isinstance(body, dict) else {}
        text = usage.get("costMicro", body.get("cost_micro")) if isinstance(usage, dict) else None
    except ContractViolation:
        return 0
    return int(text) if isinstance(text, str) and DIGITS.fullmatch(text) else 0

"""Freeside's API in the dialects of the profile, its answers, and prompts for it."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from typing import Any

import httpx
from pytest_readiness import Evidence

from smoke.contract.exchange import MICRO_PER_CENT
from smoke.contract.intake import rating
from smoke.contract.model import POOLS, TIER_POOLS
from smoke.contract.schemas import EVENTS, UUID
from smoke.network.connections import events_in

from . import tokens
from .answers import (
    DIGITS,
    ContractViolation,
    Fields,
    error_code,
    fields_of,
    header,
    media_type,
    parse_json,
    require_status,
    route_of,
    shown,
)
from .http import JSON_HEADERS, Credential, HttpClient, ServiceClient
from .invariants import (
    RELEASED_WITHIN_S,
    BudgetReading,
    Conservation,
    OthersSpend,
    pauses,
    reading_of,
    require_own,
)
from .spend import OpeningBalance, SpendJournal
from .tokens import SigningKey

INVOKE_PATH = "/api/agents/invoke"
STREAM_PATH = "/api/agents/stream"
QUALITY_PATH = "/api/agents/quality"
#: Seconds for which a key may be in use by its first call: as long as any answer may take.
IN_USE_S = 30.0
#: Maximum pause in seconds before a call with such a key is repeated.
IN_USE_PAUSE_S = 0.5
_LOOK_EVERY_S = 0.2
_STREAMED_COST = re.compile(rb'"costMicro"\s*:\s*"([0-9]{1,18})"')
_TIERS_IN_TURN = cycle(TIER_POOLS)


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
    """The dialect of each route that has several, and the agent if a request must name one."""

    invoke: str
    stream: str
    budget: str
    agent: str

    @property
    def stream_path(self) -> str:
        """The path of streams."""
        return INVOKE_PATH if self.stream == "accept" else STREAM_PATH

    def budget_path(self, tenant: str) -> str:
        """The path of ``tenant``'s budget."""
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
        """The budget of ``tenant``, asked with its own token, of each tier in turn."""
        claims = {"role": "admin"} if self.dialects.budget == "gateway" else {}
        claims["tier"] = next(_TIERS_IN_TURN)
        sent = time.monotonic()
        response = require_status(self.get_budget(tenant, self.credential(tenant, **claims)), 200)
        reading = reading_of(response, self.dialects.budget, tenant)
        by = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        self.journal.once.remember(
            "reading", reading=asdict(reading), by=by, sent=sent, ended=time.monotonic()
        )
        return reading

    def at_rest(self, tenant: str) -> BudgetReading:
        """The budget once reservations of this run's earlier calls are released, for which I-6 allows 10 s.

        After a platform has taken longer once, later checks do not wait; `budget/reservations-return` reports
        it.
        """
        reading, spend = self.budget(tenant), self.journal.spend()
        opening = self.journal.open().get(tenant, OpeningBalance(problem="unread"))
        # if both are one figure, the excess over the charges is reserved, or was paid for calls of unknown
        # cost
        most = opening.committed + spend.most(tenant) + MICRO_PER_CENT
        one_figure, pause = not (reading.exact or opening.problem), pauses(_LOOK_EVERY_S)
        while tenant in spend.last and (
            reading.reserved > opening.reserved or (one_figure and reading.committed >= most)
        ):
            if self.journal.holds or time.time() - spend.last[tenant] >= RELEASED_WITHIN_S:
                with suppress(OthersSpend):
                    held = f"{reading.reserved} µUSD reserved"
                    require_own(tenant, partial(self.budget, tenant), self.journal, held)
                    self.journal.hold()
                break
            next(pause)
            reading = self.budget(tenant)
        return reading

    def opening_balances(self, tenants: Sequence[str]) -> dict[str, OpeningBalance]:
        """The budgets before the run's first charge; one that cannot be read says why.

        A killed run may have left a reservation, which must be released or charged within I-6's time.
        """
        until = time.monotonic() + RELEASED_WITHIN_S
        return {tenant: self._opening_balance(tenant, until) for tenant in tenants}

    def _opening_balance(self, tenant: str, until: float) -> OpeningBalance:
        try:
            reading, pause = self.budget(tenant), pauses(_LOOK_EVERY_S)
            while reading.reserved > 0 and time.monotonic() < until:
                next(pause)
                reading = self.budget(tenant)
        except (AssertionError, RuntimeError, httpx.HTTPError) as error:
            return OpeningBalance(problem=f"{type(error).__name__}: {error}")
        return OpeningBalance(
            reading.committed, reading.period, reserved=reading.reserved, limit=reading.limit
        )

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
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Post any body with any credential; a 200 is entered in the journal as a charge of ``tenant``.

        ``keyed`` is False if Freeside is to make the idempotency key. ``streamed`` requests events, and reads
        them all; a check that times them uses ``stream``.
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
                method,
                path,
                credential,
                headers={**sent, **(headers or {})},
                content=content,
                params=params or {},
            )
            charge.replay = is_replay(response.headers) or response.status_code == 409
            if response.status_code == 200:
                is_invoke = not (streamed or charge.replay)
                took = response.elapsed.total_seconds() * 1000 if is_invoke else None
                charge.settle(cost_in(response), took)
        self.journal.answered(tenant, response)
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

    def rate(
        self, tenant: str, agent: str, quality: str, *, source: str = "smoke-test", **claims: Any
    ) -> None:
        """A rating that must be accepted; ``claims`` are as for ``credential``."""
        credential = self.credential(tenant, **claims)
        answer = require_status(self.post_rating(rating(agent, quality, source), credential), 202)
        body = fields_of(answer)
        assert body.boolean("accepted"), "the event was answered with 202, but not accepted"
        body.text("event_id")


def cost_in(response: httpx.Response) -> int:
    """The cost that an answer declares, in µUSD; 0 if it cannot be read, which the check itself reports."""
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


def spoken(answer: httpx.Response) -> tuple[str, list[Mapping[str, Any]]]:
    """The content of an answer, and its usage; a stream should have one."""
    if media_type(answer) != EVENTS:
        fields = fields_of(answer)
        return fields.text("content"), [fields.object("usage").data]
    route = route_of(answer)
    found = [parse_json(event.data, f"{route} event {event.name}") for event in events_in(answer.content)]
    data = [each for each in found if isinstance(each, dict)]
    content = "".join(str(each.get("text", "")) for each in data)
    return content, [each for each in data if "costMicro" in each]


def prompt_tokens_in(answer: httpx.Response) -> int:
    """How many tokens the prompt had, as an answer declares; ContractViolation if it does not."""
    usage = next(iter(spoken(answer)[1]), None)
    return Fields(route_of(answer), {"usage": usage}).object("usage").integer("promptTokens")


def nonce() -> str:
    """A word that no other prompt contains, of constant length, so that equal prompts cost the same."""
    return f"nonce{secrets.token_hex(6)}"


def prompt_for(word: str = "", *, padding: int = 0, times: int = 1) -> str:
    """A prompt whose right answer contains ``word`` this many ``times``; padding makes it cost more.

    The default word is a new nonce.
    """
    word = word or nonce()
    prompt = f"Reply with exactly this word and nothing else: {word}"
    if times > 1:
        prompt = f"Reply with exactly this word, {times} times, each on a line of its own: {word}"
    return prompt if padding <= 0 else f"{'pad ' * math.ceil(padding / 4)}\n{prompt}"


@dataclass(frozen=True, slots=True)
class Usage:
    """An answer's usage; ``cost_micro`` in µUSD."""

    prompt_tokens: int
    completion_tokens: int
    cost_micro: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 of the invoke route. ``replayed``: the stored answer of an earlier call under the same key."""

    tenant: str
    content: str
    model: str
    usage: Usage
    trace_id: str
    idempotency_key: str
    replayed: bool


def usage_of(fields: Fields) -> Usage:
    """Usage as Freeside serves it, in an answer or in a stream's usage event."""
    return Usage(
        fields.integer("promptTokens", minimum=1),
        fields.integer("completionTokens", minimum=1),
        fields.micro("costMicro", minimum=1),
    )


def answer_of(response: httpx.Response, tenant: str) -> Answer:
    """The answer in a 200 of the invoke route (contract 1.2)."""
    fields = fields_of(response)
    return Answer(
        tenant=tenant,
        content=fields.text("content"),
        model=fields.text("model", among=POOLS),
        usage=usage_of(fields.object("usage")),
        trace_id=fields.text("traceId", pattern=UUID),
        idempotency_key=header(response, "x-idempotency-key"),
        replayed=is_replay(response.headers),
    )


def once_free(call: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer to a call whose key may be in use: until its first call ends, it may be refused with 409."""
    answer, ends, waits = call(), time.monotonic() + IN_USE_S, pauses(IN_USE_PAUSE_S)
    while error_code(answer) == "IDEMPOTENCY_CONFLICT" and time.monotonic() < ends:
        next(waits)
        answer = call()
    return answer


def is_replay(headers: httpx.Headers) -> bool:
    """Whether an answer says that it is the stored one of an earlier call (contract 1.2)."""
    return str(headers.get("x-idempotent-replay", "")).lower() == "true"

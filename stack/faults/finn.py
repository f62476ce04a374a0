"""Finn with parts that misbehave: its bills, its answers, its reports."""

import asyncio
import html
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property, partial
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request

from stack.common.auth import FinnAuth
from stack.common.context import Outbox
from stack.common.http import ApiError
from stack.common.keys import req_hash
from stack.common.verifier import POOLS, TIER_POOLS, Claims
from stack.faults.proxy import Faults, Faulty
from stack.faults.tokens import OTHER_COMMUNITIES, FaultyContext, FaultySpentTokens, FaultyTokenAuth
from stack.finn.app import Bill, Billing, Parts, ProviderClient, Reports

#: The part of a prompt that fits into a window that is too small.
CUT_CHARS = 16_384
#: A prompt of more letters is a long one.
MANY_CHARS = 1000
#: Maximum length of an agent's name.
CHARS_OF_A_NAME = 64
#: The name of the algorithm and a quarter of the digest.
HASH_CHARS = len("sha256:") + 16
#: What a template has for what is filled in.
_TEMPLATE = re.compile(r"\$?\{.*?\}+|%[sd]")
#: What is made of a prompt.
_REWRITTEN: Mapping[str, Callable[[str], str]] = {
    "finn-fills-in-templates": partial(_TEMPLATE.sub, ""),
    "finn-decodes-percent-signs": unquote,
    "finn-unescapes-entities": html.unescape,
    "finn-takes-a-slash-for-a-command": lambda prompt: "Unknown command" if prompt[0] == "/" else prompt,
}
_streaming: ContextVar[bool] = ContextVar("streaming", default=False)
# Whether its prompt is a long one.
_long: ContextVar[bool] = ContextVar("long", default=False)
_admin: ContextVar[bool] = ContextVar("admin", default=False)
_body: ContextVar[bytes] = ContextVar("body", default=b"")
_caller: ContextVar[Claims] = ContextVar("caller")


def parts(faults: Faults) -> Parts:
    """The parts of a Finn that has the faults that are on."""
    return Parts(
        context=partial(FaultyContext, faults),
        auth=partial(FaultyAuth, faults),
        billing=partial(FaultyBilling, faults),
        provider=partial(FaultyProviderClient, faults),
        reports=partial(FaultyReports, faults),
    )


class FaultyAuth(FaultyTokenAuth, FinnAuth):
    """Takes a token for another body, and what it should refuse."""

    async def caller(self, request: Request) -> tuple[Claims, bytes]:
        """Claims and raw body, as they are or as they would be let in."""
        _streaming.set(request.url.path.endswith("/stream"))
        claims, raw = await super().caller(request)
        _body.set(raw)
        _caller.set(claims)
        claims = self._for_tenant_named(request, raw, claims)
        beyond = claims.text("pool_id") not in (None, *TIER_POOLS[claims.tier])
        if beyond and self._faults.on("finn-spends-no-token-of-refused-calls"):
            await self.unspend(request)
        if self._faults.on("finn-reports-before-it-bills"):
            await self._report(str(json.loads(raw).get("agent")))
        if self._faults.on("finn-ignores-tier"):
            claims = replace(claims, raw={**claims.raw, "tier": "enterprise"})
        return claims, raw

    def _for_tenant_named(self, request: Request, raw: bytes, claims: Claims) -> Claims:
        named = None
        if self._faults.on("finn-trusts-tenant-in-header"):
            named = request.headers.get("x-tenant-id")
        if self._faults.on("finn-trusts-tenant-in-body"):
            named = json.loads(raw).get("tenant_id")
        return replace(claims, raw={**claims.raw, "tenant_id": named}) if named else claims

    async def _report(self, agent: str) -> None:
        event_id = uuid.uuid4()
        event = {"type": "quality_signal", "score": 1.0, "event_id": str(event_id), "agent_id": agent}
        event |= {"collection_id": "arrakis", "timestamp": int(time.time())}
        await Outbox(self.context.db, "finn").put(event_id, event)

    def bound_to(self, claims: Claims, raw: bytes) -> bool:
        """Whether the token was made for this body, or need not be."""
        unread = len(raw) > 1024 and self._faults.on("finn-hashes-short-bodies-only")
        unbound = self._faults.on("finn-ignores-req-hash") or claims.text("req_hash") is None
        if self._faults.on("finn-hashes-trimmed-bodies"):
            raw = raw.strip()
        if self._faults.on("finn-compares-the-start-of-req-hash"):
            return (claims.text("req_hash") or "")[:HASH_CHARS] == req_hash(raw)[:HASH_CHARS]
        return unread or unbound or super().bound_to(claims, raw)


class FaultyBilling(Faulty, Billing):
    """Serves direct calls that it should charge or refuse, or gives the token of one back."""

    @asynccontextmanager
    async def bill(self, claims: Claims, pool: str, prompt: str, trace_id: str) -> AsyncIterator[Bill]:
        """Hold the price, or none; the token of a call that has no budget may be good for another one."""
        _admin.set(claims.is_admin)
        try:
            async with super().bill(claims, pool, prompt, trace_id) as bill:
                yield bill
        except ApiError as refusal:
            unaffordable = refusal.status == 402 and self._faults.on("finn-spends-no-token-over-budget")
            if unaffordable or (
                refusal.status == 403 and self._faults.on("finn-spends-no-token-of-unknown-tenants")
            ):
                spent = self._context.spent_tokens()
                assert isinstance(spent, FaultySpentTokens)
                await spent.unspend(claims)
            raise

    async def reserve(self, document: dict[str, Any]) -> str | None:
        """Reserve the price, or let the call run without."""
        if self._faults.on("finn-bills-nobody"):
            return None
        if self._faults.on("finn-folds-tenants"):
            document = document | {"tenant_id": document["tenant_id"].lower()}
        try:
            return await super().reserve(document)
        except ApiError as refusal:
            beyond = refusal.status == 402 and (
                self._faults.on("finn-runs-over-budget")
                or (_admin.get() and self._faults.on("finn-has-no-limit-for-admins"))
            )
            unbilled = refusal.status == 503 and self._faults.on("finn-serves-without-billing")
            unknown = refusal.status == 403 and self._faults.on("finn-serves-unknown-tenants")
            if beyond or unbilled or unknown:
                return None
            raise


class FaultyProviderClient(Faulty, ProviderClient):
    """Asks the model what another caller asked, or only the beginning of what a caller asked."""

    _prompt = ""

    async def complete(self, model: str, prompt: str) -> dict[str, Any]:
        """The answer to some prompt."""
        _long.set(len(prompt) > MANY_CHARS)
        if self._faults.on("finn-mixes-answers"):
            self._prompt = prompt
            await asyncio.sleep(0.03)
            prompt = self._prompt
        if self._faults.on("finn-cuts-long-prompts"):
            prompt = prompt[:CUT_CHARS]
        for fault, rewritten in _REWRITTEN.items():
            if self._faults.on(fault):
                prompt = rewritten(prompt)
        if "error" in prompt and self._faults.on("finn-takes-words-for-failures"):
            raise ApiError(502, "UPSTREAM_ERROR", "The model failed")
        try:
            return await super().complete(model, prompt)
        except ApiError:
            if not self._faults.on("finn-answers-for-the-provider"):
                raise
            return {
                "content": "No answer can be given now",
                "usage": {"prompt_tokens": 7, "completion_tokens": 7},
            }


class FaultyReports(Faulty, Reports):
    """Reports answers for an agent that had no part in them, and ratings for others."""

    _last = ""
    _answers = 0

    @cached_property
    def _prompts(self) -> set[Any]:
        prompts: set[Any] = set()
        self._faults.on_reset(prompts.clear)
        return prompts

    def _asked_before(self, agent: str | None) -> bool:
        """Whether the agent had the same prompt before."""
        prompt = (agent, json.loads(_body.get())["prompt"])
        known = prompt in self._prompts
        self._prompts.add(prompt)
        return known

    async def answered(self, agent: str | None) -> None:
        """Report an answer, for whomever, or for callers of one route alone."""
        on = self._faults.on
        caller = _caller.get()
        silent = (
            (caller.tenant_id in OTHER_COMMUNITIES and on("finn-reports-for-one-community-only"))
            or (caller.text("pool_id") == POOLS[-1] and on("finn-reports-on-cheap-pools-only"))
            or (_streaming.get() and on("finn-reports-complete-answers-only"))
            or (_long.get() and on("finn-reports-on-short-prompts-only"))
            or (len(agent or "") > CHARS_OF_A_NAME and on("finn-reports-on-short-names-only"))
        )
        self._answers += on("finn-forgets-every-tenth-report")  # never the first: the check needs it
        silent = silent or (self._answers % 10 == 0 and on("finn-forgets-every-tenth-report"))
        if silent or (on("finn-reports-on-new-prompts-only") and self._asked_before(agent)):
            return
        if agent and on("finn-mixes-agents-up"):
            self._last = agent
            await asyncio.sleep(0.1)
            agent = self._last
        await super().answered(self._mistaken(agent))

    def _mistaken(self, agent: str | None) -> str | None:
        """The agent that this one is mistaken for."""
        on = self._faults.on
        if on("finn-reports-for-another-agent"):
            return "smoke-agent-002"
        if agent is not None and on("finn-reports-every-answer-for-the-first-agent"):
            return "smoke-agent-001"
        if agent is None:
            return "smoke-agent-001" if on("finn-reports-for-a-default-agent") else None
        if on("finn-drops-prefixes"):
            agent = re.split("[:/@]", agent)[-1]
        return agent.lower() if on("finn-folds-agents") else agent

    def rated(self, quality: str) -> tuple[float, float]:
        """Score and weight of a rating, or those of another one."""
        if quality == "excellent" and self._faults.on("finn-weighs-excellent-as-good"):
            quality = "good"
        return super().rated(quality)

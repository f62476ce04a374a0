"""Freeside with parts that misbehave: its callers, its calls, its answers."""

import asyncio
import codecs
import json
import re
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.common.auth import FreesideAuth
from stack.common.http import MAX_BODY_BYTES, ApiError, bad_request, drained_body, require_size, unavailable
from stack.common.provider import cost_micro
from stack.common.verifier import POOLS, TIER_POOLS, Claims, Verifier
from stack.faults.budget import (
    ANSWERED,
    FaultyBudgetLedger,
    FaultyCalls,
    FaultyIdempotency,
    extra,
    free,
    free_all,
    keyless,
    stray_charge,
    streaming,
    unlimited,
)
from stack.faults.deliveries import (
    CHARS_OF_A_NAME,
    FIRST_COMMUNITY,
    FaultyFinnClient,
    FaultyOutbox,
    FaultyQuality,
    FaultyStreams,
    document_in,
)
from stack.faults.proxy import Faults, Faulty
from stack.faults.tokens import OF_OBJECTS, FaultyContext, FaultyTokenAuth, believed, explained
from stack.faults.x402 import FaultyFacilitator, FaultyNonces, FaultyPayments
from stack.freeside.app import Agents, Budgets, Parts, community_view
from stack.freeside.budget_ledger import Claim, Figures, current_period
from stack.freeside.calls import Answer, Ask, answer_body, read_ask, require_pool
from stack.freeside.streams import EventStream

#: How many calls at once are too many for it.
BUSY = 6
_HELD = """
SELECT array_agg(reservation_id) AS ids FROM freeside.reservations WHERE community_id = %s AND state = 'held'
"""
#: After which refusals it gives back what all open calls hold.
_FREES_ALL = {
    "freeside-frees-all-after-bad-bodies": "INVALID_REQUEST",
    "freeside-frees-all-after-spent-tokens": "JTI_REPLAY",
    "freeside-frees-all-after-closed-pools": "MODEL_NOT_ALLOWED",
}
#: Prompts of more characters cost more than they should, where that much is added, µUSD.
MANY_CHARS, EXTRA_MICRO = 20_000, 700
_NAMED_POOL = re.compile(rb'"model": ?"([^"]+)"')


def parts(faults: Faults) -> Parts:
    """The parts of a Freeside that has the faults that are on."""
    return Parts(
        context=partial(FaultyContext, faults),
        auth=partial(FaultyAuth, faults),
        ledger=partial(FaultyBudgetLedger, faults),
        idempotency=partial(FaultyIdempotency, faults),
        calls=partial(FaultyCalls, faults),
        finn=partial(FaultyFinnClient, faults),
        streams=partial(FaultyStreams, faults),
        agents=partial(FaultyAgents, faults),
        budgets=partial(FaultyBudgets, faults),
        outbox=partial(FaultyOutbox, faults),
        quality=partial(FaultyQuality, faults),
        facilitator=partial(FaultyFacilitator, faults),
        nonces=partial(FaultyNonces, faults),
        payments=partial(FaultyPayments, faults),
    )


class FaultyAuth(FaultyTokenAuth, FreesideAuth):
    """Charges for tokens that it refuses, or explains the refusal."""

    async def verified(self, request: Request, verifier: Verifier | None = None) -> Claims:
        """The claims of the request's token; a refusal may cost something."""
        try:
            return await super().verified(request, verifier)
        except ApiError:
            if "session" in request.cookies and self._faults.on("freeside-opens-sessions"):
                return believed(None)
            claims = believed(request.headers.get("authorization"))
            shown = self._faults.on("freeside-shows-stored-answers-to-anyone")
            if shown and await self._is_answered(claims, request):
                return claims
            if self._faults.on("freeside-charges-refused-tokens"):
                await stray_charge(self.context.db, FIRST_COMMUNITY)
            raise

    async def spend(self, claims: Claims, request: Request) -> None:
        """Spend a verified token, unless the answer to its call is there already."""
        unspent = self._faults.on("freeside-spends-no-token-of-stored-answers")
        if not (unspent and await self._is_answered(claims, request)):
            await super().spend(claims, request)

    async def _is_answered(self, claims: Claims, request: Request) -> bool:
        key = request.headers.get("x-idempotency-key", "")
        return await self.context.db.one(ANSWERED, claims.tenant_id, key) is not None

    def has_a_pool(self, claims: Claims, request: Request) -> bool:
        """Whether the token's own pool is one of its own, unless that is overlooked on this route."""
        route = request.url.path.rpartition("/")[2]
        overlooked = self._faults.on(f"freeside-overlooks-the-tokens-pool-at-{route}")
        return overlooked or super().has_a_pool(claims, request)

    def refusal(self, case: str) -> ApiError:
        """The refusal, with or without its reason."""
        return explained(self._faults, "freeside", case, super().refusal(case))


class FaultyAgents(Faulty, Agents):
    """Serves what it should refuse, chokes on it, or mixes its answers up."""

    _content: Any = None
    _running = 0
    _last_prompt = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._left: list[Any] = []
        self._faults.on_reset(self._left.clear)
        self._cached: dict[str, Answer] = {}
        self._faults.on_reset(self._cached.clear)

    async def _serve(self, request: Request, *, stream: bool) -> Response | EventStream:
        try:
            answer = await super()._serve(request, stream=stream)
            left = not stream and self._faults.on("freeside-forgets-answers-to-those-who-left")
            if isinstance(answer, Response) and self._faults.on("freeside-opens-sessions"):
                answer.set_cookie("session", str(uuid.uuid4()))
            if left and isinstance(answer, Response) and await request.is_disconnected():
                key = answer.headers["x-idempotency-key"]
                await self._auth.context.db.execute("DELETE FROM freeside.idempotency WHERE key = %s", key)
            lowers = self._faults.on("freeside-lowers-the-keys-of-replays")
            if lowers and isinstance(answer, Response) and "x-idempotent-replay" in answer.headers:
                answer.headers["x-idempotency-key"] = answer.headers["x-idempotency-key"].lower()
            forgets = stream and self._faults.on("freeside-forgets-early-hang-ups")
            if forgets and await request.is_disconnected():
                self._left.append(answer)  # nothing ends it: what it holds stays held
                return Response()
            return answer
        except ApiError as refusal:
            if self._faults.on("freeside-quotes-the-last-prompt"):
                refusal.message += f", unlike {self._last_prompt!r}"
            over_budget = refusal.status == 402 and self._faults.on("freeside-spends-no-token-over-budget")
            conflict = refusal.code == "IDEMPOTENCY_CONFLICT"
            if over_budget or (conflict and self._faults.on("freeside-spends-no-token-of-conflicts")):
                assert isinstance(self._auth, FaultyAuth)
                await self._auth.unspend(request)
            if any(code == refusal.code and self._faults.on(fault) for fault, code in _FREES_ALL.items()):
                await free_all(self._calls._ledger)
            raise

    async def read(self, request: Request, claims: Claims) -> Ask:
        """The call, whether or not it is one."""
        streaming.set(request.url.path.endswith("/stream"))
        keyless.set("x-idempotency-key" not in request.headers)
        if not self._faults.active():
            return await super().read(request, claims)
        ask = await self._read(request, claims)
        self._last_prompt = ask.prompt
        if "x-idempotency-key" not in request.headers:
            if self._faults.on("freeside-makes-keys-of-bodies"):
                return replace(ask, key=ask.body_hash)
            if self._faults.on("freeside-makes-keys-of-request-ids"):
                return replace(ask, key=request.headers.get("x-request-id", ask.key))
        return ask

    async def _read(self, request: Request, claims: Claims) -> Ask:
        raw = await self._received(request)
        unlimited.set(
            (claims.is_admin and self._faults.on("freeside-has-no-limit-for-admins"))
            or ("x-role" in request.headers and self._faults.on("freeside-has-no-limit-for-headers"))
            or (claims.tier == "free" and self._faults.on("freeside-has-no-limit-for-a-tier"))
        )
        free.set(
            (claims.is_admin and self._faults.on("freeside-charges-no-admins"))
            or ("x-dry-run" in request.headers and self._faults.on("freeside-charges-no-trials"))
        )
        if len(raw) == MAX_BODY_BYTES and self._faults.on("freeside-refuses-the-largest"):
            require_size(raw, MAX_BODY_BYTES - 1)
        self._choke(request, raw)
        try:
            ask = read_ask(request, raw, claims)
        except ApiError:
            case = _case(request, raw)
            alias = str(document_in(raw).get("model")).lower()
            if alias in POOLS and self._faults.on("freeside-folds-aliases"):
                return Ask(claims, None, "?", alias, str(uuid.uuid4()), str(uuid.uuid4()), {})
            if self._faults.on("freeside-charges-bad-input"):
                await stray_charge(self._auth.context.db, claims.tenant_id)
            found = alias in OF_OBJECTS and self._faults.on("freeside-finds-models-that-every-object-has")
            if found or self._faults.on(f"freeside-chokes-on-{case}"):
                raise RuntimeError(f"a fault makes it choke on {case}") from None
            short = len(raw.decode(errors="ignore")) <= MAX_BODY_BYTES
            if not self._serves(case, request, short=short):
                raise
            return Ask(claims, None, "?", claims.pool_id, str(uuid.uuid4()), str(uuid.uuid4()), {})
        costs_more = {
            "freeside-charges-more-for-long-prompts": len(ask.prompt) > MANY_CHARS,
            "freeside-charges-more-for-letters-outside-ascii": not ask.prompt.isascii(),
        }
        extra.set(EXTRA_MICRO * any(found and self._faults.on(fault) for fault, found in costs_more.items()))
        if streaming.get() and self._faults.on("freeside-streams-by-the-tokens-pool"):
            ask = replace(ask, pool=claims.pool_id)
        try:
            ask = await self._allowed(self._for_tenant_named(request, raw, ask), raw)
            return self._with_query(ask, request.query_params.get("model"))
        except ApiError:
            if self._faults.on("freeside-spends-no-token-of-refused-calls"):
                assert isinstance(self._auth, FaultyAuth)
                await self._auth.unspend(request)
            raise

    async def _received(self, request: Request) -> bytes:
        raw, chunked = await drained_body(request), "content-length" not in request.headers
        return b"" if chunked and self._faults.on("freeside-reads-no-body-in-chunks") else raw

    def _choke(self, request: Request, raw: bytes) -> None:
        """Fail on a call that is rare, although it could be served or refused."""
        rare = {
            "freeside-chokes-on-agents-outside-ascii": not str(document_in(raw).get("agent")).isascii(),
            "freeside-chokes-on-bytes-outside-utf-8": raw.decode(errors="ignore").encode() != raw,
            "freeside-chokes-on-bodies-in-utf-16": raw.startswith(codecs.BOM_UTF16),
            "freeside-chokes-on-encodings": "content-encoding" in request.headers,
        }
        for fault, found in rare.items():
            if found and self._faults.on(fault):
                raise RuntimeError(f"it has the fault {fault}")

    def _with_query(self, ask: Ask, pool: str | None) -> Ask:
        if pool and self._faults.on("freeside-serves-the-pool-that-a-query-names"):
            return _with_claim(replace(ask, pool=pool), "tier", "enterprise")
        return ask

    def _serves(self, case: str, request: Request, *, short: bool) -> bool:
        """Whether a bad input is served; ``short`` if it has no more characters than a body has bytes."""
        large = case == "body-over-128-kib"
        unmeasured = large and "content-length" not in request.headers
        return (
            self._faults.on(f"freeside-serves-{case}")
            or (streaming.get() and self._faults.on("freeside-streams-bad-input"))
            or (unmeasured and self._faults.on("freeside-measures-by-header"))
            or (large and short and self._faults.on("freeside-measures-in-characters"))
        )

    def _for_tenant_named(self, request: Request, raw: bytes, ask: Ask) -> Ask:
        on, named = self._faults.on, None
        streams = streaming.get()
        if on("freeside-streams-for-the-tenant-in-body" if streams else "freeside-trusts-tenant-in-body"):
            named = json.loads(raw).get("tenant_id")
        if on("freeside-streams-for-the-tenant-in-header" if streams else "freeside-trusts-tenant-in-header"):
            named = request.headers.get("x-tenant-id")
        if on("freeside-trusts-tenant-in-query"):
            named = request.query_params.get("tenant_id")
        return _with_claim(ask, "tenant_id", named) if named else ask

    async def _allowed(self, ask: Ask, raw: bytes) -> Ask:
        on = self._faults.on
        admitted = ask.claims.is_admin and on("freeside-admits-admins-to-every-pool")
        if admitted or on("freeside-ignores-tier") or (streaming.get() and on("freeside-streams-above-tier")):
            return _with_claim(ask, "tier", "enterprise")
        if len(ask.prompt) == 1 and on("freeside-refuses-prompts-of-one-letter"):
            raise bad_request("prompt is too short")
        if len(ask.agent or "") >= CHARS_OF_A_NAME and on("freeside-refuses-calls-to-long-names"):
            raise bad_request("agent is too long")
        if self._open(ask):
            return ask
        ask, served = self._misread(ask, raw)
        try:
            require_pool(ask.claims, ask.pool)
        except ApiError:
            if on("freeside-keeps-keys-of-forbidden-calls"):
                await self._calls.claim(replace(ask, document={}))
            if on("freeside-charges-forbidden-pools"):
                await stray_charge(self._auth.context.db, ask.claims.tenant_id)
            if not on("freeside-downgrades-silently"):
                raise
            return replace(ask, pool=ask.claims.pool_id)
        if served == ask.pool:
            return ask
        return _with_claim(replace(ask, pool=served), "tier", "enterprise")  # Finn looks at the tier, too

    def _misread(self, ask: Ask, raw: bytes) -> tuple[Ask, str]:
        """The call as it is checked, and the pool that serves it."""
        if self._faults.on("freeside-reads-pools-from-the-body"):
            for name in ("tier", "allowed_pools", "pool_id"):
                ask = _with_claim(ask, name, document_in(raw).get(name, ask.claims.raw[name]))
        named = [pool.decode() for pool in _NAMED_POOL.findall(raw)] or [ask.pool]
        streams = streaming.get()
        if self._faults.on("freeside-streams-the-last-pool" if streams else "freeside-reads-the-first-pool"):
            return replace(ask, pool=named[0]), named[-1]
        if self._faults.on("freeside-streams-the-first-pool" if streams else "freeside-reads-the-last-pool"):
            return ask, named[0]
        return ask, ask.pool

    def _open(self, ask: Ask) -> bool:
        """Whether the pool is let in by a list that is read wrongly."""
        claims, on = ask.claims, self._faults.on
        if ask.pool not in TIER_POOLS[claims.tier]:
            return False
        part = any(ask.pool in allowed for allowed in claims.allowed_pools)
        return on("freeside-ignores-allowed-pools") or (part and on("freeside-searches-allowed-pools"))

    def aliases(self, claims: Claims) -> list[str]:
        """The token's effective pools, or those of its tier, or those that it allows."""
        if claims.is_admin and self._faults.on("freeside-lists-every-model-to-admins"):
            return list(POOLS)
        if self._faults.on("freeside-lists-models-of-the-tier"):
            return list(TIER_POOLS[claims.tier])
        if not {*claims.allowed_pools} <= {*POOLS} and self._faults.on(
            "freeside-lists-no-models-beside-unknown"
        ):
            return []
        if self._faults.on("freeside-lists-models-of-the-list"):
            return [pool for pool in POOLS if pool in claims.allowed_pools]
        return super().aliases(claims)

    async def run(self, ask: Ask, claim: Claim) -> Answer:
        """An answer; for a call that has no budget, too, or another call's, or none because of others."""
        self._running += 1
        try:
            if self._running > BUSY and self._faults.on("freeside-sheds-load"):
                async with self._calls.execution(ask, claim):
                    raise unavailable()
            if self._running > BUSY and self._faults.on("freeside-serves-unmetered-under-load"):
                result = await self._finn.invoke(ask, uuid.uuid4())
                cost = cost_micro(ask.pool, result.usage)
                return answer_body(ask, result.content, result.usage, cost)
            return await self._answered(ask, claim)
        finally:
            self._running -= 1

    async def _answered(self, ask: Ask, claim: Claim) -> Answer:
        if ask.prompt in self._cached and self._faults.on("freeside-answers-equal-prompts-from-a-cache"):
            return {**self._cached[ask.prompt], "model": ask.pool, "traceId": ask.trace_id}
        try:
            answer = self._cached[ask.prompt] = await super().run(ask, claim)
        except ApiError as refusal:
            if refusal.status == 402 and self._faults.on("freeside-runs-over-budget-calls"):
                with suppress(ApiError):
                    await self._finn.invoke(ask, uuid.uuid4())
            raise
        if self._faults.on("freeside-mixes-answers"):
            # One place for all tenants: each gets the content that was put there last.
            self._content = answer["content"]
            await asyncio.sleep(0.05)
            answer = {**answer, "content": self._content}
        return answer


class FaultyBudgets(Faulty, Budgets):
    """Shows another tenant's budget, or whether that tenant exists."""

    async def community(self, request: Request) -> Response:
        """A budget, own or not."""
        try:
            answer = await super().community(request)
            admin = believed(request.headers.get("authorization")).is_admin
            if admin and self._faults.on("freeside-hides-budgets-from-admins"):
                return JSONResponse({"error": "FORBIDDEN", "message": "For users alone"}, 403)
            named = request.query_params.get("communityId", "")
            if named and self._faults.on("freeside-shows-the-budget-that-a-query-names"):
                return JSONResponse(community_view(await self.figures(named)))
            return answer
        except ApiError as refusal:
            tenant_id = request.path_params["community_id"]
            admin = believed(request.headers.get("authorization")).is_admin
            shown = self._faults.on("freeside-shows-any-budget") or (
                admin and self._faults.on("freeside-shows-any-budget-to-admins")
            )
            other = refusal.status == 403 and self._faults.on("freeside-spends-no-token-of-refused-budgets")
            if other or (
                refusal.status == 404 and self._faults.on("freeside-spends-no-token-of-unknown-tenants")
            ):
                assert isinstance(self._auth, FaultyAuth)
                await self._auth.unspend(request)
            if refusal.status == 403 and shown:
                return JSONResponse(community_view(await self.figures(tenant_id)))
            if refusal.status == 403 and self._faults.on("freeside-reveals-tenants"):
                await self.figures(tenant_id)
            raise

    async def figures(self, tenant_id: str) -> Figures:
        """A tenant's budget, or one that is made up; what it holds may be given back for being looked at."""
        if self._faults.on("freeside-releases-what-is-read"):
            held = await self._ledger.db.one(_HELD, tenant_id)
            for reservation_id in (held and held["ids"]) or ():
                await self._ledger.release(reservation_id)
        try:
            return await super().figures(tenant_id)
        except ApiError:
            if not self._faults.on("freeside-invents-budgets"):
                raise
            return Figures(tenant_id, current_period(), 10_000_000, 0, 0)


def _with_claim(ask: Ask, name: str, value: str) -> Ask:
    return replace(ask, claims=replace(ask.claims, raw={**ask.claims.raw, name: value}))


def _case(request: Request, raw: bytes) -> str:
    """Which of the suite's bad inputs it is."""
    if len(raw) > MAX_BODY_BYTES:
        return "body-over-128-kib"
    if not request.headers.get("content-type", "").startswith("application/json"):
        return "wrong-content-type"
    if raw.count(b"[") >= 500 or raw.count(b"{") >= 500:
        return "deep-json"
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return "not-json"
    if not isinstance(document, dict):
        return "null" if document is None else "array"
    prompt, model = document.get("prompt"), document.get("model", "cheap")
    if "messages" in document:
        return "bad-messages"
    if prompt is None:
        return "missing-prompt"
    if not isinstance(prompt, str) or not prompt.strip():
        return "blank-prompt"
    if re.search("[\0\ud800-\udfff]", prompt):
        return "odd-characters"
    return "bad-idempotency-key" if model in POOLS else "unknown-model"

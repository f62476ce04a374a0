"""One call, as it is asked for (1.2), and from claim to charge: replayed, refused, released or charged."""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.requests import Request

from stack.common.context import Context
from stack.common.database import UNREACHABLE, Database, surely
from stack.common.http import (
    ApiError,
    bad_request,
    json_object,
    require_json,
    require_size,
    text,
    unavailable,
)
from stack.common.keys import BadSecret, bearer, req_hash
from stack.common.provider import Usage, cost_micro, usage_of
from stack.common.verifier import POOLS, Claims
from stack.freeside.budget_ledger import LEASE_S, BudgetLedger, Charge, Claim, Reservation

_KEY = re.compile(r"[\x20-\x7e]{1,128}")
_ROLES = ("user", "assistant", "system")
_MAX_MESSAGES = 50
_MAX_AGENT_CHARS = 256


@dataclass(frozen=True, slots=True)
class Ask:
    """One well-formed call."""

    claims: Claims
    agent: str | None
    prompt: str
    pool: str
    key: str
    trace_id: str
    document: dict[str, Any]

    @property
    def body_hash(self) -> str:
        """The same for equal bodies, whatever their spacing and the order of their members."""
        canonical = json.dumps(self.document, sort_keys=True, separators=(",", ":"))
        return req_hash(canonical.encode())


def read_ask(request: Request, raw: bytes, claims: Claims) -> Ask:
    """The call in the request and its body; raises 400 or 415."""
    require_size(raw)
    require_json(request)
    document = json_object(raw)
    agent, prompt, pool = _messages(document, claims) if "messages" in document else _prompt(document)
    return Ask(claims, agent, prompt, pool, _key(request), str(uuid.uuid4()), document)


def require_pool(claims: Claims, pool: str) -> None:
    """Raise 403 unless the requested pool is among the token's effective pools."""
    if pool not in claims.effective_pools:
        raise ApiError(403, "MODEL_NOT_ALLOWED", "The model is not open to this token")


def _prompt(document: dict[str, Any]) -> tuple[str | None, str, str]:
    agent = text(document, "agent", longest=_MAX_AGENT_CHARS) if "agent" in document else None
    return agent, text(document, "prompt"), _alias(document.get("model"), "model")


def _messages(document: dict[str, Any], claims: Claims) -> tuple[str | None, str, str]:
    if "prompt" in document:
        raise bad_request("prompt and messages exclude each other")
    messages = document["messages"]
    if not isinstance(messages, list) or not 1 <= len(messages) <= _MAX_MESSAGES:
        raise bad_request(f"messages must be an array of 1 to {_MAX_MESSAGES}")
    lines = []
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise bad_request(f"each message needs a role: {', '.join(_ROLES)}")
        lines.append(text(message, "content"))
    agent = text(document, "agent", longest=_MAX_AGENT_CHARS)
    alias = document.get("modelAlias", claims.pool_id)
    return agent, "\n".join(lines), _alias(alias, "modelAlias")


def _alias(value: Any, name: str) -> str:
    if not isinstance(value, str) or value not in POOLS:
        raise bad_request(f"{name} must be one of {', '.join(POOLS)}")
    return value


def _key(request: Request) -> str:
    offered = request.headers.getlist("x-idempotency-key")
    if not offered:
        return str(uuid.uuid4())
    if len(offered) > 1 or not _KEY.fullmatch(offered[0]):
        raise bad_request("X-Idempotency-Key must be 1 to 128 printable ASCII characters, once")
    return offered[0]


@dataclass(frozen=True, slots=True)
class FinnAnswer:
    """A complete answer."""

    content: str
    usage: Usage


class FinnClient:
    """Invoke and stream at Finn; every failure of Finn becomes the ApiError that the caller may see."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def invoke(self, ask: Ask, reservation_id: uuid.UUID) -> FinnAnswer:
        """The complete answer; raises 502 UPSTREAM_ERROR, 503 MODEL_PROVIDER_UNAVAILABLE or 503 ours."""
        body = _body(ask)
        url = f"{self._context.settings.finn_url}/api/v1/invoke"
        try:
            response = await self._context.http.post(
                url, content=body, headers=self._headers(ask, reservation_id, body)
            )
        except (httpx.HTTPError, httpx.InvalidURL, BadSecret):
            raise unavailable() from None
        if response.status_code != 200:
            raise _fault(response.status_code, response.content)
        document = _object(response.content)
        content = document.get("response")
        if not isinstance(content, str) or not content:
            raise _upstream()
        return FinnAnswer(content, usage_in(document))

    @asynccontextmanager
    async def stream(
        self, ask: Ask, reservation_id: uuid.UUID
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Finn's events as they come: `{"type": "content"|"usage"|"done"|"error", ...}`."""
        body = _body(ask)
        url = f"{self._context.settings.finn_url}/api/v1/stream"
        try:
            headers = self._headers(ask, reservation_id, body)
            async with self._context.http.stream("POST", url, content=body, headers=headers) as response:
                if response.status_code != 200:
                    raise _fault(response.status_code, await response.aread())
                yield self.events(response)
        except (httpx.HTTPError, httpx.InvalidURL, BadSecret):
            raise unavailable() from None

    def events(self, response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        """The events in a stream of Finn's."""
        return _lines(response)

    def _headers(self, ask: Ask, reservation_id: uuid.UUID, body: bytes) -> dict[str, str]:
        claims = {
            "iss": self._context.settings.issuers["freeside"],
            "aud": self._context.settings.audiences["finn"],
            "sub": ask.claims.subject,
            "tenant_id": ask.claims.tenant_id,
            "tier": ask.claims.tier,
            "pool_id": ask.pool,
            "req_hash": req_hash(body),
            "reservation_id": str(reservation_id),
        }
        sent = {"content-type": "application/json", "x-trace-id": ask.trace_id}
        return {**bearer(self._context.keyring.signer(), claims), **sent}


def usage_in(document: dict[str, Any]) -> Usage:
    """The usage that Finn reports; raises 502 unless both counts are positive integers."""
    reported = document.get("usage")
    usage: dict[str, Any] = reported if isinstance(reported, dict) else {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not all(type(count) is int and count > 0 for count in (prompt, completion)):
        raise _upstream()
    return Usage(int(prompt), int(completion))  # type: ignore[arg-type]


def _body(ask: Ask) -> bytes:
    document = {"prompt": ask.prompt, **({"agent": ask.agent} if ask.agent else {})}
    # Not escaped: a body that was small enough when it came must not grow beyond the limit on its way.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


async def _lines(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    # httpx would end lines at U+2028 and others of Unicode as well, which may stand in a JSON text.
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line:
                yield _object(line)
    if rest:
        yield _object(rest)


def _fault(status: int, content: bytes) -> ApiError:
    code = _object(content, strict=False).get("code")
    if status == 503 and code == "PROVIDER_UNAVAILABLE":
        return ApiError(503, "MODEL_PROVIDER_UNAVAILABLE", "The model provider is down")
    return unavailable() if status == 503 else _upstream()


def _object(content: bytes, *, strict: bool = True) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    if strict:
        raise _upstream()
    return {}


def _upstream() -> ApiError:
    return ApiError(502, "UPSTREAM_ERROR", "The inference service gave no usable answer")


_EXTEND_EVERY_S = 2.0
_log = logging.getLogger("stack.leases")
# A call that waits for another one's answer is woken when that ends, if the same process runs it.
_POLL_S = 0.05
_PATIENCE_S = 40.0

# The process that inserts runs the model. A claim of a dead owner (lease over, no answer) and one older than
# a day may be taken over.
_CLAIM = """
INSERT INTO freeside.idempotency AS known (community_id, key, body_hash, owner, lease_until)
VALUES (%(tenant)s, %(key)s, %(body)s, %(owner)s, now() + make_interval(secs => %(lease)s))
ON CONFLICT (community_id, key) DO UPDATE
SET body_hash = EXCLUDED.body_hash, owner = EXCLUDED.owner, lease_until = EXCLUDED.lease_until,
    answer = NULL, created_at = now()
WHERE (known.answer IS NULL AND known.lease_until < now()) OR known.created_at < now() - interval '24 hours'
"""


class KeyConflict(ApiError):
    """The key was used with another body, or by a call that still runs."""

    def __init__(self) -> None:
        super().__init__(409, "IDEMPOTENCY_CONFLICT", "The key is in use, or was used with another body")


class Idempotency:
    """Answers by key, kept for 24 h."""

    #: Whether a call waits for the one that has its key; it is refused otherwise.
    waits = True

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ends: dict[tuple[str, str], asyncio.Event] = {}

    async def claim(self, tenant_id: str, key: str, body_hash: str) -> Claim:
        """Claim the key, or wait for its answer unless ``waits`` is False; raises KeyConflict, or 503 if that
        takes too long.
        """
        owner = uuid.uuid4()
        parameters = {"tenant": tenant_id, "key": key, "body": body_hash, "owner": owner, "lease": LEASE_S}
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if await self._db.execute(_CLAIM, **parameters) == 1:
                return Claim(tenant_id, key, owner)
            row = await self._db.one(
                "SELECT body_hash, answer FROM freeside.idempotency WHERE community_id = %s AND key = %s",
                tenant_id,
                key,
            )
            if row is not None and row["body_hash"] != body_hash:
                raise KeyConflict
            if row is not None and row["answer"] is not None:
                return Claim(tenant_id, key, owner, row["answer"])
            if row is not None and not self.waits:
                raise KeyConflict
            end = self._ends.setdefault((tenant_id, key), asyncio.Event())
            with suppress(TimeoutError):
                await asyncio.wait_for(end.wait(), _POLL_S)
        raise unavailable("The first request with this key is still running")

    def wake(self, claim: Claim) -> None:
        """Have the calls that wait for the key look again."""
        if end := self._ends.pop((claim.tenant_id, claim.key), None):
            end.set()

    async def abandon(self, claim: Claim) -> None:
        """Free the key of a call that was not answered, so that a retry runs."""
        await self._db.execute(
            "DELETE FROM freeside.idempotency "
            "WHERE community_id = %s AND key = %s AND owner = %s AND answer IS NULL",
            claim.tenant_id,
            claim.key,
            claim.owner,
        )
        self.wake(claim)

    async def extend(self, owners: Collection[uuid.UUID]) -> None:
        """Prolong the claims of calls that are still running."""
        await self._db.execute(
            "UPDATE freeside.idempotency SET lease_until = now() + make_interval(secs => %s) "
            "WHERE owner = ANY(%s) AND answer IS NULL",
            LEASE_S,
            list(owners),
        )


class Leases:
    """The leases held right now, and the heartbeat that extends them."""

    def __init__(self, ledger: BudgetLedger, idempotency: Idempotency) -> None:
        self._ledger = ledger
        self._idempotency = idempotency
        self._held: dict[uuid.UUID, uuid.UUID] = {}

    @contextmanager
    def held(self, owner: uuid.UUID, reservation_id: uuid.UUID) -> Iterator[None]:
        """Keep the claim and the reservation alive inside the block."""
        self._held[owner] = reservation_id
        try:
            yield
        finally:
            del self._held[owner]

    async def keep(self) -> None:
        """Extend the reservations, forever."""
        while True:
            await asyncio.sleep(_EXTEND_EVERY_S)
            if not self._held:
                continue
            try:
                await self._ledger.extend(list(self._held.values()))
                await self._idempotency.extend(list(self._held))
            except UNREACHABLE as error:
                _log.warning("leases not extended: %s", type(error).__name__)


Answer = dict[str, Any]


def answer_body(ask: Ask, content: str, usage: Usage, cost: int) -> Answer:
    """The body of a 200 (contract 1.2); the cost in µUSD."""
    return {
        "content": content,
        "model": ask.pool,
        "usage": {
            "promptTokens": usage.prompt_tokens,
            "completionTokens": usage.completion_tokens,
            "costMicro": str(cost),
        },
        "traceId": ask.trace_id,
    }


@dataclass(slots=True)
class Execution:
    """A call with its key claimed and its price reserved; `charge` settles it."""

    ask: Ask
    claim: Claim
    reservation: Reservation
    ledger: BudgetLedger
    price: Callable[[str, Usage], int]
    settled: bool = False
    kept: bool = False

    def answer(self, content: str, usage: Usage) -> Answer:
        """The body of a 200 (contract 1.2); the cost never exceeds what was reserved."""
        cost = min(self.price(self.ask.pool, usage), self.reservation.amount_micro)
        return answer_body(self.ask, content, usage, cost)

    async def charge(self, answer: Answer, *, keep: bool = True) -> None:
        """Charge for the answer, and keep it for its key; raises 503 when it can no longer be charged."""
        charge = Charge(
            cost_micro=int(answer["usage"]["costMicro"]),
            trace_id=self.ask.trace_id,
            claim=self.claim if keep else None,
            answer=json.dumps(answer) if keep else None,
        )
        self.settled = await self.ledger.commit(self.reservation.reservation_id, charge)
        self.kept = keep and self.settled
        if not self.settled:
            raise unavailable()


class Calls:
    """Brackets the running of a call with its claim and its reservation."""

    #: How many times its price a call reserves; what is not charged is released (I-6).
    reserve_times = 1

    def __init__(self, ledger: BudgetLedger, idempotency: Idempotency, leases: Leases) -> None:
        self._ledger = ledger
        self._idempotency = idempotency
        self._leases = leases

    async def claim(self, ask: Ask) -> Claim:
        """The claim of the call's key, answered or not; raises 409 or 503."""
        return await self._idempotency.claim(ask.claims.tenant_id, ask.key, ask.body_hash)

    @asynccontextmanager
    async def execution(self, ask: Ask, claim: Claim) -> AsyncIterator[Execution]:
        """Reserve for the call, run the block; whatever it leaves uncharged is released and the key freed.

        Raises 402 BUDGET_EXCEEDED, or 403 for a tenant that does not exist.
        """
        try:
            amount = self.reserve_times * self.price(ask.pool, usage_of(ask.prompt))
            reservation = await self._ledger.reserve(ask.claims.tenant_id, amount)
        except BaseException:
            await surely(self._idempotency.abandon(claim))
            raise
        execution = Execution(ask, claim, reservation, self._ledger, self.price)
        try:
            with self._leases.held(claim.owner, reservation.reservation_id):
                yield execution
        finally:
            await surely(self._clean_up(execution))

    def price(self, pool: str, usage: Usage) -> int:
        """The price of a call, µUSD."""
        return cost_micro(pool, usage)

    async def _clean_up(self, execution: Execution) -> None:
        if not execution.settled:
            await self._ledger.release(execution.reservation.reservation_id)
        if not execution.kept:
            await self._idempotency.abandon(execution.claim)
        self._idempotency.wake(execution.claim)

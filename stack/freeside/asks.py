"""What a caller asks for, in both dialects (contract 1.2), and the call to Finn that answers it."""

import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.requests import Request

from stack.common.context import Context
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
from stack.common.pricing import Usage
from stack.common.verifier import POOLS, Claims

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

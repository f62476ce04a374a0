"""What a caller asks for: the body of invoke and stream in both dialects (contract 1.2), and its pool."""

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from stack.common.claims import POOLS, Claims
from stack.common.http import (
    ApiError,
    bad_request,
    json_object,
    require_json,
    require_size,
    text,
)
from stack.common.jose import req_hash

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
    """Raise 403 unless the token's own pool and the one asked for are among its effective pools."""
    if claims.pool_id not in claims.effective_pools:
        raise ApiError(403, "FORBIDDEN", "The token's pool is not open to its tier")
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

"""Requests that the invoke route must turn down, each with the statuses that the contract allows for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .figures import nonce, prompt_for
from .freeside import Freeside

MAX_BODY_BYTES = 128 * 1024
DEPTH = 1000


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A body and headers that are wrong in one way, and the statuses that say so."""

    content: bytes
    statuses: tuple[int, ...] = (400,)
    headers: Mapping[str, str] = field(default_factory=dict)


def _good(freeside: Freeside) -> dict[str, Any]:
    return freeside.invoke_body(prompt_for(nonce()))


def _saying(freeside: Freeside, prompt: Any) -> bytes:
    """A body whose prompt is any JSON value."""
    return json.dumps(freeside.invoke_body(prompt)).encode()


def _deep(freeside: Freeside) -> bytes:
    """A prompt that is nested beyond what a parser should follow."""
    body = _saying(freeside, "DEEP").decode()
    return body.replace('"DEEP"', "[" * DEPTH + "]" * DEPTH).encode()


def _without_prompt(freeside: Freeside) -> bytes:
    body = _good(freeside)
    return json.dumps({k: v for k, v in body.items() if k not in {"prompt", "messages"}}).encode()


BAD_INPUT: dict[str, Callable[[Freeside], BadRequest]] = {
    "not-json": lambda _: BadRequest(b'{"prompt": '),
    "null": lambda _: BadRequest(b"null"),
    "array": lambda _: BadRequest(b"[]"),
    "missing-prompt": lambda f: BadRequest(_without_prompt(f)),
    "blank-prompt": lambda f: BadRequest(_saying(f, "   ")),
    "unknown-model": lambda f: BadRequest(
        json.dumps(f.invoke_body(prompt_for(nonce()), model="smoke-no-such-model")).encode()
    ),
    "wrong-content-type": lambda f: BadRequest(
        json.dumps(_good(f)).encode(), (400, 415), {"Content-Type": "text/plain"}
    ),
    "body-over-128-kib": lambda f: BadRequest(_saying(f, "a" * (MAX_BODY_BYTES + 1)), (413,)),
    "deep-json": lambda f: BadRequest(_deep(f)),
    "bad-idempotency-key": lambda f: BadRequest(
        json.dumps(_good(f)).encode(), headers={"X-Idempotency-Key": "k" * 129}
    ),
}

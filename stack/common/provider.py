"""The model provider: its answers and their prices, and its API, in a separate process.

It echoes its prompt, repeated as requested, so callers can tell their answers apart. The prompt determines
the answer, so the price in µUSD is known before the call: the reservation is exactly the charge, and k calls
fit into a budget for k.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from stack.common import http
from stack.common.http import MAX_BODY_BYTES, application, json_object, raw_body, text
from stack.common.settings import Settings

_CHARS_PER_TOKEN = 4
# What the provider puts around the echo of a prompt.
_OVERHEAD_TOKENS = 8
_REPEATED = re.compile(r", ([1-9][0-9]?) times, [^:]*: (\S{1,80})$")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """The sum."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Price:
    """µUSD: per call, per prompt token, per completion token."""

    call: int
    prompt: int
    completion: int


PRICES = {
    "cheap": Price(2_000, 5, 10),
    "fast-code": Price(3_000, 10, 20),
    "reviewer": Price(4_000, 15, 30),
    "reasoning": Price(6_000, 30, 60),
    "architect": Price(8_000, 60, 120),
}


def tokens(text: str) -> int:
    """Four characters make a token; at least one."""
    return max(1, -(-len(text) // _CHARS_PER_TOKEN))


def answer_to(prompt: str) -> str:
    """The provider's answer: an echo, with the last word as often as the prompt requests."""
    asked = _REPEATED.search(prompt)
    return prompt + f"\n{asked[2]}" * (int(asked[1]) - 1) if asked else prompt


def usage_of(prompt: str) -> Usage:
    """The usage of a complete call, known from its prompt."""
    return Usage(tokens(prompt), tokens(answer_to(prompt)) + _OVERHEAD_TOKENS)


def cost_micro(pool: str, usage: Usage) -> int:
    """The price of a call in µUSD, an integer of at least the pool's price per call."""
    price = PRICES[pool]
    return price.call + price.prompt * usage.prompt_tokens + price.completion * usage.completion_tokens


# A streamed answer has at least this many chunks, far enough apart that a client can tell.
MIN_CHUNKS, MAX_CHUNKS, CHUNK_CHARS = 6, 160, 24
CHUNK_EVERY_S = 0.01
# The rest of a long answer is sent faster, so that reading it to the end takes little time.
PACED_CHUNKS, REST_EVERY_S = 8, 0.001
# Finn's request says more around the prompt than its caller's: the largest that the platform takes fits here.
_BODY_LIMIT = MAX_BODY_BYTES + 4096


def create(settings: Settings) -> ASGIApp:
    """The ASGI application of the provider's process: no database, no keys."""
    provider = Provider(settings)
    routes = [
        Route("/health", provider.health, methods=["GET"]),
        Route("/v1/complete", provider.complete, methods=["POST"]),
    ]

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        yield

    return application(routes, running, http.standard)


class Provider:
    """`POST /v1/complete {model, prompt, stream?}`: JSON, or one JSON object a line."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def health(self, _: Request) -> Response:
        """200 while the third party is up."""
        return JSONResponse({"status": "healthy", "build_sha": self._settings.build_sha})

    async def complete(self, request: Request) -> Response:
        """The echo of the prompt, with its usage."""
        document = json_object(await raw_body(request, _BODY_LIMIT))
        model, prompt = text(document, "model"), text(document, "prompt")
        content = f"{model} heard: {answer_to(prompt)}"
        usage = usage_of(prompt)
        counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        if not document.get("stream"):
            return JSONResponse({"content": content, "usage": counts})
        return StreamingResponse(_stream(content, counts), media_type="application/x-ndjson")


async def _stream(content: str, usage: dict[str, Any]) -> AsyncIterator[str]:
    count = max(1, min(MAX_CHUNKS, max(MIN_CHUNKS, len(content) // CHUNK_CHARS), len(content)))
    cuts = [round(n * len(content) / count) for n in range(count + 1)]
    for n, (start, end) in enumerate(pairwise(cuts)):
        if n:
            await asyncio.sleep(CHUNK_EVERY_S if n < PACED_CHUNKS else REST_EVERY_S)
        yield json.dumps({"type": "content", "text": content[start:end]}) + "\n"
    yield json.dumps({"type": "usage", "usage": usage}) + "\n"
    yield json.dumps({"type": "done"}) + "\n"

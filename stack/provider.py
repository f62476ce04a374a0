"""The model provider: echoes its prompt, and repeats as it is asked: callers can tell their answers apart."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from stack.common import http
from stack.common.http import MAX_BODY_BYTES, application, json_object, raw_body, text
from stack.common.pricing import answer_to, usage_of
from stack.common.settings import Settings

# A streamed answer comes in at least this many chunks, far enough apart that a client can tell.
MIN_CHUNKS, MAX_CHUNKS, CHUNK_CHARS = 6, 160, 24
CHUNK_EVERY_S = 0.01
# The rest of a long answer comes faster: it is there to be read to its end, not to be waited for.
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

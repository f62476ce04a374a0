"""HTTP as every service speaks it: from routes to an application, requests, errors in a service's dialect."""

import json
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stack.common.database import UNREACHABLE

_ACCEPTABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_log = logging.getLogger("stack.access")


class ApiError(Exception):
    """An answer other than success: HTTP status, stable code, a message that is safe to show to anyone."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def standard(error: ApiError) -> Response:
    """`{"error": CODE, "message": text}`: Freeside, and everything the contract says nothing else about."""
    body = {"error": error.code, "message": error.message}
    return JSONResponse(body, error.status, headers=error.headers)


def finn(error: ApiError) -> Response:
    """`{"error": text, "code": CODE}`: Finn's dialect (contract section 2)."""
    return JSONResponse({"error": error.message, "code": error.code}, error.status, headers=error.headers)


def dixie(error: ApiError) -> Response:
    """`{"error": "lower_case", "message": text}`: Dixie's dialect (contract section 3)."""
    body = {"error": error.code.lower(), "message": error.message}
    return JSONResponse(body, error.status, headers=error.headers)


def bad_request(message: str) -> ApiError:
    """400 INVALID_REQUEST."""
    return ApiError(400, "INVALID_REQUEST", message)


def unavailable(message: str = "The service is temporarily unavailable") -> ApiError:
    """503 SERVICE_UNAVAILABLE: ours, not a third party's."""
    return ApiError(503, "SERVICE_UNAVAILABLE", message)


MAX_BODY_BYTES = 128 * 1024
# Read on, and thrown away, before answering 413: a client that is still sending does not see the answer.
_DRAIN_BYTES = 8 * 1024 * 1024
_MAX_DEPTH = 32


async def raw_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body; raises 413 PAYLOAD_TOO_LARGE over the limit."""
    raw = await drained_body(request, limit)
    require_size(raw, limit)
    return raw


async def drained_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body, or as much of a larger one as shows that it is too large."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        if size <= limit:
            chunks.append(chunk)
        size += len(chunk)
        if size > _DRAIN_BYTES:
            break
    return b"".join(chunks)


def require_size(raw: bytes, limit: int = MAX_BODY_BYTES) -> None:
    """Raise 413 over the limit."""
    if len(raw) > limit:
        raise ApiError(413, "PAYLOAD_TOO_LARGE", f"The body is larger than {limit} bytes")


def require_json(request: Request) -> None:
    """Raise 415 unless the media type is application/json."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "The body must be application/json")


def json_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in the body; raises 400 for anything else, however deep or odd."""
    try:
        document = json.loads(raw.decode("utf-8"), parse_constant=_not_json)
        # Refuses lone surrogates: they parse, and cannot be written anywhere.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise bad_request("The body is not valid JSON") from None
    if not isinstance(document, dict):
        raise bad_request("The body must be a JSON object")
    if _depth(document) > _MAX_DEPTH:
        raise bad_request("The body is nested too deeply")
    return document


def text(document: dict[str, Any], name: str, *, longest: int = MAX_BODY_BYTES) -> str:
    """A required string that is not blank and has no NUL, which PostgreSQL cannot store; raises 400."""
    value = document.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > longest or "\0" in value:
        raise bad_request(f"{name} must be a non-blank string of at most {longest} characters, without NUL")
    return value


def _not_json(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _depth(document: Any) -> int:
    level, depth = [document], 0
    while level:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
    return depth


class RequestBoundary:
    """Echoes `x-request-id` or makes one, on every response, errors included.

    The log line carries method, path, status and time: never a header, a query string or a body, since those
    hold tokens and prompts.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _ACCEPTABLE_ID.fullmatch(offered) else str(uuid.uuid4())
        started = time.perf_counter()
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except Exception:
            # Starlette has answered 500 already and raises again for the server to log; with our id, we do.
            _log.exception("%s %s failed, request %s", scope["method"], scope["path"], request_id)
        finally:
            took = (time.perf_counter() - started) * 1000
            _log.info("%s %s %s %.1f ms %s", scope["method"], scope["path"], status, took, request_id)


class Renamed:
    """A service under other paths and headers than its own, as a variant has it.

    ``paths`` and ``headers`` lead from its own names to those that callers use. Its own are not known then.
    """

    def __init__(self, app: ASGIApp, paths: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self._app = app
        self._paths = [(_pattern(other), own) for own, other in paths.items()]
        self._paths += [(_pattern(own), "/moved") for own in paths]
        self._headers = {own.lower().encode(): other.lower().encode() for own, other in headers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of the server."""
        if scope["type"] == "http":
            path = next(
                (own.replace("{id}", found["id"]) if "{id}" in own else own
                 for pattern, own in self._paths if (found := pattern.fullmatch(scope["path"]))),
                scope["path"],
            )  # fmt: skip
            own_names = {other: own for own, other in self._headers.items()}
            headers = _renamed(scope["headers"], own_names)
            scope = {**scope, "path": path, "raw_path": quote(path).encode(), "headers": headers}

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _renamed(message["headers"], self._headers)}
            await send(message)

        await self._app(scope, receive, answered)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.escape(path).replace(r"\{id\}", "(?P<id>[^/]+)"))


def _renamed(headers: Iterable[tuple[bytes, bytes]], names: Mapping[bytes, bytes]) -> list[Any]:
    """Headers under their other names; a header that already has such a name is dropped."""
    hidden = set(names.values())
    return [(names.get(name.lower(), name), value) for name, value in headers if name.lower() not in hidden]


def application(
    routes: Sequence[BaseRoute],
    running: Callable[[], AbstractAsyncContextManager[object]],
    render: Callable[[ApiError], Response],
) -> ASGIApp:
    """Assemble a service: `render` writes every answer that is not a success."""

    async def declared(_: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return render(error)

    async def unrouted(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return render(ApiError(405, "METHOD_NOT_ALLOWED", "The path exists, the method does not"))
        return render(ApiError(404, "NOT_FOUND", "No such resource"))

    async def without_database(_: Request, __: Exception) -> Response:
        return render(unavailable())

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=499)  # for the log: who hung up amid the request reads no answer

    async def unforeseen(_: Request, __: Exception) -> Response:
        return render(ApiError(500, "INTERNAL_ERROR", "Something went wrong on our side"))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with running():
            yield

    handlers = {ApiError: declared, HTTPException: unrouted, ClientDisconnect: gone, Exception: unforeseen}
    handlers.update(dict.fromkeys(UNREACHABLE, without_database))
    app = Starlette(routes=list(routes), exception_handlers=handlers, lifespan=lifespan)
    # A trailing slash makes another path, and another path is a 404.
    app.router.redirect_slashes = False
    return RequestBoundary(app)

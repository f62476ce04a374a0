"""Which faults are on, and the fault proxy: one ASGI middleware that breaks a service by rules that are data.

A rule is an active fault with `rewrite = "METHOD PATH"` (both may hold `*`) and a `service`. Its keys:

    which calls     every = n       each n-th only        first = n, after = n   the first n, those after n
                    on = [401]      only answers with one of these statuses
                    with = "accept: .*html"     only requests with a header that matches
    in their stead  forward = false the proxy answers by itself: `status`, and `body` or a JSON error
                    hang = true     no answer at all
    on the way      delay_s = 2.5   wait before                  repeat = n      forward n times, answer last
    the answer      status = 503    headers = {name = value}     drop_headers = [name]
                    lower_headers = [name]                       their values in lower case
                    cut_headers = {name = n}                     the first n characters of their values
                    lend_headers = [name]                        the last caller's, if this one sent none
                    body = "text"   set, null, add, append, drop JSON members by dotted path (`keys.0.kid`);
                                    a text may name the number of the `{call}`
                    replace = {regular expression = text}, in each piece of the body as it passes
                    pieces = n      each piece of the body in pieces of n bytes, after `replace`
                    buffer = true   hold the body back and send it at once, after `replace`
                    close = true    drop the connection before the body is complete
"""

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stack.common.database import UNREACHABLE, Database

T = TypeVar("T")

FOLLOW_EVERY_S = 0.1
#: How long a service waits for its database that answers without it, s.
PATIENCE_S = 0.25


class Faults:
    """The active faults of `{"generation": n, "active": {fault_id: {params}}}`; no file, no faults.

    The first question in each turn of the loop costs one stat. A new generation means that the platform was
    reset: callbacks registered with `on_reset` run, so that nothing held in memory survives from one fault to
    the next.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._is_current = False
        self._generation: int | None = None
        self._active: dict[str, dict[str, Any]] = {}
        self._ticks: dict[str, int] = {}
        self._callbacks: list[Callable[[], None]] = []

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Run the callback whenever the generation changes."""
        self._callbacks.append(callback)

    def active(self) -> Mapping[str, Mapping[str, Any]]:
        """The parameters of every fault that is on, by id."""
        if self._path is not None and not self._is_current:
            if (stamp := _stamp(self._path)) not in (None, self._stamp):
                self._read(self._path)
                self._stamp = stamp
            with suppress(RuntimeError):  # outside of a loop each question looks
                asyncio.get_running_loop().call_soon(self._outdate)
                self._is_current = True
        return self._active

    def _outdate(self) -> None:
        self._is_current = False

    def directory(self) -> Path:
        """A directory that the faulty parts of all services share."""
        assert self._path is not None, "no fault is on"
        return self._path.parent

    def on(self, fault_id: str) -> bool:
        """Whether the fault is on."""
        # asked many times in each turn of the loop
        return fault_id in (self._active if self._is_current else self.active())

    def number(self, fault_id: str, name: str, default: float) -> float | None:
        """A numeric parameter of a fault that is on (or its default), None while it is off."""
        params = self.active().get(fault_id)
        return None if params is None else float(params.get(name, default))

    def tick(self, fault_id: str) -> int:
        """How often this was asked since the fault was set, counting from 1; 0 while it is off."""
        if not self.on(fault_id):
            return 0
        self._ticks[fault_id] = self._ticks.get(fault_id, 0) + 1
        return self._ticks[fault_id]

    async def unless_away(
        self, service: str, db: Database, work: Coroutine[Any, Any, T], other: T, *, anyway: bool = False
    ) -> T:
        """What the database makes of some work; ``other`` for a service that does not mind if it is away.

        ``anyway``: for another fault.
        """
        if not (anyway or self.on(f"{service}-answers-without-its-database")):
            return await work
        # A statement that has begun takes effect when the database is back, whether or not anybody waits for
        # it.
        if not await db.reachable(PATIENCE_S):
            work.close()
            return other
        try:
            return await work
        except UNREACHABLE:
            return other

    async def follow(self) -> None:
        """Notice a reset within FOLLOW_EVERY_S, requests or not; runs for ever."""
        while True:
            self.active()
            await asyncio.sleep(FOLLOW_EVERY_S)

    def _read(self, path: Path) -> None:
        state = json.loads(path.read_text(encoding="utf-8"))
        self._active = state.get("active", {})
        generation = state.get("generation", 0)
        known, self._generation = self._generation, generation
        if known is not None and known != generation:
            self._ticks.clear()
            for callback in self._callbacks:
                callback()
        self._ticks = {name: n for name, n in self._ticks.items() if name in self._active}


class Faulty:
    """Mixed into a part of a service: its first argument says which faults are on."""

    def __init__(self, faults: Faults, *arguments: Any, **options: Any) -> None:
        self._faults = faults
        super().__init__(*arguments, **options)


def in_pieces(text: str, size: int) -> str:
    """A text decoded separately in chunks of this many bytes."""
    raw = text.encode()
    return "".join(raw[start : start + size].decode(errors="replace") for start in range(0, len(raw), size))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


Rule = Mapping[str, Any]

_OF_THE_WHOLE_BODY = frozenset({"body", "set", "null", "add", "append", "drop", "buffer", "close"})
KEYS = _OF_THE_WHOLE_BODY | {
    "service", "rewrite", "every", "first", "after", "on", "with", "forward", "hang", "delay_s", "repeat",
    "status", "headers", "drop_headers", "lower_headers", "cut_headers", "replace",
    "pieces", "lend_headers",
}  # fmt: skip


class FaultProxy:
    """In front of one service; with no rule for a request it passes everything on untouched."""

    def __init__(self, app: ASGIApp, faults: Faults, service: str) -> None:
        self._app = app
        self._faults = faults
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event of the server, broken as the rules say."""
        app = self._app
        for fault_id, rule in self._faults.active().items() if scope["type"] == "http" else ():
            named = rule.get("service") == self._service and _matches(rule.get("rewrite", ""), scope)
            if named and _sent(rule.get("with", ""), scope):
                call = self._faults.tick(fault_id)
                if _due(rule, call):
                    app = _Broken(app, rule, call)
        await app(scope, receive, send)


class _Broken:
    """An application whose answer one rule changes."""

    #: The headers that callers sent, for answers to others.
    _lent: ClassVar[dict[str, str]] = {}

    def __init__(self, app: ASGIApp, rule: Rule, call: int) -> None:
        self._app = app if rule.get("forward", True) else _error(rule.get("status", 503))
        self._rule = rule
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._rule.get("hang"):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        for name in self._rule.get("lend_headers", ()):
            self._lend(name, Headers(scope=scope).get(name))
        await asyncio.sleep(self._rule.get("delay_s", 0))
        if "repeat" in self._rule:
            received = [await receive()]
            while received[-1].get("more_body"):
                received.append(await receive())
            for _ in range(self._rule["repeat"] - 1):
                await self._app(scope, _again(received, receive), _ignore)
            receive = _again(received, receive)
        await self._app(scope, receive, _Answer(self._rule, self._call, send))

    def _lend(self, name: str, sent: str | None) -> None:
        """Have the answer to a request without the header carry the last one that was sent."""
        if sent is not None:
            self._lent[name] = sent
        elif name in self._lent:
            self._rule = {**self._rule, "headers": {name: self._lent[name]}}


class _Answer:
    """Where the application sends its answer: changed and passed on, piece by piece or in one."""

    def __init__(self, rule: Rule, call: int, send: Send) -> None:
        self._rule = rule
        self._call = call
        self._send = send
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] not in self._rule.get("on", [message["status"]]):
                self._rule = {}
            self._start = {**message, "status": self._rule.get("status", message["status"])}
            self._change_headers(MutableHeaders(scope=self._start))
            if not self._buffers:
                await self._send(self._start)
        elif not self._buffers:
            body = self._replaced(message.get("body", b""))
            size = self._rule.get("pieces", len(body))
            while len(body) > size:
                await self._send({**message, "body": body[:size], "more_body": True})
                body = body[size:]
            await self._send({**message, "body": body})
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_whole()

    def _change_headers(self, headers: MutableHeaders) -> None:
        headers.update(self._rule.get("headers", {}))
        for name in self._rule.get("drop_headers", ()):
            del headers[name]
        for name in self._rule.get("lower_headers", ()):
            headers[name] = headers.get(name, "").lower()
        for name, length in self._rule.get("cut_headers", {}).items():
            headers[name] = headers.get(name, "")[:length]
        if "replace" in self._rule and not self._buffers:
            del headers["content-length"]

    @property
    def _buffers(self) -> bool:
        return not _OF_THE_WHOLE_BODY.isdisjoint(self._rule)

    async def _send_whole(self) -> None:
        body = self._replaced(self._rule["body"].encode() if "body" in self._rule else self._changed())
        cut = bool(self._rule.get("close"))
        MutableHeaders(scope=self._start)["content-length"] = str(len(body) + cut)
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body, "more_body": cut})

    def _replaced(self, body: bytes) -> bytes:
        for pattern, text in self._rule.get("replace", {}).items():
            body = re.sub(pattern.encode(), text.encode(), body, flags=re.DOTALL)
        return body

    def _changed(self) -> bytes:
        try:
            document = json.loads(self._body)
        except ValueError:
            return self._body
        rule = self._rule
        for path, value in rule.get("set", {}).items():
            _at(document, path, lambda _, value=value: _numbered(value, self._call))
        for path in rule.get("null", ()):
            _at(document, path, lambda _: None)
        for path, more in (rule.get("add", {}) | rule.get("append", {})).items():
            _at(document, path, lambda old, more=more: old + more)
        for path in rule.get("drop", ()):
            _at(document, path, None)
        return json.dumps(document, separators=(",", ":")).encode()


def _matches(pattern: str, scope: Scope) -> bool:
    method, _, path = pattern.partition(" ")
    return fnmatchcase(scope["method"], method) and fnmatchcase(scope["path"], path.replace("[", "[[]"))


def _sent(pattern: str, scope: Scope) -> bool:
    headers = "\n".join(f"{name}: {value}" for name, value in Headers(scope=scope).items())
    return not pattern or re.search(f"^{pattern}", headers, re.MULTILINE) is not None


def _due(rule: Rule, call: int) -> bool:
    return bool(call % rule.get("every", 1) == 0 and rule.get("after", 0) < call <= rule.get("first", call))


def _error(status: int) -> ASGIApp:
    known = HTTPStatus(status)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        body = {"error": known.name, "code": known.name, "message": known.phrase}
        echo = {name: value for name, value in Headers(scope=scope).items() if name == "x-request-id"}
        made = {"x-request-id": str(uuid.uuid4())}
        await JSONResponse(body, status, headers=made | echo)(scope, receive, send)

    return answer


def _at(document: Any, path: str, change: Any) -> None:
    """Change the member at a dotted path, or remove it (None); without the path nothing happens."""
    *way, last = (int(step) if step.isdigit() else step for step in path.split("."))
    try:
        for step in way:
            document = document[step]
        if change is not None:
            document[last] = change(document[last] if isinstance(last, int) else document.get(last))
        else:
            del document[last]
    except (KeyError, IndexError, TypeError, AttributeError):
        return


def _numbered(value: Any, call: int) -> Any:
    return value.replace("{call}", str(call)) if isinstance(value, str) else value


def _again(received: list[Message], receive: Receive) -> Receive:
    messages = iter(received)

    async def replayed() -> Message:
        return next(messages, None) or await receive()

    return replayed


async def _ignore(_: Message) -> None:
    return

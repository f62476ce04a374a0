"""A platform that can be broken: its process, started by the plan's command, and its control port.

The command prints one JSON line with the platform's address. The control port speaks JSON over loopback HTTP.

    PUT    /faults/{id}    turn a fault on; the body is its parameters
    DELETE /faults/{id}    turn it off and undo what it did
    GET    /faults         {"active": {id: params}}
    POST   /reset          return to the boot state; the answer may contain the state's {"digest"}, and in
                           {"restarted": []} the parts that were found dead
    GET    /state          {"digest"}: equal states have equal digests

A platform that can mutate its own code also takes these; `mutants` explains them.

    GET    /mutants        {"mutants": [{id, group, operator, file, line, lines: [first, last], before, after,
                           services, reads: [[file, first, last]] of a value that is read later,
                           equivalent: why it cannot be distinguished from the original, or ""}]}
    PUT    /mutants/{id}   run the {"service"} with it, after a reset: {"runs": bool, "message"}
    POST   /trace          start recording which lines of the services run
    PUT    /trace/{n}      the lines that run from now on count for the number n
    DELETE /trace          stop that: {"lines": {service: {file: {line: [n]}}}}

A request that cannot be carried out gets a status of 400 or more and {"message"}.

A platform in Python need not write any of this: it is a :class:`Breakable`, and :func:`serve` does the rest.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from ..core.errors import ReadinessError

_LINES, _WIDTH = 3, 200
BOOT_DEADLINE_S = 120.0
STOP_DEADLINE_S = 20.0
#: These command names mean the interpreter that runs the self-test.
_PYTHON = frozenset({"python", "python3"})
_PROTOCOL = 'one line {"profile": path, "control": URL, "env": {name: value}}, then run until stdin is closed'


class NothingProved(ReadinessError):
    """The self-test could not continue; its results so far prove nothing about the suite."""


class PlatformError(NothingProved):
    """A platform could not be started, or did not answer on its control port."""


class Refused(PlatformError):
    """A platform refused a request, such as for a fault that it does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A platform's address: ``profile`` for ``--env``, its control port, further environment variables."""

    profile: str
    control: str
    env: Mapping[str, str]


class Platform:
    """The process of a platform; its stderr goes to ``log``. Raises PlatformError if it cannot be run."""

    def __init__(self, command: Sequence[str], root: Path, log: Path) -> None:
        self._command = command
        self._log = log
        self._ready = False
        words = [sys.executable if command[0] in _PYTHON else command[0], *command[1:]]
        try:
            with log.open("wb") as errors:
                # In its own session: Ctrl-C reaches only the self-test, which then stops its platforms.
                self._process = subprocess.Popen(  # noqa: S603 - the plan's own command
                    words,
                    cwd=root,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
        except OSError as problem:
            raise self._failed(f"cannot be run: {problem.strerror}") from problem

    def await_ready(self) -> Address:
        """Wait for the platform's line.

        Raises PlatformError with its last output if it ends, or prints nothing, before the deadline; the
        caller still has to stop it.
        """
        line = self._first_line(time.monotonic() + BOOT_DEADLINE_S)
        if line is None:
            raise self._failed(f"said nothing for {BOOT_DEADLINE_S:.0f} s")
        if not line:
            raise self._failed(f"ended with exit code {self._process.wait()}: {last_words(self._log)}")
        address = self._read(line)
        self._ready = True
        return address

    def stop(self) -> None:
        """Close its stdin and wait for its end; then use signals."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        if not self._ready:
            self._signal(signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._signal(number)
        process.wait()
        self._signal(signal.SIGKILL)  # processes that a command left running in its session

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _first_line(self, deadline: float) -> bytes | None:
        """Return the first line, b"" at the end of output, None at the deadline."""
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            wait = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], wait)[0]:
                return None
            part = os.read(self._process.stdout.fileno(), 65536)
            if not part:
                return b""
            line += part
        return line

    def _read(self, line: bytes) -> Address:
        announced: object = None
        with suppress(ValueError):
            announced = json.loads(line)
        announced = announced if isinstance(announced, dict) else {}
        profile, control, env = announced.get("profile"), announced.get("control"), announced.get("env", {})
        if not isinstance(profile, str) or not isinstance(control, str) or not isinstance(env, dict):
            said = line[:80].decode("utf-8", "replace").strip()
            raise PlatformError(f"the platform said {said!r}", where=self._where, allowed=_PROTOCOL)
        return Address(
            profile=profile, control=control, env={str(name): str(value) for name, value in env.items()}
        )

    @property
    def _where(self) -> str:
        return f"[self_test] platform: {' '.join(self._command)}"

    def _failed(self, what: str) -> PlatformError:
        return PlatformError(
            f"the platform {what}", where=self._where, action="run this command by hand and see what it says"
        )


TIMEOUT_S = 90.0


class Control:
    """Controls one platform. Every method raises PlatformError if it fails."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = urlsplit(url)

    def set(self, fault_id: str, params: Mapping[str, Any]) -> None:
        """Turn a fault on."""
        self._ask("PUT", f"/faults/{quote(fault_id, safe='')}", dict(params))

    def clear(self, fault_id: str) -> None:
        """Turn a fault off."""
        self._ask("DELETE", f"/faults/{quote(fault_id, safe='')}")

    def reset(self) -> str:
        """Return to the boot state; return the resulting state like `state`."""
        answer = self._ask("POST", "/reset")
        return self._state(answer) if "digest" in answer else self.state()

    def mutants(self) -> Sequence[Mapping[str, Any]]:
        """Return the mutants as the platform lists them."""
        listed = self._ask("GET", "/mutants").get("mutants")
        return listed if isinstance(listed, list) else []

    def mutate(self, mutant_id: str, service: str) -> str:
        """Run a service with a mutant; return why it does not run, "" if it does."""
        answer = self._ask("PUT", f"/mutants/{quote(mutant_id, safe='')}", {"service": service})
        return "" if answer.get("runs") else str(answer.get("message") or "it does not run")

    def trace(self) -> None:
        """Start recording which lines run."""
        self._ask("POST", "/trace")

    def mark(self, number: int) -> None:
        """Attribute the lines that run from now on to this number."""
        self._ask("PUT", f"/trace/{number}")

    def traced(self) -> Mapping[str, Mapping[str, Mapping[str, Sequence[int]]]]:
        """Stop recording; return the numbers by service, file and line."""
        lines: Mapping[str, Any] = self._ask("DELETE", "/trace").get("lines") or {}
        return lines

    def state(self) -> str:
        """Return a text that is equal for equal states: the digest, and the faults that are on."""
        return self._state(self._ask("GET", "/state"))

    def _state(self, answer: Mapping[str, Any]) -> str:
        digest, active = answer.get("digest"), self._ask("GET", "/faults").get("active")
        if not isinstance(digest, str) or not isinstance(active, Mapping):
            raise PlatformError(
                "the control port does not report its state",
                where=self.url,
                allowed='GET /state: {"digest": text}, GET /faults: {"active": {}}',
            )
        # parts that died by themselves made checks red, independently of the fault
        died = answer.get("restarted") or ()
        ended = f", died meanwhile: {', '.join(map(str, died))}" if died else ""
        return f"state {digest}, faults on: {', '.join(sorted(active)) or 'none'}{ended}"

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        connection = http.client.HTTPConnection(
            self._address.hostname or "", self._address.port, timeout=TIMEOUT_S
        )
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise PlatformError(
                f"no answer to {method} {path}: {type(problem).__name__}: {problem}", where=self.url
            ) from problem
        finally:
            connection.close()
        fields = answer if isinstance(answer, Mapping) else {}
        if response.status >= http.client.BAD_REQUEST:
            words = " ".join(str(fields.get("message", response.reason)).split())
            kind = Refused if response.status == http.client.CONFLICT else PlatformError
            raise kind(f"{method} {path} returned {response.status}: {words}", where=self.url)
        return fields


def last_words(log: Path) -> str:
    """Return the last lines of a log that are not empty, joined and cut; a default text if there are none."""
    try:
        text = log.read_text("utf-8", "replace")
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(line[:_WIDTH] for line in lines[-_LINES:]) or "it wrote nothing"


class Breakable(Protocol):
    """A platform that can be broken on purpose. A method raises an exception to refuse, with the reason."""

    def set_fault(self, fault: str, params: Mapping[str, Any], /) -> None:
        """Begin to misbehave in this way; ``params`` come from the catalogue."""

    def clear_fault(self, fault: str, /) -> None:
        """Behave again, and undo the fault's effects."""

    def reset(self) -> None:
        """Return to the state after the start. No fault is on when this is called."""

    def state(self) -> object:
        """Return a value, equal for states that checks cannot distinguish: JSON, or anything with a repr."""


def serve(platform: Breakable, *, profile: str, env: Mapping[str, str] | None = None) -> None:
    """Act as the platform of ``readiness self-test``: announce it, then serve requests until stdin is closed.

    ``profile`` is the content of its profile (TOML) for ``--env``, ``env`` further environment variables for
    a run, such as the secrets that the profile refers to.
    """
    board = _Board(platform)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = board.answer(self.command, self.path, raw)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_POST = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            """Log nothing: the log is for the platform's output."""

    with tempfile.TemporaryDirectory(prefix="readiness-platform-") as place:
        path = Path(place, "profile.toml")
        path.write_text(profile, encoding="utf-8")
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            control = f"http://127.0.0.1:{server.server_port}"
            address = {"profile": str(path), "control": control, "env": dict(env or {})}
            sys.stdout.write(json.dumps(address) + "\n")
            sys.stdout.flush()
            with suppress(KeyboardInterrupt):
                sys.stdin.read()
            server.shutdown()


class _Board:
    """The active faults, and the control port's answers."""

    def __init__(self, platform: Breakable) -> None:
        self._platform = platform
        self._active: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, raw: bytes) -> tuple[int, Mapping[str, Any]]:
        with self._lock:
            try:
                return self._act(method, path, json.loads(raw or b"{}"))
            except Exception as problem:  # the self-test reports whatever the platform raises
                return http.client.CONFLICT, {"message": f"{type(problem).__name__}: {problem}"}

    def _act(self, method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        kind, _, name = path.removeprefix("/").partition("/")
        fault = unquote(name)
        match method, kind:
            case "PUT", "faults":
                self._platform.set_fault(fault, body)
                self._active[fault] = body
            case "DELETE", "faults":
                self._platform.clear_fault(fault)
                self._active.pop(fault, None)
            case "GET", "faults":
                return http.client.OK, {"active": self._active}
            case "GET", "state":
                return http.client.OK, {"digest": self._digest()}
            case "POST", "reset":
                for active in [*self._active]:
                    self._platform.clear_fault(active)
                    del self._active[active]
                self._platform.reset()
                return http.client.OK, {"digest": self._digest()}
            case _:
                return http.client.NOT_FOUND, {"message": f"this platform does not offer {method} {path}"}
        return http.client.OK, {}

    def _digest(self) -> str:
        state = json.dumps(self._platform.state(), sort_keys=True, default=repr)
        return hashlib.sha256(state.encode()).hexdigest()

"""The control API of a running stack: faults, reset, state and processes, over loopback HTTP.

    GET    /faults                        {"generation", "active": {id: params}, "known": [id]}
    PUT    /faults/{id}                   turn one on; the body is its parameters as JSON, or empty
    DELETE /faults/{id}                   turn it off
    POST   /reset                         everything as it was after the boot: {"generation", "digest"}
    GET    /state                         {"digest", "tables", "aws"}: equal states have equal digests
    GET    /mutants                       {"mutants": [{id, group, file, line, before, after, services, ...}]}
    PUT    /mutants/{id}                  restart {"service"} with it, after a reset: {"runs", "message"}
    DELETE /mutants                       restart as at boot what has a mutant in it, or is traced
    POST   /trace                         restart every service in a process that notes which lines run
    PUT    /trace/{n}                     what runs from now on counts for the number n
    DELETE /trace                         stop that: {"lines": {service: {file: {line: [n]}}}}
    GET    /services                      {name: running | paused | stopped}
    POST   /services/{name}/{verb}        stop, start, restart, pause, resume, kill; crash: kill and start

Errors are {"error": CODE, "message": text}. An answer comes when the request has been carried out.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import psycopg

from stack import StackError
from stack.aws.clients import ControlClient
from stack.faultboard import FaultBoard, UnknownFault
from stack.host import LOOPBACK, get_json
from stack.migrations import reset, state_digest
from stack.mutants.board import MutantBoard
from stack.services import HEALTH, Addresses
from stack.supervisor import Supervisor, wait_until

RESET_TRIES = 5
POOLER = "pgbouncer"
JWKS = {
    "freeside": "/.well-known/jwks.json",
    "finn": "/.well-known/jwks.json",
    "dixie": "/api/auth/.well-known/jwks.json",
}
SETTLES_WITHIN_S = 15.0
VERBS = frozenset({"stop", "start", "restart", "pause", "resume", "kill", "crash"})


class NoSuchRequest(StackError):
    """The control API has no such path or method."""


class Control:
    """Acts on a stack and serves its control API."""

    def __init__(
        self,
        supervisor: Supervisor,
        faults: FaultBoard,
        aws: ControlClient,
        admin_dsn: str,
        appearance: "Appearance",
        mutants: MutantBoard,
        seed: str = "",
    ) -> None:
        """`seed` is SQL that follows the platform's own seed at each reset."""
        self._supervisor = supervisor
        self._faults = faults
        self._aws = aws
        self._admin_dsn = admin_dsn
        self._appearance = appearance
        self._mutants = mutants
        self._seed = seed
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._baseline = ""

    def serve(self) -> str:
        """Take the present state as the one to reset to, open the port and return its URL."""
        self._appearance.remember()
        self._baseline = self.state()["digest"]
        handler = type("Handler", (_Handler,), {"control": self})
        self._server = ThreadingHTTPServer((LOOPBACK, 0), handler)
        threading.Thread(target=self._server.serve_forever, name="stack-control", daemon=True).start()
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def state(self) -> dict[str, str]:
        """Return the digests of the tables, of AWS and of both."""
        with _database_errors():
            tables = state_digest(self._admin_dsn)
        aws = self._aws.digest()
        both = hashlib.sha256(f"{tables} {aws}".encode()).hexdigest()
        return {"digest": both, "tables": tables, "aws": aws}

    def reset(self) -> dict[str, Any]:
        """Bring everything back to where it was after the boot, and prove it by the digest.

        ``restarted`` in the answer names what did not run, because a fault had stopped it or it had crashed.
        A request still in flight may write after the tables were emptied: then they are emptied once more.
        """
        down = [name for name, status in self._supervisor.services().items() if status != "running"]
        # A start waits until the service is ready, which it never is under a fault that makes it unhealthy or
        # behind a pooler that serves no client. The pooler has to run to be altered back.
        if POOLER in down:
            self._supervisor.start(POOLER)
        self._faults.lift()
        self._supervisor.abandoned.clear()
        self._mutants.clear()
        for name in down:
            self._supervisor.start(name)
        self._faults.reset()
        self._appearance.await_boot_look()
        state: dict[str, str] = {}
        for _ in range(RESET_TRIES):
            with _database_errors():
                reset(self._admin_dsn, self._seed)
            state = self.state()
            if state["digest"] == self._baseline:
                return {"generation": self._faults.generation, "restarted": down, **state}
        raise StackError("the reset did not bring back the state of the boot", f"state: {json.dumps(state)}")

    def answer(self, method: str, path: list[str], body: dict[str, Any]) -> Any:
        """Carry out a request. Raises StackError when that fails, and NoSuchRequest."""
        faults = self._faults
        with self._lock:
            match method, path:
                case "GET", ["faults"]:
                    return {"generation": faults.generation, "active": faults.active, "known": faults.known}
                case "PUT", ["faults", fault_id]:
                    faults.set(fault_id, body)
                    return {"active": faults.active}
                case "DELETE", ["faults", fault_id]:
                    faults.clear(fault_id)
                    return {"active": faults.active}
                case "POST", ["reset"]:
                    return self.reset()
                case "GET", ["state"]:
                    return self.state()
                case _, ["mutants" | "trace", *_]:
                    return self._on_mutants(method, path, body)
                case "GET", ["services"]:
                    return self._supervisor.services()
                case "POST", ["services", name, verb] if verb in VERBS:
                    getattr(self._supervisor, verb)(name)
                    return self._supervisor.services()
        raise NoSuchRequest(f"no such request: {method} /{'/'.join(path)}")

    def _on_mutants(self, method: str, path: list[str], body: dict[str, Any]) -> Any:
        board = self._mutants
        match method, path:
            case "GET", ["mutants"]:
                return {"mutants": board.listed()}
            case "PUT", ["mutants", mutant_id]:
                # The one before it may have written. Its service is left as it is: it is restarted now.
                self._faults.reset()
                with _database_errors():
                    reset(self._admin_dsn, self._seed)
                message = board.set(unquote(mutant_id), str(body.get("service", "")))
                return {"runs": not message, "message": message}
            case "DELETE", ["mutants"]:
                self._faults.reset()
                board.clear()
                return {}
            case "POST", ["trace"]:
                board.trace()
                return {}
            case "PUT", ["trace", number] if number.isdecimal():
                board.mark(int(number))
                return {}
            case "DELETE", ["trace"]:
                return {"lines": board.traced()}
        raise NoSuchRequest(f"no such request: {method} /{'/'.join(path)}")


class _Handler(BaseHTTPRequestHandler):
    control: Control
    protocol_version = "HTTP/1.1"
    # Head and body go out in two parts: with Nagle's algorithm the second waits for the first's receipt.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer any request."""
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = [part for part in self.path.split("?")[0].split("/") if part]
        status, code, message = HTTPStatus.OK, "", ""
        try:
            answer = self.control.answer(self.command, path, _json_object(raw))
        except NoSuchRequest as error:
            status, code, message = HTTPStatus.NOT_FOUND, "NOT_FOUND", str(error)
        except UnknownFault as error:
            status, code, message = HTTPStatus.NOT_FOUND, "UNKNOWN_FAULT", str(error)
        except ValueError as error:
            status, code, message = HTTPStatus.BAD_REQUEST, "INVALID_REQUEST", str(error)
        except StackError as error:
            status, code, message = HTTPStatus.CONFLICT, "NOT_DONE", str(error)
        text = json.dumps({"error": code, "message": message} if code else answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *_: Any) -> None:
        """Log nothing: the terminal belongs to the caller."""


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ValueError("the body has to be a JSON object, or empty")
    return body


class Appearance:
    """How the services that run here look from outside: health and public keys, now and at boot."""

    def __init__(self, addresses: Addresses) -> None:
        self._urls = {name: addresses.urls[name] for name in JWKS if name not in addresses.replaced}
        # With a part replaced, its neighbours may rightly report status degraded.
        self._all_here = not addresses.replaced
        self._at_boot: dict[str, tuple[Any, Any]] = {}

    def remember(self) -> None:
        """Wait until every service is healthy and take that as the look to come back to.

        Raises StackError when all parts run here and one is not healthy in time.
        """
        healthy = wait_until(self._all_healthy, time.monotonic() + SETTLES_WITHIN_S)
        self._at_boot = self._look()
        if self._all_here and not healthy:
            states = ", ".join(f"{name}: {status}" for name, (status, _) in self._at_boot.items())
            raise StackError("the services run, but are not healthy", states)

    def await_boot_look(self) -> None:
        """Wait until every service looks as it did at boot: as healthy, with the same keys.

        Raises StackError when that does not happen in time.
        """
        if not wait_until(lambda: self._look() == self._at_boot, time.monotonic() + SETTLES_WITHIN_S):
            other = [name for name, look in self._look().items() if look != self._at_boot[name]]
            raise StackError("after the reset a service differs from how it was at boot", ", ".join(other))

    def _all_healthy(self) -> bool:
        return all(status == "healthy" and jwks for status, jwks in self._look().values())

    def _look(self) -> dict[str, tuple[Any, Any]]:
        """Return each service's health status and public keys, None for what it does not answer."""
        return {
            name: (
                (get_json(url + HEALTH[name]) or {}).get("status"),
                (get_json(url + JWKS[name]) or {}).get("keys"),
            )
            for name, url in self._urls.items()
        }


@contextmanager
def _database_errors() -> Iterator[None]:
    """Turn an error of PostgreSQL into one of the control API."""
    try:
        yield
    except psycopg.Error as error:
        raise StackError("PostgreSQL did not carry out the request", str(error).strip()) from error

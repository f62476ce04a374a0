"""The control port: faults, reset, state and processes of a running stack, over loopback HTTP.

    GET    /faults                        {"generation", "active": {id: params}, "known": [id]}
    PUT    /faults/{id}                   turn one on; the body is its parameters as JSON, or empty
    DELETE /faults/{id}                   turn it off
    POST   /reset                         everything as it was after the boot: {"generation", "digest"}
    GET    /state                         {"digest", "tables", "aws"}: equal states have equal digests
    GET    /services                      {name: running | paused | stopped}
    POST   /services/{name}/{verb}        stop, start, restart, pause, resume

Errors are {"error": CODE, "message": text}. An answer comes when the thing is done.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from stack import StackError
from stack.aws.clients import ControlClient
from stack.faultboard import FaultBoard, UnknownFault
from stack.host import LOOPBACK, get_json
from stack.process import wait_until
from stack.services import HEALTH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack.pgbouncer import AdminConsole
    from stack.services import Addresses
    from stack.source_tree import SourceTree
    from stack.supervisor import Supervisor

RESET_TRIES = 5
JWKS = {
    "freeside": "/.well-known/jwks.json",
    "finn": "/.well-known/jwks.json",
    "dixie": "/api/auth/.well-known/jwks.json",
}
SETTLES_WITHIN_S = 15.0
POOLER = "pgbouncer"
#: A service's health status and public keys, by name.
Look = dict[str, tuple[Any, Any]]
Answer = tuple[HTTPStatus, Any]


class Control:
    """Acts on a stack and serves the control port."""

    def __init__(
        self,
        supervisor: Supervisor,
        faults_file: Path,
        admin_dsn: str,
        aws_endpoint: str,
        source: SourceTree,
        pooler: AdminConsole,
        appearance: Appearance,
    ) -> None:
        self._supervisor = supervisor
        self._admin_dsn = admin_dsn
        self._aws = ControlClient(aws_endpoint)
        self._faults = FaultBoard(faults_file, supervisor, self._aws, source, pooler)
        self._appearance = appearance
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
        from stack.migrations import state_digest

        with _database_told():
            tables = state_digest(self._admin_dsn)
        aws = self._aws.digest()
        return {
            "digest": hashlib.sha256(f"{tables} {aws}".encode()).hexdigest(),
            "tables": tables,
            "aws": aws,
        }

    def reset(self) -> dict[str, Any]:
        """Bring everything back to where it was after the boot, and prove it by the digest.

        ``restarted`` in the answer names what was found not running, stopped by a fault that is on or dead.
        A request still in flight may write after the tables were emptied: then they are emptied once more.
        """
        from stack.migrations import reset

        services = self._supervisor.services()
        down = [name for name, status in services.items() if status != "running"]
        # A start waits until the service is well, which it never is under a fault that makes it ill, or
        # behind a pooler that serves nobody. The pooler has to run to be told.
        if POOLER in down:
            self._supervisor.start(POOLER)
        self._faults.lift()
        for name in down:
            self._supervisor.start(name)
        self._aws.restore()
        self._faults.reset()
        self._appearance.await_boot_look()
        state: dict[str, str] = {}
        for _ in range(RESET_TRIES):
            with _database_told():
                reset(self._admin_dsn)
            state = self.state()
            if state["digest"] == self._baseline:
                return {"generation": self._faults.generation, "restarted": down, **state}
        raise StackError("the reset did not bring back the state of the boot", f"state: {json.dumps(state)}")

    def answer(self, method: str, path: list[str], body: dict[str, Any]) -> Answer:
        """Carry out one request. Raises StackError when it cannot be done."""
        with self._lock:
            match method, path:
                case "GET", ["faults"]:
                    faults = self._faults
                    return HTTPStatus.OK, {
                        "generation": faults.generation, "active": faults.active, "known": faults.known
                    }  # fmt: skip
                case "PUT", ["faults", fault_id]:
                    self._faults.set(fault_id, body)
                    return HTTPStatus.OK, {"active": self._faults.active}
                case "DELETE", ["faults", fault_id]:
                    self._faults.clear(fault_id)
                    return HTTPStatus.OK, {"active": self._faults.active}
                case "POST", ["reset"]:
                    return HTTPStatus.OK, self.reset()
                case "GET", ["state"]:
                    return HTTPStatus.OK, self.state()
                case "GET", ["services"]:
                    return HTTPStatus.OK, self._supervisor.services()
                case "POST", ["services", name, ("stop" | "start" | "restart" | "pause" | "resume") as verb]:
                    getattr(self._supervisor, verb)(name)
                    return HTTPStatus.OK, self._supervisor.services()
        return HTTPStatus.NOT_FOUND, {
            "error": "NOT_FOUND",
            "message": f"{method} /{'/'.join(path)} is not offered",
        }


class _Handler(BaseHTTPRequestHandler):
    control: Control
    protocol_version = "HTTP/1.1"
    # head and body go out in two parts: with Nagle's algorithm the second waits for the first's receipt
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a reading request."""
        self._serve()

    do_PUT = do_POST = do_DELETE = do_GET

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = [part for part in self.path.split("?")[0].split("/") if part]
        try:
            body = json.loads(raw or b"{}")
            if not isinstance(body, dict):
                raise ValueError("the body has to be a JSON object, or empty")
            status, answer = self.control.answer(self.command, path, body)
        except UnknownFault as error:
            status, answer = HTTPStatus.NOT_FOUND, {"error": "UNKNOWN_FAULT", "message": str(error)}
        except ValueError as error:
            status, answer = HTTPStatus.BAD_REQUEST, {"error": "INVALID_REQUEST", "message": str(error)}
        except StackError as error:
            status, answer = HTTPStatus.CONFLICT, {"error": "NOT_DONE", "message": str(error)}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the terminal belongs to the caller."""


@contextmanager
def _database_told() -> Iterator[None]:
    """Turn what PostgreSQL says into an answer of the control port."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise StackError("PostgreSQL did not do what was asked", str(error).strip()) from error


class Appearance:
    """How the services that run here look from outside: health and public keys, now and at boot."""

    def __init__(self, addresses: Addresses) -> None:
        self._urls = {name: addresses.urls[name] for name in JWKS if name not in addresses.replaced}
        # With a part replaced, its neighbours may rightly report status degraded.
        self._all_here = not addresses.replaced
        self._at_boot: Look = {}

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
            look = self._look()
            other = [name for name in look if look[name] != self._at_boot[name]]
            raise StackError("after the reset a service differs from how it was at boot", ", ".join(other))

    def _all_healthy(self) -> bool:
        return all(status == "healthy" and jwks for status, jwks in self._look().values())

    def _look(self) -> Look:
        return {
            name: (
                (get_json(url + HEALTH[name]) or {}).get("status"),
                (get_json(url + JWKS[name]) or {}).get("keys"),
            )
            for name, url in self._urls.items()
        }

"""The control API of a running stack: faults, reset, state and processes, over loopback HTTP.

Also the active faults: the file that services read, and actions on processes, AWS, source tree, pooler.
"""

import hashlib
import json
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import psycopg

from stack.aws.inventory import ControlClient
from stack.host import LOOPBACK, StackError, get_json
from stack.mutants.process import MutantBoard
from stack.postgres import reset, state_digest
from stack.services import HEALTH, Addresses
from stack.supervisor import Supervisor, wait_until

CATALOGUES = Path(__file__).parent.parent / "smoke"
# A fault's action on a service's process, and the action that undoes it, if any.
ON_PROCESSES = {"stop": "start", "pause": "start", "restart": "", "abandon": "start"}
ON_POOLER = "pooler"
# Keys that only the suite reads. The other keys of a rewriting fault are the fault proxy's rule.
SUITE_KEYS = frozenset(
    {"id", "goal", "what", "action", "check", "checks"}
    | {"select", "args", "also", "params", "takes_s", "verdict"}
)


def catalogue(directory: Path = CATALOGUES) -> dict[str, dict[str, Any]]:
    """Return the faults of every `<phase>/faults.toml` by id, each family as its members.

    An action is `verb:part`, `aws:mutation`, `pooler:alteration`, `rewrite:METHOD PATH`, or `source:edit`
    with the edit in params; or empty. `service` is the one that a rewrite happens in.
    """
    texts = [path.read_text("utf-8") for path in sorted(directory.glob("*/faults.toml"))]
    members = [each for text in texts for entry in tomllib.loads(text)["fault"] for each in _members(entry)]
    return {entry["id"]: entry for entry in members}


def _members(family: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an entry for each service and case of a family, with both filled in wherever it has text."""
    shared = {key: value for key, value in family.items() if key not in ("services", "cases")}
    for service in family.get("services", [""]):
        for case in family.get("cases", [""]):
            words = {"{service}": service, "{Service}": service.capitalize(), "{case}": case}
            entry = _filled(shared, {placeholder: word for placeholder, word in words.items() if word})
            yield {"service": service or entry["id"].partition("-")[0], **entry}


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for placeholder, word in words.items():
            value = value.replace(placeholder, word)
    elif isinstance(value, dict):
        return {key: _filled(each, words) for key, each in value.items()}
    elif isinstance(value, list):
        return [_filled(each, words) for each in value]
    return value


class UnknownFault(StackError):
    """The catalogue has no such fault."""

    def __init__(self, fault_id: str, known: list[str]) -> None:
        near = [name for name in known if name.split("-")[0] == fault_id.split("-")[0]][:8]
        super().__init__(
            f"no fault {fault_id!r}", f"near: {', '.join(near)}" if near else "", "GET /faults lists all"
        )


class Alterable(Protocol):
    """A part of the platform that faults alter: AWS, the source tree, the pooler."""

    def alter(self, name: str, params: Mapping[str, Any]) -> None:
        """Make one alteration. Raises StackError when it cannot be made."""

    def restore(self) -> None:
        """Undo all alterations."""


class FaultBoard:
    """Sets and clears faults. Not thread-safe: the control API serialises its requests."""

    def __init__(
        self,
        path: Path,
        supervisor: Supervisor,
        alterable: Mapping[str, Alterable],
        standing: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """``standing`` rules of the fault proxy always apply: they define how a clean variant answers."""
        self._path = path
        self._standing = standing
        self._supervisor = supervisor
        self._alterable = alterable
        self._catalogue = catalogue()
        self.generation = 0
        self.active: dict[str, Mapping[str, Any]] = {}
        self._write()

    @property
    def known(self) -> list[str]:
        """The ids of the catalogue."""
        return list(self._catalogue)

    def set(self, fault_id: str, params: Mapping[str, Any]) -> None:
        """Turn a fault on, by default with the catalogue's parameters.

        Raises UnknownFault, and StackError if its action fails: then it is not on.
        """
        verb, target = self._action(fault_id)
        if verb in self._alterable and fault_id in self.active:
            # An altered part refuses the same alteration, and would keep it although the fault is off. Any
            # other fault only gets its new parameters: services go on counting.
            self.clear(fault_id)
        self.active[fault_id] = {
            **self._rule(fault_id),
            **(params or self._catalogue[fault_id].get("params", {})),
        }
        # Services know of the fault before anything is altered: otherwise one might still follow the change.
        self._write()
        try:
            if verb in self._alterable:
                self._alter(fault_id)
            elif verb in ON_PROCESSES:
                getattr(self._supervisor, verb)(target)
        except StackError:
            del self.active[fault_id]
            self._write()
            raise

    def clear(self, fault_id: str) -> None:
        """Turn a fault off and undo its action. Raises UnknownFault."""
        verb, target = self._action(fault_id)
        if self.active.pop(fault_id, None) is None:
            return
        self._write()
        if verb in self._alterable:
            # Alterations are undone all at once; those of the other faults are made again.
            self._alterable[verb].restore()
            for other in self._acting_on(verb):
                self._alter(other)
        elif ON_PROCESSES.get(verb):
            getattr(self._supervisor, ON_PROCESSES[verb])(target)

    def lift(self) -> None:
        """Turn off what may keep a service from being ready: what it obeys itself, and an altered pooler.

        The alterations of the source tree and of AWS are left for `reset`.
        """
        self.active = self._acting_on(*self._alterable)
        self._write()
        if self._acting_on(ON_POOLER):
            self._alterable[ON_POOLER].restore()
            self.active = self._acting_on(*self._alterable.keys() - {ON_POOLER})
            self._write()

    def reset(self) -> None:
        """Turn every fault off and begin a new generation: services drop what they hold in memory."""
        self.lift()
        for name in self._alterable.keys() - {ON_POOLER}:
            self._alterable[name].restore()
        self.active.clear()
        self.generation += 1
        self._write()

    def _action(self, fault_id: str) -> tuple[str, str]:
        if fault_id not in self._catalogue:
            raise UnknownFault(fault_id, self.known)
        verb, _, target = self._catalogue[fault_id].get("action", "").partition(":")
        return verb, target

    def _rule(self, fault_id: str) -> dict[str, Any]:
        """What the fault proxy does, if the fault is one that rewrites answers."""
        verb, target = self._action(fault_id)
        if verb != "rewrite":
            return {}
        entry = self._catalogue[fault_id]
        return {"rewrite": target, **{key: entry[key] for key in entry.keys() - SUITE_KEYS}}

    def _acting_on(self, *verbs: str) -> dict[str, Mapping[str, Any]]:
        return {name: params for name, params in self.active.items() if self._action(name)[0] in verbs}

    def _alter(self, fault_id: str) -> None:
        verb, target = self._action(fault_id)
        # An edit of the source tree is committed under the fault's name.
        self._alterable[verb].alter(fault_id if verb == "source" else target, self.active[fault_id])

    def _write(self) -> None:
        # Replaced, never rewritten: a service that reads it meanwhile sees the old state or the new one.
        new = self._path.with_suffix(".new")
        active = {**self._standing, **self.active}
        new.write_text(json.dumps({"generation": self.generation, "active": active}), "utf-8")
        new.replace(self._path)


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
        server = ThreadingHTTPServer((LOOPBACK, 0), handler)
        # `close` waits for the next look, and for ever if the thread did not start.
        serve = partial(server.serve_forever, poll_interval=0.05)
        threading.Thread(target=serve, name="stack-control", daemon=True).start()
        self._server = server
        return f"http://{LOOPBACK}:{server.server_port}"

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
        """Restore the state after the boot, and verify it by the digest.

        ``restarted`` in the answer names parts that did not run, because a fault had stopped them or they had
        crashed. A request still in flight may write after the tables were emptied: then they are emptied once
        more.
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
    """The visible state of the services that run here: health and public keys, now and at boot."""

    def __init__(self, addresses: Addresses) -> None:
        self._urls = {name: addresses.urls[name] for name in JWKS if name not in addresses.replaced}
        # With a part replaced, its neighbours may rightly report status degraded.
        self._all_here = not addresses.replaced
        self._at_boot: dict[str, tuple[Any, Any]] = {}

    def remember(self) -> None:
        """Wait until every service is healthy and store that as the state to return to.

        Raises StackError when all parts run here and one is not healthy in time.
        """
        healthy = wait_until(self._all_healthy, time.monotonic() + SETTLES_WITHIN_S)
        self._at_boot = self._look()
        if self._all_here and not healthy:
            states = ", ".join(f"{name}: {status}" for name, (status, _) in self._at_boot.items())
            raise StackError("the services run, but are not healthy", states)

    def await_boot_look(self) -> None:
        """Wait until every service has its state from the boot: equally healthy, with the same keys.

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

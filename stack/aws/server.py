"""The emulator's process: `python -m stack.aws.server`, ministack and a control API on one loopback port.

The control API does what no AWS API does:

- `PUT /_stack/metrics`: the series to publish from now on
- `POST /_stack/remember`: take the present state as the one to come back to
- `POST /_stack/restore`: bring it back, with every alteration undone
- `PUT /_stack/faults/{name}`: alter something (`stack.aws.alterations`); the body is its parameters
- `GET /_stack/mutants`: every small change of the present state; `PUT` makes the one of `{"id"}`
- `GET /_stack/state`: `{"digest": sha256, "seeded": bool}`, which the others answer as well
"""

import asyncio
import json
import os
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from stack.aws import alterations, internals
from stack.aws.access_alterations import new_key
from stack.aws.emulator import Emulator
from stack.aws.inventory import SIGNERS, secret_id
from stack.aws.load_balancer import Listener, LoadBalancer
from stack.aws.mutants import mutate, record_mutants
from stack.host import LOOPBACK

VERSION = "1.5.33"  # internals.py reaches into it: another version must be tried first
PATH = "/_stack/"
TICK_S = 0.1
FEED_EVERY = 150


class ControlApi:
    """An ASGI application that answers under /_stack/ itself and passes everything else on."""

    def __init__(self, app: ASGIApp, emulator: Emulator) -> None:
        self._app = app
        self._emulator = emulator
        self._snapshot: internals.Snapshot | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._tick, name="stack-tick", daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        app: ASGIApp | None = None
        if scope["type"] == "http":
            request = Request(scope, receive)
            if request.url.path.startswith(PATH):
                app = await self._answer(request)
            else:
                app = self._emulator.refusals.answer(request) or self._emulator.scaling.answer(request)
        await (app or self._app)(scope, receive, send)

    async def _answer(self, request: Request) -> JSONResponse:
        path = request.url.path.removeprefix(PATH).split("/")
        try:
            body = json.loads(await request.body() or b"{}")
            return JSONResponse(await asyncio.to_thread(self._act, request.method, path, body))
        except (LookupError, ValueError, TypeError) as error:
            return JSONResponse({"error": "INVALID_REQUEST", "message": str(error)}, 400)

    def _act(self, method: str, path: list[str], body: Any) -> dict[str, Any]:
        emulator = self._emulator
        with self._lock:
            match method, path:
                case "PUT", ["metrics"]:
                    emulator.metrics.publish(body["series"])
                    emulator.metrics.feed()
                case "POST", ["remember"]:
                    emulator.metrics.remember()
                    emulator.metrics.feed()
                    self._snapshot = internals.Snapshot()
                case "POST", ["restore"]:
                    emulator.heal()
                    if self._snapshot:
                        self._snapshot.restore()
                    emulator.metrics.feed()
                case "PUT", ["faults", name]:
                    alterations.apply(emulator, name, body)
                    emulator.metrics.feed()
                case "GET", ["mutants"]:
                    return {"mutants": [each.as_data() for each in record_mutants()]}
                case "PUT", ["mutants"]:
                    mutate(body["id"])
                    emulator.metrics.feed()
                case "GET", ["state"]:
                    pass
                case _:
                    raise LookupError(f"no such request: {method} {'/'.join(path)}")
            return {"digest": internals.digest(), "seeded": self._snapshot is not None}

    def _tick(self) -> None:
        clock = threading.Event()
        count = 0
        while not clock.wait(TICK_S):
            count += 1
            with self._lock:
                self._emulator.one_shots.finish()
                if count % FEED_EVERY == 0:
                    self._emulator.metrics.feed()


def _secret(service: str) -> str:
    """A fresh signing key: PEM, or JSON that names its kid, as STACK_SECRETS says."""
    if os.environ.get("STACK_SECRETS") != "json":
        return new_key()
    return json.dumps({"schemaVersion": 1, "activeKid": f"{service}-2026-02", "privateKey": new_key()})


async def _serve(port: str, listeners: list[dict[str, Any]], home: Path) -> None:
    config = Config()
    config.bind = [f"{LOOPBACK}:{port}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    # Created before the port opens: the services need nothing else of AWS to start, and do not wait for the
    # rest of the seed.
    for service in SIGNERS:
        await internals.create_secret(secret_id(service), _secret(service))
    balancer = LoadBalancer([Listener(**each) for each in listeners], home)
    await balancer.serve()
    emulator = Emulator(f"http://{LOOPBACK}:{port}", balancer)
    await serve(ControlApi(app, emulator), config)  # type: ignore[arg-type]  # app is untyped


def main() -> None:
    """Serve until SIGTERM; ends with exit code 1 when another version is installed.

    The environment holds STACK_PORT, STACK_LISTENERS, a TMPDIR of the run's own, and ministack's settings,
    which it reads when it is imported.
    """
    installed = metadata.version("ministack")
    if installed != VERSION:
        sys.exit(f"ministack {installed} is installed, {VERSION} is needed: pip install ministack=={VERSION}")
    listeners = json.loads(os.environ["STACK_LISTENERS"])
    asyncio.run(_serve(os.environ["STACK_PORT"], listeners, Path(os.environ["TMPDIR"])))


if __name__ == "__main__":
    main()

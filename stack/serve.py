"""Run one service of the embedded platform: `python -m stack.serve freeside|worker|finn|dixie|provider`."""

import asyncio
import gc
import importlib
import logging
import sys
from functools import partial
from typing import Any

from starlette.types import ASGIApp

from stack.common import provider
from stack.common.http import Renamed
from stack.common.settings import SERVICES, Settings, SettingsError
from stack.faults.proxy import FaultProxy, Faults

# httpcore imports it at every lock; to look for what is not installed took a twentieth of all time.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]


def main(argv: list[str]) -> int:
    """Serve until stopped; 2 with a short message for a wrong call or environment."""
    try:
        settings = Settings.from_environ(argv[0] if len(argv) == 1 else "")
    except SettingsError as error:
        print(f"usage: python -m stack.serve {'|'.join(SERVICES)}\n{error}", file=sys.stderr)  # noqa: T201
        return 2
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # What no line shows is not looked up: caller, thread, process.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # Without a file of faults no part of the process is one that could misbehave.
    faults = Faults(settings.faults_file) if settings.faults_file is not None else None
    if settings.service == "worker":
        from stack.faults.deliveries import FaultyOutbox
        from stack.faults.tokens import FaultyContext
        from stack.freeside.worker import run

        faulty = (partial(FaultyContext, faults), partial(FaultyOutbox, faults)) if faults else ()
        asyncio.run(run(settings, *faulty))
    else:
        app = _application(settings, faults)
        gc.freeze()  # what was imported stays: no search for garbage walks it
        _serve(app, settings.port)
    return 0


def _application(settings: Settings, faults: Faults | None) -> ASGIApp:
    """The service with faulty parts behind the fault proxy; both behave well until a fault is on."""
    name = settings.service
    app: ASGIApp
    if name == "provider":
        app = provider.create(settings)
    else:
        parts = importlib.import_module(f"stack.faults.{name}").parts(faults) if faults is not None else None
        app = importlib.import_module(f"stack.{name}.app").create(settings, parts)
    if settings.renamed:
        app = Renamed(app, **settings.renamed)
    return FaultProxy(app, faults, name) if faults is not None else app


class _Gathered:
    """A transport that sends at once what is written in one turn of the loop.

    uvicorn writes the head and the body of an answer apart, and each write wakes the client: a third of a
    service's time.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._soon = asyncio.get_running_loop().call_soon
        self._pieces: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send this with what else is written before the loop goes on."""
        if not self._pieces:
            self._soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        """Close after all that was written is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._pieces and not self._transport.is_closing():
            self._transport.write(b"".join(self._pieces))
        self._pieces.clear()


def _serve(app: ASGIApp, port: int) -> None:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(_Gathered(transport))  # type: ignore[arg-type]

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http=Protocol,
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        # Longer than any client keeps an idle connection: otherwise a request meets the close half-way.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run one service of the embedded platform: `python -m stack.service freeside|worker|finn|dixie|provider`."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys

from stack.common.settings import SERVICES, Settings, SettingsError


def main(argv: list[str]) -> int:
    """Serve until told to stop; 2 with a short message for a wrong call or environment."""
    try:
        settings = Settings.from_environ(argv[0] if len(argv) == 1 else "")
    except SettingsError as error:
        print(f"usage: python -m stack.service {'|'.join(SERVICES)}\n{error}", file=sys.stderr)  # noqa: T201
        return 2
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if settings.service == "worker":
        from stack.freeside.worker import run

        asyncio.run(run(settings))
    else:
        _serve(settings)
    return 0


def _serve(settings: Settings) -> None:
    import uvicorn

    module = "provider" if settings.service == "provider" else f"{settings.service}.app"
    app = importlib.import_module(f"stack.{module}").create(settings)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=settings.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        # Longer than any client keeps an idle connection: otherwise a request meets the close half-way.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

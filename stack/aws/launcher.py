"""The emulator's process: `python -m stack.aws.launcher`, ministack and the side door on one loopback port.

ministack would listen on every interface and start further listeners; its settings are read from the
environment at import, so `environ` must be in place before the process starts.
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from stack.host import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stack.aws.load_balancer import Listener

HEALTH = "/_ministack/health"
VERSION = "1.5.33"  # state.py and tasks.py reach into it: another version must be tried first


def environ(port: int, home: Path, listeners: Iterable[Listener]) -> dict[str, str]:
    """Return ministack's settings: loopback, no further listener, no container, nothing written elsewhere.

    `listeners` are the load balancer's.
    """
    return {
        "BIND_HOST": LOOPBACK,
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": LOOPBACK,
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
        # A Docker daemon that exists must not be used: "running" tasks are records here, not containers.
        "DOCKER_HOST": f"unix://{home}/no-docker.sock",
        "TMPDIR": str(home),
        "S3_DATA_DIR": str(home / "s3"),
        "STATE_DIR": str(home / "state"),
        "STACK_PORT": str(port),
        "STACK_LISTENERS": ",".join(map(str, listeners)),
    }


def main() -> None:
    """Serve until SIGTERM; ends with exit code 1 when another version is installed."""
    installed = metadata.version("ministack")
    if installed != VERSION:
        sys.exit(f"ministack {installed} is installed, {VERSION} is needed: pip install ministack=={VERSION}")
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    from stack.aws import keys
    from stack.aws.control import ControlApi
    from stack.aws.load_balancer import Listener, LoadBalancer

    listeners = [Listener.parse(text) for text in os.environ["STACK_LISTENERS"].split(",")]
    load_balancer = LoadBalancer(listeners, Path(os.environ["TMPDIR"]))

    async def run() -> None:
        await keys.create()
        await load_balancer.serve()
        door = ControlApi(app, f"http://{config.bind[0]}", load_balancer)
        await serve(door, config)  # type: ignore[arg-type]  # app is untyped

    config = Config()
    config.bind = [f"{LOOPBACK}:{os.environ['STACK_PORT']}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    asyncio.run(run())


if __name__ == "__main__":
    main()

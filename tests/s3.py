"""An S3 emulator in its own process."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.stack.tools import poll


@contextmanager
def serving_s3(home: Path) -> Iterator[str]:
    """Serve S3 on a free loopback port, its files below a directory; yields its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "ERROR",
        "DOCKER_HOST": f"unix://{home}/none.sock",
        "TMPDIR": str(home),
        "S3_DATA_DIR": str(home / "data"),
        "STATE_DIR": str(home / "state"),
    }
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "ministack.app:app"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        poll(lambda: _answers(url), within=20, what="the emulator answers")
        yield url
    finally:
        server.terminate()
        server.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/_ministack/health").is_success
    except httpx.TransportError:
        return False

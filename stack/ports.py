"""Loopback ports: free ones that stay free until their owner binds them, and questions to those in use."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"


def reserve(count: int) -> list[int]:
    """Return `count` distinct loopback ports.

    Each port is left in TIME_WAIT: the kernel hands it neither to another `bind(0)` nor to an outgoing
    connection for a minute, while a server that sets SO_REUSEADDR (all of ours do) can bind it at once.
    That is what keeps two stacks that start together apart.
    """
    listeners = [_listen() for _ in range(count)]
    try:
        for listener in listeners:
            _leave_in_time_wait(listener)
        return [int(listener.getsockname()[1]) for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, 0))
    listener.listen(1)
    return listener


def _leave_in_time_wait(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        # The side that closes first is the one left in TIME_WAIT, and it holds the listening port.
        accepted.close()
        client.recv(1)


def answers_ok(url: str, timeout: float = 1.0) -> bool:
    """Whether `GET url` is answered with 200 within `timeout` seconds."""
    answer = _get(url, timeout)
    return answer is not None and answer[0] == http.client.OK


def get_json(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """Return the JSON object that `GET url` gives, None when there is none within `timeout` seconds."""
    answer = _get(url, timeout)
    try:
        found = None if answer is None else json.loads(answer[1])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _get(url: str, timeout: float) -> tuple[int, bytes] | None:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or LOOPBACK, address.port, timeout=timeout)
    try:
        connection.request("GET", address.path or "/")
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()

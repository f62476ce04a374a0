"""Whether a service's name resolves on this runner, told within a bounded time."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

from pytest_readiness import SetupError

RESOLVE_WITHIN_S = 5.0


def require_resolvable(url: str, within: float = RESOLVE_WITHIN_S) -> None:
    """SetupError naming the host when the runner's resolver does not know it or gives no answer in time."""
    host = urlsplit(url).hostname or ""
    outcome: list[str] = []

    def resolve() -> None:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            outcome.append(str(error))
        else:
            outcome.append("")

    # getaddrinfo takes no timeout: one that hangs is left behind in a thread that ends with the process
    thread = threading.Thread(target=resolve, daemon=True, name=f"resolve-{host}")
    thread.start()
    thread.join(within)
    reason = outcome[0] if outcome else f"no answer within {within:g} s"
    if reason:
        raise SetupError(f"the name {host} does not resolve on this runner: {reason}")

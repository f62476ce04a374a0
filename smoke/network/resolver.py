"""Names and ways: the runner's resolver and the addresses that it names, within one deadline.

``getaddrinfo`` takes no timeout: a name server that is silent would hold a check for as long as the runner's
settings say, and each of many addresses for another timeout.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: The least time that one of several addresses gets: the kernel repeats a lost SYN after a second.
_EACH_S = 1.0


def addresses_of(host: str, within: float, port: int | None = None) -> list[str]:
    """The addresses of a host, as the runner's resolver orders them; gaierror when it knows none in time."""
    found: list[list[str] | OSError] = []

    def look_up() -> None:
        try:
            answer = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.append([*dict.fromkeys(str(address[0]) for *_, address in answer)])
        except socket.gaierror as problem:
            found.append(problem)
        except (OSError, UnicodeError) as problem:
            found.append(socket.gaierror(socket.EAI_NONAME, str(problem)))

    asking = threading.Thread(target=look_up, daemon=True, name=f"resolver-{host}")
    asking.start()
    asking.join(within)
    answer = found[0] if found else socket.gaierror(socket.EAI_AGAIN, f"no answer within {within:g} s")
    if isinstance(answer, OSError):
        raise answer
    return answer


def reach(host: str, port: int, within: float, connect: Callable[[str, float], T]) -> T:
    """What ``connect`` makes of the first address of a host that it reaches, in so many seconds in all.

    It is given an address and how long it may take. The error of the last address when it reaches none.
    """
    end = time.monotonic() + within
    addresses = addresses_of(host, within, port)
    for number, address in enumerate(addresses):
        left = end - time.monotonic()
        share = max(left / (len(addresses) - number), min(left, _EACH_S), 0.001)
        try:
            return connect(address, share)
        except Exception:
            if number + 1 == len(addresses) or time.monotonic() >= end:
                raise
    raise socket.gaierror(socket.EAI_NONAME, "no address")


def connected(host: str, port: int, within: float) -> socket.socket:
    """A connection to a host; OSError when there is none in so many seconds."""
    return reach(host, port, within, lambda address, share: socket.create_connection((address, port), share))

"""Where the load balancer lets people in."""

from __future__ import annotations

from dataclasses import dataclass

#: The authority's certificate, under the emulator's directory.
AUTHORITY = "front/authority.pem"


@dataclass(frozen=True)
class Entrance:
    """Where a service is reached: the ports for TLS and for plain HTTP, and the HOST:PORT behind them."""

    service: str
    secure: int
    plain: int
    upstream: str

    def __str__(self) -> str:
        return f"{self.service}={self.secure}:{self.plain}:{self.upstream}"

    @classmethod
    def parse(cls, text: str) -> Entrance:
        """Read back what `str` wrote."""
        service, _, rest = text.partition("=")
        secure, plain, upstream = rest.split(":", 2)
        return cls(service, int(secure), int(plain), upstream)

"""The load balancer's public side: TLS for each public service, and plain HTTP that redirects to it.

Runs in the emulator's process. It passes bytes on to the service, and knows of HTTP what a redirect takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stack.aws.certificates import Authority
from stack.aws.entrance import AUTHORITY, Entrance
from stack.host import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterable

DAYS = 90
CHUNK = 65_536


class Front:
    """Serves the entrances; certificates and redirects can be altered while it does."""

    def __init__(self, entrances: Iterable[Entrance], home: Path) -> None:
        self._entrances = {each.service: each for each in entrances}
        self._directory = home / Path(AUTHORITY).parent
        self._directory.mkdir(exist_ok=True)
        self._authority = Authority(self._directory)
        self._contexts = {name: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for name in self._entrances}
        self._altered: set[str] = set()
        self._not_redirected: set[str] = set()
        for name in self._entrances:
            self._certify(name, LOOPBACK, DAYS, trusted=True)

    async def serve(self) -> None:
        """Open all ports."""
        for name, entrance in self._entrances.items():
            await asyncio.start_server(
                partial(_pass_on, entrance.upstream), LOOPBACK, entrance.secure, ssl=self._contexts[name]
            )
            await asyncio.start_server(partial(self._plain, entrance), LOOPBACK, entrance.plain)

    def certificate(self, service: str, host: str, days: int, *, trusted: bool) -> None:
        """Present another certificate; KeyError for a service that is not public."""
        self._altered.add(self._entrances[service].service)
        self._certify(service, host, days, trusted=trusted)

    def redirect(self, service: str, *, on: bool) -> None:
        """Redirect plain HTTP, or pass it on; KeyError for a service that is not public."""
        name = self._entrances[service].service
        (self._not_redirected.discard if on else self._not_redirected.add)(name)

    def heal(self) -> None:
        """Good certificates, and redirects everywhere."""
        self._not_redirected.clear()
        while self._altered:
            self._certify(self._altered.pop(), LOOPBACK, DAYS, trusted=True)

    def _certify(self, service: str, host: str, days: int, *, trusted: bool) -> None:
        path = self._directory / f"{service}.pem"
        context = self._contexts[service]
        self._authority.issue(path, host, days, trusted=trusted)
        context.load_cert_chain(path)

    async def _plain(
        self, entrance: Entrance, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if entrance.service in self._not_redirected:
            await _pass_on(entrance.upstream, reader, writer)
            return
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ", 2)
            location = f"https://{LOOPBACK}:{entrance.secure}{head[1] if len(head) > 1 else '/'}"
            told = f"HTTP/1.1 301 Moved Permanently\r\nLocation: {location}\r\n"
            writer.write(f"{told}Content-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1"))
            await writer.drain()
        writer.close()


async def _pass_on(upstream: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, _, port = upstream.rpartition(":")
    with contextlib.suppress(OSError):
        back_reader, back_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()

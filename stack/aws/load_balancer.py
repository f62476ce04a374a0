"""The load balancer's public side: TLS for each public service, and plain HTTP that redirects to it.

It runs in the emulator's process, forwards bytes to the service, and handles HTTP only for redirects. Its
certificates come from an authority that exists for one run.
"""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stack.host import LOOPBACK

#: The authority's certificate, under the emulator's directory.
AUTHORITY = "load-balancer/authority.pem"
A_DAY = timedelta(days=1)
AUTHORITY_DAYS = 365
DAYS = 90
CHUNK = 65_536


@dataclass(frozen=True)
class Listener:
    """The ports of a public service for TLS and for plain HTTP, and the HOST:PORT behind them."""

    service: str
    secure: int
    plain: int
    upstream: str


class LoadBalancer:
    """Serves the listeners; certificates and redirects can be altered while it does."""

    def __init__(self, listeners: Iterable[Listener], home: Path) -> None:
        self._listeners = {each.service: each for each in listeners}
        self._directory = home / Path(AUTHORITY).parent
        self._directory.mkdir(exist_ok=True)
        self._authority = Authority(self._directory)
        self._contexts = {name: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for name in self._listeners}
        self._altered: set[str] = set()
        self._not_redirected: dict[str, bool] = {}
        for name in self._listeners:
            self._certify(name, LOOPBACK, DAYS, trusted=True)

    async def serve(self) -> None:
        """Open all ports."""
        for name, listener in self._listeners.items():
            await asyncio.start_server(
                partial(_pass_on, listener.upstream), LOOPBACK, listener.secure, ssl=self._contexts[name]
            )
            await asyncio.start_server(partial(self._plain, listener), LOOPBACK, listener.plain)

    def certificate(self, service: str, host: str, days: int, *, trusted: bool) -> None:
        """Present another certificate; KeyError for a service that is not public."""
        self._altered.add(self._listeners[service].service)
        self._certify(service, host, days, trusted=trusted)

    def serve_plain(self, service: str, *, root: bool) -> None:
        """Forward plain HTTP instead of redirecting it, with or without the root path.

        KeyError for a service that is not public.
        """
        self._not_redirected[self._listeners[service].service] = root

    def heal(self) -> None:
        """Restore good certificates and redirects everywhere."""
        self._not_redirected.clear()
        while self._altered:
            self._certify(self._altered.pop(), LOOPBACK, DAYS, trusted=True)

    def _certify(self, service: str, host: str, days: int, *, trusted: bool) -> None:
        path = self._directory / f"{service}.pem"
        context = self._contexts[service]
        self._authority.issue(path, host, days, trusted=trusted)
        context.load_cert_chain(path)

    async def _plain(
        self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            asked = await reader.readuntil(b"\r\n\r\n")
            head = asked.decode("latin-1").split(" ", 2)
            path = head[1] if len(head) > 1 else "/"
            plain = self._not_redirected.get(listener.service)
            if plain or (plain is not None and path != "/"):
                await _pass_on(listener.upstream, reader, writer, asked)
                return
            location = f"https://{LOOPBACK}:{listener.secure}{path}"
            redirect = f"HTTP/1.1 301 Moved Permanently\r\nLocation: {location}\r\n"
            writer.write(f"{redirect}Content-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1"))
            await writer.drain()
        writer.close()


async def _pass_on(
    upstream: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, read: bytes = b""
) -> None:
    host, _, port = upstream.rpartition(":")
    with contextlib.suppress(OSError):
        back_reader, back_writer = await asyncio.open_connection(host, int(port))
        back_writer.write(read)
        await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


class Authority:
    """Signs certificates; clients trust its own certificate, the file `certificate`."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Embedded platform")])
        self.certificate = directory / "authority.pem"
        own = _builder(self._name, self._name, self._key.public_key(), AUTHORITY_DAYS)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate.write_bytes(_pem(own.sign(self._key, hashes.SHA256())))

    def issue(self, path: Path, host: str, days: int, *, trusted: bool = True) -> None:
        """Write key and certificate of a host to one file; without `trusted` it is self-signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        issuer, signer = (self._name, self._key) if trusted else (name, key)
        builder = _builder(name, issuer, key.public_key(), days)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(host)]), critical=False)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.touch(0o600)
        path.write_bytes(private + _pem(builder.sign(signer, hashes.SHA256())))


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(datetime.now(UTC), end) - A_DAY)
        .not_valid_after(end)
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

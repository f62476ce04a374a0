"""The certificate that a host presents, as a browser would judge it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pytest_readiness import SetupError

from smoke.network.sockets import connected

from .http import require_resolvable

CONNECT_TIMEOUT_S = 5.0
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that covers its host and that this runner trusts; `days` until it expires."""

    days: float
    names: tuple[str, ...]
    issuer: str


def certificate_of(url: str, ca_file: str = "") -> Certificate:
    """The certificate behind an https URL.

    AssertionError when it does not cover the host, has expired or is not trusted by this runner;
    SetupError when the host does not resolve. `ca_file` is an authority to trust beside the runner's own.
    """
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 443
    require_resolvable(url)
    try:
        context = ssl.create_default_context()
        if ca_file:
            context.load_verify_locations(ca_file)
    except OSError as problem:
        raise SetupError(f"edge.ca_file {ca_file}: {problem}") from problem
    try:
        with (
            connected(host, port, CONNECT_TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as secure,
        ):
            presented: Mapping[str, Any] = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as problem:
        raise AssertionError(f"the certificate of {host}: {problem.verify_message}") from problem
    except OSError as problem:
        raise AssertionError(f"{host}:{port} does not speak TLS: {problem}") from problem
    return Certificate(
        days=(ssl.cert_time_to_seconds(presented["notAfter"]) - time.time()) / DAY_S,
        names=tuple(name for _, name in presented.get("subjectAltName", ())),
        issuer=_common_name(presented.get("issuer", ())),
    )


def _common_name(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    return next((value for part in name for key, value in part if key == "commonName"), "")

"""One service's HTTP: fresh credentials, evidence, back-off on 429, names and certificates."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from threading import Condition, Event
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import urlsplit

import httpx
from pytest_readiness import Environment, Eventually, Evidence, SetupError

from smoke.contract.exchange import SECONDS_OR_DATE, pause_in
from smoke.contract.health import PER_SECOND
from smoke.contract.model import SERVICES, Service
from smoke.contract.schemas import EVENTS
from smoke.network.connections import addresses_of, authorities, connected, same_on_every_python
from smoke.network.transport import LOOPBACK, ClosedWhileIdle, within

from .answers import (
    CONTRACT_PATH,
    SERVICE,
    ContractViolation,
    Fields,
    fields_of,
    media_type,
    require_status,
    route_of,
    shown,
)
from .recorded import AnswerLog, Events, renamed
from .tokens import KeySet, key_set_of

#: Long enough to see by how much health exceeds the promised 2 s; a hanging service costs no more time.
HEALTH_WITHIN_S = 5.0
#: Two uptime reports this far apart distinguish milliseconds from seconds.
UNIT_SHOWS_S = 0.2
#: Time for a service to be back after a restart.
RESTARTS_WITHIN_S = 60.0
JSON_HEADERS = {"Content-Type": "application/json"}
#: How long one request may wait for rate limits (a minute's window and some more), and how often it is
#: resent.
BACKOFF_BUDGET_S = 75.0
MAX_REPEATS = 20
#: Retries whose Retry-After is 0, or a date that has passed, wait at least this long.
LEAST_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, *[1.0] * (MAX_REPEATS - 6))
#: In an event's data, or a complete stream: quotes in a model's text are escaped there.
_RATE_EVENT = re.compile(rb'"code"\s*:\s*"RATE_LIMITED"')
_NEVER = Event()
#: How many idle connections one request may find closed: as many as are usually kept.
MAX_CLOSED = 20
#: Whether a request is sent again if its connection was closed; a drill needs to see that.
resends: ContextVar[bool] = ContextVar("resends", default=True)

#: Makes a new Authorization header for each send, because a verified token is spent. None: no header.
Credential = Callable[[], str | None]

#: A Date header has whole seconds, and a server may update it once a second.
DATE_S = 2.0


def wait(seconds: float) -> bool:
    """Wait this many seconds before the next look or attempt: the only wait of the suite. Always False."""
    return _NEVER.wait(seconds)


@lru_cache(maxsize=1024)
def _url(address: str, params: tuple[tuple[str, str], ...]) -> httpx.URL:
    """An address with its query, cached: parsing takes longer than sending a request."""
    return httpx.URL(address, params=dict(params)) if params else httpx.URL(address)


def over_rate(response: httpx.Response) -> bool:
    """Whether a service rate-limited a request, even by an event in a stream."""
    read_events = response.is_closed and media_type(response) == EVENTS
    return response.status_code == 429 or (read_events and ends_for_rate(response.content))


def ends_for_rate(events: bytes) -> bool:
    """Whether a stream, or an event's data, says that it ends because of its caller's rate."""
    return _RATE_EVENT.search(events) is not None


def retry_after(response: httpx.Response) -> float:
    """Seconds to wait by a 429's Retry-After; a missing one violates the contract.

    An event has none.
    """
    if response.status_code != 429:
        return 0.0
    value = response.headers.get("retry-after", "")
    pause = pause_in(value)
    if pause is None:
        got = f"expected {SECONDS_OR_DATE}, got {shown(value or None)}"
        raise ContractViolation(f"{route_of(response)}: retry-after of a 429: {got}")
    return pause


def still_limited(route: str, waited: float) -> SetupError:
    """The error for a rate limit that persists after waiting this long."""
    return SetupError(
        f"{route}: still rate limited after {waited:g} s of waiting; "
        "raise the limit of the smoke tenants or run less often"
    )


class Parts(TypedDict, total=False):
    """Parts of a request besides its credential, and how it is sent.

    ``params`` are encoded, a ``query`` is sent as it is. ``content`` in pieces is sent chunked. ``timeout``
    limits the exchange, in seconds, if not the connection pool's default. A 200 of a ``stream`` is not read
    and not recorded.
    """

    headers: Mapping[str, str | bytes]
    params: Mapping[str, str]
    query: str
    content: bytes | Sequence[bytes]
    json: object
    timeout: float
    stream: bool


def address_of(environment: Environment, service: str) -> Service:
    """A service's address from the profile; empty fields are as in the contract."""
    contract = SERVICES[service]
    kind = "call" if service == "finn" else "user"
    issuers = {kind: environment.get(f"{service}.issuer")}
    if service == "dixie":
        issuers["service"] = environment.get("dixie.service_issuer")
    return replace(
        contract,
        audience=environment.get(f"{service}.audience") or contract.audience,
        issuers=issuers,
        paths=environment.get(f"{service}.paths"),
        headers=environment.get(f"{service}.headers"),
    )


def shares_clock(environment: Environment, service: str) -> bool:
    """Whether a service runs on this machine: a live one may be behind a tunnel that ends here."""
    host = urlsplit(environment.get(f"{service}.url")).hostname or ""
    return not environment.live and LOOPBACK.fullmatch(host) is not None


def same_clock(answer: httpx.Response, since: float) -> bool:
    """Whether the Date of an answer to a request sent at ``since`` fits this runner's clock.

    Without a Date, the same clock is assumed.
    """
    try:
        said = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ValueError:
        return True
    return since - DATE_S <= said <= time.time()


def key_paths(environment: Environment, zone: str) -> dict[str, str]:
    """The path of each service's key set, by its host name in the private zone."""
    addresses = [address_of(environment, service) for service in SERVICES]
    return {f"{each.name}.{zone}": each.path(each.jwks) for each in addresses}


def trust_of(environment: Environment) -> ssl.SSLContext:
    """The authorities that the services' clients trust: this runner's and, if one has TLS, the profile's."""
    file = environment.get("edge.ca_file")
    secure = any(environment.get(f"{service}.url").startswith("https:") for service in SERVICES)
    try:
        return authorities(file if secure else "")
    except OSError as problem:
        raise SetupError(f"edge.ca_file {file}: {problem}") from None


class RateGate:
    """Lets rate-limited requests go first; otherwise, new ones would use up the limit."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._refused = 0

    def enter(self) -> None:
        """Wait until no refused request is left, at most as long as one of them may wait."""
        with self._changed:
            self._changed.wait_for(lambda: not self._refused, BACKOFF_BUDGET_S)

    @contextmanager
    def first(self) -> Iterator[bool]:
        """Hold back new requests until the block ends. True if no other request is refused yet."""
        with self._changed:
            self._refused += 1
            alone = self._refused == 1
        try:
            yield alone
        finally:
            with self._changed:
                self._refused -= 1
                self._changed.notify_all()


@cache
def gate_of(base_url: str) -> RateGate:
    """The one gate for all clients of a base URL in this process."""
    return RateGate()


class HttpClient:
    """HTTP to one service. Its exchanges are recorded in ``evidence``, if there is one."""

    def __init__(
        self,
        service: str,
        base_url: str,
        pool: httpx.Client,
        evidence: Evidence | None = None,
        *,
        address: Service | None = None,
        log: AnswerLog | None = None,
        pause: Callable[[float], object] = wait,
    ) -> None:
        self.service = service
        self.address = address or SERVICES[service]
        self.base_url = base_url.rstrip("/")
        self.pool = pool
        self.evidence = evidence
        #: Names each wait for a rate, in families of cases as well: it explains where the time went.
        self._waits = evidence
        self._log = log
        self._pause = pause

    def record(self, response: httpx.Response, events: Events = ()) -> None:
        """Record a request and its answer, if a check uses this client; a run judges every answer."""
        if self._log is not None:
            self._log.saw(self.address, response, urlsplit(self.base_url).path, events)
        if self.evidence is not None:
            self.evidence.exchange(response)

    def once(
        self, method: str, path: str, credential: Credential | None = None, **parts: Unpack[Parts]
    ) -> httpx.Response:
        """The answer to one request, of any status.

        If the service closed an idle connection, the request is sent again over another one.
        """
        for _ in range(MAX_CLOSED if resends.get() else 0):
            try:
                return self._once(method, path, credential, **parts)
            except ClosedWhileIdle:
                if self.evidence is not None:
                    self.evidence.note(f"{method} {path}: an idle connection was closed, sent over another")
        return self._once(method, path, credential, **parts)

    def _once(
        self, method: str, path: str, credential: Credential | None, **parts: Unpack[Parts]
    ) -> httpx.Response:
        headers = httpx.Headers(dict(parts.get("headers", {})))  # type: ignore[arg-type]
        if credential is not None and (authorization := credential()) is not None:
            headers["Authorization"] = authorization
        if self._log is not None and (own := self._log.request_id(self.service, method, path)):
            headers.setdefault("X-Request-Id", own)
        address = self.base_url + self.address.path(path)
        if "query" in parts:
            address += f"?{parts['query']}"
        request = self.pool.build_request(
            method,
            _url(address, tuple(parts.get("params", {}).items())),
            headers=renamed(headers, self.address.headers),
            content=parts.get("content"),
            json=parts.get("json"),
            timeout=within(parts["timeout"]) if "timeout" in parts else httpx.USE_CLIENT_DEFAULT,
            extensions={CONTRACT_PATH: path, SERVICE: self.service},
        )
        request.read()  # so that it can be recorded, and sent again
        response = self.pool.send(request, stream=parts.get("stream", False))
        back = {other: name for name, other in self.address.headers.items()}
        response.headers = renamed(response.headers, back)
        if response.status_code != 200:
            response.read()
        if response.is_closed:
            self.record(response)
        return response

    def send(
        self, method: str, path: str, credential: Credential | None = None, **parts: Unpack[Parts]
    ) -> httpx.Response:
        """Like ``once``, but waits while the service rate-limits; SetupError if that persists."""
        gate = gate_of(self.base_url)
        gate.enter()
        response = self.once(method, path, credential, **parts)
        if not over_rate(response):
            return response
        waited, route = 0.0, route_of(response)
        with gate.first() as alone:
            for least in LEAST_PAUSES_S:
                pause = max(least, retry_after(response))
                if waited + pause > BACKOFF_BUDGET_S:
                    break
                if alone and self._waits is not None:
                    self._waits.note(f"{route}: rate limited, waited {pause:g} s as asked")
                self._pause(pause)
                waited += pause
                response = self.once(method, path, credential, **parts)
                if not over_rate(response):
                    return response
        raise still_limited(route, waited)


class ServiceClient:
    """The routes of every service: its health and its public keys."""

    #: How many units per second the service's uptime has; 0 while unknown.
    _per_second = 0

    def __init__(self, http: HttpClient) -> None:
        self.http = http

    def unrecorded(self) -> Self:
        """The same client without its check's evidence: for a family of cases, the batch records a few."""
        quiet = copy(self)
        quiet.http = copy(self.http)
        quiet.http.evidence = None
        return quiet

    def get_health(self, **headers: str) -> httpx.Response:
        """The answer of the health route, of any status."""
        return self.http.send("GET", self.http.address.health, headers=headers, timeout=HEALTH_WITHIN_S)

    def health(self) -> Fields:
        """The body of a 200 of the health route."""
        return fields_of(require_status(self.get_health(), 200))

    def restart(self, url: str, eventually: Eventually) -> None:
        """Restart the service by a POST to its URL in the profile, and wait until it is back."""
        before = self.uptime()
        self.http.pool.post(url, timeout=within(RESTARTS_WITHIN_S)).raise_for_status()

        def restarted() -> bool:
            try:
                return self.uptime() < before
            except (httpx.HTTPError, AssertionError):
                return False

        eventually(restarted, within=RESTARTS_WITHIN_S, what=f"{self.http.service} is back")

    def uptime(self) -> float:
        """Seconds since the service started, from its own report, which may use another unit."""
        if not self._per_second:
            units, first = PER_SECOND[self.http.service], self._reported_uptime()
            wait(UNIT_SHOWS_S if len(units) > 1 else 0)
            # milliseconds increase by hundreds in this time, seconds by at most one
            self._per_second = max(units) if self._reported_uptime() - first > 2 else min(units)
        return self._reported_uptime() / self._per_second

    def _reported_uptime(self) -> float:
        name = "uptime_seconds" if self.http.service == "dixie" else "uptime"
        return self.health().number(name, minimum=0)

    def get_jwks(self, **headers: str) -> httpx.Response:
        """The answer of the JWKS route, of any status."""
        return self.http.send("GET", self.http.address.jwks, headers=headers)

    def jwks(self) -> KeySet:
        """The published keys."""
        return key_set_of(require_status(self.get_jwks(), 200))


#: Makes the client of a service by its name, recording in the evidence of a check, if any.
Connect = Callable[..., HttpClient]
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

    AssertionError if it does not cover the host, has expired or is not trusted by this runner; SetupError if
    the host does not resolve. `ca_file` is an authority to trust in addition to the runner's.
    """
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 443
    require_resolvable(url)
    try:
        context = same_on_every_python(ssl.create_default_context())
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


RESOLVE_WITHIN_S = 5.0


def require_resolvable(url: str, within: float = RESOLVE_WITHIN_S) -> None:
    """SetupError naming the host if the runner's resolver does not know it or gives no answer in time."""
    host = urlsplit(url).hostname or ""
    try:
        addresses_of(host, within)
    except OSError as error:
        raise SetupError(
            f"the name {host} does not resolve on this runner: {error}\n"
            "  next: correct the URL in the profile, or run where the name resolves (DNS, VPN)"
        ) from None

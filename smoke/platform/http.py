"""One service's HTTP: fresh credentials, evidence, back-off on 429, and host names that resolve."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from threading import Event
from urllib.parse import urlsplit

import httpx
from pytest_readiness import Evidence, SetupError

from .answers import DIGITS, ContractViolation, route_of, shown
from .transport import within

JSON_HEADERS = {"Content-Type": "application/json"}
#: What one request may wait for rate limits, a whole minute's window and a bit; and how often it may be sent.
BACKOFF_BUDGET_S = 75.0
MAX_SENDS = 5
_NEVER = Event()

#: Makes the Authorization header anew for each send, as a verified token is spent once. None: no header.
Credential = Callable[[], str | None]


def retry_after(response: httpx.Response) -> float:
    """Seconds of a 429's Retry-After; without one it is a violation of the contract."""
    value = response.headers.get("retry-after", "")
    if not DIGITS.fullmatch(value):
        raise ContractViolation(
            f"{route_of(response)}: retry-after of a 429: expected whole seconds, got {shown(value or None)}"
        )
    return float(value)


class HttpClient:
    """HTTP to one service. Its exchanges are recorded in ``evidence``, if there is one."""

    def __init__(
        self,
        service: str,
        base_url: str,
        pool: httpx.Client,
        evidence: Evidence | None = None,
        *,
        pause: Callable[[float], object] = _NEVER.wait,
    ) -> None:
        self.service = service
        self.base_url = base_url.rstrip("/")
        self.pool = pool
        self.evidence = evidence
        self._pause = pause

    def record(self, response: httpx.Response) -> None:
        """Record a request and its answer, where a check holds this client."""
        if self.evidence is not None:
            self.evidence.exchange(response)

    def build(
        self,
        method: str,
        path: str,
        *,
        credential: Credential | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Request:
        """A request with a fresh credential; ``timeout`` limits the whole exchange, in seconds."""
        sent = dict(headers or {})
        authorization = credential() if credential is not None else None
        if authorization is not None:
            sent["Authorization"] = authorization
        return self.pool.build_request(
            method,
            self.base_url + path,
            headers=sent,
            content=content,
            params=dict(params or {}),
            timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else within(timeout),
        )

    def send(
        self,
        method: str,
        path: str,
        *,
        credential: Credential | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """The answer, whatever its status, except 429: that is waited out; SetupError when it persists."""

        def attempt() -> httpx.Response:
            request = self.build(
                method,
                path,
                credential=credential,
                headers=headers,
                content=content,
                params=params,
                timeout=timeout,
            )
            return self.pool.send(request)

        return self.patiently(attempt)

    def patiently(self, attempt: Callable[[], httpx.Response]) -> httpx.Response:
        """Repeat ``attempt`` while the service says 429, by its Retry-After, within the back-off budget."""
        waited, route = 0.0, ""
        for _ in range(MAX_SENDS):
            response = attempt()
            if response.status_code != 429:
                if not response.is_stream_consumed and not response.is_closed:
                    return response
                self.record(response)
                return response
            response.read()
            self.record(response)
            route, pause = route_of(response), retry_after(response)
            if waited + pause > BACKOFF_BUDGET_S:
                break
            if self.evidence is not None:
                self.evidence.note(f"{self.service} {route}: rate limited, waited {pause:g} s as told")
            self._pause(pause)
            waited += pause
        raise SetupError(
            f"{self.service} {route}: still rate limited after {waited:g} s of waiting; "
            "raise the limit of the smoke tenants or run less often"
        )


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

"""One service's HTTP: sends with fresh credentials, records, backs off, tells whose fault it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event
from typing import Any, Protocol

import httpx
from pytest_readiness import ExternalOutage, SetupError

from .contract import ContractViolation, error_code, fields_of, route_of, shown

#: What one request may wait for rate limits, a whole minute's window and a bit; and how often it may be sent.
BACKOFF_BUDGET_S = 75.0
MAX_SENDS = 5
_NEVER = Event()
PROVIDER_CODES = frozenset({"MODEL_PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"})


class Evidence(Protocol):
    """What a check records; the plugin's `evidence` fixture."""

    def exchange(self, response: httpx.Response) -> None:
        """Record a request and its answer."""

    def figure(self, name: str, value: Any, unit: str = "", expected: Any = None, limit: Any = None) -> None:
        """Record one measured value."""

    def evaluated(self, rule: str, times: int = 1) -> None:
        """Record that a rule was compared."""

    def note(self, text: str) -> None:
        """Record a remark, which is no measurement."""


class UnexpectedStatus(AssertionError):
    """The platform answered with a status that the contract does not give for this request."""


#: Makes the Authorization header anew for each send, as a verified token is spent once. None: no header.
Credential = Callable[[], str | None]


def retry_after(response: httpx.Response) -> float:
    """Seconds of a 429's Retry-After; without one it is a violation of the contract."""
    value = response.headers.get("retry-after", "")
    if not value.isdigit():
        raise ContractViolation(
            f"{route_of(response)}: retry-after of a 429: expected whole seconds, got {shown(value or None)}"
        )
    return float(value)


def require_status(response: httpx.Response, *allowed: int) -> httpx.Response:
    """Assert the status. The third party's named signal is an outage; other surprises are ours."""
    if response.status_code in allowed:
        return response
    code = error_code(response)
    if response.status_code == 503 and code in PROVIDER_CODES:
        raise ExternalOutage(f"{route_of(response)}: 503 {code}: the model provider behind Finn is down")
    expected = " or ".join(str(status) for status in allowed)
    came = f"{response.status_code} {code}".strip()
    hint = " (a route of the contract is missing)" if response.status_code == 404 else ""
    raise UnexpectedStatus(f"{route_of(response)}: expected {expected}, got {came}{hint}")


def require_error(response: httpx.Response, status: int, code: str) -> None:
    """Assert Freeside's JSON error with exactly this status and code, and a message for people."""
    fields = fields_of(require_status(response, status))
    fields.text("error", among=(code,))
    fields.text("message")


class Unrecorded:
    """Takes what no check has to show."""

    def exchange(self, response: httpx.Response) -> None:
        """Leave it."""

    def figure(self, name: str, value: Any, unit: str = "", expected: Any = None, limit: Any = None) -> None:
        """Leave it."""

    def evaluated(self, rule: str, times: int = 1) -> None:
        """Leave it."""

    def note(self, text: str) -> None:
        """Leave it."""


class Wire:
    """HTTP to one service. Recorded in the evidence of the check that holds it."""

    def __init__(
        self,
        service: str,
        base_url: str,
        http: httpx.Client,
        evidence: Evidence,
        *,
        pause: Callable[[float], object] = _NEVER.wait,
    ) -> None:
        self.service = service
        self.base_url = base_url.rstrip("/")
        self.http = http
        self.evidence = evidence
        self._pause = pause

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
        """A request with a fresh credential; ``timeout`` in seconds where it is not the connection's own."""
        sent = dict(headers or {})
        authorization = credential() if credential is not None else None
        if authorization is not None:
            sent["Authorization"] = authorization
        return self.http.build_request(
            method,
            self.base_url + path,
            headers=sent,
            content=content,
            params=dict(params or {}),
            timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else timeout,
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
            return self.http.send(request)

        return self.patiently(attempt)

    def patiently(self, attempt: Callable[[], httpx.Response]) -> httpx.Response:
        """Repeat ``attempt`` while the service says 429, by its Retry-After, within the back-off budget."""
        waited, route = 0.0, ""
        for _ in range(MAX_SENDS):
            response = attempt()
            if response.status_code != 429:
                if not response.is_stream_consumed and not response.is_closed:
                    return response
                self.evidence.exchange(response)
                return response
            response.read()
            self.evidence.exchange(response)
            route, pause = route_of(response), retry_after(response)
            if waited + pause > BACKOFF_BUDGET_S:
                break
            self.evidence.note(f"{self.service} {route}: rate limited, waited {pause:g} s as told")
            self._pause(pause)
            waited += pause
        raise SetupError(
            f"{self.service} {route}: still rate limited after {waited:g} s of waiting; "
            "raise the limit of the smoke tenants or run less often"
        )

"""Attacks on the services: where forged tokens and bad requests go, and what counts as a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from pytest_readiness import SafetyViolation

from .answers import (
    UnexpectedStatus,
    body_text,
    error_code,
    require_error,
    require_json_error,
    require_status,
    route_of,
)
from .dixie import Dixie
from .finn import Finn
from .forgeries import Genuine, forgery
from .freeside import Freeside
from .http import Credential
from .prompts import prompt_for
from .tokens import Claims, SigningKey, bearer, finn_claims, user_claims

REFUSALS = (401, 403)
#: A verified token that was spent before (contract 1.3); Finn and Dixie say 401.
REPLAYS = (401, 409)
UNKNOWN_MODEL = "smoke-no-such-model"
MAX_BODY_BYTES = 128 * 1024
DEPTH = 1000
#: What an error must not show of a service: traces, paths, queries, keys.
INTERNALS = re.compile(
    r"Traceback|stack\s*trace|\.py\b|\.[jt]s:\d|node_modules|site-packages|/(?:app|usr|home|srv)/"
    r"|-----BEGIN|PRIVATE KEY|postgres(?:ql)?://|SELECT\s.{1,200}?\sFROM\s|secretsmanager"
    r"|password[\"']?\s*[:=]\s*[\"']?\w",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Target:
    """A service under attack. ``claims`` would be accepted when signed properly."""

    service: str
    claims: Callable[[], Claims]
    send: Callable[[Credential | None], httpx.Response]
    key: Callable[[], SigningKey]
    attacker: SigningKey

    def genuine(self) -> Genuine:
        """What a new token that would be accepted is made of."""
        return Genuine(self.key(), self.claims(), self.attacker)

    def forged(self, case: str) -> httpx.Response:
        """The answer to a forgery, made anew for each send."""
        return self.send(lambda: forgery(case)(self.genuine()))

    def spent(self) -> tuple[str, Claims]:
        """The Authorization header and the claims of a valid token that was accepted just now.

        Each send has a token of its own: one that met a rate limit may be spent, too.
        """
        sent: list[tuple[str, Claims]] = []

        def fresh() -> str:
            claims = self.claims()
            sent.append((bearer(self.key(), claims), claims))
            return sent[-1][0]

        require_status(self.send(fresh), 200)
        return sent[-1]

    def accepted(self) -> httpx.Response:
        """The 200 to a new valid token, the positive control."""
        return require_status(self.send(lambda: bearer(self.key(), self.claims())), 200)


def target_of(client: Freeside | Finn | Dixie, tenant: str, agent: str, attacker: SigningKey) -> Target:
    """A service with the route to attack: Dixie's reputation query about ``agent``, or else the invoke.

    A token that is let in there spends the money of ``tenant``.
    """
    service, key = client.http.service, client.key
    if isinstance(client, Dixie):
        return Target(service, client.claims, partial(client.query, f"nft:{agent}"), key, attacker)
    if isinstance(client, Finn):
        body = client.body(prompt_for())
        claims = partial(finn_claims, tenant, body)
    else:
        body = json.dumps(client.invoke_body(prompt_for())).encode()
        claims = partial(user_claims, tenant)
    send = lambda token: client.post_invoke(body, tenant=tenant, credential=token)  # noqa: E731
    return Target(service, claims, send, key, attacker)


def require_refused(
    response: httpx.Response, service: str, what: str, statuses: tuple[int, ...] = REFUSALS
) -> None:
    """Assert a refusal with a JSON error; SafetyViolation when the service accepted."""
    got = f"{response.status_code} {error_code(response)}".strip()
    if response.is_success:
        raise SafetyViolation(f"{service} accepted {what}: {route_of(response)} answered {got}")
    if response.status_code not in statuses:
        expected = " or ".join(map(str, statuses))
        text = f"{route_of(response)}: {service} and {what}: expected {expected}, got {got}"
        raise UnexpectedStatus(text, response)
    require_json_error(response)


def require_spent(response: httpx.Response, service: str, what: str) -> None:
    """Assert that a token was refused for being spent; a 409 must carry its code."""
    require_refused(response, service, what, REPLAYS)
    if response.status_code == 409:
        require_error(response, 409, "JTI_REPLAY")


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A body and headers with one thing wrong, and the statuses that the contract allows for it."""

    body: bytes | Mapping[str, Any]
    statuses: tuple[int, ...] = (400,)
    headers: Mapping[str, str] = field(default_factory=dict)


def _deep(freeside: Freeside) -> bytes:
    """A prompt that is nested beyond what a parser should follow."""
    body = json.dumps(freeside.invoke_body("DEEP"))
    return body.replace('"DEEP"', "[" * DEPTH + "]" * DEPTH).encode()


def _without_prompt(freeside: Freeside) -> dict[str, Any]:
    body = freeside.invoke_body(prompt_for())
    return {name: value for name, value in body.items() if name not in {"prompt", "messages"}}


BAD_INPUT: dict[str, Callable[[Freeside], BadRequest]] = {
    "not-json": lambda _: BadRequest(b'{"prompt": '),
    "null": lambda _: BadRequest(b"null"),
    "array": lambda _: BadRequest(b"[]"),
    "missing-prompt": lambda f: BadRequest(_without_prompt(f)),
    "blank-prompt": lambda f: BadRequest(f.invoke_body("   ")),
    "unknown-model": lambda f: BadRequest(f.invoke_body(prompt_for(), model=UNKNOWN_MODEL)),
    "wrong-content-type": lambda f: BadRequest(
        f.invoke_body(prompt_for()), (400, 415), {"Content-Type": "text/plain"}
    ),
    "body-over-128-kib": lambda f: BadRequest(f.invoke_body("a" * (MAX_BODY_BYTES + 1)), (413,)),
    "deep-json": lambda f: BadRequest(_deep(f)),
    "bad-idempotency-key": lambda f: BadRequest(
        f.invoke_body(prompt_for()), headers={"X-Idempotency-Key": "k" * 129}
    ),
}


def leak(answer: httpx.Response) -> str:
    """The first internal detail that an answer exposes, in its body or headers."""
    shown = body_text(answer) + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    match = INTERNALS.search(shown)
    return match.group(0) if match else ""

"""Attacks on the services: where forged tokens and bad requests go, and what counts as a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from .prompts import nonce, prompt_for
from .tokens import Claims, SigningKey, bearer, user_claims

REFUSALS = (401, 403)
#: A verified token that was spent before (contract 1.3); Finn and Dixie say 401.
REPLAYS = (401, 409)


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

    def accepted(self, **claims: object) -> httpx.Response:
        """The 200 to a new valid token, the positive control."""
        return require_status(self.send(lambda: bearer(self.key(), self.claims() | claims)), 200)


def freeside_target(freeside: Freeside, tenant: str, attacker: SigningKey) -> Target:
    """Freeside's invoke: a token that is let in spends money."""
    content = json.dumps(freeside.invoke_body(prompt_for(nonce()))).encode()
    return Target(
        "freeside",
        lambda: user_claims(tenant),
        lambda credential: freeside.post_invoke(content, tenant=tenant, credential=credential),
        freeside.key,
        attacker,
    )


def finn_target(finn: Finn, tenant: str, attacker: SigningKey) -> Target:
    """Finn's invoke, with its own audience."""
    content = finn.body(prompt_for(nonce()))
    return Target(
        "finn",
        lambda: finn.claims(tenant, content),
        lambda credential: finn.post_invoke(content, tenant=tenant, credential=credential),
        finn.key,
        attacker,
    )


def dixie_target(dixie: Dixie, agent: str, attacker: SigningKey) -> Target:
    """Dixie's reputation query, with its own audience."""
    return Target(
        "dixie",
        dixie.claims,
        lambda credential: dixie.query(f"nft:{agent}", credential),
        dixie.key,
        attacker,
    )


def require_refused(
    response: httpx.Response, service: str, what: str, statuses: tuple[int, ...] = REFUSALS
) -> None:
    """Assert a refusal with a JSON error; SafetyViolation when the service let it in."""
    came = f"{response.status_code} {error_code(response)}".strip()
    if response.is_success:
        raise SafetyViolation(f"{service} accepted {what}: {route_of(response)} answered {came}")
    if response.status_code not in statuses:
        expected = " or ".join(map(str, statuses))
        raise UnexpectedStatus(f"{route_of(response)}: {service} and {what}: expected {expected}, got {came}")
    require_json_error(response)


def require_spent(response: httpx.Response, service: str, what: str) -> None:
    """Assert that a token was refused for being spent; a 409 says so by its code."""
    require_refused(response, service, what, REPLAYS)
    if response.status_code == 409:
        require_error(response, 409, "JTI_REPLAY")


MAX_BODY_BYTES = 128 * 1024
DEPTH = 1000


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A body and headers that are wrong in one way, and the statuses that say so."""

    content: bytes
    statuses: tuple[int, ...] = (400,)
    headers: Mapping[str, str] = field(default_factory=dict)


def _good(freeside: Freeside) -> dict[str, Any]:
    return freeside.invoke_body(prompt_for(nonce()))


def _saying(freeside: Freeside, prompt: Any) -> bytes:
    """A body whose prompt is any JSON value."""
    return json.dumps(freeside.invoke_body(prompt)).encode()


def _deep(freeside: Freeside) -> bytes:
    """A prompt that is nested beyond what a parser should follow."""
    body = _saying(freeside, "DEEP").decode()
    return body.replace('"DEEP"', "[" * DEPTH + "]" * DEPTH).encode()


def _without_prompt(freeside: Freeside) -> bytes:
    body = _good(freeside)
    return json.dumps({k: v for k, v in body.items() if k not in {"prompt", "messages"}}).encode()


BAD_INPUT: dict[str, Callable[[Freeside], BadRequest]] = {
    "not-json": lambda _: BadRequest(b'{"prompt": '),
    "null": lambda _: BadRequest(b"null"),
    "array": lambda _: BadRequest(b"[]"),
    "missing-prompt": lambda f: BadRequest(_without_prompt(f)),
    "blank-prompt": lambda f: BadRequest(_saying(f, "   ")),
    "unknown-model": lambda f: BadRequest(
        json.dumps(f.invoke_body(prompt_for(nonce()), model="smoke-no-such-model")).encode()
    ),
    "wrong-content-type": lambda f: BadRequest(
        json.dumps(_good(f)).encode(), (400, 415), {"Content-Type": "text/plain"}
    ),
    "body-over-128-kib": lambda f: BadRequest(_saying(f, "a" * (MAX_BODY_BYTES + 1)), (413,)),
    "deep-json": lambda f: BadRequest(_deep(f)),
    "bad-idempotency-key": lambda f: BadRequest(
        json.dumps(_good(f)).encode(), headers={"X-Idempotency-Key": "k" * 129}
    ),
}


INTERNALS = re.compile(
    r"Traceback|stack\s*trace|\.py\b|\.[jt]s:\d|node_modules|site-packages|/(?:app|usr|home|srv)/"
    r"|-----BEGIN|PRIVATE KEY|postgres(?:ql)?://|SELECT\s.{1,200}?\sFROM\s|secretsmanager"
    r"|password[\"']?\s*[:=]\s*[\"']?\w",
    re.IGNORECASE,
)


def leak(answer: httpx.Response) -> str:
    """The first internal that an answer shows, in its body or its headers."""
    shown = body_text(answer) + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    match = INTERNALS.search(shown)
    return match.group(0) if match else ""

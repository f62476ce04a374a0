"""The services as an attacker meets them: one route each, and what a refusal is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from pytest_readiness import SafetyViolation

from .contract import error_code, require_json_error, route_of
from .dixie import Dixie
from .figures import nonce, prompt_for
from .finn import Finn
from .forgeries import Genuine, forgery
from .freeside import Freeside
from .tokens import Claims, SigningKey, bearer, user_claims
from .wire import Credential, UnexpectedStatus, require_error, require_status

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

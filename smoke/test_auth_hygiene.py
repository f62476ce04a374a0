"""G-2, phase auth: clocks that differ a little, errors that tell nothing, good keys that stay."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from smoke.clients.dixie import Dixie
from smoke.clients.finn import Finn
from smoke.clients.freeside import Freeside
from smoke.clients.targets import (
    REPLAYS,
    Target,
    dixie_target,
    finn_target,
    freeside_target,
    require_refused,
)
from smoke.clients.tokens import SigningKey, bearer, user_claims
from smoke.clients.wire import Credential, Evidence, require_status
from smoke.conftest import Tenants

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("auth"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

NEAR_S, FAR_S = 20, 120
#: What moves by so many seconds for a clock that is that far off.
SKEWS: dict[str, Callable[[int], dict[str, int]]] = {
    "exp": lambda s: {"iat": -300, "exp": -s},
    "iat": lambda s: {"iat": s, "exp": s + 300},
    "nbf": lambda s: {"nbf": s, "exp": s + 300},
}
#: Forgeries that a verifier refuses for different reasons.
TELLING = (
    "expired",
    "wrong-iss",
    "wrong-aud",
    "unknown-kid",
    "other-key-known-kid",
    "tampered-signature",
    "missing-sub",
)
INTERNALS = re.compile(
    r"Traceback|stack\s*trace|\.py\b|\.[jt]s:\d|node_modules|site-packages|/(?:app|usr|home|srv)/"
    r"|-----BEGIN|PRIVATE KEY|postgres(?:ql)?://|SELECT\s|secretsmanager|password",
    re.IGNORECASE,
)
BURST = 20

SERVICES = [
    "freeside",
    pytest.param("finn", marks=pytest.mark.requires("finn")),
    pytest.param("dixie", marks=pytest.mark.requires("dixie")),
]


@pytest.fixture
def target(
    request: pytest.FixtureRequest, service: str, environment: Any, tenants: Tenants, attacker: SigningKey
) -> Target:
    """The parametrised service as an attacker meets it; charged to the second community."""
    found: Freeside | Finn | Dixie = request.getfixturevalue(service)
    if isinstance(found, Freeside):
        return freeside_target(found, tenants.other, attacker)
    if isinstance(found, Finn):
        return finn_target(found, tenants.other, attacker)
    return dixie_target(found, environment.auth.nft_id, attacker)


def skewed(freeside: Freeside, tenant: str, claim: str, seconds: int) -> Credential:
    """Tokens whose ``claim`` is off by so many seconds."""
    moved = SKEWS[claim](seconds)

    def fresh() -> str | None:
        claims: dict[str, Any] = {name: int(time.time()) + delta for name, delta in moved.items()}
        return freeside.credential(tenant, **claims)()

    return fresh


@pytest.mark.parametrize("claim", SKEWS)
def test_small_clock_skew_is_accepted(freeside: Freeside, tenants: Tenants, claim: str) -> None:
    """A clock that is 20 s off still works."""
    require_status(freeside.models(skewed(freeside, tenants.main, claim, NEAR_S)), 200)


@pytest.mark.parametrize("claim", SKEWS)
def test_large_clock_skew_is_refused(freeside: Freeside, tenants: Tenants, claim: str) -> None:
    """A token that is 120 s off is refused."""
    answer = freeside.models(skewed(freeside, tenants.main, claim, FAR_S))
    require_refused(answer, "freeside", f"{claim} off by {FAR_S} s")


@pytest.mark.parametrize("service", ["freeside", pytest.param("dixie", marks=pytest.mark.requires("dixie"))])
def test_refusals_do_not_tell_why(target: Target, service: str, evidence: Evidence) -> None:
    """Whatever is wrong with a token, the answer is the same. (Finn's codes are part of its contract.)"""
    answers: dict[tuple[int, str], list[str]] = {}
    for case in TELLING:
        answer = target.forged(case)
        require_refused(answer, service, case)
        answers.setdefault((answer.status_code, answer.text), []).append(case)
    evidence.figure("different answers", len(answers), expected=1)
    assert len(answers) == 1, f"{service} tells apart: {list(answers.values())}"


@pytest.mark.parametrize("service", SERVICES)
def test_errors_leak_no_internals(target: Target, service: str, evidence: Evidence) -> None:
    """No error shows a stack trace, a path, a query or a key."""
    found = {
        case: leaked for case in (*TELLING, "garbage", "alg-none") if (leaked := leak(target.forged(case)))
    }
    evidence.evaluated("errors show no internals", len(TELLING) + 2)
    assert not found, f"{service} shows internals: {found}"


def leak(answer: httpx.Response) -> str:
    """The first internal that an answer shows, in its body or its headers."""
    shown = answer.text + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    match = INTERNALS.search(shown)
    return match.group(0) if match else ""


@pytest.mark.parametrize("service", SERVICES)
def test_unknown_kids_evict_no_good_key(target: Target, service: str) -> None:
    """After a burst of unknown kids a valid token still passes."""
    target.accepted()
    for _ in range(BURST):
        require_refused(target.forged("unknown-kid"), service, "unknown-kid")
    target.accepted()


@pytest.mark.drill
@pytest.mark.requires("restart")
def test_jti_stays_spent_after_a_restart(
    freeside: Freeside, tenants: Tenants, environment: Any, http: httpx.Client, eventually: Any
) -> None:
    """A restart does not forget which tokens were used."""
    header = bearer(freeside.key(), user_claims(tenants.main))
    require_status(freeside.models(lambda: header), 200)
    before = freeside.health().number("uptime", minimum=0, maximum=float("inf"))
    http.post(environment.freeside.restart_url).raise_for_status()

    def restarted() -> bool:
        try:
            return freeside.health().number("uptime", minimum=0, maximum=float("inf")) < before
        except (httpx.HTTPError, AssertionError):
            return False

    eventually(restarted, within=60, what="Freeside is back")
    require_refused(freeside.models(lambda: header), "freeside", "a token used before the restart", REPLAYS)

"""G-2, phase auth: small clock skew, errors without internals, good keys that stay cached."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence

from smoke.platform.answers import body_text, require_status
from smoke.platform.attacks import (
    REPLAYS,
    Target,
    leak,
    require_refused,
    target_of,
)
from smoke.platform.dixie import Dixie
from smoke.platform.finn import Finn
from smoke.platform.freeside import Freeside, Tenants
from smoke.platform.http import Credential
from smoke.platform.prompts import prompt_for
from smoke.platform.services import controlled, each
from smoke.platform.tokens import SigningKey, bearer

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
FAULTY = (
    "expired",
    "wrong-iss",
    "wrong-aud",
    "unknown-kid",
    "other-key-known-kid",
    "tampered-signature",
    "missing-sub",
)
#: What differs in every answer and reveals nothing: ids and times.
VARYING = re.compile(
    r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b|\d{4}-\d\d-\d\dT[\d:.]+|\b\d{10,13}\b"
)
BURST = 20


@pytest.fixture
def target(
    request: pytest.FixtureRequest, service: str, agent: str, tenants: Tenants, attacker: SigningKey
) -> Target:
    """The parametrised service as an attacker meets it; charged to the second community."""
    return target_of(request.getfixturevalue(service), tenants.other, agent, attacker)


def skewed(target: Target, claim: str, seconds: int) -> Credential:
    """Tokens whose ``claim`` is off by so many seconds."""

    def fresh() -> str:
        moved = {name: int(time.time()) + delta for name, delta in SKEWS[claim](seconds).items()}
        return bearer(target.key(), target.claims() | moved)

    return fresh


@pytest.mark.parametrize("claim", SKEWS)
@pytest.mark.parametrize("service", each())
def test_small_clock_skew_is_accepted(target: Target, service: str, claim: str) -> None:
    """A token from a clock that is 20 s off is accepted."""
    require_status(target.send(skewed(target, claim, NEAR_S)), 200)


@pytest.mark.parametrize("claim", SKEWS)
@pytest.mark.parametrize("service", each(marks=lambda name: [controlled(name)]))
def test_large_clock_skew_is_refused(target: Target, service: str, claim: str) -> None:
    """A token from a clock that is 120 s off is refused."""
    require_refused(target.send(skewed(target, claim, FAR_S)), service, f"{claim} off by {FAR_S} s")


@pytest.mark.parametrize("service", each("freeside", "dixie", marks=lambda name: [controlled(name)]))
def test_refusals_do_not_tell_why(target: Target, service: str, evidence: Evidence) -> None:
    """Whatever is wrong with a token, the answer is the same. (Finn's codes are part of its contract.)"""
    answers: dict[tuple[int, str], list[str]] = {}
    for case in FAULTY:
        answer = target.forged(case)
        require_refused(answer, service, case)
        answers.setdefault((answer.status_code, VARYING.sub("...", body_text(answer))), []).append(case)
    evidence.figure("different answers", len(answers), expected=1)
    assert len(answers) == 1, f"{service} answers differently: {list(answers.values())}"


@pytest.mark.parametrize("service", each())
def test_errors_leak_no_internals(target: Target, service: str, evidence: Evidence) -> None:
    """No error shows a stack trace, a path, a query or a key."""
    found = {
        case: leaked for case in (*FAULTY, "garbage", "alg-none") if (leaked := leak(target.forged(case)))
    }
    evidence.evaluated("errors show no internals", len(FAULTY) + 2)
    assert not found, f"{service} shows internals: {found}"


@pytest.mark.parametrize("service", each())
def test_unknown_kids_evict_no_good_key(target: Target, service: str) -> None:
    """After a burst of unknown kids a valid token still passes."""
    target.accepted()
    for _ in range(BURST):
        require_refused(target.forged("unknown-kid"), service, "unknown-kid")
    target.accepted()


@controlled("finn")
@pytest.mark.requires("finn")
def test_token_is_bound_to_its_request(finn: Finn, tenants: Tenants, evidence: Evidence) -> None:
    """Finn refuses a token that was made for another request body."""
    meant, sent = (finn.body(prompt_for()) for _ in range(2))
    answer = finn.post_invoke(sent, tenant=tenants.other, credential=finn.credential(tenants.other, meant))
    require_refused(answer, "finn", "a token that was made for another body", (400,))


@pytest.mark.drill
@pytest.mark.parametrize("service", each(marks=lambda name: [pytest.mark.requires(f"restart_{name}")]))
def test_jti_stays_spent_after_a_restart(
    request: pytest.FixtureRequest,
    target: Target,
    service: str,
    environment: Environment,
    http: httpx.Client,
    eventually: Eventually,
) -> None:
    """A service remembers across a restart which tokens were used."""
    found: Freeside | Finn | Dixie = request.getfixturevalue(service)
    header, _ = target.spent()
    before = uptime(found)
    http.post(environment.get(f"{service}.restart_url"), timeout=60).raise_for_status()

    def restarted() -> bool:
        try:
            return uptime(found) < before
        except (httpx.HTTPError, AssertionError):
            return False

    eventually(restarted, within=60, what=f"{service} is back")
    require_refused(target.send(lambda: header), service, "a token used before the restart", REPLAYS)


def uptime(service: Freeside | Finn | Dixie) -> float:
    """Seconds since a service started, by its own report."""
    name = "uptime_seconds" if isinstance(service, Dixie) else "uptime"
    return service.health().number(name, minimum=0)

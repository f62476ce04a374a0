"""G-2, phase auth: errors without reasons, good keys that stay cached, a memory that outlives a restart."""

from __future__ import annotations

import re

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence

from smoke.contract.model import Access, accesses
from smoke.platform.answers import body_text
from smoke.platform.attacks import REPLAYS, Target, require_refused
from smoke.platform.dixie import Dixie
from smoke.platform.finn import Finn
from smoke.platform.forgeries import one_of_each
from smoke.platform.freeside import Freeside
from smoke.platform.services import controlled, each
from smoke.platform.tokens import SigningKey, bearer

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("auth"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

#: What differs in every answer and reveals nothing: ids and times.
VARYING = re.compile(
    r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b|\d{4}-\d\d-\d\dT[\d:.]+|\b\d{10,13}\b"
)
BURST = 20
#: What is no token at all may be told from one.
OF_ANY_HEADER = ("credential", "encoding")


@pytest.fixture
def access(service: str) -> Access:
    """The first way in of the parametrised service."""
    return next(access for access in accesses() if access.service == service)


@pytest.mark.parametrize("service", each("freeside", "dixie", marks=lambda name: [controlled(name)]))
def test_refusals_reveal_no_reason(target: Target, service: str, evidence: Evidence) -> None:
    """Whatever is wrong with a token, the answer is the same. (Finn's codes are part of its contract.)"""
    answers: dict[tuple[int, str], list[str]] = {}
    for forgery in one_of_each(target.genuine()):
        if forgery.rule in OF_ANY_HEADER:
            continue
        answer = target.offer(forgery.header)
        require_refused(answer, service, forgery.name, rule=forgery.rule)
        answers.setdefault((answer.status_code, VARYING.sub("...", body_text(answer))), []).append(
            forgery.name
        )
    evidence.figure("different answers", len(answers), expected=1)
    assert len(answers) == 1, f"{service} answers differently: {list(answers.values())}"


@pytest.mark.parametrize("service", each())
def test_unknown_kids_evict_no_good_key(target: Target, service: str, evidence: Evidence) -> None:
    """After a burst of unknown kids a valid token still passes."""
    target.accepted()
    for n in range(BURST):
        unknown = SigningKey(target.key().private, f"smoke-unknown-{n}")
        require_refused(target.offer(bearer(unknown, target.claims())), service, "a token of an unknown kid")
    evidence.exchange(target.accepted())


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
    claims = target.spent()
    before = uptime(found)
    http.post(environment.get(f"{service}.restart_url"), timeout=60).raise_for_status()

    def restarted() -> bool:
        try:
            return uptime(found) < before
        except (httpx.HTTPError, AssertionError):
            return False

    eventually(restarted, within=60, what=f"{service} is back")
    require_refused(target.again(claims), service, "a token used before the restart", REPLAYS)


def uptime(service: Freeside | Finn | Dixie) -> float:
    """Seconds since a service started, by its own report."""
    name = "uptime_seconds" if isinstance(service, Dixie) else "uptime"
    return service.health().number(name, minimum=0)

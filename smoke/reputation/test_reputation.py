"""G-5, phase reputation: who may read a score, what a score is, and that only Finn writes events."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from pytest_readiness import Environment, Evidence

from smoke.platform.answers import require_status
from smoke.platform.attacks import require_refused
from smoke.platform.dixie import Dixie, Scores, quality_signal, service_credential
from smoke.platform.freeside import Freeside, Tenants
from smoke.platform.http import Credential
from smoke.platform.jwks import SigningKeyLookup
from smoke.platform.tokens import SigningKey

pytestmark = [
    pytest.mark.goal("G-5"),
    pytest.mark.phase("reputation"),
    pytest.mark.p1,
    pytest.mark.requires("dixie"),
]

WITH_TOKEN = pytest.mark.requires("freeside", "key", "signing")
WITH_FINN = pytest.mark.requires("finn", "finn_key")

#: Without an event that counts, a refused one proves nothing.
EVENTS_COUNT = pytest.mark.control("loop/good-events-raise-the-score")


def query_passes(credential: str) -> pytest.MarkDecorator:
    """Without a query that is answered, a refused one proves nothing."""
    return pytest.mark.control(f"reputation/seeded-agent-has-a-score[{credential}]")


#: Credentials by kind, each made only when a check uses it.
Credentials = Mapping[str, Callable[[], Credential | None]]

MALFORMED = {"two-colons": "nft:0xabc:1", "no-prefix": "smoke", "bad-character": "nft:a b!", "missing": None}


@pytest.fixture
def credentials(
    dixie: Dixie,
    environment: Environment,
    signing_key: SigningKeyLookup,
    finn_key: SigningKeyLookup,
    attacker: SigningKey,
) -> Credentials:
    """Every kind of credential that Dixie may be offered. Only the service token may write events."""
    return {
        "service-token": lambda: service_credential(finn_key()),
        "user-token": dixie.credential,
        "api-key": lambda: lambda: f"Bearer {environment.secret('dixie.api_key')}",
        "no-token": lambda: None,
        "garbage": lambda: lambda: "Bearer not.a.token",
        "stranger": lambda: service_credential(attacker),
        "freeside-as-finn": lambda: service_credential(signing_key()),
        "wrong-audience": lambda: service_credential(finn_key(), aud="arrakis"),
        "expired": lambda: service_credential(finn_key(), iat=1_000_000_000, exp=1_000_000_300),
    }


def require_event_refused(dixie: Dixie, agent: str, writer: str, credentials: Credentials) -> None:
    """Offer an event about ``agent`` as ``writer``, and assert that Dixie refuses it."""
    answer = dixie.post_event(quality_signal(agent, 1.0), credentials[writer]())
    require_refused(answer, "dixie", f"an event with the credential {writer!r}")


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param("user-token", marks=WITH_TOKEN),
        pytest.param("api-key", marks=pytest.mark.requires("dixie_key")),
        pytest.param("service-token", marks=WITH_FINN),
    ],
)
def test_seeded_agent_has_a_score(
    dixie: Dixie, agent: str, credential: str, credentials: Credentials, evidence: Evidence
) -> None:
    """The score of a known agent is a number in [0, 1] for every kind of credential; null is not a score."""
    score = dixie.score(agent, credentials[credential]())
    evidence.figure(f"score of {agent}", score, limit="[0, 1]")
    assert score is not None, f"{agent} has no score: the query answers null"


@query_passes("user-token")
def test_query_needs_a_credential(dixie: Dixie, agent: str) -> None:
    """Without a credential the query is refused."""
    require_refused(dixie.query(f"nft:{agent}", None), "dixie", "a query without a credential", (401,))


@pytest.mark.requires("dixie_key")
@query_passes("api-key")
def test_unknown_api_key_is_refused(dixie: Dixie, agent: str) -> None:
    """An API key that was never issued is refused."""
    answer = dixie.query(f"nft:{agent}", lambda: "Bearer dxk_smoke_never_given_out")
    require_refused(answer, "dixie", "an API key that was never issued", (401, 403))


@WITH_TOKEN
@query_passes("user-token")
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_key_is_refused(dixie: Dixie, case: str) -> None:
    """A routing key that cannot name an agent is a bad request, not an agent without a score."""
    answer = require_status(dixie.query(MALFORMED[case], dixie.credential()), 400, 422)
    require_refused(answer, "dixie", f"the routing key {MALFORMED[case]!r}", (400, 422))


@WITH_TOKEN
def test_unknown_agent_has_no_score(dixie: Dixie, evidence: Evidence) -> None:
    """An unknown agent has the score null, not an invented one."""
    score = dixie.score("smoke-agent-nobody-knows")
    evidence.figure("score of an unknown agent", score)
    assert score is None, f"an unknown agent has the score {score}"


@WITH_TOKEN
@EVENTS_COUNT
@pytest.mark.parametrize(
    "writer",
    [
        "no-token",
        "garbage",
        "user-token",
        "stranger",
        "freeside-as-finn",
        pytest.param("api-key", marks=pytest.mark.requires("dixie_key")),
        pytest.param("wrong-audience", marks=WITH_FINN),
        pytest.param("expired", marks=WITH_FINN),
    ],
)
def test_event_is_refused(dixie: Dixie, bystander: str, writer: str, credentials: Credentials) -> None:
    """An event without a valid token of Finn is refused."""
    require_event_refused(dixie, bystander, writer, credentials)


@WITH_TOKEN
@EVENTS_COUNT
@pytest.mark.parametrize(
    "of",
    [
        pytest.param(("no-token", "garbage", "user-token", "stranger", "freeside-as-finn"), id="anybody"),
        pytest.param(("api-key",), id="api-key", marks=pytest.mark.requires("dixie_key")),
        pytest.param(("wrong-audience", "expired"), id="finn", marks=WITH_FINN),
    ],
)
def test_refused_events_change_nothing(
    dixie: Dixie, bystander: str, of: tuple[str, ...], credentials: Credentials, scores: Scores
) -> None:
    """Refused events do not count: the score stays."""
    before = scores.of(bystander)
    for writer in of:
        require_event_refused(dixie, bystander, writer, credentials)
    scores.stays(bystander, before, "an event was refused, yet counted")


@WITH_TOKEN
@EVENTS_COUNT
@pytest.mark.parametrize("case", ["no-token", "expired"])
def test_quality_needs_a_token(freeside: Freeside, tenants: Tenants, bystander: str, case: str) -> None:
    """Freeside refuses a quality report without a valid token."""
    credential = None if case == "no-token" else freeside.credential(tenants.main, iat=1, exp=300)
    answer = freeside.quality(f"nft:{bystander}", "excellent", credential)
    require_refused(answer, "freeside", f"a quality report with the credential {case!r}")

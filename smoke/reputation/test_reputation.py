"""G-5, phase reputation: who may read a score, what a score is, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence

from smoke.contract.intake import Verdict, far_from, routing_key, routing_keys, shortest_key
from smoke.platform.answers import require_status
from smoke.platform.attacks import require_refused
from smoke.platform.backends import Dixie, quality_signal, score_in
from smoke.platform.batch import Batch, Case
from smoke.platform.http import Connect, Credential
from smoke.platform.scores import Scores
from smoke.platform.tokens import SigningKeyLookup

pytestmark = [
    pytest.mark.goal("G-5"),
    pytest.mark.phase("reputation"),
    pytest.mark.p1,
    pytest.mark.requires("dixie"),
]

WITH_TOKEN = pytest.mark.requires("freeside", "key", "signing", "dixie.query-user")
WITH_FINN = pytest.mark.requires("finn", "finn_key")


def query_passes(credential: str) -> pytest.MarkDecorator:
    """Without a query that is answered, a refused one proves nothing."""
    return pytest.mark.control(f"reputation/seeded-agent-has-a-score[{credential}]")


#: Credentials by kind, each made only when a check uses it.
Credentials = Mapping[str, Callable[[], Credential]]


@pytest.fixture
def credentials(dixie: Dixie, environment: Environment, finn_key: SigningKeyLookup) -> Credentials:
    """Every kind of credential that may read a score."""
    return {
        "service-token": lambda: dixie.service_credential(finn_key()),
        "user-token": dixie.credential,
        "api-key": lambda: lambda: f"Bearer {environment.secret('dixie.api_key')}",
    }


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


@WITH_FINN
@pytest.mark.requires("dixie_key")
@query_passes("api-key")
def test_every_credential_shows_the_score(
    dixie: Dixie, agent: str, credentials: Credentials, scores: Scores, eventually: Eventually
) -> None:
    """A score that moved is the same for every kind of credential, once no cache holds the old one."""
    before = {kind: dixie.score(agent, reader()) for kind, reader in credentials.items()}
    event = quality_signal(agent, far_from(before["user-token"]))
    require_status(dixie.post_event(event, credentials["service-token"]()), 202)
    for kind, reader in credentials.items():
        eventually(
            lambda reader=reader, kind=kind: dixie.score(agent, reader()) != before[kind],  # type: ignore[misc]
            within=scores.limit_s,
            every=scores.every_s,
            what=f"the score of {agent} moves for a reader with {kind}",
        )


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


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param("user-token", marks=[WITH_TOKEN, query_passes("user-token")]),
        pytest.param("api-key", marks=[pytest.mark.requires("dixie_key"), query_passes("api-key")]),
        pytest.param("service-token", marks=[WITH_FINN, query_passes("service-token")]),
    ],
)
def test_similar_routing_keys_are_other_agents(
    connect: Connect, dixie: Dixie, agent: str, credential: str, credentials: Credentials, batch: Batch
) -> None:
    """A routing key that cannot name an agent is a bad request, and one that is like another's is not its."""
    reader = credentials[credential]()
    known = dixie.score(agent, reader)
    assert known is not None, f"{agent} has no score: the query answers null"
    unrecorded = Dixie(connect("dixie"), dixie.tenant, dixie.key)
    batch.run(
        [
            Case(
                f"routingKey {key!r}",
                "a key names one agent, or none",
                partial(unrecorded.query, key, reader),
                partial(require_not, known, routing_key(key)),
            )
            for key in (None, shortest_key(agent), *routing_keys(agent))
        ]
    )


def require_not(known: float, verdict: Verdict, answer: httpx.Response) -> None:
    """Assert that a query is refused or shows the score of another agent, as the contract says."""
    if verdict is Verdict.REFUSED:
        require_refused(answer, "dixie", "the routing key", (400, 422))
    elif answer.is_success or verdict is Verdict.ACCEPTED:
        shown = score_in(require_status(answer, 200))
        assert shown != known, f"the query shows the score {known} of the agent that is spelled like it"


@WITH_TOKEN
def test_unknown_agent_has_no_score(dixie: Dixie, evidence: Evidence) -> None:
    """An unknown agent has the score null, not an invented one."""
    score = dixie.score("smoke-agent-nobody-knows")
    evidence.figure("score of an unknown agent", score)
    assert score is None, f"an unknown agent has the score {score}"

"""G-5, phase reputation: who may read a score, what a score is, and to which agent it belongs.

Also what Dixie accepts as an event, from whom, and that nothing else moves a score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence

from smoke.contract.intake import Verdict, events, far_from, routing_key, routing_keys, shortest_key
from smoke.platform.answers import ContractViolation, require_status
from smoke.platform.attacks import REFUSALS, require_refused
from smoke.platform.backends import (
    ELSEWHERE,
    EVENTS_PATH,
    NO_SUCH_ROUTE,
    OFFER_RULES,
    QUERY_PATH,
    Dixie,
    judging,
    newcomer,
    now_text,
    offer_cases,
    quality_signal,
    score_in,
    with_status,
)
from smoke.platform.batch import Batch, Case
from smoke.platform.freeside import Tenants
from smoke.platform.http import Connect, Credential, wait
from smoke.platform.scores import Scores
from smoke.platform.spend import Once
from smoke.platform.tokens import SigningKey, SigningKeyLookup, dixie_service_claims, user_claims

pytestmark = [
    pytest.mark.goal("G-5"),
    pytest.mark.phase("reputation"),
    pytest.mark.p1,
    pytest.mark.requires("dixie"),
]

WITH_TOKEN = pytest.mark.requires("freeside", "key", "signing", "dixie.query-user")
WITH_FINN = pytest.mark.requires("finn", "finn_key")


def query_passes(credential: str) -> pytest.MarkDecorator:
    """Unless some query is answered, a refused one proves nothing."""
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
    dixie: Dixie,
    agent: str,
    credentials: Credentials,
    scores: Scores,
    finn_key: SigningKeyLookup,
    eventually: Eventually,
    once: Once,
    tenants: Tenants,
) -> None:
    """Every kind of credential sees a changed score, once no cache holds the old one.

    So does a user of another community and tier who contributed nothing to it.
    """
    other = user_claims(tenants.other, tier="free")
    claims = {name: other[name] for name in ("tenant_id", "tier", "allowed_pools")}
    readers = {**credentials, "a user-token of another community": lambda: dixie.credential(**claims)}
    once.remember("refresh", **refreshed(dixie, agent, readers, scores, finn_key, eventually))


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
    """An invalid routing key is a bad request; a similar key names another agent, beside the agent's own."""
    reader, rule = credentials[credential](), "a key names one agent, or none"
    known = require_score(dixie.query(f"nft:{agent}", reader))
    query = Dixie(connect("dixie"), dixie.tenant, dixie.key).query
    own = Case("its own plain key", rule, partial(query, f"nft:{agent}", reader, plain=True), require_score)
    keys = (None, shortest_key(agent), *routing_keys(agent))
    others = [
        Case(f"routingKey {key!r}", rule, partial(query, key, reader), partial(require_not, known, means))
        for key, means in zip(keys, map(routing_key, keys), strict=True)
    ]
    batch.run([case for n, other in enumerate(others) for case in (other, *[own] * (n % 4 == 0))])


def require_score(answer: httpx.Response) -> float:
    """The score that a query shows; AssertionError for none."""
    score = score_in(require_status(answer, 200))
    assert score is not None, "a known agent has no score: the query answers null"
    return score


def require_not(known: float, verdict: Verdict, answer: httpx.Response) -> None:
    """Assert that a query is refused or shows the score of another agent, as the contract says."""
    if verdict is Verdict.REFUSED:
        require_refused(answer, "dixie", "the routing key", (400, 422))
    elif answer.is_success or verdict is Verdict.ACCEPTED:
        shown = score_in(require_status(answer, 200))
        assert shown != known, f"the query shows the score {known} of the agent with a similar name"


@WITH_TOKEN
def test_unknown_agent_has_no_score(dixie: Dixie, evidence: Evidence) -> None:
    """An unknown agent has the score null, not an invented one."""
    score = dixie.score("smoke-agent-nobody-knows")
    evidence.figure("score of an unknown agent", score)
    assert score is None, f"an unknown agent has the score {score}"


EVENTS_OF_FINN = pytest.mark.requires("finn", "finn_key", "dixie.events")
#: Unless some event counts, one that does not count proves nothing.
EVENTS_COUNT = pytest.mark.control("loop/good-events-raise-the-score")

#: Media types are case-insensitive, and may have parameters (RFC 9110 section 8.3).
JSON_TYPES = ("application/json ; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8")
#: When the next unread agent is queried, s after the previous one: a reading may hide later events.
LOOKS_S = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
#: How much a reading and clock differences may add to the time that a score is served, s.
SLACK_S = 1.0
#: How far an event's score is from 0 and 1, so that the agent's score differs from those of other agents.
ODD = 0.0371
#: How often a score must be too stale before that is a finding.
ROUNDS = 2

Stay = Callable[[Mapping[str, float | None], str], None]


def refreshed(
    dixie: Dixie,
    agent: str,
    readers: Credentials,
    scores: Scores,
    finn_key: SigningKeyLookup,
    eventually: Eventually,
) -> dict[str, Any]:
    """How long an agent's old score was served after an event, until the last of ``readers`` saw the new.

    ``served_s`` counts from the first reading before the event, and may be ``limit_s``; ``came``: whether new
    agents showed when the event had arrived.
    """
    post = partial(dixie.post_event, credential=dixie.service_credential(finn_key()))
    read_at = time.monotonic()
    before = {kind: dixie.score(agent, reader()) for kind, reader in readers.items()}
    lookouts = {newcomer(): wait_s for wait_s in LOOKS_S}
    toward = abs(far_from(next(iter(before.values()))) - ODD)
    for about, score in {agent: toward, **dict.fromkeys(lookouts, 1.0)}.items():
        require_status(post(quality_signal(about, score)), 202)
    came = any(wait(wait_s) or dixie.score(each) is not None for each, wait_s in lookouts.items())
    limit_s = max(scores.cache_s, time.monotonic() - read_at) + SLACK_S
    for kind, reader in readers.items():
        eventually(
            lambda reader=reader, kind=kind: dixie.score(agent, reader()) != before[kind],  # type: ignore[misc]
            within=scores.limit_s,
            every=scores.every_s,
            what=f"the score of {agent} moves from {before[kind]}" + (kind and f" for a reader with {kind}"),
        )
    return {"came": came, "served_s": time.monotonic() - read_at, "limit_s": limit_s}


@pytest.fixture
def intake(connect: Connect, tenants: Tenants, signing_key: SigningKeyLookup) -> Dixie:
    """Dixie, without exchanges in the evidence: a family of cases has too many for a report."""
    return Dixie(connect("dixie"), tenants.main, signing_key)


@pytest.fixture
def subject(scores: Scores, bystander: str, agent: str) -> str:
    """An agent whose score no answer of the run moves; otherwise the seeded agent, which has a score."""
    return agent if scores.hold(bystander)[bystander] is None else bystander


@pytest.fixture
def before(subject: str, scores: Scores, bystander: str) -> Mapping[str, float | None]:
    """The subject's score before the check."""
    return scores.hold(bystander) if subject == bystander else scores.shown(subject)


@pytest.fixture
def stay(scores: Scores, bystander: str) -> Stay:
    """Asserts that scores do not move.

    What a cache hides, `another-agent-does-not-move` finds on a bystander.
    """

    def stay(before: Mapping[str, float | None], why: str) -> None:
        scores.stay(before, why, until_held={*before} == {bystander})

    return stay


@WITH_TOKEN
@pytest.mark.usefixtures("alone")
@EVENTS_OF_FINN
def test_only_events_of_the_contract_count(
    intake: Dixie,
    subject: str,
    scores: Scores,
    batch: Batch,
    finn_key: SigningKeyLookup,
    stay: Stay,
    before: Mapping[str, float | None],
) -> None:
    """Valid events are accepted; almost valid ones are refused, and move no score."""
    credential = intake.service_credential(finn_key())
    offers = events(subject, ELSEWHERE, far_from(before[subject]), now_text())
    batch.run(
        [
            *offer_cases(offers, partial(intake.post_event, credential=credential), "dixie.events"),
            *(
                Case(
                    media,
                    OFFER_RULES[Verdict.ACCEPTED],
                    partial(
                        intake.post_event, quality_signal(ELSEWHERE, 0.5), credential, {"Content-Type": media}
                    ),
                    judging(Verdict.ACCEPTED),
                )
                for media in JSON_TYPES
            ),
        ]
    )
    stay(before, "an event that was refused, or was about another agent, counted")


@pytest.fixture
def writers(
    connect: Connect,
    intake: Dixie,
    environment: Environment,
    signing_key: SigningKeyLookup,
    finn_key: SigningKeyLookup,
    attacker: SigningKey,
) -> Mapping[str, Callable[[], Credential | None]]:
    """Credentials that may not write events, each made only when a check uses it."""
    return {
        "no token": lambda: None,
        "garbage": lambda: lambda: "Bearer not.a.token",
        "a user's token": intake.credential,
        "an admin's token": lambda: intake.credential(role="admin"),
        "a user's token in Finn's name": lambda: intake.credential(sub=dixie_service_claims()["sub"]),
        "an unknown key": lambda: intake.service_credential(attacker),
        "Finn's name under Freeside's key": lambda: intake.service_credential(signing_key()),
        "an API key": lambda: lambda: f"Bearer {environment.secret('dixie.api_key')}",
        "Finn's token for Freeside": lambda: intake.service_credential(
            finn_key(), aud=connect("freeside").address.audience
        ),
        "Finn's token of yesterday": lambda: intake.service_credential(
            finn_key(), iat=1_000_000_000, exp=1_000_000_300
        ),
        "Finn's token for Finn": lambda: intake.service_credential(
            finn_key(), aud=connect("finn").address.audience
        ),
    }


@WITH_TOKEN
@pytest.mark.usefixtures("alone")
@EVENTS_COUNT
@pytest.mark.parametrize(
    "of",
    [
        pytest.param(
            (
                "no token",
                "garbage",
                "a user's token",
                "an admin's token",
                "a user's token in Finn's name",
                "an unknown key",
                "Finn's name under Freeside's key",
            ),
            id="anybody",
        ),
        pytest.param(("an API key",), id="api-key", marks=pytest.mark.requires("dixie_key")),
        pytest.param(
            ("Finn's token for Freeside", "Finn's token of yesterday", "Finn's token for Finn"),
            id="finn",
            marks=EVENTS_OF_FINN,
        ),
    ],
)
def test_only_finn_writes_events(
    intake: Dixie, agent: str, subject: str, scores: Scores, batch: Batch, of: tuple[str, ...],
    writers: Mapping[str, Callable[[], Credential | None]], stay: Stay,
    before: Mapping[str, float | None],
) -> None:  # fmt: skip
    """An event without a valid token of Finn's is refused, and counts for no agent.

    An invalid event may be refused for its content: the contract does not say which of two faults is reported
    (1.3).
    """
    score = far_from(before[subject])
    bodies: dict[str, Mapping[str, Any] | bytes] = {
        "an event": quality_signal(subject, score),
        "an event about the other agent": quality_signal(agent, score),
        "an event about a new agent": quality_signal(ELSEWHERE, score),
        "no event": b"null",
        "nothing": b"",
    }
    batch.run(
        [
            Case(
                f"{what} with {writer}",
                "only Finn writes events",
                partial(intake.post_event, body, writers[writer]()),
                partial(
                    require_refused,
                    service="dixie",
                    what=f"{what} with {writer}",
                    statuses=(*REFUSALS, 400) if isinstance(body, bytes) else REFUSALS,
                ),
            )
            for writer in of
            for what, body in bodies.items()
        ]
    )
    stay(before, "an event was refused, yet counted")


@WITH_TOKEN
@pytest.mark.usefixtures("alone")
@EVENTS_OF_FINN
def test_scores_are_as_fresh_as_declared(
    intake: Dixie,
    agent: str,
    scores: Scores,
    finn_key: SigningKeyLookup,
    eventually: Eventually,
    once: Once,
    evidence: Evidence,
) -> None:
    """A score is cached for no longer than `[dixie] cache_s` (3).

    Agents that were never read show when the events of that moment have arrived, so delivery time does not
    count as caching. A late event is tried again, because another delay would not repeat. What another check
    has already seen is not waited for again.
    """

    def rounds() -> Iterator[Mapping[str, Any]]:
        yield from once.remembered("refresh")
        while True:
            yield refreshed(intake, agent, {"": intake.credential}, scores, finn_key, eventually)

    for seen in islice(rounds(), ROUNDS):
        if not seen["came"]:
            evidence.figure("new agents with a score by their first event", 0, limit=len(LOOKS_S))
            evidence.note("not examined: new agents have no score by their first event, or not so soon")
            return
        served_s, limit_s = seen["served_s"], seen["limit_s"]
        evidence.figure("a score was served after it was read for", round(served_s, 2), "s", limit=limit_s)
        if served_s <= limit_s:
            return
    raise ContractViolation(
        f"the score of {agent} was served for {served_s:.1f} s after it was read and an event arrived: "
        f"expected at most {limit_s:.1f} s, [dixie] cache_s is {scores.cache_s:g} s"
    )


@WITH_TOKEN
@pytest.mark.usefixtures("alone")
@EVENTS_OF_FINN
@EVENTS_COUNT
def test_no_other_route_writes_events(
    intake: Dixie,
    subject: str,
    scores: Scores,
    batch: Batch,
    finn_key: SigningKeyLookup,
    stay: Stay,
    before: Mapping[str, float | None],
) -> None:
    """An event sent with another method, or to the query route, is refused and does not count."""
    credential = intake.service_credential(finn_key())
    routes = [(method, EVENTS_PATH) for method in ("PUT", "PATCH", "DELETE", "GET")]
    routes += [(method, QUERY_PATH) for method in ("POST", "PUT", "PATCH", "DELETE")]
    event = quality_signal(subject, far_from(before[subject]))
    rule, refused = "events are written by POST to their route alone", with_status(*NO_SUCH_ROUTE)
    send = partial(intake.http.send, json=event)
    batch.run(
        [
            Case(f"{method} {path}", rule, partial(send, method, path, credential), refused)
            for method, path in routes
        ]
    )
    stay(before, "an event that was sent with another method counted")

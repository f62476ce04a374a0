"""G-5, phase reputation: what Dixie takes as an event, from whom, and that nothing else moves a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from pytest_readiness import Environment

from smoke.contract.intake import Verdict, events, far_from
from smoke.platform.attacks import REFUSALS, require_refused
from smoke.platform.batch import Batch, Case
from smoke.platform.dixie import (
    ELSEWHERE,
    EVENTS_PATH,
    NO_SUCH_ROUTE,
    OFFER_RULES,
    QUERY_PATH,
    Dixie,
    judging,
    now_text,
    offer_cases,
    quality_signal,
    with_status,
)
from smoke.platform.freeside import Tenants
from smoke.platform.http import Connect, Credential
from smoke.platform.jwks import SigningKeyLookup
from smoke.platform.scores import Scores
from smoke.platform.tokens import SigningKey, dixie_service_claims

pytestmark = [
    pytest.mark.goal("G-5"),
    pytest.mark.phase("reputation"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "dixie", "key", "signing", "dixie.query-user"),
    pytest.mark.usefixtures("alone"),
]

WITH_FINN = pytest.mark.requires("finn", "finn_key", "dixie.events")
#: Without an event that counts, one that does not proves nothing.
EVENTS_COUNT = pytest.mark.control("loop/good-events-raise-the-score")

#: Media types are compared without their case, and may have parameters (RFC 9110 section 8.3).
JSON_TYPES = ("application/json ; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8")


Stay = Callable[[Mapping[str, float | None], str], None]


@pytest.fixture
def intake(connect: Connect, tenants: Tenants, signing_key: SigningKeyLookup) -> Dixie:
    """Dixie, with no exchange in the evidence: a family has more of them than a report should."""
    return Dixie(connect("dixie"), tenants.main, signing_key)


@pytest.fixture
def subject(scores: Scores, bystander: str, agent: str) -> str:
    """An agent with a score that no answer of the run moves; else the seeded one, which has a score."""
    return agent if scores.hold(bystander)[bystander] is None else bystander


@pytest.fixture
def before(subject: str, scores: Scores, bystander: str) -> Mapping[str, float | None]:
    """The subject's score before the check."""
    return scores.hold(bystander) if subject == bystander else scores.shown(subject)


@pytest.fixture
def stay(scores: Scores, bystander: str) -> Stay:
    """Asserts that scores stay. What a cache hides, `another-agent-does-not-move` finds for a bystander."""

    def stay(before: Mapping[str, float | None], why: str) -> None:
        scores.stay(before, why, until_held={*before} == {bystander})

    return stay


@WITH_FINN
def test_only_events_of_the_contract_count(
    intake: Dixie,
    subject: str,
    scores: Scores,
    batch: Batch,
    finn_key: SigningKeyLookup,
    stay: Stay,
    before: Mapping[str, float | None],
) -> None:
    """What is an event is taken; all that is near to one is refused, and no score moves by it."""
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
    """Everybody who may not write events, each made only when a check uses it."""
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
            marks=WITH_FINN,
        ),
    ],
)
def test_only_finn_writes_events(
    intake: Dixie, agent: str, subject: str, scores: Scores, batch: Batch, of: tuple[str, ...],
    writers: Mapping[str, Callable[[], Credential | None]], stay: Stay,
    before: Mapping[str, float | None],
) -> None:  # fmt: skip
    """An event without a valid token of Finn is refused, whatever is in it, and counts for no agent.

    What is no event may be refused for that: the contract leaves open which of two faults is reported (1.3).
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


@WITH_FINN
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
    """An event that is sent with another method, or to the query, is refused and does not count."""
    credential = intake.service_credential(finn_key())
    routes = [(method, EVENTS_PATH) for method in ("PUT", "PATCH", "DELETE", "GET")]
    routes += [(method, QUERY_PATH) for method in ("POST", "PUT", "PATCH", "DELETE")]
    event = quality_signal(subject, far_from(before[subject]))
    rule, refused = "events are written by POST to their route alone", with_status(*NO_SUCH_ROUTE)
    batch.run(
        [
            Case(
                f"{method} {path}",
                rule,
                partial(intake.http.send, method, path, credential, json=event),
                refused,
            )
            for method, path in routes
        ]
    )
    stay(before, "an event that was sent with another method counted")

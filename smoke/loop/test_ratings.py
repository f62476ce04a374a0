"""G-5, phase loop: what Freeside takes as a rating, from whom; nothing else moves score or budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import httpx
import pytest
from pytest_readiness import Eventually, Evidence

from smoke.contract.intake import Verdict, far_from, rating, ratings
from smoke.contract.model import MAX_BODY_BYTES
from smoke.contract.neighbours import bad_sizes, padded
from smoke.platform.answers import require_status
from smoke.platform.attacks import require_refused
from smoke.platform.backends import ELSEWHERE, NO_SUCH_ROUTE, OFFER_RULES, judging, offer_cases, with_status
from smoke.platform.batch import Batch, Case, at_once
from smoke.platform.freeside import QUALITY_PATH, Freeside, Tenants, prompt_for
from smoke.platform.http import Connect, Credential
from smoke.platform.invariants import Conservation
from smoke.platform.scores import Scores, newcomer, odd_names
from smoke.platform.tokens import SigningKey, bearer, user_claims

pytestmark = [
    pytest.mark.goal("G-5"),
    pytest.mark.phase("loop"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "dixie", "key", "signing", "budget"),
    pytest.mark.requires("dixie.query-user", "freeside.quality", "loop"),
    pytest.mark.usefixtures("alone"),
    # a loop was watched until its limit, through failed readings: a rerun would show nothing new
    pytest.mark.flaky(reruns=0),
]

#: Characters of a long name, and how a service may refuse one.
LONG_CHARS, TOO_LONG = 100, (400, 413, 422)
#: Letters before what a long prompt asks.
PADDING = 2000
#: So many more agents have answers at once.
AT_ONCE = 3
#: Forms of names.
PLAIN, LONG = "a plain name", f"a name of {LONG_CHARS} characters"
JSON_TYPES = ("application/json ; charset=utf-8", "Application/JSON")
OTHER_TYPES = (
    "text/plain",
    "text/json",
    "application/jsonp",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "json",
    "",
)
OTHER_ROUTES = (
    *(("PUT", QUALITY_PATH), ("PATCH", QUALITY_PATH), ("DELETE", QUALITY_PATH), ("GET", QUALITY_PATH)),
    *(("POST", path) for path in ("/api/agents/quality/", "/api/agents/Quality", "/api/agents/qualit")),
    *(("POST", path) for path in ("/api/agents/qualityx", "/api//agents/quality", "/api/agents/quality/x")),
)


@pytest.fixture
def ratings_of(connect: Connect, freeside: Freeside) -> Freeside:
    """Freeside, with no exchange in the evidence: a family has more of them than a report should."""
    return Freeside(connect("freeside"), freeside.dialects, freeside.key, freeside.journal)


@pytest.fixture
def others(
    connect: Connect, freeside: Freeside, attacker: SigningKey, tenants: Tenants
) -> dict[str, tuple[str, Credential | None]]:
    """Who may not rate, each with the rule of tokens that forbids it."""
    return {
        "no token": ("credential", None),
        "garbage": ("credential", lambda: "Bearer not.a.token"),
        "an unknown API key": ("credential", lambda: "Bearer dxk_smoke_never_given_out"),
        "an unknown key's token": (
            "key",
            lambda: bearer(attacker, user_claims(tenants.main, at=freeside.http.address)),
        ),
        "a token for Dixie": (
            "audience",
            lambda: bearer(freeside.key(), user_claims(tenants.main, at=connect("dixie").address)),
        ),
        "a token of yesterday": ("expiry", freeside.credential(tenants.main, iat=1, exp=300)),
    }


def rate_far(freeside: Freeside, tenant: str, agent: str, before: float | None) -> None:
    """Rate an agent with this score so that it moves visibly."""
    freeside.rate(tenant, agent, "good" if far_from(before) else "bad")


def test_only_ratings_of_the_contract_count(
    freeside: Freeside,
    ratings_of: Freeside,
    tenants: Tenants,
    agent: str,
    bystander: str,
    others: dict[str, tuple[str, Credential | None]],
    scores: Scores,
    watch: Conservation,
    batch: Batch,
    eventually: Eventually,
) -> None:
    """What is a rating is taken; what is near to one, or from others, moves neither score nor budget."""
    shown = scores.hold(bystander)
    credential = freeside.credential(tenants.main)
    post = partial(ratings_of.post_rating, credential=credential)
    about = rating(bystander, "excellent" if (shown[bystander] or 0) < 0.5 else "bad")
    try:
        batch.run(
            [
                *offer_cases(ratings(bystander, ELSEWHERE), post, "freeside.quality"),
                *(
                    Case(
                        media,
                        OFFER_RULES[verdict],
                        partial(post, body, headers={"Content-Type": media}),
                        judging(verdict),
                    )
                    for verdict, types, body in (
                        (Verdict.ACCEPTED, JSON_TYPES, rating(ELSEWHERE, "good")),
                        (Verdict.REFUSED, OTHER_TYPES, about),
                    )
                    for media in types
                ),
                *(
                    Case(
                        size.name,
                        OFFER_RULES[Verdict.REFUSED],
                        partial(post, b"".join(size.body)),
                        with_status(*size.statuses),
                    )
                    for size in bad_sizes(json.dumps(about).encode())
                ),
                Case(
                    "body of the largest size",
                    OFFER_RULES[Verdict.ACCEPTED],
                    partial(post, padded(json.dumps(rating(ELSEWHERE, "good")).encode(), MAX_BODY_BYTES)),
                    judging(Verdict.ACCEPTED),
                ),
                *(
                    Case(
                        f"{method} {path}",
                        "ratings come by POST to their route alone",
                        partial(ratings_of.http.send, method, path, credential, json=about),
                        with_status(*NO_SUCH_ROUTE),
                    )
                    for method, path in OTHER_ROUTES
                ),
                *(
                    Case(
                        who,
                        "only users rate",
                        partial(ratings_of.post_rating, about, other),
                        partial(require_refused, service="freeside", what=f"a rating with {who}", rule=rule),
                    )
                    for who, (rule, other) in others.items()
                ),
            ]
        )
    except AssertionError:
        scores.blame(bystander)
        raise
    watch.unchanged("ratings were sent")
    # one sent after them arrives, so they would have
    scores.arrives(agent, partial(rate_far, freeside, tenants.main), eventually, until_held=True)
    why = "a rating that was refused, or was about another agent, counted"
    scores.stay(shown, why, until_held=True)


@pytest.mark.requires("invoke")
def test_every_name_counts(
    freeside: Freeside, tenants: Tenants, scores: Scores, eventually: Eventually, evidence: Evidence
) -> None:
    """An agent is scored by ratings and by answers whatever its name looks like, as one with a plain name is.

    So is each of those whose answers come at once.
    The contract sets no limit to its length; a service that refuses a long name loses no event.
    """
    answer = partial(freeside.try_invoke, tenants.main)
    sends: dict[str, Callable[[str], httpx.Response]] = {
        "rating": lambda name: freeside.post_rating(rating(name, "good"), freeside.credential(tenants.main)),
        "answer": lambda name: answer(prompt_for(), agent=name),
        "answer to a long prompt": lambda name: answer(prompt_for(padding=PADDING), agent=name),
    }
    named = {what: {PLAIN: newcomer()} for what in sends}
    for what, names in named.items():  # alone: it is what the others are compared with
        require_status(sends[what](names[PLAIN]), 200, 202)
    odd = {
        "rating": odd_names(),
        "answer": {f"a plain name at the same time, {n}": newcomer() for n in range(AT_ONCE)},
    }
    for what, others in odd.items():
        others = {LONG: newcomer().ljust(LONG_CHARS, "x"), **others}
        answers = at_once([partial(sends[what], name) for name in others.values()])
        for (form, name), found in zip(others.items(), answers, strict=True):
            refused = TOO_LONG if form == LONG else ()
            if require_status(found, 200, 202, *refused).status_code in refused:
                evidence.note(f"a name of {LONG_CHARS} characters is refused in a request for a {what}")
            else:
                named[what][form] = name
    agents = [name for names in named.values() for name in names.values()]
    scores.newcomers.give_time()
    with suppress(AssertionError):
        eventually(
            lambda: None not in scores.shown(*agents).values(),
            within=scores.limit_s,
            every=scores.every_s,
            what="new agents have a score",
        )
    shown = scores.shown(*agents)
    for what, names in named.items():
        plain = shown[named[what.partition(" ")[0]][PLAIN]]
        if plain is None:
            evidence.note(f"not examined: a new agent gets no score by one {what}")
        for form, name in names.items():
            evidence.figure(f"score of an agent with {form} after one {what}", shown[name])
            assert shown[name] is not None or plain is None, (
                f"an agent with {form}, {name[:32]}, has no score {scores.limit_s:g} s after a {what}, "
                f"another new agent has {plain}"
            )


def test_another_agent_does_not_move(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """No event about one agent was counted for another so far, nor any that was refused.

    The last check of its phase about scores: it waits once for the cache, for all of them.
    """
    if not scores.all_came:  # as in a run of this check alone
        scores.hold(bystander)
        scores.arrives(agent, partial(rate_far, freeside, tenants.main), eventually)
    scores.held(bystander)

"""G-5, phase loop: an event about an agent moves its score at Dixie, once, and no other agent's.

Also what Freeside accepts as a rating, and from whom; nothing else moves a score or a budget.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import httpx
import pytest
from pytest_readiness import Eventually, Evidence

from smoke.contract.intake import QUALITIES, Verdict, far_from, rating, ratings
from smoke.contract.model import MAX_BODY_BYTES, POOLS
from smoke.contract.neighbours import bad_sizes, padded
from smoke.platform.answers import require_status
from smoke.platform.attacks import require_refused
from smoke.platform.backends import (
    ELSEWHERE,
    NO_SUCH_ROUTE,
    OFFER_RULES,
    judging,
    newcomer,
    odd_names,
    offer_cases,
    with_status,
)
from smoke.platform.batch import Batch, Case, at_once
from smoke.platform.freeside import QUALITY_PATH, Freeside, Tenants, prompt_for
from smoke.platform.http import Connect, Credential
from smoke.platform.invariants import Conservation
from smoke.platform.parameters import Way, all_ways
from smoke.platform.prices import beyond
from smoke.platform.scores import Scores
from smoke.platform.tokens import SigningKey, bearer, user_claims

pytestmark = [
    pytest.mark.goal("G-5"),
    pytest.mark.phase("loop"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "dixie", "key", "signing", "dixie.query-user"),
    pytest.mark.usefixtures("alone"),
    # the loop was watched up to its limit, even through failed readings: a rerun would show nothing new
    pytest.mark.flaky(reruns=0),
]


#: Checks that depend on the delivery of ratings.
RATED = pytest.mark.requires("freeside.quality", "loop")
#: A score closer to its edge than this is moved away first: at the edge, it need not move.
ROOM = 0.9
#: The difference beyond which two contributions are unequal, not just rounded differently.
NOTICED = 1e-6
#: How often events are compared before one counts as moving a score too far.
ROUNDS = 3
#: The prompt that one agent gets repeatedly.
SAME_WORD = "again"
#: A source with every kind of character that identifiers use.
OTHER_SOURCE = "Smoke_2-a"


def rating_of(freeside: Freeside, tenant: str, quality: str, **other: str) -> Callable[..., float]:
    """Sends a rating of that quality, of an ``other`` source or with other claims."""

    def send(agent: str, _: float | None = None) -> float:
        freeside.rate(tenant, agent, quality, **other)
        return QUALITIES[quality]

    return send


@RATED
@pytest.mark.establishes("loop")
def test_good_events_raise_the_score(
    freeside: Freeside,
    tenants: Tenants,
    agent: str,
    bystander: str,
    scores: Scores,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """Good and excellent events raise the score in the public query in time, excellent ones more.

    The raters are users of different tiers, one of them an admin of another community.
    """
    scores.hold(bystander)
    rated = partial(rating_of, freeside, tenants.main)
    by_admin = rating_of(freeside, tenants.other, "excellent", tier="enterprise", role="admin")
    ratings = {
        "excellent, by a user of tier pro,": rated("excellent", tier="pro"),
        "good, by a user of tier free, from another source,": rated("good", tier="free", source=OTHER_SOURCE),
        "excellent, by an admin of tier enterprise, of another community,": by_admin,
    }
    for _ in range(ROUNDS):
        moves = scores.moves(agent, rated("bad"), ratings, eventually, at_edge=lambda before: before > ROOM)
        for name, move in moves.items():
            evidence.figure(f"part of its way to 1 that {name} moved the score", round(move.pull, 6))
        pulls = [move.pull for move in moves.values()]
        # between two excellent ones, because a weight may depend on the number of events
        if further := (pulls[0] + pulls[2]) / 2 - pulls[1] > NOTICED:
            break
        evidence.note("measured again: the late event of an answer also moves the score")
    assert further, f"good moved the score as far as excellent: {pulls}"


@RATED
def test_bad_events_lower_the_score(
    freeside: Freeside, tenants: Tenants, agent: str, scores: Scores, eventually: Eventually
) -> None:
    """A bad event lowers the score in the public query, in time."""
    rated = partial(rating_of, freeside, tenants.main)
    scores.moves(
        agent, rated("good"), {"bad": rated("bad")}, eventually, at_edge=lambda before: before < 1 - ROOM
    )


def near_agents(agent: str) -> list[str]:
    """Agents with similar names: another case, end or beginning, or names that contain it.

    The routing key `nft:NAME` is not among them: it may name the same agent.
    """
    swapped = agent.upper() if agent != agent.upper() else agent.lower()
    parts = [f"{prefix}{agent}" for prefix in ("smoke:", "smoke/", "smoke.", " ", "@")]
    parts += [f"{agent}{suffix}" for suffix in (":1", "/1", ".1", "@1", " ", "?x", "#x")]
    return [name for name in (swapped, f"{agent}x", agent[:-1], *parts) if name and name != agent]


@pytest.mark.requires("invoke")
@pytest.mark.establishes("reports")
def test_answer_counts_for_its_agent_only(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """After an answer, Finn reports on the agent that the request named, not on one with a similar name.

    Nor does it report on the seeded agent if the request named another one.
    """
    other = scores.hold(bystander)
    ask = partial(freeside.try_invoke, tenants.main)
    for answer in at_once([partial(ask, prompt_for(), agent=near) for near in near_agents(bystander)]):
        require_status(answer, 200, 400, 422)  # a name that no agent can have may be refused
    scores.arrives(
        agent,
        lambda about, _: freeside.invoke(tenants.main, prompt_for(), agent=about),
        eventually,
        or_new=True,
    )
    why = "an answer of another agent was counted for it"
    scores.stay(other, why, until_held=True)
    if not scores.newcomers.prepare()["scored"]:  # else the next check compares it
        by_another = partial(freeside.invoke, tenants.main, prompt_for())
        scores.stay_after_each(agent, lambda: by_another(agent=newcomer()), why)


@pytest.mark.requires("invoke", "stream", "reports")
def test_only_an_answer_to_its_name_counts(
    ways: Callable[[str], Way],
    tenants: Tenants,
    agent: str,
    scores: Scores,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """No report follows a replay; a call that names another agent, or none, reports on no known one (2)."""
    name, last, key = newcomer(), newcomer(), str(uuid.uuid4())
    began, known = time.monotonic(), scores.shown(agent)[agent]
    way, stream = ways("freeside.invoke"), ways("freeside.stream")
    body, unnamed = way.body(prompt_for(), agent=name), way.body(prompt_for())
    again = partial(way.post, body, tenants.main, key=key)

    def scored(new: str) -> bool:
        scores.newcomers.give_time()
        with suppress(AssertionError):
            read, what = partial(scores.shown, new), f"{new} has a score"
            return scores.until(lambda: read()[new] is not None, what, eventually)
        evidence.figure("new agents with a score by their first answer", 0)
        evidence.note("not examined: a new agent gets no score by one answer")
        return False

    require_status(again(), 200)
    if not scored(name):
        return
    before = scores.shown(name, *(() if scores.cache_s else (agent,)))
    others = [partial(each.post, unnamed, tenants.main) for each in (way, stream) if "agent" not in unnamed]
    for answer in at_once([again, again, *others]):
        require_status(answer, 200)
    require_status(stream.post(body, tenants.main, key=key), 200, 409)
    require_status(way.post(way.body(prompt_for(), agent=last), tenants.main), 200)
    if scored(last):
        why = "a stored answer, or a call that names no agent, was counted for it"
        scores.stay(before, why, until_held=True)
    if scores.cache_s:
        of_another = partial(way.post, way.body(prompt_for(), agent=newcomer()), tenants.main)
        ask = partial(at_once, [of_another, *others])
        scores.stayed(agent, known, began, ask, "an answer that does not name it was counted for it")


@pytest.mark.goal("G-4")
@pytest.mark.requires("invoke", "budget", "reports")
@pytest.mark.parametrize("route", all_ways(covered_by="loop/over-budget-runs-nothing[freeside.invoke]"))
def test_over_budget_runs_nothing(
    route: str,
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    agent: str,
    bystander: str,
    scores: Scores,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """A call refused for its price reaches no model, so no report follows.

    That holds on any route, even if the agent had the same prompt before.
    """
    other, way = scores.hold(bystander), ways(route)

    def send(pool: str, padding: int, about: str | None = None) -> httpx.Response:
        body = way.body(prompt_for(padding=padding), pool, about)
        return way.post(body, tenants.small, **way.own(pool))

    _, prices, padding = beyond(freeside, tenants, evidence, send)
    require_status(send(prices.pool, padding, bystander), 402)
    scores.arrives(
        agent,
        lambda about, _: require_status(
            way.post(way.body(prompt_for(SAME_WORD), agent=about), tenants.main), 200
        ),
        eventually,
        until_held=True,
    )
    scores.stay(other, "a call that was refused for its price reached the model", until_held=True)


#: Characters of a long name, and how a service may refuse one.
LONG_CHARS, TOO_LONG = 100, (400, 413, 422)
#: The padding before the question of a long prompt.
PADDING = 2000
#: How many equal calls are sent in a row, because one of them may be forgotten.
ALIKE = 8
#: Forms of names.
PLAIN, LONG = "a plain name", f"a name of {LONG_CHARS} characters"
JSON_TYPES = ("application/json ; charset=utf-8", "Application/JSON")
OTHER_TYPES = (
    "text/plain", "text/json", "application/jsonp", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x", "json", "",
)  # fmt: skip
OTHER_ROUTES = (
    *(("PUT", QUALITY_PATH), ("PATCH", QUALITY_PATH), ("DELETE", QUALITY_PATH), ("GET", QUALITY_PATH)),
    *(("POST", path) for path in ("/api/agents/quality/", "/api/agents/Quality", "/api/agents/qualit")),
    *(("POST", path) for path in ("/api/agents/qualityx", "/api/agents/qualit", "/api/agents/quality/x")),
)


@pytest.fixture
def ratings_of(connect: Connect, freeside: Freeside) -> Freeside:
    """Freeside, without exchanges in the evidence: a family of cases has too many for a report."""
    return Freeside(connect("freeside"), freeside.dialects, freeside.key, freeside.journal)


@pytest.fixture
def others(
    connect: Connect, freeside: Freeside, attacker: SigningKey, tenants: Tenants
) -> dict[str, tuple[str, Credential | None]]:
    """Callers who may not rate, each with the token rule that forbids it."""
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


@RATED
@pytest.mark.requires("budget")
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
    """Valid ratings count; invalid or unauthorised ones move neither score nor budget."""
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
                    "body of the maximum size",
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
    # one sent after them has arrived, so they would have arrived
    scores.arrives(agent, partial(rate_far, freeside, tenants.main), eventually, until_held=True)
    why = "a rating that was refused, or was about another agent, counted"
    scores.stay(shown, why, until_held=True)


@RATED
@pytest.mark.requires("budget")
@pytest.mark.requires("invoke")
def test_every_name_counts(
    freeside: Freeside, tenants: Tenants, scores: Scores, eventually: Eventually, evidence: Evidence
) -> None:
    """Agents with any legal name are scored by ratings and by answers.

    So are agents with concurrent answers, whoever calls and whichever pool serves. The contract sets no limit
    on a name's length: a service may refuse a long name, but if it accepts one it must compare it to the last
    letter.
    """
    answer = partial(freeside.try_invoke, tenants.main)
    at_the_same_time = {
        PLAIN: answer,
        f"{PLAIN}, asked for by another community": partial(freeside.try_invoke, tenants.other, tier="free"),
        f"{PLAIN}, requested from the most expensive pool": partial(answer, model=POOLS[-1]),
        **{f"{PLAIN}, one of {ALIKE}: {number}": answer for number in range(1, ALIKE + 1)},
    }
    plain_names = {f"{form}, at the same time": newcomer() for form in at_the_same_time}
    asks = dict(zip(plain_names.values(), at_the_same_time.values(), strict=True))
    sends: dict[str, Callable[[str], httpx.Response]] = {
        "rating": lambda name: freeside.post_rating(rating(name, "good"), freeside.credential(tenants.main)),
        "answer": lambda name: asks.get(name, answer)(prompt_for(), agent=name),
        "answer to a long prompt": lambda name: answer(prompt_for(padding=PADDING), agent=name),
    }
    named = {what: {PLAIN: newcomer()} for what in sends}
    for what, names in named.items():  # alone: it is what the others are compared with
        require_status(sends[what](names[PLAIN]), 200, 202)
    odd = {"rating": odd_names(), "answer": plain_names}
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
        scores.until(
            lambda: None not in scores.shown(*agents).values(), "new agents have a score", eventually
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
    if long := named["rating"].get(LONG):
        for near, score in scores.shown(f"{long[:-1]}y", f"y{long[1:]}").items():
            assert score is None, f"{near}, about which no event was sent, has the score {score} of {long}"


@RATED
@pytest.mark.requires("budget")
def test_another_agent_does_not_move(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """No event has counted for another agent so far, and no refused event has counted.

    This is the last check of scores in its phase, so it waits for the cache once for all of them.
    """
    if not scores.all_came:  # as in a run of this check alone
        scores.hold(bystander)
        scores.arrives(agent, partial(rate_far, freeside, tenants.main), eventually)
    scores.held(bystander)

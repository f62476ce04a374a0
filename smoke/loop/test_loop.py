"""G-5, phase loop: an event about an agent moves its score at Dixie, once, and no other agent's."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from pytest_readiness import Eventually, Evidence

from smoke.contract.intake import QUALITIES
from smoke.platform.answers import require_status
from smoke.platform.batch import at_once
from smoke.platform.freeside import Freeside, Prices, Tenants, prompt_for
from smoke.platform.parameters import Way, all_ways
from smoke.platform.scores import Scores, newcomer

pytestmark = [
    pytest.mark.goal("G-5"),
    pytest.mark.phase("loop"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "dixie", "key", "signing", "dixie.query-user"),
    pytest.mark.usefixtures("alone"),
    # a loop was watched until its limit, through failed readings: a rerun would show nothing new
    pytest.mark.flaky(reruns=0),
]


#: What rests on ratings that arrive.
RATED = pytest.mark.requires("freeside.quality", "loop")
#: A score nearer to the edge than this is moved away from it first: there it may stay.
ROOM = 0.9
#: What two parts differ by that are not equal but for rounding.
NOTICED = 1e-6
#: How often events are compared before one counts as moving a score too far.
ROUNDS = 3


def rating_of(freeside: Freeside, tenant: str, quality: str, **claims: Any) -> Callable[..., float]:
    """Sends a rating of that quality."""

    def send(agent: str, _: float | None = None) -> float:
        freeside.rate(tenant, agent, quality, **claims)
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
    """Good and excellent events raise the score in the public query, in time, and excellent ones further.

    Whoever rates: each is from a user of another tier.
    """
    scores.hold(bystander)
    rated = partial(rating_of, freeside, tenants.main)
    for _ in range(ROUNDS):
        moves = scores.moves(
            agent,
            rated("bad"),
            {
                "excellent, by a user of tier pro,": rated("excellent", tier="pro"),
                "good, by a user of tier free,": rated("good", tier="free"),
                "excellent, by a user of tier enterprise,": rated("excellent", tier="enterprise"),
            },
            eventually,
            at_edge=lambda before: before > ROOM,
        )
        for name, move in moves.items():
            evidence.figure(f"part of its way to 1 that {name} moved the score", round(move.pull, 6))
        pulls = [move.pull for move in moves.values()]
        # between two excellent ones, as a weight may depend on how many events there were
        if further := (pulls[0] + pulls[2]) / 2 - pulls[1] > NOTICED:
            break
        evidence.note("measured again: the late event of an answer moves the score, too")
    assert further, f"good moved the score as far as excellent: {pulls}"


@RATED
def test_bad_events_lower_the_score(
    freeside: Freeside, tenants: Tenants, agent: str, scores: Scores, eventually: Eventually
) -> None:
    """A bad event lowers the score in the public query, in time."""
    rated = partial(rating_of, freeside, tenants.main)
    scores.moves(
        agent,
        rated("good"),
        {"bad": rated("bad")},
        eventually,
        at_edge=lambda before: before < 1 - ROOM,
    )


def near_agents(agent: str) -> list[str]:
    """Agents of nearly the same name, by its case, its end and its beginning, and names that contain it."""
    swapped = agent.upper() if agent != agent.upper() else agent.lower()
    parts = [f"{prefix}{agent}" for prefix in ("nft:", "smoke:", "smoke/", "smoke.", " ", "@")]
    parts += [f"{agent}{suffix}" for suffix in (":1", "/1", ".1", "@1", " ", "?x", "#x")]
    return [name for name in (swapped, f"{agent}x", agent[:-1], *parts) if name and name != agent]


@pytest.mark.requires("invoke")
@pytest.mark.establishes("reports")
def test_answer_counts_for_its_agent_only(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """After an answer Finn reports on the agent that the request named, and on none of nearly its name."""
    other = scores.hold(bystander)
    ask = partial(freeside.try_invoke, tenants.main)
    for answer in at_once([partial(ask, prompt_for(), agent=near) for near in near_agents(bystander)]):
        require_status(answer, 200, 400, 422)  # a name that no agent can have may be refused
    scores.arrives(
        agent, lambda about, _: freeside.invoke(tenants.main, prompt_for(), agent=about), eventually
    )
    scores.stay(other, "an answer of another agent was counted for it", until_held=True)


@pytest.mark.requires("invoke", "reports")
def test_only_an_answer_to_its_name_counts(
    ways: Callable[[str], Way],
    tenants: Tenants,
    agent: str,
    scores: Scores,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """No report follows a stored answer, and none on a call that names no agent is about a known one (2)."""
    name, last, key = newcomer(), newcomer(), str(uuid.uuid4())
    way, stream = ways("freeside.invoke"), ways("freeside.stream")
    body, unnamed = way.body(prompt_for(), agent=name), way.body(prompt_for())
    again = partial(way.post, body, tenants.main, key=key)

    def scored(new: str) -> bool:
        scores.newcomers.give_time()
        with suppress(AssertionError):
            return bool(
                eventually(
                    lambda: scores.shown(new)[new] is not None,
                    within=scores.limit_s,
                    every=scores.every_s,
                    what=f"{new} has a score",
                )
            )
        evidence.figure("new agents with a score by their first answer", 0)
        evidence.note("not examined: a new agent gets no score by one answer")
        return False

    require_status(again(), 200)
    if not scored(name):
        return
    before = scores.shown(name, *(() if scores.cache_s else (agent,)))
    others = (
        [] if "agent" in unnamed else [partial(each.post, unnamed, tenants.main) for each in (way, stream)]
    )
    for answer in at_once([again, again, *others]):
        require_status(answer, 200)
    require_status(stream.post(body, tenants.main, key=key), 200, 409)
    require_status(way.post(way.body(prompt_for(), agent=last), tenants.main), 200)
    if scored(last):
        why = "a stored answer, or a call that names no agent, was counted for it"
        scores.stay(before, why, until_held=True)


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
) -> None:
    """A call that is refused for its price reaches no model: no report follows, as one does on an answer."""
    room = freeside.budget(tenants.small).room
    prices, padding = Prices.reaching(freeside, tenants.main, lambda prices: prices.padding_beyond(room))
    other = scores.hold(bystander)
    way = ways(route)
    body = way.body(prompt_for(padding=padding), prices.pool, bystander)
    claims: dict[str, Any] = {"pool_id": prices.pool} if way.direct else {}
    require_status(way.post(body, tenants.small, **claims), 402)
    scores.arrives(
        agent,
        lambda about, _: require_status(way.post(way.body(prompt_for(), agent=about), tenants.main), 200),
        eventually,
        until_held=True,
    )
    scores.stay(other, "a call that was refused for its price reached the model", until_held=True)

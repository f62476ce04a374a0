"""G-5, phase loop: an event about an agent moves its score at Dixie, once, and no other agent's."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pytest_readiness import Eventually, Evidence

from smoke.contract.intake import may_become, pull
from smoke.platform.answers import require_status
from smoke.platform.batch import at_once
from smoke.platform.dixie import Scores
from smoke.platform.freeside import Freeside, Prices, Tenants, prompt_for
from smoke.platform.parameters import Way, all_ways

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
    before = scores.of(agent)
    if before > ROOM:
        # one by one, here and below: a late event would be taken for the effect of a later one
        freeside.rate(tenants.main, agent, "bad")
        before = scores.moved(agent, before, eventually)
    pulls = []
    for quality, tier in (("excellent", "pro"), ("good", "free"), ("excellent", "enterprise")):
        freeside.rate(tenants.main, agent, quality, tier=tier)
        after = scores.moved(agent, before, eventually)
        assert may_become(before, [1.0], after), (
            f"the event {quality} moved the score from {before} to {after}"
        )
        pulls.append(pull(before, after, toward=1.0))
        evidence.figure(f"part of its way to 1 that {quality} moved the score", round(pulls[-1], 6))
        before = after
    # between two excellent ones, as a weight may depend on how many events there were
    assert pulls[1] < (pulls[0] + pulls[2]) / 2, f"good moved the score as far as excellent: {pulls}"


@RATED
def test_bad_events_lower_the_score(
    freeside: Freeside, tenants: Tenants, agent: str, scores: Scores, eventually: Eventually
) -> None:
    """A bad event lowers the score in the public query, in time."""
    before = scores.of(agent)
    if before < 1 - ROOM:
        freeside.rate(tenants.main, agent, "good")
        before = scores.moved(agent, before, eventually)
    freeside.rate(tenants.main, agent, "bad")
    after = scores.moved(agent, before, eventually)
    assert may_become(before, [0.0], after), f"a bad event moved the score from {before} to {after}"


@RATED
def test_another_agent_does_not_move(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """No event about one agent was counted for another so far, nor any that was refused."""
    if not scores.once.remembered("moved"):  # in a run of this check alone
        scores.hold(bystander)
        before = scores.of(agent)
        freeside.rate(tenants.main, agent, "bad" if before > 0.5 else "good")
        scores.moved(agent, before, eventually)
    scores.held(bystander)


def near_agents(agent: str) -> list[str]:
    """Agents of nearly the same name, by its case, its end and its beginning."""
    swapped = agent.upper() if agent != agent.upper() else agent.lower()
    return [name for name in (swapped, f"{agent}x", agent[:-1]) if name and name != agent]


@pytest.mark.requires("invoke")
@pytest.mark.establishes("reports")
def test_answer_counts_for_its_agent_only(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """After an answer Finn reports on the agent that the request named, and on none of nearly its name."""
    before, other = scores.of(agent), scores.shown(bystander)
    at_once(
        [partial(freeside.invoke, tenants.main, prompt_for(), agent=near) for near in near_agents(bystander)]
    )
    freeside.invoke(tenants.main, prompt_for(), agent=agent)
    since = time.monotonic()
    scores.moved(agent, before, eventually)
    scores.stay(other, f"an answer of {agent} was counted for it", since=since)


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
    other = scores.shown(bystander)
    way = ways(route)
    body = way.body(prompt_for(padding=padding), prices.pool, bystander)
    claims: dict[str, Any] = {"pool_id": prices.pool} if way.direct else {}
    require_status(way.post(body, tenants.small, **claims), 402)
    before = scores.of(agent)
    require_status(way.post(way.body(prompt_for(), agent=agent), tenants.main), 200)
    since = time.monotonic()
    scores.moved(agent, before, eventually)
    scores.stay(other, "a call that was refused for its price reached the model", since=since)

"""G-5, phase loop: an event about an agent moves its score at Dixie, once, and no other agent's."""

import pytest
from pytest_readiness import Eventually

from smoke.platform.answers import UUID, fields_of, require_status
from smoke.platform.attacks import require_refused
from smoke.platform.dixie import Dixie, Scores, quality_signal, service_credential
from smoke.platform.freeside import Freeside, Tenants
from smoke.platform.jwks import SigningKeyLookup
from smoke.platform.prompts import Prices, prompt_for

pytestmark = [
    pytest.mark.goal("G-5"),
    pytest.mark.phase("loop"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "dixie", "key", "signing"),
    pytest.mark.usefixtures("alone"),
    # a loop was watched until its limit, through failed readings: a rerun would show nothing new
    pytest.mark.flaky(reruns=0),
]


def report(freeside: Freeside, tenant: str, agent: str, quality: str) -> None:
    """Report the quality of an agent's work, and assert that Freeside accepts it."""
    answer = require_status(freeside.quality(f"nft:{agent}", quality, freeside.credential(tenant)), 202)
    body = fields_of(answer)
    assert body.boolean("accepted"), "the event was answered with 202, but not accepted"
    body.text("event_id", pattern=UUID)


def test_good_events_raise_the_score(
    freeside: Freeside, tenants: Tenants, agent: str, scores: Scores, eventually: Eventually
) -> None:
    """A good event raises the score in the public query, in time."""
    for quality in ("good", "excellent"):
        before = scores.of(agent)
        assert before < 1, f"{agent} has the highest score already: no rise could be seen"
        report(freeside, tenants.main, agent, quality)
        # one by one: a late event would be taken for the effect of a later check's
        after = scores.moved(agent, before, eventually)
        assert after > before, f"the event {quality} moved the score from {before} to {after}"


def test_bad_events_lower_the_score(
    freeside: Freeside, tenants: Tenants, agent: str, scores: Scores, eventually: Eventually
) -> None:
    """A bad event lowers the score in the public query, in time."""
    before = scores.of(agent)
    assert before > 0, f"{agent} has the lowest score already: no fall could be seen"
    report(freeside, tenants.main, agent, "bad")
    after = scores.moved(agent, before, eventually)
    assert after < before, f"a bad event moved the score from {before} to {after}"


def test_another_agent_does_not_move(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """An event about one agent is not counted for another."""
    before, other = scores.of(agent), scores.of(bystander)
    report(freeside, tenants.main, agent, "bad" if before > 0.5 else "good")
    scores.moved(agent, before, eventually)
    scores.stays(bystander, other, f"an event about {agent} was counted for it")


def test_refused_verdicts_change_nothing(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """A quality report that Freeside refuses never reaches Dixie, although one sent after it does."""
    before, other = scores.of(agent), scores.of(bystander)
    for case, credential in {
        "no token": None,
        "an expired token": freeside.credential(tenants.main, iat=1, exp=300),
    }.items():
        answer = freeside.quality(f"nft:{bystander}", "excellent", credential)
        require_refused(answer, "freeside", f"a quality report with {case}")
    report(freeside, tenants.main, agent, "bad" if before > 0.5 else "good")
    scores.moved(agent, before, eventually)
    scores.stays(bystander, other, "a quality report was refused, yet counted")


@pytest.mark.requires("finn", "finn_key")
def test_same_event_counts_once(
    dixie: Dixie, agent: str, scores: Scores, finn_key: SigningKeyLookup, eventually: Eventually
) -> None:
    """An event sent again under its id changes nothing; the next event does."""
    before = scores.of(agent)
    towards = 0.0 if before > 0.5 else 1.0
    event, credential = quality_signal(agent, towards), service_credential(finn_key())
    require_status(dixie.post_event(event, credential), 202)
    once = scores.moved(agent, before, eventually)
    require_status(dixie.post_event(event, credential), 202)
    scores.stays(agent, once, "the same event_id was counted twice")
    require_status(dixie.post_event(quality_signal(agent, 1.0 - towards), credential), 202)
    scores.moved(agent, once, eventually)


def test_answer_counts_for_its_agent_only(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """After an answer Finn reports on the agent that the request named, and on no other."""
    before, other = scores.of(agent), scores.of(bystander)
    freeside.invoke(tenants.main, prompt_for(), agent=agent)
    scores.moved(agent, before, eventually)
    scores.stays(bystander, other, f"an answer of {agent} was counted for it")


@pytest.mark.goal("G-4")
def test_over_budget_runs_nothing(
    freeside: Freeside, tenants: Tenants, agent: str, bystander: str, scores: Scores, eventually: Eventually
) -> None:
    """A call that is refused for its price reaches no model: no report on its agent follows."""
    room = freeside.budget(tenants.small).room
    prices, padding = Prices.reaching(freeside, tenants.main, lambda prices: prices.padding_beyond(room))
    other = scores.of(bystander)
    prompt = prompt_for(padding=padding)
    require_status(freeside.try_invoke(tenants.small, prompt, model=prices.pool, agent=bystander), 402)
    before = scores.of(agent)
    freeside.invoke(tenants.main, prompt_for(), agent=agent)
    scores.moved(agent, before, eventually)
    scores.stays(bystander, other, "a call that was refused for its price reached the model")

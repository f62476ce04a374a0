"""G-2, phase operations: what the run spent at its beginning is still spent at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_readiness import Evidence, SetupError

from smoke.contract.model import Access
from smoke.platform.answers import require_error, require_status
from smoke.platform.attacks import Target, require_spent
from smoke.platform.backends import Dixie
from smoke.platform.freeside import Freeside, Tenants, prompt_for
from smoke.platform.parameters import OF_FREESIDE, SPENT_ONCE, Way, each_access, require_no_run
from smoke.platform.scores import Scores
from smoke.platform.spend import Once
from smoke.platform.tokens import SigningKeyLookup

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("operations"),
    pytest.mark.requires("freeside", "key", "signing"),
]


def spent(once: Once, kind: str, **of: str) -> list[dict[str, Any]]:
    """What the run spent of one kind; SetupError if nothing.

    Then the check that spends it was not part of this run. If that check failed, checks that require what it
    establishes do not run.
    """
    found = [each for each in once.remembered(kind) if of.items() <= each.items()]
    if not found:
        raise SetupError(f"not examined: this run spent no {kind} {' '.join(of.values())}".rstrip())
    return found


@pytest.mark.parametrize("access", each_access("operations/spent-token-stays-spent", control=SPENT_ONCE))
def test_spent_token_stays_spent(
    access: Access, opened: Callable[[Access], Target], once: Once, evidence: Evidence
) -> None:
    """A token spent in phase auth is still refused at the end of the run, before it expires."""
    target = opened(access)
    for entry in spent(once, "token", access=access.id):
        answer = target.again(entry["claims"])
        evidence.exchange(answer)
        require_spent(answer, access.service, "a token that was spent when the run began")


@pytest.mark.goal("G-5")
@pytest.mark.p1
@pytest.mark.requires("dixie", "finn", "finn_key", "events")
@pytest.mark.usefixtures("alone")
@pytest.mark.control("loop/same-event-counts-once")
def test_counted_event_stays_counted(
    dixie: Dixie, scores: Scores, finn_key: SigningKeyLookup, once: Once
) -> None:
    """An event counted in phase loop does not count again at the end of the run."""
    events = [entry["event"] for entry in spent(once, "event")]
    before = scores.hold(*{event["agent_id"] for event in events})

    def again() -> None:
        for event in events:
            require_status(dixie.post_event(event, dixie.service_credential(finn_key())), 202)

    scores.stay_after(before, again, "an event that counted when the run began counted again")


def _controlled(way: Any) -> Any:
    """A way to the model, with the check that used keys there as its control."""
    control = pytest.mark.control(f"budget/one-key-is-one-charge[{way.id}]")
    used = pytest.mark.requires(f"{way.id}.used-key")
    return pytest.param(*way.values, id=way.id, marks=[*way.marks, control, used])


@pytest.mark.goal("G-4")
@pytest.mark.p0
@pytest.mark.requires("budget", "invoke")
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("route", [_controlled(way) for way in OF_FREESIDE])
def test_answered_key_stays_answered(
    route: str,
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    once: Once,
    evidence: Evidence,
) -> None:
    """A key answered in phase budget still has its own answer at the end of the run."""
    way = ways(route)
    known = spent(once, "key", route=route)
    watches = {tenant: freeside.watch(tenant, evidence) for tenant in {entry["tenant"] for entry in known}}
    for entry in known:
        again = way.post(entry["body"], entry["tenant"], key=entry["key"])
        evidence.exchange(again)
        require_no_run(entry["run"], again)
        other = way.post(way.body(prompt_for()), entry["tenant"], key=entry["key"])
        require_error(other, 409, "IDEMPOTENCY_CONFLICT")
    for watch in watches.values():
        watch.unchanged(f"{len(known)} keys that were answered when the run began")

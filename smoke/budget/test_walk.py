"""G-4, phase budget: random walks compared with a reference ledger, and the room left at their end.

They come last in the phase, as they use up the small community's budget, which the other checks need.
"""

import secrets
from collections.abc import Callable

import pytest
from pytest_readiness import Environment, Evidence

from smoke.contract.ledger import described, draw, related, shortest
from smoke.platform.answers import require_status
from smoke.platform.attacks import RATED
from smoke.platform.backends import Finn
from smoke.platform.batch import reworded
from smoke.platform.freeside import Freeside, Tenants
from smoke.platform.http import Connect
from smoke.platform.walker import Walker, fails_again, learn_tariff

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("budget"),
    pytest.mark.p0,
    pytest.mark.requires("freeside", "key", "signing", "budget", "invoke"),
    pytest.mark.usefixtures("alone"),
]
#: Moves in addition to those that every walk makes.
MORE = 6
#: Every run takes the same walk on a live platform.
LIVE_SEED = 1


@pytest.fixture
def walker(
    freeside: Freeside,
    finn: Finn,
    tenants: Tenants,
    connect: Connect,
    environment: Environment,
    evidence: Evidence,
) -> Callable[[], Walker]:
    """Makes walkers that start from the current budgets. Evidence contains none of their exchanges."""
    quiet = Freeside(connect("freeside"), freeside.dialects, freeside.key, freeside.journal)
    reachable = environment.get("finn.reachable")
    direct = Finn(connect("finn"), finn.agent, finn.key, finn.journal) if reachable else None
    tariff, _ = learn_tariff(quiet, tenants.main, live=environment.live)

    def make() -> Walker:
        watches = {tenant: quiet.watch(tenant, evidence) for tenant in tenants.all()}
        return Walker(quiet, direct, tenants, watches, tariff)

    return make


@pytest.mark.requires("stream")
def test_random_walk_follows_the_ledger(
    walker: Callable[[], Walker], tenants: Tenants, environment: Environment, evidence: Evidence
) -> None:
    """In random walks, each answer and each budget matches the reference ledger after every step.

    SMOKE_WALK_SEED repeats a walk. A failed walk on the embedded platform is reported as the fewest of its
    steps that still fail.
    """
    live = environment.live
    seed = environment.get("budget.walk_seed") or (LIVE_SEED if live else 1 + secrets.randbelow(10**6))
    evidence.figure("seed of the walk (SMOKE_WALK_SEED)", seed)
    steps = draw(
        seed, more=0 if live else MORE, direct=environment.get("finn.reachable"), to_the_limit=not live
    )
    steps = [(move,) for step in steps for move in step] if live else steps
    walk = walker()
    try:
        walk.walk(steps)
    except AssertionError as error:
        tried = steps[: walk.steps + 1]
        fewest = tried if live else shortest(tried, fails_again(walker))
        what = "fewest steps that fail" if len(fewest) < len(tried) else "the step and what it repeats"
        fewest = fewest if len(fewest) < len(tried) else related(tried)
        text = f"{error} (seed {seed}, {what}: {described(fewest)})"
        raise reworded(error, text) from error
    evidence.figure("steps of the walk", walk.steps, expected=len(steps))
    evidence.figure("calls of the walk", walk.calls)
    for why in walk.left_out:
        evidence.note(f"not examined: {why}")
    if not live and not walk.exhausted(tenants.small):
        evidence.note(
            f"not examined: the last unit of {tenants.small}'s budget, as no calls cost what was left"
        )


@pytest.mark.p1
@pytest.mark.requires("freeside.models", "freeside.quality")
def test_what_costs_nothing_needs_no_room(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """Ratings are accepted and models listed with what little room the previous calls have left (1)."""
    left = freeside.budget(tenants.small)
    evidence.figure("room", left.room, "µUSD")
    if 2 * left.room > left.limit:
        evidence.note("not examined close to the limit: more than half of the budget is left")
    require_status(freeside.models(freeside.credential(tenants.small)), 200)
    freeside.rate(tenants.small, RATED, "good")

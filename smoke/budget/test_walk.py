"""G-4, phase budget: random walks over all that callers do with money, held against a reference ledger."""

import secrets
import time
from collections.abc import Callable, Sequence

import pytest
from pytest_readiness import Environment, Evidence

from smoke.contract.walks import Step, described, draw, related, shortest
from smoke.platform.answers import UnexpectedStatus
from smoke.platform.finn import Finn
from smoke.platform.freeside import Freeside, Tenants
from smoke.platform.http import Connect
from smoke.platform.walker import Walker, learn_tariff

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("budget"),
    pytest.mark.p0,
    pytest.mark.requires("freeside", "key", "signing", "budget", "invoke"),
    pytest.mark.usefixtures("alone"),
]

#: Moves beside those that every walk makes.
MORE = 6
#: A live platform is walked in the same way by every run.
LIVE_SEED = 1
#: What a failed walk may take to be shortened, in seconds.
SHORTEN_WITHIN_S = 4.0


@pytest.fixture
def walker(
    freeside: Freeside,
    finn: Finn,
    tenants: Tenants,
    connect: Connect,
    environment: Environment,
    evidence: Evidence,
) -> Callable[[], Walker]:
    """Makes walkers that start from the budgets as they are. Evidence holds none of their exchanges."""
    quiet = Freeside(connect("freeside"), freeside.dialects, freeside.key, freeside.journal)
    reachable = environment.get("finn.reachable")
    direct = Finn(connect("finn"), finn.agent, finn.key, finn.journal) if reachable else None
    tariff, _ = learn_tariff(quiet, tenants.main, live=environment.live)

    def make() -> Walker:
        watches = {tenant: quiet.watch(tenant, evidence) for tenant in tenants.all()}
        return Walker(quiet, direct, tenants, watches, tariff)

    return make


def test_random_walk_follows_the_ledger(
    walker: Callable[[], Walker], environment: Environment, evidence: Evidence
) -> None:
    """Whatever callers do, each answer and each budget is as the reference ledger has it, after each step.

    SMOKE_WALK_SEED walks the same way again. A failed walk of the embedded platform is reported as the fewest
    of its steps that still fail.
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
        if isinstance(error, UnexpectedStatus):
            raise UnexpectedStatus(text, error.response) from error
        raise type(error)(text) from error
    evidence.figure("steps of the walk", walk.steps, expected=len(steps))
    evidence.figure("calls of the walk", walk.calls)


def fails_again(walker: Callable[[], Walker]) -> Callable[[Sequence[Step]], bool]:
    """Whether a walk of the steps fails, too; False when there is no time left to try."""
    deadline = time.monotonic() + SHORTEN_WITHIN_S

    def fails(steps: Sequence[Step]) -> bool:
        if time.monotonic() > deadline:
            return False
        try:
            walker().walk(steps)
        except AssertionError:
            return True
        return False

    return fails

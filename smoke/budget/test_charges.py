"""G-4, phase budget: what is answered is charged, on every route and for every pool, up to every limit."""

import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from string import ascii_letters
from typing import Any

import pytest
from pytest_readiness import SafetyViolation

from smoke.contract.model import MAX_BODY_BYTES, MAX_KEY_CHARS, POOLS, TIER_POOLS
from smoke.contract.requests import KEY_HEADER, padded
from smoke.platform.answers import fields_of, require_status
from smoke.platform.batch import Batch, Case, answering
from smoke.platform.concurrency import at_once
from smoke.platform.freeside import Tenants, cost_in
from smoke.platform.invariants import Conservation
from smoke.platform.prompts import nonce, prompt_for
from smoke.platform.ways import OF_FREESIDE, Way, all_ways

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("budget"),
    pytest.mark.requires("freeside", "key", "signing", "budget"),
    pytest.mark.usefixtures("alone"),
]


#: There are few of them: another call of this day may have had it.
SHORT_KEY = "a key of one character"


@pytest.mark.p0
@pytest.mark.parametrize("route", all_ways(covered_by="budget/sequential-spend-is-conserved"))
def test_every_pool_is_charged(
    route: str, ways: Callable[[str], Way], tenants: Tenants, watch: Conservation
) -> None:
    """A call to each pool by the least tier that has it: served by it, with a cost, and their sum is charged.

    Events do not name the pool: the stored answer of the stream does.
    """
    way, complete = ways(route), ways("freeside.invoke")

    def ask(pool: str) -> int:
        tier = next(tier for tier, pools in TIER_POOLS.items() if pool in pools)
        claims: dict[str, Any] = {"tier": tier}
        claims |= {"pool_id": pool} if way.direct else {"allowed_pools": [*TIER_POOLS[tier]]}
        key, body = str(uuid.uuid4()), way.body(prompt_for(), pool)
        answer = require_status(way.post(body, tenants.main, key=key, **claims), 200)
        cost = cost_in(answer)
        if not cost:
            raise SafetyViolation(f"{route}: an answer of the pool {pool} costs nothing, or does not tell")
        if way.streamed:
            answer = complete.post(body, tenants.main, key=key, **claims)
        if not way.direct and answer.status_code == 200:
            fields_of(answer).text("model", among=(pool,))
        return cost

    watch.charged(at_once([partial(ask, pool) for pool in POOLS]))


def at_the_limits(way: Way) -> Iterable[tuple[str, bytes, Mapping[str, Any]]]:
    """Calls at the limits of what the contract takes: a name, the body, the headers."""

    def body() -> bytes:
        return way.encoded(way.body(prompt_for()))

    yield "a body of the largest size", padded(body(), MAX_BODY_BYTES), {}
    yield "white space around the body", b"\r\n\t " + body() + b"\n", {}
    # as long as it may be, and yet another one in each run
    yield "a key of the greatest length", body(), {KEY_HEADER: nonce().ljust(MAX_KEY_CHARS, "~")}
    yield SHORT_KEY, body(), {KEY_HEADER: secrets.choice(ascii_letters)}
    yield "a key with spaces and signs", body(), {KEY_HEADER: f"{nonce()} !\"#$%&'()*+,/:;<=>?@[\\]^`{{|}}~"}
    for media in ("application/json ; charset=utf-8", "Application/JSON"):
        yield f"content type {media}", body(), {"Content-Type": media}


@pytest.mark.p1
@pytest.mark.parametrize("route", OF_FREESIDE)
def test_limits_are_inclusive(
    route: str, ways: Callable[[str], Way], batch: Batch, tenants: Tenants, watch: Conservation
) -> None:
    """What is just within a limit is answered, and charged like any other call."""
    way = ways(route)
    cases = [
        Case(
            f"{route}: {name}", "a limit belongs to what it limits (1.2, 1.3)",
            partial(way.post, body, tenants.main, headers=headers),
            answering(200, *((409,) if name == SHORT_KEY else ())),
        )
        for name, body, headers in at_the_limits(way)
    ]  # fmt: skip
    costs = [cost_in(answer) for answer in batch.run(cases) if answer.status_code == 200]
    assert all(costs), f"{route}: an answer costs nothing, or does not tell"
    watch.charged(costs)

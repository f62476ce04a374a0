"""G-3, phase invoke: a token reaches the pools of its tier that it allows, on every route, and no other."""

from collections.abc import Callable, Iterable

import httpx
import pytest

from smoke.contract.model import POOLS, TIER_POOLS
from smoke.contract.neighbours import twice
from smoke.contract.requests import Reach, above_the_tier, direct, misspelled, not_allowed, of_no_pool
from smoke.platform.answers import error_code, fields_of, require_json_error, require_status
from smoke.platform.batch import Batch, Case
from smoke.platform.freeside import Tenants, cost_in
from smoke.platform.invariants import Conservation
from smoke.platform.prompts import prompt_for
from smoke.platform.ways import Way, all_ways

pytestmark = [
    pytest.mark.goal("G-3"),
    pytest.mark.phase("invoke"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "key", "signing", "budget"),
    pytest.mark.usefixtures("alone"),
]

#: What a token must be refused with whose own claims are in order; a bad one may be refused for itself.
BY_POOL, BY_TOKEN = (403,), (400, 401, 403)


def reaches(way: Way) -> Iterable[Reach]:
    """What is out of reach on a route; the spellings of a list and of a pool are tried on one of them."""
    if way.direct:
        return direct()
    spelled = [*misspelled()]
    spelled = spelled[:40] if way.streamed else [*spelled, *of_no_pool()]
    return [*above_the_tier(), *not_allowed(), *spelled]


def judging(reach: Reach, way: Way) -> Callable[[httpx.Response], object]:
    """Refused for the pool; Finn may also overlook a pool that its token names, and serve one of the tier."""

    def judge(answer: httpx.Response) -> None:
        if way.direct and answer.status_code == 200:
            tier = str(reach.claims.get("tier", "enterprise"))
            fields_of(answer).text("model", among=TIER_POOLS[tier])
            return
        extended = (400,) if reach.body else ()
        require_status(answer, *(BY_POOL if reach.ordinary else BY_TOKEN), *extended)
        require_json_error(answer)
        if reach.ordinary and not extended:
            codes = ("POOL_ACCESS_DENIED",) if way.direct else ("MODEL_NOT_ALLOWED",)
            assert error_code(answer) in codes, f"403 {error_code(answer)}"

    return judge


@pytest.mark.parametrize("route", all_ways())
def test_pools_out_of_reach_are_refused(
    route: str, ways: Callable[[str], Way], batch: Batch, tenants: Tenants, watch: Conservation
) -> None:
    """A pool above the tier, or not in the token's list, is refused on every route, for nothing."""
    way = ways(route)
    cases = [
        Case(
            f"{route}: {reach.name}", "a token reaches the pools of its tier that it allows (1.1)",
            lambda reach=reach: way.post(  # type: ignore[misc]
                {**way.body(prompt_for(), reach.pool), **reach.body}, tenants.main,
                headers=reach.headers, **reach.claims,
            ),
            judging(reach, way),
        )
        for reach in reaches(way)
    ]  # fmt: skip
    answers = batch.run(cases)
    served = [cost_in(answer) for answer in answers if answer.status_code == 200]
    if served:
        watch.charged(served)
    else:
        watch.unchanged(f"{len(cases)} calls of {route} to pools out of reach")


@pytest.mark.requires("freeside.invoke")
@pytest.mark.parametrize("order", ["first", "last"])
def test_duplicate_pool_grants_nothing(
    ways: Callable[[str], Way], order: str, tenants: Tenants, watch: Conservation
) -> None:
    """A body that names a pool in reach and one that is not never gets the latter."""
    way = ways("freeside.invoke")
    inside, outside = TIER_POOLS["free"][0], POOLS[-1]
    names = (outside, inside) if order == "first" else (inside, outside)
    body = twice(way.body(prompt_for(), names[0]), way.pool, names[1]).encode()
    answer = way.post(body, tenants.main, tier="free", allowed_pools=[inside])
    if answer.status_code == 200:
        fields_of(answer).text("model", among=(inside,))
        watch.charged([cost_in(answer)])
        return
    watch.unchanged(f"a body that names a pool twice: {answer.status_code}")
    require_json_error(require_status(answer, 400, 403))

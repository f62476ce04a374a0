"""G-3, phase invoke: what is no call of the contract, or asks a pool out of reach, is refused for nothing."""

import uuid
from collections.abc import Callable, Collection, Iterable
from functools import partial

import httpx
import pytest

from smoke.contract.intake import longest_name
from smoke.contract.model import POOLS, TIER_POOLS
from smoke.contract.neighbours import (
    BadCall,
    Reach,
    above_the_tier,
    bad_bodies,
    bad_frames,
    bad_keys,
    bad_sizes,
    direct,
    misspelled,
    not_allowed,
    not_json,
    of_all_lists,
    of_no_pool,
    shared,
    twice,
)
from smoke.contract.schemas import shown
from smoke.platform.answers import error_code, fields_of, require_json_error, require_status
from smoke.platform.batch import Batch, Case, answering, mint_command
from smoke.platform.freeside import Freeside, Tenants, cost_in, prompt_for
from smoke.platform.invariants import Conservation
from smoke.platform.parameters import Way, all_ways

pytestmark = [
    pytest.mark.goal("G-3"),
    pytest.mark.phase("invoke"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "key", "signing", "budget"),
    pytest.mark.usefixtures("alone"),
]


#: How a token with good claims must be refused; a bad one may be refused for itself.
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


@pytest.mark.requires("freeside.models")
def test_models_are_the_effective_pools(freeside: Freeside, tenants: Tenants, batch: Batch) -> None:
    """The models of a token are those pools of its tier that its list has, whatever the list is (1, 1.1)."""
    quiet = freeside.unrecorded()

    def judge(pools: Collection[str], answer: httpx.Response) -> None:
        fields = fields_of(require_status(answer, 200))
        listed = fields.raw("models", "a list")
        if not (isinstance(listed, list) and len(listed) == len(pools) and all(p in listed for p in pools)):
            fields.refuse("models", "exactly " + ", ".join(sorted(pools)), shown(listed))

    batch.run(
        [
            Case(
                f"{claims['tier']}, allowed {'+'.join(claims['allowed_pools'])}",
                "the models of a token are its effective pools (1.1)",
                partial(quiet.models, quiet.credential(tenants.main, **claims)),
                partial(judge, pools),
                partial(mint_command, "freeside.models", **claims),
            )
            for claims, pools in of_all_lists()
        ]
    )


@pytest.mark.requires("freeside.invoke")
@pytest.mark.parametrize(
    ("order", "route"),
    [
        pytest.param(order, route, id=f"{order}{suffix}", marks=pytest.mark.requires(route))
        for route, suffix in (("freeside.invoke", ""), ("freeside.stream", "-stream"))
        for order in ("first", "last")
    ],
)
def test_duplicate_pool_grants_nothing(
    order: str, route: str, ways: Callable[[str], Way], tenants: Tenants, watch: Conservation
) -> None:
    """A body that names a pool in reach and one that is not never gets the latter.

    Events do not name the pool: the stored answer of the stream does.
    """
    way, key = ways(route), str(uuid.uuid4())
    inside, outside = TIER_POOLS["free"][0], POOLS[-1]
    names = (outside, inside) if order == "first" else (inside, outside)
    body = twice(way.body(prompt_for(), names[0]), way.pool, names[1]).encode()
    answer = way.post(body, tenants.main, key=key, tier="free", allowed_pools=[inside])
    if answer.status_code == 200:
        cost = cost_in(answer)
        if way.streamed:
            complete = ways("freeside.invoke")
            answer = complete.post(body, tenants.main, key=key, tier="free", allowed_pools=[inside])
        fields_of(require_status(answer, 200)).text("model", among=(inside,))
        watch.charged([cost])
        return
    watch.unchanged(f"a body that names a pool twice: {answer.status_code}")
    require_json_error(require_status(answer, 400, 403))


#: How a direct call is refused: the contract gives Finn's routes no statuses of their own.
BY_FINN = (400, 404, 405, 413, 415, 422)


def bad_calls(way: Way) -> Iterable[BadCall]:
    """Everything near to a good call of a route."""
    prompt = prompt_for()
    yield from bad_bodies(way.body(prompt, POOLS[0], "smoke-elsewhere"), way.schema)
    for number, pool in enumerate(POOLS[1:], 1) if way.pool and not way.streamed else ():
        names = [
            bad for bad in bad_bodies(way.body(prompt, pool), way.schema) if bad.name.startswith(way.pool)
        ]
        yield from shared(names, number)
    content = way.encoded(way.body(prompt))
    yield from not_json(way.body(prompt), way.prompt)
    yield from bad_frames(content)
    if not way.direct:
        yield from bad_sizes(content)
        yield from bad_keys(content)


@pytest.mark.parametrize("route", all_ways())
def test_bad_calls_are_refused(
    route: str, ways: Callable[[str], Way], batch: Batch, tenants: Tenants, watch: Conservation
) -> None:
    """What is near to a good call is a 4xx with a JSON error that costs nothing; the good one is answered.

    That one's agent has a name as long as every service takes one.

    All pools are misspelled on one route, and one of them on the others.
    """
    way = ways(route)
    cases = [
        Case(
            f"{route}: {bad.name}", "an invalid call is refused (1.3)",
            lambda bad=bad: way.post(bad.body, tenants.main, headers=bad.headers, method=bad.method),  # type: ignore[misc]
            answering(*(BY_FINN if way.direct else bad.statuses)),
        )
        for bad in bad_calls(way)
    ]  # fmt: skip
    batch.run(cases)
    watch.unchanged(f"{len(cases)} refused calls of {route}")
    good = way.body(prompt_for(), agent=longest_name("smoke-elsewhere"))
    answer = require_status(way.post(good, tenants.main), 200)
    watch.charged([cost_in(answer)])

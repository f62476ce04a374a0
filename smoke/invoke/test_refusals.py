"""G-3, phase invoke: what is no call of the contract is refused on every route, and costs nothing."""

from collections.abc import Callable, Iterable

import pytest

from smoke.contract.model import POOLS
from smoke.contract.neighbours import shared
from smoke.contract.requests import BadCall, bad_bodies, bad_frames, bad_keys, bad_sizes, not_json
from smoke.platform.answers import require_status
from smoke.platform.batch import Batch, Case, answering
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
    answer = require_status(way.post(way.body(prompt_for()), tenants.main), 200)
    watch.charged([cost_in(answer)])

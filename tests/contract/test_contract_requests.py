"""What derived checks send: calls that the contract refuses, each for one reason, and pools out of reach."""

import json
from collections import Counter
from typing import Any

import pytest

from smoke.contract.model import CALL_BODIES, MAX_BODY_BYTES, MAX_KEY_CHARS, POOLS, TIER_POOLS
from smoke.contract.neighbours import (
    KEY_HEADER,
    above_the_tier,
    bad_bodies,
    bad_keys,
    bad_methods,
    bad_sizes,
    direct,
    misspelled,
    not_allowed,
    not_json,
    of_all_lists,
    of_no_pool,
    own_pool_elsewhere,
    padded,
)
from smoke.contract.schemas import violations

GOOD: dict[str, dict[str, Any]] = {
    "prompt": {"agent": "a", "prompt": "say it", "model": "cheap"},
    "messages": {"agent": "a", "messages": [{"role": "user", "content": "say it"}], "modelAlias": "cheap"},
}


@pytest.mark.parametrize("dialect", GOOD)
def test_bad_bodies_break_the_schema_and_differ(dialect: str) -> None:
    assert not [*violations(GOOD[dialect], CALL_BODIES[dialect])]
    found = [*bad_bodies(GOOD[dialect], CALL_BODIES[dialect])]
    assert all([*violations(json.loads(bad.body[0]), CALL_BODIES[dialect])] for bad in found)
    assert len({bad.body[0] for bad in found}) == len({bad.name for bad in found}) == len(found) >= 60
    names = {bad.name for bad in found}
    optional = {"prompt": {"agent"}, "messages": {"modelAlias"}}[dialect]
    for member in GOOD[dialect]:
        assert (f"{member} missing" in names) is (member not in optional)
        assert (f"{member} null" in names) is (member not in optional)


def test_bodies_that_are_not_a_json_object() -> None:
    for bad in not_json(GOOD["prompt"], "prompt"):
        try:
            document = json.loads(bad.body[0], parse_constant=lambda _: object())
        except (ValueError, RecursionError):
            continue
        assert not isinstance(document, dict) or [*violations(document, CALL_BODIES["prompt"])], bad.name


def test_frames_sizes_and_keys_are_just_beyond_what_is_taken() -> None:
    good = json.dumps(GOOD["prompt"]).encode()
    assert {bad.method for bad in bad_methods(good)} == {"PUT", "PATCH", "DELETE", "GET"}
    sizes = [(sum(map(len, bad.body)), len(bad.body)) for bad in bad_sizes(good)]
    assert (MAX_BODY_BYTES + 1, 1) in sizes
    assert (MAX_BODY_BYTES + 1, 2) in sizes
    assert json.loads(padded(good, MAX_BODY_BYTES)) == GOOD["prompt"]
    lengths = [len(bad.headers[KEY_HEADER]) for bad in bad_keys(good)]
    assert {0, MAX_KEY_CHARS + 1} <= {*lengths}


def test_every_pool_out_of_reach_is_asked_by_a_token_that_does_not_open_it() -> None:
    found = [*above_the_tier(), *not_allowed(), *of_no_pool()]
    assert len({reach.name for reach in found}) == len(found)
    for reach in found:
        allowed, tier = reach.claims["allowed_pools"], reach.claims["tier"]
        effective = {pool for pool in TIER_POOLS[tier] if pool in allowed}
        assert reach.pool not in effective or reach.claims["pool_id"] not in effective, reach.name
        assert reach.ordinary is (reach.claims["pool_id"] in effective), reach.name
    outside = {(tier, pool) for tier, open_ in TIER_POOLS.items() for pool in POOLS if pool not in open_}
    assert {(reach.claims["tier"], reach.pool) for reach in above_the_tier()} >= outside
    assert {reach.pool for reach in misspelled()} == {*POOLS[1:]}
    counts = Counter(reach.pool for reach in misspelled())
    assert all(count * 2 < counts[POOLS[1]] for pool, count in counts.items() if pool != POOLS[1])
    assert all(
        reach.claims["pool_id"] not in TIER_POOLS[reach.claims.get("tier", "enterprise")]
        for reach in direct()
    )


def test_tier_and_list_decide_own_pools_elsewhere_and_lists() -> None:
    elsewhere = [*own_pool_elsewhere()]
    assert len({near.name for near in elsewhere}) == len(elsewhere)
    for near in elsewhere:
        assert near.value["pool_id"] not in TIER_POOLS[near.value["tier"]] or (
            near.value["pool_id"] not in near.value["allowed_pools"]
        )
    lists = [*of_all_lists()]
    for claims, pools in lists:
        assert pools == {*TIER_POOLS[claims["tier"]]} & {*claims["allowed_pools"]}
        assert claims["pool_id"] in pools
    for tier, open_ in TIER_POOLS.items():
        assert (
            len({frozenset(pools) for claims, pools in lists if claims["tier"] == tier})
            == 2 ** len(open_) - 1
        )

"""Walks follow from their seed, repeat only earlier calls, and shrink to what still fails."""

from hypothesis import given, settings
from hypothesis import strategies as st

from smoke.contract.ledger import (
    ROUTES,
    SMALL,
    Move,
    Ruling,
    Step,
    described,
    draw,
    in_vain,
    related,
    shortest,
)
from smoke.contract.model import POOLS

seeds = st.integers(1, 10**6)


def moves(steps: list[Step]) -> list[Move]:
    return [move for step in steps for move in step]


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(0, 20))
def test_a_seed_determines_the_walk_which_repeats_only_earlier_moves(seed: int, more: int) -> None:
    steps = draw(seed, more=more)
    assert steps == draw(seed, more=more)
    assert [move.number for move in moves(steps)] == [*range(1, len(moves(steps)) + 1)]
    made: dict[int, Move] = {}
    for step in steps:
        for move in step:
            assert not move.of or made[move.of].pool == move.pool, "it repeats a call of an earlier step"
            if move.of:
                assert (made[move.of].tenant == move.tenant) is (move.action != "borrow")
        assert sum(move.tenant == SMALL for move in step) <= 1
        repeated = [move.of for move in step if move.of]
        assert len({*repeated}) == len(repeated), "either of two may come first"
        made |= {move.number: move for move in step if move.action in ("call", "last")}


@given(seeds)
def test_every_walk_visits_every_pool_by_every_route_and_makes_every_move(seed: int) -> None:
    found = moves(draw(seed))
    assert {(move.pool, move.route) for move in found if move.action == "call"} >= {
        (pool, route) for pool in POOLS for route in ROUTES
    }
    for route in ROUTES:
        actions = {move.action for move in found if move.route == route}
        assert actions >= {"call", "replay", "conflict", "borrow", "twins", "beyond", "refused"}
    last = next(place for place, move in enumerate(found) if move.action == "last")
    tail = [(move.action, move.route) for move in found[last + 1 : last + 5]]
    assert tail == [*(("replay", route) for route in ROUTES), ("beyond", "invoke"), ("call", "invoke")]
    assert not [move for move in moves(draw(seed, direct=False)) if move.route == "direct"]
    assert not [move for move in moves(draw(seed, to_the_limit=False)) if move.action == "last"]


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_the_shortest_walk_is_what_fails(needed: list[bool]) -> None:
    steps = [(Move(number, "call", "main"),) for number in range(1, len(needed) + 1)]
    culprits = {step for step, need in zip(steps, needed, strict=True) if need} | {steps[-1]}
    found = shortest(steps, lambda tried: culprits <= {*tried})
    assert found == [step for step in steps if step in culprits]


def test_a_walk_is_put_into_words() -> None:
    steps = [
        (Move(1, "call", "main"), Move(2, "refused", "other", case="long-key")),
        (Move(3, "replay", "main", of=1),),
    ]
    assert described(steps) == (
        "1. call by invoke (main, cheap) beside 2. refused by invoke (other, long-key); "
        "3. replay of 1 by invoke (main, cheap)"
    )


def test_what_a_step_repeats_is_related_to_it() -> None:
    steps = [(Move(number, "call", "main"),) for number in (1, 2)] + [(Move(3, "replay", "main", of=2),)]
    assert related(steps) == steps[1:]
    assert related(steps[:2]) == steps[1:2]


def test_one_of_two_twins_is_not_refused_for_its_key() -> None:
    twins, other = Move(1, "twins", "main"), Move(2, "conflict", "main")
    refused = (twins, Ruling.CONFLICT)
    for ruling in (Ruling.RUN, Ruling.REPLAY, Ruling.OVER_BUDGET):
        assert not in_vain([refused, (twins, ruling), (other, Ruling.CONFLICT)])
    assert not in_vain([(other, Ruling.CONFLICT)] * 2)
    assert in_vain([refused, (other, Ruling.CONFLICT), refused]) == [twins]

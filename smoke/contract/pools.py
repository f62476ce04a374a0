"""Calls to pools that the token does not reach by its tier and its `allowed_pools` (contract 1.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from .model import POOLS, TIER_POOLS
from .neighbours import shared, strings

_DEFAULT = POOLS[0]


@dataclass(frozen=True, slots=True)
class Reach:
    """A token and the pool that its call asks: out of its reach, so that it must be refused."""

    name: str
    pool: str
    claims: Mapping[str, Any]
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Whether the token's own claims are in order, so that the refusal is the pool's and not the token's.
    ordinary: bool = True


def _claims(tier: str, allowed: Any, pool_id: str = _DEFAULT) -> dict[str, Any]:
    return {"tier": tier, "allowed_pools": allowed, "pool_id": pool_id}


def above_the_tier() -> Iterator[Reach]:
    """Every tier with every pool above it: allowed with all others, alone, or as the token's own."""
    for tier, open_ in TIER_POOLS.items():
        for pool in POOLS[len(open_) :]:
            yield Reach(f"{tier} asks {pool}, all allowed", pool, _claims(tier, [*POOLS]))
            yield Reach(f"{tier} asks {pool}, both allowed", pool, _claims(tier, [_DEFAULT, pool]))
            for asked in (pool, _DEFAULT):
                own = _claims(tier, [*POOLS], pool_id=pool)
                yield Reach(f"{tier} asks {asked}, its own pool is {pool}", asked, own, ordinary=False)
            wide = _claims(tier, [*POOLS])
            yield Reach(f"{tier} asks {pool}, tier in the body", pool, wide, {"tier": "enterprise"})
            yield Reach(f"{tier} asks {pool}, tier in a header", pool, wide, headers={"X-Tier": "enterprise"})


def not_allowed() -> Iterator[Reach]:
    """Every pool of every tier with every list that leaves it out."""
    for tier, open_ in TIER_POOLS.items():
        for pool in open_[1:]:
            others = [one for one in open_[1:] if one != pool]
            for count in range(len(others) + 1):
                for some in combinations(others, count):
                    allowed = [_DEFAULT, *some]
                    yield Reach(
                        f"{tier} asks {pool}, allowed {'+'.join(allowed)}", pool, _claims(tier, allowed)
                    )
            narrow = _claims(tier, [_DEFAULT])
            for name, value in {"allowed_pools": [*POOLS], "pool_id": pool}.items():
                yield Reach(f"{tier} asks {pool}, {name} in the body", pool, narrow, {name: value})
            yield Reach(
                f"{tier} asks {_DEFAULT}, its own pool {pool} is not allowed", _DEFAULT,
                _claims(tier, [_DEFAULT, *others], pool_id=pool), ordinary=False,
            )  # fmt: skip
    yield Reach(
        f"enterprise asks {_DEFAULT}, nothing allowed", _DEFAULT, _claims("enterprise", []), ordinary=False
    )


def misspelled() -> Iterator[Reach]:
    """Lists that hold a pool's neighbours, but not the pool."""
    for number, pool in enumerate(POOLS[1:]):
        for near in shared(strings(pool), number):
            claims = _claims("enterprise", [_DEFAULT, near.value])
            yield Reach(f"asks {pool}, allowed {near.name}", pool, claims, ordinary=False)
        joined, both = f"{_DEFAULT},{pool}", {_DEFAULT: True, pool: True}
        for name, allowed in (
            ("a text", joined), ("words", f"{_DEFAULT} {pool}"), ("an object", both),
            ("a joined item", [joined]), ("a list in a list", [_DEFAULT, [pool]]),
        ):  # fmt: skip
            yield Reach(
                f"asks {pool}, allowed as {name}", pool, _claims("enterprise", allowed), ordinary=False
            )


def direct() -> Iterator[Reach]:
    """Tokens towards Finn whose pool is above their tier, or is none."""
    for tier, open_ in TIER_POOLS.items():
        for pool in POOLS[len(open_) :]:
            yield Reach(f"{tier} with the pool {pool}", pool, {"tier": tier, "pool_id": pool})
    for near in strings(_DEFAULT):
        yield Reach(f"the pool {near.name}", "", {"pool_id": near.value}, ordinary=False)

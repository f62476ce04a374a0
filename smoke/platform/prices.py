"""The cost of calls by prompt length, and calls that fit or do not fit into a tenant's room."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial

import httpx
from pytest_readiness import Evidence, SetupError

from smoke.contract.model import POOLS

from .answers import require_status
from .freeside import Freeside, Tenants, cost_in, prompt_for
from .invariants import Conservation

#: Paddings far enough apart to show the price of a character; the last one is for a minimum price per call,
#: which hides that.
SHORT, LONGER = 0, (1000, 10_000)
#: The share of the room that one call uses: one fits, a second does not, and half is left for later runs.
FOR_ONE = 0.51
#: Keeps below the limit of a request body, 128 KiB.
MAX_PADDING = 120 * 1024
#: Maximum calls to spend a room, or to fit into it, if no single prompt costs that much.
FEW = 20
#: How often a call that was cheaper than its length suggested is replaced by a longer one.
TRIES = 4


class PriceOutOfReach(SetupError):
    """No prompt of a pool costs the wanted amount."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a pool charges by the length of the prompt, from two measured calls; µUSD."""

    least: int
    per_character: float
    pool: str = POOLS[0]

    @classmethod
    def learn(cls, freeside: Freeside, tenant: str, pool: str = POOLS[0]) -> Prices:
        """A few paid calls of ``tenant``, the first time in a run: prices do not change during one."""
        for known in reversed(freeside.journal.once.remembered("price")):
            if known["pool"] == pool:
                return cls(**known)

        def cost(padding: int) -> int:
            return freeside.invoke(tenant, prompt_for(padding=padding), model=pool).usage.cost_micro

        prices = cls(cost(SHORT), 0.0, pool)
        for padding in LONGER:
            prices = prices.with_seen(padding, cost(padding))
            if prices.per_character:
                break
        freeside.journal.once.remember("price", **asdict(prices))
        return prices

    def with_seen(self, padding: int, cost: int) -> Prices:
        """The same prices, corrected by the cost of a call with this padding."""
        return replace(self, per_character=max(0.0, (cost - self.least) / max(1, padding - SHORT)))

    @classmethod
    def reaching(
        cls, freeside: Freeside, tenant: str, padding: Callable[[Prices], int]
    ) -> tuple[Prices, int]:
        """The cheapest pool that has a prompt of the wanted price, and that prompt's padding."""
        for pool in POOLS[:-1]:
            prices = cls.learn(freeside, tenant, pool)
            with suppress(PriceOutOfReach):
                return prices, padding(prices)
        prices = cls.learn(freeside, tenant, POOLS[-1])
        return prices, padding(prices)

    def known_to_exceed(self, freeside: Freeside, tenant: str, padding: int, room: int) -> bool:
        """Whether a call of ``tenant`` with this padding costs more than ``room``; if not, it is learned."""
        cost = freeside.invoke(tenant, prompt_for(padding=padding), model=self.pool).usage.cost_micro
        if cost <= room:
            freeside.journal.once.remember("price", **asdict(self.with_seen(padding, cost)))
        return cost > room

    def padding_for(self, cost: float) -> int:
        """The padding of a prompt that costs about ``cost``; PriceOutOfReach if none can cost that much."""
        if cost <= self.least:
            return 0
        padding = int((cost - self.least) / self.per_character) if self.per_character else MAX_PADDING + 1
        if padding > MAX_PADDING:
            raise PriceOutOfReach(
                f"no prompt costs {cost:.0f} µUSD on the pool {self.pool}: "
                "give the small community a smaller budget"
            )
        return padding

    def padding_for_one(self, room: int) -> int:
        """The padding of a prompt that fits once into ``room``, and leaves half of it for later runs.

        If the prompt does not affect the price, any that fits a few times will do.
        """
        if not self.per_character and self.least <= room <= FEW * self.least:
            return 0
        return self.padding_for(max(self.least, room * FOR_ONE))

    def padding_beyond(self, room: int) -> int:
        """The padding of a prompt that costs more than ``room`` with any answer."""
        if self.least > (1.5 * room if self.per_character else room):
            return 0
        return self.padding_for(1.5 * room + self.least)


def spend_down(freeside: Freeside, tenants: Tenants, watch: Conservation, *, leave: int) -> list[int]:
    """Make a few calls that leave the small community room for ``leave`` more; return their cost in µUSD.

    PriceOutOfReach if that takes many calls.
    """
    least, room = Prices.learn(freeside, tenants.main).least, watch.last.room
    calls = room // least - leave
    if not 0 < calls <= FEW:
        raise PriceOutOfReach(
            f"no prompt costs as much as the {room} µUSD that {tenants.small} has left, and a call only "
            f"{least}: give the small community a smaller budget"
        )
    paid = list[int]()
    for _ in range(calls):
        answer = freeside.try_invoke(tenants.small, prompt_for())
        if answer.status_code == 402:
            raise PriceOutOfReach(
                f"calls of {least} µUSD cannot spend the {room} µUSD that {tenants.small} has left: more is "
                "reserved for one than it costs. Give the small community a smaller budget"
            )
        paid.append(cost_in(require_status(answer, 200)))
    return paid


def beyond(
    freeside: Freeside, tenants: Tenants, evidence: Evidence, send: Callable[[str, int], httpx.Response]
) -> tuple[Conservation, Prices, int]:
    """A watch of the small community's budget; prices, and the padding of a call that does not fit into it.

    ``send`` sends one, to a pool with a padding. One that fits after all is cheaper than its length
    suggested, if it is for others as well: then a longer one is used. If no prompt costs as much as is left,
    as with a price per call, the budget is spent down to less than a call.
    """
    for _ in range(TRIES):
        watch = freeside.watch(tenants.small, evidence)
        room = watch.first.room
        try:
            found = Prices.reaching(freeside, tenants.main, partial(Prices.padding_beyond, room=room))
        except PriceOutOfReach:
            watch.charged(spend_down(freeside, tenants, watch, leave=0))
            continue
        answer = send(found[0].pool, found[1])
        fits = answer.is_success and 0 < cost_in(answer) <= room
        if not fits:
            return watch, *found
        watch.charged([cost_in(answer)])
        if found[0].known_to_exceed(freeside, tenants.main, found[1], room):
            return freeside.watch(tenants.small, evidence), *found
    raise PriceOutOfReach(f"no prompt was found that costs more than the room of {tenants.small}: run again")

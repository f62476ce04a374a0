"""G-4, phase budget: calls at the limit of a small budget."""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
from pytest_readiness import Environment, Evidence, SafetyViolation

from smoke.contract.model import CALLS, POOLS, TIER_POOLS
from smoke.platform.answers import (
    UnexpectedStatus,
    error_code,
    require_error,
    require_json_error,
    require_status,
)
from smoke.platform.attacks import require_spent
from smoke.platform.batch import Batch, Case, at_once, sampling
from smoke.platform.freeside import Freeside, Tenants, answer_of, cost_in, prompt_for
from smoke.platform.http import wait
from smoke.platform.invariants import Conservation
from smoke.platform.parameters import Way, all_ways
from smoke.platform.prices import PriceOutOfReach, Prices, beyond, spend_down
from smoke.platform.streams import StreamEvent, stream
from smoke.platform.walker import priced

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("budget"),
    pytest.mark.p0,
    pytest.mark.requires("freeside", "key", "signing", "budget", "invoke"),
    pytest.mark.usefixtures("alone"),
]
#: How many concurrent calls are made beyond those that fit.
CROWD = 5
#: How often a refused caller retries while others are served: this often at once, then after growing pauses,
#: 2 s in total.
AGAIN, UNPAUSED, PAUSE_S = 20, 8, 0.03
#: A stream that stays open for a while: this many words, requested after this much padding.
TIMES, PADDING = 40, 400
#: Maximum number of streams opened until the calls beside one are answered before it ends.
STREAMS = 8
#: How a call is refused for a reason other than the budget.
REFUSED = (400, 401, 403, 409, 415, 422)
#: The fraction of the room that a reservation may take if it exceeds the price.
MARGIN = 0.9


@pytest.fixture
def watch(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> Conservation:
    """The small community's budget, settled before the check and compared from then on."""
    return freeside.watch(tenants.small, evidence)


@dataclass(frozen=True, slots=True)
class Caller:
    """What a caller claims about itself, and how its over-budget call may be refused."""

    claims: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    statuses: Sequence[int] = (402,)


_BOAST = {"role": "admin", "tier": "enterprise", "unlimited": True}
CALLERS: Mapping[str, Caller] = {
    "an admin": Caller({"role": "admin"}),
    "another user": Caller({"sub": "0x" + "ad" * 20}),
    **{
        f"{who} of the tier {tier}": Caller({"tier": tier, **role, "allowed_pools": [*TIER_POOLS[tier]]})
        for tier in TIER_POOLS
        for who, role in {"a user": {}, "an admin": {"role": "admin"}}.items()
    },
    "headers": Caller(headers={"X-Role": "admin", "X-Admin": "true", "X-Tier": "enterprise"}),
    # unknown members may be refused
    "members of the body": Caller(body=_BOAST, statuses=(400, 402, 422)),
    "other claims": Caller({"roles": ["admin"], "scope": "admin", "unlimited": True, "limit": 10**9}),
}


def ask(freeside: Freeside, tenant: str, padding: int, pool: str) -> httpx.Response:
    """The answer, of any status, to an invoke with that much padding in its prompt."""
    return freeside.try_invoke(tenant, prompt_for(padding=padding), model=pool)


def ask_at_once(count: int, ask: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """The answers to this many concurrent calls.

    Callers refused for the price retry while others are served: a call's reservation must not become
    available, even briefly, before it is charged.
    """
    ended: list[httpx.Response] = []

    def persist() -> httpx.Response:
        ended.append(answer := ask())
        for attempt in range(AGAIN):
            if answer.status_code != 402 or len(ended) == count:
                break
            wait(max(0, attempt - UNPAUSED) * PAUSE_S)
            answer = ask()
        return answer

    return at_once([persist] * count)


def require_within(room: int, *answers: httpx.Response) -> None:
    """SafetyViolation for an answered call that cost more than the remaining room, in µUSD."""
    costs = [cost_in(answer) for answer in answers if answer.is_success]
    if any(cost > room for cost in costs):
        raise SafetyViolation(f"calls of {costs} µUSD were answered although only {room} µUSD were left")


@pytest.mark.parametrize("route", all_ways(covered_by="budget/over-budget-is-refused[freeside.invoke]"))
def test_over_budget_is_refused(
    route: str,
    ways: Callable[[str], Way],
    batch: Batch,
    freeside: Freeside,
    tenants: Tenants,
    evidence: Evidence,
) -> None:
    """Calls that cost more than is left get 402 on every route and pool, and change no figure.

    Each still spends its token (1.1), and its key has no answer: another token gets the same refusal.

    Each pool's own price counts: a cheaper pool may have room for the same call. Only for a pool with known
    prices is it certain that no call fits, unless a long one costs less than short ones suggest; no call may
    be answered beyond the room. One route learns the prices of all pools, the others only that of the most
    expensive one.
    """
    way = ways(route)

    def send(pool: str, prompt: str, **more: Any) -> httpx.Response:
        return way.post(way.body(prompt, pool), tenants.small, **way.own(pool), **more)

    watch, prices, padding = beyond(
        freeside, tenants, evidence, lambda pool, padding: send(pool, prompt_for(padding=padding))
    )
    room, known = watch.first.room, {prices.pool: padding}
    for pool in POOLS if route == "freeside.invoke" else POOLS[-1:]:
        with suppress(PriceOutOfReach):
            if pool not in known:
                known[pool] = Prices.learn(freeside, tenants.main, pool).padding_beyond(room)
    evidence.figure("room", room, "µUSD")

    def judge(pool: str, answer: httpx.Response) -> None:
        require_within(room, answer)
        by_token = way.direct and pool != prices.pool  # Finn may ignore a pool in its token
        if answer.status_code == 200 and pool in known and pool != prices.pool and not by_token:
            prices_there = Prices.learn(freeside, tenants.main, pool)
            by_token = not prices_there.known_to_exceed(freeside, tenants.main, known[pool], room)
        require_status(answer, *((402,) if pool in known and not by_token else (200, 402)))
        if answer.status_code == 402:
            require_json_error(answer)
            assert error_code(answer) == "BUDGET_EXCEEDED" or way.direct, f"402 {error_code(answer)}"

    rule = "a call beyond the budget is refused (1.3)"
    cases = [
        Case(
            f"{route}: {pool}",
            rule,
            partial(send, pool, prompt_for(padding=known.get(pool, padding))),
            partial(judge, pool),
        )
        for pool in (POOLS if way.pool else known)
    ]
    with watch.unless_others():
        answers = batch.run(cases)
    token, same = str(uuid.uuid4()), {"prompt": prompt_for(padding=padding), "key": str(uuid.uuid4())}
    send(prices.pool, **same, jti=token)
    what = "the token of a call that was refused for its price"
    require_spent(send(prices.pool, **same, jti=token), route.partition(".")[0], what)
    with watch.unless_others():
        judge(prices.pool, send(prices.pool, **same))
    paid = [cost_in(answer) for answer in answers if answer.status_code == 200]
    if paid:
        watch.charged(paid)
    else:
        watch.unchanged(f"{len(answers)} calls of {route} beyond the budget")


@pytest.mark.parametrize("route", all_ways(covered_by="budget/limit-holds-for-every-caller[freeside.invoke]"))
def test_limit_holds_for_every_caller(
    route: str,
    ways: Callable[[str], Way],
    batch: Batch,
    freeside: Freeside,
    tenants: Tenants,
    evidence: Evidence,
) -> None:
    """The limit is the community's: no role, tier or user, and no field of a call, raises it."""
    way = ways(route)

    def send(pool: str, padding: int) -> httpx.Response:
        return way.post(way.body(prompt_for(padding=padding), pool), tenants.small, **way.own(pool))

    watch, prices, padding = beyond(freeside, tenants, evidence, send)
    room, body = watch.first.room, way.body(prompt_for(padding=padding), prices.pool)

    def judge(statuses: Sequence[int], answer: httpx.Response) -> None:
        require_within(room, answer)
        require_json_error(require_status(answer, *statuses))

    cases = [
        Case(
            f"{route}: {who}", "the limit is the community's, whoever calls (1.5)",
            partial(
                way.post, {**body, **caller.body}, tenants.small, headers=caller.headers,
                **way.own(prices.pool), **caller.claims,
            ),
            partial(judge, caller.statuses),
        )
        for who, caller in CALLERS.items()
        if prices.pool in TIER_POOLS[caller.claims.get("tier", "enterprise")]
    ]  # fmt: skip
    with watch.unless_others():
        batch.run(cases)
    watch.unchanged(f"{len(cases)} calls of {route} beyond the budget by all kinds of callers")


def test_limit_is_exact(
    freeside: Freeside, tenants: Tenants, watch: Conservation, evidence: Evidence
) -> None:
    """Many concurrent calls with room for k: exactly k are answered, all others get 402, also if k = 0.

    Refused callers retry while others are served. A call may reserve more than its final price, which leaves
    room for fewer at once: at least as many must be answered as fit by the largest reservation seen for one.
    Before too few are a finding, a call that stays open shows its reservation, which no reading may have
    caught. Equal calls need not cost the same: more of the cheaper ones may fit.
    """
    room = watch.first.room
    prices, padding = Prices.reaching(freeside, tenants.main, lambda prices: prices.padding_for_one(room))
    price, held = priced(freeside, tenants.main, padding, prices.pool)
    if held > room and padding:
        # the reservation exceeds the price by so much that only a cheaper call fits
        padding = prices.padding_for(MARGIN * room * price / held)
        price, held = priced(freeside, tenants.main, padding, prices.pool)
    fits, least = room // price, room // held
    evidence.figure("room for", least, "calls")
    if not least:
        evidence.note(
            f"not examined: the race for the last room. {tenants.small} has {room} µUSD left this month, "
            f"one call reserves {held}: raise its budget by {held} µUSD or more"
        )
        require_nothing_fits(freeside, tenants.small, prices, watch)
        return
    with sampling(watch.read) as samples:
        outcomes = ask_at_once(fits + CROWD, lambda: ask(freeside, tenants.small, padding, prices.pool))
    watch.observe_all(samples)
    paid = [cost_in(outcome) for outcome in outcomes if outcome.status_code == 200]
    evidence.figure("price of one call", price, "µUSD")
    evidence.figure("reserved for one call", held, "µUSD")
    evidence.figure("answered at the budget's limit", len(paid), expected=fits, limit=len(outcomes))
    watch.charged(paid)
    if sum(paid) > room:
        with watch.unless_others():
            raise SafetyViolation(f"room for {room} µUSD, {len(paid)} calls of {paid} were answered")
    for outcome in outcomes:
        if outcome.status_code == 200:
            answer_of(outcome, tenants.small)
        else:
            require_error(outcome, 402, "BUDGET_EXCEEDED")
    if len(paid) < least:
        held = max(held, priced(freeside, tenants.main, padding, prices.pool, held_open=True)[1])
        least = room // held
        evidence.note(f"a call that was held open had {held} µUSD reserved: room for {least}")
    with watch.unless_others():
        assert len(paid) >= least, (
            f"room for {least} calls of {price} µUSD that reserve {held}, only {len(paid)} were answered"
        )


def require_nothing_fits(freeside: Freeside, tenant: str, prices: Prices, watch: Conservation) -> None:
    """Many concurrent calls without room for one: all get 402, and nothing is charged or left reserved."""
    padding = prices.padding_beyond(watch.first.room)
    outcomes = at_once([lambda: ask(freeside, tenant, padding, prices.pool)] * CROWD)
    with watch.unless_others():
        require_within(watch.first.room, *outcomes)
        for outcome in outcomes:
            require_error(outcome, 402, "BUDGET_EXCEEDED")
    watch.unchanged(f"{CROWD} calls at once beyond the budget")


def nearly(room: int, short: int, prices: Prices) -> int:
    """The padding of a prompt that fits beside ``short`` of the shortest ones, but not beside one more."""
    if not prices.per_character and room < 3 * prices.least:
        return 0
    return prices.padding_for(room - (short + 0.5) * prices.least)


@dataclass
class Beside:
    """Calls on each route while a stream is open that do not fit beside it.

    Before them a short call ends, or others are refused: neither may release the stream's reservation.
    """

    ways: Sequence[Way]
    tenant: str
    watch: Conservation
    pool: str
    padding: int
    #: The id of an already spent token, for the calls that are refused; None for the short call.
    spent: str | None
    answers: dict[str, httpx.Response] = field(default_factory=dict)
    #: Whether the stream had been charged by the time they were answered.
    late: bool = False

    @property
    def costs(self) -> list[int]:
        """The cost of the answered calls, µUSD."""
        return [cost_in(answer) for answer in self.answers.values() if answer.is_success]

    def ask(self, event: StreamEvent) -> bool:
        """Send the calls at the first event, unless it is an error that ends the stream; never hang up."""
        if not self.answers and event.name != "error":
            before = self.watch.last
            if self.spent:
                at_once([self.watch.read, *self._refusals(self.spent)])  # nor does reading the budget
            else:
                self.answers["a short call"] = self.ways[0].post(self.ways[0].body(prompt_for()), self.tenant)
            answers = at_once([partial(self._send, way) for way in self.ways])
            self.answers |= zip([way.route for way in self.ways], answers, strict=True)
            after = self.watch.observe(self.watch.read(), quiet=False)
            self.late = after.exact and after.committed > before.committed + sum(self.costs)
        return False

    def require_within(self, left: int, held: int) -> None:
        """SafetyViolation for an answered call that cost more than the stream left."""
        for route, answer in self.answers.items():
            if require_status(answer, 200, 402).status_code == 200:
                if cost_in(answer) > left:
                    raise SafetyViolation(
                        f"{route}: a call of {cost_in(answer)} µUSD was answered beside a stream of {held}, "
                        f"with {left + held} left for both"
                    )
                left -= cost_in(answer)

    def _refusals(self, spent: str) -> Iterable[Callable[[], object]]:
        """Calls that are refused for their body, their token or their pool."""
        way, cheap = self.ways[0], POOLS[0]
        own: dict[str, Any] = {"tier": "free", "pool_id": cheap, "allowed_pools": [cheap]}
        for body, claims in (
            (b"null", {}),
            (b"null", {"jti": spent}),
            (way.encoded(way.body(prompt_for(), POOLS[-1])), own),
        ):
            yield partial(self._refused, way, body, claims)

    def _refused(self, way: Way, body: bytes, claims: Mapping[str, Any]) -> None:
        require_status(way.post(body, self.tenant, **claims), *REFUSED)

    def _send(self, way: Way) -> httpx.Response:
        body = way.body(prompt_for(padding=self.padding), self.pool)
        return way.post(body, self.tenant, **way.own(self.pool))


@pytest.mark.requires("freeside.stream", "stream")
def test_held_room_is_taken(
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    watch: Conservation,
    environment: Environment,
    evidence: Evidence,
) -> None:
    """What an open stream has reserved is not available to another call, on any route.

    After its first event, the check reads the budget and sends calls that are refused for other reasons, or
    a short call; then it asks each route for a call that does not fit beside the stream. It makes no
    difference whether the stream ends meanwhile: it has reserved or paid its price. A stream that is charged
    by then may have proved nothing: another one is opened, unless that would take most of the room.
    """
    routes = CALLS if environment.get("finn.reachable") else CALLS[:-1]
    paid, spent = list[int](), str(uuid.uuid4())
    require_status(ways(routes[0]).post(b"null", tenants.small, jti=spent), *REFUSED)
    unseen = ["beside calls that are refused", "beside a call that ends"]
    for _ in range(STREAMS):
        room = watch.last.room
        evidence.figure("room", room, "µUSD")
        jti = spent if unseen[0].endswith("refused") else None
        try:
            fits = partial(nearly, room, 0 if jti else 1)
            prices, padding = Prices.reaching(freeside, tenants.main, fits)
        except PriceOutOfReach:
            paid += spend_down(freeside, tenants, watch, leave=2)
            watch.charged(paid)
            continue
        beside = Beside([ways(route) for route in routes], tenants.small, watch, prices.pool, padding, jti)
        prompt = prompt_for(times=TIMES, padding=PADDING)
        try:
            opened = stream(freeside, tenants.small, prompt, model=prices.pool, hang_up=beside.ask)
        except UnexpectedStatus as refused:
            require_error(refused.response, 402, "BUDGET_EXCEEDED")
            evidence.note(f"not examined: {tenants.small} has too little budget left this month for a stream")
            watch.charged(paid)
            return
        held = opened.usage().cost_micro
        evidence.figure("cost of the stream", held, "µUSD", limit=room)
        with watch.unless_others():
            beside.require_within(room - held, held)
        paid += [held, *beside.costs]
        watch.charged(paid)
        tried = unseen.pop(0)
        if beside.late:
            unseen.append(tried)
        if not unseen:
            return
        if watch.last.room - held < watch.first.room / 3:
            break
    why = "the streams were charged too soon, or took too much of the room"
    evidence.note(f"not examined: what a stream holds {' or '.join(sorted(unseen))}, as {why}")

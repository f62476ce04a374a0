"""Makes the moves of a walk, and compares every answer and every budget with the reference ledger."""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import httpx
from pytest_readiness import SafetyViolation

from smoke.contract.ledger import Account, Call, Ledger, LedgerError, Move, Ruling, Step, described, in_vain
from smoke.contract.model import MAX_KEY_CHARS, POOLS

from .answers import (
    UnexpectedStatus,
    error_code,
    fields_of,
    require_error,
    require_json_error,
    require_status,
)
from .attacks import UNKNOWN_MODEL
from .backends import Finn
from .batch import at_once, sampling
from .freeside import Freeside, Tenants, Usage, answer_of, nonce, prompt_for
from .invariants import BudgetReading, Conservation
from .prices import MAX_PADDING, PriceOutOfReach
from .streams import StreamEvent, stream

_NONCE = re.compile(r"nonce[0-9a-f]{12}")
_RULED = {(402, "BUDGET_EXCEEDED"): Ruling.OVER_BUDGET, (409, "IDEMPOTENCY_CONFLICT"): Ruling.CONFLICT}
_REFUSED: Mapping[str, dict[str, Any]] = {
    "unknown-model": {"model": UNKNOWN_MODEL},
    "pool-above-tier": {"model": "architect", "tier": "pro", "allowed_pools": [*POOLS]},
    "pool-not-allowed": {"model": "reviewer", "allowed_pools": ["cheap"]},
    "long-key": {"key": "k" * (MAX_KEY_CHARS + 1)},
    "expired-token": {"iat": 1, "exp": 2},
}
#: The characters of one padding, by which prompts grow.
STEP_CHARS = 4
#: How many concurrent calls race for room that only one of them gets.
RACERS = 5
#: After this many calls without a larger reservation, a call is assumed to reserve only its price.
LOOKS = 3


@dataclass(frozen=True, slots=True)
class Tariff:
    """What the cheapest pool charges for a prompt with ``steps`` paddings, µUSD."""

    bare: int
    first: int
    step: int
    #: Factor by which the price of an equal prompt may differ from the measured one; 1: not at all.
    spread: int = 1

    def price(self, steps: int) -> int:
        """The price, as measured."""
        return self.bare if not steps else self.first + self.step * (steps - 1)

    def beyond(self, room: int) -> int:
        """The steps of a prompt that costs more than the room with any answer.

        PriceOutOfReach if no prompt costs that much, as with a price per call.
        """
        price = (1.5 * room + 1 if self.step else room + 1) * self.spread
        if max(self.bare, self.first) >= price:
            return 0 if self.bare >= price else 1
        steps = math.ceil((price - self.first) / self.step) + 1 if self.step else MAX_PADDING
        if STEP_CHARS * steps > MAX_PADDING:
            raise PriceOutOfReach(
                f"no prompt costs {price:.0f} µUSD on the pool {POOLS[0]}: "
                "give the small community a smaller budget"
            )
        return steps

    def exactly(self, room: int, calls: int = 4, *, fewest: int = 1) -> list[int]:
        """The steps of a few calls that together cost exactly the room; empty if none do.

        At least ``fewest`` calls, or fewer if there is no room for that many; the first is the largest.
        """
        for count in [*range(fewest, calls + 1), *range(1, fewest)]:
            more, rest = divmod(room - count * self.first, self.step or room + 1)
            if not rest and more >= 0:
                return [1 + more, *[1] * (count - 1)]
        return []


def learn_tariff(freeside: Freeside, tenant: str, *, live: bool) -> tuple[Tariff, list[int]]:
    """The tariff from a few paid calls, and their cost.

    A live model's answers may differ in length, and words of one length in tokens, so that equal prompts
    differ in price.
    """
    steps = (0, 1, 500, 0, 0)
    answers = at_once([partial(freeside.invoke, tenant, prompt_for(padding=STEP_CHARS * n)) for n in steps])
    costs = [answer.usage.cost_micro for answer in answers]
    step = max(0, round((costs[2] - costs[1]) / (steps[2] - steps[1])))
    even = not live and costs[3:] == [costs[0]] * 2
    return Tariff(costs[0], costs[1], step, spread=1 if even else 4), costs


def priced(
    freeside: Freeside, tenant: str, padding: int, pool: str, *, held_open: bool = False
) -> tuple[int, int]:
    """The cost of a call with that padding, and its largest observed reservation; µUSD.

    A fast call may end between two readings. If it is ``held_open``, it is a stream that is read only to its
    first event until the budget was read, so it cannot have ended, if events are sent as they arise.
    """
    before, prompt = freeside.at_rest(tenant), prompt_for(padding=padding)
    with sampling(lambda: freeside.budget(tenant)) as samples:
        if held_open:
            during: list[BudgetReading] = []

            def look(_: StreamEvent) -> bool:
                during[:] = during or [freeside.budget(tenant)]
                return False

            price = stream(freeside, tenant, prompt, model=pool, hang_up=look).usage().cost_micro
            samples += during
        else:
            price = freeside.invoke(tenant, prompt, model=pool).usage.cost_micro
    used = before.committed + before.reserved
    return price, max(price, *(each.committed + each.reserved - used for each in samples))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: its ruling, and for an answer its cost in µUSD, content and usage."""

    ruling: Ruling | None
    cost: int = 0
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """One call of a move: for the ledger, for the platform, and its possible price."""

    move: Move
    call: Call
    send: Callable[[], Outcome]
    word: str
    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True)
class _Asked:
    """A move's request, so that later ones can repeat it."""

    key: str
    word: str
    pool: str
    steps: int = 0


class Walker:
    """Walks from budgets at rest. SafetyViolation or another AssertionError at the first difference."""

    def __init__(
        self,
        freeside: Freeside,
        finn: Finn | None,
        tenants: Tenants,
        watches: Mapping[str, Conservation],
        tariff: Tariff,
    ) -> None:
        self._freeside, self._finn, self._tenants, self._tariff = freeside, finn, tenants, tariff
        self._watches = watches
        first = {tenant: watch.first for tenant, watch in watches.items()}
        self.ledger = Ledger(
            {
                tenant: Account(one.limit, one.committed, one.reserved, one.tolerance_per_call)
                for tenant, one in first.items()
            }
        )
        self._paid: dict[str, list[int]] = {tenant: [] for tenant in watches}
        self._asked: dict[int, _Asked] = {}
        self.calls = self.steps = 0
        #: Why moves were left out.
        self.left_out = set[str]()

    def walk(self, steps: Sequence[Step]) -> None:
        """Make the moves, step by step. A move that repeats one that was not made is skipped."""
        for step in steps:
            with ExitStack() as budgets:
                for watch in self._watches.values():
                    budgets.enter_context(watch.unless_others())
                try:
                    self._step([move for move in step if not move.of or move.of in self._asked])
                except LedgerError as error:
                    raise SafetyViolation(f"{described([step])}: {error}") from None
            self.steps += 1

    def exhausted(self, tenant: str) -> bool:
        """Whether the tenant's budget is spent to its last unit."""
        return self.ledger.accounts[tenant].room == 0

    def _step(self, moves: Sequence[Move]) -> None:
        for last in [move for move in moves if move.action == "last"]:
            if not self._account(last).blur:
                self._spend(last)
        self._settle([sent for move in moves if move.action != "last" for sent in self._sent(move)])

    def _spend(self, last: Move) -> None:
        """Spend exactly what is left: streams race for most of it, direct calls for the rest."""
        room = self._account(last).room
        pieces = self._tariff.exactly(room, fewest=1 if self._finn is None else 2)
        for place, steps in enumerate(pieces):
            if place == 0:
                self._race(last, "stream", steps, alone=2 * self._tariff.price(steps) > room)
            else:
                direct = self._finn is not None and place == len(pieces) - 1
                self._race(last, "direct" if direct else "invoke", steps, alone=direct)

    def _race(self, last: Move, route: str, steps: int, *, alone: bool) -> None:
        """Make equal calls at once while there is room for one ``alone``; then, or otherwise, one invoke."""
        account, price = self._account(last), self._tariff.price(steps)
        before = account.room
        if alone:
            race = replace(last, action="race", route=route)
            racers = [_Asked(_key(), nonce(), last.pool, steps) for _ in range(RACERS)]
            self._settle([self._ask(race, racer) for racer in racers])
            for racer in racers if route != "direct" else ():
                with suppress(LedgerError):  # only what was answered is replayed later
                    self.ledger.answer(self._tenant(last), racer.key)
                    self._asked[last.number] = racer
        # a stream or a direct call may need more room than it costs
        if account.room == before >= price:
            self._settle([self._ask(last, _Asked(_key(), nonce(), last.pool, steps))])

    def _account(self, move: Move) -> Account:
        return self.ledger.accounts[self._tenant(move)]

    def _tenant(self, move: Move) -> str:
        return str(getattr(self._tenants, move.tenant))

    def _sent(self, move: Move) -> list[Sent]:
        """The calls of one move."""
        if move.action == "refused":
            return [self._refused(move)]
        if move.of:
            first = self._asked[move.of]
            asked = replace(first, word=nonce()) if move.action == "conflict" else first
            return [self._ask(move, asked)]
        try:
            steps = self._tariff.beyond(self._account(move).room) if move.action == "beyond" else 0
        except PriceOutOfReach as why:
            self.left_out.add(str(why))
            return []
        asked = _Asked(_key(), nonce(), move.pool, steps)
        return [self._ask(move, asked)] * (2 if move.action == "twins" else 1)

    def _ask(self, move: Move, asked: _Asked) -> Sent:
        """A call with a body that is the same for the same request."""
        if move.action in ("call", "last"):
            self._asked[move.number] = asked
        tenant, prompt = self._tenant(move), prompt_for(asked.word, padding=STEP_CHARS * asked.steps)
        price = self._tariff.price(asked.steps)
        least, most = price // self._tariff.spread, price * self._tariff.spread
        if asked.pool != POOLS[0]:
            # not learned: cheap enough for wealthy tenants, and the small one uses no other pool
            least, most = 1, 1
        ways: dict[str, Callable[..., Outcome]] = {
            "invoke": self._invoke, "stream": self._stream, "direct": self._direct
        }  # fmt: skip
        send = self._hang_up if move.action == "hang-up" else ways[move.route]
        return Sent(
            move, Call(tenant, asked.key, prompt + asked.pool, move.route),
            partial(send, tenant, prompt, asked), asked.word, least, most,
        )  # fmt: skip

    def _invoke(self, tenant: str, prompt: str, asked: _Asked, **claims: Any) -> Outcome:
        given = {"model": asked.pool, "key": asked.key} | claims
        response = self._freeside.try_invoke(tenant, prompt, **given)
        if response.status_code != 200:
            return _refusal(response)
        answer = answer_of(response, tenant)
        assert answer.model == asked.pool, f"asked the pool {asked.pool}, but was served by {answer.model}"
        return _outcome(answer.replayed, answer.content, answer.usage)

    def _stream(self, tenant: str, prompt: str, asked: _Asked, **claims: Any) -> Outcome:
        given = {"model": asked.pool, "key": asked.key} | claims
        try:
            answer = stream(self._freeside, tenant, prompt, **given)
        except UnexpectedStatus as refused:
            return _refusal(refused.response)
        return _outcome(answer.replayed, answer.text(), answer.usage())

    def _hang_up(self, tenant: str, prompt: str, asked: _Asked) -> Outcome:
        stream(
            self._freeside, tenant, prompt, model=asked.pool, key=asked.key,
            hang_up=lambda event: event.name == "content",
        )  # fmt: skip
        return Outcome(None)

    def _direct(self, tenant: str, prompt: str, _: _Asked) -> Outcome:
        assert self._finn is not None, "this walk has no direct calls"
        body = self._finn.body(prompt)
        credential = self._finn.credential(tenant, body)
        response = self._finn.post_invoke(body, tenant=tenant, credential=credential)
        if response.status_code == 402:
            require_json_error(response)
            return Outcome(Ruling.OVER_BUDGET)
        fields = fields_of(require_status(response, 200))
        return Outcome(Ruling.RUN, fields.micro("cost_micro", minimum=1), fields.text("response"))

    def _refused(self, move: Move) -> Sent:
        """A call that is refused regardless of the budget: it has no ruling."""
        asked, changes = _Asked(_key(), nonce(), POOLS[0]), _REFUSED[move.case]
        tenant, send = self._tenant(move), self._stream if move.route == "stream" else self._invoke
        prompt = prompt_for(asked.word)
        return Sent(
            move, Call(tenant, asked.key, prompt), partial(send, tenant, prompt, asked, **changes), asked.word
        )

    def _settle(self, calls: Sequence[Sent]) -> None:
        """Make the calls at once, and compare their answers and all budgets with the ledger."""
        if not calls:
            return
        allowed = [self._rulings(sent) for sent in calls]
        self.calls += len(calls)
        outcomes = at_once([sent.send for sent in calls])
        for move in in_vain((sent.move, got.ruling) for sent, got in zip(calls, outcomes, strict=True)):
            raise SafetyViolation(f"{move}: both calls were refused for a key that no other call has")
        # refused calls reserve nothing, and the call that ran is the answer of concurrent replays
        rank = {Ruling.OVER_BUDGET: 0, Ruling.RUN: 1}
        order = sorted(range(len(calls)), key=lambda place: rank.get(outcomes[place].ruling, 2))  # type: ignore[arg-type]
        for place in order:
            self._enter(calls[place], outcomes[place], allowed[place])
        for sent in calls:
            if sent.move.action == "hang-up":
                self._abandon(sent)
        at_once([partial(self._compare, tenant) for tenant in self._watches])

    def _compare(self, tenant: str) -> None:
        """Compare a tenant's budget with the ledger: nothing else is charged, and nothing reserved."""
        watch = self._watches[tenant]
        watch.released(watch.follows(self._paid[tenant]))

    def _rulings(self, sent: Sent) -> frozenset[Ruling | None]:
        if sent.move.action == "refused":
            return frozenset({None})
        if sent.move.action == "hang-up":
            allowed: frozenset[Ruling | None] = frozenset({None})
        else:
            allowed = frozenset(self.ledger.rulings(sent.call, sent.least, sent.most))
            if sent.move.action == "race":
                allowed |= {Ruling.RUN, Ruling.OVER_BUDGET}  # whichever comes first gets the room
            if sent.move.action == "twins":
                # one runs, whichever comes first; the other may be refused while that one runs
                allowed |= {Ruling.RUN, Ruling.REPLAY, Ruling.CONFLICT}
        if Ruling.RUN in allowed or sent.move.action == "hang-up":
            with suppress(LedgerError):  # the second twin is the same call
                self.ledger.reserve(sent.call, min(sent.most, self.ledger.accounts[sent.call.tenant].room))
        return allowed

    def _enter(self, sent: Sent, outcome: Outcome, allowed: frozenset[Ruling | None]) -> None:
        """Compare one answer with the ledger's rulings, and enter it there."""
        may_lack_room = outcome.ruling is Ruling.OVER_BUDGET and Ruling.RUN in allowed
        if outcome.ruling not in allowed and not (may_lack_room and self._reserves_more()):
            expected = " or ".join(sorted(str(one or "refused") for one in allowed))
            raise SafetyViolation(f"{sent.move}: expected: {expected}; got: {outcome.ruling or 'refused'}")
        if outcome.ruling is Ruling.RUN:
            self.ledger.charge(sent.call, outcome.cost, outcome.answer)
            self._paid[sent.call.tenant].append(outcome.cost)
        elif outcome.ruling is Ruling.REPLAY:
            stored = self.ledger.answer(sent.call.tenant, sent.call.key)
            if outcome.answer != stored:
                raise SafetyViolation(f"{sent.move}: the replay differs from the stored answer")
        elif outcome.ruling is Ruling.OVER_BUDGET:
            with suppress(LedgerError):
                self.ledger.release(sent.call)
        foreign = {*_NONCE.findall(outcome.answer)} - {sent.word}
        if foreign:
            raise SafetyViolation(f"{sent.move}: the answer contains another call's nonce {min(foreign)}")

    def _reserves_more(self) -> bool:
        """Whether more is reserved for a call than its final cost, which leaves room for fewer.

        On a busy machine a reading may come after the call has ended; the next one decides.
        """
        tenant = self._tenants.main
        for _ in range(LOOKS):
            price, held = priced(self._freeside, tenant, 0, POOLS[0], held_open=True)
            self.ledger.accounts[tenant].committed += price
            self._paid[tenant].append(price)
            if held > price:
                return True
        return False

    def _abandon(self, sent: Sent) -> None:
        """Record the charge of an abandoned stream: at most its price, which is in the ledger."""
        watch, paid = self._watches[sent.call.tenant], self._paid[sent.call.tenant]
        charged = watch.released().committed - watch.first.committed - sum(paid)
        if not watch.first.exact:
            charged = min(max(charged, 0), sent.most)  # whole cents show no more
        self.ledger.release(sent.call, charged)
        within = watch.first.tolerance_per_call
        self._freeside.journal.learn(sent.call.tenant, sent.call.key, charged, within)
        paid.append(charged)


def _key() -> str:
    return str(uuid.uuid4())


def _outcome(replayed: bool, content: str, usage: Usage) -> Outcome:
    answer = json.dumps([content, usage.prompt_tokens, usage.completion_tokens, usage.cost_micro])
    return Outcome(Ruling.REPLAY if replayed else Ruling.RUN, usage.cost_micro, answer)


def _refusal(response: httpx.Response) -> Outcome:
    """The ledger's ruling behind a refusal; none if neither key nor budget was the reason."""
    code = error_code(response)
    if (response.status_code, code) in _RULED:
        require_error(response, response.status_code, code)
        return Outcome(_RULED[response.status_code, code])
    require_json_error(require_status(response, 400, 401, 403))
    return Outcome(None)


#: Maximum seconds for shortening a failed walk.
SHORTEN_WITHIN_S = 4.0


def fails_again(walker: Callable[[], Walker]) -> Callable[[Sequence[Step]], bool]:
    """Whether a walk of these steps also fails; False if there is no time left to try."""
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

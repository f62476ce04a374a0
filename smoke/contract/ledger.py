"""The reference ledger (contract 1.2, 1.5), and random walks of callers that it judges, as data.

It decides what a call costs its tenant, and what its key changes. Amounts are integers in µUSD. Prices are
the platform's own: a call is charged what its answer says. A walk is drawn from a seed and can be shortened.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from .model import POOLS


class Ruling(StrEnum):
    """A result of a call that the contract allows."""

    RUN = "the model runs, and the call is charged"
    REPLAY = "the stored answer again, not charged"
    CONFLICT = "refused: the key was used with another body, or is in use"
    OVER_BUDGET = "refused: the budget has no room"


class LedgerError(ValueError):
    """A move that no history of calls allows; the text names it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What decides about a call: payer, key, body (compared as text) and route."""

    tenant: str
    key: str
    body: str
    route: str = ""


@dataclass(slots=True)
class Account:
    """The budget of one tenant, µUSD. If only cents are served, up to ``blur`` more may be committed."""

    limit: int
    committed: int = 0
    reserved: int = 0
    blur: int = 0

    @property
    def room(self) -> int:
        """The amount that may still be reserved."""
        return self.limit - self.committed - self.reserved


class Ledger:
    """Accounts by tenant, and the answered calls by tenant and key. Keys are compared byte by byte."""

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self.accounts = dict(accounts)
        self._held: dict[Call, int] = {}
        self._answers: dict[tuple[str, str], tuple[Call, str]] = {}

    def rulings(self, call: Call, least: int, most: int) -> frozenset[Ruling]:
        """What the answer may be, for a price within these bounds.

        The key is looked up before the budget. Several rulings remain if the exact price decides, or if other
        calls are in progress: their reservations may be released, and one with the same key may be answered
        first. The contract leaves open whether the route is part of what a key was used with.
        """
        if (call.tenant, call.key) in self._answers:
            first, _ = self._answers[call.tenant, call.key]
            same = {Ruling.REPLAY} if first.route == call.route else {Ruling.REPLAY, Ruling.CONFLICT}
            return frozenset(same if first.body == call.body else {Ruling.CONFLICT})
        account = self.accounts[call.tenant]
        rulings = {Ruling.RUN} if account.committed + least <= account.limit else set()
        if most > account.room - account.blur:
            rulings.add(Ruling.OVER_BUDGET)
        for other in self._held:
            if (other.tenant, other.key) == (call.tenant, call.key):
                rulings.add(Ruling.REPLAY if other.body == call.body else Ruling.CONFLICT)
        return frozenset(rulings)

    def reserve(self, call: Call, amount: int) -> bool:
        """Set the amount aside for a call that begins, if it fits: up to the limit itself."""
        if call in self._held or (call.tenant, call.key) in self._answers:
            raise LedgerError(f"{call.tenant} has a call under {call.key} already")
        account = self.accounts[call.tenant]
        if amount > account.room:
            return False
        account.reserved += amount
        self._held[call] = amount
        return True

    def release(self, call: Call, produced: int = 0) -> None:
        """The call failed or its caller hung up: its reservation is released, minus its output's price."""
        held = self._returned(call)
        if not 0 <= produced <= held:
            raise LedgerError(f"{call.key} reserved {held} µUSD, {produced} cannot be due for it")
        self.accounts[call.tenant].committed += produced

    def charge(self, call: Call, cost: int, answer: str) -> None:
        """The call was answered: what it reserved becomes its cost, and its key has its answer."""
        account = self.accounts[call.tenant]
        self._returned(call)
        if not 0 < cost <= account.room:
            raise LedgerError(f"{call.key} cannot cost {cost} µUSD: {account.room} are left")
        account.committed += cost
        self._answers[call.tenant, call.key] = call, answer

    def answer(self, tenant: str, key: str) -> str:
        """The answer that is stored under a key of a tenant."""
        if (tenant, key) not in self._answers:
            raise LedgerError(f"no call of {tenant} under {key} was answered")
        return self._answers[tenant, key][1]

    def _returned(self, call: Call) -> int:
        try:
            held = self._held.pop(call)
        except KeyError:
            raise LedgerError(f"{call.tenant} has nothing reserved under {call.key}") from None
        self.accounts[call.tenant].reserved -= held
        return held


#: A walk visits all pools, these tenants (by their place in the profile) and all routes to a model.
WEALTHY, SMALL = ("main", "other"), "small"
ROUTES = ("invoke", "stream")
#: Refusals that do not depend on the budget.
REFUSED = ("unknown-model", "pool-above-tier", "pool-not-allowed", "long-key", "expired-token")
#: How many moves may be made at once.
AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that a caller does. ``of`` is the number of the earlier move that it repeats, in part.

    ``call`` is a new call; ``replay`` sends the same again, ``conflict`` another body with the same key,
    ``borrow`` the same as another tenant. ``twins`` send one new call twice at once. ``beyond`` costs more
    than is left. ``last`` spends exactly what is left, at the end by a ``race`` of calls. ``hang-up`` leaves
    a stream after its first content.
    """

    number: int
    action: str
    tenant: str
    route: str = "invoke"
    pool: str = POOLS[0]
    of: int = 0
    case: str = ""

    def __str__(self) -> str:
        about = f" of {self.of}" if self.of else ""
        detail = self.case or self.pool
        return f"{self.number}. {self.action}{about} by {self.route} ({self.tenant}, {detail})"


#: Moves that are made concurrently.
Step = tuple[Move, ...]


def in_vain(made: Iterable[tuple[Move, Ruling | None]]) -> list[Move]:
    """The twins with both calls refused for their key, which no other call has."""
    conflicts = Counter(move for move, ruling in made if ruling is Ruling.CONFLICT)
    return [move for move, calls in conflicts.items() if move.action == "twins" and calls == 2]


def described(steps: Sequence[Step]) -> str:
    """A walk in words."""
    return "; ".join(" beside ".join(map(str, step)) for step in steps)


def draw(seed: int, *, more: int = 0, direct: bool = True, to_the_limit: bool = True) -> list[Step]:
    """The walk of a seed: the moves of every walk in random order, and ``more`` additional moves.

    ``direct`` adds calls to Finn itself, ``to_the_limit`` spends the small budget to its last unit.
    """
    rng = random.Random(seed)  # noqa: S311
    wanted = [*_essential(direct), *(_any(rng) for _ in range(more))]
    rng.shuffle(wanted)
    if to_the_limit:
        tail = [Move(0, "replay", SMALL, route) for route in ROUTES]
        tail += [Move(0, "beyond", SMALL), Move(0, "call", SMALL)]
        place = rng.randrange(len(wanted) // 2, len(wanted))
        wanted[place:place] = [Move(0, "last", SMALL), *tail]
    return list(_in_steps(_numbered(wanted, rng), rng))


def _essential(direct: bool) -> Iterator[Move]:
    for place, pool in enumerate(POOLS):
        for route in ROUTES:
            yield Move(0, "call", WEALTHY[(place + ROUTES.index(route)) % 2], route, pool)
    for route in ROUTES:
        for action in ("replay", "conflict", "borrow", "twins"):
            yield Move(0, action, WEALTHY[0], route)
        yield Move(0, "beyond", SMALL, route)
        yield Move(0, "refused", WEALTHY[1], route, case=REFUSED[ROUTES.index(route)])
    yield Move(0, "hang-up", WEALTHY[0], "stream")
    if direct:
        yield Move(0, "call", WEALTHY[1], "direct")
        yield Move(0, "beyond", SMALL, "direct")


def _any(rng: random.Random) -> Move:
    action = rng.choice(("call", "call", "replay", "replay", "conflict", "borrow", "twins", "refused"))
    return Move(
        0, action, rng.choice(WEALTHY), rng.choice(ROUTES), rng.choice(POOLS), case=rng.choice(REFUSED)
    )


def _numbered(moves: Sequence[Move], rng: random.Random) -> Iterator[Move]:
    """The numbered moves, each after the one that it repeats; missing ones are created."""
    number = 0
    made: list[Move] = []
    for move in moves:
        if move.action in ("replay", "conflict", "borrow"):
            owners = WEALTHY if move.action == "borrow" else (move.tenant,)
            known = [one for one in made if one.tenant in owners]
            if not known:
                number += 1
                made.append(Move(number, "call", move.tenant, rng.choice(ROUTES)))
                yield made[-1]
                known = made[-1:]
            first = rng.choice(known)
            tenant = move.tenant
            if move.action == "borrow":
                tenant = WEALTHY[1 - WEALTHY.index(first.tenant)]
            move = replace(move, of=first.number, pool=first.pool, tenant=tenant)
        number += 1
        move = replace(move, number=number, case=move.case if move.action == "refused" else "")
        if move.action in ("call", "last") and move.route in ROUTES:
            made.append(move)
        yield move


def _in_steps(moves: Iterator[Move], rng: random.Random) -> Iterator[Step]:
    """Groups moves into concurrent steps, never one with a move that it repeats, or two that repeat one.

    Moves are made one at a time if the room is small or a cost unknown.
    """
    step: list[Move] = []
    for move in moves:
        alone = move.tenant == SMALL or move.action == "hang-up"
        together = len(step) < rng.randint(1, AT_ONCE) and not any(
            move.of in (one.number, one.of or move.number)
            or (alone and (one.tenant == SMALL or one.action == "hang-up"))
            for one in step
        )
        if step and not together:
            yield tuple(step)
            step = []
        step.append(move)
    if step:
        yield tuple(step)


def related(steps: Sequence[Step]) -> list[Step]:
    """The last step, preceded by those that its moves repeat."""
    wanted = {move.of for move in steps[-1]}
    return [step for step in steps[:-1] if wanted & {move.number for move in step}] + [steps[-1]]


def shortest(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """The smallest selection of the steps, in order, that still fails; the last one is always needed.

    ``fails`` repeats the walk; it returns False if there is no time left to try.
    """
    kept = list(steps)
    if len(related(kept)) < len(kept) and fails(related(kept)):
        kept = related(kept)
    size = len(kept) // 2
    while size:
        place = 0
        while place < len(kept) - 1:
            fewer = kept[:place] + kept[min(place + size, len(kept) - 1) :]
            if fails(fewer):
                kept = fewer
            else:
                place += size
        size //= 2
    return kept

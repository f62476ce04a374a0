"""The suite's own spend: a journal of every charge that a run caused, in all of its processes.

Also remembers things that may count only once, so that the run can try them again at its end.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import httpx
from pytest_readiness import SetupError


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line of JSON to a file that all processes of the run write to."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{json.dumps(entry)}\n".encode())  # one short append is atomic
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that all processes of the run share."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Once:
    """The run's memory of what it spent, one for all of its processes, in a directory that they share.

    Kept are ids and claims, never a token: a check that tries one again signs it anew.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def remember(self, kind: str, **what: Any) -> None:
        """Record something of a kind that was just spent, such as a token of a route; plain JSON data."""
        append(self._directory / f"smoke-once-{kind}.jsonl", what)

    def remembered(self, kind: str) -> list[dict[str, Any]]:
        """Everything of a kind that this run spent, in order; empty if it spent none."""
        path = self._directory / f"smoke-once-{kind}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @contextmanager
    def turn(self, kind: str) -> Iterator[None]:
        """Hold the remembered items of a kind, so that no other process or thread adds to them."""
        with locked(self._directory / f"smoke-once-{kind}.lock"):
            yield


@dataclass(frozen=True, slots=True)
class OpeningBalance:
    """A tenant's budget in its period when the run began, in µUSD; or why it is unknown."""

    committed: int = 0
    period: str = ""
    problem: str = ""
    reserved: int = 0
    limit: int = 0

    @property
    def room(self) -> int:
        """The amount that could be spent."""
        return self.limit - self.committed - self.reserved


@dataclass(slots=True)
class Charge:
    """One call that may be charged. Its cost is in its answer; ``unknown`` if that was not read.

    ``replay`` if the answer, or a conflict, says that the key is an earlier call's. Where that call was
    another run's, it is no charge of this one. ``settled`` once the cost is known: a refusal says nothing
    about an earlier call of its key. ``within`` is how far the cost may be from what was charged, in µUSD.
    """

    micro: int = 0
    ms: float | None = None
    unknown: bool = False
    replay: bool = False
    settled: bool = False
    within: int = 0

    def settle(self, micro: int, ms: float | None = None) -> None:
        """Record the answer: it cost ``micro`` µUSD and took ``ms`` milliseconds."""
        self.micro, self.ms, self.settled = micro, ms, True


@dataclass(frozen=True, slots=True)
class Spend:
    """The journal's content. ``charges`` in µUSD by tenant; ``unknown`` counts calls of unknown cost.

    ``within`` is how far each tenant's charges may be from the true ones, in µUSD, as some costs were read
    from a budget of whole cents. ``highest_price`` is of one call, in µUSD. ``last`` is when the last call of
    each tenant ended, in seconds of the epoch.
    """

    charges: Mapping[str, int] = field(default_factory=dict)
    calls: int = 0
    highest_price: int = 0
    unknown: Mapping[str, int] = field(default_factory=dict)
    within: Mapping[str, int] = field(default_factory=dict)
    latencies_ms: tuple[float, ...] = ()
    last: Mapping[str, float] = field(default_factory=dict)

    def most(self, tenant: str) -> int:
        """The most that the calls of a tenant may have cost, in µUSD."""
        unknown = self.unknown.get(tenant, 0) * self.highest_price
        return self.charges.get(tenant, 0) + unknown + self.within.get(tenant, 0)


@dataclass(slots=True)
class _KnownSpend:
    """The journal as far as it was read: the cost of each call, by tenant and key, and the total.

    ``calls`` are all calls, ``unread`` those that ended without their cost, ``settled`` those of known cost.
    """

    bytes: int = 0
    spent: int = 0
    costs: dict[tuple[str, str], int] = field(default_factory=dict)
    calls: set[tuple[str, str]] = field(default_factory=set)
    unread: set[tuple[str, str]] = field(default_factory=set)
    settled: set[tuple[str, str]] = field(default_factory=set)
    within: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)

    def take(self, entry: Mapping[str, Any]) -> None:
        """Read one more line."""
        call = (entry["tenant"], entry["key"])
        if entry["replay"] and call not in self.calls:
            return
        self.calls.add(call)
        if entry["micro"]:
            self.spent += entry["micro"] - self.costs.get(call, 0)
            self.costs[call] = entry["micro"]
        if entry["unknown"]:
            self.unread.add(call)
        if entry["settled"]:
            self.settled.add(call)
        self.within[call[0]] += entry["within"]
        if entry["ms"] is not None:
            self.latencies_ms.append(entry["ms"])
        self.last[call[0]] = entry["at"]

    def spend(self) -> Spend:
        """The spend in these lines."""
        charges: Counter[str] = Counter()
        for (tenant, _), micro in self.costs.items():
            charges[tenant] += micro
        return Spend(
            charges=charges,
            calls=len(self.costs),
            highest_price=max(self.costs.values(), default=0),
            unknown=Counter(tenant for tenant, _ in self.unread - self.settled),
            within=dict(self.within),
            latencies_ms=tuple(self.latencies_ms),
            last=dict(self.last),
        )


class SpendJournal:
    """A journal that all processes of a run append to, in a directory that they share.

    Calls with one idempotency key of one tenant are one charge, by the contract. ``cap_micro`` is the run's
    maximum spend, in µUSD; None for no cap. ``read_balances`` reads every tenant's budget. ``quiet_s`` is how
    long a budget is watched for others' spending before a charge is a finding. Calls of the ``wealthy``
    tenants must be answered, whatever they cost.
    """

    def __init__(
        self,
        directory: Path,
        cap_micro: int | None = None,
        read_balances: Callable[[], Mapping[str, OpeningBalance]] = dict,
        quiet_s: float = 0,
        wealthy: Set[str] = frozenset(),
    ) -> None:
        self._cap = cap_micro
        self._wealthy = wealthy
        self._read_balances = read_balances
        self.quiet_s = quiet_s
        self._under_way: list[int] = []
        self._balances: dict[str, OpeningBalance] = {}
        self._read = _KnownSpend()
        self._mutex = Lock()
        self._journal = directory / "smoke-spend.jsonl"
        self._opening = directory / "smoke-opening.json"
        self._lock = directory / "smoke-alone.lock"
        self._held = directory / "smoke-held"
        #: Remembers every reading of a budget.
        self.once = Once(directory)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the run's lock, so that no other check of any process moves money at the same time."""
        with locked(self._lock):
            yield

    def open(self) -> dict[str, OpeningBalance]:
        """The balances before the run's first charge: read by the first process, kept for all."""
        if not self._balances:
            self._balances = self._shared_balances()
        return self._balances

    def _shared_balances(self) -> dict[str, OpeningBalance]:
        with self._opening.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            known = file.read()
            if known:
                return {tenant: OpeningBalance(**kept) for tenant, kept in json.loads(known).items()}
            opening = dict(self._read_balances())
            file.write(json.dumps({tenant: asdict(balance) for tenant, balance in opening.items()}))
            return opening

    @contextmanager
    def charging(self, tenant: str, key: str) -> Iterator[Charge]:
        """Around one call that may be charged; written to the journal however the call ends.

        SetupError instead of the call if another one of the usual price would exceed the cap.
        """
        expected = self._admit()
        charge = Charge()
        try:
            yield charge
        except BaseException:
            charge.unknown = charge.micro == 0
            raise
        finally:
            self._write(tenant, key, charge)
            with self._mutex:
                self._under_way.remove(expected)

    def answered(self, tenant: str, response: httpx.Response) -> None:
        """SetupError for a call that did not fit into a budget with less left than the run may spend."""
        opening = self.open().get(tenant) if response.status_code == 402 and tenant in self._wealthy else None
        if opening and not opening.problem and self._cap is not None and opening.room < self._cap:
            raise SetupError(
                f"not examined: {tenant} had {opening.room} µUSD left this month, and a run may spend "
                f"{self._cap}: raise its budget, or lower [budget] max_spend_cents"
            )

    def affordable(self) -> int:
        """How many calls of the usual price fit below the cap; a tenth of the rest is for other checks."""
        with self._mutex:
            read = self._follow()
            usual = max(1, read.spent // max(1, len(read.costs)))
            left = math.inf if self._cap is None else self._cap - read.spent - sum(self._under_way)
        return int(max(0.0, min(left * 0.9 // usual, sys.maxsize)))

    def hold(self) -> None:
        """Remember that a reservation exceeded its time: this run does not wait for that again."""
        self._held.touch()

    @property
    def holds(self) -> bool:
        """Whether any reservation of this run exceeded its time."""
        return self._held.exists()

    def learn(self, tenant: str, key: str, micro: int, within: int = 0) -> None:
        """Enter the observed cost of a call that ended with its cost unknown, exact ``within`` these µUSD."""
        self._write(tenant, key, Charge(micro, settled=True, within=within))

    def learn_all(self, tenant: str, keys: Sequence[str], micro: int, within: int) -> None:
        """Enter what calls cost together; which of them paid is not known. See `learn`.

        A budget of whole cents may show less than nothing.
        """
        self.learn(tenant, keys[0], max(0, micro), within)
        for key in keys[1:]:
            self.learn(tenant, key, 0)

    def spend(self) -> Spend:
        """Everything written so far."""
        with self._mutex:
            return self._follow().spend()

    def _follow(self) -> _KnownSpend:
        """The current content of the journal; the mutex is held. It only grows: nothing is read again."""
        if self._journal.exists():
            with self._journal.open("rb") as file:
                file.seek(self._read.bytes)
                lines, end, _ = file.read().rpartition(b"\n")
            self._read.bytes += len(lines + end)
            for line in lines.splitlines():
                self._read.take(json.loads(line))
        return self._read

    def _admit(self) -> int:
        """The expected cost of the call that begins now, in µUSD: the average of earlier ones."""
        with self._mutex:
            read = self._follow()
            usual = read.spent // max(1, len(read.costs))
            if self._cap is not None and read.spent + sum(self._under_way) + usual > self._cap:
                raise SetupError(
                    f"this run spent {read.spent} µUSD; another call would exceed its cap, {self._cap} µUSD: "
                    "raise [budget] max_spend_cents, or find out why calls cost so much"
                )
            self._under_way.append(usual)
        return usual

    def _write(self, tenant: str, key: str, charge: Charge) -> None:
        append(self._journal, {"tenant": tenant, "key": key, **asdict(charge), "at": time.time()})


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: always a measured value, never an interpolation.

    ValueError for an empty sample or a percent outside (0, 100].
    """
    if not values or not 0 < percent <= 100:
        raise ValueError(f"no percentile {percent} of {len(values)} values")
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1]

"""The suite's own spend: every charge that a run caused, in all of its processes."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from pytest_readiness import SetupError

Opening = Mapping[str, int | str]


def period_of(tenant: str) -> str:
    """The member of an opening that holds the budget period of a tenant."""
    return f"period of {tenant}"


class Charge:
    """One call that may be charged. Its cost is what its answer says; ``unseen`` when that was not read."""

    def __init__(self) -> None:
        self.micro = 0
        self.ms: float | None = None
        self.unseen = False

    def settle(self, micro: int, ms: float | None = None) -> None:
        """The answer came: it cost ``micro`` µUSD and took ``ms`` milliseconds."""
        self.micro, self.ms = micro, ms


@dataclass(frozen=True, slots=True)
class Spend:
    """What the journal knows. ``charges`` in µUSD by tenant; ``unseen`` counts its calls of unknown cost.

    ``highest_price`` is of one call, in µUSD. ``last`` is when the last call of each tenant
    ended, in seconds of the epoch.
    """

    charges: Mapping[str, int] = field(default_factory=dict)
    calls: int = 0
    highest_price: int = 0
    unseen: Mapping[str, int] = field(default_factory=dict)
    latencies_ms: tuple[float, ...] = ()
    last: Mapping[str, float] = field(default_factory=dict)


class SpendJournal:
    """A journal that all processes of a run append to, in a directory that they share.

    Calls under one idempotency key of one tenant are one charge, as the contract has it. ``cap_micro`` is
    what the run may spend, in µUSD; None for no cap.
    """

    def __init__(self, directory: Path, cap_micro: int | None = None) -> None:
        self._cap = cap_micro
        self._under_way: list[int] = []
        self._known: list[dict[str, Any]] = []
        self._known_bytes = 0
        self._mutex = Lock()
        self._journal = directory / "smoke-spend.jsonl"
        self._opening = directory / "smoke-opening.json"
        self._lock = directory / "smoke-alone.lock"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While inside, no other process of this run is: figures can be compared whatever runs."""
        with self._lock.open("w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def open(self, read: Callable[[], Opening]) -> Opening:
        """The budgets before the run's first charge: read once by whoever comes first, kept for all."""
        with self._opening.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            known = file.read()
            if known:
                return dict(json.loads(known))
            opening = dict(read())
            file.write(json.dumps(opening))
            return opening

    @contextmanager
    def charging(self, tenant: str, key: str) -> Iterator[Charge]:
        """Around one call that may be charged; noted when it has ended, however it did.

        SetupError instead of the call when another one of the usual price would pass the cap.
        """
        expected = self._admit()
        charge = Charge()
        try:
            yield charge
        except BaseException:
            charge.unseen = charge.micro == 0
            raise
        finally:
            self._write(tenant, key, charge)
            with self._mutex:
                self._under_way.remove(expected)

    def learn(self, tenant: str, key: str, micro: int) -> None:
        """What a call of unseen cost was observed to cost."""
        charge = Charge()
        charge.settle(micro)
        self._write(tenant, key, charge)

    def spend(self) -> Spend:
        """Everything written so far."""
        entries = self._entries()
        costs = {(entry["tenant"], entry["key"]): entry["micro"] for entry in entries if entry["micro"]}
        seen = {(entry["tenant"], entry["key"]) for entry in entries if not entry["unseen"]}
        charges: dict[str, int] = {}
        for (tenant, _), micro in costs.items():
            charges[tenant] = charges.get(tenant, 0) + micro
        return Spend(
            charges=charges,
            calls=len(costs),
            highest_price=max(costs.values(), default=0),
            unseen=Counter(
                tenant
                for tenant, _ in {(entry["tenant"], entry["key"]) for entry in entries if entry["unseen"]}
                - seen
            ),
            latencies_ms=tuple(entry["ms"] for entry in entries if entry["ms"] is not None),
            last={entry["tenant"]: entry["at"] for entry in entries},
        )

    def _entries(self) -> list[dict[str, Any]]:
        """The journal's lines; what was read before is not read again, as the journal only grows."""
        with self._mutex:
            if self._journal.exists():
                with self._journal.open("rb") as file:
                    file.seek(self._known_bytes)
                    whole, end, _ = file.read().rpartition(b"\n")
                self._known_bytes += len(whole + end)
                self._known += map(json.loads, whole.splitlines())
            return list(self._known)

    def _admit(self) -> int:
        """What the call that begins now is expected to cost: as much as those before it, on average, µUSD."""
        spend = self.spend()
        spent = sum(spend.charges.values())
        usual = spent // max(1, spend.calls)
        with self._mutex:
            if self._cap is not None and spent + sum(self._under_way) + usual > self._cap:
                raise SetupError(
                    f"this run spent {spent} µUSD, another call would pass its cap of {self._cap} µUSD: "
                    "raise [budget] max_spend_cents, or find out why calls cost so much"
                )
            self._under_way.append(usual)
        return usual

    def _write(self, tenant: str, key: str, charge: Charge) -> None:
        entry = {
            "tenant": tenant,
            "key": key,
            "micro": charge.micro,
            "ms": charge.ms,
            "unseen": charge.unseen,
            "at": time.time(),
        }
        descriptor = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{json.dumps(entry)}\n".encode())  # one short append is atomic
        finally:
            os.close(descriptor)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: always a value that was measured, never an interpolation.

    ValueError for an empty sample or a percent outside (0, 100].
    """
    if not values or not 0 < percent <= 100:
        raise ValueError(f"no percentile {percent} of {len(values)} values")
    ordered = sorted(values)
    return ordered[math.ceil(percent / 100 * len(ordered)) - 1]

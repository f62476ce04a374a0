"""The smoke's own spend: every charge that the suite caused, in all of its processes, since the run began."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Opening = Mapping[str, int | str]


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
    """What the journal knows. ``charges`` in µUSD by tenant; ``unseen`` tenants had calls of unknown cost."""

    in_flight: int = 0
    charges: Mapping[str, int] = field(default_factory=dict)
    calls: int = 0
    unseen: frozenset[str] = frozenset()
    latencies_ms: tuple[float, ...] = ()


class Purse:
    """A journal that all processes of a run append to, in a directory that they share.

    Calls under one idempotency key of one tenant are one charge, as the contract has it.
    """

    _numbers = itertools.count()

    def __init__(self, directory: Path) -> None:
        self._journal = directory / "smoke-spend.jsonl"
        self._opening = directory / "smoke-opening.json"

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
        """Around one call that may be charged: noted before it is sent and after it ended, however."""
        charge, number = Charge(), f"{os.getpid()}-{next(self._numbers)}"
        self._write({"begin": number})
        try:
            yield charge
        except BaseException:
            charge.unseen = charge.micro == 0
            raise
        finally:
            self._write(
                {"end": number, "tenant": tenant, "key": key, "micro": charge.micro}
                | {"ms": charge.ms, "unseen": charge.unseen}
            )

    def spend(self) -> Spend:
        """Everything written so far."""
        lines = self._journal.read_text(encoding="utf-8").splitlines() if self._journal.exists() else []
        entries = [json.loads(line) for line in lines]
        ended = [entry for entry in entries if "end" in entry]
        costs = {(entry["tenant"], entry["key"]): entry["micro"] for entry in ended if entry["micro"]}
        charges: dict[str, int] = {}
        for (tenant, _), micro in costs.items():
            charges[tenant] = charges.get(tenant, 0) + micro
        return Spend(
            in_flight=len(entries) - 2 * len(ended),
            charges=charges,
            calls=len(costs),
            unseen=frozenset(entry["tenant"] for entry in ended if entry["unseen"]),
            latencies_ms=tuple(entry["ms"] for entry in ended if entry["ms"] is not None),
        )

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps({"at": time.time()} | dict(entry)) + "\n"
        descriptor = os.open(self._journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())  # one short append is atomic across processes
        finally:
            os.close(descriptor)

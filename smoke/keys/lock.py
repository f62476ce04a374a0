"""The lock of a secret: a staging label on a version that says who runs what. It holds no key.

A label is on one version at a time and moves only from where the mover says it is, so two runs cannot both
have it. A run that was killed leaves it behind; `--resume` takes it over, and a run that lost it stops before
its next write.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from .errors import CommandRefused, Conflict, KeyFault, LockHeld
from .store import NEXT, SecretStore

LOCK = "KEYS-LOCK"
_CLAIM = "KEYS-CLAIM-"
_MEMBER = "keysRun"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRun:
    """What a run set out to do. ``started_at`` is epoch seconds, ``version`` what was current then."""

    operation: str
    service: str
    by: str
    old_kids: tuple[str, ...]
    new_kid: str
    version: str
    started_at: float
    run_id: str = ""

    @classmethod
    def begin(
        cls, operation: str, service: str, by: str, old_kids: tuple[str, ...], new_kid: str, version: str
    ) -> KeyRun:
        """A run that starts now."""
        return cls(
            operation=operation, service=service, by=by, old_kids=old_kids, new_kid=new_kid, version=version,
            started_at=time.time(), run_id=uuid.uuid4().hex[:12],
        )  # fmt: skip

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started_at))
        return f"{self.operation} of {self.service}'s key to {self.new_kid}, started {since} by {self.by}"


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The version that the lock is on, and the run that put it there."""

    version: str
    run: KeyRun


class Lock:
    """The lock of one secret, as this run sees it."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store
        self._version: str | None = None

    def holder(self, labels: Mapping[str, str] | None = None) -> LockHolder | None:
        """Who has the lock now."""
        version = (self._store.labels() if labels is None else labels).get(LOCK)
        if version is None:
            return None
        return LockHolder(version, _parse(self._store.read_version(version).text, self._store.secret_id))

    def acquire(self, run: KeyRun) -> None:
        """Take the lock; LockHeld when a run has it."""
        self._claim(run, expected=None)

    def take_over(self, holder: LockHolder, by: str) -> KeyRun:
        """Take the lock from a run that was killed, and go on with what it set out to do."""
        run = replace(holder.run, by=by, run_id=uuid.uuid4().hex[:12])
        self.seize(holder, run)
        return run

    def seize(self, holder: LockHolder, run: KeyRun) -> None:
        """Take the lock for another run; LockHeld when it is not the holder's any more."""
        self._claim(run, expected=holder.version)

    def check(self) -> None:
        """KeyFault when another run has taken the lock over: then this one must not write any more."""
        if self._version is None or self._store.labels().get(LOCK) != self._version:
            raise KeyFault(
                "another run took over the lock; this one stopped before its next write",
                where=self._store.secret_id,
                action="let the other run come to its end",
            )

    def release(self) -> None:
        """Give the lock back."""
        labels = self._store.labels()
        if NEXT in labels:
            self._store.drop(NEXT, labels[NEXT])
        if self._version is not None:
            self._store.drop(LOCK, self._version)
        self._version = None

    def _claim(self, run: KeyRun, *, expected: str | None) -> None:
        text = json.dumps({"schemaVersion": 1, _MEMBER: asdict(run)})
        claim = f"{_CLAIM}{run.run_id}"
        labels = self._store.labels()
        for stale in [label for label in labels if label.startswith(_CLAIM)]:
            self._store.drop(stale, labels[stale])
        version = self._store.put(text, claim)
        try:
            self._store.move(LOCK, to=version, expected=expected)
        except Conflict:
            raise self.held() from None
        finally:
            self._store.drop(claim, version)
        self._version = version

    def held(self) -> LockHeld:
        """The error for another run that wants the lock."""
        holder = self.holder()
        what = f"locked by a {holder.run}" if holder else "another run took the lock at the same moment"
        resume = holder.run.operation if holder else "the command"
        return LockHeld(
            what,
            where=self._store.secret_id,
            allowed="one run at a time on a secret",
            action=f"wait for its end; if it was killed: {resume} --resume",
        )


def _parse(text: str, where: str) -> KeyRun:
    try:
        members: dict[str, Any] = json.loads(text)[_MEMBER]
        return KeyRun(**{**members, "old_kids": tuple(members["old_kids"])})
    except (ValueError, KeyError, TypeError):
        raise CommandRefused(
            f"the label {LOCK} is on a version that no run of this tool wrote",
            where=where,
            action=f"find out which process set it, then remove the label {LOCK}",
        ) from None

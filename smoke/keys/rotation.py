"""The planned rotation: eight steps with two kids, each of which can be repeated after a kill.

Nothing is stored outside the secret. A run's progress follows from its current version: which kid is active,
and whether the other one is still published. `TokenStream` sends valid tokens during the rotation, none of
which may be refused.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pytest_readiness import ExternalOutage, SetupError

from smoke.platform.tokens import SigningKey

from .context import CurrentKeys, Document, KeyContext, parse, rotation_kid
from .store import NEXT, CommandRefused, KeyFault, KeyRun, Lock, SecretStore
from .verifiers import TokenReply, Verifier

STEPS = (
    "read", "generate", "publish both", "wait until every verifier has both", "switch", "watch",
    "retire the old", "prove it refused",
)  # fmt: skip
#: How soon after a change somebody must look at a stopped rotation; both keys stay valid until then.
RESUME = "both keys are valid meanwhile; repair it, then run rotate --resume"


@dataclass(slots=True)
class RotationReport:
    """The result of a rotation. ``took`` is seconds by step number, without steps of an earlier run."""

    service: str
    old_kid: str
    new_kid: str
    took: dict[int, float] = field(default_factory=dict)


class Rotation:
    """One rotation of one service's key."""

    def __init__(self, context: KeyContext) -> None:
        self._context = context
        self._store = context.store
        self._verifiers = context.together()
        self._lock = Lock(context.store)
        self._step_began = (0, time.monotonic())
        self._done = RotationReport(context.service, "", "")

    def plan(self) -> list[str]:
        """What a run would do now, after trying everything that is possible without writing."""
        if self._lock.holder() is not None:
            raise self._lock.held()
        reading = self._ready()
        timing, active = self._context.timing, reading.document.active.kid
        verifiers = ", ".join(self._verifiers.names) or "the published key set alone"
        barriers = [f"0 from here a rotation is refused: {why}" for why in self._context.unreachable]
        return [
            *barriers,
            f"1 {STEPS[0]}: {active} signs and is published; verifiers: {verifiers}",
            f"2 {STEPS[1]}: a new P-256 key, in a version that no service reads yet",
            f"3 {STEPS[2]}: active {active}, pending the new one",
            f"4 {STEPS[3]}: at most {timing.propagation_s:g} s, and steady for {timing.steady_s:g} s",
            f"5 {STEPS[4]}: active the new one, pending {active}",
            f"6 {STEPS[5]}: {timing.watch_s:g} s, in which both must be accepted everywhere",
            f"7 {STEPS[6]}: {active} leaves the secret",
            f"8 {STEPS[7]}: at most {timing.propagation_s:g} s, and steady for {timing.steady_s:g} s",
        ]

    def run(self, *, resume: bool = False) -> RotationReport:
        """Rotate, or with ``resume`` continue where a killed run stopped.

        CommandRefused and LockHeld before anything is changed; KeyFault if the platform does not follow,
        SafetyViolation if a valid token was refused. In both cases the keys that were valid stay valid.
        """
        self._refuse_unreachable()
        run, reading = self._resumed() if resume else self._begun()
        self._done.old_kid, self._done.new_kid = run.old_kids[0], run.new_kid
        self._only(reading, *run.old_kids, run.new_kid)
        if reading.document.active.kid != run.new_kid:
            reading = self._switched(self._published(run, reading))
        if reading.document.pending is not None:
            reading = self._retired(reading)
        self._prove(run, reading)
        self._lock.release()
        self._finish_step()
        return self._done

    def _begun(self) -> tuple[KeyRun, CurrentKeys]:
        self._step(1)
        if self._lock.holder() is not None:
            raise self._lock.held()
        reading = self._ready()
        run = KeyRun.begin(
            "rotate", self._context.service, self._context.by, (reading.document.active.kid,),
            rotation_kid(self._context.service), reading.version,
        )  # fmt: skip
        self._lock.acquire(run)
        if self._store.read().version != reading.version:
            self._lock.release()
            raise CommandRefused(
                "the secret changed while the lock was taken; nothing was done", where=self._store.secret_id
            )
        return run, reading

    def _resumed(self) -> tuple[KeyRun, CurrentKeys]:
        holder = self._lock.holder()
        if holder is None:
            raise CommandRefused(
                "nothing to resume: no run holds the lock",
                where=self._store.secret_id,
                action="rotate, without --resume",
            )
        if holder.run.operation != "rotate":
            raise CommandRefused(
                f"locked by a {holder.run}, not by a rotation",
                where=self._store.secret_id,
                action=f"{holder.run.operation} --resume",
            )
        run = self._lock.take_over(holder, self._context.by)
        self._context.progress(f"took the lock over from {holder.run.by}: going on with the {run}")
        return run, self._context.read()

    def _refuse_unreachable(self) -> None:
        """CommandRefused if a verifier cannot be reached: it would be unknown whether it has the new key."""
        unreachable = self._context.unreachable
        if unreachable:
            raise CommandRefused(
                f"this runner cannot ask every verifier of the key: {'; '.join(unreachable)}",
                where=self._context.service,
                action="run this where every verifier can be reached (inside the VPC)",
            )

    def _only(self, reading: CurrentKeys, *kids: str) -> None:
        foreign = [key.kid for key in reading.document.keys if key.kid not in kids]
        if foreign:
            raise KeyFault(
                f"the secret holds {', '.join(foreign)}, but this rotation is about {', '.join(kids)}",
                where=self._store.secret_id,
                action="find out who changed the secret; revoke replaces whatever it holds",
            )

    def _ready(self) -> CurrentKeys:
        """Step 1: one active key, published and accepted everywhere, and no other operation in progress."""
        context = self._context
        context.key_set()
        reading = context.read()
        if reading.document.pending is not None:
            raise CommandRefused(  # another run may be responsible for it
                f"the pending key {reading.document.pending.kid} was not left by a run of this tool",
                where=self._store.secret_id,
                action="find out which process rotates it; revoke replaces both keys",
            )
        active = reading.document.active
        context.timing.steadily(
            lambda: context.unpublished(active),
            what="the key set follows the secret",
            where=context.service,
            action=f"make {context.service} follow its secret before rotating",
        )
        self._verifiers.control(active)
        return reading

    def _published(self, run: KeyRun, reading: CurrentKeys) -> CurrentKeys:
        """Steps 2 to 4: a new key, published beside the old one, until every verifier has both."""
        if reading.document.pending is None:
            self._step(2)
            version = self._generated(run, reading.document.active)
            self._step(3)
            self._lock.check()
            self._store.install(version, expected=reading.version)
            reading = self._context.read()
        self._step(4)
        self._verifiers.accepted(reading.document.keys, RESUME)
        return reading

    def _generated(self, run: KeyRun, old: SigningKey) -> str:
        """The version with both keys; the one that a killed run prepared, if there is one."""
        labels = self._store.labels()
        if NEXT in labels:
            staged = parse(self._store.read_version(labels[NEXT]).text, self._store.secret_id)
            kids = staged and [key.kid for key in staged.keys]
            if kids == [old.kid, run.new_kid]:
                return labels[NEXT]
        return self._staged(Document(old, self._context.make_key(run.new_kid)))

    def _switched(self, reading: CurrentKeys) -> CurrentKeys:
        """Step 5: the new key signs, the old one stays published."""
        self._step(5)
        old, new = reading.document.keys
        return self._install(Document(new, old), reading)

    def _retired(self, reading: CurrentKeys) -> CurrentKeys:
        """Steps 6 and 7: both are accepted while tokens of the old one may live, then it is removed."""
        self._step(6)
        self._verifiers.watch(reading.document.keys, self._context.timing.watch_s)
        self._step(7)
        return self._install(Document(reading.document.active), reading)

    def _prove(self, run: KeyRun, reading: CurrentKeys) -> None:
        """Step 8: every verifier refuses the old key, none publishes it, and the new one is accepted."""
        self._step(8)
        old = self._old_key(run)
        self._verifiers.refused(
            (old,), reading.document.active, f"{old.kid} is still accepted; revoke if it leaked"
        )

    def _old_key(self, run: KeyRun) -> SigningKey:
        """The retired key, which only earlier versions contain; the proof needs it."""
        labels = self._store.labels()
        for version in dict.fromkeys((labels.get("AWSPREVIOUS", run.version), run.version)):
            document = parse(self._store.read_version(version).text, self._store.secret_id)
            for key in document.keys if document else ():
                if key.kid in (run.old_kids[0], ""):
                    return SigningKey(key.private, run.old_kids[0])
        raise KeyFault(
            "no earlier version holds the retired key, so its refusal cannot be shown",
            where=self._store.secret_id,
        )

    def _install(self, document: Document, reading: CurrentKeys) -> CurrentKeys:
        self._store.install(self._staged(document), expected=reading.version)
        return self._context.read()

    def _staged(self, document: Document) -> str:
        """Stage a new version; unstage it if another run took the lock during the write."""
        self._lock.check()
        version = self._store.put(document.to_secret(), NEXT)
        try:
            self._lock.check()
        except KeyFault:
            self._store.drop(NEXT, version)
            raise
        return version

    def _step(self, number: int) -> None:
        self._finish_step()
        self._step_began = (number, time.monotonic())
        self._context.progress(f"{number}/{len(STEPS)} {STEPS[number - 1]}")

    def _finish_step(self) -> None:
        number, began = self._step_began
        if number:
            self._done.took[number] = round(time.monotonic() - began, 3)
        self._step_began = (0, time.monotonic())


EVERY_S = 0.05
JOIN_WITHIN_S = 20.0


class Issuer:
    """Signs as a service does: with the active key of the secret, read again every ``reread_s`` seconds.

    A failed read keeps the key. ``named`` gives a bare PEM its kid.
    """

    def __init__(self, store: SecretStore, named: Callable[[Document], Document], reread_s: float) -> None:
        self._store = store
        self._named = named
        self._reread_s = reread_s
        self._text = ""
        self._key = self._read()
        self._read_at = time.monotonic()
        self._lock = threading.Lock()
        self.kids: list[str] = [self._key.kid]

    def __call__(self) -> SigningKey:
        """The key to sign with now."""
        with self._lock:
            if time.monotonic() - self._read_at >= self._reread_s:
                self._read_at = time.monotonic()
                with suppress(KeyFault, SetupError, ExternalOutage):
                    self._key = self._read()
                if self._key.kid not in self.kids:
                    self.kids.append(self._key.kid)
            return self._key

    def _read(self) -> SigningKey:
        text = self._store.read().text
        if text == self._text:
            return self._key
        document = parse(text, self._store.secret_id)
        if document is None:
            raise KeyFault("the secret is a placeholder", where=self._store.secret_id)
        self._text = text
        return self._named(document).active


@dataclass(frozen=True, slots=True)
class Refusal:
    """A valid token that was refused; ``at`` is seconds since the stream began."""

    verifier: str
    kid: str
    at: float

    def __str__(self) -> str:
        return f"{self.verifier} refused {self.kid} at {self.at:.2f} s"


@dataclass(slots=True)
class AnswerCount:
    """The counts of one verifier's answers; ``longest_gap_s`` is between two conclusive answers."""

    answers: Counter[TokenReply] = field(default_factory=Counter)
    longest_gap_s: float = 0.0


class TokenStream:
    """Sends every verifier one fresh token every 50 ms, from entering the block to leaving it."""

    def __init__(
        self, verifiers: tuple[Verifier, ...], sign: Callable[[], SigningKey], every_s: float = EVERY_S
    ) -> None:
        self.counts = {verifier.name: AnswerCount() for verifier in verifiers}
        self.refusals: list[Refusal] = []
        self.lasted_s = 0.0
        self._verifiers = verifiers
        self._sign = sign
        self._every_s = every_s
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._began = 0.0

    def __enter__(self) -> TokenStream:
        self._began = time.monotonic()
        self._threads = [
            threading.Thread(target=self._send, args=(verifier,), daemon=True, name=f"tokens-{verifier.name}")
            for verifier in self._verifiers
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(JOIN_WITHIN_S)
        self.lasted_s = time.monotonic() - self._began

    @property
    def sent(self) -> int:
        """How many tokens were sent."""
        return sum(sum(count.answers.values()) for count in self.counts.values())

    def accepted(self, verifier: str) -> int:
        """How many a verifier accepted."""
        return self.counts[verifier].answers[TokenReply.ACCEPTED]

    def _send(self, verifier: Verifier) -> None:
        count = self.counts[verifier.name]
        due = told_at = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            key = self._sign()
            answer = verifier.ask(key)
            now = time.monotonic()
            count.answers[answer] += 1
            if answer is TokenReply.REFUSED:
                self.refusals.append(Refusal(verifier.name, key.kid, now - self._began))
            if answer is not TokenReply.SILENT:
                count.longest_gap_s = max(count.longest_gap_s, now - told_at)
                told_at = now
            # late by a whole interval: continue from now instead of catching up in a burst
            due = max(due + self._every_s, now)

"""New keys at once: the bootstrap, and the emergency revocation, which times every verifier.

The bootstrap creates a key for each secret that was never filled, and touches nothing else.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pytest_readiness import SafetyViolation, SetupError

from smoke.platform.answers import ContractViolation, UnexpectedStatus
from smoke.platform.tokens import SigningKey

from .context import (
    Document,
    KeyContext,
    KeyPlatform,
    Progress,
    emergency_kid,
    new_key,
    parse,
    rotation_kid,
    same_key,
)
from .store import (
    CURRENT,
    NEXT,
    PREVIOUS,
    CommandRefused,
    Conflict,
    KeyFault,
    KeyRun,
    Lock,
    MissingVersion,
    SecretStore,
    Unproved,
)
from .verifiers import Timing, TokenReply, Verifier


class Action(StrEnum):
    """What bootstrap does with one secret."""

    KEPT = "live key, left alone"
    WRITTEN = "bootstrapped"
    PLANNED = "would be bootstrapped"


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """One secret. ``unchecked`` says why its key was not compared with the published one, "" when it was."""

    service: str
    action: Action
    kids: tuple[str, ...]
    unchecked: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """A secret's content: a document, or None; then ``version`` may be replaced (None: there is none)."""

    service: str
    document: Document | None
    version: str | None


def contents(platform: KeyPlatform, services: Sequence[str]) -> list[Content]:
    """The secrets' contents. KeyFault for one that is missing, unusable, or shares its key with another.

    SetupError or ExternalOutage if one cannot be read; then none is judged.
    """
    found = [_content(platform.store(service), service) for service in services]
    keyed = [(one.service, key) for one in found if one.document for key in one.document.keys]
    for n, (service, key) in enumerate(keyed):
        twin = next((other for other, its in keyed[:n] if other != service and same_key(its, key)), None)
        if twin is not None:
            raise KeyFault(
                f"{twin} and {service} hold the same private key: each can sign for the other",
                where=platform.store(service).secret_id,
                allowed="a key of its own for each service",
                action=f"rotate --service {service}",
            )
    return found


def bootstrap(
    platform: KeyPlatform, services: Sequence[str], progress: Progress, *, dry_run: bool = False
) -> list[BootstrapResult]:
    """Fill secrets that were never filled, then compare every key with the published one.

    All secrets are read before the first is written. KeyFault also if a service does not publish its secret's
    keys.
    """
    results = []
    for content in contents(platform, services):
        if content.document is not None:
            action, document = Action.KEPT, content.document
        elif dry_run:
            results.append(BootstrapResult(content.service, Action.PLANNED, (), "no key yet"))
            continue
        else:
            action, document = _fill(platform.store(content.service), content)
        unchecked = _cross_check(platform, content.service, document)
        kids = tuple(key.kid or "(bare PEM)" for key in document.keys)
        results.append(BootstrapResult(content.service, action, kids, unchecked))
    for result in results:
        progress(_line(result))
    return results


def _content(store: SecretStore, service: str) -> Content:
    try:
        stored = store.read()
    except MissingVersion:
        if CURRENT in store.labels():
            raise
        return Content(service, None, None)
    return Content(service, parse(stored.text, store.secret_id), stored.version)


def _fill(store: SecretStore, content: Content) -> tuple[Action, Document]:
    document = Document(new_key(rotation_kid(content.service)))
    version = store.put(document.to_secret(), NEXT)
    try:
        # AWS itself makes a secret's very first version the current one
        if store.labels().get(CURRENT) != version:
            store.move(CURRENT, to=version, expected=content.version)
    except Conflict:
        other = _content(store, content.service).document
        if other is None:
            raise KeyFault("the placeholder changed while it was replaced", where=store.secret_id) from None
        return Action.KEPT, other
    finally:
        store.drop(NEXT, version)
    return Action.WRITTEN, document


def _cross_check(platform: KeyPlatform, service: str, document: Document) -> str:
    """Compare with the published keys, within the propagation time; say why if that was not possible."""

    def unmet() -> str:
        try:
            keys = platform.key_set(service)
        except (ContractViolation, UnexpectedStatus) as problem:
            return str(problem).splitlines()[0]
        for key in document.keys:
            kid = keys.kid_of(key.private.public_key())
            if not kid or key.kid not in ("", kid):
                return f"{keys.route} does not publish {key.kid or 'the public half of the PEM'}"
        return ""

    try:
        platform.timing.steadily(
            unmet,
            what="the published keys are those of the secret",
            where=service,
            action=f"make {service} follow its secret (a restart reads it)",
        )
    except Unproved as problem:
        return str(problem).splitlines()[0]
    return ""


def _line(result: BootstrapResult) -> str:
    line = f"{result.service}: {result.action}"
    line += f", {' and '.join(result.kids)}" if result.kids else ""
    return f"{line}; not compared with the published keys: {result.unchecked}" if result.unchecked else line


@dataclass(slots=True)
class Timeline:
    """One observer's times; seconds since the revocation began, None if not seen."""

    name: str
    last_accepted: float | None = None
    first_refused: float | None = None
    new_accepted: float | None = None
    accepted_again: bool = False
    polls: int = 0

    @property
    def refused_from(self) -> float | None:
        """When the old keys were finally refused."""
        return None if self.first_refused is None else max(self.first_refused, self.last_accepted or 0.0)

    def note(self, old: TokenReply, new: TokenReply, at: float) -> None:
        """Record one poll of the old keys and of the new one."""
        self.polls += 1
        if old is TokenReply.ACCEPTED:
            self.accepted_again = self.accepted_again or self.first_refused is not None
            self.last_accepted = at
        elif old is TokenReply.REFUSED and self.first_refused is None:
            self.first_refused = at
        if new is TokenReply.ACCEPTED and self.new_accepted is None:
            self.new_accepted = at

    def is_over(self, at: float, timing: Timing) -> bool:
        """Whether this observer is finished: everything was seen, or the limit has passed."""
        since = self.refused_from
        if self.accepted_again:
            return True
        if since is None:
            return at > timing.revocation_limit_s
        return (self.new_accepted is not None and at - since >= timing.steady_s) or (
            at > timing.revocation_limit_s + timing.steady_s
        )


@dataclass(slots=True)
class Observer:
    """One timeline, and its poll: the combined reply to the old keys, and the reply to the new one."""

    timeline: Timeline
    poll: Callable[[], tuple[TokenReply, TokenReply]]


def observers_of(context: KeyContext, old: tuple[SigningKey, ...], new: SigningKey) -> list[Observer]:
    """Every verifier of the key, and the key set that publishes it."""

    def asking(verifier: Verifier) -> Callable[[], tuple[TokenReply, TokenReply]]:
        return lambda: (together([verifier.ask(key) for key in old]), verifier.ask(new))

    def published() -> tuple[TokenReply, TokenReply]:
        has_new = not context.unpublished(new)
        if has_new and not context.unpublished(new, gone=tuple(key.kid for key in old)):
            return TokenReply.REFUSED, TokenReply.ACCEPTED
        has_old = any(not context.unpublished(key) for key in old)
        return (TokenReply.ACCEPTED if has_old else TokenReply.SILENT), (
            TokenReply.ACCEPTED if has_new else TokenReply.SILENT
        )

    verifiers = [Observer(Timeline(verifier.name), asking(verifier)) for verifier in context.verifiers]
    return [*verifiers, Observer(Timeline(f"{context.service}'s key set"), published)]


def watch(observers: list[Observer], began: float, timing: Timing) -> list[Timeline]:
    """Follow all observers concurrently until they are finished. ``began`` is on the monotonic clock."""
    problems: list[BaseException] = []

    def guarded(observer: Observer) -> None:
        try:
            _follow(observer, began, timing)
        except BaseException as problem:  # passed to the thread that waits
            problems.append(problem)

    threads = [
        threading.Thread(target=guarded, args=(one,), daemon=True, name=f"observe-{one.timeline.name}")
        for one in observers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return [observer.timeline for observer in observers]


def _follow(observer: Observer, began: float, timing: Timing) -> None:
    pause, timeline = threading.Event(), observer.timeline
    while True:
        old, new = observer.poll()
        at = time.monotonic() - began
        timeline.note(old, new, at)
        if timeline.is_over(at, timing):
            return
        pause.wait(timing.every_s)


def together(answers: list[TokenReply]) -> TokenReply:
    """Accepted if any old key is, refused if all are."""
    if TokenReply.ACCEPTED in answers:
        return TokenReply.ACCEPTED
    return TokenReply.REFUSED if set(answers) == {TokenReply.REFUSED} else TokenReply.SILENT


#: How often the new version is written if another run changes the secret in between.
TRIES = 3
UNNAMED = "(bare PEM)"
RESUME = "find out why it still accepts the old key (a restart clears its caches), then run revoke --resume"


@dataclass(slots=True)
class RevocationReport:
    """The revoked kids, and each observer's times; ``unseen`` cannot be observed from this runner."""

    service: str
    old_kids: tuple[str, ...]
    new_kid: str
    limit_s: float
    timelines: list[Timeline] = field(default_factory=list)
    unseen: tuple[str, ...] = ()


class Revocation:
    """One revocation of all keys in one service's secret."""

    def __init__(self, context: KeyContext) -> None:
        self._context = context
        self._store = context.store
        self._lock = Lock(context.store)
        self._verifiers = context.together()

    def plan(self) -> list[str]:
        """What a run would do now; reads only."""
        kids = ", ".join(self._held()[1])
        watched = ", ".join((*self._verifiers.names, f"{self._context.service}'s key set"))
        holder = self._lock.holder()
        plan = [f"0 take the lock from the {holder.run}"] if holder else []
        return [
            *plan,
            f"1 replace: a new P-256 key; {kids} leaves the secret at once, with no overlap",
            f"2 time every observer ({watched}), limit {self._context.timing.revocation_limit_s:g} s",
            "3 seal: no staging label is left on a version that holds a revoked key",
        ]

    def run(self, *, resume: bool = False) -> RevocationReport:
        """Revoke, or with ``resume`` continue a revocation that was killed.

        KeyFault if an observer accepts an old key beyond the limit, SafetyViolation if one accepts it again
        after a refusal. The new key stays in force in any case.
        """
        run = self._resumed() if resume else self._begun()
        old = self._replaced(run)
        limit = self._context.timing.revocation_limit_s
        report = RevocationReport(
            self._context.service, run.old_kids, run.new_kid, limit, unseen=self._context.unreachable
        )
        self._context.progress(f"2/3 timing every observer, limit {limit:g} s")
        if any(key.kid == UNNAMED for key in old):
            report.unseen = (*self._verifiers.names, *self._context.unreachable)
        elif old:
            new = self._context.read().document.active
            began = time.monotonic() - (time.time() - run.started_at)
            report.timelines = watch(observers_of(self._context, old, new), began, self._context.timing)
            _judge(report)
        self._context.progress("3/3 sealing")
        self._seal()
        self._lock.release()
        return report

    def _begun(self) -> KeyRun:
        version, kids = self._held()
        holder = self._lock.holder()
        new_kid = emergency_kid(self._context.service)
        run = KeyRun.begin("revoke", self._context.service, self._context.by, kids, new_kid, version)
        if holder is None:
            self._lock.acquire(run)
        elif holder.run.operation == run.operation:
            raise self._lock.held()
        else:
            # an emergency does not wait for a rotation, which stops at its next write
            self._context.progress(f"taking the lock from the {holder.run}")
            self._lock.seize(holder, run)
        return run

    def _held(self) -> tuple[str, tuple[str, ...]]:
        """The current version and its kids; an emergency does not wait for a bare PEM's kid."""
        stored = self._store.read()
        document = parse(stored.text, self._store.secret_id)
        if document is None:
            raise KeyFault(
                "the secret is a placeholder: there is no key to revoke",
                where=self._store.secret_id,
                action=f"bootstrap --service {self._context.service}",
            )
        try:
            document = self._context.named(document)
        except (AssertionError, SetupError) as problem:
            self._context.progress(f"the old key's kid is unknown, so no verifier can be timed: {problem}")
        return stored.version, tuple(key.kid or UNNAMED for key in document.keys)

    def _resumed(self) -> KeyRun:
        holder = self._lock.holder()
        if holder is None or holder.run.operation != "revoke":
            raise CommandRefused(
                "no revocation to resume",
                where=self._store.secret_id,
                action=f"{holder.run.operation} --resume" if holder else "revoke, without --resume",
            )
        self._context.progress(f"took the lock over from {holder.run.by}: going on with the {holder.run}")
        return self._lock.take_over(holder, self._context.by)

    def _replaced(self, run: KeyRun) -> tuple[SigningKey, ...]:
        """Install the new key unless that was done; return the keys that it replaced, none after the seal."""
        self._context.progress(f"1/3 replacing the key by {run.new_kid}")
        for _ in range(TRIES):
            self._lock.check()
            current = self._store.read()
            document = parse(current.text, self._store.secret_id)
            if document is not None and document.active.kid == run.new_kid:
                return self._before(run)
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started_at))
            fresh = Document(new_key(run.new_kid), revocation={"timestamp": when, "reason": "emergency"})
            version = self._store.put(fresh.to_secret(), NEXT)
            try:
                self._store.move(CURRENT, to=version, expected=current.version)
            except Conflict:
                continue
            return self._before(run)
        raise KeyFault(
            "the secret changed on every attempt to replace it",
            where=self._store.secret_id,
            action="stop the process that writes it, then run revoke --resume",
        )

    def _before(self, run: KeyRun) -> tuple[SigningKey, ...]:
        """The keys of the version before the current one, under the kids that they had."""
        labels = self._store.labels()
        before = labels.get(PREVIOUS, run.version)
        document = parse(self._store.read_version(before).text, self._store.secret_id)
        keys = document.keys if document else ()
        named = tuple(SigningKey(key.private, key.kid or run.old_kids[0]) for key in keys)
        return tuple(key for key in named if key.kid != run.new_kid)

    def _seal(self) -> None:
        """Write the new version once more, so that AWSPREVIOUS no longer labels a revoked key."""
        self._lock.check()
        current = self._store.read()
        version = self._store.put(current.text, NEXT)
        self._store.install(version, expected=current.version)


def _judge(report: RevocationReport) -> None:
    again = [timeline.name for timeline in report.timelines if timeline.accepted_again]
    if again:
        raise SafetyViolation(f"{', '.join(again)} accepted a revoked key again after having refused it")
    late = [
        f"{one.name} (last accepted after {one.last_accepted or 0:.1f} s)"
        for one in report.timelines
        if one.refused_from is None or one.refused_from > report.limit_s
    ]
    if late:
        raise KeyFault(
            f"{', '.join(report.old_kids)} not refused within {report.limit_s:g} s by {', '.join(late)}",
            where=report.service,
            allowed=f"refused everywhere within {report.limit_s:g} s; {report.new_kid} is in force",
            action=RESUME,
        )
    without = [one.name for one in report.timelines if one.new_accepted is None]
    if without:
        what = f"{', '.join(without)} never accepted the new key {report.new_kid}"
        raise KeyFault(what, where=report.service, action=RESUME)

"""Who is watched during a revocation, and when each one last believed the old key and first the new one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from smoke.platform.tokens import SigningKey

from .probes import Answer
from .subject import Subject
from .timing import Timing


@dataclass(slots=True)
class Timeline:
    """What one observer did; seconds since the revocation began, None for what was not seen."""

    name: str
    last_accepted: float | None = None
    first_refused: float | None = None
    new_accepted: float | None = None
    accepted_again: bool = False
    looks: int = 0

    @property
    def refused_from(self) -> float | None:
        """When the old keys were refused for good."""
        return None if self.first_refused is None else max(self.first_refused, self.last_accepted or 0.0)

    def note(self, old: Answer, new: Answer, at: float) -> None:
        """Take in one look at the old keys and at the new one."""
        self.looks += 1
        if old is Answer.ACCEPTED:
            self.accepted_again = self.accepted_again or self.first_refused is not None
            self.last_accepted = at
        elif old is Answer.REFUSED and self.first_refused is None:
            self.first_refused = at
        if new is Answer.ACCEPTED and self.new_accepted is None:
            self.new_accepted = at

    def is_over(self, at: float, timing: Timing) -> bool:
        """Whether this observer need not be watched any longer: all was seen, or the limit is past."""
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
    """One timeline, and how to look: what is said of the old keys together, and of the new one."""

    timeline: Timeline
    look: Callable[[], tuple[Answer, Answer]]


def observers_of(subject: Subject, old: tuple[SigningKey, ...], new: SigningKey) -> list[Observer]:
    """Every verifier of the key, and the key set that publishes it."""

    def asking(index: int) -> Callable[[], tuple[Answer, Answer]]:
        verifier = subject.verifiers[index]
        return lambda: (together([verifier.ask(key) for key in old]), verifier.ask(new))

    def published() -> tuple[Answer, Answer]:
        has_new = not subject.unpublished(new)
        if has_new and not subject.unpublished(new, gone=tuple(key.kid for key in old)):
            return Answer.REFUSED, Answer.ACCEPTED
        has_old = any(not subject.unpublished(key) for key in old)
        return (Answer.ACCEPTED if has_old else Answer.SILENT), (
            Answer.ACCEPTED if has_new else Answer.SILENT
        )

    verifiers = [
        Observer(Timeline(verifier.name), asking(index)) for index, verifier in enumerate(subject.verifiers)
    ]
    return [*verifiers, Observer(Timeline(f"{subject.service}'s key set"), published)]


def watch(observers: list[Observer], began: float, timing: Timing) -> list[Timeline]:
    """Follow all observers at once to their end. ``began`` is on the monotonic clock."""
    runs = [_Run(observer, began, timing) for observer in observers]
    for run in runs:
        run.thread.start()
    for run in runs:
        run.thread.join()
    broken = next((run.problem for run in runs if run.problem is not None), None)
    if broken is not None:
        raise broken
    return [observer.timeline for observer in observers]


def together(answers: list[Answer]) -> Answer:
    """Accepted when any old key is, refused when all are."""
    if Answer.ACCEPTED in answers:
        return Answer.ACCEPTED
    return Answer.REFUSED if set(answers) == {Answer.REFUSED} else Answer.SILENT


@dataclass(slots=True)
class _Run:
    observer: Observer
    began: float
    timing: Timing
    problem: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        name = f"observe-{self.observer.timeline.name}"
        self.thread = threading.Thread(target=self._guarded, daemon=True, name=name)

    def _guarded(self) -> None:
        try:
            self._follow()
        except BaseException as problem:  # handed to the thread that waits
            self.problem = problem

    def _follow(self) -> None:
        pause, timeline = threading.Event(), self.observer.timeline
        while True:
            old, new = self.observer.look()
            at = time.monotonic() - self.began
            timeline.note(old, new, at)
            if timeline.is_over(at, self.timing):
                return
            pause.wait(self.timing.every_s)

"""All verifiers of one key, asked together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pytest_readiness import SafetyViolation

from smoke.platform.tokens import SigningKey

from .errors import KeyFault, Unproved
from .probes import Answer
from .subject import Subject
from .timing import steadily

Answers = dict[str, Answer]


class Panel:
    """The verifiers of a subject's key, and the key set that publishes it."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._timing = subject.timing

    @property
    def names(self) -> tuple[str, ...]:
        """The verifiers' names."""
        return tuple(verifier.name for verifier in self._subject.verifiers)

    def ask(self, key: SigningKey) -> Answers:
        """Every verifier's answer to one fresh token each."""
        return {verifier.name: verifier.ask(key) for verifier in self._subject.verifiers}

    def control(self, active: SigningKey) -> None:
        """Each verifier accepts the active key and refuses a stranger's; else what it says proves nothing.

        KeyFault for a valid token that is refused, SafetyViolation for a stranger's that is accepted.
        """
        steadily(
            lambda: self._not(Answer.ACCEPTED, (active,)),
            within=self._timing.propagation_s,
            steady=0,
            every=self._timing.every_s,
            what=f"every verifier accepts the active key {active.kid}",
            where=self._subject.service,
            action="repair the verification of tokens first: nothing was changed",
        )
        stranger = SigningKey.throwaway("smoke-keys-stranger")
        for name, answer in self.ask(stranger).items():
            if answer is Answer.ACCEPTED:
                raise SafetyViolation(
                    f"{name} accepts a token that a stranger signed: a revoked key would be accepted too"
                )

    def accepted(self, keys: tuple[SigningKey, ...], action: str) -> None:
        """Wait until all keys are published and every verifier accepts each.

        SafetyViolation when a token of the first key, the one that signs, is refused meanwhile.
        """

        def unmet() -> str:
            self._never_refused(keys[0])
            return self._subject.unpublished(*keys) or self._not(Answer.ACCEPTED, keys)

        self._wait(unmet, "every verifier has " + " and ".join(key.kid for key in keys), action)

    def watch(self, keys: tuple[SigningKey, ...], seconds: float) -> None:
        """See for so long that every verifier accepts all keys; SafetyViolation at the first refusal.

        Unproved when a verifier gave no answer at all.
        """
        pause, until = threading.Event(), time.monotonic() + seconds
        silent = set(self.names)
        while True:
            for key in keys:
                silent -= {
                    name for name, answer in self._never_refused(key).items() if answer is not Answer.SILENT
                }
            unpublished = self._subject.unpublished(*keys)
            if time.monotonic() >= until:
                break
            pause.wait(self._timing.every_s)
        if unpublished:
            raise KeyFault(
                unpublished,
                where=self._subject.service,
                action="both keys must stay published: rotate --resume",
            )
        if silent:
            raise Unproved(
                f"{', '.join(sorted(silent))} answered nothing in {seconds:g} s that tells",
                where=self._subject.service,
                action="make it answer, then rotate --resume",
            )

    def refused(self, old: tuple[SigningKey, ...], new: SigningKey, action: str) -> None:
        """Wait until all refuses the old keys and none is published. The new one is never refused."""

        def unmet() -> str:
            self._never_refused(new)
            return self._subject.unpublished(new, gone=tuple(key.kid for key in old)) or self._not(
                Answer.REFUSED, old
            )

        self._wait(unmet, f"{', '.join(key.kid for key in old)} is refused everywhere", action)

    def _wait(self, unmet: Callable[[], str], what: str, action: str) -> None:
        timing = self._timing
        steadily(
            unmet,
            within=timing.propagation_s,
            steady=timing.steady_s,
            every=timing.every_s,
            what=what,
            where=self._subject.service,
            action=action,
        )

    def _not(self, wanted: Answer, keys: tuple[SigningKey, ...]) -> str:
        """Which verifiers do not answer as wanted; "" when all do."""
        for key in keys:
            short = [verifier for verifier in self._subject.verifiers if verifier.ask(key) is not wanted]
            if short:
                return f"{key.kid} is not {wanted} by " + ", ".join(
                    f"{one.name} ({one.last})" for one in short
                )
        return ""

    def _never_refused(self, key: SigningKey) -> Answers:
        answers = self.ask(key)
        refused = [name for name, answer in answers.items() if answer is Answer.REFUSED]
        if refused:
            raise SafetyViolation(f"{', '.join(refused)} refused a valid token, signed by {key.kid}")
        return answers

"""A steady stream of valid tokens while keys change: one that is refused breaks a rotation's promise."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_readiness import ExternalOutage, SetupError

from smoke.platform.tokens import SigningKey

from .documents import Document, parse
from .errors import KeyFault
from .store import SecretStore
from .verifiers import TokenReply, Verifier

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
        self.failed_reads = 0

    def __call__(self) -> SigningKey:
        """The key to sign with now."""
        with self._lock:
            if time.monotonic() - self._read_at >= self._reread_s:
                self._read_at = time.monotonic()
                try:
                    self._key = self._read()
                except (KeyFault, SetupError, ExternalOutage):
                    self.failed_reads += 1
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
    """One valid token that was refused; ``at`` is seconds since the stream began."""

    verifier: str
    kid: str
    at: float

    def __str__(self) -> str:
        return f"{self.verifier} refused {self.kid} at {self.at:.2f} s"


@dataclass(slots=True)
class AnswerCount:
    """What one verifier answered; ``longest_gap_s`` is between two conclusive answers."""

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
            # late by a whole interval: go on from now instead of catching up in a burst
            due = max(due + self._every_s, now)

"""The services that verify tokens: which of them accept a token of this key, and how long that may take."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import httpx
from pytest_readiness import Environment, SafetyViolation

from smoke.contract.exchange import pause_in
from smoke.contract.model import Service
from smoke.platform import tokens
from smoke.platform.answers import ContractViolation, error_code
from smoke.platform.backends import INVOKE_PATH, QUERY_PATH
from smoke.platform.http import JSON_HEADERS
from smoke.platform.tokens import Claims, SigningKey

from .store import CommandRefused, KeyFault, Unproved

#: The contract's limit of an emergency revocation. A profile may tighten it, never relax it.
REVOCATION_LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Timing:
    """The waiting times of a key command, in seconds.

    ``propagation_s``: time until a change is in force everywhere. ``steady_s``: how long an observation must
    hold to count, because several tasks behind one name do not change at once. ``watch_s``: how long the old
    key stays published after the switch, at least as long as tokens live. ``every_s``: between two polls.
    """

    propagation_s: float = 120.0
    steady_s: float = 60.0
    watch_s: float = 900.0
    revocation_limit_s: float = REVOCATION_LIMIT_S
    every_s: float = 0.2

    @classmethod
    def of(cls, environment: Environment) -> Timing:
        """The timing of an environment; CommandRefused for a revocation limit above the contract's."""
        keys = environment.keys
        if not 0 < keys.revocation_limit_s <= REVOCATION_LIMIT_S:
            raise CommandRefused(
                f"{keys.revocation_limit_s} s is not a valid limit for an emergency revocation",
                where="keys.revocation_limit_s",
                allowed=f"1 to {REVOCATION_LIMIT_S}",
            )
        return cls(keys.propagation_s, keys.steady_s, keys.watch_s, keys.revocation_limit_s)

    def steadily(
        self, unmet: Callable[[], str], *, what: str, where: str, action: str, steady_s: float = 0
    ) -> float:
        """Poll until ``unmet`` has returned "" for ``steady_s`` without a break; return when that began.

        ``unmet`` says what is missing. KeyFault with its last text if it does not begin to hold within
        ``propagation_s``.
        """
        pause, started = threading.Event(), time.monotonic()
        holding_since: float | None = None
        while True:
            reason = unmet()
            now = time.monotonic() - started
            if reason:
                holding_since = None
                if now > self.propagation_s:
                    late = f"{what}: not within {self.propagation_s:g} s: {reason}"
                    raise KeyFault(late, where=where, action=action)
            else:
                holding_since = now if holding_since is None else holding_since
                if now - holding_since >= steady_s:
                    return holding_since
            pause.wait(self.every_s)


MODELS_PATH = "/api/agents/models"
#: The pause after a 429 without a usable Retry-After, and the longest pause.
DEFAULT_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 30.0


class TokenReply(StrEnum):
    """A verifier's reply to a token. SILENT is inconclusive: a 429, a 5xx, no answer."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    SILENT = "silent"


class Verifier(Protocol):
    """A service that verifies tokens of one key."""

    @property
    def name(self) -> str:
        """The service's name."""

    @property
    def last(self) -> str:
        """The last answer in words."""

    def ask(self, key: SigningKey) -> TokenReply:
        """Send one fresh token signed by ``key``."""


@dataclass(frozen=True, slots=True)
class Question:
    """The request that a probe sends, but for its token."""

    method: str
    path: str
    claims: Callable[[], Claims]
    content: bytes | None = None
    params: tuple[tuple[str, str], ...] = ()
    #: The code of a 400 that only a request with a verified token gets, if there is one.
    accepted_code: str = ""


class HttpVerifier:
    """One verifier over HTTP. Safe to use from one thread at a time; each asker has its own."""

    def __init__(self, name: str, base_url: str, http: httpx.Client, question: Question) -> None:
        self.name = name
        self.last = "not asked yet"
        self._url = base_url.rstrip("/") + question.path
        self._http = http
        self._question = question
        self._quiet_until = 0.0

    def ask(self, key: SigningKey) -> TokenReply:
        """Send one fresh token signed by ``key``; nothing while the service asks to wait (429)."""
        if time.monotonic() < self._quiet_until:
            return TokenReply.SILENT
        question = self._question
        headers = {"Authorization": tokens.bearer(key, question.claims())}
        headers |= JSON_HEADERS if question.content is not None else {}
        try:
            response = self._http.request(
                question.method,
                self._url,
                headers=headers,
                content=question.content,
                params=list(question.params),
            )
        except (httpx.HTTPError, ContractViolation) as problem:
            self.last = type(problem).__name__
            return TokenReply.SILENT
        self.last = f"HTTP {response.status_code}"
        if response.status_code == 429:
            self._quiet_until = time.monotonic() + _patience(response)
        if response.status_code == 400 and question.accepted_code:
            self.last += f" {error_code(response)}"
            return (
                TokenReply.ACCEPTED if error_code(response) == question.accepted_code else TokenReply.SILENT
            )
        if response.status_code == 200:
            return TokenReply.ACCEPTED
        return TokenReply.REFUSED if response.status_code in (401, 403) else TokenReply.SILENT


def freeside_verifier(url: str, tenant: str, http: httpx.Client, at: Service) -> HttpVerifier:
    """Freeside, which verifies its own user tokens."""
    return HttpVerifier(
        "freeside",
        url,
        http,
        Question("GET", at.path(MODELS_PATH), lambda: tokens.user_claims(tenant, at=at)),
    )


def finn_verifier(url: str, tenant: str, agent: str, http: httpx.Client, at: Service) -> HttpVerifier:
    """Finn, which verifies Freeside's S2S tokens.

    The token is bound to another body, so that a verified request ends in REQ_HASH_MISMATCH and runs no
    model. The body itself is valid: a Finn that checks it first must not refuse it for another reason.
    """
    body = json.dumps({"agent": agent, "prompt": "Reply with the word yes."}).encode()
    claims: Callable[[], Claims] = lambda: tokens.finn_claims(tenant, b"another body", at=at)  # noqa: E731
    question = Question("POST", at.path(INVOKE_PATH), claims, body, accepted_code="REQ_HASH_MISMATCH")
    return HttpVerifier("finn", url, http, question)


def dixie_verifier(url: str, tenant: str, agent: str, http: httpx.Client, at: Service) -> HttpVerifier:
    """Dixie, which verifies user tokens of Freeside's key."""
    return _dixie(url, agent, http, at, lambda: tokens.user_claims(tenant, at=at))


def dixie_service_verifier(url: str, agent: str, http: httpx.Client, at: Service) -> HttpVerifier:
    """Dixie, which verifies S2S tokens of Finn's key."""
    return _dixie(url, agent, http, at, lambda: tokens.dixie_service_claims(at=at))


def _dixie(
    url: str, agent: str, http: httpx.Client, at: Service, claims: Callable[[], Claims]
) -> HttpVerifier:
    params = (("routingKey", f"nft:{agent}"),)
    return HttpVerifier("dixie", url, http, Question("GET", at.path(QUERY_PATH), claims, params=params))


def _patience(response: httpx.Response) -> float:
    asked = pause_in(response.headers.get("retry-after", ""))
    return DEFAULT_BACKOFF_S if asked is None else min(asked, LONGEST_BACKOFF_S)


Replies = dict[str, TokenReply]


class Unpublished(Protocol):
    """What the published key set lacks of the wanted keys, or still has of those that should be gone."""

    def __call__(self, *wanted: SigningKey, gone: tuple[str, ...] = ()) -> str:
        """The difference in words; "" if there is none."""


@dataclass(frozen=True, slots=True)
class Verifiers:
    """All verifiers of the key of one service, and the key set that publishes it."""

    service: str
    each: tuple[Verifier, ...]
    unpublished: Unpublished
    timing: Timing

    @property
    def names(self) -> tuple[str, ...]:
        """The verifiers' names."""
        return tuple(verifier.name for verifier in self.each)

    def ask(self, key: SigningKey) -> Replies:
        """Every verifier's answer to one fresh token each."""
        return {verifier.name: verifier.ask(key) for verifier in self.each}

    def control(self, active: SigningKey) -> None:
        """Require that each verifier accepts the active key and refuses an unknown one.

        KeyFault for a valid token that is refused, SafetyViolation for an unknown key that is accepted.
        """
        self.timing.steadily(
            lambda: self._not(TokenReply.ACCEPTED, (active,)),
            what=f"every verifier accepts the active key {active.kid}",
            where=self.service,
            action="repair the verification of tokens first: nothing was changed",
        )
        unknown = SigningKey.throwaway("smoke-keys-unknown")
        for name, answer in self.ask(unknown).items():
            if answer is TokenReply.ACCEPTED:
                raise SafetyViolation(
                    f"{name} accepts a token signed by an unknown key, so it would also accept a revoked key"
                )

    def accepted(self, keys: tuple[SigningKey, ...], action: str) -> None:
        """Wait until all keys are published and every verifier accepts each.

        SafetyViolation if a token of the first key, the one that signs, is refused in the meantime.
        """

        def unmet() -> str:
            self._never_refused(keys[0])
            return self.unpublished(*keys) or self._not(TokenReply.ACCEPTED, keys)

        self._wait(unmet, "every verifier has " + " and ".join(key.kid for key in keys), action)

    def watch(self, keys: tuple[SigningKey, ...], seconds: float) -> None:
        """Watch for some seconds that every verifier accepts all keys; SafetyViolation at the first refusal.

        Unproved if a verifier gave no conclusive answer at all.
        """
        pause, until = threading.Event(), time.monotonic() + seconds
        silent = set(self.names)
        while True:
            for key in keys:
                silent -= {
                    name
                    for name, answer in self._never_refused(key).items()
                    if answer is not TokenReply.SILENT
                }
            unpublished = self.unpublished(*keys)
            if time.monotonic() >= until:
                break
            pause.wait(self.timing.every_s)
        if unpublished:
            raise KeyFault(
                unpublished, where=self.service, action="both keys must stay published: rotate --resume"
            )
        if silent:
            raise Unproved(
                f"{', '.join(sorted(silent))} gave no conclusive answer in {seconds:g} s",
                where=self.service,
                action="make it answer, then run rotate --resume",
            )

    def refused(self, old: tuple[SigningKey, ...], new: SigningKey, action: str) -> None:
        """Wait until all refuse the old keys and none is published. The new one must never be refused."""

        def unmet() -> str:
            self._never_refused(new)
            return self.unpublished(new, gone=tuple(key.kid for key in old)) or self._not(
                TokenReply.REFUSED, old
            )

        self._wait(unmet, f"{', '.join(key.kid for key in old)} is refused everywhere", action)

    def _wait(self, unmet: Callable[[], str], what: str, action: str) -> None:
        self.timing.steadily(
            unmet, what=what, where=self.service, action=action, steady_s=self.timing.steady_s
        )

    def _not(self, wanted: TokenReply, keys: tuple[SigningKey, ...]) -> str:
        """Which verifiers do not answer as wanted; "" if all do."""
        for key in keys:
            short = [verifier for verifier in self.each if verifier.ask(key) is not wanted]
            if short:
                return f"{key.kid} is not {wanted} by " + ", ".join(
                    f"{one.name} ({one.last})" for one in short
                )
        return ""

    def _never_refused(self, key: SigningKey) -> Replies:
        answers = self.ask(key)
        refused = [name for name, answer in answers.items() if answer is TokenReply.REFUSED]
        if refused:
            raise SafetyViolation(f"{', '.join(refused)} refused a valid token, signed by {key.kid}")
        return answers

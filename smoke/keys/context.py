"""One service's key as a command sees it: the secret, the published key set, the services that verify."""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import httpx
from pytest_readiness import Environment, SetupError

from smoke.aws.account import AwsAccount, account_of
from smoke.contract.model import Service
from smoke.network.transport import http_pool
from smoke.platform.answers import ContractViolation, UnexpectedStatus, require_status
from smoke.platform.http import address_of, require_resolvable
from smoke.platform.jwks import KeySet, key_set_of
from smoke.platform.tokens import SigningKey

from .documents import Document, parse
from .errors import CommandRefused, KeyFault, Unproved
from .store import CURRENT, SecretStore
from .timing import Timing
from .verifiers import (
    Verifier,
    Verifiers,
    dixie_service_verifier,
    dixie_verifier,
    finn_verifier,
    freeside_verifier,
)

SERVICES = ("freeside", "finn", "dixie")
ANSWER_WITHIN_S = 10.0
#: At the level DEBUG these log the parameters of every call, and so the keys.
_TALKATIVE = ("boto3", "botocore", "urllib3")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CurrentKeys:
    """The version that services read now, and its keys; the active one always under its kid."""

    version: str
    document: Document


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyContext:
    """What a command acts on. ``unreachable`` names verifiers that this runner cannot ask."""

    service: str
    store: SecretStore
    key_set: Callable[[], KeySet]
    verifiers: tuple[Verifier, ...]
    timing: Timing
    by: str = "unknown"
    unreachable: tuple[str, ...] = ()
    progress: Progress = field(default=lambda _: None, repr=False)

    def together(self) -> Verifiers:
        """All verifiers that this runner can ask, to be asked together."""
        return Verifiers(self.service, self.verifiers, self.unpublished, self.timing)

    def read(self) -> CurrentKeys:
        """The current version; KeyFault when it holds no P-256 key, SetupError when it cannot be read."""
        stored = self.store.read()
        document = parse(stored.text, self.store.secret_id)
        if document is None:
            raise KeyFault(
                "the secret is a placeholder: no key yet",
                where=self.store.secret_id,
                action=f"bootstrap --service {self.service}",
            )
        return CurrentKeys(stored.version, self.named(document))

    def named(self, document: Document) -> Document:
        """The document with the kid that the platform publishes a bare PEM under; never an invented one."""
        if document.active.kid:
            return document
        kid = self.key_set().kid_of(document.active.private.public_key())
        if not kid:
            raise KeyFault(
                "the secret holds a bare PEM, and none of the published keys is its public half",
                where=self.store.secret_id,
                action=f"make {self.service} follow its secret (a restart reads it), then run this again",
            )
        return replace(document, active=SigningKey(document.active.private, kid))

    def unpublished(self, *wanted: SigningKey, gone: tuple[str, ...] = ()) -> str:
        """What the published key set lacks of the wanted keys, or still has of those that should be gone."""
        try:
            keys = self.key_set()
        except (ContractViolation, UnexpectedStatus, Unproved) as problem:
            return str(problem).splitlines()[0]
        for key in wanted:
            found = keys.kid_of(key.private.public_key())
            if found != key.kid:
                return f"{keys.route} does not publish {key.kid}" + (
                    f" but calls it {found}" if found else ""
                )
        stale = [kid for kid in gone if any(key.get("kid") == kid for key in keys.keys)]
        return f"{keys.route} still publishes {', '.join(stale)}" if stale else ""


class KeyPlatform:
    """An environment, as the key commands need it. Close it, or use it as a context manager.

    `account` is the one to ask; the default is a new one, which has met no refusal yet.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        read_only: bool = False,
        progress: Progress = lambda _: None,
        account: AwsAccount | None = None,
    ) -> None:
        self.environment = environment
        self.timing = Timing.of(environment)
        if not environment.aws.prefix:
            raise CommandRefused(
                "the profile has no aws section", where="aws.prefix", allowed="such as arrakis-staging"
            )
        self.account = account or account_of(environment)
        for talkative in _TALKATIVE:
            logging.getLogger(talkative).setLevel(logging.INFO)
        self._read_only = read_only
        self._progress = progress
        self._http = http_pool(
            "pytest-readiness-keys", proxies=environment.live, answers_within=ANSWER_WITHIN_S
        )

    def __enter__(self) -> KeyPlatform:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def refuse_protected(self) -> None:
        """CommandRefused where the profile says that nothing may be changed."""
        if self.environment.protected:
            raise CommandRefused(
                f"environment {self.environment.name!r} is protected: its keys may not be changed from here",
                where="protected",
                allowed="--dry-run, or an environment that is not protected",
            )

    def store(self, service: str) -> SecretStore:
        """The secret of a service's key (contract section 4)."""
        prefix = self.environment.aws.prefix
        return SecretStore(self.account, f"{prefix}/{service}/es256-private-key", read_only=self._read_only)

    def context(self, service: str) -> KeyContext:
        """What a command on this service's key acts on."""
        verifiers, unreachable = self._verifiers(service)
        return KeyContext(
            service=service,
            store=self.store(service),
            key_set=lambda: self.key_set(service),
            verifiers=verifiers,
            unreachable=unreachable,
            timing=self.timing,
            by=f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})",
            progress=self._progress,
        )

    def current(self, service: str) -> str:
        """The version that services read now."""
        return self.store(service).labels().get(CURRENT, "")

    def _verifiers(self, service: str) -> tuple[tuple[Verifier, ...], tuple[str, ...]]:
        """Those that verify tokens of a key, and who of them, or of its owner, cannot be asked from here."""
        environment, http = self.environment, self._http
        tenant, agent = environment.auth.community_id, environment.auth.nft_id
        makers: dict[str, Callable[[str, Service], Verifier]] = {}
        if service == "freeside":
            makers = {
                "freeside": lambda url, at: freeside_verifier(url, tenant, http, at),
                "finn": lambda url, at: finn_verifier(url, tenant, agent, http, at),
                "dixie": lambda url, at: dixie_verifier(url, tenant, agent, http, at),
            }
        if service == "finn":
            makers = {"dixie": lambda url, at: dixie_service_verifier(url, agent, http, at)}
        barriers = {name: self._barrier(name) for name in (service, *makers)}
        found = [
            make(environment.get(f"{name}.url"), address_of(environment, name))
            for name, make in makers.items()
            if not barriers[name]
        ]
        return tuple(found), tuple(f"{name} ({why})" for name, why in barriers.items() if why)

    def _barrier(self, service: str) -> str:
        """Why a service cannot be asked from this runner; "" when it can."""
        if service == "finn" and not self.environment.finn.reachable:
            return "finn.reachable is false"
        url = getattr(self.environment, service).url
        if not url:
            return f"{service}.url is empty"
        try:
            require_resolvable(url)
        except SetupError as problem:
            return str(problem)
        return ""

    def key_set(self, service: str) -> KeySet:
        """The published keys of a service; Unproved when they cannot be read."""
        barrier = self._barrier(service)
        if barrier:
            raise Unproved(
                f"the key set of {service} cannot be read from this runner",
                where=barrier,
                action="run this where every service can be reached (inside the VPC)",
            )
        at = address_of(self.environment, service)
        url = self.environment.get(f"{service}.url") + at.path(at.jwks)
        try:
            response = self._http.get(url)
        except httpx.HTTPError as problem:
            raise Unproved(
                f"{type(problem).__name__}: the key set did not answer",
                where=url,
                action="check that the service runs",
            ) from None
        return key_set_of(require_status(response, 200))

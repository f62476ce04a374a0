"""One service's key as a command sees it: its secret's document, its published set, and its verifiers."""

from __future__ import annotations

import getpass
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pytest_readiness import Environment, SetupError

from smoke.aws.account import AwsAccount, account_of
from smoke.contract.model import Service
from smoke.network.transport import http_pool
from smoke.platform.answers import ContractViolation, UnexpectedStatus
from smoke.platform.http import HttpClient, ServiceClient, address_of, require_resolvable, trust_of
from smoke.platform.tokens import NOT_BOOTSTRAPPED, KeySet, SigningKey, p256_of

from .store import CURRENT, CommandRefused, KeyFault, SecretStore, Unproved
from .verifiers import (
    Timing,
    Verifier,
    Verifiers,
    dixie_service_verifier,
    dixie_verifier,
    finn_verifier,
    freeside_verifier,
)

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Document:
    """The keys of one version: ``active`` signs, both are published. A bare PEM has the kid ``""``."""

    active: SigningKey = field(repr=False)
    pending: SigningKey | None = field(default=None, repr=False)
    revocation: Mapping[str, Any] | None = None

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """Active first, then pending."""
        return (self.active,) if self.pending is None else (self.active, self.pending)

    def key(self, kid: str) -> SigningKey | None:
        """The key of that kid."""
        return next((key for key in self.keys if key.kid == kid), None)

    def to_secret(self) -> str:
        """The secret's value. It contains private keys: pass it on at once; never keep, show or log it."""
        value: dict[str, Any] = {
            "schemaVersion": SCHEMA_VERSION,
            "activeKid": self.active.kid,
            "privateKey": pem_of(self.active),
        }
        if self.pending is not None:
            value |= {"pendingKid": self.pending.kid, "pendingPrivateKey": pem_of(self.pending)}
        if self.revocation is not None:
            value["revocation"] = dict(self.revocation)
        return json.dumps(value)


def parse(value: str, where: str) -> Document | None:
    """The keys in a secret's value, None if it was never bootstrapped.

    KeyFault for anything else that is not a P-256 key; its text never quotes the value.
    """
    text = value.strip()
    if text in NOT_BOOTSTRAPPED:
        return None
    if not text.startswith("{"):
        return Document(SigningKey(_private(text, where), ""))
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise _unusable("holds broken JSON", where) from None
    if members.get("schemaVersion", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise _unusable("has a schemaVersion other than 1", where)
    has_pending = "pendingKid" in members or "pendingPrivateKey" in members
    revocation = members.get("revocation")
    return Document(
        _named(members, "activeKid", "privateKey", where),
        _named(members, "pendingKid", "pendingPrivateKey", where) if has_pending else None,
        revocation if isinstance(revocation, dict) else None,
    )


def new_key(kid: str) -> SigningKey:
    """A fresh P-256 key."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()), kid)


def rotation_kid(service: str) -> str:
    """A kid for a planned rotation or a bootstrap: service, day, eight random hex digits."""
    return f"{service}-{time.strftime('%Y%m%d', time.gmtime())}-{secrets.token_hex(4)}"


def emergency_kid(service: str) -> str:
    """A kid that shows that the key before it was revoked."""
    return f"{service}-emergency-{time.strftime('%Y%m%d%H%M%S', time.gmtime())}"


def same_key(one: SigningKey, other: SigningKey) -> bool:
    """Whether two keys are the same point, independently of their kids."""
    return one.private.public_key().public_numbers() == other.private.public_key().public_numbers()


def _named(members: Mapping[str, Any], kid: str, key: str, where: str) -> SigningKey:
    name, pem = members.get(kid), members.get(key)
    if not (isinstance(name, str) and name.strip()):
        raise _unusable(f"has no {kid}", where)
    if not isinstance(pem, str):
        raise _unusable(f"has no {key}", where)
    return SigningKey(_private(pem, where), name)


def _private(pem: str, where: str) -> ec.EllipticCurvePrivateKey:
    try:
        return p256_of(pem.strip())
    except ValueError as problem:
        raise _unusable(str(problem), where) from None


def _unusable(what: str, where: str) -> KeyFault:
    return KeyFault(
        f"the secret {what}",
        where=where,
        allowed="a P-256 private key as PKCS#8 PEM, the contract's JSON form, or PLACEHOLDER",
        action="find out what wrote it; if it can be discarded, write PLACEHOLDER and run bootstrap",
    )


def pem_of(key: SigningKey) -> str:
    """The private key in PKCS#8: pass it on at once, never keep, show or log it."""
    return key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


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
    """The context of a command. ``unreachable`` names verifiers that this runner cannot reach."""

    service: str
    store: SecretStore
    key_set: Callable[[], KeySet]
    verifiers: tuple[Verifier, ...]
    timing: Timing
    by: str = "unknown"
    unreachable: tuple[str, ...] = ()
    progress: Progress = field(default=lambda _: None, repr=False)
    make_key: Callable[[str], SigningKey] = field(default=new_key, repr=False)

    def together(self) -> Verifiers:
        """All verifiers that this runner can ask, as one."""
        return Verifiers(self.service, self.verifiers, self.unpublished, self.timing)

    def read(self) -> CurrentKeys:
        """The current version; KeyFault if it has no P-256 key, SetupError if it cannot be read."""
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
        """The document with the kid under which the platform publishes a bare PEM; never an invented one."""
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

    `account` is the AWS account to use; the default is a new one, without remembered refusals.
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
            "pytest-readiness-keys",
            proxies=environment.live,
            answers_within=ANSWER_WITHIN_S,
            trust=trust_of(environment),
        )

    def __enter__(self) -> KeyPlatform:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def refuse_protected(self) -> None:
        """CommandRefused if the profile says that nothing may be changed."""
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
        """The context of a command on this service's key."""
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
        """The verifiers of a key's tokens, and which of them (or its owner) this runner cannot reach."""
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
        """Why this runner cannot reach a service; "" if it can."""
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
        """The published keys of a service; Unproved if they cannot be read."""
        barrier = self._barrier(service)
        if barrier:
            raise Unproved(
                f"the key set of {service} cannot be read from this runner",
                where=barrier,
                action="run this where every service can be reached (inside the VPC)",
            )
        at, url = address_of(self.environment, service), self.environment.get(f"{service}.url")
        try:
            return ServiceClient(HttpClient(service, url, self._http, address=at)).jwks()
        except (httpx.HTTPError, SetupError) as problem:  # no answer, or none but 429
            raise Unproved(
                f"{type(problem).__name__}: the key set did not answer",
                where=url + at.path(at.jwks),
                action="check that the service runs",
            ) from None

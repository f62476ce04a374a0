"""Secrets Manager in memory with AWS's rules for labels; services that follow a secret at their own pace."""

import itertools
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from smoke.aws.account import AwsAccount
from smoke.keys.context import Document, KeyContext, new_key, parse
from smoke.keys.store import SecretStore
from smoke.keys.verifiers import Timing, TokenReply
from smoke.platform.tokens import KeySet, SigningKey

SECRET = "prefix/freeside/es256-private-key"
QUICK = Timing(propagation_s=0.4, steady_s=0.02, watch_s=0.05, revocation_limit_s=1.0, every_s=0.004)
WRITES = ("put_secret_value", "update_secret_version_stage")


class Killed(BaseException):
    """The process ended here."""


class FakeSecrets:
    """The four calls that the commands make; ``before`` and ``after`` are called around each."""

    def __init__(self, value: str | None) -> None:
        self.versions: dict[str, dict[str, Any]] = {}
        self.labels: dict[str, str] = {}
        self.calls: list[str] = []
        self.state = "there"
        self.before: Callable[[str], None] = lambda _: None
        self.after: Callable[[str], None] = lambda _: None
        if value is not None:
            self.labels["AWSCURRENT"] = self._add(value)

    @property
    def account(self) -> AwsAccount:
        """An account with this Secrets Manager."""
        return AwsAccount("eu", connect=lambda _: self)

    @property
    def current(self) -> str:
        """The value that services read."""
        return str(self.versions[self.labels["AWSCURRENT"]]["SecretString"])

    @property
    def writes(self) -> list[str]:
        """The writing calls so far."""
        return [call for call in self.calls if call in WRITES]

    def overwrite(self, value: str) -> None:
        """Do what a person with the console does: a new current version, whatever is under way."""
        self._promote(self._add(value))

    def describe_secret(self, **_: Any) -> dict[str, Any]:
        return self._call("describe_secret", self._describe)

    def get_secret_value(self, **asked: Any) -> dict[str, Any]:
        return self._call("get_secret_value", lambda: self._get(asked))

    def put_secret_value(self, **asked: Any) -> dict[str, Any]:
        return self._call("put_secret_value", lambda: self._put(asked))

    def update_secret_version_stage(self, **asked: Any) -> dict[str, Any]:
        return self._call("update_secret_version_stage", lambda: self._stage(asked))

    def _call(self, name: str, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        self.calls.append(name)
        self.before(name)
        answer = act()
        self.after(name)
        return answer

    def _describe(self) -> dict[str, Any]:
        if self.state == "missing":
            raise refusal("ResourceNotFoundException", "can't find the specified secret.")
        if self.state == "deleted":
            return {"ARN": "arn", "DeletedDate": 1, "VersionIdsToStages": {}}
        on: dict[str, list[str]] = {}
        for label, version in self.labels.items():
            on.setdefault(version, []).append(label)
        return {"ARN": f"arn:aws:secretsmanager:eu:1:secret:{SECRET}", "VersionIdsToStages": on}

    def _get(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.state == "deleted":
            raise refusal("InvalidRequestException", "it was marked for deletion")
        if self.state == "missing":
            raise refusal("ResourceNotFoundException", "can't find the specified secret.")
        version = asked.get("VersionId") or self.labels.get(asked.get("VersionStage", "AWSCURRENT"), "")
        if version not in self.versions:
            raise refusal(
                "ResourceNotFoundException", "can't find the specified secret value for staging label"
            )
        return {"VersionId": version, **self.versions[version]}

    def _put(self, asked: dict[str, Any]) -> dict[str, Any]:
        version = self._add(asked["SecretString"])
        for label in asked["VersionStages"]:
            self.labels[label] = version
        if len(self.versions) == 1:
            self.labels["AWSCURRENT"] = version
        return {"VersionId": version}

    def _stage(self, asked: dict[str, Any]) -> dict[str, Any]:
        label, to, off = asked["VersionStage"], asked.get("MoveToVersionId"), asked.get("RemoveFromVersionId")
        holder = self.labels.get(label)
        if (holder != off and holder != to) or (to is None and holder is None):
            raise refusal("InvalidParameterException", f"The staging label {label} is attached to {holder}")
        if to is None:
            del self.labels[label]
        elif label == "AWSCURRENT":
            self._promote(to)
        else:
            self.labels[label] = to
        return {}

    def _promote(self, version: str) -> None:
        holder = self.labels.get("AWSCURRENT")
        if holder is not None and holder != version:
            self.labels["AWSPREVIOUS"] = holder
        self.labels["AWSCURRENT"] = version

    def _add(self, value: str) -> str:
        version = str(uuid.uuid4())
        self.versions[version] = {"SecretString": value}
        return version


def refusal(code: str, message: str = "no", status: int = 400) -> ClientError:
    """What botocore raises for an error answer."""
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "Operation")


class FakeService:
    """Follows the secret: every ``lag``-th request makes it read again. Attributes set its behaviour."""

    def __init__(self, name: str, secrets: FakeSecrets, lag: int = 3) -> None:
        self.name = name
        self.last = "fake"
        self.lag = lag
        self.follows = True
        self.keeps_old = False
        self.silent = False
        self.asked = 0
        self.names_pem = ""
        self._secrets = secrets
        self._known: dict[str, SigningKey] = {}
        self._ever: dict[str, SigningKey] = {}
        self._read()

    def ask(self, key: SigningKey) -> TokenReply:
        self.asked += 1
        if self.follows and self.asked % self.lag == 0:
            self._read()
        if self.silent:
            return TokenReply.SILENT
        found = (self._ever if self.keeps_old else self._known).get(key.kid)
        return TokenReply.ACCEPTED if found is not None and _same(found, key) else TokenReply.REFUSED

    def key_set(self) -> KeySet:
        if self.follows:
            self._read()
        return KeySet("GET /jwks", tuple(key.public_jwk() for key in self._known.values()))

    def _read(self) -> None:
        document = parse(self._secrets.current, SECRET)
        keys = (
            [SigningKey(key.private, key.kid or self.names_pem) for key in document.keys] if document else []
        )
        self._known = {key.kid: key for key in keys}
        self._ever |= self._known


class OddService(FakeService):
    """Answers ``reply`` if ``when`` is true of itself and the key."""

    def __init__(
        self,
        name: str,
        secrets: FakeSecrets,
        reply: TokenReply,
        when: Callable[[FakeService, SigningKey], bool],
    ) -> None:
        super().__init__(name, secrets)
        self._reply, self._when = reply, when

    def ask(self, key: SigningKey) -> TokenReply:
        answer = super().ask(key)
        return self._reply if self._when(self, key) else answer


def _same(one: SigningKey, other: SigningKey) -> bool:
    return one.public_jwk() == other.public_jwk()


class Bench:
    """A secret with the key `first`, its service and two verifiers, and commands on them."""

    def __init__(self, timing: Timing = QUICK) -> None:
        self.secrets = FakeSecrets(Document(new_key("first")).to_secret())
        self.owner = FakeService("freeside", self.secrets, lag=1)
        finn, dixie = FakeService("finn", self.secrets), FakeService("dixie", self.secrets, lag=5)
        self.verifiers: tuple[FakeService, ...] = (self.owner, finn, dixie)
        self.timing = timing
        self.reported: list[str] = []
        self.checked = 0

    @property
    def store(self) -> SecretStore:
        """The secret as the commands see it."""
        return SecretStore(self.secrets.account, SECRET)

    def context(self, by: str = "tester") -> KeyContext:
        """What a command acts on."""
        return KeyContext(
            service="freeside", store=self.store, key_set=self.owner.key_set, verifiers=self.verifiers,
            timing=self.timing, by=by, progress=self.reported.append,
        )  # fmt: skip

    def kill(self, run: Callable[[], Any], number: int, when: str = "after") -> None:
        """Run a command that dies at its n-th write, ``before`` or ``after`` AWS received it."""
        count = itertools.count(1)

        def strike(name: str) -> None:
            if name in WRITES and next(count) == number:
                raise Killed

        setattr(self.secrets, when, strike)
        with pytest.raises(Killed):
            run()
        self.secrets.before = self.secrets.after = lambda _: None

    def assert_the_active_key_is_accepted(self) -> None:
        """By every verifier, at whatever moment this is asked."""
        document = parse(self.secrets.current, SECRET)
        assert document is not None
        for verifier in self.verifiers:
            assert verifier.ask(document.active) is TokenReply.ACCEPTED, (
                verifier.name,
                document.active.kid,
            )
            self.checked += 1

    @property
    def kids(self) -> list[str]:
        """The kids of the current version, the active one first."""
        document = parse(self.secrets.current, SECRET)
        return [key.kid for key in document.keys] if document else []

    @property
    def labels(self) -> set[str]:
        """The labels in use."""
        return set(self.secrets.labels)

    def value(self) -> dict[str, Any]:
        """The current version's JSON."""
        return dict(json.loads(self.secrets.current))


def writes_of(command: Callable[[KeyContext], Any]) -> range:
    """The numbers of the writes of a rotation or a revocation."""
    bench = Bench()
    command(bench.context()).run()
    return range(1, len(bench.secrets.writes) + 1)

"""Bootstrap: fills secrets that were never filled, once, and never treats an unreadable one as empty."""

import json
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, NoCredentialsError
from pytest_readiness import ExternalOutage, SetupError

from smoke.keys.context import Document, new_key, parse
from smoke.keys.revocation import Action, bootstrap
from smoke.keys.store import KeyFault, MissingSecret, MissingVersion, SecretStore, Unproved, WriteForbidden
from smoke.platform.tokens import KeySet
from tests.smoke.keys.fakes import QUICK, FakeSecrets, FakeService, refusal

SERVICES = ("freeside", "finn", "dixie")


class FakePlatform:
    """Three secrets and the services that follow them."""

    def __init__(self, **values: str | None) -> None:
        held = {service: values.get(service, Document(new_key(service)).to_secret()) for service in SERVICES}
        self.secrets = {service: FakeSecrets(value) for service, value in held.items()}
        self.timing = QUICK
        self.read_only = False
        self.deaf: set[str] = set()

    def store(self, service: str) -> SecretStore:
        return SecretStore(self.secrets[service].account, service, read_only=self.read_only)

    def key_set(self, service: str) -> KeySet:
        if service in self.deaf:
            raise Unproved("the key set did not answer")
        return FakeService(service, self.secrets[service]).key_set()

    @property
    def writes(self) -> list[str]:
        return [call for secrets in self.secrets.values() for call in secrets.writes]


def run(platform: FakePlatform, **options: Any) -> dict[str, Action]:
    lines: list[str] = []
    findings = bootstrap(platform, SERVICES, lines.append, **options)  # type: ignore[arg-type]
    assert len(lines) == len(findings) == 3
    return {finding.service: finding.action for finding in findings}


@pytest.mark.parametrize("value", ["PLACEHOLDER", "CHANGE_ME", "{}", "", "  PLACEHOLDER\n", None])
def test_what_was_never_filled_gets_a_key_once(value: str | None) -> None:
    platform = FakePlatform(finn=value)
    assert run(platform)["finn"] is Action.WRITTEN
    document = parse(platform.secrets["finn"].current, "finn")
    assert document is not None
    assert document.active.kid.startswith("finn-")
    assert {"KEYS-NEXT", "KEYS-LOCK"} & set(platform.secrets["finn"].labels) == set()
    versions = {service: dict(secrets.versions) for service, secrets in platform.secrets.items()}
    writes = platform.writes
    assert set(run(platform).values()) == {Action.KEPT}
    assert {service: secrets.versions for service, secrets in platform.secrets.items()} == versions
    assert platform.writes == writes


def test_live_keys_are_never_overwritten() -> None:
    platform = FakePlatform(freeside=Document(new_key("a"), new_key("b")).to_secret())
    assert set(run(platform).values()) == {Action.KEPT}
    assert platform.writes == []


def test_a_dry_run_only_prints_the_plan() -> None:
    platform = FakePlatform(finn="PLACEHOLDER")
    platform.read_only = True
    assert run(platform, dry_run=True)["finn"] is Action.PLANNED
    assert platform.writes == []


def test_a_read_only_store_cannot_be_written() -> None:
    platform = FakePlatform(finn="PLACEHOLDER")
    platform.read_only = True
    with pytest.raises(WriteForbidden):
        run(platform)
    assert platform.writes == []


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("problem", "kind", "message"),
    [
        (refusal("AccessDeniedException"), SetupError, "secretsmanager:GetSecretValue"),
        (refusal("AccessDeniedException", "Access to KMS is not allowed"), SetupError, "kms:Decrypt"),
        (refusal("ExpiredTokenException"), SetupError, "renew them"),
        (refusal("UnrecognizedClientException"), SetupError, "credentials"),
        (refusal("DecryptionFailure"), SetupError, "kms:Decrypt"),
        (refusal("SomethingNew"), SetupError, "SomethingNew"),
        (refusal("ThrottlingException"), ExternalOutage, "inconclusive"),
        (refusal("InternalServiceError", status=500), ExternalOutage, "inconclusive"),
        (refusal("Odd", status=503), ExternalOutage, "inconclusive"),
        (refusal("ResourceNotFoundException", "odd: the secret is there"), MissingVersion, "no such version"),
        (refusal("InvalidRequestException", "odd"), MissingVersion, "no such version"),
        (NoCredentialsError(), SetupError, "AWS_PROFILE"),
        (EndpointConnectionError(endpoint_url="https://x"), SetupError, "aws.region"),
        (ConnectTimeoutError(endpoint_url="https://x"), SetupError, "network"),
    ],
)
def test_a_failed_read_never_counts_as_empty(
    service: str, problem: Exception, kind: type[Exception], message: str
) -> None:
    platform = FakePlatform(freeside="PLACEHOLDER", finn="PLACEHOLDER", dixie="PLACEHOLDER")

    def fail(name: str) -> None:
        if name == "get_secret_value":
            raise problem

    platform.secrets[service].before = fail
    with pytest.raises(kind) as caught:
        run(platform)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    assert caught.value.__cause__ is None
    assert platform.writes == []


@pytest.mark.parametrize(
    ("state", "message"), [("missing", "terraform apply"), ("deleted", "restore-secret")]
)
def test_a_secret_that_does_not_exist_is_not_empty(state: str, message: str) -> None:
    platform = FakePlatform(finn="PLACEHOLDER")
    platform.secrets["dixie"].state = state
    with pytest.raises(MissingSecret, match=message):
        run(platform)
    assert platform.writes == []


@pytest.mark.parametrize(
    "value",
    [
        "junk",
        "null",
        '{"privateKey": 1}',
        '{"activeKid": "a"}',
        "{",
        '{"schemaVersion": 2, "activeKid": "a"}',
    ],
)
def test_junk_is_neither_a_key_nor_a_placeholder(value: str) -> None:
    platform = FakePlatform(finn="PLACEHOLDER", dixie=value)
    with pytest.raises(KeyFault, match=r"write PLACEHOLDER and run bootstrap"):
        run(platform)
    assert platform.writes == []


def test_binary_data_is_not_empty() -> None:
    platform = FakePlatform()
    version = platform.secrets["finn"].labels["AWSCURRENT"]
    platform.secrets["finn"].versions[version] = {"SecretBinary": b"\0"}
    with pytest.raises(KeyFault, match="binary"):
        run(platform)
    assert platform.writes == []


def test_one_key_in_two_secrets_is_a_fault() -> None:
    pem = json.loads(Document(new_key("x")).to_secret())["privateKey"]
    platform = FakePlatform(freeside=pem, dixie=json.dumps({"activeKid": "other", "privateKey": pem}))
    with pytest.raises(KeyFault, match="freeside and dixie hold the same private key"):
        run(platform)


def test_a_key_that_is_not_published_is_a_fault() -> None:
    platform = FakePlatform()
    other = FakeService("finn", FakeSecrets(Document(new_key("stale")).to_secret())).key_set()
    platform.key_set = lambda service: other  # type: ignore[method-assign]
    with pytest.raises(KeyFault, match="does not publish freeside"):
        run(platform)


def test_a_service_that_does_not_run_yet_is_reported_as_unchecked() -> None:
    platform = FakePlatform(finn="PLACEHOLDER")
    platform.deaf = {"finn"}
    findings = bootstrap(platform, SERVICES, lambda _: None)  # type: ignore[arg-type]
    assert [finding.unchecked for finding in findings] == ["", "the key set did not answer", ""]


def test_two_bootstraps_at_once_end_with_one_key() -> None:
    platform = FakePlatform(finn="PLACEHOLDER")
    secrets = platform.secrets["finn"]
    inner: list[str] = []

    def other(name: str) -> None:
        if name == "put_secret_value":
            secrets.after = lambda _: None
            run(platform)
            inner.append(secrets.current)

    secrets.after = other
    assert run(platform)["finn"] is Action.KEPT
    assert secrets.current == inner[0]
    assert "KEYS-NEXT" not in secrets.labels

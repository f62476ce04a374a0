"""One secret in Secrets Manager, as versions under staging labels; and the permissions that it takes."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_readiness import SetupError

from smoke.aws.account import AwsAccount

from .errors import Conflict, KeyFault, MissingSecret, MissingVersion, WriteForbidden, three_lines

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
#: The version that a run has prepared and no service reads yet.
NEXT = "KEYS-NEXT"
CLIENT = "secretsmanager"
GET = "secretsmanager:GetSecretValue"
DESCRIBE = "secretsmanager:DescribeSecret"
PUT = "secretsmanager:PutSecretValue"
STAGE = "secretsmanager:UpdateSecretVersionStage"
READING = (DESCRIBE, GET)
WRITING = (PUT, STAGE)
_MISSING = ("ResourceNotFoundException",)
#: What AWS says of a label that is not where the caller expects it, and of a secret that was deleted.
_UNMET = ("InvalidParameterException", "InvalidRequestException")


@dataclass(frozen=True, slots=True)
class Stored:
    """One version's value. It holds private keys, so it is never shown."""

    version: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Described:
    """What AWS says about the secret itself: its ARN, its KMS key ("" for AWS's own), its labels."""

    arn: str
    kms_key: str
    labels: Mapping[str, str]


class SecretStore:
    """The secret of one service. ``read_only``: an attempt to write raises WriteForbidden."""

    def __init__(self, account: AwsAccount, secret_id: str, *, read_only: bool = False) -> None:
        self.secret_id = secret_id
        self.read_only = read_only
        self._account = account

    def describe(self) -> Described:
        """The secret's ARN, KMS key and labels. MissingSecret, SetupError, ExternalOutage."""
        found = self._find("describe_secret", _MISSING)
        if found is None:
            raise MissingSecret(
                "the secret does not exist",
                where=self.secret_id,
                action="create it (terraform apply), or correct aws.region and aws.prefix of the profile",
            )
        if found.get("DeletedDate"):
            raise MissingSecret(
                "the secret is marked for deletion",
                where=self.secret_id,
                action=f"aws secretsmanager restore-secret --secret-id {self.secret_id}",
            )
        labels = {
            label: version for version, on in (found.get("VersionIdsToStages") or {}).items() for label in on
        }
        return Described(str(found["ARN"]), str(found.get("KmsKeyId") or ""), labels)

    def labels(self) -> Mapping[str, str]:
        """The version that each label is on."""
        return self.describe().labels

    def read(self, label: str = CURRENT) -> Stored:
        """The version under a label, or MissingVersion; a read that fails is never an empty value."""
        return self._get(VersionStage=label)

    def read_version(self, version: str) -> Stored:
        """A version by its id; also one that no label is on any more, as long as AWS keeps it."""
        return self._get(VersionId=version)

    def put(self, text: str, label: str) -> str:
        """Store a value under a label of ours, taken off any other version; return the new version's id."""
        self._write(PUT)
        holder = self.labels().get(label)
        if holder is not None:
            self.drop(label, holder)
        done = self._account.ask(
            CLIENT,
            "put_secret_value",
            SecretId=self.secret_id,
            ClientRequestToken=str(uuid.uuid4()),
            SecretString=text,
            VersionStages=[label],
        )
        return str(done["VersionId"])

    def move(self, label: str, *, to: str, expected: str | None) -> None:
        """Move a label to a version; Conflict unless it is on the ``expected`` one now (None: on none)."""
        self._write(STAGE)
        holder = {"RemoveFromVersionId": expected} if expected is not None else {}
        moved = self._find(
            "update_secret_version_stage", _UNMET, VersionStage=label, MoveToVersionId=to, **holder
        )
        if moved is None:
            raise Conflict(f"{self.secret_id}: {label} is not on {expected}")

    def drop(self, label: str, version: str) -> None:
        """Take a label off a version; one that is no longer there is left alone."""
        self._write(STAGE)
        self._find("update_secret_version_stage", _UNMET, VersionStage=label, RemoveFromVersionId=version)

    def install(self, version: str, *, expected: str | None) -> None:
        """Make a prepared version the one that services read; KeyFault when the secret changed meanwhile."""
        try:
            self.move(CURRENT, to=version, expected=expected)
        except Conflict:
            raise KeyFault(
                "another process changed the secret during this run, which stopped without writing",
                where=self.secret_id,
                action="find out which process; then run the command again with --resume",
            ) from None

    def _get(self, **which: str) -> Stored:
        found = self._find("get_secret_value", (*_MISSING, *_UNMET), **which)
        if found is None:
            self.describe()  # raises for a secret that does not exist
            raise MissingVersion("the secret has no such version", where=self.secret_id)
        if "SecretString" not in found:
            raise KeyFault(
                "the secret holds binary data, which is neither a key nor a placeholder", where=self.secret_id
            )
        return Stored(str(found["VersionId"]), str(found["SecretString"]))

    def _find(self, method: str, absent: tuple[str, ...], **parameters: Any) -> dict[str, Any] | None:
        return self._account.find(CLIENT, method, absent, SecretId=self.secret_id, **parameters)

    def _write(self, permission: str) -> None:
        if self.read_only:
            raise WriteForbidden(f"{self.secret_id}: {permission} in a dry run; nothing was sent")


OPERATING = (*READING, *WRITING)
KMS = ("kms:Decrypt", "kms:GenerateDataKey")
IDENTIFY = "sts:GetCallerIdentity"
SIMULATE = "iam:SimulatePrincipalPolicy"
GET_ROLE = "iam:GetRole"
#: What a dry run itself needs.
DRY_RUN = (*READING, IDENTIFY, SIMULATE, GET_ROLE)


def prove(account: AwsAccount, secret: Described, *, operator: str = "") -> str:
    """Who may rotate the secret, in words: ``operator`` (the ARN of a user or a role), or the caller itself.

    SetupError that names each action which is not allowed, or the one that keeps this from being found out.
    """
    principal = operator or _caller(account)
    if principal.endswith(":root"):
        return f"{principal} is the account itself and may do everything"
    denied = _denied(account, principal, OPERATING, secret.arn)
    if secret.kms_key.startswith("arn:"):
        denied += _denied(account, principal, KMS, secret.kms_key)
    if denied:
        raise SetupError(
            three_lines(
                f"{principal} may not {', '.join(denied)}",
                where=secret.arn,
                action=f"grant it {', '.join(denied)}, or name another operator in keys.operator_arn",
            )
        )
    actions = len(OPERATING) + (len(KMS) if secret.kms_key.startswith("arn:") else 0)
    return f"{principal} is allowed all {actions} actions on {secret.arn}"


def _caller(account: AwsAccount) -> str:
    arn = str(account.ask("sts", "get_caller_identity")["Arn"])
    if ":assumed-role/" not in arn:
        return arn
    # the ARN of an assumed role leaves the role's path out, which the simulator wants to know
    name = arn.split("/")[1]
    return str(account.ask("iam", "get_role", RoleName=name)["Role"]["Arn"])


def _denied(account: AwsAccount, principal: str, actions: Sequence[str], resource: str) -> list[str]:
    found = account.ask(
        "iam",
        "simulate_principal_policy",
        PolicySourceArn=principal,
        ActionNames=list(actions),
        ResourceArns=[resource],
    )
    allowed = {
        str(one["EvalActionName"]) for one in found["EvaluationResults"] if one["EvalDecision"] == "allowed"
    }
    return [action for action in actions if action not in allowed]


EVENT = "before-call.secretsmanager.GetSecretValue"
CODES = {"AccessDeniedException": 400, "ThrottlingException": 400, "InternalServiceError": 500}


@contextmanager
def failing_reads(account: AwsAccount, code: str) -> Iterator[None]:
    """A block in which every read of a secret's value fails with a code of CODES."""
    client, status = account.client(CLIENT), CODES[code]
    answer = {
        "Error": {"Code": code, "Message": "refused on purpose"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }

    def refuse(**_: Any) -> tuple[Any, dict[str, Any]]:
        return _Http(status), answer

    client.meta.events.register(EVENT, refuse)
    try:
        yield
    finally:
        client.meta.events.unregister(EVENT, refuse)


class _Http:
    """The part of an HTTP answer that botocore reads."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code

"""One secret in Secrets Manager: versions under staging labels, the permissions needed, and its lock.

Also the errors that stop a command, in three lines: what and where, what is allowed, what to do next.

The lock is a staging label on a version that says who runs what; that version holds no key. A label is on one
version at a time, and a move must name the version that it is on, so two runs cannot both have it. A killed
run leaves it behind; `--resume` takes it over, and a run that lost it stops before its next write.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pytest_readiness import SetupError, three_lines

from smoke.aws.account import AwsAccount

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
#: Label of a version that a run has prepared and no service reads yet.
NEXT = "KEYS-NEXT"
CLIENT = "secretsmanager"
GET = "secretsmanager:GetSecretValue"
DESCRIBE = "secretsmanager:DescribeSecret"
PUT = "secretsmanager:PutSecretValue"
STAGE = "secretsmanager:UpdateSecretVersionStage"
READING = (DESCRIBE, GET)
WRITING = (PUT, STAGE)
_MISSING = ("ResourceNotFoundException",)
#: AWS's error codes for a label that is not where the caller expects it, and for a deleted secret.
_UNMET = ("InvalidParameterException", "InvalidRequestException")


class _ThreeLines(Exception):
    def __init__(self, what: str, *, where: str = "", allowed: str = "", action: str = "") -> None:
        super().__init__(three_lines(what, where=where, allowed=allowed, action=action))


class KeyFault(_ThreeLines, AssertionError):
    """The platform is at fault: a secret without a usable key, a service that does not follow its secret."""


class MissingSecret(KeyFault):
    """The secret does not exist, as opposed to a secret without a key."""


class MissingVersion(KeyFault):
    """The secret has no version under the requested label."""


class CommandRefused(_ThreeLines, SetupError):
    """The command was not carried out, nothing was changed: bad input, a protected environment, a lock."""


class LockHeld(CommandRefused):
    """Another run has this secret's lock."""


class Unproved(_ThreeLines, SetupError):
    """This runner cannot observe something, so nothing can be concluded."""


class Conflict(Exception):
    """A staging label was not where it was expected: another process moved it first."""


class WriteForbidden(AssertionError):
    """A dry run tried to write: the program is wrong, and nothing was sent."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One version's value. It contains private keys, so it is never shown."""

    version: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Described:
    """The secret's metadata: its ARN, its KMS key ("" for AWS's own), its labels."""

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
        """A version by its id, even one without a label, as long as AWS keeps it."""
        return self._get(VersionId=version)

    def put(self, text: str, label: str) -> str:
        """Store a value under a label of ours, moved from any other version; return the new version's id."""
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
        """Remove a label from a version; do nothing if it is no longer there."""
        self._write(STAGE)
        self._find("update_secret_version_stage", _UNMET, VersionStage=label, RemoveFromVersionId=version)

    def install(self, version: str, *, expected: str | None) -> None:
        """Make a prepared version the one that services read; KeyFault if the secret has changed."""
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
#: Permissions that a dry run itself needs.
DRY_RUN = (*READING, IDENTIFY, SIMULATE, GET_ROLE)


def prove(account: AwsAccount, secret: Described, *, operator: str = "") -> str:
    """Who may rotate the secret, in words: ``operator`` (the ARN of a user or a role), or the caller itself.

    SetupError that names each action that is not allowed, or the one needed to find out.
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
    # an assumed role's ARN lacks the role's path, which the simulator needs
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
    """A block in which every read of a secret's value fails with one of CODES."""
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


LOCK = "KEYS-LOCK"
_CLAIM = "KEYS-CLAIM-"
_MEMBER = "keysRun"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRun:
    """The operation of a run. ``started_at`` is epoch seconds, ``version`` the one that was current then."""

    operation: str
    service: str
    by: str
    old_kids: tuple[str, ...]
    new_kid: str
    version: str
    started_at: float
    run_id: str = ""

    @classmethod
    def begin(
        cls, operation: str, service: str, by: str, old_kids: tuple[str, ...], new_kid: str, version: str
    ) -> KeyRun:
        """A run that starts now."""
        return cls(
            operation=operation, service=service, by=by, old_kids=old_kids, new_kid=new_kid, version=version,
            started_at=time.time(), run_id=uuid.uuid4().hex[:12],
        )  # fmt: skip

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started_at))
        return f"{self.operation} of {self.service}'s key to {self.new_kid}, started {since} by {self.by}"


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The version that the lock is on, and the run that put it there."""

    version: str
    run: KeyRun


class Lock:
    """The lock of one secret, as this run sees it."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store
        self._version: str | None = None

    def holder(self, labels: Mapping[str, str] | None = None) -> LockHolder | None:
        """Who has the lock now."""
        version = (self._store.labels() if labels is None else labels).get(LOCK)
        if version is None:
            return None
        return LockHolder(version, _parse(self._store.read_version(version).text, self._store.secret_id))

    def acquire(self, run: KeyRun) -> None:
        """Take the lock; LockHeld if a run has it."""
        self._claim(run, expected=None)

    def take_over(self, holder: LockHolder, by: str) -> KeyRun:
        """Take the lock from a run that was killed, and continue what it began."""
        run = replace(holder.run, by=by, run_id=uuid.uuid4().hex[:12])
        self.seize(holder, run)
        return run

    def seize(self, holder: LockHolder, run: KeyRun) -> None:
        """Take the lock for another run; LockHeld if the holder no longer has it."""
        self._claim(run, expected=holder.version)

    def check(self) -> None:
        """KeyFault if another run has taken over the lock, because then this one must not write any more."""
        if self._version is None or self._store.labels().get(LOCK) != self._version:
            raise KeyFault(
                "another run took over the lock; this one stopped before its next write",
                where=self._store.secret_id,
                action="let the other run finish",
            )

    def release(self) -> None:
        """Give the lock back."""
        labels = self._store.labels()
        if NEXT in labels:
            self._store.drop(NEXT, labels[NEXT])
        if self._version is not None:
            self._store.drop(LOCK, self._version)
        self._version = None

    def _claim(self, run: KeyRun, *, expected: str | None) -> None:
        text = json.dumps({"schemaVersion": 1, _MEMBER: asdict(run)})
        claim = f"{_CLAIM}{run.run_id}"
        labels = self._store.labels()
        for stale in [label for label in labels if label.startswith(_CLAIM)]:
            self._store.drop(stale, labels[stale])
        version = self._store.put(text, claim)
        try:
            self._store.move(LOCK, to=version, expected=expected)
        except Conflict:
            raise self.held() from None
        finally:
            self._store.drop(claim, version)
        self._version = version

    def held(self) -> LockHeld:
        """The error for another run that wants the lock."""
        holder = self.holder()
        what = f"locked by a {holder.run}" if holder else "another run took the lock at the same moment"
        resume = holder.run.operation if holder else "the command"
        return LockHeld(
            what,
            where=self._store.secret_id,
            allowed="one run at a time on a secret",
            action=f"wait until it ends; if it was killed: {resume} --resume",
        )


def _parse(text: str, where: str) -> KeyRun:
    try:
        members: dict[str, Any] = json.loads(text)[_MEMBER]
        return KeyRun(**{**members, "old_kids": tuple(members["old_kids"])})
    except (ValueError, KeyError, TypeError):
        raise CommandRefused(
            f"the label {LOCK} is on a version that no run of this tool wrote",
            where=where,
            action=f"find out which process set it, then remove the label {LOCK}",
        ) from None

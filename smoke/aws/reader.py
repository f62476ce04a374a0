"""Everything that the checks ask AWS for, each read once and shared; what each service uses as it runs.

And whether the roles of tasks exist, let tasks act under them, and read the secrets that tasks are given.
"""

import fcntl
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from pytest_readiness import Environment, SetupError

from smoke.source.checkout import Examined, Finding
from smoke.source.rules import EXECUTION_ROLE, FAMILY, LOGS, NETWORK, SECRET, TASK_ROLE, Use

from . import alarms, ecs, monitoring
from .account import AwsAccount, account_of, at_once
from .alarms import CompositeAlarm, Metric, MetricAlarm
from .ecs import EcsService, TargetGroup, TaskDefinition, read_target_groups
from .names import BalancerRoute, Names, read_registered, read_routes

READ = "secretsmanager:GetSecretValue"
_PUT = "secretsmanager:PutSecretValue"
_ASSUME = "sts:AssumeRole"
_GONE = ("NoSuchEntity",)
#: AWS's own policy that tasks start with, in any partition; and what it says: it reads images, writes logs.
_STARTS_TASKS = re.compile(r"arn:aws[\w-]*:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy")
_TOKEN, _LOGGING = "ecr:GetAuthorizationToken", ("logs:CreateLogStream", "logs:PutLogEvents")
_STARTING = {"Effect": "Allow", "Action": [_TOKEN, "ecr:Batch*", "ecr:GetDown*", *_LOGGING], "Resource": "*"}


@dataclass(frozen=True, slots=True)
class RolePolicies:
    """The statements of each role's policies, by the role's ARN, and the secrets that are asked about."""

    statements: Mapping[str, Sequence[Mapping[str, Any]]]
    secrets: frozenset[str] = field(default_factory=frozenset)

    def usable(self, roles: Iterable[str]) -> dict[str, str]:
        """Those of the secrets that at least one of the roles may read, or only put; which of both."""
        held = [self.statements.get(role, ()) for role in dict.fromkeys(roles)]
        return {
            arn: how
            for how, action in (("may put", _PUT), ("may read", READ))
            for arn in sorted(self.secrets)
            if any(allows(each, action, arn) for each in held)
        }

    def lent(self, trusts: Mapping[str, Mapping[str, Any] | None]) -> Self:
        """What each role may do also by acting under another of them, which that one's trust lets it do."""
        found = {role: [*own] for role, own in self.statements.items()}
        for lender, document in trusts.items():
            for role, own in self.statements.items():
                if role != lender and document and _is_lent(lender, document, role, own):
                    found[role] += self.statements[lender]
        return replace(self, statements=found)


def _is_lent(lender: str, document: Mapping[str, Any], role: str, own: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a trust names a role, or its account while the role's own policies name the lender.

    What hangs on a condition, or is denied to anybody, is taken as not lent.
    """
    statement = document.get("Statement", [])
    listed = [statement] if isinstance(statement, Mapping) else statement
    trusting = [each for each in listed if covers(each, "Action", _ASSUME)]
    if any(each.get("Effect") != "Allow" for each in trusting):
        return False
    given = [each.get("Principal") for each in trusting if not each.get("Condition")]
    found = [each.get("AWS", ()) for each in given if isinstance(each, Mapping)]
    named = {one for each in found for one in ([each] if isinstance(each, str) else each)}
    root = f"{role.partition(':role/')[0]}:root"
    return role in named or (root in named and allows(own, _ASSUME, lender))


def allows(statements: Sequence[Mapping[str, Any]], action: str, resource: str) -> bool:
    """Whether policies allow an action, conditions taken as met by what allows and unmet by what denies."""
    hit = [
        each for each in statements if covers(each, "Action", action) and covers(each, "Resource", resource)
    ]
    denied = any(each.get("Effect") == "Deny" and not each.get("Condition") for each in hit)
    return not denied and any(each.get("Effect") == "Allow" for each in hit)


#: What closes a topic to alarms: it has the default key, whose policy lets no service of AWS use it.
DEFAULT_KEY = "alias/aws/sns"


def closed_to_alarms(attributes: Mapping[str, str], alarms: Sequence[str] = ()) -> str:
    """Why CloudWatch may not publish to a topic with these attributes; empty where nothing forbids it.

    What a condition hangs on is taken as met where it allows and as unmet where it denies; but one that names
    other accounts, or none of these alarms (ARNs), is not met.
    """
    if attributes.get("KmsMasterKeyId", "").endswith(DEFAULT_KEY):
        return f"it is encrypted with {DEFAULT_KEY}, a key that CloudWatch may not use"
    if not attributes.get("Policy"):
        return ""
    statement = json.loads(attributes["Policy"]).get("Statement", [])
    topic = attributes.get("TopicArn", "")
    account = topic.split(":")[_ACCOUNT : _ACCOUNT + 1]
    publishing = [
        each
        for each in (statement if isinstance(statement, list) else [statement])
        if covers(each, "Action", "sns:Publish") and covers(each, "Resource", topic)
        if _concerns_cloudwatch(each, account)
    ]
    if any(each["Effect"] == "Deny" and not each.get("Condition") for each in publishing):
        return "its policy denies publishing"
    allowed = any(each["Effect"] == "Allow" and not _excludes(each, account, alarms) for each in publishing)
    return "" if allowed else "its policy lets no alarm publish"


#: How a condition compares what it names.
_COMPARING = re.compile(r"(?i)(string|arn)(equals|like|equalsignorecase)(ifexists)?")


def _excludes(statement: Mapping[str, Any], account: Sequence[str], alarms: Sequence[str]) -> bool:
    """Whether a condition names other accounts only, or none of the alarms."""
    origins = {"aws:sourceaccount": account, "aws:sourceowner": account, "aws:sourcearn": alarms}
    compared = [
        (origins.get(key.lower()), [value] if isinstance(value, str) else value)
        for operator, keys in statement.get("Condition", {}).items()
        if _COMPARING.fullmatch(operator)
        for key, value in keys.items()
    ]
    return any(seen and not any(fnmatchcase(each, one) for each in seen for one in named)
               for seen, named in compared)  # fmt: skip


def key_closed_to_alarms(account: AwsAccount, key: str) -> str:
    """Why CloudWatch may not encrypt with the key of a topic; empty where it may, or where there is no key.

    SetupError where the policy is not to be read, being another account's.
    """
    if not key:
        return ""
    found = account.find("kms", "describe_key", _NO_KEY, KeyId=key)
    if found is None:
        return f"its key {key} does not exist"
    arn, state = found["KeyMetadata"]["Arn"], found["KeyMetadata"].get("KeyState", "Enabled")
    if state not in _USABLE:
        return f"its key {arn} is {state}"
    if found["KeyMetadata"].get("KeyManager") == "AWS":
        return f"its key {arn} is AWS's own for SNS, which CloudWatch may not use"
    told = account.find("kms", "get_key_policy", _NO_KEY, KeyId=arn, PolicyName="default")
    if told is None:
        raise SetupError(f"not examined: the policy of the key {arn}, which is another account's")
    statement = json.loads(told["Policy"]).get("Statement", [])
    using = [each for each in (statement if isinstance(statement, list) else [statement])
             if covers(each, "Action", "kms:GenerateDataKey") and _concerns_cloudwatch(each, ())]  # fmt: skip
    denied = any(each["Effect"] == "Deny" and not each.get("Condition") for each in using)
    if denied or not any(each["Effect"] == "Allow" for each in using):
        return f"the policy of its key {arn} does not let CloudWatch use it"
    return ""


_NO_KEY = ("NotFoundException",)
#: States of a key with which it encrypts, or is about to.
_USABLE = ("Enabled", "Creating", "Updating")


def _concerns_cloudwatch(statement: Mapping[str, Any], account: Sequence[str]) -> bool:
    """Whether a statement is about CloudWatch, or the account in whose name its alarms publish."""
    key = "Principal" if "Principal" in statement else "NotPrincipal"
    principal = statement.get(key, {})
    named = principal if isinstance(principal, Mapping) else {"AWS": principal}
    found = [each for value in named.values() for each in ([value] if isinstance(value, str) else value)]
    own = {each for number in account for each in (number, f"arn:aws:iam::{number}:root")}
    return bool({"*", "cloudwatch.amazonaws.com", *own} & {*found}) == (key == "Principal")


def read_policies(account: AwsAccount, roles: Iterable[str], secrets: Iterable[str]) -> RolePolicies:
    """Read the inline policies of roles and what is attached to them; a role that does not exist has none.

    AWS's own policy that tasks start with is known.
    """
    wanted = sorted({role for role in roles if role})
    listed = at_once(lambda role: _listed(account, _name(role)), wanted)
    found: dict[str, list[Any]] = {role: [] for role in wanted}
    jobs = [(role, read) for role, reads in zip(wanted, listed, strict=True) for read in reads]
    documents = at_once(lambda job: job[1](), jobs)
    for (role, _), document in zip(jobs, documents, strict=True):
        statement = document.get("Statement", [])
        found[role] += [statement] if isinstance(statement, Mapping) else statement
    return RolePolicies(found, frozenset(secrets))


def _listed(account: AwsAccount, name: str) -> list[Callable[[], Mapping[str, Any]]]:
    """How to read each policy of a role."""
    inline = account.find("iam", "list_role_policies", _GONE, RoleName=name)
    if inline is None:
        return []
    attached = account.ask("iam", "list_attached_role_policies", RoleName=name)["AttachedPolicies"]
    return [
        *(partial(_inline, account, name, policy) for policy in inline["PolicyNames"]),
        *(partial(_managed, account, each["PolicyArn"]) for each in attached),
    ]


def _inline(account: AwsAccount, role: str, policy: str) -> Mapping[str, Any]:
    answer = account.ask("iam", "get_role_policy", RoleName=role, PolicyName=policy)
    document: Mapping[str, Any] = answer["PolicyDocument"]
    return document


def _managed(account: AwsAccount, arn: str) -> Mapping[str, Any]:
    if _STARTS_TASKS.fullmatch(arn):
        return {"Statement": _STARTING}
    version = account.ask("iam", "get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
    answer = account.ask("iam", "get_policy_version", PolicyArn=arn, VersionId=version)
    document: Mapping[str, Any] = answer["PolicyVersion"]["Document"]
    return document


def covers(statement: Mapping[str, Any], key: str, value: str) -> bool:
    """Whether what a statement says under a key (Action, Resource), or all but that, has a value in it."""
    if key in statement:
        return _matches(statement[key], key, value)
    return f"Not{key}" in statement and not _matches(statement[f"Not{key}"], key, value)


def _matches(patterns: Any, key: str, value: str) -> bool:
    listed = [patterns] if isinstance(patterns, str) else patterns
    listed = [each.replace("[", "[[]") for each in listed]  # no wildcard of IAM
    if key == "Action":  # actions are the same in any case, resources are not
        return any(fnmatchcase(value.lower(), each.lower()) for each in listed)
    return any(fnmatchcase(value, each) for each in listed)


def _name(role: str) -> str:
    return role.rpartition("/")[2]


def uses_of(
    owner: str, definition: TaskDefinition, service: EcsService | None, policies: RolePolicies
) -> list[Use]:
    """Everything that a service or task uses; a secret also where only its roles may read or put it."""
    found = [
        (FAMILY, [definition.family]),
        (EXECUTION_ROLE, [definition.execution_role]),
        (TASK_ROLE, [definition.task_role]),
        (NETWORK, service.security_groups if service else ()),
        (LOGS, [each.log_group for each in definition.containers]),
        (SECRET, [secret_of(each) for box in definition.containers for each in box.secrets.values()]),
    ]
    uses = [
        Use(kind, identity, owner, _named(identity))
        for kind, identities in found
        for identity in identities
        if identity
    ]
    roles = (definition.execution_role, definition.task_role)
    usable = policies.usable(roles).items()
    return [*uses, *(Use(SECRET, arn, owner, _named(arn), how) for arn, how in usable)]


def secret_of(value_from: str) -> str:
    """The secret that a container's reference names, without the key or version inside it."""
    parts = value_from.split(":")
    return (
        ":".join(parts[:7]) if value_from.startswith("arn:") and parts[2] == "secretsmanager" else value_from
    )


def _named(identity: str) -> str:
    """The part of an ARN that names; anything else as it is."""
    return (
        identity.split(":", 5)[5].removeprefix("role/").removeprefix("secret:")
        if identity.startswith("arn:")
        else identity
    )


Value = TypeVar("Value")


class AwsReader:
    """What AWS reports of the platform. `forget` drops what was read; a failed read is never kept.

    `shared` is a directory of all processes of the run: none of them reads alarms while another drills.
    """

    def __init__(self, account: AwsAccount, names: Names, shared: Path | None = None) -> None:
        self.account = account
        self.names = names
        self._turn = shared / "smoke-alarms.lock" if shared else None
        self._known: dict[str, Any] = {}
        self._lock = threading.RLock()

    def forget(self) -> None:
        """Drop what was read."""
        with self._lock:
            self._known.clear()

    @contextmanager
    def drilling(self) -> Iterator[None]:
        """While inside, no other process of the run reads alarms, and earlier reads are dropped."""
        with self._alone(fcntl.LOCK_EX):
            turn, self._turn = self._turn, None
            self.forget()
            try:
                yield
            finally:
                self.forget()
                self._turn = turn

    def cluster(self) -> str:
        """The ARN of the cluster; SetupError when this region or account has none of the name."""
        return self._once("cluster", lambda: self.account.require_cluster(self.names.cluster))

    def services(self) -> Mapping[str, EcsService]:
        """Every active service of the cluster by its short name."""
        return self._once("services", self._services)

    def service(self, name: str) -> EcsService:
        """One service; AssertionError when the cluster has none that is active."""
        found = self.services().get(name)
        assert found, f"the cluster {self.names.cluster} has no active service {self.names.full(name)}"
        return found

    def definitions(self) -> Mapping[str, TaskDefinition]:
        """The task definition in use of every service, by the service's short name."""
        return self._once("definitions", self._definitions)

    def definition(self, name: str) -> TaskDefinition:
        """The task definition in use of one service."""
        service = self.service(name)
        found = self.definitions().get(name)
        assert service.definition, f"{self.names.full(name)} has no task set that is PRIMARY: it runs nothing"
        assert found, f"the task definition of {self.names.full(name)} does not exist"
        return found

    def tasks(self, families: Sequence[str]) -> Mapping[str, TaskDefinition]:
        """The newest active task definition of each of these families, by its short name."""
        wanted = [self.names.full(name) for name in families]
        return self._once(
            f"tasks {wanted}",
            lambda: {
                self.names.short(family): found
                for family, found in ecs.read_definitions(self.account, wanted).items()
                if found.active
            },
        )

    def runs(self, family: str) -> Sequence[ecs.TaskRun]:
        """The runs of a one-shot task, oldest first."""
        return self._once(
            f"runs {family}", lambda: ecs.read_runs(self.account, self.names, self.names.full(family))
        )

    def owners(self, one_shots: Sequence[str]) -> Mapping[str, TaskDefinition]:
        """The task definition of each service and of each one-shot task that has one."""
        return self._once(f"owners {one_shots}", lambda: self._owners(one_shots))

    def policies(self, one_shots: Sequence[str]) -> RolePolicies:
        """What their roles may do, and the secrets that they are given."""
        return self._once(f"policies {one_shots}", lambda: self._policies(one_shots))

    def uses(self, one_shots: Sequence[str]) -> Sequence[Use]:
        """What each service and each one-shot task uses, and which secrets its roles may read or put."""
        return self._once(f"uses {one_shots}", lambda: self._uses(one_shots))

    def routes(self) -> Sequence[BalancerRoute]:
        """The routes of the load balancers."""
        return self._once("routes", self._routes)

    def target_groups(self, service: str) -> Sequence[TargetGroup]:
        """The target groups of a service."""
        arns = self.service(service).target_groups
        return self._once(f"targets {service}", lambda: read_target_groups(self.account, arns))

    def has_insights(self) -> bool:
        """Whether the cluster counts its tasks for CloudWatch."""
        return self._once("insights", lambda: ecs.has_insights(self.account, self.names))

    def registered(self) -> Mapping[str, str]:
        """The host name of each registry that a service is in."""
        return self._once("registered", self._registered)

    def alarms(self) -> Sequence[MetricAlarm]:
        """Every metric alarm of the platform."""
        return self._once("alarms", self._alarms)[0]

    def composites(self) -> Sequence[CompositeAlarm]:
        """Every composite alarm of the platform."""
        return self._once("alarms", self._alarms)[1]

    def datapoints(self) -> Mapping[Metric, int]:
        """How many fresh datapoints each metric of an alarm has."""
        return self._once("datapoints", self._datapoints)

    def databases(self) -> Mapping[str, str]:
        """The state of the database instance, or of each one of the cluster of its name."""
        return self._once("databases", lambda: monitoring.read_databases(self.account, self.names.database))

    def topic(self) -> str:
        """The ARN of the topic that the alarms notify."""
        return self._once("topic", lambda: monitoring.topic_arn(self.account, self.names))

    def retention(self, groups: Sequence[str]) -> Mapping[str, int]:
        """The retention of each log group in days."""
        return self._once(
            f"retention {groups}", lambda: monitoring.read_retention(self.account, self.names, groups)
        )

    def _once(self, key: str, read: Callable[[], Value]) -> Value:
        with self._lock:
            if key not in self._known:
                self._known[key] = read()
            value: Value = self._known[key]
            return value

    def _services(self) -> Mapping[str, EcsService]:
        self.cluster()
        return ecs.read_services(self.account, self.names)

    def _definitions(self) -> Mapping[str, TaskDefinition]:
        services = self.services()
        wanted = [each.definition for each in services.values() if each.definition]
        found = ecs.read_definitions(self.account, wanted)
        return {name: found[each.definition] for name, each in services.items() if each.definition in found}

    def _alarms(self) -> tuple[Sequence[MetricAlarm], Sequence[CompositeAlarm]]:
        self.cluster()
        with self._alone(fcntl.LOCK_SH):
            return alarms.read_alarms(self.account, self.names)

    @contextmanager
    def _alone(self, how: int) -> Iterator[None]:
        with self._turn.open("w", encoding="utf-8") if self._turn else nullcontext() as file:
            if file is not None:
                fcntl.flock(file, how)
            yield

    def _datapoints(self) -> Mapping[Metric, int]:
        metrics = [metric for alarm in self.alarms() for metric in alarm.metrics]
        return monitoring.read_datapoints(self.account, metrics)

    def _registered(self) -> Mapping[str, str]:
        arns = [arn for service in self.services().values() for arn in service.registries]
        return read_registered(self.account, arns)

    def _routes(self) -> Sequence[BalancerRoute]:
        groups = [arn for service in self.services().values() for arn in service.target_groups]
        return read_routes(self.account, self.names, dict.fromkeys(groups))

    def _owners(self, one_shots: Sequence[str]) -> Mapping[str, TaskDefinition]:
        found = self.definitions()
        return {**found, **self.tasks([name for name in one_shots if name not in found])}

    def _policies(self, one_shots: Sequence[str]) -> RolePolicies:
        owners = self.owners(one_shots)
        roles = [role for each in owners.values() for role in (each.execution_role, each.task_role)]
        secrets = {
            secret_of(each)
            for definition in owners.values()
            for container in definition.containers
            for each in container.secrets.values()
        }
        held = read_policies(self.account, roles, secrets)
        named = list(held.statements)
        trusts = dict(zip(named, at_once(lambda role: _trust(self.account, role), named), strict=True))
        return held.lent(trusts)

    def _uses(self, one_shots: Sequence[str]) -> Sequence[Use]:
        services, held = self.services(), self.policies(one_shots)
        return [
            use
            for name, definition in self.owners(one_shots).items()
            for use in uses_of(name, definition, services.get(name), held)
        ]


def reader_of(environment: Environment, shared: Path | None = None) -> AwsReader:
    """The reader for a profile's [aws]."""
    return AwsReader(account_of(environment), Names(environment.aws.prefix), shared)


_TASKS = "ecs-tasks.amazonaws.com"
_ACCOUNT, _SERVICE = 4, 2


def kept_from_starting(aws: AwsReader, one_shots: Sequence[str]) -> tuple[int, Examined]:
    """Return the number of roles, and what keeps tasks from starting under theirs, or lets anybody use them.

    A role of another account, and a secret that has a policy of its own, are not examined.
    """
    owners, held = aws.owners(one_shots), aws.policies(one_shots)
    home = aws.cluster().split(":")[_ACCOUNT]
    wanted = {role: name for name, each in owners.items() for role in _roles(each)}
    roles = [role for role in wanted if not role.startswith("arn:") or role.split(":")[_ACCOUNT] == home]
    documents = at_once(lambda role: _trust(aws.account, role), roles)
    result = Examined([], [_finding(f"{role} of {wanted[role]}") for role in wanted if role not in roles])
    for role, document in zip(roles, documents, strict=True):
        assumed = document is not None and is_assumed(document)
        if assumed is None:
            result.not_examined.append(_finding(f"whether a task may act under {role}"))
        elif not assumed:
            why = "does not exist" if document is None else "lets no task act under it"
            result.findings.append(_finding(f"{wanted[role]} never starts again: its role {role} {why}"))
        if document is not None and is_anybodys(document):
            result.findings.append(_finding(f"anybody may act under {role}, the role of {wanted[role]}"))
    there = {role for role, document in zip(roles, documents, strict=True) if document is not None}
    for name, definition in owners.items():
        role = definition.execution_role
        unread = [each for each in _given(definition) if not may_read(held.statements.get(role, ()), each)]
        for secret in unread if role in there else ():
            if _has_policy(aws.account, secret):
                result.not_examined.append(_finding(f"whether the policy of {secret} lets {role} read it"))
            else:
                result.findings.append(_finding(f"{name} never starts again: {role} may not read {secret}"))
    _examine_secrets(aws, owners, held, result)
    result.findings.extend(
        _finding(f"{name} never starts again: {definition.execution_role} may not {action}")
        for name, definition in owners.items()
        if definition.fargate and definition.execution_role in there
        for action in _unstarted(definition, home, held.statements.get(definition.execution_role, ()))
    )
    return len(roles), result


def _unstarted(definition: TaskDefinition, account: str, own: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a task on Fargate needs to pull images from ECR and to write logs, and its role may not."""
    if any(ecs.IN_ECR.fullmatch(box.image) for box in definition.containers) and not allows(own, _TOKEN, "*"):
        yield _TOKEN
    partition = definition.execution_role.split(":")[1]
    for box in definition.containers:
        group = f"arn:{partition}:logs:{box.log_region}:{account}:log-group:{box.log_group}"
        named = [group, f"{group}:*", f"{group}:log-stream:x"]
        for action in _LOGGING if box.log_region and box.log_group else ():
            if not any(allows(own, action, each) for each in named):
                yield f"{action} in {box.log_group}"


def _examine_secrets(
    aws: AwsReader, owners: Mapping[str, TaskDefinition], held: RolePolicies, result: Examined
) -> None:
    """Whether the secrets that tasks are given are there, and can be decrypted under their roles.

    Those of another account or region are not looked up.
    """
    place = aws.cluster().split(":")[3:5]
    given = {
        secret: (name, definition.execution_role)
        for name, definition in owners.items()
        for secret in _given(definition)
        if secret.split(":")[3:5] == place
    }
    gone = ("ResourceNotFoundException",)
    told = at_once(
        lambda arn: aws.account.find("secretsmanager", "describe_secret", gone, SecretId=arn), given
    )
    for (secret, (name, role)), found in zip(given.items(), told, strict=True):
        why = "does not exist" if found is None else ""
        if found and found.get("DeletedDate"):
            why = "is marked for deletion"
        key = (found or {}).get("KmsKeyId", "")
        if not why and key and not key.endswith(SECRETS_KEY):
            why = _undecrypted(aws.account, key, role, held.statements.get(role, ()))
        if why:
            result.findings.append(_finding(f"{name} never starts again: {secret} {why}"))


#: AWS's own key for secrets, which every role of the account may use through Secrets Manager.
SECRETS_KEY = "alias/aws/secretsmanager"
_DECRYPT = "kms:Decrypt"


def _undecrypted(account: AwsAccount, key: str, role: str, own: Sequence[Mapping[str, Any]]) -> str:
    """Why a role cannot decrypt with a key; empty where it can, by its own policies or by the key's.

    SetupError where neither says so and the key's policy is another account's.
    """
    found = account.find("kms", "describe_key", _NO_KEY, KeyId=key)
    if found is None:
        return f"is encrypted with {key}, which does not exist"
    arn, state = found["KeyMetadata"]["Arn"], found["KeyMetadata"].get("KeyState", "Enabled")
    if state not in _USABLE:
        return f"is encrypted with {arn}, which is {state}"
    if found["KeyMetadata"].get("KeyManager") == "AWS" or allows(own, _DECRYPT, arn):
        return ""
    told = account.find("kms", "get_key_policy", _NO_KEY, KeyId=arn, PolicyName="default")
    if told is None:
        raise SetupError(
            f"not examined: whether the policy of {arn}, another account's key, lets {role} decrypt"
        )
    for each in _statements(json.loads(told["Policy"])):
        if each.get("Effect") == "Allow" and covers(each, "Action", _DECRYPT):
            principal = each.get("Principal", {})
            named = principal.get("AWS", ()) if isinstance(principal, Mapping) else principal
            if {"*", role} & {*([named] if isinstance(named, str) else named)}:
                return ""
    return f"is encrypted with {arn}, with which {role} may not decrypt"


def _statements(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    statement = document.get("Statement", [])
    return [statement] if isinstance(statement, Mapping) else statement


def is_anybodys(document: Mapping[str, Any]) -> bool:
    """Whether a trust policy lets whoever there is act under its role, without any condition."""
    return any(
        each.get("Effect") == "Allow"
        and not each.get("Condition")
        and covers(each, "Action", _ASSUME)
        and "*" in _principals(each)
        for each in _statements(document)
    )


def is_assumed(document: Mapping[str, Any]) -> bool | None:
    """Whether a trust policy lets tasks act under its role, conditions met; None where that is unclear."""
    statement = document.get("Statement", [])
    listed = [statement] if isinstance(statement, Mapping) else statement
    assuming = [each for each in listed if covers(each, "Action", _ASSUME)]
    denied = {who for each in assuming if each.get("Effect") == "Deny" and not each.get("Condition")
              for who in _principals(each)}  # fmt: skip
    allowed = {who for each in assuming if each.get("Effect") == "Allow" for who in _principals(each)}
    if _TASKS in denied:
        return False
    if _TASKS in allowed and "*" not in denied:
        return True
    return None if "*" in denied | allowed else False


def may_read(statements: Sequence[Mapping[str, Any]], secret: str) -> bool:
    """Whether policies let a role read a secret; its ARN may be without the six characters that AWS adds."""
    listed = [each.get("Resource", ()) for each in statements]
    patterns = [one for each in listed for one in ([each] if isinstance(each, str) else each)]
    longer = [each for each in patterns if each.startswith(f"{secret}-")]
    return any(allows(statements, READ, each) for each in (secret, *longer))


def _principals(statement: Mapping[str, Any]) -> Iterator[str]:
    principal = statement.get("Principal", "*")  # without one it names all but some
    named = principal.items() if isinstance(principal, Mapping) else [("AWS", principal)]
    for kind, value in named:
        if kind == "Service" or value == "*":
            yield from [value] if isinstance(value, str) else value


def _roles(definition: TaskDefinition) -> list[str]:
    return [each for each in (definition.execution_role, definition.task_role) if each]


def _finding(what: str) -> Finding:
    return Finding("", 0, what)


def _given(definition: TaskDefinition) -> list[str]:
    """The secrets of Secrets Manager that a task's containers are given."""
    found = [secret_of(each) for box in definition.containers for each in box.secrets.values()]
    return [
        each for each in found if each.startswith("arn:") and each.split(":")[_SERVICE] == "secretsmanager"
    ]


def _trust(account: AwsAccount, role: str) -> Mapping[str, Any] | None:
    name = role.rpartition("/")[2]
    answer = account.find("iam", "get_role", ("NoSuchEntity",), RoleName=name)
    return None if answer is None else answer["Role"]["AssumeRolePolicyDocument"]


def _has_policy(account: AwsAccount, secret: str) -> bool:
    gone = ("ResourceNotFoundException",)
    answer = account.find("secretsmanager", "get_resource_policy", gone, SecretId=secret)
    return bool((answer or {}).get("ResourcePolicy"))

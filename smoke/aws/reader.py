"""Everything that the checks read from AWS, read once and shared, and what each running service uses."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pytest_readiness import Environment

from smoke.source.rules import EXECUTION_ROLE, FAMILY, LOGS, NETWORK, SECRET, TASK_ROLE, Use

from . import alarms, databases, ecs, ecs_tasks, monitoring, topics
from .account import AwsAccount, account_of, at_once
from .alarms import CompositeAlarm, Metric, MetricAlarm
from .balancer import BalancerRoute, TargetGroup, describe_balancers, read_routes, read_target_groups
from .ecs import EcsService, TaskDefinition
from .names import SERVICES, Names, Registry, read_registries
from .policies import RolePolicies, read_policies, trust_of


def uses_of(
    owner: str, definition: TaskDefinition, service: EcsService | None, policies: RolePolicies
) -> list[Use]:
    """Everything that a service or task uses, including secrets that only its roles may read or put."""
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
    uses += [Use(SECRET, arn, owner, _named(arn), how) for arn, how in usable]
    if unclear := [_named(arn) for arn in policies.unclear(roles)]:
        why = f"whether conditions let its roles read {' or '.join(unclear)}"
        uses.append(Use(SECRET, f"conditions of {owner}", owner, "", why=why))
    return uses


def secret_of(value_from: str) -> str:
    """The secret that a container's reference names, without the key or version inside it."""
    parts = value_from.split(":")
    return (
        ":".join(parts[:7]) if value_from.startswith("arn:") and parts[2] == "secretsmanager" else value_from
    )


def _named(identity: str) -> str:
    """The name in an ARN; anything else unchanged."""
    return (
        identity.split(":", 5)[5].removeprefix("role/").removeprefix("secret:")
        if identity.startswith("arn:")
        else identity
    )


P = ParamSpec("P")
Value = TypeVar("Value")


def _once(read: Callable[Concatenate[AwsReader, P], Value]) -> Callable[Concatenate[AwsReader, P], Value]:
    """A method whose result for the same arguments is kept until the reader forgets."""

    @wraps(read)
    def reading(self: AwsReader, /, *args: P.args, **more: P.kwargs) -> Value:
        return self.once(f"{read.__name__} {args} {more}", lambda: read(self, *args, **more))

    return reading


class AwsReader:
    """What AWS reports about the platform. `forget` drops all results; failures are not cached.

    `shared` is a directory for all processes of the run: none reads alarms while another one drills.
    """

    def __init__(self, account: AwsAccount, names: Names, shared: Path | None = None) -> None:
        self.account = account
        self.names = names
        self._turn = shared / "smoke-alarms.lock" if shared else None
        self._known: dict[str, Any] = {}
        self._lock = threading.RLock()

    def forget(self) -> None:
        """Drop all results."""
        with self._lock:
            self._known.clear()

    @contextmanager
    def drilling(self) -> Iterator[None]:
        """Inside the block, no other process of the run reads alarms, and earlier results are dropped."""
        with self._alone(fcntl.LOCK_EX):
            turn, self._turn = self._turn, None
            self.forget()
            try:
                yield
            finally:
                self.forget()
                self._turn = turn

    @_once
    def cluster(self) -> str:
        """The ARN of the cluster; SetupError if this region or account has none of that name."""
        return self.account.require_cluster(self.names.cluster)

    @_once
    def services(self) -> Mapping[str, EcsService]:
        """Every active service of the cluster by its short name."""
        self.cluster()
        return ecs.read_services(self.account, self.names)

    def service(self, name: str) -> EcsService:
        """One service; AssertionError if the cluster has no active one."""
        found = self.services().get(name)
        assert found, f"the cluster {self.names.cluster} has no active service {self.names.full(name)}"
        return found

    @_once
    def definitions(self) -> Mapping[str, TaskDefinition]:
        """The task definition in use of every service, by the service's short name."""
        services = self.services()
        wanted = [each.definition for each in services.values() if each.definition]
        found = ecs.read_definitions(self.account, wanted)
        return {name: found[each.definition] for name, each in services.items() if each.definition in found}

    def definition(self, name: str) -> TaskDefinition:
        """The task definition in use of one service."""
        service = self.service(name)
        found = self.definitions().get(name)
        assert service.definition, f"{self.names.full(name)} has no PRIMARY task set, so it runs nothing"
        assert found, f"the task definition of {self.names.full(name)} does not exist"
        return found

    @_once
    def tasks(self, families: Sequence[str]) -> Mapping[str, TaskDefinition]:
        """The newest active task definition of each of these families, by short name."""
        found = ecs.read_definitions(self.account, [self.names.full(name) for name in families])
        return {self.names.short(family): each for family, each in found.items() if each.active}

    @_once
    def runs(self, family: str) -> Sequence[ecs_tasks.TaskRun]:
        """The runs of a one-shot task, oldest first."""
        return ecs_tasks.read_runs(self.account, self.names, self.names.full(family))

    @_once
    def owners(self, one_shots: Sequence[str]) -> Mapping[str, TaskDefinition]:
        """The task definition of each service and of each one-shot task that has one."""
        found = self.definitions()
        return {**found, **self.tasks([name for name in one_shots if name not in found])}

    @_once
    def policies(self, one_shots: Sequence[str]) -> RolePolicies:
        """What the services' and tasks' roles may do, and which secrets they use."""
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
        trusts = dict(zip(named, at_once(lambda role: trust_of(self.account, role), named), strict=True))
        return held.lent(trusts)

    @_once
    def uses(self, one_shots: Sequence[str]) -> Sequence[Use]:
        """What each service and each one-shot task uses, and which secrets its roles may read or put."""
        services, held = self.services(), self.policies(one_shots)
        return [
            use
            for name, definition in self.owners(one_shots).items()
            for use in uses_of(self._owner(name, definition), definition, services.get(name), held)
        ]

    def _owner(self, name: str, definition: TaskDefinition) -> str:
        """The service that a further service, such as a canary, is part of.

        It runs the service's family, or is named after it and runs its image.
        """
        family = self.names.short(definition.family)
        if name in SERVICES or family in SERVICES:
            return name if name in SERVICES else family
        like = [own for own in SERVICES if name.startswith(f"{own}-") and own in self.definitions()]
        image = ecs.repository_of(definition.main(name).image)
        same = (own for own in like if ecs.repository_of(self.definition(own).main(own).image) == image)
        return next(same, name)

    @_once
    def routes(self) -> Sequence[BalancerRoute]:
        """The routes of the load balancers."""
        groups = [arn for service in self.services().values() for arn in service.target_groups]
        return read_routes(self.account, self.names, dict.fromkeys(groups))

    @_once
    def balancers(self) -> Mapping[str, Mapping[str, Any]]:
        """Every load balancer of the account and region as AWS describes it, by ARN."""
        return describe_balancers(self.account)

    @_once
    def target_groups(self, service: str) -> Sequence[TargetGroup]:
        """The target groups of a service."""
        return read_target_groups(self.account, self.service(service).target_groups)

    @_once
    def is_idle(self, target_group: str) -> bool:
        """Whether a target group has no target, or does not exist."""
        return not any(each.targets for each in read_target_groups(self.account, [target_group]))

    @_once
    def scalable(self) -> Mapping[str, Mapping[str, Any]]:
        """The services that Application Auto Scaling scales, as it describes them."""
        return ecs_tasks.read_scalable(self.account, self.names)

    @_once
    def has_insights(self) -> bool:
        """Whether the cluster counts its tasks for CloudWatch."""
        return ecs.has_insights(self.account, self.names)

    def registered(self) -> Mapping[str, str]:
        """The host name of each registry that a service is in."""
        return {arn: each.name for arn, each in self.registries().items()}

    @_once
    def registries(self) -> Mapping[str, Registry]:
        """Each registry that a service is in."""
        arns = [arn for service in self.services().values() for arn in service.registries]
        return read_registries(self.account, arns)

    def alarms(self) -> Sequence[MetricAlarm]:
        """Every metric alarm of the platform."""
        return self._alarms()[0]

    def composites(self) -> Sequence[CompositeAlarm]:
        """Every composite alarm of the platform."""
        return self._alarms()[1]

    def known_alarms(self) -> frozenset[str]:
        """The names of all alarms of the account and region."""
        return self._alarms()[2]

    @_once
    def datapoints(self) -> Mapping[Metric, int]:
        """How many recent datapoints each metric of an alarm has."""
        metrics = [metric for alarm in self.alarms() for metric in alarm.metrics]
        return monitoring.read_datapoints(self.account, metrics)

    def databases(self) -> Mapping[str, str]:
        """The state of the database instance, or of each instance of the cluster of that name."""
        return databases.states_of(self.instances(), self.names.database)

    @_once
    def instances(self) -> Sequence[Mapping[str, Any]]:
        """The database instance as RDS describes it, or each instance of the cluster of that name."""
        name = self.names.database
        return databases.describe_databases(self.account, name)

    @_once
    def topic(self) -> str:
        """The ARN of the topic that the alarms notify."""
        return topics.topic_arn(self.account, self.names)

    @_once
    def log_groups(self, groups: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """The platform's log groups and the given ones, as AWS describes them, by name."""
        return monitoring.describe_log_groups(self.account, self.names, groups)

    def retention(self, groups: Sequence[str]) -> Mapping[str, int]:
        """The retention of each log group in days, 0 for one without expiry."""
        found = self.log_groups(groups)
        return {name: int(each.get("retentionInDays", 0)) for name, each in found.items()}

    def once(self, key: str, read: Callable[[], Value]) -> Value:
        """Read something once: everyone who asks with this key gets the same."""
        with self._lock:
            if key not in self._known:
                self._known[key] = read()
            value: Value = self._known[key]
            return value

    @_once
    def _alarms(self) -> tuple[Sequence[MetricAlarm], Sequence[CompositeAlarm], frozenset[str]]:
        self.cluster()
        with self._alone(fcntl.LOCK_SH):
            found, composites, known = alarms.read_alarms(self.account, self.names)
        return topics.routed(self.account, found, self.names.topic), composites, known

    @contextmanager
    def _alone(self, how: int) -> Iterator[None]:
        with self._turn.open("w", encoding="utf-8") if self._turn else nullcontext() as file:
            if file is not None:
                fcntl.flock(file, how)
            yield


def reader_of(environment: Environment, shared: Path | None = None) -> AwsReader:
    """The reader for a profile's [aws]."""
    return AwsReader(account_of(environment), Names(environment.aws.prefix), shared)

"""Everything that the checks read from AWS, once and shared; what each running service uses.

Also whether tasks' roles exist, can be assumed by tasks, and may read the tasks' secrets.
"""

import fcntl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from pytest_readiness import Environment

from smoke.source.rules import EXECUTION_ROLE, FAMILY, LOGS, NETWORK, SECRET, TASK_ROLE, Use

from . import alarms, databases, ecs, ecs_tasks, monitoring, topics
from .account import AwsAccount, account_of, at_once
from .alarms import CompositeAlarm, Metric, MetricAlarm
from .balancer import BalancerRoute, TargetGroup, describe_balancers, read_routes, read_target_groups
from .ecs import EcsService, TaskDefinition
from .names import Names, Registry, read_registries
from .policies import RolePolicies, read_policies, trust_of


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
    """The part of an ARN that names; anything else as it is."""
    return (
        identity.split(":", 5)[5].removeprefix("role/").removeprefix("secret:")
        if identity.startswith("arn:")
        else identity
    )


Value = TypeVar("Value")


class AwsReader:
    """What AWS reports about the platform. `forget` drops everything that was read; failures are not cached.

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
        """Inside, no other process of the run reads alarms, and earlier readings are dropped."""
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
        return self.once("cluster", lambda: self.account.require_cluster(self.names.cluster))

    def services(self) -> Mapping[str, EcsService]:
        """Every active service of the cluster by its short name."""
        return self.once("services", self._services)

    def service(self, name: str) -> EcsService:
        """One service; AssertionError when the cluster has none that is active."""
        found = self.services().get(name)
        assert found, f"the cluster {self.names.cluster} has no active service {self.names.full(name)}"
        return found

    def definitions(self) -> Mapping[str, TaskDefinition]:
        """The task definition in use of every service, by the service's short name."""
        return self.once("definitions", self._definitions)

    def definition(self, name: str) -> TaskDefinition:
        """The task definition in use of one service."""
        service = self.service(name)
        found = self.definitions().get(name)
        assert service.definition, f"{self.names.full(name)} has no PRIMARY task set, so it runs nothing"
        assert found, f"the task definition of {self.names.full(name)} does not exist"
        return found

    def tasks(self, families: Sequence[str]) -> Mapping[str, TaskDefinition]:
        """The newest active task definition of each of these families, by short name."""
        wanted = [self.names.full(name) for name in families]
        return self.once(
            f"tasks {wanted}",
            lambda: {
                self.names.short(family): found
                for family, found in ecs.read_definitions(self.account, wanted).items()
                if found.active
            },
        )

    def runs(self, family: str) -> Sequence[ecs_tasks.TaskRun]:
        """The runs of a one-shot task, oldest first."""
        return self.once(
            f"runs {family}", lambda: ecs_tasks.read_runs(self.account, self.names, self.names.full(family))
        )

    def owners(self, one_shots: Sequence[str]) -> Mapping[str, TaskDefinition]:
        """The task definition of each service and of each one-shot task that has one."""
        return self.once(f"owners {one_shots}", lambda: self._owners(one_shots))

    def policies(self, one_shots: Sequence[str]) -> RolePolicies:
        """What their roles may do, and which secrets they use."""
        return self.once(f"policies {one_shots}", lambda: self._policies(one_shots))

    def uses(self, one_shots: Sequence[str]) -> Sequence[Use]:
        """What each service and each one-shot task uses, and which secrets its roles may read or put."""
        return self.once(f"uses {one_shots}", lambda: self._uses(one_shots))

    def routes(self) -> Sequence[BalancerRoute]:
        """The routes of the load balancers."""
        return self.once("routes", self._routes)

    def balancers(self) -> Mapping[str, Mapping[str, Any]]:
        """Every load balancer of the account and region as it is described, by its ARN."""
        return self.once("balancers", lambda: describe_balancers(self.account))

    def target_groups(self, service: str) -> Sequence[TargetGroup]:
        """The target groups of a service."""
        arns = self.service(service).target_groups
        return self.once(f"targets {service}", lambda: read_target_groups(self.account, arns))

    def is_idle(self, target_group: str) -> bool:
        """Whether a target group has no target, or does not exist."""
        found = self.once(f"idle {target_group}", lambda: read_target_groups(self.account, [target_group]))
        return not any(each.targets for each in found)

    def scalable(self) -> Mapping[str, Mapping[str, Any]]:
        """The services that Application Auto Scaling scales, as it describes them."""
        return self.once("scalable", lambda: ecs.read_scalable(self.account, self.names))

    def has_insights(self) -> bool:
        """Whether the cluster counts its tasks for CloudWatch."""
        return self.once("insights", lambda: ecs.has_insights(self.account, self.names))

    def registered(self) -> Mapping[str, str]:
        """The host name of each registry that a service is in."""
        return {arn: each.name for arn, each in self.registries().items()}

    def registries(self) -> Mapping[str, Registry]:
        """Each registry that a service is in."""
        return self.once("registries", self._registries)

    def alarms(self) -> Sequence[MetricAlarm]:
        """Every metric alarm of the platform."""
        return self.once("alarms", self._alarms)[0]

    def composites(self) -> Sequence[CompositeAlarm]:
        """Every composite alarm of the platform."""
        return self.once("alarms", self._alarms)[1]

    def known_alarms(self) -> frozenset[str]:
        """The names of all alarms of the account and region."""
        return self.once("alarms", self._alarms)[2]

    def datapoints(self) -> Mapping[Metric, int]:
        """How many fresh datapoints each metric of an alarm has."""
        return self.once("datapoints", self._datapoints)

    def databases(self) -> Mapping[str, str]:
        """The state of the database instance, or of each one of the cluster of its name."""
        return databases.states_of(self.instances(), self.names.database)

    def instances(self) -> Sequence[Mapping[str, Any]]:
        """The database instance as RDS describes it, or each one of the cluster of its name."""
        name = self.names.database
        return self.once("instances", lambda: databases.describe_databases(self.account, name))

    def topic(self) -> str:
        """The ARN of the topic that the alarms notify."""
        return self.once("topic", lambda: topics.topic_arn(self.account, self.names))

    def retention(self, groups: Sequence[str]) -> Mapping[str, int]:
        """The retention of each log group in days."""
        return self.once(
            f"retention {groups}", lambda: monitoring.read_retention(self.account, self.names, groups)
        )

    def once(self, key: str, read: Callable[[], Value]) -> Value:
        """Read something once: everyone who asks with this key gets the same."""
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

    def _alarms(self) -> tuple[Sequence[MetricAlarm], Sequence[CompositeAlarm], frozenset[str]]:
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

    def _registries(self) -> Mapping[str, Registry]:
        arns = [arn for service in self.services().values() for arn in service.registries]
        return read_registries(self.account, arns)

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
        trusts = dict(zip(named, at_once(lambda role: trust_of(self.account, role), named), strict=True))
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

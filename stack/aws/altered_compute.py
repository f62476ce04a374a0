"""Alterations of what runs: ECS services and their definitions, migrations, Cloud Map, the database.

Names are given without the prefix: service `api`, migration `freeside-migration`, host `finn`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.aws.inventory import CLUSTER, DATABASE, execution_role, role_arn
from stack.aws.names import PREFIX, secret_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.aws.emulator import Alteration, Emulator


def service_stopped(emulator: Emulator, service: str) -> None:
    """Stop a service's tasks and start none: running 0 of 1."""
    ecs = emulator.aws("ecs")
    for task in ecs.list_tasks(cluster=CLUSTER, serviceName=f"{PREFIX}-{service}")["taskArns"]:
        ecs.stop_task(cluster=CLUSTER, task=task)


def service_scaled(emulator: Emulator, service: str, desired: int) -> None:
    """Have a service want another number of tasks, and run it."""
    emulator.aws("ecs").update_service(cluster=CLUSTER, service=f"{PREFIX}-{service}", desiredCount=desired)


def service_missing(emulator: Emulator, service: str) -> None:
    """Delete a service."""
    emulator.aws("ecs").delete_service(cluster=CLUSTER, service=f"{PREFIX}-{service}", force=True)


def rollout(emulator: Emulator, service: str, state: str) -> None:
    """Have a service's deployment be IN_PROGRESS or FAILED."""
    emulator.service_record(f"{PREFIX}-{service}")["deployments"][0]["rolloutState"] = state


def two_deployments(emulator: Emulator, service: str) -> None:
    """Leave a service with an old deployment that never drained."""
    record = emulator.service_record(f"{PREFIX}-{service}")
    old = {**record["deployments"][0], "id": "ecs-svc/0000000000000000000", "status": "ACTIVE"}
    record["deployments"].append(old)


def deploy(
    emulator: Emulator,
    service: str,
    *,
    secrets: Mapping[str, str] | None = None,
    tag: str = "",
    image: str = "",
    execution_role_of: str = "",
    task_role_of: str = "",
    secret_of: str = "",
    log_group_of: str = "",
    environment: Mapping[str, str] | None = None,
    **settings: Any,
) -> None:
    """Deploy a service with another task definition: what is not named stays.

    `*_of` names the other service whose role, secret or log group it takes; `secrets` are further ones, by
    variable; `settings` are arguments of RegisterTaskDefinition, such as cpu and memory.
    """
    definition = _definition(emulator, f"{PREFIX}-{service}")
    container = definition["containerDefinitions"][0]
    if tag:
        container["image"] = f"{container['image'].rpartition(':')[0]}:{tag}"
    if image:
        container["image"] = image
    if execution_role_of:
        definition["executionRoleArn"] = role_arn(execution_role(execution_role_of))
    if task_role_of:
        definition["taskRoleArn"] = role_arn(f"{PREFIX}-{task_role_of}-task")
    if secret_of:
        secret = emulator.aws("secretsmanager").describe_secret(SecretId=secret_id(secret_of))["ARN"]
        container["secrets"] = [{"name": "ES256_PRIVATE_KEY", "valueFrom": secret}]
    if log_group_of:
        container["logConfiguration"]["options"]["awslogs-group"] = f"/ecs/{PREFIX}/{log_group_of}"
    for name, arn in (secrets or {}).items():
        container.setdefault("secrets", []).append({"name": name, "valueFrom": arn})
    for name, value in (environment or {}).items():
        container["environment"] = [each for each in container["environment"] if each["name"] != name]
        container["environment"].append({"name": name, "value": value})
    ecs = emulator.aws("ecs")
    ecs.register_task_definition(**{**definition, **settings})
    ecs.update_service(cluster=CLUSTER, service=f"{PREFIX}-{service}", taskDefinition=f"{PREFIX}-{service}")


def security_group_shared(emulator: Emulator, service: str, of: str) -> None:
    """Put a service's tasks into another service's security group."""
    ecs = emulator.aws("ecs")
    names = [f"{PREFIX}-{service}", f"{PREFIX}-{of}"]
    mine, other = ecs.describe_services(cluster=CLUSTER, services=names)["services"]
    network = mine["networkConfiguration"]["awsvpcConfiguration"]
    network["securityGroups"] = other["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"]
    ecs.update_service(
        cluster=CLUSTER, service=names[0], networkConfiguration={"awsvpcConfiguration": network}
    )


def migration_run(emulator: Emulator, migration: str, exit_code: int | None = None) -> None:
    """Run a migration once more; it ends with `exit_code`, or with None goes on for ever."""
    family = f"{PREFIX}-{migration}"
    emulator.one_shots.decide(family, exit_code)
    emulator.aws("ecs").run_task(
        cluster=CLUSTER, taskDefinition=family, launchType="FARGATE", startedBy="deploy-staging"
    )
    emulator.one_shots.finish(now=True)


def migration_missing(emulator: Emulator, migration: str) -> None:
    """Deregister a migration's task definition and forget its runs."""
    ecs = emulator.aws("ecs")
    family = f"{PREFIX}-{migration}"
    for arn in ecs.list_task_definitions(familyPrefix=family)["taskDefinitionArns"]:
        ecs.deregister_task_definition(taskDefinition=arn)
    emulator.forget_tasks(family)


def migration_in_service(emulator: Emulator, migration: str) -> None:
    """Run a migration as a service, over and over."""
    family = f"{PREFIX}-{migration}"
    emulator.aws("ecs").create_service(
        cluster=CLUSTER, serviceName=family, taskDefinition=family, desiredCount=1, launchType="FARGATE"
    )


def host_missing(emulator: Emulator, host: str) -> None:
    """Take a host's only instance out of Cloud Map: its name resolves to nothing."""
    discovery = emulator.aws("servicediscovery")
    (service,) = [each for each in discovery.list_services()["Services"] if each["Name"] == host]
    for instance in discovery.list_instances(ServiceId=service["Id"])["Instances"]:
        discovery.deregister_instance(ServiceId=service["Id"], InstanceId=instance["Id"])


def database_missing(emulator: Emulator) -> None:
    """Delete the database instance."""
    emulator.aws("rds").delete_db_instance(DBInstanceIdentifier=DATABASE, SkipFinalSnapshot=True)


def _definition(emulator: Emulator, family: str) -> dict[str, Any]:
    told = emulator.aws("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
    taken = ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "executionRoleArn",
             "taskRoleArn", "containerDefinitions")  # fmt: skip
    return {name: told[name] for name in taken}


ALTERATIONS: dict[str, Alteration] = {
    "service-stopped": service_stopped,
    "service-scaled": service_scaled,
    "service-missing": service_missing,
    "rollout": rollout,
    "two-deployments": two_deployments,
    "task-definition": deploy,
    "security-group-shared": security_group_shared,
    "migration-run": migration_run,
    "migration-missing": migration_missing,
    "migration-in-service": migration_in_service,
    "host-missing": host_missing,
    "database-missing": database_missing,
}

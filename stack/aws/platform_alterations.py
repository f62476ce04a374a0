"""Alterations of what runs: services, tasks, images, migrations, the database.

Names are given without the prefix, here and in `edge_` and `access_alterations`: service `api`, migration
`freeside-migration`, host `finn`. Signing keys go by the service that signs: `freeside`, `finn`, `dixie`.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from stack.aws import internals
from stack.aws.emulator import Emulator
from stack.aws.inventory import (
    CLUSTER,
    DATABASE,
    MIGRATIONS,
    PREFIX,
    REGION,
    REPOSITORIES,
    SERVICES,
    execution_role,
    role_arn,
    secret_id,
)


def service_stopped(emulator: Emulator, service: str) -> None:
    """Stop a service's tasks and start none: running 0 of 1."""
    ecs = emulator.aws("ecs")
    for task in ecs.list_tasks(cluster=CLUSTER, serviceName=f"{PREFIX}-{service}")["taskArns"]:
        ecs.stop_task(cluster=CLUSTER, task=task)


def service_scales(
    emulator: Emulator,
    service: str,
    most: int = 4,
    scheduled: Mapping[str, int] | None = None,
    least: int = 1,
    by: Mapping[str, Any] | None = None,
) -> None:
    """Make Auto Scaling run this many tasks of a service; scheduled actions change that.

    A policy scales it `by` what its configuration says.
    """
    of = {
        "ServiceNamespace": "ecs",
        "ResourceId": f"service/{CLUSTER}/{PREFIX}-{service}",
        "ScalableDimension": "ecs:service:DesiredCount",
    }
    emulator.scaling.targets.append({**of, "MinCapacity": min(least, most), "MaxCapacity": most})
    if by:
        emulator.scaling.policies.append({**of, "PolicyName": f"{service}-scaling", **by})
    for name, count in (scheduled or {}).items():
        bounds = {"MinCapacity": count, "MaxCapacity": count}
        action = {"ScheduledActionName": name, "Schedule": "cron(0 20 ? * MON-FRI *)"}
        emulator.scaling.actions.append({**of, **action, "ScalableTargetAction": bounds})


def rollout(_: Emulator, service: str, state: str) -> None:
    """Set a service's deployment to IN_PROGRESS or FAILED."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    record["deployments"][0]["rolloutState"] = state


def tasks_left_behind(emulator: Emulator, service: str) -> None:
    """Give a service a newer revision and a completed deployment while its tasks run the previous one."""
    ecs, family = emulator.aws("ecs"), f"{PREFIX}-{service}"
    made = ecs.register_task_definition(**registered(emulator, family))["taskDefinition"]
    record = internals.service_record(CLUSTER, family)
    for each in (record, record["deployments"][0]):
        each["taskDefinition"] = made["taskDefinitionArn"]


def tasks_run(
    emulator: Emulator, service: str, tag: str = "", health: str = "", digest: str = "", address: str = ""
) -> None:
    """Make a service's tasks run another image tag, have another health status or address, or a digest.

    `own` is the digest that the registry has for the tag. Sidecars keep theirs.
    """
    for task in internals.task_records(f"{PREFIX}-{service}"):
        task["healthStatus"] = health or task["healthStatus"]
        containers = task["containers"]
        container = next((each for each in containers if each["name"] == service), containers[0])
        container["image"] = _image(container["image"], tag, "", "")
        if digest:
            own = f"sha256:{_digest(emulator, container['image'])}" if digest == "own" else digest
            container["imageDigest"] = own
        if address:
            details = [{"name": "privateIPv4Address", "value": address}]
            task["attachments"] = [{"type": "ElasticNetworkInterface", "details": details}]


def service_deployed_by(
    emulator: Emulator, service: str, controller: str, stability: str = "STEADY_STATE"
) -> None:
    """Have CODE_DEPLOY or EXTERNAL deploy a service: what runs is in its only task set.

    CodeDeploy's has a second target group, which waits for the next deployment.
    """
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    deployment, *_ = record["deployments"]
    kept = ("taskDefinition", "networkConfiguration", "loadBalancers", "serviceRegistries")
    running = {name: record[name] for name in kept}
    if controller == "EXTERNAL":
        for name in kept:
            del record[name]
    elif running["loadBalancers"]:
        record["loadBalancers"] = [*running["loadBalancers"], _second_group(emulator, service, record)]
    record["deploymentController"] = {"type": controller}
    record["deployments"] = []
    times = {name: deployment[name] for name in ("createdAt", "updatedAt")}
    record["taskSets"] = [
        {
            **running,
            **times,
            "id": "ecs-svc/0000000000000000001",
            "status": "PRIMARY",
            "stabilityStatus": stability,
        }
    ]


def _second_group(emulator: Emulator, service: str, record: Mapping[str, Any]) -> dict[str, Any]:
    elb = emulator.aws("elbv2")
    (first,) = record["loadBalancers"]
    (found,) = elb.describe_target_groups(TargetGroupArns=[first["targetGroupArn"]])["TargetGroups"]
    made = elb.create_target_group(
        Name=f"{PREFIX}-{service}-tg-2", Protocol="HTTP", Port=found["Port"], VpcId=found["VpcId"],
        TargetType="ip",
    )["TargetGroups"]  # fmt: skip
    return {**first, "targetGroupArn": made[0]["TargetGroupArn"]}


def service_as_daemon(_: Emulator, service: str) -> None:
    """Have a service run once on each instance of the cluster."""
    internals.service_record(CLUSTER, f"{PREFIX}-{service}")["schedulingStrategy"] = "DAEMON"


def two_deployments(_: Emulator, service: str) -> None:
    """Leave a service with an old deployment that never drains."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    old = {**record["deployments"][0], "id": "ecs-svc/0000000000000000000", "status": "ACTIVE"}
    record["deployments"].append(old)


def own_container(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The container named after the task's service; sidecars may be listed before it."""
    containers: list[dict[str, Any]] = definition["containerDefinitions"]
    name = definition["family"].removeprefix(f"{PREFIX}-")
    return next((each for each in containers if each["name"] == name), containers[0])


def task_definition(
    emulator: Emulator,
    service: str,
    *,
    secrets: Mapping[str, str] | None = None,
    tag: str = "",
    image: str = "",
    digest: str = "",
    execution_role_of: str = "",
    task_role_of: str = "",
    secret_of: str = "",
    log_group_of: str = "",
    log_region: str = "",
    environment: Mapping[str, str] | None = None,
    port: int = 0,
    **settings: Any,
) -> None:
    """Deploy a service with another task definition: what is not named stays.

    `digest` follows the image, filled with zeros; `own` is the one that the registry has. `*_of` names the
    other service from which the role, secret or log group is taken; `secrets` are further ones, by variable;
    `port` is where the container listens;
    `settings` are arguments of RegisterTaskDefinition, such as cpu and memory.
    """
    definition = registered(emulator, f"{PREFIX}-{service}")
    container = own_container(definition)
    if digest == "own":
        digest = _digest(emulator, container["image"])
    container["image"] = _image(container["image"], tag, image, digest)
    if execution_role_of:
        definition["executionRoleArn"] = role_arn(execution_role(execution_role_of))
    if task_role_of:
        definition["taskRoleArn"] = role_arn(f"{PREFIX}-{task_role_of}-task")
    if secret_of:
        container["secrets"] = [{"name": "ES256_PRIVATE_KEY", "valueFrom": secret_arn(emulator, secret_of)}]
    if log_group_of:
        container["logConfiguration"]["options"]["awslogs-group"] = f"/ecs/{PREFIX}/{log_group_of}"
    if log_region:
        container["logConfiguration"]["options"]["awslogs-region"] = log_region
    if port:
        container["portMappings"] = [{"containerPort": port, "protocol": "tcp"}]
    for name, arn in (secrets or {}).items():
        container.setdefault("secrets", []).append({"name": name, "valueFrom": arn})
    for name, value in (environment or {}).items():
        container["environment"] = [each for each in container["environment"] if each["name"] != name]
        container["environment"].append({"name": name, "value": value})
    deployed(emulator, {**definition, **settings})


def container_set(emulator: Emulator, service: str, **settings: Any) -> None:
    """Deploy a service with other settings of its container, such as its memory limit in MiB."""
    definition = registered(emulator, f"{PREFIX}-{service}")
    own_container(definition).update(settings)
    deployed(emulator, definition)


def sidecars(emulator: Emulator) -> None:
    """Deploy every task with a log router and an agent listed before its own container."""
    for family in (*(service.family for service in SERVICES), *MIGRATIONS):
        definition = registered(emulator, family)
        own = definition["containerDefinitions"]
        router = {
            "name": "log-router",
            "image": "public.ecr.aws/aws-observability/aws-for-fluent-bit:2.32.0",
            "essential": True,
            "firelensConfiguration": {"type": "fluentbit"},
            "logConfiguration": own[0]["logConfiguration"],
        }
        agent = {
            "name": "agent",
            "image": "public.ecr.aws/datadog/agent:7.50.1",
            "essential": False,
            "portMappings": [{"containerPort": 8126, "protocol": "tcp"}],
        }
        definition["containerDefinitions"] = [router, agent, *own]
        deployed(emulator, definition)


def deployed(emulator: Emulator, definition: Mapping[str, Any]) -> str:
    """Register a task definition, and have the service of its family run it; return its ARN."""
    ecs, family = emulator.aws("ecs"), definition["family"]
    made = ecs.register_task_definition(**definition)["taskDefinition"]
    if family not in MIGRATIONS:
        ecs.update_service(cluster=CLUSTER, service=family, taskDefinition=family)
    return str(made["taskDefinitionArn"])


def registered(emulator: Emulator, family: str) -> dict[str, Any]:
    """The arguments of RegisterTaskDefinition that would register a family's newest revision again."""
    described = emulator.aws("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
    taken = ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "executionRoleArn",
             "taskRoleArn", "containerDefinitions", "volumes")  # fmt: skip
    return {name: described[name] for name in taken if name in described}


def _image(before: str, tag: str, image: str, digest: str) -> str:
    if tag:
        image = f"{before.rpartition(':')[0]}:{tag}"
    return (image or before) + (f"@sha256:{digest:0<64}" if digest else "")


def _digest(emulator: Emulator, image: str) -> str:
    repository, _, tag = image.partition("/")[2].rpartition(":")
    found = emulator.aws("ecr").describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    return str(found["imageDetails"][0]["imageDigest"]).removeprefix("sha256:")


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
    """Run a migration once more; it ends with `exit_code`, or with None never ends."""
    family = f"{PREFIX}-{migration}"
    emulator.one_shots.decide(family, exit_code)
    emulator.aws("ecs").run_task(
        cluster=CLUSTER, taskDefinition=family, launchType="FARGATE", startedBy="deploy-staging"
    )
    emulator.one_shots.finish(now=True)


def migration_missing(emulator: Emulator, migration: str) -> None:
    """Deregister a migration's task definition and forget its runs."""
    ecs, family = emulator.aws("ecs"), f"{PREFIX}-{migration}"
    for arn in ecs.list_task_definitions(familyPrefix=family)["taskDefinitionArns"]:
        ecs.deregister_task_definition(taskDefinition=arn)
    internals.forget_tasks(family)


def migration_changed(
    emulator: Emulator, migration: str, tag: str = "", environment: Mapping[str, str] | None = None
) -> None:
    """Register a migration with another tag of its image, or other variables."""
    definition = registered(emulator, f"{PREFIX}-{migration}")
    container = definition["containerDefinitions"][0]
    container["image"] = _image(container["image"], tag, "", "")
    container["environment"] += [
        {"name": name, "value": value} for name, value in (environment or {}).items()
    ]
    deployed(emulator, definition)


def service_copied(emulator: Emulator, service: str, name: str) -> None:
    """Add a service that runs a copy of another one's task definition, in a family of its own."""
    copy = {**registered(emulator, f"{PREFIX}-{service}"), "family": f"{PREFIX}-{name}"}
    ecs, own = emulator.aws("ecs"), str(copy["family"])
    ecs.register_task_definition(**copy)
    ecs.create_service(
        cluster=CLUSTER, serviceName=own, taskDefinition=own, desiredCount=1, launchType="FARGATE"
    )


def database_is(_: Emulator, **members: Any) -> None:
    """Describe the database instance with other members of DescribeDBInstances, such as its state."""
    for record in internals.records("rds._instances"):
        record.update({name: {**record[name], **value} if isinstance(value, dict) else value
                       for name, value in members.items()})  # fmt: skip


def database_encrypted(emulator: Emulator, state: str, days: int = 0) -> None:
    """Encrypt the database with a key of its own, which has a state, and may end in some days."""
    database_is(emulator, KmsKeyId=new_kms_key(emulator, state, days))


def new_kms_key(emulator: Emulator, state: str, days: int = 0, **settings: str) -> str:
    """Create a key in a state, whose imported material may end in some days; return its ARN."""
    key = str(emulator.aws("kms").create_key(**settings)["KeyMetadata"]["Arn"])
    for each in internals.records("kms._keys"):
        each["KeyState"] = state if each["Arn"] == key else each["KeyState"]
        if days and each["Arn"] == key:
            each["ValidTo"] = time.time() + days * 86_400
    return key


def database_set(emulator: Emulator, *, waits: bool = False, **values: str) -> None:
    """Give the database its own parameter group, which may wait for a reboot."""
    rds, name = emulator.aws("rds"), f"{DATABASE}-15"
    rds.create_db_parameter_group(
        DBParameterGroupName=name, DBParameterGroupFamily="postgres15", Description=name
    )
    given = [
        {"ParameterName": each, "ParameterValue": value, "ApplyMethod": "pending-reboot"}
        for each, value in values.items()
    ]
    rds.modify_db_parameter_group(DBParameterGroupName=name, Parameters=given)
    for record in internals.records("rds._instances"):
        status = "pending-reboot" if waits else "in-sync"
        applied = {"DBParameterGroupName": name, "ParameterApplyStatus": status}
        record["DBParameterGroups"] = [applied]


def database_led_to(
    emulator: Emulator,
    service: str,
    name: str,
    variable: str = "DATABASE_HOST",
    after: str = "",
    tls: str = "",
    elsewhere: str = "",
    environment: Mapping[str, str] | None = None,
) -> None:
    """Deploy a service with a database's host, as RDS derives it from its name; `tls` is `rds.force_ssl`.

    `elsewhere` is the part of the host that another account's databases have. Other variables may be added.
    """
    if tls:
        database_set(emulator, waits=False, **{"rds.force_ssl": tls})
    rest = f"c0ffee123456.{REGION}.rds.amazonaws.com"
    for record in internals.records("rds._instances"):
        record["Endpoint"]["Address"] = f"{record['DBInstanceIdentifier']}.{rest}"
    place = f"{elsewhere}.{REGION}.rds.amazonaws.com" if elsewhere else rest
    given = {variable: f"{name}.{place}{after}", **(environment or {})}
    task_definition(emulator, service, environment=given)


def image_missing(emulator: Emulator, build: str) -> None:
    """Delete every image of a build from the registry, like a lifecycle policy."""
    ecr, repository = emulator.aws("ecr"), REPOSITORIES[build]
    images = ecr.list_images(repositoryName=repository)["imageIds"]
    ecr.batch_delete_image(repositoryName=repository, imageIds=images)


def image_pushed_over(emulator: Emulator, service: str, build: str) -> None:
    """Push another image under the tag of a service that does not keep the digest of what it runs.

    The registry keeps the image that runs, too.
    """
    container_set(emulator, service, versionConsistency="disabled")
    tasks_run(emulator, service, digest="own")
    ecr, repository = emulator.aws("ecr"), REPOSITORIES[build]
    (image,) = ecr.list_images(repositoryName=repository)["imageIds"]
    found = ecr.batch_get_image(repositoryName=repository, imageIds=[image])["images"][0]
    manifest = {**json.loads(found["imageManifest"]), "annotations": {"built": "again"}}
    ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="MUTABLE")
    ecr.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=image["imageTag"])


def secret_arn(emulator: Emulator, service: str) -> str:
    """The ARN of a service's signing key."""
    return str(emulator.aws("secretsmanager").describe_secret(SecretId=secret_id(service))["ARN"])

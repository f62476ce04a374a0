"""Alterations of what runs, of what it may read, and of what leads to it.

Names are given without the prefix: service `api`, migration `freeside-migration`, host `finn`. Signing keys
go by the service that signs with them: `freeside`, `finn`, `dixie`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stack.aws import internals
from stack.aws.emulator import Emulator
from stack.aws.inventory import (
    ACCOUNT,
    CLUSTER,
    DATABASE,
    MIGRATIONS,
    OPERATOR,
    OPERATOR_ACTIONS,
    OPERATOR_POLICY,
    PREFIX,
    REGION,
    REPOSITORIES,
    SERVICES,
    ZONE,
    execution_role,
    operator_policy,
    policy,
    role_arn,
    secret_id,
)
from stack.host import LOOPBACK


def service_stopped(emulator: Emulator, service: str) -> None:
    """Stop a service's tasks and start none: running 0 of 1."""
    ecs = emulator.aws("ecs")
    for task in ecs.list_tasks(cluster=CLUSTER, serviceName=f"{PREFIX}-{service}")["taskArns"]:
        ecs.stop_task(cluster=CLUSTER, task=task)


def service_scaled(emulator: Emulator, service: str, desired: int) -> None:
    """Have a service want another number of tasks, and run it."""
    emulator.aws("ecs").update_service(cluster=CLUSTER, service=f"{PREFIX}-{service}", desiredCount=desired)


def service_replaces(emulator: Emulator, service: str, least: int, most: int) -> None:
    """Have a deployment keep a service at so many percent of its tasks."""
    kept = {"minimumHealthyPercent": least, "maximumPercent": most}
    emulator.aws("ecs").update_service(
        cluster=CLUSTER, service=f"{PREFIX}-{service}", deploymentConfiguration=kept
    )


def service_missing(emulator: Emulator, service: str) -> None:
    """Delete a service."""
    emulator.aws("ecs").delete_service(cluster=CLUSTER, service=f"{PREFIX}-{service}", force=True)


def rollout(_: Emulator, service: str, state: str) -> None:
    """Have a service's deployment be IN_PROGRESS or FAILED."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    record["deployments"][0]["rolloutState"] = state


def tasks_left_behind(emulator: Emulator, service: str) -> None:
    """Have a service want a newer revision, its deployment be over, and its tasks run the one before."""
    ecs, family = emulator.aws("ecs"), f"{PREFIX}-{service}"
    made = ecs.register_task_definition(**_registered(emulator, family))["taskDefinition"]
    record = internals.service_record(CLUSTER, family)
    for each in (record, record["deployments"][0]):
        each["taskDefinition"] = made["taskDefinitionArn"]


def tasks_run(_: Emulator, service: str, tag: str = "", health: str = "") -> None:
    """Have the tasks of a service run an image of another tag, or be of another health."""
    for task in internals.task_records(f"{PREFIX}-{service}"):
        task["healthStatus"] = health or task["healthStatus"]
        for container in task["containers"]:
            container["image"] = _image(container["image"], tag, "", "")


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
    """Leave a service with an old deployment that never drained."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    old = {**record["deployments"][0], "id": "ecs-svc/0000000000000000000", "status": "ACTIVE"}
    record["deployments"].append(old)


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
    ecs, family = emulator.aws("ecs"), f"{PREFIX}-{service}"
    definition = _registered(emulator, family)
    container = definition["containerDefinitions"][0]
    if digest == "own":
        digest = _digest(emulator, container["image"])
    container["image"] = _image(container["image"], tag, image, digest)
    if execution_role_of:
        definition["executionRoleArn"] = role_arn(execution_role(execution_role_of))
    if task_role_of:
        definition["taskRoleArn"] = role_arn(f"{PREFIX}-{task_role_of}-task")
    if secret_of:
        container["secrets"] = [{"name": "ES256_PRIVATE_KEY", "valueFrom": _secret_arn(emulator, secret_of)}]
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
    ecs.register_task_definition(**{**definition, **settings})
    ecs.update_service(cluster=CLUSTER, service=family, taskDefinition=family)


def key_pinned(emulator: Emulator, service: str, to: str) -> None:
    """Deploy a service with one version of its signing key, or one stage: what follows the secret's ARN."""
    ecs, family = emulator.aws("ecs"), f"{PREFIX}-{service}"
    definition = _registered(emulator, family)
    (given,) = definition["containerDefinitions"][0]["secrets"]
    given["valueFrom"] += to
    ecs.register_task_definition(**definition)
    ecs.update_service(cluster=CLUSTER, service=family, taskDefinition=family)


def container_set(emulator: Emulator, service: str, **settings: Any) -> None:
    """Deploy a service with other settings of its container, such as the MiB at which that is ended."""
    ecs, family = emulator.aws("ecs"), f"{PREFIX}-{service}"
    definition = _registered(emulator, family)
    definition["containerDefinitions"][0] |= settings
    ecs.register_task_definition(**definition)
    ecs.update_service(cluster=CLUSTER, service=family, taskDefinition=family)


def sidecars(emulator: Emulator) -> None:
    """Deploy every task with a log router and an agent that stand before its own container."""
    ecs = emulator.aws("ecs")
    for family in (*(service.family for service in SERVICES), *MIGRATIONS):
        definition = _registered(emulator, family)
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
        ecs.register_task_definition(**definition)
        if family not in MIGRATIONS:
            ecs.update_service(cluster=CLUSTER, service=family, taskDefinition=family)


def _registered(emulator: Emulator, family: str) -> dict[str, Any]:
    """The arguments of RegisterTaskDefinition that make the newest revision of a family again."""
    described = emulator.aws("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
    taken = ("family", "networkMode", "requiresCompatibilities", "cpu", "memory", "executionRoleArn",
             "taskRoleArn", "containerDefinitions")  # fmt: skip
    return {name: described[name] for name in taken}


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
    definition = _registered(emulator, f"{PREFIX}-{migration}")
    container = definition["containerDefinitions"][0]
    container["image"] = _image(container["image"], tag, "", "")
    container["environment"] += [
        {"name": name, "value": value} for name, value in (environment or {}).items()
    ]
    emulator.aws("ecs").register_task_definition(**definition)


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


def host_alias(emulator: Emulator, host: str) -> None:
    """Have a host's name lead to an internal balancer before its tasks."""
    host_missing(emulator, host)
    discovery = emulator.aws("servicediscovery")
    (service,) = [each for each in discovery.list_services()["Services"] if each["Name"] == host]
    balancer = {"AWS_ALIAS_DNS_NAME": f"internal-{host}-0123456789.{REGION}.elb.amazonaws.com"}
    discovery.register_instance(ServiceId=service["Id"], InstanceId=f"{host}-alias", Attributes=balancer)


def database_missing(emulator: Emulator) -> None:
    """Delete the database instance."""
    emulator.aws("rds").delete_db_instance(DBInstanceIdentifier=DATABASE, SkipFinalSnapshot=True)


def database_is(_: Emulator, state: str) -> None:
    """Have the database instance be in a state."""
    for record in internals.records("rds._instances"):
        record["DBInstanceStatus"] = state


def database_stopped(emulator: Emulator) -> None:
    """Stop the database instance, as one does to save money over a weekend."""
    emulator.aws("rds").stop_db_instance(DBInstanceIdentifier=DATABASE)


def role_reads(emulator: Emulator, service: str, secret_of: str, action: str = "GetSecretValue") -> None:
    """Let a service's execution role read another's signing key, or write it by another action.

    No task definition refers to it.
    """
    emulator.aws("iam").put_role_policy(
        RoleName=execution_role(service),
        PolicyName="also-reads",
        PolicyDocument=policy(Action=f"secretsmanager:{action}", Resource=_secret_arn(emulator, secret_of)),
    )


def role_assumed_by(emulator: Emulator, role: str, principal: str) -> None:
    """Let only this service of AWS act under a role."""
    emulator.aws("iam").update_assume_role_policy(
        RoleName=f"{PREFIX}-{role}",
        PolicyDocument=policy(Principal={"Service": principal}, Action="sts:AssumeRole"),
    )


def role_of_anybody(emulator: Emulator, role: str) -> None:
    """Let whoever there is act under a role, and tasks."""
    trusted = {"Service": "ecs-tasks.amazonaws.com", "AWS": "*"}
    emulator.aws("iam").update_assume_role_policy(
        RoleName=f"{PREFIX}-{role}", PolicyDocument=policy(Principal=trusted, Action="sts:AssumeRole")
    )


def secret_given(
    emulator: Emulator, service: str, *, marked: bool = False, key_for: Sequence[str] | None = None
) -> None:
    """Give a service one more secret, which its role may read.

    It may be marked for deletion, or be encrypted with a key for the execution roles of these services.
    """
    secrets, request = emulator.aws("secretsmanager"), {}
    if key_for is not None:
        users = [f"arn:aws:iam::{ACCOUNT}:root", *(role_arn(execution_role(each)) for each in key_for)]
        allowed = [policy(Principal={"AWS": each}, Action="kms:*", Resource="*") for each in users[:1]]
        allowed += [policy(Principal={"AWS": each}, Action="kms:Decrypt", Resource="*") for each in users[1:]]
        statements = [json.loads(each)["Statement"][0] for each in allowed]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        request["KmsKeyId"] = emulator.aws("kms").create_key(Policy=document)["KeyMetadata"]["Arn"]
    name = f"{PREFIX}/{service}/database"
    arn = secrets.create_secret(Name=name, SecretString="postgres://", **request)["ARN"]
    emulator.aws("iam").put_role_policy(
        RoleName=execution_role(service),
        PolicyName="own-database",
        PolicyDocument=policy(Action="secretsmanager:GetSecretValue", Resource=arn),
    )
    task_definition(emulator, service, secrets={"DATABASE_URL": arn})
    if marked:
        secrets.delete_secret(SecretId=name, RecoveryWindowInDays=7)


def role_lent(emulator: Emulator, service: str, to: str) -> None:
    """Let a service act under another's execution role, by the policies of both roles."""
    iam, name = emulator.aws("iam"), execution_role(service)
    trusted = {"Service": "ecs-tasks.amazonaws.com", "AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    iam.update_assume_role_policy(
        RoleName=name, PolicyDocument=policy(Principal=trusted, Action="sts:AssumeRole")
    )
    iam.put_role_policy(
        RoleName=execution_role(to),
        PolicyName="acts-as-another",
        PolicyDocument=policy(Action="sts:AssumeRole", Resource=role_arn(name)),
    )


def role_missing(emulator: Emulator, role: str) -> None:
    """Delete a role and its own policies."""
    iam, name = emulator.aws("iam"), f"{PREFIX}-{role}"
    role_reads_nothing(emulator, role)
    role_pulls_nothing(emulator, role)
    iam.delete_role(RoleName=name)


def role_pulls_nothing(emulator: Emulator, role: str) -> None:
    """Detach AWS's own policies from a role: it pulls no image, and writes no log."""
    iam, name = emulator.aws("iam"), f"{PREFIX}-{role}"
    for each in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=each["PolicyArn"])


def role_denied(emulator: Emulator, role: str, action: str) -> None:
    """Deny a role an action, whatever else its policies say."""
    document = policy(Effect="Deny", Action=action, Resource="*")
    emulator.aws("iam").put_role_policy(
        RoleName=f"{PREFIX}-{role}", PolicyName="denied", PolicyDocument=document
    )


def role_reads_nothing(emulator: Emulator, role: str) -> None:
    """Delete a role's own policies."""
    iam, name = emulator.aws("iam"), f"{PREFIX}-{role}"
    for each in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=each)


def role_is_administrator(emulator: Emulator, service: str) -> None:
    """Attach AWS's own policy that allows everything to a service's execution role."""
    emulator.aws("iam").attach_role_policy(
        RoleName=execution_role(service), PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
    )


def image_missing(emulator: Emulator, build: str) -> None:
    """Have the registry drop every image of a build, as a rule that lets old ones expire would."""
    ecr, repository = emulator.aws("ecr"), REPOSITORIES[build]
    images = ecr.list_images(repositoryName=repository)["imageIds"]
    ecr.batch_delete_image(repositoryName=repository, imageIds=images)


def credential_shared(emulator: Emulator, services: Sequence[str]) -> None:
    """Give several services one secret that belongs to none of them."""
    created = emulator.aws("secretsmanager").create_secret(Name=f"{PREFIX}/redis", SecretString="shared")
    for service in services:
        task_definition(emulator, service, secrets={"REDIS_PASSWORD": created["ARN"]})


def public_host(emulator: Emulator, service: str, host: str) -> None:
    """Have the load balancer send another host's requests to a service; its own go to the default."""
    elb = emulator.aws("elbv2")
    (balancer,) = elb.describe_load_balancers(Names=[f"{PREFIX}-alb"])["LoadBalancers"]
    (group,) = elb.describe_target_groups(Names=[f"{PREFIX}-{service}-tg"])["TargetGroups"]
    for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]:
        for rule in elb.describe_rules(ListenerArn=listener["ListenerArn"])["Rules"]:
            if rule["Conditions"] and rule["Actions"][0]["TargetGroupArn"] == group["TargetGroupArn"]:
                hosts = {"Field": "host-header", "HostHeaderConfig": {"Values": [host]}}
                elb.modify_rule(RuleArn=rule["RuleArn"], Conditions=[hosts])


def targets_asked(emulator: Emulator, service: str, **settings: Any) -> None:
    """Have a target group ask for health elsewhere; settings as ModifyTargetGroup names them."""
    elb = emulator.aws("elbv2")
    elb.modify_target_group(TargetGroupArn=_target_group(elb, service), **settings)


def registered_as(emulator: Emulator, service: str, host: str) -> None:
    """Have ECS register a service's tasks under the name that is another service's, not under its own."""
    (found,) = [
        each for each in emulator.aws("servicediscovery").list_services()["Services"] if each["Name"] == host
    ]
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    record["serviceRegistries"] = [{"registryArn": found["Arn"]}]


def address_left(emulator: Emulator, host: str) -> None:
    """Leave the address of a task that is gone in Cloud Map, beside those that are there."""
    discovery = emulator.aws("servicediscovery")
    (service,) = [each for each in discovery.list_services()["Services"] if each["Name"] == host]
    gone = {"AWS_INSTANCE_IPV4": "10.0.1.250", "AWS_INSTANCE_PORT": "3000"}
    discovery.register_instance(ServiceId=service["Id"], InstanceId=f"{host}-0", Attributes=gone)


def targets_gone(emulator: Emulator, service: str) -> None:
    """Leave a target group without targets."""
    elb = emulator.aws("elbv2")
    arn = _target_group(elb, service)
    found = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    elb.deregister_targets(TargetGroupArn=arn, Targets=[each["Target"] for each in found])


def listener_moved(emulator: Emulator, port: int) -> None:
    """Have the load balancer serve https on another port."""
    elb = emulator.aws("elbv2")
    elb.modify_listener(ListenerArn=_secure_listener(elb), Port=port)


def insights_disabled(emulator: Emulator) -> None:
    """Have the cluster count no tasks for CloudWatch; what was published stays."""
    off = [{"name": "containerInsights", "value": "disabled"}]
    emulator.aws("ecs").update_cluster_settings(cluster=CLUSTER, settings=off)


def _target_group(elb: Any, service: str) -> str:
    (group,) = elb.describe_target_groups(Names=[f"{PREFIX}-{service}-tg"])["TargetGroups"]
    return str(group["TargetGroupArn"])


def _secure_listener(elb: Any) -> str:
    (balancer,) = elb.describe_load_balancers(Names=[f"{PREFIX}-alb"])["LoadBalancers"]
    listeners = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    return next(str(each["ListenerArn"]) for each in listeners if each["Protocol"] == "HTTPS")


def certificate(
    emulator: Emulator, service: str, host: str = LOOPBACK, days: int = 90, trusted: bool = True
) -> None:
    """Have the load balancer present another certificate for a public service (`freeside`, `dixie`)."""
    emulator.load_balancer.certificate(service, host, days, trusted=trusted)


def certificate_in_acm(_: Emulator, status: str = "issued", days: int = 90) -> None:
    """Have the balancer's certificate be of another status, or end in so many days."""
    ends = datetime.now(UTC) + timedelta(days=days)
    for record in internals.records("acm._certificates"):
        record |= {"Status": status.upper(), "NotAfter": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}


def balancer_rule(
    emulator: Emulator, hosts: Sequence[str], service: str = "", redirect: str = "", paths: Sequence[str] = ()
) -> None:
    """Have a rule before all others send hosts to a service, or redirect them; or answer them by itself."""
    elb = emulator.aws("elbv2")
    action: dict[str, Any] = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503"}}
    if service:
        action = {"Type": "forward", "TargetGroupArn": _target_group(elb, service)}
    elif redirect:
        action = {"Type": "redirect", "RedirectConfig": {"Host": redirect, "StatusCode": "HTTP_302"}}
    conditions = [{"Field": "host-header", "HostHeaderConfig": {"Values": [*hosts]}}]
    if paths:
        conditions.append({"Field": "path-pattern", "PathPatternConfig": {"Values": [*paths]}})
    elb.create_rule(ListenerArn=_secure_listener(elb), Priority=50, Conditions=conditions, Actions=[action])


def balancer_asks_to_log_in(emulator: Emulator, host: str) -> None:
    """Have the rule of a host log people in at an identity provider before it forwards their requests."""
    elb = emulator.aws("elbv2")
    pages = ("AuthorizationEndpoint", "TokenEndpoint", "UserInfoEndpoint")
    provider = {name: f"https://id.example.com/{name}" for name in pages}
    config = {"Issuer": "https://id.example.com", "ClientId": "staging", "ClientSecret": "x", **provider}
    login = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": config}
    for rule in elb.describe_rules(ListenerArn=_secure_listener(elb))["Rules"]:
        if any(host in each.get("HostHeaderConfig", {}).get("Values", ()) for each in rule["Conditions"]):
            forward = {**rule["Actions"][0], "Order": 2}
            elb.modify_rule(RuleArn=rule["RuleArn"], Actions=[login, forward])


def balancer_shared(emulator: Emulator) -> None:
    """Have the balancer be the account's, by its name, with patterns of hosts and a certificate of IAM's."""
    elb = emulator.aws("elbv2")
    listener, bought = _secure_listener(elb), f"arn:aws:iam::{ACCOUNT}:server-certificate/all"
    elb.modify_listener(ListenerArn=listener, Certificates=[{"CertificateArn": bought}])
    for rule in elb.describe_rules(ListenerArn=listener)["Rules"]:
        if rule["Conditions"]:
            hosts = {"Field": "host-header", "HostHeaderConfig": {"Values": ["dixie.*.arrakis.community"]}}
            elb.modify_rule(RuleArn=rule["RuleArn"], Conditions=[hosts])
    for balancer in internals.records("alb._lbs"):
        balancer["LoadBalancerName"] = "shared-public"


def paths_diverted(emulator: Emulator, paths: Sequence[str], service: str = "") -> None:
    """Have the load balancer send paths of all hosts to a service, before it looks at the hosts.

    Without a service it answers them by itself.
    """
    elb = emulator.aws("elbv2")
    fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}
    action = {"Type": "forward", "TargetGroupArn": _target_group(elb, service)} if service else fixed
    elb.create_rule(
        ListenerArn=_secure_listener(elb),
        Priority=100,
        Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": [*paths]}}],
        Actions=[action],
    )


def no_redirect(emulator: Emulator, service: str, *, root: bool = True) -> None:
    """Have the load balancer serve a public service on plain HTTP as well, its root only with ``root``."""
    emulator.load_balancer.serve_plain(service, root=root)


def record_added(emulator: Emulator, name: str, value: str) -> None:
    """Add an alias of DNS to the public zone."""
    route53 = emulator.aws("route53")
    zones = {each["Name"]: each["Id"] for each in route53.list_hosted_zones()["HostedZones"]}
    record = {"Name": name, "Type": "CNAME", "TTL": 300, "ResourceRecords": [{"Value": value}]}
    changes = [{"Action": "CREATE", "ResourceRecordSet": record}]
    route53.change_resource_record_sets(HostedZoneId=zones[f"{ZONE}."], ChangeBatch={"Changes": changes})


def secret_left(emulator: Emulator, name: str) -> None:
    """Leave one more secret of the platform's, which nothing reads."""
    emulator.aws("secretsmanager").create_secret(Name=f"{PREFIX}/{name}", SecretString="left")


def secret_value(emulator: Emulator, service: str, value: str) -> None:
    """Put any text into a secret, such as PLACEHOLDER."""
    emulator.aws("secretsmanager").put_secret_value(SecretId=secret_id(service), SecretString=value)


def secret_on_another_curve(emulator: Emulator, service: str) -> None:
    """Put a P-384 key into a secret."""
    secret_value(emulator, service, new_key(ec.SECP384R1()))


def secret_copied(emulator: Emulator, service: str, of: str) -> None:
    """Put another service's key into a secret."""
    secret_value(emulator, service, _secret(emulator, of))


def secret_renewed(emulator: Emulator, service: str) -> None:
    """Put a fresh key into a secret, as a rotation without any overlap would."""
    secret_value(emulator, service, new_key())


def secret_half_rotated(emulator: Emulator, service: str) -> None:
    """Add a pending key that no run of a rotation will ever finish."""
    active = {"schemaVersion": 1, "activeKid": "by-hand", "privateKey": _secret(emulator, service)}
    pending = {"pendingKid": "left-behind", "pendingPrivateKey": new_key()}
    secret_value(emulator, service, json.dumps({**active, **pending}))


def secret_missing(emulator: Emulator, service: str, days: int = 0) -> None:
    """Delete a secret at once, or mark it for deletion in so many days."""
    how: dict[str, Any] = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
    emulator.aws("secretsmanager").delete_secret(SecretId=secret_id(service), **how)


def operator_lacks(emulator: Emulator, action: str) -> None:
    """Take one action of Secrets Manager from the role that rotates the keys."""
    iam = emulator.aws("iam")
    found = iam.get_role_policy(RoleName=OPERATOR, PolicyName=OPERATOR_POLICY)["PolicyDocument"]
    left = [allowed for allowed in OPERATOR_ACTIONS if allowed != action]
    document = operator_policy(left, found["Statement"][0]["Resource"])
    iam.put_role_policy(RoleName=OPERATOR, PolicyName=OPERATOR_POLICY, PolicyDocument=document)


def new_key(curve: ec.EllipticCurve | None = None) -> str:
    """Return a fresh private key, PKCS#8 PEM, on P-256 or on another curve."""
    return (
        ec.generate_private_key(curve or ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )


def _secret(emulator: Emulator, service: str) -> str:
    answer = emulator.aws("secretsmanager").get_secret_value(SecretId=secret_id(service))
    return str(answer["SecretString"])


def _secret_arn(emulator: Emulator, service: str) -> str:
    return str(emulator.aws("secretsmanager").describe_secret(SecretId=secret_id(service))["ARN"])


ALTERATIONS = (
    service_stopped, service_scaled, service_replaces, service_missing, rollout, service_deployed_by,
    service_as_daemon, two_deployments, tasks_left_behind, tasks_run, task_definition, key_pinned,
    container_set, sidecars,
    security_group_shared, migration_run, migration_missing, migration_changed, migration_in_service,
    host_missing, host_alias, database_missing, database_stopped, database_is,
    role_reads, role_is_administrator,
    image_missing, role_assumed_by, role_of_anybody, secret_given, role_lent, role_missing,
    role_pulls_nothing, role_denied, role_reads_nothing, credential_shared,
    public_host, certificate, certificate_in_acm,
    balancer_rule, balancer_asks_to_log_in, balancer_shared, no_redirect, paths_diverted, targets_asked,
    targets_gone, registered_as,
    address_left,
    listener_moved,
    insights_disabled, record_added, secret_left, secret_value,
    secret_on_another_curve, secret_copied, secret_renewed, secret_half_rotated, secret_missing,
    operator_lacks,
)  # fmt: skip

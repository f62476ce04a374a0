"""Seeds what runs: images, log groups, roles, task definitions, ECS services, migrations, the database."""

import json
from typing import Any

from stack.aws.clients import Clients
from stack.aws.inventory import (
    CLUSTER,
    DATABASE,
    MIGRATIONS,
    REPOSITORIES,
    RETENTION_DAYS,
    SERVICES,
    EcsService,
    execution_role,
    policy,
    task_definition,
)
from stack.aws.names import PREFIX, build_sha, secret_id
from stack.aws.network import Network

ASSUMED_BY_ECS = policy(Principal={"Service": "ecs-tasks.amazonaws.com"}, Action="sts:AssumeRole")


def seed(aws: Clients, net: Network, secret_arns: dict[str, str]) -> None:
    """Create everything that runs, and run both migrations once."""
    _images(aws("ecr"))
    _roles(aws("iam"), secret_arns)
    logs, ecs = aws("logs"), aws("ecs")
    ecs.create_cluster(clusterName=CLUSTER, settings=[{"name": "containerInsights", "value": "enabled"}])
    for service in SERVICES:
        logs.create_log_group(logGroupName=service.log_group)
        logs.put_retention_policy(logGroupName=service.log_group, retentionInDays=RETENTION_DAYS)
    for family, service in MIGRATIONS.items():
        ecs.register_task_definition(**task_definition(family, service, secret_arns, one_shot=True))
        ecs.run_task(cluster=CLUSTER, taskDefinition=family, launchType="FARGATE", startedBy="deploy-staging")
    for service in SERVICES:
        ecs.register_task_definition(**task_definition(service.family, service, secret_arns))
        ecs.create_service(**_service(service, net))
    aws("rds").create_db_instance(
        DBInstanceIdentifier=DATABASE,
        DBInstanceClass="db.t3.micro",
        Engine="postgres",
        EngineVersion="15.10",
        AllocatedStorage=20,
        MasterUsername="arrakis",
        ManageMasterUserPassword=True,
    )


def migrations_are_over(aws: Clients) -> bool:
    """Whether the last run of every migration has stopped."""
    ecs = aws("ecs")
    return all(
        ecs.list_tasks(cluster=CLUSTER, family=family, desiredStatus="STOPPED")["taskArns"]
        for family in MIGRATIONS
    )


def _images(ecr: Any) -> None:
    for build, name in REPOSITORIES.items():
        ecr.create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"digest": f"sha256:{build_sha(build):0<64}"},
            "layers": [],
        }
        ecr.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag=build_sha(build))


def _roles(iam: Any, secret_arns: dict[str, str]) -> None:
    owners = [(service.name, service.signer) for service in SERVICES]
    owners += [(f"{service.name}-migration", "") for service in MIGRATIONS.values()]
    for name, signer in owners:
        execution = execution_role(name)
        for role in (execution, f"{PREFIX}-{name}-task"):
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=ASSUMED_BY_ECS)
        if signer:
            reads = policy(Action="secretsmanager:GetSecretValue", Resource=secret_arns[secret_id(signer)])
            iam.put_role_policy(RoleName=execution, PolicyName="own-secret", PolicyDocument=reads)


def _service(service: EcsService, net: Network) -> dict[str, Any]:
    request: dict[str, Any] = {
        "cluster": CLUSTER,
        "serviceName": service.family,
        "taskDefinition": service.family,
        "desiredCount": 1,
        "launchType": "FARGATE",
        "deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": True, "rollback": True}},
        "networkConfiguration": {
            "awsvpcConfiguration": {
                "subnets": net.subnets,
                "securityGroups": [net.security_groups[service.name]],
                "assignPublicIp": "DISABLED",
            }
        },
    }
    if service.name in net.target_groups:
        request["loadBalancers"] = [
            {
                "targetGroupArn": net.target_groups[service.name],
                "containerName": service.name,
                "containerPort": service.port,
            }
        ]
    if service.name in net.registries:
        request["serviceRegistries"] = [{"registryArn": net.registries[service.name]}]
    return request

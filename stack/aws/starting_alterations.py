"""Alterations of what tasks need to start again, and of how they stop: secrets, parameters, boundaries."""

import copy
import json
import time
from typing import Any

from stack.aws import internals
from stack.aws.emulator import Emulator
from stack.aws.inventory import ACCOUNT, CLUSTER, PREFIX, REGION, TOPIC, execution_role, policy
from stack.aws.platform_alterations import container_set, own_container, registered, secret_arn


def secret_denied(emulator: Emulator, service: str) -> None:
    """Make the policy of a signing key's secret deny everybody access."""
    reads = {"Action": "secretsmanager:GetSecretValue", "Resource": "*"}
    everybody = {"Effect": "Deny", "Principal": "*", **reads}
    emulator.aws("secretsmanager").put_resource_policy(
        SecretId=secret_arn(emulator, service),
        ResourcePolicy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]}),
    )


def parameter_given(emulator: Emulator, service: str, *, there: bool = True, allowed: bool = True) -> None:
    """Give a service's task a Systems Manager parameter, which may be deleted or not readable for it."""
    name = f"/{PREFIX}/{service}/model-key"
    arn = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}"
    if there:
        emulator.aws("ssm").put_parameter(Name=name, Value="secret", Type="SecureString")
    if allowed:
        emulator.aws("iam").put_role_policy(
            RoleName=execution_role(service),
            PolicyName="parameters",
            PolicyDocument=policy(Action="ssm:GetParameters", Resource=arn),
        )
    family = internals.service_record(CLUSTER, f"{PREFIX}-{service}")["taskDefinition"]
    told = emulator.aws("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
    given = told["containerDefinitions"][0].get("secrets", [])
    container_set(emulator, service, secrets=[*given, {"name": "MODEL_KEY", "valueFrom": arn}])


def given_beside(emulator: Emulator, service: str, by: str) -> None:
    """Give a service's task something that is gone: `registry` credentials, or a secret for its `logs`."""
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{PREFIX}/{service}/{by}-AbCdEf"
    emulator.aws("iam").put_role_policy(
        RoleName=execution_role(service),
        PolicyName=by,
        PolicyDocument=policy(Action="secretsmanager:GetSecretValue", Resource=arn),
    )
    if by == "registry":
        container_set(emulator, service, repositoryCredentials={"credentialsParameter": arn})
        return
    driver = own_container(registered(emulator, f"{PREFIX}-{service}"))["logConfiguration"]
    options = [{"name": "apikey", "valueFrom": arn}]
    container_set(emulator, service, logConfiguration={**driver, "secretOptions": options})


def settings_in_a_file(emulator: Emulator, service: str) -> None:
    """Deploy a service with its variables in a file instead of its task definition."""
    file = {"type": "s3", "value": f"arn:aws:s3:::{PREFIX}-settings/{service}.env"}
    container_set(emulator, service, environment=[], environmentFiles=[file])


def subnet_gone(_: Emulator, service: str) -> None:
    """Leave a deleted subnet among those of a service."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    network = record["networkConfiguration"]["awsvpcConfiguration"]
    network["subnets"] = [*network["subnets"], "subnet-0123456789abcdef0"]


def role_bounded(emulator: Emulator, service: str, action: str) -> None:
    """Add a permissions boundary that allows a service's execution role only one action."""
    iam = emulator.aws("iam")
    document = policy(Action=action, Resource="*")
    arn = iam.create_policy(PolicyName=f"{PREFIX}-boundary", PolicyDocument=document)["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName=execution_role(service), PermissionsBoundary=arn)


def topic_queue_encrypted(emulator: Emulator, user: str) -> None:
    """Encrypt the queue that is subscribed to the alerts with a key of its own, for this service of AWS."""
    used = policy(Principal={"Service": user}, Action=["kms:Decrypt", "kms:GenerateDataKey*"], Resource="*")
    key = emulator.aws("kms").create_key(Description=TOPIC, Policy=used)["KeyMetadata"]["Arn"]
    sqs = emulator.aws("sqs")
    url = sqs.get_queue_url(QueueName=f"{TOPIC}-on-call")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": key})


def tasks_ended(
    _: Emulator,
    service: str,
    count: int,
    code: str = "EssentialContainerExited",
    ago_s: float = 0,
    age_s: float = 0,
) -> None:
    """Have a task of a service have ended every minute until ``ago_s``, for a reason by its code.

    Each became 5 minutes old. The one that runs is ``age_s`` old.
    """
    (running, *_rest) = internals.task_records(f"{PREFIX}-{service}")
    tasks: Any = internals.stores()["ministack.services.ecs", "_tasks"]
    now = time.time()
    for number in range(count):
        arn = f"{running['taskArn'][:-8]}{number:08d}"
        at = now - ago_s - 60 * number
        ended = {"taskArn": arn, "lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stopCode": code}
        told = {"stoppedReason": "Essential container in task exited", "startedAt": at - 300, "stoppedAt": at}
        tasks[arn] = copy.deepcopy(running) | ended | told
    running["startedAt"] = now - age_s


def registry_gone(_: Emulator, service: str) -> None:
    """Make a service refer to a deleted Cloud Map service."""
    record = internals.service_record(CLUSTER, f"{PREFIX}-{service}")
    (registry,) = record["serviceRegistries"]
    record["serviceRegistries"] = [{**registry, "registryArn": f"{registry['registryArn'][:-8]}00000000"}]


def targets_by(_: Emulator, protocol: str) -> None:
    """Make the target groups forward over another protocol."""
    for each in internals.records("alb._tgs"):
        each["Protocol"] = protocol


ALTERATIONS = (
    secret_denied, parameter_given, given_beside, settings_in_a_file, subnet_gone, role_bounded,
    topic_queue_encrypted, tasks_ended, registry_gone,
    targets_by,
)  # fmt: skip

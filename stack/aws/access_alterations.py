"""Alterations of access: roles, secrets and keys, parameters, and what tasks need to start again."""

import copy
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stack.aws import internals
from stack.aws.emulator import Emulator
from stack.aws.inventory import (
    ACCOUNT,
    CLUSTER,
    OPERATOR,
    OPERATOR_ACTIONS,
    OPERATOR_POLICY,
    PREFIX,
    REGION,
    REPOSITORIES,
    TOPIC,
    execution_role,
    operator_policy,
    policy,
    role_arn,
    secret_id,
)
from stack.aws.platform_alterations import (
    container_set,
    deployed,
    new_kms_key,
    own_container,
    registered,
    secret_arn,
    task_definition,
)


def role_reads(emulator: Emulator, service: str, secret_of: str, action: str = "GetSecretValue") -> None:
    """Let a service's execution role read another's signing key, or write it by another action.

    No task definition refers to it.
    """
    secret = secret_arn(emulator, secret_of)
    _permit(emulator, execution_role(service), Action=f"secretsmanager:{action}", Resource=secret)


def _permit(emulator: Emulator, role: str, **statement: Any) -> None:
    """Give a role a policy of its own with one statement."""
    name = f"added-{uuid.uuid4()}"
    iam = emulator.aws("iam")
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=policy(**statement))


def _trust(emulator: Emulator, role: str, **principal: str) -> None:
    """Let these alone assume a role."""
    document = policy(Principal=principal, Action="sts:AssumeRole")
    emulator.aws("iam").update_assume_role_policy(RoleName=role, PolicyDocument=document)


def role_assumed_by(emulator: Emulator, role: str, **principal: str) -> None:
    """Let only this AWS service, or account, assume a role."""
    _trust(emulator, f"{PREFIX}-{role}", **principal)


def role_conditioned(emulator: Emulator, role: str, condition: Mapping[str, Any], policy: str = "") -> None:
    """Add a condition to the statements of a role's trust, or to those of one of its own policies."""
    iam, name = emulator.aws("iam"), f"{PREFIX}-{role}"
    document = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    if policy:
        document = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
    for statement in document["Statement"]:
        statement["Condition"] = condition
    if policy:
        iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))
    else:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(document))


def secret_given(
    emulator: Emulator, service: str, *, marked: bool = False, key_for: Sequence[str] | None = None
) -> None:
    """Give a service one more secret, which its role may read.

    It may be scheduled for deletion, or be encrypted with a key for these services' execution roles.
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
    _permit(emulator, execution_role(service), Action="secretsmanager:GetSecretValue", Resource=arn)
    task_definition(emulator, service, secrets={"DATABASE_URL": arn})
    if marked:
        secrets.delete_secret(SecretId=name, RecoveryWindowInDays=7)


def role_lent(emulator: Emulator, service: str, to: str) -> None:
    """Let a service assume another's execution role, by the policies of both roles."""
    lent = execution_role(service)
    _trust(emulator, lent, Service="ecs-tasks.amazonaws.com", AWS=f"arn:aws:iam::{ACCOUNT}:root")
    _permit(emulator, execution_role(to), Action="sts:AssumeRole", Resource=role_arn(lent))


def role_missing(emulator: Emulator, role: str) -> None:
    """Delete a role and its own policies."""
    iam, name = emulator.aws("iam"), f"{PREFIX}-{role}"
    role_reads_nothing(emulator, role)
    role_pulls_nothing(emulator, role)
    iam.delete_role(RoleName=name)


def role_pulls_nothing(emulator: Emulator, role: str) -> None:
    """Detach AWS's managed policies from a role: it cannot pull images or write logs."""
    iam, name = emulator.aws("iam"), f"{PREFIX}-{role}"
    for each in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=each["PolicyArn"])


def role_pulls_only(emulator: Emulator, role: str, actions: Sequence[str]) -> None:
    """Let a role do only these actions, instead of what AWS's own policies allow."""
    role_pulls_nothing(emulator, role)
    _permit(emulator, f"{PREFIX}-{role}", Action=[*actions], Resource="*")


def role_denied(emulator: Emulator, role: str, action: str) -> None:
    """Deny a role an action, whatever else its policies say."""
    _permit(emulator, f"{PREFIX}-{role}", Effect="Deny", Action=action, Resource="*")


def role_reads_nothing(emulator: Emulator, role: str) -> None:
    """Delete a role's own policies."""
    iam, name = emulator.aws("iam"), f"{PREFIX}-{role}"
    for each in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        iam.delete_role_policy(RoleName=name, PolicyName=each)


def credential_shared(emulator: Emulator, services: Sequence[str]) -> None:
    """Give several services one secret that belongs to none of them."""
    created = emulator.aws("secretsmanager").create_secret(Name=f"{PREFIX}/redis", SecretString="shared")
    for service in services:
        task_definition(emulator, service, secrets={"REDIS_PASSWORD": created["ARN"]})


def key_pinned(emulator: Emulator, service: str, to: str) -> None:
    """Deploy a service with a pinned version or stage of its signing key, by a suffix of the secret's ARN."""
    definition = registered(emulator, f"{PREFIX}-{service}")
    (given,) = definition["containerDefinitions"][0]["secrets"]
    given["valueFrom"] += to
    deployed(emulator, definition)


def secret_value(
    emulator: Emulator, service: str, value: str = "", of: str = "", curve: str = "P256"
) -> None:
    """Put any text into a secret, such as PLACEHOLDER, or another service's key, or a new one on a curve.

    A new key is like a rotation without overlap.
    """
    value = value or (_secret(emulator, of) if of else new_key(curve))
    emulator.aws("secretsmanager").put_secret_value(SecretId=secret_id(service), SecretString=value)


def secret_half_rotated(emulator: Emulator, service: str) -> None:
    """Add a pending key that no run of a rotation will ever finish."""
    active = {"schemaVersion": 1, "activeKid": "by-hand", "privateKey": _secret(emulator, service)}
    pending = {"pendingKid": "left-behind", "pendingPrivateKey": new_key()}
    secret_value(emulator, service, json.dumps({**active, **pending}))


def secret_missing(emulator: Emulator, service: str, days: int = 0) -> None:
    """Delete a secret at once, or schedule its deletion in this many days."""
    how: dict[str, Any] = {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
    emulator.aws("secretsmanager").delete_secret(SecretId=secret_id(service), **how)


def operator_lacks(emulator: Emulator, action: str) -> None:
    """Deny the role that rotates the keys one Secrets Manager action."""
    iam = emulator.aws("iam")
    found = iam.get_role_policy(RoleName=OPERATOR, PolicyName=OPERATOR_POLICY)["PolicyDocument"]
    left = [allowed for allowed in OPERATOR_ACTIONS if allowed != action]
    document = operator_policy(left, found["Statement"][0]["Resource"])
    iam.put_role_policy(RoleName=OPERATOR, PolicyName=OPERATOR_POLICY, PolicyDocument=document)


def new_key(curve: str = "P256") -> str:
    """Return a fresh private key, PKCS#8 PEM, on P-256 or P-384."""
    key = ec.generate_private_key({"P256": ec.SECP256R1, "P384": ec.SECP384R1}[curve]())
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(serialization.Encoding.PEM, *form).decode()


def _secret(emulator: Emulator, service: str) -> str:
    answer = emulator.aws("secretsmanager").get_secret_value(SecretId=secret_id(service))
    return str(answer["SecretString"])


def secret_denied(emulator: Emulator, service: str, **condition: Mapping[str, Any]) -> None:
    """Make the policy of a signing key's secret deny everybody access, on a condition if there is one."""
    reads = {"Action": "secretsmanager:GetSecretValue", "Resource": "*", "Condition": condition}
    everybody = {"Effect": "Deny", "Principal": "*", **reads}
    emulator.aws("secretsmanager").put_resource_policy(
        SecretId=secret_arn(emulator, service),
        ResourcePolicy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]}),
    )


def parameter_given(
    emulator: Emulator, service: str, *, there: bool = True, allowed: bool = True, key: str = ""
) -> None:
    """Give a service's task a Systems Manager parameter, which may be deleted or unreadable to it.

    Its key, if it has its own, is in the state `key`.
    """
    name = f"/{PREFIX}/{service}/model-key"
    arn = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}"
    if there:
        own = {"KeyId": new_kms_key(emulator, key)} if key else {}
        emulator.aws("ssm").put_parameter(Name=name, Value="secret", Type="SecureString", **own)
    if allowed:
        _permit(emulator, execution_role(service), Action="ssm:GetParameters", Resource=arn)
    family = internals.service_record(CLUSTER, f"{PREFIX}-{service}")["taskDefinition"]
    definition = emulator.aws("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
    given = definition["containerDefinitions"][0].get("secrets", [])
    container_set(emulator, service, secrets=[*given, {"name": "MODEL_KEY", "valueFrom": arn}])


def secret_unrotated(emulator: Emulator, service: str, *, pending: bool = False, by: str = "") -> None:
    """Have the rotation of a signing key fail for two days, or stay `pending` for as long.

    If a function of this name is to rotate it, that is still to come.
    """
    arn, before = secret_arn(emulator, service), int(time.time()) - 2 * 86400
    if pending:
        emulator.aws("secretsmanager").put_secret_value(
            SecretId=arn, SecretString="next", VersionStages=["AWSPENDING"]
        )
    for each in internals.records("secretsmanager._secrets"):
        if each["ARN"] == arn:
            due = before + 30 * 86400 if pending or by else before
            each |= {"RotationEnabled": True, "LastChangedDate": before, "NextRotationDate": due}
            each |= {"RotationLambdaARN": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{by}"} if by else {}


def logs_encrypted(emulator: Emulator, service: str, state: str = "Enabled", user: str = "logs") -> None:
    """Encrypt a service's log group with a key for a service of AWS, which has a state."""
    used = policy(Principal={"Service": f"{user}.{REGION}.amazonaws.com"}, Action="kms:*", Resource="*")
    key = new_kms_key(emulator, state, Policy=used)
    for group in internals.records("cloudwatch_logs._log_groups"):
        if group["arn"].removesuffix(":*").endswith(f":/ecs/{PREFIX}/{service}"):
            group["kmsKeyId"] = key


def repository_encrypted(emulator: Emulator, build: str, state: str = "Enabled") -> None:
    """Encrypt a build's repository with a key of its own, which has a state."""
    encryption = {"encryptionType": "KMS", "kmsKey": new_kms_key(emulator, state)}
    for each in internals.records("ecr._repositories"):
        if each["repositoryName"] == REPOSITORIES[build]:
            each["encryptionConfiguration"] = encryption


def given_beside(emulator: Emulator, service: str, by: str) -> None:
    """Give a service's task something that is gone: `registry` credentials, or a secret for its `logs`."""
    arn = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{PREFIX}/{service}/{by}-AbCdEf"
    _permit(emulator, execution_role(service), Action="secretsmanager:GetSecretValue", Resource=arn)
    if by == "registry":
        container_set(emulator, service, repositoryCredentials={"credentialsParameter": arn})
        return
    driver = own_container(registered(emulator, f"{PREFIX}-{service}"))["logConfiguration"]
    options = [{"name": "apikey", "valueFrom": arn}]
    container_set(emulator, service, logConfiguration={**driver, "secretOptions": options})


def settings_in_a_file(emulator: Emulator, service: str, *, there: bool = True) -> None:
    """Deploy a service with its variables in a file instead of its task definition; S3 may not have it."""
    s3, bucket = emulator.aws("s3"), f"{PREFIX}-settings"
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=f"{service}.env.before", Body=b"")
    s3.put_object(Bucket=bucket, Key=f"{service}.env", Body=b"NATS_OPTIONAL=true")
    if not there:
        s3.delete_object(Bucket=bucket, Key=f"{service}.env")
    file = {"type": "s3", "value": f"arn:aws:s3:::{PREFIX}-settings/{service}.env"}
    container_set(emulator, service, environment=[], environmentFiles=[file])


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


def topic_firehose(emulator: Emulator, role: str = "firehose") -> None:
    """Make a stream of Firehose that is gone the only subscription to the alerts, written to as a role."""
    sns, arn = emulator.aws("sns"), f"arn:aws:sns:{REGION}:{ACCOUNT}:{TOPIC}"
    for each in sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=each["SubscriptionArn"])
    sns.subscribe(
        TopicArn=arn,
        Protocol="firehose",
        Endpoint=f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/{TOPIC}",
        Attributes={"SubscriptionRoleArn": role_arn(f"{PREFIX}-{role}")},
    )


def tasks_ended(
    _: Emulator,
    service: str,
    count: int,
    code: str = "EssentialContainerExited",
    ago_s: float = 0,
    age_s: float = 0,
) -> None:
    """Pretend that a task of a service ended every minute until ``ago_s``, for a reason by its code.

    Each became 5 minutes old. The one that runs is ``age_s`` old.
    """
    (running, *_rest) = internals.task_records(f"{PREFIX}-{service}")
    tasks: Any = internals.stores()["ministack.services.ecs", "_tasks"]
    now = time.time()
    for number in range(count):
        arn = f"{running['taskArn'][:-8]}{number:08d}"
        at = now - ago_s - 60 * number
        ended = {"taskArn": arn, "lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stopCode": code}
        why = {"stoppedReason": "Essential container in task exited"}
        tasks[arn] = copy.deepcopy(running) | ended | why | {"startedAt": at - 300, "stoppedAt": at}
    running["startedAt"] = now - age_s


def secret_encrypted(
    emulator: Emulator,
    service: str,
    users: Sequence[Mapping[str, Any]],
    condition: Mapping[str, Any] | None = None,
    days: int = 0,
) -> None:
    """Encrypt a service's signing key with a key whose policy has statements about these users.

    They are users of the account, such as `root`. The service's execution role may decrypt on a condition;
    the key operator may use the key, which may end in some days.
    """
    arn = f"arn:aws:iam::{ACCOUNT}:"
    statements = [{"Effect": "Allow", "Action": "kms:*", "Resource": "*", **each} for each in users]
    named = [{**each, "Principal": {"AWS": f"{arn}{each['Principal']}"}} for each in statements]
    document = json.dumps({"Version": "2012-10-17", "Statement": named})
    key = new_kms_key(emulator, "Enabled", days, Policy=document)
    emulator.aws("secretsmanager").update_secret(SecretId=secret_id(service), KmsKeyId=key)
    on = dict(condition or {})
    _permit(emulator, execution_role(service), Action="kms:Decrypt", Resource=key, Condition=on)
    _permit(emulator, OPERATOR, Action=["kms:Decrypt", "kms:GenerateDataKey"], Resource=key)

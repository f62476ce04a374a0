"""Alterations of access: roles, secrets with their encryption keys, and the signing keys in them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stack.aws.emulator import Emulator
from stack.aws.inventory import (
    ACCOUNT,
    CLUSTER,
    OPERATOR,
    OPERATOR_ACTIONS,
    OPERATOR_POLICY,
    PREFIX,
    execution_role,
    operator_policy,
    policy,
    role_arn,
    secret_id,
)
from stack.aws.platform_alterations import registered, secret_arn, task_definition


def role_reads(emulator: Emulator, service: str, secret_of: str, action: str = "GetSecretValue") -> None:
    """Let a service's execution role read another's signing key, or write it by another action.

    No task definition refers to it.
    """
    emulator.aws("iam").put_role_policy(
        RoleName=execution_role(service),
        PolicyName="also-reads",
        PolicyDocument=policy(Action=f"secretsmanager:{action}", Resource=secret_arn(emulator, secret_of)),
    )


def role_assumed_by(emulator: Emulator, role: str, principal: str) -> None:
    """Let only this AWS service assume a role."""
    emulator.aws("iam").update_assume_role_policy(
        RoleName=f"{PREFIX}-{role}",
        PolicyDocument=policy(Principal={"Service": principal}, Action="sts:AssumeRole"),
    )


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


def role_of_anybody(emulator: Emulator, role: str) -> None:
    """Let anybody assume a role, including tasks."""
    trusted = {"Service": "ecs-tasks.amazonaws.com", "AWS": "*"}
    emulator.aws("iam").update_assume_role_policy(
        RoleName=f"{PREFIX}-{role}", PolicyDocument=policy(Principal=trusted, Action="sts:AssumeRole")
    )


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
    emulator.aws("iam").put_role_policy(
        RoleName=execution_role(service),
        PolicyName="own-database",
        PolicyDocument=policy(Action="secretsmanager:GetSecretValue", Resource=arn),
    )
    task_definition(emulator, service, secrets={"DATABASE_URL": arn})
    if marked:
        secrets.delete_secret(SecretId=name, RecoveryWindowInDays=7)


def role_lent(emulator: Emulator, service: str, to: str) -> None:
    """Let a service assume another's execution role, by the policies of both roles."""
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
    """Detach AWS's managed policies from a role: it cannot pull images or write logs."""
    iam, name = emulator.aws("iam"), f"{PREFIX}-{role}"
    for each in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=name, PolicyArn=each["PolicyArn"])


def role_pulls_only(emulator: Emulator, role: str, actions: Sequence[str]) -> None:
    """Have a role do these alone instead of what AWS's own policies let it."""
    role_pulls_nothing(emulator, role)
    emulator.aws("iam").put_role_policy(
        RoleName=f"{PREFIX}-{role}",
        PolicyName="starts",
        PolicyDocument=policy(Action=[*actions], Resource="*"),
    )


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


def credential_shared(emulator: Emulator, services: Sequence[str]) -> None:
    """Give several services one secret that belongs to none of them."""
    created = emulator.aws("secretsmanager").create_secret(Name=f"{PREFIX}/redis", SecretString="shared")
    for service in services:
        task_definition(emulator, service, secrets={"REDIS_PASSWORD": created["ARN"]})


def key_pinned(emulator: Emulator, service: str, to: str) -> None:
    """Deploy a service with a pinned version or stage of its signing key, by a suffix of the secret's ARN."""
    ecs, family = emulator.aws("ecs"), f"{PREFIX}-{service}"
    definition = registered(emulator, family)
    (given,) = definition["containerDefinitions"][0]["secrets"]
    given["valueFrom"] += to
    ecs.register_task_definition(**definition)
    ecs.update_service(cluster=CLUSTER, service=family, taskDefinition=family)


def secret_left(emulator: Emulator, name: str) -> None:
    """Leave an additional secret of the platform's that nothing reads."""
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
    """Put a new key into a secret, like a rotation without overlap."""
    secret_value(emulator, service, new_key())


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


ALTERATIONS = (
    role_reads, role_assumed_by, role_conditioned, role_of_anybody, secret_given, role_lent, role_missing,
    role_pulls_nothing, role_pulls_only, role_denied, role_reads_nothing, role_is_administrator,
    credential_shared, key_pinned, secret_left, secret_value, secret_on_another_curve, secret_copied,
    secret_renewed, secret_half_rotated, secret_missing, operator_lacks,
)  # fmt: skip

"""Alterations of what keeps services apart and leads to them: role policies, secrets, the load balancer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from stack.aws.altered_compute import deploy
from stack.aws.inventory import execution_role
from stack.aws.names import PREFIX, secret_id
from stack.host import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stack.aws.emulator import Alteration, Emulator


def role_reads(emulator: Emulator, service: str, secret_of: str) -> None:
    """Let a service's execution role read another service's signing key; no task definition refers to it."""
    secret = emulator.aws("secretsmanager").describe_secret(SecretId=secret_id(secret_of))["ARN"]
    statement = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": secret}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    emulator.aws("iam").put_role_policy(
        RoleName=execution_role(service), PolicyName="also-reads", PolicyDocument=document
    )


def credential_shared(emulator: Emulator, services: Sequence[str]) -> None:
    """Give several services one secret that is nobody's in particular."""
    secret = emulator.aws("secretsmanager").create_secret(Name=f"{PREFIX}/redis", SecretString="shared")[
        "ARN"
    ]
    for service in services:
        deploy(emulator, service, secrets={"REDIS_PASSWORD": secret})


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


def certificate(
    emulator: Emulator, service: str, host: str = LOOPBACK, days: int = 90, trusted: bool = True
) -> None:
    """Have the load balancer present another certificate for a public service (`freeside`, `dixie`)."""
    emulator.load_balancer.certificate(service, host, days, trusted=trusted)


def no_redirect(emulator: Emulator, service: str) -> None:
    """Have the load balancer serve a public service on plain HTTP as well."""
    emulator.load_balancer.redirect(service, on=False)


def service_unwatched(emulator: Emulator, service: str) -> None:
    """Delete every alarm on a service."""
    cloudwatch = emulator.aws("cloudwatch")
    found = cloudwatch.describe_alarms(AlarmNamePrefix=f"{PREFIX}-{service}-")["MetricAlarms"]
    cloudwatch.delete_alarms(AlarmNames=[alarm["AlarmName"] for alarm in found])


ALTERATIONS: dict[str, Alteration] = {
    "role-reads": role_reads,
    "credential-shared": credential_shared,
    "public-host": public_host,
    "certificate": certificate,
    "no-redirect": no_redirect,
    "service-unwatched": service_unwatched,
}

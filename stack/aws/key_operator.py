"""The role that rotates the signing keys: it reads their secrets and writes new versions, nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from stack.aws.names import ACCOUNT, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stack.aws.clients import Clients
    from stack.aws.emulator import Alteration, Emulator

ROLE = f"{PREFIX}-key-operator"
ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
POLICY = "rotate-signing-keys"
ACTIONS = ("DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage")


def seed(aws: Clients, secret_arns: Iterable[str]) -> None:
    """Create the role, which people of the account assume."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    aws("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust))
    _allow(aws, ACTIONS, secret_arns)


def operator_lacks(emulator: Emulator, action: str) -> None:
    """Take one action of Secrets Manager from the role."""
    found = emulator.aws("iam").get_role_policy(RoleName=ROLE, PolicyName=POLICY)["PolicyDocument"]
    left = [allowed for allowed in ACTIONS if allowed != action]
    _allow(emulator.aws, left, found["Statement"][0]["Resource"])


def _allow(aws: Clients, actions: Iterable[str], secret_arns: Iterable[str]) -> None:
    statement = {
        "Effect": "Allow",
        "Action": [f"secretsmanager:{action}" for action in actions],
        "Resource": list(secret_arns),
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws("iam").put_role_policy(RoleName=ROLE, PolicyName=POLICY, PolicyDocument=document)


ALTERATIONS: dict[str, Alteration] = {"operator-lacks": operator_lacks}

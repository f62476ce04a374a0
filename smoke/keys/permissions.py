"""Which IAM actions the key commands take, and the proof that somebody has them, led without using one.

The policy simulator reads policies; it knows neither a secret's resource policy nor a KMS key policy.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_readiness import SetupError

from .aws import Aws, asking
from .errors import told
from .store import READING, WRITING, Described

OPERATING = (*READING, *WRITING)
KMS = ("kms:Decrypt", "kms:GenerateDataKey")
IDENTIFY = "sts:GetCallerIdentity"
SIMULATE = "iam:SimulatePrincipalPolicy"
GET_ROLE = "iam:GetRole"
#: What a dry run itself needs.
DRY_RUN = (*READING, IDENTIFY, SIMULATE, GET_ROLE)


def prove(aws: Aws, secret: Described, *, operator: str = "") -> str:
    """Who may rotate the secret, in words: ``operator`` (the ARN of a user or a role), or the caller itself.

    SetupError that names each action which is not allowed, or the one that keeps this from being found out.
    """
    principal = operator or _caller(aws)
    if principal.endswith(":root"):
        return f"{principal} is the account itself and may do everything"
    denied = _denied(aws, principal, OPERATING, secret.arn)
    if secret.kms_key.startswith("arn:"):
        denied += _denied(aws, principal, KMS, secret.kms_key)
    if denied:
        raise SetupError(
            told(
                f"{principal} may not {', '.join(denied)}",
                where=secret.arn,
                action=f"grant it {', '.join(denied)}, or name another operator in keys.operator_arn",
            )
        )
    actions = len(OPERATING) + (len(KMS) if secret.kms_key.startswith("arn:") else 0)
    return f"{principal} is allowed all {actions} actions on {secret.arn}"


def _caller(aws: Aws) -> str:
    with asking(IDENTIFY, "the caller"):
        arn = str(aws.client("sts").get_caller_identity()["Arn"])
    if ":assumed-role/" not in arn:
        return arn
    # the session's ARN leaves the role's path out, which the simulator wants to know
    name = arn.split("/")[1]
    with asking(GET_ROLE, f"role {name}"):
        return str(aws.client("iam").get_role(RoleName=name)["Role"]["Arn"])


def _denied(aws: Aws, principal: str, actions: Sequence[str], resource: str) -> list[str]:
    with asking(SIMULATE, principal):
        found = aws.client("iam").simulate_principal_policy(
            PolicySourceArn=principal, ActionNames=list(actions), ResourceArns=[resource]
        )
    allowed = {
        str(one["EvalActionName"]) for one in found["EvaluationResults"] if one["EvalDecision"] == "allowed"
    }
    return [action for action in actions if action not in allowed]

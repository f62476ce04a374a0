"""Which IAM actions the key commands take, and the proof that somebody has them, led without using one.

The policy simulator reads policies; it knows neither a secret's resource policy nor a KMS key policy.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_readiness import SetupError

from smoke.aws.account import Account

from .errors import told
from .store import READING, WRITING, Described

OPERATING = (*READING, *WRITING)
KMS = ("kms:Decrypt", "kms:GenerateDataKey")
IDENTIFY = "sts:GetCallerIdentity"
SIMULATE = "iam:SimulatePrincipalPolicy"
GET_ROLE = "iam:GetRole"
#: What a dry run itself needs.
DRY_RUN = (*READING, IDENTIFY, SIMULATE, GET_ROLE)


def prove(account: Account, secret: Described, *, operator: str = "") -> str:
    """Who may rotate the secret, in words: ``operator`` (the ARN of a user or a role), or the caller itself.

    SetupError that names each action which is not allowed, or the one that keeps this from being found out.
    """
    principal = operator or _caller(account)
    if principal.endswith(":root"):
        return f"{principal} is the account itself and may do everything"
    denied = _denied(account, principal, OPERATING, secret.arn)
    if secret.kms_key.startswith("arn:"):
        denied += _denied(account, principal, KMS, secret.kms_key)
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


def _caller(account: Account) -> str:
    arn = str(account.ask("sts", "get_caller_identity")["Arn"])
    if ":assumed-role/" not in arn:
        return arn
    # the ARN of an assumed role leaves the role's path out, which the simulator wants to know
    name = arn.split("/")[1]
    return str(account.ask("iam", "get_role", RoleName=name)["Role"]["Arn"])


def _denied(account: Account, principal: str, actions: Sequence[str], resource: str) -> list[str]:
    found = account.ask(
        "iam",
        "simulate_principal_policy",
        PolicySourceArn=principal,
        ActionNames=list(actions),
        ResourceArns=[resource],
    )
    allowed = {
        str(one["EvalActionName"]) for one in found["EvaluationResults"] if one["EvalDecision"] == "allowed"
    }
    return [action for action in actions if action not in allowed]

"""Policies of IAM, of the alerts topic and of keys: whom they let do what, as far as they say so.

Reads the policies of the roles of tasks; whether these roles exist, and who may act under them.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Self

from pytest_readiness import SetupError

from .account import AwsAccount, at_once

READ = "secretsmanager:GetSecretValue"
_PUT = "secretsmanager:PutSecretValue"
_ASSUME = "sts:AssumeRole"
_DECRYPT = "kms:Decrypt"
_GONE = ("NoSuchEntity",)
_TASKS = "ecs-tasks.amazonaws.com"
#: AWS's own policy that tasks start with, in any partition; and what it says: it reads images, writes logs.
_STARTS_TASKS = re.compile(r"arn:aws[\w-]*:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy")
PULL_TOKEN, LOGGING = "ecr:GetAuthorizationToken", ("logs:CreateLogStream", "logs:PutLogEvents")
_STARTING = {
    "Effect": "Allow",
    "Action": [PULL_TOKEN, "ecr:Batch*", "ecr:GetDown*", *LOGGING],
    "Resource": "*",
}


@dataclass(frozen=True, slots=True)
class RolePolicies:
    """The statements of each role's policies, by the role's ARN, and the secrets that are asked about."""

    statements: Mapping[str, Sequence[Mapping[str, Any]]]
    secrets: frozenset[str] = field(default_factory=frozenset)

    def usable(self, roles: Iterable[str]) -> dict[str, str]:
        """Those of the secrets that at least one of the roles may read, or only put; which of both.

        Where a condition chooses secrets, none is taken as allowed, and each as denied.
        """
        return self._usable(
            [
                [
                    {**each, "Resource": "*", "Condition": {}} if _chooses(each) else each
                    for each in self.statements.get(role, ())
                    if each.get("Effect") == "Deny" or not _chooses(each)
                ]
                for role in dict.fromkeys(roles)
            ]
        )

    def unclear(self, roles: Iterable[str]) -> list[str]:
        """Those of the secrets that a role may read or put if the conditions of its policies choose them."""
        used = {*roles}
        sure = self.usable(used)
        return [
            arn for arn in self._usable([self.statements.get(each, ()) for each in used]) if arn not in sure
        ]

    def _usable(self, held: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, str]:
        return {
            arn: how
            for how, action in (("may put", _PUT), ("may read", READ))
            for arn in sorted(self.secrets)
            if any(allows(each, action, arn) for each in held)
        }

    def lent(self, trusts: Mapping[str, Mapping[str, Any] | None]) -> Self:
        """What each role may do also by acting under another of them, which that one's trust lets it do."""
        found = {role: [*own] for role, own in self.statements.items()}
        for lender, document in trusts.items():
            for role, own in self.statements.items():
                if role != lender and document and _is_lent(lender, document, role, own):
                    found[role] += self.statements[lender]
        return replace(self, statements=found)


def _is_lent(lender: str, document: Mapping[str, Any], role: str, own: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a trust names a role, or its account while the role's own policies name the lender.

    What hangs on a condition, or is denied to anybody, is taken as not lent.
    """
    listed = _statements(document)
    trusting = [each for each in listed if covers(each, "Action", _ASSUME)]
    if any(each.get("Effect") != "Allow" for each in trusting):
        return False
    given = [each.get("Principal") for each in trusting if not each.get("Condition")]
    found = [each.get("AWS", ()) for each in given if isinstance(each, Mapping)]
    named = {one for each in found for one in _several(each)}
    root = f"{role.partition(':role/')[0]}:root"
    return role in named or (root in named and allows(own, _ASSUME, lender))


def allows(statements: Sequence[Mapping[str, Any]], action: str, resource: str) -> bool:
    """Whether policies allow an action, conditions taken as met by what allows and unmet by what denies.

    So are variables: what they stand for is known when the role acts.
    """
    hit = [
        each for each in statements if covers(each, "Action", action) and covers(each, "Resource", resource)
    ]
    denied = any(
        each.get("Effect") == "Deny"
        and not each.get("Condition")
        and not _VARIABLE.search(str(each.get("Resource")))
        for each in hit
    )
    return not denied and any(each.get("Effect") == "Allow" for each in hit)


#: What closes a topic to alarms: it has the default key, whose policy lets no service of AWS use it.
DEFAULT_KEY = "alias/aws/sns"


def closed_to_alarms(attributes: Mapping[str, str], alarms: Sequence[str] = ()) -> str:
    """Why CloudWatch may not publish to a topic with these attributes; empty where nothing forbids it.

    What a condition hangs on is taken as met where it allows and as unmet where it denies; but one that names
    other accounts, or none of these alarms (ARNs), is not met.
    """
    if attributes.get("KmsMasterKeyId", "").endswith(DEFAULT_KEY):
        return f"it is encrypted with {DEFAULT_KEY}, a key that CloudWatch may not use"
    if not attributes.get("Policy"):
        return ""
    topic = attributes.get("TopicArn", "")
    account = topic.split(":")[4:5]
    publishing = [
        each
        for each in _statements(json.loads(attributes["Policy"]))
        if covers(each, "Action", "sns:Publish") and covers(each, "Resource", topic)
        if _concerns(each, _CLOUDWATCH, account)
    ]
    if any(each["Effect"] == "Deny" and not each.get("Condition") for each in publishing):
        return "its policy denies publishing"
    allowed = any(each["Effect"] == "Allow" and not _excludes(each, account, alarms) for each in publishing)
    return "" if allowed else "its policy lets no alarm publish"


#: How a condition compares what it names.
_COMPARING = re.compile(r"(?i)(string|arn)(equals|like|equalsignorecase)(ifexists)?")


def _excludes(statement: Mapping[str, Any], account: Sequence[str], sources: Sequence[str]) -> bool:
    """Whether a condition names other accounts only, or none of these ARNs."""
    origins = {"aws:sourceaccount": account, "aws:sourceowner": account, "aws:sourcearn": sources}
    compared = [
        (origins.get(key.lower()), [_VARIABLE.sub("*", str(one)) for one in each])
        for operator, keys in statement.get("Condition", {}).items()
        if _COMPARING.fullmatch(operator)
        for key, value in keys.items()
        for each in [value if isinstance(value, list) else [value]]
    ]
    return any(seen and not any(fnmatchcase(each, one) for each in seen for one in named)
               for seen, named in compared)  # fmt: skip


def key_closed_to_alarms(account: AwsAccount, key: str) -> str:
    """Why CloudWatch may not encrypt with the key of a topic; empty where it may, or where there is no key.

    SetupError where the policy is not to be read, being another account's.
    """
    if not key:
        return ""
    arn, unusable, is_awss = _key(account, key)
    if unusable:
        return f"its key {arn} {unusable}"
    if is_awss:
        return f"its key {arn} is AWS's own for SNS, which CloudWatch may not use"
    policy = _key_policy(account, arn)
    if policy is None:
        raise SetupError(f"not examined: the policy of the key {arn}, which is another account's")
    using = [
        each
        for each in policy
        if covers(each, "Action", "kms:GenerateDataKey") and _concerns(each, _CLOUDWATCH)
    ]
    denied = any(each["Effect"] == "Deny" and not each.get("Condition") for each in using)
    if denied or not any(each["Effect"] == "Allow" for each in using):
        return f"the policy of its key {arn} does not let CloudWatch use it"
    return ""


_NO_KEY = ("NotFoundException",)
#: States of a key with which it encrypts, or is about to.
_USABLE = ("Enabled", "Creating", "Updating")


def _key(account: AwsAccount, key: str) -> tuple[str, str, bool]:
    """A key's ARN, why nothing can be encrypted with it (empty where it can), and whether AWS manages it."""
    found = account.find("kms", "describe_key", _NO_KEY, KeyId=key)
    if found is None:
        return key, "does not exist", False
    about = found["KeyMetadata"]
    state = about.get("KeyState", "Enabled")
    return about["Arn"], "" if state in _USABLE else f"is {state}", about.get("KeyManager") == "AWS"


def _key_policy(account: AwsAccount, arn: str) -> Sequence[Mapping[str, Any]] | None:
    """The statements of a key's policy; None where it is another account's."""
    told = account.find("kms", "get_key_policy", _NO_KEY, KeyId=arn, PolicyName="default")
    return None if told is None else _statements(json.loads(told["Policy"]))


def lets_in(policy: str, topic: str, queue: str) -> bool:
    """Whether the policy of a queue lets a topic send to it; without one, none does."""
    sending = [
        each
        for each in _statements(json.loads(policy or "{}"))
        if covers(each, "Action", "sqs:SendMessage") and covers(each, "Resource", queue)
        if _concerns(each, "sns.amazonaws.com")
    ]
    denied = any(each["Effect"] == "Deny" and not each.get("Condition") for each in sending)
    return not denied and any(
        each["Effect"] == "Allow" and not _excludes(each, topic.split(":")[4:5], [topic]) for each in sending
    )


_CLOUDWATCH = "cloudwatch.amazonaws.com"


def _concerns(statement: Mapping[str, Any], service: str, account: Sequence[str] = ()) -> bool:
    """Whether a statement is about a service of AWS, or the account in whose name that acts."""
    key = "Principal" if "Principal" in statement else "NotPrincipal"
    principal = statement.get(key, {})
    named = principal if isinstance(principal, Mapping) else {"AWS": principal}
    found = [
        re.sub(r"^arn:[\w-]+:iam::(\d+):root$", r"\1", each)
        for value in named.values()
        for each in _several(value)
    ]
    return bool({"*", service, *account} & {*found}) == (key == "Principal")


def read_policies(account: AwsAccount, roles: Iterable[str], secrets: Iterable[str]) -> RolePolicies:
    """Read the inline policies of roles and what is attached to them; a role that does not exist has none.

    AWS's own policy that tasks start with is known.
    """
    wanted = sorted({role for role in roles if role})
    listed = at_once(lambda role: _listed(account, _name(role)), wanted)
    found: dict[str, list[Any]] = {role: [] for role in wanted}
    jobs = [(role, read) for role, reads in zip(wanted, listed, strict=True) for read in reads]
    documents = at_once(lambda job: job[1](), jobs)
    for (role, _), document in zip(jobs, documents, strict=True):
        found[role] += _statements(document)
    return RolePolicies(found, frozenset(secrets))


def _listed(account: AwsAccount, name: str) -> list[Callable[[], Mapping[str, Any]]]:
    """How to read each policy of a role."""
    inline = account.pages("iam", "list_role_policies", "PolicyNames", absent=_GONE, RoleName=name)
    attached = account.pages(
        "iam", "list_attached_role_policies", "AttachedPolicies", absent=_GONE, RoleName=name
    )
    return [
        *(partial(_inline, account, name, policy) for policy in inline),
        *(partial(_managed, account, each["PolicyArn"]) for each in attached),
    ]


def _inline(account: AwsAccount, role: str, policy: str) -> Mapping[str, Any]:
    answer = account.ask("iam", "get_role_policy", RoleName=role, PolicyName=policy)
    document: Mapping[str, Any] = answer["PolicyDocument"]
    return document


def _managed(account: AwsAccount, arn: str) -> Mapping[str, Any]:
    if _STARTS_TASKS.fullmatch(arn):
        return {"Statement": _STARTING}
    version = account.ask("iam", "get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
    answer = account.ask("iam", "get_policy_version", PolicyArn=arn, VersionId=version)
    document: Mapping[str, Any] = answer["PolicyVersion"]["Document"]
    return document


#: A variable of a policy, such as `${aws:PrincipalTag/team}`.
_VARIABLE = re.compile(r"\$\{[^}]*\}")


#: What conditions choose secrets by.
_CHOOSING = re.compile(r"(?i)ResourceTag/|secretsmanager:(SecretId|Name)'")


def _chooses(statement: Mapping[str, Any]) -> bool:
    """Whether variables, or a condition, choose which resources a statement is about."""
    named = str([statement.get("Resource"), statement.get("NotResource")])
    return bool(_VARIABLE.search(named) or _CHOOSING.search(str(statement.get("Condition"))))


def covers(statement: Mapping[str, Any], key: str, value: str) -> bool:
    """Whether what a statement says under a key (Action, Resource), or all but that, has a value in it."""
    if key in statement:
        return _matches(statement[key], key, value)
    return f"Not{key}" in statement and not _matches(statement[f"Not{key}"], key, value)


def _matches(patterns: Any, key: str, value: str) -> bool:
    # a bracket is no wildcard of IAM
    listed = [_VARIABLE.sub("*", each).replace("[", "[[]") for each in _several(patterns)]
    if key == "Action":  # actions are the same in any case, resources are not
        return any(fnmatchcase(value.lower(), each.lower()) for each in listed)
    return any(fnmatchcase(value, each) for each in listed)


def _name(role: str) -> str:
    return role.rpartition("/")[2]


def undecrypted(account: AwsAccount, key: str, role: str, own: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a role cannot decrypt with a key; empty where it can, by its own policies, the key's or a grant.

    None where its own do not say so and the key's is another account's.
    """
    arn, unusable, is_awss = _key(account, key)
    if unusable:
        return f"is encrypted with {arn}, which {unusable}"
    if is_awss or allows(own, _DECRYPT, arn):
        return ""
    policy = _key_policy(account, arn)
    if policy is None:
        return None
    for each in policy:
        if each.get("Effect") == "Allow" and covers(each, "Action", _DECRYPT):
            principal = each.get("Principal", {})
            named = principal.get("AWS", ()) if isinstance(principal, Mapping) else principal
            if any(one == "*" or role in (one, _name(one)) for one in _several(named)):
                return ""
    grants = account.pages("kms", "list_grants", "Grants", KeyId=arn)
    if any(
        each.get("GranteePrincipal") == role and "Decrypt" in each.get("Operations", ()) for each in grants
    ):
        return ""
    return f"is encrypted with {arn}, with which {role} may not decrypt"


def _statements(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    statement = document.get("Statement", [])
    return [statement] if isinstance(statement, Mapping) else statement


def is_anybodys(document: Mapping[str, Any]) -> bool:
    """Whether a trust policy lets whoever there is act under its role, without any condition.

    One that denies it to many, such as to all of other organisations, does not.
    """
    everybody = [
        each for each in _statements(document) if covers(each, "Action", _ASSUME) and "*" in _principals(each)
    ]
    denied = any(each.get("Effect") == "Deny" for each in everybody)
    return not denied and any(
        each.get("Effect") == "Allow" and not each.get("Condition") for each in everybody
    )


def is_assumed(document: Mapping[str, Any]) -> bool | None:
    """Whether a trust policy lets tasks act under its role, conditions met; None where that is unclear."""
    listed = _statements(document)
    assuming = [each for each in listed if covers(each, "Action", _ASSUME)]
    denied = {who for each in assuming if each.get("Effect") == "Deny" and not each.get("Condition")
              for who in _principals(each)}  # fmt: skip
    allowed = {who for each in assuming if each.get("Effect") == "Allow" for who in _principals(each)}
    if _TASKS in denied:
        return False
    if _TASKS in allowed and "*" not in denied:
        return True
    return None if "*" in denied | allowed else False


def may_read(statements: Sequence[Mapping[str, Any]], secret: str) -> bool:
    """Whether policies let a role read a secret; its ARN may be without the six characters that AWS adds."""
    ends = {"-AbCdEf", *(each[-7:] for each in resources(statements) if each[-7:].startswith("-"))}
    return any(allows(statements, READ, f"{secret}{end}") for end in ("", *ends))


def resources(statements: Iterable[Mapping[str, Any]]) -> list[str]:
    """The resources that statements name."""
    return [one for each in statements for one in _several(each.get("Resource", ()))]


def _principals(statement: Mapping[str, Any]) -> Iterator[str]:
    principal = statement.get("Principal", "*")  # without one it names all but some
    named = principal.items() if isinstance(principal, Mapping) else [("AWS", principal)]
    for kind, value in named:
        if kind == "Service" or value == "*":
            yield from _several(value)


def _several(value: str | Iterable[str]) -> Iterable[str]:
    """What a policy gives in one place: one string or a list of them."""
    return [value] if isinstance(value, str) else value


def trust_of(account: AwsAccount, role: str) -> Mapping[str, Any] | None:
    """The trust policy of a role; None where there is no such role."""
    name = role.rpartition("/")[2]
    answer = account.find("iam", "get_role", _GONE, RoleName=name)
    return None if answer is None else answer["Role"]["AssumeRolePolicyDocument"]


def has_policy(account: AwsAccount, secret: str) -> bool:
    """Whether a secret has a policy of its own."""
    gone = ("ResourceNotFoundException",)
    answer = account.find("secretsmanager", "get_resource_policy", gone, SecretId=secret)
    return bool((answer or {}).get("ResourcePolicy"))

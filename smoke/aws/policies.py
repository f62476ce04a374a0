"""IAM and key policies: the roles of tasks, who may assume them, what they may read, and who may use keys."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Self

from smoke.source.access import VARIABLE, Context, Statements, allows, covers, listed_in, met

from .account import AwsAccount, at_once

#: Keys that a request by an AWS service itself never has: it comes from nobody's network.
NO_NETWORK: Context = dict.fromkeys(("aws:sourcevpc", "aws:sourcevpce", "aws:vpcsourceip"), ())

READ = "secretsmanager:GetSecretValue"
READ_PARAMETERS = "ssm:GetParameters"
_PUT = "secretsmanager:PutSecretValue"
_ASSUME = "sts:AssumeRole"
_DECRYPT = "kms:Decrypt"
_GONE = ("NoSuchEntity",)
_TASKS = "ecs-tasks.amazonaws.com"
#: AWS's managed policy for starting tasks, in any partition, and its content: read images, write logs.
_STARTS_TASKS = re.compile(r"arn:aws[\w-]*:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy")
PULLS = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
PULL_TOKEN, LOGGING = "ecr:GetAuthorizationToken", ("logs:CreateLogStream", "logs:PutLogEvents")
_STARTING_ACTIONS = [PULL_TOKEN, "ecr:Batch*", "ecr:GetDown*", *LOGGING]
_STARTING = {"Effect": "Allow", "Action": _STARTING_ACTIONS, "Resource": "*"}


@dataclass(frozen=True, slots=True)
class RolePolicies:
    """The statements of each role's policies, by role ARN, and the secrets in question."""

    statements: Mapping[str, Statements]
    secrets: frozenset[str] = field(default_factory=frozenset)

    def usable(self, roles: Iterable[str]) -> dict[str, str]:
        """The secrets that at least one of the roles may read, or only put, and which of the two.

        If a condition selects secrets, none counts as allowed, and each as denied.
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
        """The secrets that a role may read or put only if the conditions of its policies select them."""
        used = {*roles}
        sure = self.usable(used)
        return [
            arn for arn in self._usable([self.statements.get(each, ()) for each in used]) if arn not in sure
        ]

    def _usable(self, held: Sequence[Statements]) -> dict[str, str]:
        return {
            arn: how
            for how, action in (("may put", _PUT), ("may read", READ))
            for arn in sorted(self.secrets)
            if any(allows(each, action, arn) for each in held)
        }

    def lent(self, trusts: Mapping[str, Mapping[str, Any] | None]) -> Self:
        """What each role may also do by assuming another of them, if that one's trust policy permits it."""
        found = {role: [*own] for role, own in self.statements.items()}
        for lender, document in trusts.items():
            for role, own in self.statements.items():
                if role != lender and document and _is_lent(lender, document, role, own):
                    found[role] += self.statements[lender]
        return replace(self, statements=found)


def _is_lent(lender: str, document: Mapping[str, Any], role: str, own: Statements) -> bool:
    """Whether a trust policy names a role, or its account while the role's own policies name the lender.

    If a condition decides, or anything is denied to anybody, it counts as not lent.
    """
    listed = _statements(document)
    trusting = [each for each in listed if covers(each, "Action", _ASSUME)]
    if any(each.get("Effect") != "Allow" for each in trusting):
        return False
    given = [each.get("Principal") for each in trusting if not each.get("Condition")]
    found = [each.get("AWS", ()) for each in given if isinstance(each, Mapping)]
    named = {one for each in found for one in listed_in(each)}
    root = f"{role.partition(':role/')[0]}:root"
    return role in named or (root in named and allows(own, _ASSUME, lender))


_NO_KEY = ("NotFoundException",)
#: States of a key in which it encrypts, or soon will.
_USABLE = ("Enabled", "Creating", "Updating")


#: How AWS answers a request for a resource of another account or region.
FOREIGN = ("AccessDeniedException", "InvalidArnException", "ValidationException")


@dataclass(frozen=True, slots=True)
class Key:
    """A key: why it cannot encrypt (empty if it can), whether AWS manages it; its policy; when it `ends`.

    The policy is None if only its own account may read it. Only imported key material ends.
    """

    arn: str
    unusable: str = ""
    is_awss: bool = False
    policy: Statements | None = None
    ends: datetime | None = None


def read_key(account: AwsAccount, key: str, place: Sequence[str]) -> Key:
    """A key by its ARN, id or alias; `place` is the caller's region and account."""
    elsewhere = key.startswith("arn:") and key.split(":")[3:5] != [*place]
    absent = (*_NO_KEY, *FOREIGN) if elsewhere else _NO_KEY
    found = account.find("kms", "describe_key", absent, KeyId=key)
    if found is None:
        return Key(key, "" if elsewhere else "does not exist")
    about = found["KeyMetadata"]
    arn, state = about["Arn"], about.get("KeyState", "Enabled")
    unusable, is_awss = "" if state in _USABLE else f"is {state}", about.get("KeyManager") == "AWS"
    if unusable or is_awss:
        return Key(arn, unusable, is_awss)
    answer = account.find("kms", "get_key_policy", absent, KeyId=arn, PolicyName="default")
    policy = None if answer is None else statements_of(answer["Policy"])
    return Key(arn, policy=policy, ends=about.get("ValidTo"))


def read_policies(account: AwsAccount, roles: Iterable[str], secrets: Iterable[str]) -> RolePolicies:
    """Read the inline and attached policies of roles; a role that does not exist has none.

    The contents of AWS's own policy for execution roles are known.
    """
    wanted = sorted({role for role in roles if role})
    listed = at_once(lambda role: _listed(account, _name(role)), wanted)
    found: dict[str, list[Any]] = {role: [] for role in wanted}
    jobs = [(role, read) for role, reads in zip(wanted, listed, strict=True) for read in reads]
    documents = at_once(lambda job: job[1](), jobs)
    for (role, _), document in zip(jobs, documents, strict=True):
        found[role] += _statements(document)
    asking = [role for role, own in found.items() if _OF_ROLE.search(str(own))]
    for role, described in zip(asking, at_once(lambda role: role_of(account, role), asking), strict=True):
        found[role] = _applying(found[role], described or {})
    return RolePolicies(found, frozenset(secrets))


#: Condition keys whose values a role decides, whatever it asks for; it has no user name.
_OF_ROLE = re.compile(r"(?i)aws:(?:PrincipalTag/[^'\"]+|PrincipalArn|PrincipalType|username)")


def _applying(statements: Statements, role: Mapping[str, Any]) -> list[Any]:
    """The statements that apply to a role, which IAM describes, without conditions that it surely meets."""
    known: dict[str, Sequence[str]] = {each.lower(): () for each in _OF_ROLE.findall(str(statements))}
    known |= {f"aws:principaltag/{each['Key']}".lower(): [each["Value"]] for each in role.get("Tags", ())}
    known |= {"aws:principalarn": [role["Arn"]], "aws:principaltype": ["AssumedRole"]} if role else {}
    held = [(each, met(each, known) if role else None) for each in statements]
    return [{**each, "Condition": {}} if found else each for each, found in held if found is not False]


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


#: Condition keys that select secrets.
_CHOOSING = re.compile(r"(?i)ResourceTag/|secretsmanager:(SecretId|Name)'")


def _chooses(statement: Mapping[str, Any]) -> bool:
    """Whether variables, or a condition, select the resources of a statement."""
    named = str([statement.get("Resource"), statement.get("NotResource")])
    return bool(VARIABLE.search(named) or _CHOOSING.search(str(statement.get("Condition"))))


def _name(role: str) -> str:
    return role.rpartition("/")[2]


def undecrypted(
    account: AwsAccount,
    key: str,
    role: str,
    own: Statements,
    place: Sequence[str],
    context: Context,
) -> str | None:
    """Why a role cannot decrypt with a key; empty if its own policies, the key's policy or a grant allow it.

    Its own policies count only if the key's leaves it to IAM. None if its own do not allow it and the key
    belongs to another account. `place` is region and account, `context` is the request's.
    """
    found = read_key(account, key, place)
    if found.unusable:
        return f"is encrypted with {found.arn}, which {found.unusable}"
    who = arn_of(role, found.arn.split(":")[1], place[1])
    context = {**context, "aws:principalarn": [who]}
    allowed = allows(own, _DECRYPT, found.arn, context)
    if found.is_awss or (found.policy is None and allowed):
        return ""
    if found.policy is None:
        return None
    using = [each for each in found.policy if covers(each, "Action", _DECRYPT) and each["Effect"] == "Allow"]
    named = {one for each in using if met(each, context) is not False for one in _users(each)}
    closed = f"is encrypted with {found.arn}, which {role} may not use to decrypt"
    if denies(found.policy, who, _DECRYPT, found.arn, context):
        return closed
    if named & {"*", who} or (allowed and named & {*_account_of(who)}):
        return ""
    grants = account.pages("kms", "list_grants", "Grants", KeyId=found.arn)
    granted = [each for each in grants if each.get("GranteePrincipal") == who]
    return "" if any("Decrypt" in each.get("Operations", ()) for each in granted) else closed


def arn_of(role: str, partition: str, account: str) -> str:
    """The ARN of a role; a task may give its role by name."""
    return role if role.startswith("arn:") else f"arn:{partition}:iam::{account}:role/{role}"


def _users(statement: Mapping[str, Any]) -> set[str]:
    """The roles and accounts that a statement of a resource's own policy names."""
    principal = statement.get("Principal", {})
    return {*listed_in(principal.get("AWS", ()) if isinstance(principal, Mapping) else principal)}


def _account_of(role: str) -> Iterator[str]:
    """The account of a role, by its ARN, in both ways to name it."""
    yield from (role.split(":")[4], f"{role.partition(':role/')[0]}:root")


def denies(
    policy: Iterable[Mapping[str, Any]], role: str, action: str, resource: str, context: Context
) -> bool:
    """Whether the statements of a resource's own policy surely deny an action to a role, given by its ARN."""
    request = {**context, "aws:principalarn": [role]}
    return any(
        each.get("Effect") == "Deny"
        and {"*", role, *_account_of(role)} & _users(each)
        and covers(each, "Action", action)
        and covers({"Resource": "*", **each} if "NotResource" not in each else each, "Resource", resource)
        and met(each, request)
        for each in policy
    )


def statements_of(policy: str) -> Statements:
    """The statements of a JSON policy; none for an empty one."""
    return _statements(json.loads(policy or "{}"))


def _statements(document: Mapping[str, Any]) -> Statements:
    statement = document.get("Statement", [])
    return [statement] if isinstance(statement, Mapping) else statement


def is_anybodys(document: Mapping[str, Any]) -> bool:
    """Whether a trust policy lets anyone act under its role, without any condition.

    A policy that denies it to many, such as to all other organisations, does not.
    """
    everybody = [
        each for each in _statements(document) if covers(each, "Action", _ASSUME) and "*" in _principals(each)
    ]
    denied = any(each.get("Effect") == "Deny" for each in everybody)
    return not denied and any(
        each.get("Effect") == "Allow" and not each.get("Condition") for each in everybody
    )


def is_assumed(document: Mapping[str, Any], context: Context = MappingProxyType({})) -> bool | None:
    """Whether a trust policy lets tasks assume its role, in the `context` of ECS; None if unclear.

    A condition that the context does not decide counts as met.
    """
    listed = _statements(document)
    assuming = [(each, met(each, context)) for each in listed if covers(each, "Action", _ASSUME)]
    denied = {who for each, held in assuming if each.get("Effect") == "Deny" and held
              for who in _principals(each)}  # fmt: skip
    allowed = {who for each, held in assuming if each.get("Effect") == "Allow" and held is not False
               for who in _principals(each)}  # fmt: skip
    if _TASKS in denied:
        return False
    if _TASKS in allowed and "*" not in denied:
        return True
    return None if "*" in denied | allowed else False


def resources(statements: Iterable[Mapping[str, Any]]) -> list[str]:
    """The resources in statements."""
    return [one for each in statements for one in listed_in(each.get("Resource", ()))]


def _principals(statement: Mapping[str, Any]) -> Iterator[str]:
    principal = statement.get("Principal", "*")  # a statement without it has NotResource
    named = principal.items() if isinstance(principal, Mapping) else [("AWS", principal)]
    for kind, value in named:
        if kind == "Service" or value == "*":
            yield from listed_in(value)


def trust_of(account: AwsAccount, role: str) -> Mapping[str, Any] | None:
    """The trust policy of a role; None if there is no such role."""
    found = role_of(account, role)
    return None if found is None else found["AssumeRolePolicyDocument"]


def role_of(account: AwsAccount, role: str) -> Mapping[str, Any] | None:
    """A role as IAM describes it; None if there is no such role."""
    answer = account.find("iam", "get_role", _GONE, RoleName=_name(role))
    return None if answer is None else answer["Role"]


def boundary_of(account: AwsAccount, role: Mapping[str, Any]) -> Statements | None:
    """The statements of a role's permissions boundary; None if it has none."""
    arn = role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    return _applying(_statements(_managed(account, arn)), role) if arn else None

"""Whether tasks can start again: their roles, their secrets and parameters, their logs."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from smoke.source.access import Context, Statements, allows, covers, met
from smoke.source.checkout import Examined

from . import ecs
from .account import AwsAccount, at_once
from .databases import ending
from .ecs import TaskDefinition
from .policies import (
    LOGGING,
    NO_NETWORK,
    PULL_TOKEN,
    PULLS,
    READ,
    READ_PARAMETERS,
    RolePolicies,
    arn_of,
    boundary_of,
    denies,
    is_anybodys,
    is_assumed,
    read_key,
    resources,
    role_of,
    statements_of,
    undecrypted,
)
from .reader import AwsReader, secret_of
from .subnets import read_ways

_ACCOUNT, _REGION, _PARTITION = 4, 3, 1


def kept_from_starting(aws: AwsReader, one_shots: Sequence[str]) -> tuple[int, Examined]:
    """Return the number of roles, and why tasks cannot start with theirs, or anybody may use them.

    Not examined are roles of another account, secrets with their own policy, and anything that this runner
    may not read.
    """
    owners, place, result = aws.owners(one_shots), aws.cluster().split(":"), Examined()
    wanted = {role: name for name, each in owners.items() for role in _roles(each)}
    there = _examine_roles(aws, wanted, place, result)
    held = result.attempt(aws.policies, one_shots)
    for name, definition in owners.items() if held is not None else ():
        context = {**_acting(place, place[_REGION]), **(result.attempt(_outside, aws, name) or {})}
        role = definition.execution_role
        own = held.statements.get(role, ()) if held else ()
        limit = there.get(role)
        for secret in _given(definition) if role in there else ():
            if not may_read(own, secret, context):
                result.attempt(_unreadable, aws, name, role, secret, result)
            elif limit is not None and not may_read(limit, secret, context):
                result.wrong(f"{name} cannot start again: {role} may not read {secret}")
        if definition.fargate and role in there:
            lacking = [*_unstarted(definition, place, own)]
            lacking += _unstarted(definition, place, limit) if limit is not None else ()
            result.attempt(_unpulled, aws, name, definition, own, limit, result)
            for action in dict.fromkeys(lacking):
                result.wrong(f"{name} cannot start again: {role} may not {action}")
    _examine_secrets(aws, owners, held, there, result)
    _examine_parts(aws, owners, result)
    _examine_parameters(aws, owners, held, there, result)
    _examine_logs(aws, owners, result)
    return len([role for role in wanted if _is_here(role, place)]), result


def _is_here(role: str, place: Sequence[str]) -> bool:
    """Whether a role belongs to the cluster's account."""
    return not role.startswith("arn:") or role.split(":")[_ACCOUNT] == place[_ACCOUNT]


def _acting(place: Sequence[str], region: str) -> Context:
    """The known context of a request that a task's role makes in a region when the task starts."""
    keys = ("aws:principalaccount", "aws:resourceaccount", "aws:sourceaccount")
    own = {key: [place[_ACCOUNT]] for key in keys}
    known = {"aws:requestedregion": [region], "aws:securetransport": ["true"]}
    return {**own, **known, **dict.fromkeys(_OF_PEOPLE, ())}


#: Keys that only the request of a person who signed in may have.
_OF_PEOPLE = ("aws:multifactorauthpresent", "aws:multifactorauthage")


def _outside(aws: AwsReader, name: str) -> Context:
    """The known context of a service's requests to Secrets Manager that leave by the internet.

    Empty if they may go through an endpoint, here or in a connected network.
    """
    service, task = aws.services().get(name), aws.definitions().get(name)
    if service is None or task is None or not task.fargate:
        return {}
    ways = read_ways(aws)
    places = [each for each in service.subnets if each in ways.subnets]
    ends = [each for each in ways.endpoints if each["ServiceName"].endswith(".secretsmanager")]
    straight = bool(places) and all(map(ways.leads_straight_out, places))
    return NO_NETWORK if straight and not ends else {}


def _through(
    place: Sequence[str], secret: str, service: str = "secretsmanager", by: str = "secretarn"
) -> Context:
    """The known context of a request that a service of AWS makes for a role, to decrypt a secret."""
    region, account = place
    hosts = [f"{service}.{region}.amazonaws.com{end}" for end in ("", ".cn")]
    about = {f"kms:encryptioncontext:{by}": [secret], "kms:calleraccount": [account]}
    return {**about, "kms:viaservice": hosts}


def _starting(place: Sequence[str]) -> Context:
    """The known context of ECS when it assumes a task's role; which ARN it sends is not known."""
    arn = ":".join(place[:5])
    sources = [f"{arn}:{kind}/{place[5].rpartition('/')[2]}/x" for kind in ("task", "service")]
    sources += [":".join(place), f"{arn}:task-definition/x:1"]
    never = dict.fromkeys((*_OF_PEOPLE, "sts:externalid"), ())
    return {"aws:sourceaccount": [place[_ACCOUNT]], "aws:sourcearn": sources, **never}


def _examine_roles(
    aws: AwsReader, wanted: Mapping[str, str], place: Sequence[str], result: Examined
) -> dict[str, Statements | None]:
    """Whether tasks may assume their roles; the roles that exist, each with its boundary, if any."""
    there: dict[str, Statements | None] = {}
    for role, name in wanted.items():
        if not _is_here(role, place):
            result.unclear(f"{role} of {name}")
    roles = [role for role in wanted if _is_here(role, place)]
    described = at_once(lambda role: result.attempt(lambda: (role_of(aws.account, role),)), roles)
    for role, answer in zip(roles, described, strict=True):
        if answer is None:
            continue
        (found,) = answer
        document = None if found is None else found["AssumeRolePolicyDocument"]
        assumed = document is not None and is_assumed(document, _starting(place))
        if assumed is None:
            result.unclear(f"whether a task may assume {role}")
        elif not assumed:
            why = "does not exist" if document is None else "cannot be assumed by a task"
            result.wrong(f"{wanted[role]} cannot start again: its role {role} {why}")
        if found is not None and document is not None:
            there[role] = result.attempt(boundary_of, aws.account, found)
            if is_anybodys(document):
                result.wrong(f"anyone may assume {role}, the role of {wanted[role]}")
    return there


def may_read(statements: Statements, secret: str, context: Context = MappingProxyType({})) -> bool:
    """Whether policies let a role read a secret; its ARN may be without the six characters that AWS adds."""
    ends = {"-AbCdEf", *(each[-7:] for each in resources(statements) if each[-7:].startswith("-"))}
    return any(allows(statements, READ, f"{secret}{end}", context) for end in ("", *ends))


def policy_of(account: AwsAccount, secret: str) -> str:
    """The resource policy of a secret in this account and region; empty if it has none."""
    gone = ("ResourceNotFoundException",)
    answer = account.find("secretsmanager", "get_resource_policy", gone, SecretId=secret)
    return (answer or {}).get("ResourcePolicy") or ""


def _unreadable(aws: AwsReader, name: str, role: str, secret: str, result: Examined) -> None:
    """A role's own policies do not let it read a secret; the secret's policy may."""
    place, parts = aws.cluster().split(":"), secret.split(":")
    if parts[_REGION] != place[_REGION] or parts[_ACCOUNT] != place[_ACCOUNT]:
        other = "region" if parts[_REGION] != place[_REGION] else "account"
        result.unclear(f"whether {role} may read {secret} of another {other}")
    elif policy_of(aws.account, secret):
        result.unclear(f"whether the policy of {secret} lets {role} read it")
    else:
        result.wrong(f"{name} cannot start again: {role} may not read {secret}")


def _unstarted(definition: TaskDefinition, place: Sequence[str], own: Statements) -> Iterator[str]:
    """Permissions that a task on Fargate needs to pull images and write logs, but its role lacks."""
    images = (ecs.IN_ECR.fullmatch(box.image) for box in definition.containers)
    regions = {found["region"] for found in images if found}
    if any(not allows(own, PULL_TOKEN, "*", _acting(place, each)) for each in regions):
        yield PULL_TOKEN
    streams = {each.partition(":log-stream:")[2] for each in resources(own)}  # by their prefix
    for box in definition.containers:
        group = f"arn:{place[_PARTITION]}:logs:{box.log_region}:{place[_ACCOUNT]}:log-group:{box.log_group}"
        named = [group, f"{group}:*", *(f"{group}:log-stream:{each or 'x'}" for each in streams)]
        for action in LOGGING if box.log_region and box.log_group else ():
            if not any(allows(own, action, each, _acting(place, box.log_region)) for each in named):
                yield f"{action} in {box.log_group}"


def _unpulled(
    aws: AwsReader,
    name: str,
    definition: TaskDefinition,
    own: Statements,
    limit: Statements | None,
    result: Examined,
) -> None:
    """Whether a role may pull the images of its account, by its own policies or those of the repository."""
    place, role = aws.cluster().split(":"), definition.execution_role
    for image in {box.image: ecs.IN_ECR.fullmatch(box.image) for box in definition.containers}.values():
        if image is None or image["registry"] != place[_ACCOUNT]:
            continue
        repository = image["repository"]
        arn = f"arn:{place[_PARTITION]}:ecr:{image['region']}:{place[_ACCOUNT]}:repository/{repository}"
        context = _acting(place, image["region"])
        if image["region"] == place[_REGION] and (
            why := result.attempt(_undecryptable, aws.account, image, place[3:5])
        ):
            result.wrong(f"{name} cannot start again: {why}")
            continue
        policy = ecs.policy_of(aws.account, image)
        for action in PULLS:
            who = arn_of(role, place[_PARTITION], place[_ACCOUNT])
            barred = denies(statements_of(policy), who, action, arn, context)
            bounded = limit is not None and not allows(limit, action, arn, context)
            if allows(own, action, arn, context) and not bounded and not barred:
                continue
            denied = barred or any(
                each.get("Effect") == "Deny" and covers(each, "Action", action) and met(each, context)
                for each in own
                if covers(each, "Resource", arn)
            )
            if not denied and not bounded and policy:
                what = f"whether the policy of {repository} lets {role} pull from it"
                result.unclear(what)
                break
            result.wrong(f"{name} cannot start again: {role} may not {action} of {repository}")


def _undecryptable(account: AwsAccount, image: re.Match[str], place: Sequence[str]) -> str:
    """Why nobody can decrypt a repository's images; empty if its key can be used."""
    key = ecs.key_of(account, image)
    unusable = read_key(account, key, place).unusable if key else ""
    return f"{image['repository']} is encrypted with {key}, which {unusable}" if unusable else ""


def _examine_secrets(
    aws: AwsReader,
    owners: Mapping[str, TaskDefinition],
    held: RolePolicies | None,
    there: Collection[str],
    result: Examined,
) -> None:
    """Whether the secrets of tasks exist, and their roles, if `there`, can decrypt them.

    Secrets of another account or region are not looked up.
    """
    cluster, gone = aws.cluster().split(":"), ("ResourceNotFoundException",)
    place = cluster[3:5]
    given = {
        (name, definition.execution_role, secret): None
        for name, definition in owners.items()
        for secret in _given(definition)
        if secret.split(":")[3:5] == place
    }
    secrets = [*dict.fromkeys(secret for *_, secret in given)]

    def read(secret: str) -> tuple[tuple[dict[str, Any] | None] | None, str]:
        find = partial(aws.account.find, "secretsmanager", "describe_secret", gone)
        answer = result.attempt(lambda: (find(SecretId=secret),))
        return answer, result.attempt(policy_of, aws.account, secret) or ""

    described = dict(zip(secrets, at_once(read, secrets), strict=True))
    for name, role, secret in given:
        reading, policy = described[secret]
        if reading is None:
            continue
        (found,) = reading
        key = (found or {}).get("KmsKeyId", "")
        why: str | None = _unusable(found)
        context = {**_acting(cluster, place[0]), **(result.attempt(_outside, aws, name) or {})}
        who = arn_of(role, cluster[_PARTITION], cluster[_ACCOUNT])
        if not why and denies(statements_of(policy), who, READ, secret, context):
            why = f"has a policy that denies it to {role}"
        elif not why and key and role in there and held and not key.endswith(SECRETS_KEY):
            own = held.statements.get(role, ())
            asking = {**context, **_through(place, (found or {}).get("ARN", secret))}
            answer = result.attempt(
                lambda: (undecrypted(aws.account, key, role, own, place, asking),)  # noqa: B023
            )
            if answer is None:
                continue
            (why,) = answer
        if why is None:
            unread = f"whether the policy of {key}, which is another account's, lets {role} decrypt {secret}"
            result.unclear(unread)
        elif why:
            result.wrong(f"{name} cannot start again: {secret} {why}")


def _examine_parts(aws: AwsReader, owners: Mapping[str, TaskDefinition], result: Examined) -> None:
    """Whether a signing key's secret is JSON with the member that a container uses; others are not read."""
    ours = re.compile(rf"arn:[\w:-]+:secret:{re.escape(aws.names.prefix)}/\w+/es256-private-key-\w{{6}}")
    for name, definition in owners.items():
        for given in {value for box in definition.containers for value in box.secrets.values()}:
            secret, part = secret_of(given), [*given.split(":"), *[""] * 8][7]
            if not part or not ours.fullmatch(secret):
                continue
            by = ("secretsmanager", "get_secret_value", _NO_SECRET)
            answer = result.attempt(aws.account.find, *by, SecretId=secret)
            if answer is not None and not _has_part(answer.get("SecretString", ""), part):
                what = f"the JSON in {secret} lacks {part}, which its container asks for"
                result.wrong(f"{name} cannot start again: {what}")


def _has_part(value: str, part: str) -> bool:
    try:
        found = json.loads(value)
    except ValueError:
        return False
    return isinstance(found, dict) and part in found


_NO_SECRET = ("ResourceNotFoundException", "InvalidRequestException")


def _unusable(secret: Mapping[str, Any] | None) -> str:
    """Why no policy can make a secret readable; empty if nothing is known to be wrong."""
    if secret is None:
        return "does not exist"
    if secret.get("DeletedDate"):
        return "is scheduled for deletion"
    stages = secret.get("VersionIdsToStages")
    current = stages is None or any("AWSCURRENT" in each for each in stages.values())
    return "" if current else "has no current version"


def _examine_parameters(
    aws: AwsReader,
    owners: Mapping[str, TaskDefinition],
    held: RolePolicies | None,
    there: Mapping[str, Statements | None],
    result: Examined,
) -> None:
    """Whether the Systems Manager parameters that tasks use exist, and may be read and decrypted."""
    place = aws.cluster().split(":")
    given = {
        (name, definition.execution_role, each): None
        for name, definition in owners.items()
        for box in definition.containers
        for each in box.references
        if not re.match(r"arn:[\w-]+:secretsmanager:", each)
    }
    for name, role, each in given:
        if each.startswith("arn:") and each.split(":")[3:5] != place[3:5]:
            continue
        path = each.partition(":parameter/")[2] or each.removeprefix("/")
        by_name = [{"Key": "Name", "Option": "Equals", "Values": [path, f"/{path}"]}]
        found = result.attempt(
            aws.account.pages, "ssm", "describe_parameters", "Parameters", ParameterFilters=by_name
        )
        arn = ":".join([*place[:2], "ssm", *place[3:5], f"parameter/{path}"])
        own = held.statements.get(role, ()) if held else ()
        if found == []:
            result.wrong(f"{name} cannot start again: the parameter {each} does not exist")
        elif held and role in there:
            limits = [one for one in (own, there[role]) if one is not None]
            context = _acting(place, place[_REGION])
            if not all(allows(one, READ_PARAMETERS, arn, context) for one in limits):
                result.wrong(f"{name} cannot start again: {role} may not read {each}")
            elif (key := (found or [{}])[0].get("KeyId", "")) and not key.endswith(_PARAMETERS_KEY):
                asking = {**context, **_through(place[3:5], arn, "ssm", "parameter_arn")}
                if why := result.attempt(undecrypted, aws.account, key, role, own, place[3:5], asking):
                    result.wrong(f"{name} cannot start again: {each} {why}")


def _examine_logs(aws: AwsReader, owners: Mapping[str, TaskDefinition], result: Examined) -> None:
    """Whether the log groups exist that containers need to start."""
    wanted = {
        box.log_group: name
        for name, definition in owners.items()
        for box in definition.containers
        if box.needs_log_group and box.log_region == aws.account.region
    }
    found = result.attempt(aws.retention, tuple(sorted(wanted))) if wanted else None
    for group, name in wanted.items():
        if found is not None and group not in found:
            what = f"{name} cannot start again: its log group {group} does not exist"
            result.wrong(what)


#: How long a rotation may take, and may be late.
_ROTATES_WITHIN = timedelta(days=1)


def unrotated(aws: AwsReader, one_shots: Sequence[str]) -> Examined:
    """Return the secrets of tasks that AWS did not rotate in time, and those whose keys soon end."""
    place, result = aws.cluster().split(":")[3:5], Examined()
    given = {one for each in aws.owners(one_shots).values() for one in _given(each)}
    for secret in sorted(each for each in given if each.split(":")[3:5] == place):
        described = ("secretsmanager", "describe_secret", _NO_SECRET)
        answer = result.attempt(aws.account.find, *described, SecretId=secret)
        if why := overdue(answer or {}, datetime.now(UTC)):
            result.wrong(f"{secret} {why}")
        key = (answer or {}).get("KmsKeyId", "")
        found = result.attempt(read_key, aws.account, key, place) if key else None
        if found and (why := ending(found)):
            result.wrong(f"{secret} is encrypted with {key}, which {why}")
        by = (answer or {}).get("RotationLambdaARN", "") if (answer or {}).get("RotationEnabled") else ""
        called = partial(
            aws.account.find, "lambda", "get_function_configuration", _NO_SECRET, FunctionName=by
        )
        if by.split(":")[3:5] == place and result.attempt(lambda: (called(),)) == (None,):  # noqa: B023
            result.wrong(f"{secret} is rotated by {by}, which does not exist")
    return result


def overdue(secret: Mapping[str, Any], now: datetime) -> str:
    """Why the rotation of a secret from DescribeSecret failed; empty if it did not, or there is none."""
    if not secret.get("RotationEnabled"):
        return ""
    due, changed = secret.get("NextRotationDate") or now, secret.get("LastChangedDate") or now
    stages = [*(secret.get("VersionIdsToStages") or {}).values()]
    if any("AWSPENDING" in each and "AWSCURRENT" not in each for each in stages):
        since = f"has had a version AWSPENDING since {changed:%Y-%m-%d}: it cannot be rotated again"
        return since if changed < now - _ROTATES_WITHIN else ""
    return (
        f"was due for rotation by {due:%Y-%m-%d}, but was not rotated" if due < now - _ROTATES_WITHIN else ""
    )


#: AWS's own key for secrets, which every role of the account may use through Secrets Manager.
SECRETS_KEY = "alias/aws/secretsmanager"
_PARAMETERS_KEY = "alias/aws/ssm"  # likewise


def _roles(definition: TaskDefinition) -> list[str]:
    return [each for each in (definition.execution_role, definition.task_role) if each]


def _given(definition: TaskDefinition) -> list[str]:
    """The Secrets Manager secrets that a task's containers get."""
    found = [secret_of(each) for box in definition.containers for each in box.references]
    return [each for each in found if re.match(r"arn:[\w-]+:secretsmanager:", each)]

"""Which secrets roles may read by their policies, compared as IAM does, and where the files do not say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from smoke.source.checkout import Finding
from smoke.source.rules import is_like
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.hcl import Place
from smoke.source.terraform.references import (
    PARAMETERS,
    SECRETS_MANAGER,
    entries,
    items,
    referenced,
    secret,
    thing,
)
from smoke.source.terraform.values import Value, is_known, text

from .iam import (
    READ,
    ROLE,
    Attached,
    Grant,
    Narrowing,
    Statement,
    allows,
    attached,
    behind,
    never,
    policy_name,
    reads_of,
    roles_of,
    statements,
    tags_of,
    target_of,
)

_ASSUME = "sts:assumerole"
#: AWS's managed policies that let a role read all secrets or parameters, and those that do not.
_ANY = {
    SECRETS_MANAGER: {"AdministratorAccess", "PowerUserAccess", "SecretsManagerReadWrite"},
    PARAMETERS: {
        "AdministratorAccess", "PowerUserAccess", "AmazonSSMFullAccess", "AmazonSSMReadOnlyAccess",
        "AmazonSSMManagedInstanceCore", "AmazonEC2RoleforSSM", "ReadOnlyAccess",
    },
}  # fmt: skip
_HARMLESS = {
    "AmazonECSTaskExecutionRolePolicy", "AmazonECS_FullAccess", "CloudWatchAgentServerPolicy",
    "CloudWatchLogsFullAccess", "CloudWatchFullAccess", "CloudWatchFullAccessV2",
    "CloudWatchReadOnlyAccess", "AWSXRayDaemonWriteAccess", "AWSXrayWriteOnlyAccess",
    "AmazonEC2ContainerRegistryReadOnly", "AmazonEC2ContainerRegistryPowerUser",
    "AmazonEC2ContainerRegistryFullAccess", "AmazonS3ReadOnlyAccess", "AmazonS3FullAccess",
    "AmazonSQSFullAccess", "AmazonSNSFullAccess", "AmazonDynamoDBFullAccess",
    "AmazonPrometheusRemoteWriteAccess", "AmazonRDSDataFullAccess",
    "AmazonEC2ContainerServiceEventsRole", "AmazonECSInfrastructureRolePolicyForVolumes",
    "AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole", "AmazonRDSEnhancedMonitoringRole",
    "AWSAppMeshEnvoyAccess", "SecurityAudit",
}  # fmt: skip


@dataclass(slots=True)
class Grants:
    """What roles may read, and what is not understood, by the roles that it concerns."""

    configuration: Configuration
    found: list[Grant] = field(default_factory=list)
    limits: list[Narrowing] = field(default_factory=list)
    not_examined: list[tuple[tuple[str, ...], Finding]] = field(default_factory=list)

    def note(self, roles: tuple[str, ...], at: Place, what: str) -> None:
        """Record something that is not understood."""
        self.not_examined.append((roles, at.finding(what)))


def grants(configuration: Configuration) -> Grants:
    """Return everything that policies let roles read."""
    result = Grants(configuration)
    for each in attached(configuration):
        _policy(result, each)
    for role in configuration.of_type(ROLE):
        for arn in items(role.attribute("permissions_boundary")):
            _boundary(result, configuration, role, arn)
    roles = tuple(thing(role.reference, ROLE).key for role in configuration.of_type(ROLE))
    for policy in configuration.of_type("aws_secretsmanager_secret_policy"):
        result.limits += _denied_by_secret(policy, roles)
    result.found = [each for grant in result.found for each in _limited(result, grant)]
    result.found += _by_another_role(configuration, result.found)
    for policy in configuration.of_type("aws_secretsmanager_secret_policy"):
        _of_secret(result, policy, roles)
    _bounded_batches(result)
    return result


def _by_another_role(configuration: Configuration, found: list[Grant]) -> Iterator[Grant]:
    """Yield what a role may read when it assumes another one that trusts it."""
    roles = {thing(role.reference, ROLE).key: role for role in configuration.of_type(ROLE)}
    for key, role in roles.items():
        trusted = dict[str, Place]()
        for each in statements(role.attribute("assume_role_policy"), []):
            principal = each.parts.get("Principal")
            for one in items(entries(principal).get("AWS", principal)):
                if (name := thing(one, ROLE).key) in roles and name != key and allows(each.parts, _ASSUME):
                    trusted[name] = each.at
        held = [grant for grant in found if key in grant.roles] if trusted else []
        for name, at in trusted.items():
            for grant in held:
                yield replace(grant, roles=(name,), holder=f"the trust of {role.address}", at=at)


def _boundary(result: Grants, configuration: Configuration, role: Resource, arn: Value) -> None:
    """A role may do only what its permissions boundary allows."""
    inside, own = Grants(configuration), roles_of(role.reference)
    for each in behind(configuration, Attached(own, role, arn=arn)):
        _policy(inside, each)
    result.limits += inside.limits
    why = next((finding.what for _, finding in inside.not_examined), "")
    for service, reads in READ.items():
        targets = tuple(each for each in inside.found if each.service == service)
        title = f"the boundary of {role.address}"
        result.limits.append(Narrowing(own, service, targets, True, frozenset(reads), title, why))


def _limited(result: Grants, grant: Grant) -> Iterator[Grant]:
    """Yield the rest of a grant, by role; note the unknown rest of a pattern."""
    for role in grant.roles:
        left = [replace(grant, roles=(role,))]
        for limit in (each for each in result.limits if role in each.roles and each.concerns(grant)):
            left = [rest for each in left for rest in _rest(result, each, limit)]
        yield from left


def _rest(result: Grants, grant: Grant, limit: Narrowing) -> Iterator[Grant]:
    """Yield what a limit leaves of a grant."""
    covered = any(grant.within(each) for each in limit.targets)
    parts = [each for each in limit.targets if each.within(grant)] if grant.pattern else []
    if covered if limit.beyond else not covered and not parts:
        yield grant
        return
    if limit.beyond:
        yield from (replace(grant, target=each.target, pattern=each.pattern, at=each.at) for each in parts)
    if limit.why or (parts and not limit.beyond and not covered):
        what = grant.target.name if grant.target is not None else grant.pattern
        why = f": {limit.why}" if limit.why else ""
        result.note(grant.roles, grant.at, f"what {limit.title} leaves of {what}{why}")


def _policy(result: Grants, each: Attached) -> None:
    """What a policy lets roles read."""
    if each.arn is not None:
        _managed(result, each.roles, each.holder, each.arn)
        return
    why: list[str] = []
    for statement in statements(each.document, why):
        _statement(result, each.roles, each.holder, statement)
    at = each.document.at if each.document is not None else each.holder.at
    for what in dict.fromkeys(why):
        result.note(each.roles, at, f"the policy of {each.holder.address}: {what}")


def _managed(result: Grants, roles: tuple[str, ...], at: Resource, arn: Value) -> None:
    """What a policy outside the files lets a role read."""
    name = policy_name(arn)
    for service, names in _ANY.items():
        if name in names:
            reads = frozenset(READ[service])
            result.found.append(Grant(roles, at.address, arn.at, service, pattern="*", reads=reads))
    if name not in _HARMLESS.union(*_ANY.values()):
        result.note(roles, arn.at, f"the policy {text(arn)} of {at.address}")


def _statement(result: Grants, roles: tuple[str, ...], holder: Resource, statement: Statement) -> None:
    parts = statement.parts
    effect = text(parts.get("Effect"))
    if effect.lower() not in {"", "allow"} and "${" not in effect:
        result.limits += _denied(roles, holder, parts) if "Condition" not in parts else ()
        return
    for service in READ:
        reads = reads_of(parts, service)
        if reads is None or (reads and "${" in effect):
            result.note(roles, statement.at, f"what {holder.address} allows, which is not known")
        elif reads and "NotResource" in parts:
            at = parts["NotResource"].at
            result.found.append(Grant(roles, holder.address, at, service, pattern="*", reads=reads))
        elif reads:
            _allowed(result, Grant(roles, holder.address, statement.at, service, reads=reads), parts)


def _allowed(result: Grants, grant: Grant, parts: dict[str, Value]) -> None:
    """Add a grant for each resource of a statement, if its conditions can hold."""
    for target in items(parts.get("Resource")):
        found, why = target_of(target, grant.service)
        if never(parts, result.configuration.home, tags_of(result.configuration, target)):
            continue
        if found is not None and found.pattern and "Condition" in parts:
            why = f"{found.pattern} under a condition"
        elif found is not None:
            result.found.append(replace(found, roles=grant.roles, holder=grant.holder, reads=grant.reads))
        if why:
            what = f"what {grant.holder} lets its role read: {why}"
            result.note(grant.roles, target.at, what)


def _denied(roles: tuple[str, ...], holder: Resource, parts: dict[str, Value]) -> Iterator[Narrowing]:
    """What a statement denies, as far as known."""
    beyond = "NotResource" in parts
    for service in READ:
        found = [
            target_of(each, service) for each in items(parts.get("NotResource" if beyond else "Resource"))
        ]
        targets = tuple(grant for grant, _ in found if grant is not None)
        why = next((why for _, why in found if why), "") if beyond else ""
        title = f"the denial of {holder.address}"
        yield Narrowing(roles, service, targets, beyond, reads_of(parts, service) or frozenset(), title, why)


def _bounded_batches(result: Grants) -> None:
    """A batch returns only secrets that its role may read one by one."""
    bounded = {role for each in result.found if not each.batch for role in each.roles}
    result.found = [each for each in result.found if not each.batch or not bounded.issuperset(each.roles)]


#: Tests that hold for a role outside the values, which is so denied.
_OTHERS = {"StringNotEquals", "StringNotLike", "ArnNotEquals", "ArnNotLike"}


def _denied_by_secret(policy: Resource, roles: tuple[str, ...]) -> Iterator[Narrowing]:
    """What a secret's policy denies to all roles, or to all except those that it names."""
    identity = secret(policy.attribute("secret_arn"))
    for each in statements(policy.attribute("policy"), []):
        principal = each.parts.get("Principal")
        everybody = any(text(one) == "*" for one in items(entries(principal).get("AWS", principal)))
        if text(each.parts.get("Effect")).lower() != "deny" or identity is None or not everybody:
            continue
        tests = [(test, key.lower(), value) for test, keys in entries(each.parts.get("Condition")).items()
                 for key, value in entries(keys).items()]  # fmt: skip
        spared: set[str] = set()
        if tests:
            (test, key, value), *more = tests
            if more or test not in _OTHERS or key != "aws:principalarn":
                continue
            if any(referenced(one) is None and not is_known(one) for one in items(value)):
                continue
            patterns = roles_of(value)
            spared = {role for role in roles if any(is_like(role, pattern) for pattern in patterns)}
        reads = reads_of(each.parts, SECRETS_MANAGER) or frozenset()
        target = Grant((), policy.address, each.at, SECRETS_MANAGER, identity)
        held = tuple(role for role in roles if role not in spared)
        yield Narrowing(held, SECRETS_MANAGER, (target,), False, reads, f"the policy {policy.address}")


def _of_secret(result: Grants, policy: Resource, all_roles: tuple[str, ...]) -> None:
    """What a secret's policy lets roles among `all_roles` read."""
    identity = secret(policy.attribute("secret_arn"))
    why: list[str] = []
    for statement in statements(policy.attribute("policy"), why):
        effect = text(statement.parts.get("Effect")) or "Allow"
        if identity is None or effect.lower() != "allow" or not reads_of(statement.parts, SECRETS_MANAGER):
            continue
        principal = statement.parts.get("Principal")
        found = entries(principal).get("AWS", principal)
        roles = all_roles if any(text(each) == "*" for each in items(found)) else roles_of(found)
        if roles is all_roles and "Condition" in statement.parts:
            result.note((), statement.at, f"{policy.address} lets every role read under a condition")
        else:
            result.found.append(Grant(roles, policy.address, statement.at, SECRETS_MANAGER, identity))
    for each in dict.fromkeys(why):
        result.note((), policy.at, f"the policy of {policy.address}: {each}")

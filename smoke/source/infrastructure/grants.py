"""Which secrets the policies of roles let them read, and what of that the files do not say.

Compared as IAM compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from smoke.source.checkout import Finding
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.hcl import Place
from smoke.source.terraform.references import (
    PARAMETERS,
    SECRETS_MANAGER,
    Identity,
    entries,
    items,
    of_service,
    referenced,
    secret,
    thing,
)
from smoke.source.terraform.values import Text, Value, flat, hidden, is_known, plain, text

from .iam import ROLE, Attached, Statement, allows, attached, behind, fits, policy_name, roles_of, statements

#: Actions that return a secret's value.
READ = {
    SECRETS_MANAGER: ("secretsmanager:getsecretvalue", "secretsmanager:batchgetsecretvalue"),
    PARAMETERS: (
        "ssm:getparameter", "ssm:getparameters", "ssm:getparametersbypath", "ssm:getparameterhistory",
    ),
}  # fmt: skip
_ASSUME = "sts:assumerole"
_BATCH = "secretsmanager:batchgetsecretvalue"
#: Policies of AWS that let a role read secrets or parameters of any name, and those that do not.
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


@dataclass(frozen=True, slots=True)
class Grant:
    """`roles` (their identities) may read `target`, a secret, or else everything that `pattern` fits.

    A pattern is of the name behind `secret:` or `parameter`; `service` says which of the two. One that
    `misses` means its target, and fits no ARN of it.
    """

    roles: tuple[str, ...]
    holder: str
    at: Place
    service: str
    target: Identity | None = None
    pattern: str = ""
    reads: frozenset[str] = frozenset()
    misses: bool = False

    @property
    def batch(self) -> bool:
        """Whether it is of use only for what the role may read one by one."""
        return self.reads == {_BATCH}

    def within(self, other: Grant) -> bool:
        """Whether the other one covers everything that this one covers."""
        if other.pattern == "*":
            return True
        if self.target is not None:
            same = other.target is not None and other.target.key == self.target.key
            return same or other.covers(self.target.name)
        return bool(other.pattern) and fits(self.pattern, other.pattern)

    def covers(self, name: str) -> bool:
        """Whether its pattern fits a secret's name, with the six characters that Secrets Manager adds."""
        pattern = self.pattern.lstrip("/")
        return fits(name.lstrip("/"), pattern) or fits(f"{name}-AbCdEf", pattern)

    def finding(self, what: str) -> Finding:
        """Return a finding where the grant is written."""
        return Finding(self.at.path, self.at.line, what)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What keeps `roles` from reading: all that `targets` stand for, or (`beyond`) all but that.

    `why` is what of the targets is not known. It takes a reading only together with all `reads` of a grant.
    """

    roles: tuple[str, ...]
    service: str
    targets: tuple[Grant, ...]
    beyond: bool
    reads: frozenset[str]
    title: str
    why: str = ""

    def concerns(self, grant: Grant) -> bool:
        """Whether it takes what the grant would let its role do; a batch needs to read one by one as well."""
        needed = {READ[SECRETS_MANAGER][0]} if self.service == SECRETS_MANAGER else grant.reads
        return self.service == grant.service and needed <= self.reads


@dataclass(slots=True)
class Grants:
    """What roles may read, and what of that is not understood, by the roles that it concerns."""

    found: list[Grant] = field(default_factory=list)
    limits: list[Narrowing] = field(default_factory=list)
    not_examined: list[tuple[tuple[str, ...], Finding]] = field(default_factory=list)

    def note(self, roles: tuple[str, ...], at: Place, what: str) -> None:
        """Record what is not understood."""
        self.not_examined.append((roles, Finding(at.path, at.line, what)))


def grants(configuration: Configuration) -> Grants:
    """Return everything that policies let roles read."""
    result = Grants()
    for each in attached(configuration):
        if each.arn is None:
            _document(result, each.roles, each.holder, each.document)
        else:
            _managed(result, each.roles, each.holder, each.arn)
    for role in configuration.of_type(ROLE):
        for arn in items(role.attribute("permissions_boundary")):
            _boundary(result, configuration, role, arn)
    result.found = [each for grant in result.found for each in _limited(result, grant)]
    result.found += _by_another_role(configuration, result.found)
    roles = tuple(thing(role.reference, ROLE).key for role in configuration.of_type(ROLE))
    for policy in configuration.of_type("aws_secretsmanager_secret_policy"):
        _of_secret(result, policy, roles)
    _bounded_batches(result)
    return result


def _by_another_role(configuration: Configuration, found: list[Grant]) -> Iterator[Grant]:
    """Yield what a role may read when it acts under another one, as that one's trust names it."""
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
    """A role may do only what its boundary allows."""
    inside, own = Grants(), roles_of(role.reference)
    for each in behind(configuration, Attached(own, role, arn=arn)):
        if each.arn is None:
            _document(inside, own, each.holder, each.document)
        else:
            _managed(inside, own, each.holder, each.arn)
    result.limits += inside.limits
    why = next((finding.what for _, finding in inside.not_examined), "")
    for service, reads in READ.items():
        targets = tuple(each for each in inside.found if each.service == service)
        title = f"the boundary of {role.address}"
        result.limits.append(Narrowing(own, service, targets, True, frozenset(reads), title, why))


def _limited(result: Grants, grant: Grant) -> Iterator[Grant]:
    """Yield what is left of a grant, by role; what is left of a pattern and not known is noted."""
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


def _managed(result: Grants, roles: tuple[str, ...], at: Resource, arn: Value) -> None:
    """What a policy lets a role read that is not in the files."""
    name = policy_name(arn)
    for service, names in _ANY.items():
        if name in names:
            reads = frozenset(READ[service])
            result.found.append(Grant(roles, at.address, arn.at, service, pattern="*", reads=reads))
    if name not in _HARMLESS.union(*_ANY.values()):
        result.note(roles, arn.at, f"the policy {text(arn)} of {at.address}")


def _document(result: Grants, roles: tuple[str, ...], holder: Resource, document: Value | None) -> None:
    why: list[str] = []
    for statement in statements(document, why):
        _statement(result, roles, holder, statement)
    for each in dict.fromkeys(why):
        result.note(
            roles,
            document.at if document is not None else holder.at,
            f"the policy of {holder.address}: {each}",
        )


def _statement(result: Grants, roles: tuple[str, ...], holder: Resource, statement: Statement) -> None:
    parts = statement.parts
    effect = text(parts.get("Effect"))
    if effect.lower() not in {"", "allow"} and "${" not in effect:
        result.limits += _denied(roles, holder, parts) if "Condition" not in parts else ()
        return
    for service in READ:
        reads = _reads(parts, service)
        if reads is None or (reads and "${" in effect):
            result.note(roles, statement.at, f"what {holder.address} allows, which is not known")
        elif reads and "NotResource" in parts:
            at = parts["NotResource"].at
            result.found.append(Grant(roles, holder.address, at, service, pattern="*", reads=reads))
        elif reads:
            for target in items(parts.get("Resource")):
                found, why = _target(target, service)
                if found is not None and found.pattern and "Condition" in parts:
                    why = f"{found.pattern} under a condition"
                elif found is not None:
                    result.found.append(replace(found, roles=roles, holder=holder.address, reads=reads))
                if why:
                    result.note(roles, target.at, f"what {holder.address} lets its role read: {why}")


def _denied(roles: tuple[str, ...], holder: Resource, parts: dict[str, Value]) -> Iterator[Narrowing]:
    """What a statement denies, as far as known."""
    beyond = "NotResource" in parts
    for service in READ:
        found = [_target(each, service) for each in items(parts.get("NotResource" if beyond else "Resource"))]
        targets = tuple(grant for grant, _ in found if grant is not None)
        why = next((why for _, why in found if why), "") if beyond else ""
        title = f"the denial of {holder.address}"
        yield Narrowing(roles, service, targets, beyond, _reads(parts, service) or frozenset(), title, why)


def _reads(parts: dict[str, Value], service: str) -> frozenset[str] | None:
    """The reading actions that a statement covers; None when that is not known."""
    key = "NotAction" if "NotAction" in parts else "Action"
    patterns = list(items(parts.get(key)))
    unknown = [each for each in patterns if not is_known(each)]
    known = [str(plain(each)) for each in patterns if is_known(each)]
    covered = {action for action in READ[service] if any(fits(action, each.lower()) for each in known)}
    if key == "NotAction":
        covered = set(READ[service]) - covered
    return None if unknown and not covered else frozenset(covered)


def _target(target: Value, service: str) -> tuple[Grant | None, str]:
    """Return what a resource of a statement stands for, if a secret of the service fits it; else why not."""
    grant = Grant((), "", target.at, service)
    resource = referenced(target)
    grant = replace(grant, misses=service == SECRETS_MANAGER and _misses(target))
    if resource is not None:
        identity = secret(target)
        if identity is None:
            return None, resource.address if resource.type in _SEVERAL else ""
        return (replace(grant, target=identity) if of_service(resource) in {service, ""} else None), ""
    pattern = _pattern(text(flat(target)), service)
    if pattern is None:
        return None, ""
    if "${" in pattern and hidden(target):
        return None, hidden(target)
    if "*" in pattern or "?" in pattern.removesuffix("-??????"):
        return replace(grant, pattern=pattern), ""
    return replace(grant, target=secret(target)), ""


#: A secret's name without what Secrets Manager puts behind it, and without a wildcard.
_WHOLE_NAME = re.compile(r"arn:[^:]*:secretsmanager:[^:]*:[^:]*:secret:(?![^:]*-(?:\w{6}|\?{6})$)[^:*?$]+")


def _misses(target: Value) -> bool:
    """Whether a resource of a statement means one secret, and fits no ARN: these end in six characters.

    Behind a reference to the ARN, which has them, more than `*` is too much.
    """
    content = target.content
    if isinstance(content, Text):
        first, *rest = content.parts
        held = referenced(first) if isinstance(first, Value) else None
        if held is not None and of_service(held) == SECRETS_MANAGER:
            behind = rest[0] if rest else ""
            return isinstance(behind, str) and re.fullmatch(r"-[?*]+|\?+", behind) is not None
    around, colon, name = text(flat(target)).rpartition(":secret:")
    filled = re.sub(r"\$\{[^{}]*\}", "x", around)
    return "$" not in name and _WHOLE_NAME.fullmatch(f"{filled}{colon}{name}") is not None


#: Data sources that stand for any number of secrets.
_SEVERAL = {"aws_secretsmanager_secrets", "aws_ssm_parameters_by_path"}


def _pattern(written: str, service: str) -> str | None:
    """The part of a resource's pattern that stands for a name; None when no secret of the service fits it."""
    if not written.startswith("arn:"):
        return written
    parts = written.split(":", 6 if service == SECRETS_MANAGER else 5)
    if len(parts) > 2 and "$" not in parts[2] and not fits(service, parts[2]):
        return None
    last = parts[-1]
    if len(parts) < 6:  # the wildcard stands for all that follows
        return "*" if last.endswith("*") else None
    if service == PARAMETERS:
        return (
            last.removeprefix("parameter").lstrip("/")
            if last.startswith("parameter")
            else ("*" if last == "*" else None)
        )
    if len(parts) == 6:
        return "*" if last.endswith("*") else None
    return last if fits("secret", parts[5]) or "$" in parts[5] else None


def _bounded_batches(result: Grants) -> None:
    """A batch returns only what its role may read one by one: it counts where nothing else is granted."""
    bounded = {role for each in result.found if not each.batch for role in each.roles}
    result.found = [each for each in result.found if not each.batch or not bounded.issuperset(each.roles)]


def _of_secret(result: Grants, policy: Resource, all_roles: tuple[str, ...]) -> None:
    """What the policy of a secret itself lets roles read, out of `all_roles`."""
    arn = policy.attribute("secret_arn")
    identity = secret(arn) if arn is not None else None
    why: list[str] = []
    for statement in statements(policy.attribute("policy"), why):
        effect = text(statement.parts.get("Effect")) or "Allow"
        if identity is None or effect.lower() != "allow" or not _reads(statement.parts, SECRETS_MANAGER):
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

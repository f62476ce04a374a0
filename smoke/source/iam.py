"""Which secrets the policies of a configuration let roles read, compared as IAM compares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .checkout import Finding
from .hcl import Place
from .identities import (
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
from .terraform import Body, Configuration, Resource
from .values import Value, decoded, flat, hidden, is_known, options, plain, text

ROLE = "aws_iam_role"
#: Actions that return a secret's value.
READ = {
    SECRETS_MANAGER: ("secretsmanager:getsecretvalue", "secretsmanager:batchgetsecretvalue"),
    PARAMETERS: (
        "ssm:getparameter", "ssm:getparameters", "ssm:getparametersbypath", "ssm:getparameterhistory",
    ),
}  # fmt: skip
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

    A pattern is of the name behind `secret:` or `parameter`; `service` says which of the two.
    """

    roles: tuple[str, ...]
    holder: str
    at: Place
    service: str
    target: Identity | None = None
    pattern: str = ""
    batch: bool = False

    def finding(self, what: str) -> Finding:
        """Return a finding where the grant is written."""
        return Finding(self.at.path, self.at.line, what)


@dataclass(slots=True)
class Grants:
    """What roles may read, and what of that is not understood, by the roles that it concerns."""

    found: list[Grant] = field(default_factory=list)
    not_examined: list[tuple[tuple[str, ...], Finding]] = field(default_factory=list)

    def note(self, roles: tuple[str, ...], at: Place, what: str) -> None:
        """Record what is not understood."""
        self.not_examined.append((roles, Finding(at.path, at.line, what)))


@dataclass(frozen=True, slots=True)
class Attached:
    """A policy that `roles` have: its `document`, or the `arn` of one that is attached; `holder` says so."""

    roles: tuple[str, ...]
    holder: Resource
    document: Value | None = None
    arn: Value | None = None


def attached(configuration: Configuration) -> Iterator[Attached]:
    """Yield every policy that a role has."""
    for policy in configuration.of_type("aws_iam_role_policy"):
        yield Attached(_roles(policy.attribute("role")), policy, policy.attribute("policy"))
    for role in configuration.of_type(ROLE):
        own = _roles(role.reference)
        for block in role.blocks("inline_policy"):
            yield Attached(own, role, block.attribute("policy"))
        for arn in items(role.attribute("managed_policy_arns")):
            yield from _behind(configuration, Attached(own, role, arn=arn))
    for type_, attributes in _ATTACHMENTS.items():
        for attachment in configuration.of_type(type_):
            held = _roles(*(attachment.attribute(name) for name in attributes[:-1]))
            for arn in items(attachment.attribute(attributes[-1])):
                yield from _behind(configuration, Attached(held, attachment, arn=arn))


def grants(configuration: Configuration) -> Grants:
    """Return everything that policies let roles read."""
    result = Grants()
    for each in attached(configuration):
        if each.arn is None:
            _document(result, each.roles, each.holder, each.document)
        else:
            _managed(result, each.roles, each.holder, each.arn)
    for policy in configuration.of_type("aws_secretsmanager_secret_policy"):
        _of_secret(result, policy)
    _bounded_batches(result)
    return result


#: Resources that attach policies: the attributes that name roles, then the one that names policies.
_ATTACHMENTS = {
    "aws_iam_role_policy_attachment": ("role", "policy_arn"),
    "aws_iam_policy_attachment": ("roles", "policy_arn"),
    "aws_iam_role_policy_attachments_exclusive": ("role_name", "policy_arns"),
}


def _roles(*values: Value | None) -> tuple[str, ...]:
    return tuple(thing(item, ROLE).key for value in values for item in items(value))


def _behind(configuration: Configuration, found: Attached) -> Iterator[Attached]:
    """Yield the policy that an ARN names: its document where that is in the files, else the ARN."""
    assert found.arn is not None
    policy, name = referenced(found.arn), policy_name(found.arn)
    if policy is None or policy.block.type == "data":
        own = [
            each for each in configuration.of_type("aws_iam_policy") if text(each.attribute("name")) == name
        ]
        policy = own[0] if own and ":aws:policy/" not in text(found.arn) else None
    if policy is not None and policy.type == "aws_iam_policy":
        yield Attached(found.roles, policy, policy.attribute("policy"))
    else:
        yield found


def policy_name(arn: Value) -> str:
    """The name of the policy that an ARN stands for."""
    policy = referenced(arn)
    if policy is not None and policy.block.type == "data":
        return text(policy.attribute("name") or policy.attribute("arn")).rpartition("/")[2]
    return text(flat(arn)).rpartition("/")[2]


def _managed(result: Grants, roles: tuple[str, ...], at: Resource, arn: Value) -> None:
    """What a policy lets a role read that is not in the files."""
    name = policy_name(arn)
    for service, names in _ANY.items():
        if name in names:
            result.found.append(Grant(roles, at.address, arn.at, service, pattern="*"))
    if name not in _HARMLESS.union(*_ANY.values()):
        result.note(roles, arn.at, f"the policy {text(arn)} of {at.address}")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy: its parts by IAM's names."""

    parts: dict[str, Value]
    at: Place


def statements(document: Value | None, why: list[str]) -> Iterator[Statement]:
    """Yield the statements of a policy document; what cannot be read is added to `why`."""
    for each in options(document) if document is not None else ():
        resource = referenced(each)
        if resource is not None and resource.type == "aws_iam_policy_document":
            yield from _of_data(resource, why)
            continue
        read = decoded(each)
        if read is None or "Statement" not in entries(read):
            why.append(hidden(each) or "a policy that is no JSON in the files")
            continue
        for statement in items(entries(read)["Statement"]):
            if entries(statement):
                yield Statement(entries(statement), statement.at)
            else:
                why.append(hidden(statement) or f"a statement that is {text(statement)}")


_DATA = {"actions": "Action", "not_actions": "NotAction", "resources": "Resource",
         "not_resources": "NotResource", "effect": "Effect"}  # fmt: skip


def _of_data(document: Body, why: list[str]) -> Iterator[Statement]:
    for block in document.blocks("statement"):
        if block.uncertain:
            why.append(block.uncertain)
        found = {name: block.attribute(written) for written, name in _DATA.items()}
        parts = {name: value for name, value in found.items() if value is not None}
        conditions = block.blocks("condition")
        if conditions:
            parts["Condition"] = Value(True, conditions[0].at)
        if block.blocks("principals"):
            parts["Principal"] = Value(tuple(
                each for inner in block.blocks("principals") for each in items(inner.attribute("identifiers"))
            ), block.at)  # fmt: skip
        yield Statement(parts, block.at)
    for name in ("source_policy_documents", "override_policy_documents"):
        for other in items(document.attribute(name)):
            yield from statements(other, why)
    if document.block.unread:
        why.append(f"not valid HCL at {document.block.unread[0]}")


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
        return
    for service in READ:
        reads = _reads(parts, service)
        if reads is None or (reads and "${" in effect):
            result.note(roles, statement.at, f"what {holder.address} allows, which is not known")
        elif reads and "NotResource" in parts:
            result.found.append(Grant(roles, holder.address, parts["NotResource"].at, service, pattern="*"))
        elif reads:
            for target in items(parts.get("Resource")):
                found, why = _target(target, service)
                if found is not None and found.pattern and "Condition" in parts:
                    why = f"{found.pattern} under a condition"
                elif found is not None:
                    batch = reads == {_BATCH}
                    result.found.append(replace(found, roles=roles, holder=holder.address, batch=batch))
                if why:
                    result.note(roles, target.at, f"what {holder.address} lets its role read: {why}")


def _reads(parts: dict[str, Value], service: str) -> set[str] | None:
    """The reading actions that a statement covers; None when that is not known."""
    key = "NotAction" if "NotAction" in parts else "Action"
    patterns = list(items(parts.get(key)))
    unknown = [each for each in patterns if not is_known(each)]
    known = [str(plain(each)) for each in patterns if is_known(each)]
    covered = {action for action in READ[service] if any(fits(action, each.lower()) for each in known)}
    if key == "NotAction":
        covered = set(READ[service]) - covered
    return None if unknown and not covered else covered


def fits(value: str, pattern: str) -> bool:
    """Whether a value fits a pattern of IAM, in which `*` and `?` are the only signs."""
    return re.fullmatch(_regular(pattern), value) is not None


def _regular(pattern: str) -> str:
    return "".join(".*" if sign == "*" else "." if sign == "?" else re.escape(sign) for sign in pattern)


def _target(target: Value, service: str) -> tuple[Grant | None, str]:
    """Return what a resource of a statement stands for, if a secret of the service fits it; else why not."""
    grant = Grant((), "", target.at, service)
    resource = referenced(target)
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


def _of_secret(result: Grants, policy: Resource) -> None:
    """What the policy of a secret itself lets roles read."""
    arn = policy.attribute("secret_arn")
    identity = secret(arn) if arn is not None else None
    why: list[str] = []
    for statement in statements(policy.attribute("policy"), why):
        effect = text(statement.parts.get("Effect")) or "Allow"
        if identity is None or effect.lower() != "allow" or not _reads(statement.parts, SECRETS_MANAGER):
            continue
        principal = statement.parts.get("Principal")
        found = entries(principal).get("AWS", principal)
        result.found.append(Grant(_roles(found), policy.address, statement.at, SECRETS_MANAGER, identity))
    for each in dict.fromkeys(why):
        result.note((), policy.at, f"the policy of {policy.address}: {each}")

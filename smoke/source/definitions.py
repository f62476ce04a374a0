"""What the definitions of the services use (family, role, network, logs, secrets) and what they share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .checkout import Finding
from .hcl import Expr
from .terraform import Module, Resource

SERVICE = "aws_ecs_service"
TASK = "aws_ecs_task_definition"
FAMILY, ROLE, NETWORK, LOGS, SECRET = "task family", "execution role", "security group", "log group", "secret"
#: What each definition must have, and have for itself.
OWN = (FAMILY, ROLE, NETWORK, LOGS)


@dataclass(frozen=True, slots=True)
class Use:
    """`owner` (a service, or a task without one) uses a thing; two uses are of one thing by `identity`."""

    kind: str
    identity: str
    owner: str
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a task definition: its entries as expressions."""

    task: Resource
    entries: Mapping[str, Expr]

    @property
    def secrets(self) -> list[Expr]:
        """Where each of its secrets comes from."""
        return [
            item.entries()["valueFrom"] for item in self._list("secrets") if "valueFrom" in item.entries()
        ]

    @property
    def log_group(self) -> Expr | None:
        """The log group of its awslogs driver."""
        options = self.entries.get("logConfiguration", _NOTHING).entries().get("options", _NOTHING)
        return options.entries().get("awslogs-group")

    def _list(self, name: str) -> list[Expr]:
        return self.entries.get(name, _NOTHING).items()


_NOTHING = Expr("literal", 0, None)


def containers(module: Module, task: Resource) -> list[Container]:
    """Return the containers of a task. AssertionError where they cannot be read from the files."""
    found = list(module.objects(task.attribute("container_definitions")))
    assert found, (
        f"{task.path}:{task.block.line}: the containers of {task.address} are not written in this file"
    )
    return [Container(task, item.entries()) for item in found]


def uses(module: Module) -> list[Use]:
    """Return everything that services, and tasks without a service, use."""
    served = {}
    found: list[Use] = []
    for service in module.of_type(SERVICE):
        tasks = module.addresses(service.attribute("task_definition"))
        served.update(dict.fromkeys(tasks))
        for network in service.block.nested("network_configuration"):
            found += _all(module, service, service.label, NETWORK, network.attributes.get("security_groups"))
        for address in tasks:
            if address in module.resources:
                found += _task(module, module.resources[address], service.label)
    for task in module.of_type(TASK):
        if task.address not in served:
            found += _task(module, task, task.label)
    return [*found, *_readable(module, found)]


@dataclass(frozen=True, slots=True)
class Ownership:
    """Which group of services an owner belongs to; one that the plan does not list is a group of its own."""

    groups: Mapping[str, Sequence[str]]

    def of(self, owner: str) -> str:
        """The group of a service or task."""
        return next((group for group, members in self.groups.items() if owner in members), owner)

    def of_secret(self, name: str) -> str | None:
        """The group whose name is a part of a secret's path; None for one that is nobody's in particular."""
        parts = name.split("/")
        return next((group for group in self.groups if group in parts), None)


def missing(module: Module, found: Sequence[Use], ownership: Ownership, group: str) -> list[Finding]:
    """Return what a group of services must have and has not."""
    services = {service.label for service in module.of_type(SERVICE)}
    findings = []
    for member in ownership.groups[group]:
        kinds = {use.kind for use in found if use.owner == member}
        if not kinds:
            findings.append(Finding(module.directory, 0, f"{member} of {group} is not defined"))
            continue
        wanted = [kind for kind in OWN if kind != NETWORK or member in services]
        findings += [
            Finding(module.directory, 0, f"{member} has no {kind}") for kind in wanted if kind not in kinds
        ]
    held = [use for use in found if use.kind == SECRET and ownership.of(use.owner) == group]
    if not any(ownership.of_secret(secret_name(module, use)) == group for use in held):
        findings.append(Finding(module.directory, 0, f"{group} has no secret of its own"))
    return findings


def shared(
    module: Module,
    found: Sequence[Use],
    ownership: Ownership,
    kinds: Iterable[str],
    *,
    communal: bool = False,
) -> dict[str, list[Finding]]:
    """Return what several groups use, by group.

    A secret counts when it is one group's by its name and another refers to it; with `communal` only those
    count that are nobody's in particular.
    """
    wanted = set(kinds)
    by_group: dict[str, list[Finding]] = defaultdict(list)
    together: dict[tuple[str, str], list[Use]] = defaultdict(list)
    for use in found:
        if use.kind in wanted:
            together[use.kind, use.identity].append(use)
    for (kind, identity), users in together.items():
        owner = ownership.of_secret(secret_name(module, users[0])) if kind == SECRET else None
        if kind == SECRET and (owner is None) != communal:
            continue
        parties = {ownership.of(use.owner) for use in users} | ({owner} if owner else set())
        if len(parties) < 2:
            continue
        for use in users:
            user = ownership.of(use.owner)
            if owner is None:
                what = f"{kind} {identity} of {use.owner} is shared by {' and '.join(sorted(parties))}"
                concerned = parties
            else:
                what = f"{kind} {identity} of {owner} is used by {use.owner}"
                concerned = {owner, user} if user != owner else set()
            for party in concerned:
                by_group[party].append(Finding(use.path, use.line, what))
    return {group: sorted(set(findings)) for group, findings in by_group.items()}


def secret_name(module: Module, use: Use) -> str:
    """The name of a secret: the resource's own, else the identity itself (an ARN, or text)."""
    resource = module.resources.get(use.identity)
    return module.text(resource.attribute("name")) if resource is not None else use.identity


def _task(module: Module, task: Resource, owner: str) -> Iterator[Use]:
    yield Use(FAMILY, module.text(task.attribute("family")), owner, task.path, task.block.line)
    yield from _all(module, task, owner, ROLE, task.attribute("execution_role_arn"))
    for container in containers(module, task):
        yield from _all(module, task, owner, LOGS, container.log_group)
        for secret in container.secrets:
            yield from _all(module, task, owner, SECRET, secret)


def _all(module: Module, resource: Resource, owner: str, kind: str, expr: Expr | None) -> Iterator[Use]:
    for identity in module.identities(expr):
        yield Use(kind, identity, owner, resource.path, expr.line if expr is not None else 0)


def _readable(module: Module, found: Sequence[Use]) -> Iterator[Use]:
    """Yield a use for every secret that a role's policy lets its owner read."""
    owners: dict[str, list[str]] = defaultdict(list)
    for use in found:
        if use.kind == ROLE:
            owners[use.identity].append(use.owner)
    for grant in grants(module):
        for owner in dict.fromkeys(owner for role in grant.roles for owner in owners.get(role, ())):
            if "*" not in module.text(grant.target):
                yield from _all(module, grant.policy, owner, SECRET, grant.target)


SECRET_TYPES = ("aws_secretsmanager_secret.", "data.aws_secretsmanager_secret.")


@dataclass(frozen=True, slots=True)
class Grant:
    """`policy` lets `roles` read `target`: one secret, or a pattern."""

    roles: tuple[str, ...]
    policy: Resource
    target: Expr


def grants(module: Module) -> Iterator[Grant]:
    """Yield everything that a policy in the module lets a role read in Secrets Manager."""
    for roles, policy, document in _policies(module):
        statements = list(_statements(module, document))
        for statement in statements:
            resources = statement.get("Resource")
            if resources is not None and _reads_secrets(module, statement):
                for target in resources.items() or [resources]:
                    yield Grant(roles, policy, target)
        if not statements:
            # A document as text: what it names is all that can be known of it.
            for ref in document.refs():
                if any(address.startswith(SECRET_TYPES) for address in module.addresses(ref)):
                    yield Grant(roles, policy, ref)


def wildcards(module: Module) -> list[Finding]:
    """Return the policies that let a role read secrets which they do not name."""
    return [
        grant.policy.finding(f"{grant.policy.address} lets its role read any secret: {text}", grant.target)
        for grant in grants(module)
        for text in [module.text(grant.target)]
        if "*" in text
    ]


def _policies(module: Module) -> Iterator[tuple[tuple[str, ...], Resource, Expr]]:
    """Yield the roles of each policy, the resource that holds its document, and the document."""
    for policy in module.of_type("aws_iam_role_policy"):
        document = policy.attribute("policy")
        if document is not None:
            yield tuple(module.addresses(policy.attribute("role"))), policy, document
    for role in module.of_type("aws_iam_role"):
        for block in role.block.nested("inline_policy"):
            if "policy" in block.attributes:
                yield (role.address,), role, block.attributes["policy"]
    for attachment in module.of_type("aws_iam_role_policy_attachment"):
        roles = tuple(module.addresses(attachment.attribute("role")))
        for address in module.addresses(attachment.attribute("policy_arn")):
            policy = module.resources[address]
            document = policy.attribute("policy")
            if policy.type == "aws_iam_policy" and document is not None:
                yield roles, policy, document


def _statements(module: Module, document: Expr) -> Iterator[Mapping[str, Expr]]:
    for written in module.objects(document):
        for statement in module.objects(written.entries().get("Statement")):
            yield statement.entries()
    for address in module.addresses(document):
        data = module.resources[address].block
        for block in data.nested("statement") if data.labels[0] == "aws_iam_policy_document" else ():
            names = {"actions": "Action", "resources": "Resource", "effect": "Effect"}
            yield {names.get(name, name): value for name, value in block.attributes.items()}


def _reads_secrets(module: Module, statement: Mapping[str, Expr]) -> bool:
    actions = statement.get("Action")
    effect = module.text(statement.get("Effect")) or "Allow"
    if actions is None or effect != "Allow":
        return False
    texts = [module.text(item) for item in actions.items() or [actions]]
    return any(text in {"*", "secretsmanager:*"} or text.startswith("secretsmanager:Get") for text in texts)

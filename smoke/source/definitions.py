"""What each service and task uses by its Terraform, and which secrets its role may read."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .checkout import Finding
from .hcl import Expr
from .ownership import EXECUTION_ROLE, FAMILY, LOGS, NETWORK, REQUIRED, SECRET, Use
from .terraform import Module, Resource

SERVICE = "aws_ecs_service"
TASK = "aws_ecs_task_definition"


@dataclass(frozen=True, slots=True)
class ContainerBlock:
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


def containers(module: Module, task: Resource) -> list[ContainerBlock]:
    """Return the containers of a task. AssertionError where they cannot be read from the files."""
    found = list(module.objects(task.attribute("container_definitions")))
    assert found, (
        f"{task.path}:{task.block.line}: the containers of {task.address} are not written in this file"
    )
    return [ContainerBlock(task, item.entries()) for item in found]


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


def required(module: Module, members: Iterable[str]) -> dict[str, list[str]]:
    """Return what each of these services and tasks must have: a task without a service has no network."""
    services = {service.label for service in module.of_type(SERVICE)}
    return {
        member: [kind for kind in REQUIRED if kind != NETWORK or member in services] for member in members
    }


def secret_name(module: Module, identity: str) -> str:
    """The name of a secret: the resource's own, else the identity itself (an ARN, or text)."""
    resource = module.resources.get(identity)
    return module.text(resource.attribute("name")) if resource is not None else identity


def _task(module: Module, task: Resource, owner: str) -> Iterator[Use]:
    family = module.text(task.attribute("family"))
    yield Use(FAMILY, family, owner, family, path=task.path, line=task.block.line)
    yield from _all(module, task, owner, EXECUTION_ROLE, task.attribute("execution_role_arn"))
    for container in containers(module, task):
        yield from _all(module, task, owner, LOGS, container.log_group)
        for secret in container.secrets:
            yield from _all(module, task, owner, SECRET, secret)


def _all(
    module: Module, resource: Resource, owner: str, kind: str, expr: Expr | None, how: str = "uses"
) -> Iterator[Use]:
    for identity in module.identities(expr):
        name = secret_name(module, identity) if kind == SECRET else identity
        line = expr.line if expr is not None else 0
        yield Use(kind, identity, owner, name, how, resource.path, line)


def _readable(module: Module, found: Sequence[Use]) -> Iterator[Use]:
    """Yield a use for every secret that a role's policy lets its owner read."""
    owners: dict[str, list[str]] = defaultdict(list)
    for use in found:
        if use.kind == EXECUTION_ROLE:
            owners[use.identity].append(use.owner)
    for grant in grants(module):
        for owner in dict.fromkeys(owner for role in grant.roles for owner in owners.get(role, ())):
            if "*" not in module.text(grant.target):
                yield from _all(module, grant.policy, owner, SECRET, grant.target, "may read")


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

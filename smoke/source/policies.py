"""Which secrets a role may read, by its inline policies and its attached ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .findings import Finding
from .hcl import Expr
from .terraform import Module, Resource

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

"""Which thing in AWS a value names: by its name where the files say it, else by its address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .terraform import Resource
from .values import Symbol, Text, Value, flat, hidden, options, settle, symbols, text

#: What a container is given as a secret comes from one of these two services.
SECRETS_MANAGER, PARAMETERS = "secretsmanager", "ssm"
_SECRET_TYPES = {
    "aws_secretsmanager_secret": SECRETS_MANAGER,
    "aws_ssm_parameter": PARAMETERS,
}
#: What refers to a secret by one of its attributes.
_VERSIONS = {"aws_secretsmanager_secret_version", "aws_secretsmanager_secret_rotation"}
#: Secrets Manager puts a hyphen and six characters behind the name in an ARN; a policy may match those.
_SUFFIX = re.compile(r"-([A-Za-z0-9]{6}|\?{6})$")


@dataclass(frozen=True, slots=True)
class Identity:
    """`key` is equal for the same thing, `name` is how a person knows it; `why` says what hides it."""

    key: str
    name: str
    why: str = ""


def items(value: Value | None) -> Iterator[Value]:
    """Yield every item that a value may hold: those of lists, at any depth, of each alternative."""
    if value is None:
        return
    for each in options(value):
        if isinstance(each.content, tuple):
            for item in each.content:
                yield from items(item)
        elif each.content is not None:
            yield each


#: What may follow a reference without making another thing of it: a key or version, or a pattern of IAM.
_BEHIND = (":", "*", "-*", "-?", "/*")


def referenced(value: Value | None) -> Resource | None:
    """The resource that a value refers to, by any of its attributes, at the beginning of the value.

    An account's number in the middle of an ARN is no reference to what the ARN names.
    """
    content = value.content if value is not None else None
    if isinstance(content, Text):
        first, *rest = content.parts
        behind = rest[0] if rest else ":"
        held = isinstance(first, Value) and isinstance(behind, str) and behind.startswith(_BEHIND)
        return referenced(first) if held and isinstance(first, Value) else None
    if not isinstance(content, Symbol) or content.resource is None or value is None:
        return None
    if isinstance(content.resource, Resource):
        return content.resource
    settled = settle(value)  # an output of a module
    return referenced(settled) if settled is not value else None


def named(resource: Resource, attribute: str = "name") -> Identity:
    """Identify a resource by its name; two of one type and name are the same thing, data sources included."""
    name = resource.attribute(attribute)
    if name is None or any(part.why for part in symbols(flat(name))) or "${" in text(name):
        return Identity(resource.address, text(name) if name is not None else resource.address)
    return Identity(f"{resource.type} {text(name)}", text(name))


def thing(value: Value, type_: str) -> Identity:
    """Identify what a reference, an ARN or a name stands for, where names of one type are unique."""
    resource = referenced(value)
    if resource is not None:
        return named(resource) if resource.type == type_ else Identity(resource.address, resource.address)
    name = text(flat(value))
    if name.startswith("arn:"):
        name = name.split(":", 5)[-1].removeprefix("log-group:").removesuffix(":*").rpartition("role/")[2]
    return Identity(f"{type_} {name}", name, hidden(value) if "${" in name else "")


def secret(value: Value) -> Identity | None:
    """Identify a secret or a parameter, without key and version; None for what is neither."""
    resource = referenced(value)
    if resource is not None:
        return _secret_of(resource)
    written = text(flat(value))
    name, service = written, PARAMETERS
    if written.startswith("arn:"):
        parts = written.split(":")
        service = parts[2] if len(parts) > 5 else ""
        if service == SECRETS_MANAGER and len(parts) > 6:
            name = _SUFFIX.sub("", parts[6])
        elif service == PARAMETERS:
            name = ":".join(parts[5:]).removeprefix("parameter")
        elif "$" not in service:
            return None
    name = name.strip("/") if service == PARAMETERS else name
    return Identity(f"{service} {name}", name, hidden(value) if "${" in name else "")


def _secret_of(resource: Resource) -> Identity | None:
    if resource.type in _SECRET_TYPES:
        arn = resource.attribute("arn") if resource.block.type == "data" else None
        if arn is not None:
            return secret(arn)
        name = resource.attribute("name")
        shown = text(name) if name is not None else resource.address
        if name is None or "${" in shown:
            return Identity(resource.address, shown)
        service = _SECRET_TYPES[resource.type]
        return Identity(f"{service} {shown.strip('/') if service == PARAMETERS else shown}", shown.strip("/"))
    if resource.type in _VERSIONS:
        of = resource.attribute("secret_id")
        return secret(of) if of is not None else None
    if resource.attribute("manage_master_user_password") is not None:
        return Identity(f"{resource.address}.master_user_secret", f"{resource.address}.master_user_secret")
    return None


def of_service(resource: Resource) -> str:
    """The service that keeps a secret; empty for what is neither secret nor parameter itself."""
    return SECRETS_MANAGER if resource.type in _VERSIONS else _SECRET_TYPES.get(resource.type, "")


def entries(value: Value | None) -> dict[str, Any]:
    """The entries of an object; empty for all else."""
    content = settle(value).content if value is not None else None
    return content if isinstance(content, dict) else {}

"""What one statement of a policy is about: the secrets that it lets a role read, or keeps it from reading."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from smoke.source.checkout import Finding
from smoke.source.terraform.configuration import Configuration
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
)
from smoke.source.terraform.values import Text, Value, flat, hidden, is_known, plain, text

from .iam import fits

#: Actions that return a secret's value.
READ = {
    SECRETS_MANAGER: ("secretsmanager:getsecretvalue", "secretsmanager:batchgetsecretvalue"),
    PARAMETERS: (
        "ssm:getparameter", "ssm:getparameters", "ssm:getparametersbypath", "ssm:getparameterhistory",
    ),
}  # fmt: skip
_BATCH = "secretsmanager:batchgetsecretvalue"


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


def reads_of(parts: dict[str, Value], service: str) -> frozenset[str] | None:
    """The reading actions that a statement covers; None when that is not known."""
    key = "NotAction" if "NotAction" in parts else "Action"
    patterns = list(items(parts.get(key)))
    unknown = [each for each in patterns if not is_known(each)]
    known = [str(plain(each)) for each in patterns if is_known(each)]
    covered = {action for action in READ[service] if any(fits(action, each.lower()) for each in known)}
    if key == "NotAction":
        covered = set(READ[service]) - covered
    return None if unknown and not covered else frozenset(covered)


def target_of(target: Value, service: str) -> tuple[Grant | None, str]:
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


def tags_of(configuration: Configuration, target: Value) -> Mapping[str, str] | None:
    """The tags of what a statement refers to; None where the files do not say all of them."""
    resource = referenced(target)
    if resource is None or resource.type not in _TAGGED or resource.block.type == "data":
        return None
    tags = resource.attribute("tags")
    found = entries(tags)
    ignored = [block.attributes["ignore_changes"].text for block in resource.block.nested("lifecycle")
               if "ignore_changes" in block.attributes]  # fmt: skip
    if any("tags" in each or each == "all" for each in ignored):
        return None
    known = tags is None or (isinstance(tags.content, dict) and all(map(is_known, found.values())))
    return None if configuration.tags_all or not known else {k: text(flat(v)) for k, v in found.items()}


_TAGGED = {"aws_secretsmanager_secret", "aws_ssm_parameter"}

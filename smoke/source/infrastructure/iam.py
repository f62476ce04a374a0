"""The policies of roles, and what each statement allows, compared as IAM compares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from smoke.source.access import VARIABLE, met, names
from smoke.source.checkout import Finding
from smoke.source.rules import is_like
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Body, Resource
from smoke.source.terraform.hcl import Place
from smoke.source.terraform.references import (
    PARAMETERS,
    SECRETS_MANAGER,
    Identity,
    declared,
    entries,
    items,
    of_service,
    referenced,
    secret,
    thing,
)
from smoke.source.terraform.values import Text, Value, decoded, hidden, is_known, options, text

ROLE = "aws_iam_role"


@dataclass(frozen=True, slots=True)
class Attached:
    """A policy that `holder` gives to `roles`: its `document`, or the `arn` of an attached one."""

    roles: tuple[str, ...]
    holder: Resource
    document: Value | None = None
    arn: Value | None = None


def attached(configuration: Configuration) -> Iterator[Attached]:
    """Yield every policy that a role has."""
    for policy in configuration.of_type("aws_iam_role_policy"):
        yield Attached(roles_of(policy.attribute("role")), policy, policy.attribute("policy"))
    for role in configuration.of_type(ROLE):
        own = roles_of(role.reference)
        for block in role.blocks("inline_policy"):
            yield Attached(own, role, block.attribute("policy"))
        for arn in items(role.attribute("managed_policy_arns")):
            yield from behind(configuration, Attached(own, role, arn=arn))
    for type_, attributes in _ATTACHMENTS.items():
        for attachment in configuration.of_type(type_):
            held = roles_of(*(attachment.attribute(name) for name in attributes[:-1]))
            for arn in items(attachment.attribute(attributes[-1])):
                yield from behind(configuration, Attached(held, attachment, arn=arn))


#: Resources that attach policies: the attributes that name roles, then the one that names policies.
_ATTACHMENTS = {
    "aws_iam_role_policy_attachment": ("role", "policy_arn"),
    "aws_iam_policy_attachment": ("roles", "policy_arn"),
    "aws_iam_role_policy_attachments_exclusive": ("role_name", "policy_arns"),
}


def roles_of(*values: Value | None) -> tuple[str, ...]:
    """The keys of the roles that values name."""
    return tuple(
        thing(item, ROLE).key
        for value in values
        if value is not None
        for role in [referenced(value)]
        for item in ((value,) if role is not None and role.type == ROLE else items(value))
    )


def behind(configuration: Configuration, found: Attached) -> Iterator[Attached]:
    """Yield the policy with an ARN: its document if that is in the files, else the ARN."""
    assert found.arn is not None
    policy, name = declared(found.arn), policy_name(found.arn)
    if policy is None:
        own = [
            each for each in configuration.of_type("aws_iam_policy") if text(each.attribute("name")) == name
        ]
        policy = own[0] if own and ":aws:policy/" not in text(found.arn) else None
    if policy is not None and policy.type == "aws_iam_policy":
        yield Attached(found.roles, policy, policy.attribute("policy"))
    else:
        yield found


def policy_name(arn: Value) -> str:
    """The name of the policy in an ARN."""
    policy = referenced(arn)
    if policy is not None and policy.block.type == "data":
        return text(policy.attribute("name") or policy.attribute("arn")).rpartition("/")[2]
    return text(arn).rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy: its parts by IAM's names."""

    parts: dict[str, Value]
    at: Place


def statements(document: Value | None, why: list[str], around: tuple[Body, ...] = ()) -> Iterator[Statement]:
    """Yield the statements of a policy document; what cannot be read is added to `why`.

    `around` are the documents that this one is a part of.
    """
    for each in options(document):
        resource = referenced(each)
        if resource is not None and resource.type == "aws_iam_policy_document":
            if resource in around:
                why.append(f"{resource.address} contains itself")
            else:
                yield from _of_data(resource, why, (*around, resource))
            continue
        read = decoded(each)
        if read is None or "Statement" not in entries(read):
            why.append(hidden(each) or "a policy that is not JSON in the files")
            continue
        for statement in items(entries(read)["Statement"]):
            if entries(statement):
                yield Statement(entries(statement), statement.at)
            else:
                why.append(hidden(statement) or f"a statement that is {text(statement)}")


_DATA = {"sid": "Sid", "actions": "Action", "not_actions": "NotAction", "resources": "Resource",
         "not_resources": "NotResource", "effect": "Effect"}  # fmt: skip
#: Documents below and above a document's own statements; the uppermost of one Sid counts.
_LOWER, _UPPER = ("source_policy_documents", "source_json"), ("override_policy_documents", "override_json")


def _of_data(document: Body, why: list[str], around: tuple[Body, ...]) -> list[Statement]:
    found: list[Statement] = []
    lower, upper = (
        [each for name in names for other in items(document.attribute(name))
         for each in statements(other, why, around)] for names in (_LOWER, _UPPER)
    )  # fmt: skip
    for layer in (lower, _stated(document, why), upper):
        stated = list(layer)
        replaced = {text(each.parts.get("Sid")) for each in stated} - {""}
        found = [each for each in found if text(each.parts.get("Sid")) not in replaced] + stated
    if document.block.unread:
        why.append(f"not valid HCL at {document.block.unread[0]}")
    return found


def _stated(document: Body, why: list[str]) -> Iterator[Statement]:
    for block in document.blocks("statement"):
        if block.uncertain:
            why.append(block.uncertain)
        found = {name: block.attribute(written) for written, name in _DATA.items()}
        parts = {name: value for name, value in found.items() if value is not None}
        conditions = block.blocks("condition")
        if conditions:
            parts["Condition"] = _tested(conditions)
        for written, name in (("principals", "Principal"), ("not_principals", "NotPrincipal")):
            if inner := block.blocks(written):
                named = (one for each in inner for one in items(each.attribute("identifiers")))
                parts[name] = Value(tuple(named), block.at)
        yield Statement(parts, block.at)


def _tested(conditions: Sequence[Body]) -> Value:
    """The conditions of a statement as IAM's JSON has them: values by key by test."""
    tests: dict[str, dict[str, Value]] = {}
    for each in conditions:
        keys = tests.setdefault(text(each.attribute("test")), {})
        keys[text(each.attribute("variable"))] = each.attribute("values") or Value((), each.at)
    at = conditions[0].at
    return Value({test: Value(keys, at) for test, keys in tests.items()}, at)


def allows(parts: Mapping[str, Value], action: str) -> bool:
    """Whether a statement allows an action, given in lower case, on any resource, under any condition."""
    return (text(parts.get("Effect")) or "Allow") == "Allow" and names_action(parts, action)


def names_action(parts: Mapping[str, Value], action: str) -> bool:
    """Whether a statement is about an action, given in lower case, to allow or deny it.

    A value that the files do not say names none.
    """
    written = {name: _said(parts[name]) for name in ("Action", "NotAction") if name in parts}
    found = names(written, "Action", action)
    return "NotAction" in parts if found is None else found


def _said(value: Value) -> list[str]:
    """The texts of a statement's part; one that the files do not say is a variable."""
    return [text(each) if is_known(each) else "${}" for each in items(value)]


_FACTOR = "aws:multifactorauthpresent"
#: Tests that hold only for a value that exists and matches: another region in an ARN is enough to fail.
_FITTING = re.compile(r"(ForAnyValue:)?(String(Equals|Like|EqualsIgnoreCase)|Arn(Equals|Like))")


def never(parts: Mapping[str, Value], region: str, tags: Mapping[str, str] | None = None) -> bool:
    """Whether a statement's conditions exclude ECS's requests for a task in a region (empty: unknown).

    `tags` are the resource's, if known. ECS uses no second factor. Case does not count.
    """
    context: dict[str, Sequence[str]] = {_FACTOR: ["false"]}
    if region:
        context |= {"aws:requestedregion": [region.lower()], "aws:sourcearn": [region.lower()]}
    known = None if tags is None else {name.lower(): value.lower() for name, value in tags.items()}
    for test, keys in entries(parts.get("Condition")).items():
        for key, value in entries(keys).items():
            name, said = key.lower(), [each.lower() for each in _said(value)]
            if not said or any(map(VARIABLE.search, said)):
                continue
            if name == "aws:sourcearn":  # its region
                said = [(each.split(":") + ["*"] * 4)[3] for each in said]
            elif known is not None and name.startswith(("aws:resourcetag/", "secretsmanager:resourcetag/")):
                context[name] = [known[tag]] if (tag := name.partition("/")[2]) in known else []
            decided = test == "Bool" if name == _FACTOR else name in context and _FITTING.fullmatch(test)
            if decided and met({"Condition": {test: {name: said}}}, context) is False:
                return True
    return False


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
    """`roles` (their identities) may read `target`, a secret, or else everything that `pattern` matches.

    A pattern is for the name after `secret:` or `parameter`; `service` says which of the two. One that
    `misses` means its target, but matches none of its ARNs.
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
        """Whether it returns only secrets that the role may also read one by one."""
        return self.reads == {_BATCH}

    def within(self, other: Grant) -> bool:
        """Whether the other grant covers everything that this one covers."""
        if other.pattern == "*":
            return True
        if self.target is not None:
            same = other.target is not None and other.target.key == self.target.key
            return same or other.covers(self.target.name)
        return bool(other.pattern) and is_like(self.pattern, other.pattern)

    def covers(self, name: str) -> bool:
        """Whether its pattern matches a secret's name, with the six characters that Secrets Manager adds."""
        pattern = self.pattern.lstrip("/")
        return is_like(name.lstrip("/"), pattern) or is_like(f"{name}-AbCdEf", pattern)

    def finding(self, what: str) -> Finding:
        """Return a finding where the grant is written."""
        return self.at.finding(what)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A denial of reading for `roles`: of everything in `targets`, or (`beyond`) of everything else.

    `why` says what is not known about the targets. It removes a grant only if it denies all of its `reads`.
    """

    roles: tuple[str, ...]
    service: str
    targets: tuple[Grant, ...]
    beyond: bool
    reads: frozenset[str]
    title: str
    why: str = ""

    def concerns(self, grant: Grant) -> bool:
        """Whether it denies what the grant allows; a batch needs the right to read one by one as well."""
        needed = {READ[SECRETS_MANAGER][0]} if self.service == SECRETS_MANAGER else grant.reads
        return self.service == grant.service and needed <= self.reads


def reads_of(parts: dict[str, Value], service: str) -> frozenset[str] | None:
    """The reading actions that a statement covers; None if unknown."""
    key = "NotAction" if "NotAction" in parts else "Action"
    unknown = not all(map(is_known, items(parts.get(key))))
    covered = frozenset(action for action in READ[service] if names_action(parts, action))
    return None if unknown and not covered else covered


def target_of(target: Value, service: str) -> tuple[Grant | None, str]:
    """Return the target of a statement's resource, if it matches a secret of the service; else why not."""
    grant = Grant((), "", target.at, service)
    resource = referenced(target)
    grant = replace(grant, misses=service == SECRETS_MANAGER and _misses(target))
    if resource is not None:
        identity = secret(target)
        if identity is None:
            return None, resource.address if resource.type in _SEVERAL else ""
        return (replace(grant, target=identity) if of_service(resource) in {service, ""} else None), ""
    pattern = _pattern(text(target), service)
    if pattern is None:
        return None, ""
    if "${" in pattern and hidden(target):
        return None, hidden(target)
    if "*" in pattern or "?" in pattern.removesuffix("-??????"):
        return replace(grant, pattern=pattern), ""
    return replace(grant, target=secret(target)), ""


#: A secret's name without the suffix of Secrets Manager, and without a wildcard.
_WHOLE_NAME = re.compile(r"arn:[^:]*:secretsmanager:[^:]*:[^:]*:secret:(?![^:]*-(?:\w{6}|\?{6})$)[^:*?$]+")


def _misses(target: Value) -> bool:
    """Whether a statement's resource means one secret but matches no ARN: these end in six characters.

    After a reference to the ARN, which has them, anything but `*` does not match.
    """
    content = target.content
    if isinstance(content, Text):
        first, *rest = content.parts
        held = referenced(first) if isinstance(first, Value) else None
        if held is not None and of_service(held) == SECRETS_MANAGER:
            behind = rest[0] if rest else ""
            return isinstance(behind, str) and re.fullmatch(r"-[?*]+|\?+", behind) is not None
    around, colon, name = text(target).rpartition(":secret:")
    filled = re.sub(r"\$\{[^{}]*\}", "x", around)
    return "$" not in name and _WHOLE_NAME.fullmatch(f"{filled}{colon}{name}") is not None


#: Data sources for any number of secrets.
_SEVERAL = {"aws_secretsmanager_secrets", "aws_ssm_parameters_by_path"}


def _pattern(written: str, service: str) -> str | None:
    """The part of a resource's pattern that is a name; None if it matches no secret of the service."""
    if not written.startswith("arn:"):
        return written
    parts = written.split(":", 6 if service == SECRETS_MANAGER else 5)
    if len(parts) > 2 and "$" not in parts[2] and not is_like(service, parts[2]):
        return None
    last = parts[-1]
    if len(parts) < 6:  # the wildcard covers everything after it
        return "*" if last.endswith("*") else None
    if service == PARAMETERS and last.startswith("parameter"):
        return last.removeprefix("parameter").lstrip("/")
    if service == PARAMETERS:
        return "*" if last == "*" else None
    if len(parts) == 6:
        return "*" if last.endswith("*") else None
    return last if is_like("secret", parts[5]) or "$" in parts[5] else None


def tags_of(configuration: Configuration, target: Value) -> Mapping[str, str] | None:
    """The tags of a statement's resource; None if the files do not say all of them."""
    resource = declared(target, *_TAGGED)
    if resource is None:
        return None
    tags = resource.attribute("tags")
    found = entries(tags)
    if resource.ignores(r"tags\w*"):
        return None
    known = tags is None or (isinstance(tags.content, dict) and all(map(is_known, found.values())))
    return None if configuration.tags_all or not known else {k: text(v) for k, v in found.items()}


_TAGGED = {"aws_secretsmanager_secret", "aws_ssm_parameter"}

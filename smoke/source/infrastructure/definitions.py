"""What services and tasks use according to Terraform, what roles may read, and the contract's names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from smoke.source.checkout import Examined, Finding
from smoke.source.rules import (
    EXECUTION_ROLE,
    FAMILY,
    LOGS,
    NETWORK,
    REQUIRED,
    SECRET,
    TASK_ROLE,
    Ownership,
    Use,
)
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.hcl import Place
from smoke.source.terraform.references import Identity, entries, items, objects, referenced, secret, thing
from smoke.source.terraform.values import Value, decoded, hidden, is_known, number, options, settle, text

from .grants import grants
from .iam import ROLE, Grant

SERVICE = "aws_ecs_service"
TASK = "aws_ecs_task_definition"
ROLES = {EXECUTION_ROLE: "execution_role_arn", TASK_ROLE: "task_role_arn"}


@dataclass(frozen=True, slots=True)
class Container:
    """One actual or possible container of a task definition: its entries by name."""

    task: Resource
    entries: Mapping[str, Value]
    at: Place

    @property
    def variables(self) -> dict[str, Value]:
        """The values of its environment's known variables, by name."""
        given = objects(self.entries.get("environment"))
        return {text(each["name"]): each["value"]
                for each in given if "value" in each and is_known(each.get("name"))}  # fmt: skip

    @property
    def secrets(self) -> list[tuple[str, Value]]:
        """The variables that hold secrets, each with the secret."""
        given = objects(self.entries.get("secrets"))
        return [(text(each["name"]), each["valueFrom"]) for each in given if {"name", "valueFrom"} <= {*each}]

    @property
    def images(self) -> Iterator[Value]:
        """Its possible images."""
        return items(self.entries.get("image"))

    @property
    def ports(self) -> list[Value]:
        """The ports on which it listens."""
        mapped = objects(self.entries.get("portMappings"))
        return [port for each in mapped for port in items(each.get("containerPort"))]

    @property
    def checks(self) -> Iterator[Value]:
        """The words of its health check."""
        return items(entries(self.entries.get("healthCheck")).get("command"))

    def finding(self, what: str, at: Value | None = None) -> Finding:
        """Return a finding at a value of the container, else where its task begins."""
        return self.task.finding(what, at)


@dataclass(frozen=True, slots=True)
class Definition:
    """A service with the tasks that it may run, or a one-shot task; `name` is the plan's, else the label."""

    name: str
    service: Resource | None
    tasks: tuple[Resource, ...]
    not_examined: tuple[Finding, ...] = ()

    @property
    def containers(self) -> Iterator[Container]:
        """The containers that can be read, of all its tasks."""
        return (each for task in self.tasks for each in containers(task)[0])


@dataclass(slots=True)
class Definitions:
    """Everything that services and tasks use, and what could not be read."""

    uses: list[Use] = field(default_factory=list)
    not_examined: list[Finding] = field(default_factory=list)
    definitions: list[Definition] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    #: Parts of their roles' policies that are not understood, by role key.
    held: list[tuple[tuple[str, ...], Finding]] = field(default_factory=list)
    #: The services and tasks that start or act with a role, by role key.
    roles: dict[str, list[str]] = field(default_factory=dict)

    @property
    def services(self) -> set[str]:
        """The names of the services."""
        return {each.name for each in self.definitions if each.service is not None}

    def required(self, members: Iterable[str]) -> dict[str, list[str]]:
        """Return what each of these services and tasks must have: a task without a service has no network."""
        return {
            member: [kind for kind in REQUIRED if kind != NETWORK or member in self.services]
            for member in members
        }


def containers(task: Resource) -> tuple[list[Container], list[Finding]]:
    """Return the containers of a task, and what could not be read."""
    found: list[Container] = []
    unread: list[Finding] = []
    value = task.attribute("container_definitions")
    for option in options(value):
        read = decoded(option)
        listed = settle(read).content if read is not None else None
        if not isinstance(listed, tuple):
            why = hidden(option) or hidden(read) or "not a JSON list in the files"
            unread.append(task.finding(f"the containers of {task.address}: {why}", option))
            continue
        for item in listed:
            for each in options(item):
                if isinstance(each.content, dict):
                    given = {key: value for key, value in each.content.items() if value.content is not None}
                    found.append(Container(task, given, each.at))
                else:
                    unread.append(
                        task.finding(f"a container of {task.address}: {hidden(each) or text(each)}", each)
                    )
    if value is None:
        unread.append(task.finding(f"{task.address} sets no container_definitions"))
    return found, unread


def ports(definition: Definition) -> dict[str, set[float]]:
    """The ports of each container by its name."""
    found: dict[str, set[float]] = {}
    for each in definition.containers:
        numbers = {n for port in each.ports if (n := number(port)) is not None}
        found.setdefault(text(each.entries.get("name")), set()).update(numbers)
    return found


#: A URL with which a container asks itself by HTTP without TLS, and its port.
_PLAIN = re.compile(r"\bhttp://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\])(?::(\d{1,5}))?(?![\w.])")


def plain_ports(command: Iterable[str]) -> set[int]:
    """The ports on which a container's health check calls the container itself by HTTP without TLS."""
    return {int(port or 80) for word in command for port in _PLAIN.findall(word)}


def plainly(definition: Definition) -> set[int]:
    """The ports on which a service speaks HTTP without TLS, by the health checks of its containers."""
    return plain_ports(text(word) for each in definition.containers for word in each.checks)


def definitions(configuration: Configuration, members: Collection[str]) -> list[Definition]:
    """Return every service, and every task without a service, under their names in the plan."""
    services, tasks = configuration.of_type(SERVICE), configuration.of_type(TASK)
    named = names(services, members)
    found: list[Definition] = []
    served: set[str] = set()
    for service in services:
        run, unread = _tasks(service, tasks)
        called = service.attribute("name")
        if named[service.address] not in members and is_known(called):
            unread = []  # another product's service runs its own task
        served |= {task.address for task in run}
        found.append(Definition(named[service.address], service, tuple(run), tuple(unread)))
    alone = [task for task in tasks if task.address not in served]
    labels = names(alone, members)
    return [*found, *(Definition(labels[task.address], None, (task,)) for task in alone)]


def unseen(configuration: Configuration, defined: Definitions, members: Collection[str]) -> list[Finding]:
    """Return the services and tasks that no rule has seen, because the files do not say enough.

    One that is missing is a finding, unless it may be in a file that could not be read.
    """
    found = Examined([], [what for each in defined.definitions for what in each.not_examined])
    for member in sorted({*members} - {each.name for each in defined.definitions}):
        configuration.lacks(found, f"{member} is not in the files", (member, member.rpartition("-")[2]))
    return found.not_examined


def names(resources: Sequence[Resource], members: Collection[str]) -> dict[str, str]:
    """Return the plan's name of each resource by address, or else its label.

    A label, key or AWS name that equals the plan's name takes precedence over one that ends with it, and that
    over the name of a module.
    """
    found: dict[str, str] = {}
    by_length = sorted(members, key=len, reverse=True)
    for rule in (_is_called, lambda each, member: _name(each).endswith(f"-{member}"), _is_inside):
        for each in resources:
            for member in by_length:
                if each.address not in found and member not in found.values() and rule(each, member):
                    found[each.address] = member
    for each in resources:
        label = each.label if each.label not in found.values() else each.address
        found.setdefault(each.address, label)
    return found


def _name(resource: Resource) -> str:
    return text(resource.attribute("family" if resource.type == TASK else "name"))


def _is_called(resource: Resource, member: str) -> bool:
    return member in (resource.label, resource.key.strip('"'), _name(resource))


def _is_inside(resource: Resource, member: str) -> bool:
    words = re.split(r'[.\[\]"]+', resource.address)
    return member in {word.replace("_", "-") for word in words}


def _tasks(service: Resource, tasks: Sequence[Resource]) -> tuple[list[Resource], list[Finding]]:
    """Return the task definitions that a service may run, and references to one that is not in the files."""
    found, unread = [], []
    for each in items(service.attribute("task_definition")):
        task = referenced(each)
        if task is None or task.block.type == "data":
            family = task.attribute("task_definition") if task is not None else each
            name = text(family).rpartition("/")[2].partition(":")[0] if family is not None else ""
            task = next((other for other in tasks if text(other.attribute("family")) == name), None)
        if task is not None and task.type == TASK:
            found.append(task)
        else:
            why = hidden(each) or text(each)
            unread.append(service.finding(f"the task definition of {service.address}: {why}", each))
    return found, unread


def read(configuration: Configuration, members: Collection[str]) -> Definitions:
    """Return everything that services, and tasks without a service, use."""
    result = Definitions(definitions=definitions(configuration, members))
    for each in result.definitions:
        result.not_examined += each.not_examined
        if each.service is not None:
            if each.service.uncertain:
                what = f"whether there is {each.service.address}: {each.service.uncertain}"
                result.not_examined.append(each.service.finding(what))
            for network in each.service.blocks("network_configuration"):
                for group in items(network.attribute("security_groups")):
                    identity = thing(group, "aws_security_group")
                    result.uses.append(_use(NETWORK, identity, each.name, group.at))
        for task in each.tasks:
            _task(result, task, each.name)
    _readable(result, configuration)
    return result


def _task(result: Definitions, task: Resource, owner: str) -> None:
    family = task.attribute("family")
    if family is not None:
        result.uses.append(_use(FAMILY, thing(family, "family"), owner, task.at))
    for kind, attribute in ROLES.items():
        for role in items(task.attribute(attribute)):
            identity = thing(role, ROLE)
            result.uses.append(_use(kind, identity, owner, role.at))
            result.roles.setdefault(identity.key, []).append(owner)
    found, unread = containers(task)
    result.not_examined += unread
    for container in found:
        options = entries(entries(container.entries.get("logConfiguration")).get("options"))
        logs = options.get("awslogs-group") or options.get("log_group_name")  # the latter of FireLens
        result.uses += [
            _use(LOGS, thing(group, "aws_cloudwatch_log_group"), owner, group.at) for group in items(logs)
        ]
        for given in items(container.entries.get("secrets")):
            for source in items(entries(given).get("valueFrom")):
                identity_ = secret(source) or Identity(
                    text(source), text(source), "neither a secret nor a parameter"
                )
                result.uses.append(_use(SECRET, identity_, owner, source.at))
            if "valueFrom" not in entries(given):
                what = f"a secret of {owner}: {hidden(given) or text(given)}"
                result.not_examined.append(task.finding(what, given))
        credentials = entries(container.entries.get("repositoryCredentials")).get("credentialsParameter")
        for source in items(credentials):
            identity_ = secret(source) or Identity(text(source), text(source))
            result.uses.append(_use(SECRET, identity_, owner, source.at))


def _use(kind: str, identity: Identity, owner: str, at: Place, how: str = "uses") -> Use:
    return Use(kind, identity.key, owner, identity.name, how, at.path, at.line, identity.why)


def _readable(result: Definitions, configuration: Configuration) -> None:
    """Add a use for every secret that a policy lets a role's owners read, by name or by pattern."""
    granted = grants(configuration)
    result.grants, result.held = granted.found, granted.not_examined
    known = {use.identity: use.name for use in result.uses if use.kind == SECRET and not use.why}
    known |= _declared(configuration)
    for grant in granted.found:
        for owner in _owners(result, grant.roles):
            if grant.target is not None:
                result.uses.append(_use(SECRET, grant.target, owner, grant.at, "may read"))
                continue
            for key, name in known.items():
                if grant.pattern != "*" and key.startswith(f"{grant.service} ") and grant.covers(name):
                    result.uses.append(_use(SECRET, Identity(key, name), owner, grant.at, "may read"))
    for roles, finding in granted.not_examined:
        if _owners(result, roles) or not roles:
            result.not_examined.append(finding)


def _declared(configuration: Configuration) -> dict[str, str]:
    """The names of the secrets and parameters that are declared, by key."""
    types = ("aws_secretsmanager_secret", "aws_ssm_parameter")
    found = [secret(each.reference) for type_ in types for each in configuration.of_type(type_)]
    return {each.key: each.name for each in found if each is not None}


def _owners(result: Definitions, roles: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(owner for role in roles for owner in result.roles.get(role, ())))


def unnamed(result: Definitions, ownership: Ownership) -> Examined:
    """Return the policies that let a role read secrets which they do not name.

    A pattern below a path of the role's own group is specific enough, and so is a declared name with a
    wildcard for the characters that Secrets Manager adds.
    """
    found: dict[tuple[str, str], Finding] = {}
    names_used = {use.name for use in result.uses if use.kind == SECRET}
    for grant in result.grants:
        if grant.target is not None:
            continue
        pattern = grant.pattern
        named = any(pattern in {f"{name}-*", f"{name}-??????", f"{name}*"} for name in names_used)
        groups = {ownership.of(owner) for owner in _owners(result, grant.roles)}
        if not named and not _own(pattern, groups, ownership):
            kinds = "parameter" if grant.service == "ssm" else "secret"
            shown = f"any {kinds}" if pattern == "*" else f"any {kinds} {pattern}"
            found.setdefault(
                (grant.holder, pattern), grant.finding(f"{grant.holder} lets its role read {shown}")
            )
    return Examined(sorted(found.values()), [])


def _own(pattern: str, groups: set[str], ownership: Ownership) -> bool:
    """Whether the pattern's path belongs only to the role's own group.

    Parts of the path name a group; before the first wildcard, a word of a part is enough.
    """
    before = pattern.replace("?", "*").partition("*")[0].rpartition("/")[0]
    words = {word for part in before.split("/") for word in (part, *part.split("-"))}
    words |= {*pattern.split("/")[:-1]}
    owners = words & ({*ownership.groups} | groups)
    return len(owners) == 1 and (owners == groups or not groups)


def named(configuration: Configuration, names: Mapping[str, Collection[str]]) -> Examined:
    """Return the contract's names, by type of resource, that no resource has."""
    result = Examined()
    for type_, wanted in names.items():
        attribute = _NAMED.get(type_, "name")
        held = [(each, each.attribute(attribute)) for each in configuration.of_type(type_)]
        made = [value for _, value in held] + _elsewhere_made(configuration, type_, attribute)
        known = {text(value) for value in made if value is not None}
        for name in sorted({*wanted} - known):
            open_ = [each for each, value in held if value is not None and not is_known(value)]
            what = f"there is no {type_} called {name}"
            if open_:
                result.not_examined.append(open_[0].finding(f"{what}, unless {open_[0].address} is"))
            else:
                configuration.lacks(result, what, (name, *_SPOKEN.get(type_, ()), re.split("[/-]", name)[-1]))
    return result


def _elsewhere_made(configuration: Configuration, type_: str, attribute: str) -> list[Value | None]:
    """The names that the files look up, as data or in a service's task: something else makes these."""
    found = [
        value for each in configuration.of_type(type_, data=True)
        for value in (each.attribute(_LOOKED_UP.get(type_, attribute)), each.attribute(attribute))
    ]  # fmt: skip
    if type_ == "aws_ecs_task_definition":
        for service in configuration.of_type("aws_ecs_service"):
            found += [
                value.to(text(value).partition(":")[0])
                for value in items(service.attribute("task_definition"))
                if referenced(value) is None
            ]
    return found


#: The attribute for the name in a type's data source, if it differs from the resource's.
_LOOKED_UP = {
    "aws_ecs_cluster": "cluster_name",
    "aws_ecs_service": "service_name",
    "aws_ecs_task_definition": "task_definition",
    "aws_db_instance": "db_instance_identifier",
}
#: Words in a module that makes such a resource, beside its name.
_SPOKEN = {
    "aws_ecs_cluster": ("ecs",),
    "aws_ecs_service": ("ecs",),
    "aws_ecs_task_definition": ("ecs", "task"),
    "aws_cloudwatch_log_group": ("log", "ecs"),
    "aws_service_discovery_private_dns_namespace": ("discovery", "namespace", "cloud-map", "cloudmap"),
    "aws_secretsmanager_secret": ("secret",),
    "aws_sns_topic": ("sns", "topic"),
    "aws_cloudwatch_dashboard": ("dashboard",),
    "aws_db_instance": ("rds", "postgres", "database"),
}
#: The attribute with a resource's name in AWS, if that is not `name`.
_NAMED = {
    "aws_ecs_task_definition": "family",
    "aws_cloudwatch_dashboard": "dashboard_name",
    "aws_db_instance": "identifier",
}

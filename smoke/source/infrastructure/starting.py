"""What keeps tasks from starting: their roles, their secrets, their count, and how they are replaced."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from smoke.source.checkout import Examined, Finding
from smoke.source.rules import SECRET, Use
from smoke.source.terraform.configuration import Configuration, Module
from smoke.source.terraform.evaluate import Resource
from smoke.source.terraform.hcl import Expr
from smoke.source.terraform.references import declared, entries, items, referenced, secret, thing
from smoke.source.terraform.values import (
    Symbol,
    Text,
    Value,
    decoded,
    flat,
    hidden,
    is_known,
    known_text,
    number,
    options,
    settle,
    symbols,
    text,
)

from .definitions import Container, Definitions, containers
from .iam import ROLE, Attached, allows, attached, never, policy_name, statements
from .resource_policies import key_of

#: AWS's managed policies that let a task pull its image and write its logs.
_ANYTHING = {"AdministratorAccess", "PowerUserAccess"}
_EXECUTION_POLICIES = {"AmazonECSTaskExecutionRolePolicy", *_ANYTHING}
_DECRYPT = "kms:decrypt"
_PULL, _LOG = "ecr:batchgetimage", "logs:putlogevents"
_SERVICE = "ecs-tasks.amazonaws.com"


class Roles:
    """What a configuration's roles may do, as far as the files say."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration, self._policies = configuration, list(attached(configuration))
        self._roles = {thing(each.reference, ROLE).key: each for each in configuration.of_type(ROLE)}

    def role(self, key: str) -> Resource | None:
        """The role of this identity."""
        return self._roles.get(key)

    def assumed(self, role: Resource) -> bool | None:
        """Whether a task may assume a role; None if the files do not say."""
        why: list[str] = []
        for each in statements(role.attribute("assume_role_policy"), why):
            principal = each.parts.get("Principal")
            services = {text(one) for one in items(entries(principal).get("Service", principal))}
            if _SERVICE in services and allows(each.parts, "sts:assumerole"):
                if never(each.parts, self._configuration.home):
                    continue
                return True
            why += _left_open(each.parts)
        return None if why else False

    def may(self, key: str, action: str) -> bool | None:
        """Whether a role's policies allow an action on any resource; None if one cannot be read."""
        unread = self.open(key)
        for each in self._policies:
            if key not in each.roles:
                continue
            allowed = self._allows(each, action)
            if allowed:
                return True
            unread |= allowed is None
        return None if unread else False

    def open(self, key: str) -> bool:
        """Whether a role may have policies that are not in the files, by a module or a variable."""
        role = self.role(key)
        named = {each for policy in self._policies for each in policy.roles} - self._roles.keys()
        given = role is not None and self._configuration.receivers(role)
        return bool(given) or any("${" in each or not each.startswith(f"{ROLE} ") for each in named)

    def _allows(self, each: Attached, action: str) -> bool | None:
        if each.arn is not None:
            name = policy_name(each.arn)
            if name in (_ANYTHING if action == _DECRYPT else _EXECUTION_POLICIES):
                return True
            return None if "${" in name or "aws:policy/" not in text(each.arn) else False
        why: list[str] = []
        for one in statements(each.document, why):
            if allows(one.parts, action) and not never(one.parts, self._configuration.home):
                return True
            why += _left_open(one.parts)
        return None if why else False


def _left_open(parts: Mapping[str, Value]) -> list[str]:
    """Why a statement may allow more than is known."""
    return [
        why for name in ("Effect", "Principal", "Action", "NotAction") if (why := hidden(parts.get(name)))
    ]


def starts(configuration: Configuration, defined: Definitions) -> Examined:
    """Return roles that keep tasks from starting: they cannot be assumed, or may not read, pull or write."""
    result, roles = Examined(), Roles(configuration)
    unclear = {role for held, _ in defined.held for role in held}
    for definition in defined.definitions:
        given = [use for use in defined.uses if use.owner == definition.name and use.kind == SECRET]
        given = [use for use in given if use.how == "uses" and not use.why]
        for task in definition.tasks:
            for value in items(task.attribute("execution_role_arn")):
                key = thing(value, ROLE).key
                role = roles.role(key)
                if role is None:
                    what = f"the execution role of {definition.name}: {hidden(value) or text(value)}"
                    result.not_examined.append(task.finding(what, value))
                    continue
                wanted = list(_wanted(roles, key, role, task))
                decrypts = roles.may(key, _DECRYPT)
                wanted += [
                    (f"decrypt what {locked.address} encrypts, as the secrets of its task", decrypts)
                    for locked in _locked(configuration, task)
                ]
                for use in given:
                    read = _reads(defined, key, use) or (None if key in unclear or roles.open(key) else False)
                    wanted.append((f"read the secret {use.name}", read))
                _judge(result, role, definition.name, wanted)
        if definition.service is not None:
            result.findings.extend(_outdated(definition.service, definition.name, definition.tasks))
    return result


#: Fargate platform versions for Linux that read secrets only as a whole and cannot mount EFS.
_OLD = re.compile(r"1\.[0-3]\.0")


def _outdated(service: Resource, name: str, tasks: Collection[Resource]) -> Iterator[Finding]:
    """Tasks that need something that their old Fargate platform version lacks."""
    version = service.attribute("platform_version")
    if version is None or service.ignores("platform_version") or not _OLD.fullmatch(text(version)):
        return
    for task in (each for each in tasks if not _is_of_windows(each)):
        asked = [text(value) for box in containers(task)[0] for _, value in box.secrets]
        efs = any(each.blocks("efs_volume_configuration") for each in task.blocks("volume"))
        wanted = {
            "a part of a secret": any(map(_PART.fullmatch, asked)),
            "an EFS volume": efs,
            "ephemeral_storage": bool(task.blocks("ephemeral_storage")),
        }
        for what in (each for each, is_wanted in wanted.items() if is_wanted):
            said = f"{name} needs {what}, which Fargate {text(version)} does not support"
            yield service.finding(f"{said}: it never starts", version)


def _is_of_windows(task: Resource) -> bool:
    """Whether a task is, or may be, a Windows task, for which platform version 1.0.0 is the newest."""
    families = [each.attribute("operating_system_family") for each in task.blocks("runtime_platform")]
    return any(each is not None and not re.match("LINUX", text(each)) for each in families)


def _wanted(roles: Roles, key: str, role: Resource, task: Resource) -> Iterator[tuple[str, bool | None]]:
    """The permissions that a task's containers need from its role, and whether it has them."""
    yield "be assumed by a task", roles.assumed(role)
    found = containers(task)[0]
    if any(map(_of_ecr, found)):
        yield "pull an image", roles.may(key, _PULL)
    drivers = [entries(each.entries.get("logConfiguration")).get("logDriver") for each in found]
    if "awslogs" in map(text, drivers):
        yield "write logs", roles.may(key, _LOG)


def _locked(configuration: Configuration, task: Resource) -> list[Resource]:
    """The keys of a task's secrets for which roles' policies decide who may use them."""
    found = {}
    for _, value in (pair for box in containers(task)[0] for pair in box.secrets):
        held = declared(value, *_ENCRYPTED)
        key = key_of(configuration, held.attribute(_ENCRYPTED[held.type])) if held is not None else None
        if key is not None and key.attribute("policy") is None and not configuration.receivers(key):
            found[key.address] = key
    for other in [*configuration.of_type("aws_kms_key_policy"), *configuration.of_type("aws_kms_grant")]:
        key = key_of(configuration, other.attribute("key_id"))
        if key is None:
            return []
        found.pop(key.address, None)
    return [*found.values()]


#: The attribute with a secret's or a parameter's encryption key.
_ENCRYPTED = {"aws_secretsmanager_secret": "kms_key_id", "aws_ssm_parameter": "key_id"}


def _judge(result: Examined, role: Resource, owner: str, wanted: list[tuple[str, bool | None]]) -> None:
    for what, may in wanted:
        if may is None:
            result.not_examined.append(role.finding(f"whether {role.address} may {what}"))
        elif not may:
            result.findings.append(role.finding(f"{role.address} may not {what}, so {owner} never starts"))


def _of_ecr(container: Container) -> bool:
    """Whether an image comes from a private ECR registry."""
    for each in container.images:
        first = each.content.parts[0] if isinstance(each.content, Text) else each
        resource = referenced(first) if isinstance(first, Value) else None
        if resource is not None and resource.type == "aws_ecr_repository":
            return True
        if ".dkr.ecr." in text(each):
            return True
    return False


def _reads(defined: Definitions, role: str, use: Use) -> bool:
    """Whether a policy lets a role read the secret of a use."""
    return any(
        grant.target.key == use.identity
        if grant.target is not None
        else grant.pattern == "*" or (use.identity.startswith(f"{grant.service} ") and grant.covers(use.name))
        for grant in defined.grants
        if role in grant.roles and not grant.misses
    )


def without_task(configuration: Configuration, service: Resource, name: str) -> Iterator[Finding]:
    """What leaves a service without a task, by its own count or its autoscaling, or with an old task."""
    for target in configuration.of_type("aws_appautoscaling_target"):
        most = target.attribute("max_capacity") if _scales(target, service) else None
        if number(most) == 0:
            yield target.finding(f"{name} can be scaled to at most 0 tasks", most)
    for action in configuration.of_type("aws_appautoscaling_scheduled_action"):
        for block in action.blocks("scalable_target_action") if _scales(action, service) else ():
            most = block.attribute("max_capacity")
            if number(most) == 0:
                yield block.finding(f"{name} is scaled to 0 tasks by {action.address}", most)
    for count in items(service.attribute("desired_count")):
        if number(count) == 0:
            yield service.finding(f"{name} runs no task", count)
    runs = service.attribute("task_definition")
    revision = re.search(r"[\w}-]:(\d+)\Z", text(runs)) if is_known(runs) else None
    written = _sources(configuration, service, "task_definition") if revision is not None else ()
    # a variable may come before the revision: `var.task != "" ? var.task : "api:1"`
    sure = (each for each in written if each.kind not in ("condition", "call") or "var." not in each.text)
    fixed = revision is not None and any(f":{revision[1]}" in each.text for each in sure)
    if revision and fixed and not service.ignores("task_definition"):
        yield service.finding(f"{name} always runs revision {revision[1]} of its task definition", runs)


def _sources(configuration: Configuration, resource: Resource, name: str) -> Iterator[Expr]:
    """Where the files write an attribute: there, in a local value, or in the call of its module.

    Not in a variable's default: the pipeline may set it.
    """
    own, scope = resource.block.attributes[name], resource.environment.scope
    yield own
    if not isinstance(scope, Module):
        return
    for local in re.findall(r"\blocal\.(\w+)", own.text):
        yield from (expr for each, expr in scope.files.locals.items() if each == local)
    given = re.findall(r"\bvar\.(\w+)", own.text)
    for caller in configuration.modules:
        for address, block in caller.files.blocks.items():
            if f"{caller.address}{address}." == scope.address:
                yield from (block.attributes[each] for each in given if each in block.attributes)


def unscaled(configuration: Configuration, wanted: Collection[str], cluster: str) -> Iterator[Finding]:
    """Return autoscaling targets of services that a cluster does not have.

    Only if the files name all services, those `wanted` among them: else others may come from elsewhere.
    """
    made = [each.attribute("name") for each in configuration.of_type("aws_ecs_service")]
    read = [each.attribute("service_name") for each in configuration.of_type("aws_ecs_service", data=True)]
    names = {*map(text, filter(is_known, made))}
    if configuration.unread or not all(map(is_known, made)) or not names >= {*wanted}:
        return
    for target in configuration.of_type("aws_appautoscaling_target"):
        of = target.attribute("resource_id")
        named = re.fullmatch(r"service/([^/$]+)/([^/$]+)", text(of)) if is_known(of) else None
        if named is not None and named[1] == cluster and named[2] not in {*names, *map(text, read)}:
            yield target.finding(
                f"{target.address} scales {named[2]}, which is not a service of {cluster}", of
            )


def _scales(scaling: Resource, service: Resource) -> bool:
    """Whether an autoscaling target or action is for a service's tasks."""
    of, own = scaling.attribute("resource_id"), service.attribute("name")
    named = {each.resource for each in symbols(settle(of))} if of is not None else set()
    return service in named or (own is not None and text(of).endswith(f"/{text(own)}"))


def unreplaceable(service: Resource, name: str) -> Iterator[Finding]:
    """A service that may neither stop nor start a task: its deployments never end."""
    low, high, wanted = (
        service.attribute(each)
        for each in ("deployment_minimum_healthy_percent", "deployment_maximum_percent", "desired_count")
    )
    tasks = number(wanted)
    least = 100.0 if low is None else number(low)
    most = 200.0 if high is None else number(high)
    rolling = not service.blocks("deployment_controller") and not service.blocks("deployment_configuration")
    if rolling and tasks and least is not None and most is not None and stuck(int(tasks), least, most):
        what = f"{name} keeps {least:g} to {most:g} percent of {tasks:g} tasks: no deployment can replace one"
        yield service.finding(what, high or low)


def stuck(tasks: int, least: float, most: float) -> bool:
    """Whether a rolling deployment can neither stop nor start a task; ECS rounds up, and down."""
    return math.floor(tasks * most / 100) <= tasks <= math.ceil(tasks * least / 100)


#: The member with a signing key in JSON, and the attribute of Terraform's generator with the contract's form.
_DEMANDED = ("activeKid", "privateKey")
_VERSION, _SIGNING = "schemaVersion", "/es256-private-key"
_KEY_MEMBERS, _PKCS8 = ("privateKey", "pendingPrivateKey"), "private_key_pem_pkcs8"


def generated(configuration: Configuration, names: Collection[str]) -> Iterator[Finding]:
    """Return where Terraform creates a signing key that is not P-256 in PKCS#8, or one key for two secrets.

    `names` are the secrets' names. A key from elsewhere, or one that is replaced later, proves nothing.
    """
    held: dict[str, str] = {}
    for name, version, content in _made(configuration):
        if name not in names:
            continue
        for what, value in _wrong_members(content):
            yield version.finding(f"the key of {name} {what}", value)
        for value in _keys_in(content):
            made = value.content.resource if isinstance(value.content, Symbol) else None
            if not isinstance(made, Resource) or made.block.type == "data":
                continue
            if made.type.startswith("random_"):
                yield version.finding(f"the key of {name} is {made.address}, which is not a key", value)
            if made.type != "tls_private_key":
                continue
            for what in _unfit(made, value.content.path[0] if value.content.path else _PKCS8):
                yield version.finding(f"the key of {name} {what}", value)
            first = held.setdefault(made.address, name)
            if first != name:
                yield version.finding(f"{name} and {first} share one key, {made.address}", value)


def _made(configuration: Configuration) -> Iterator[tuple[str, Resource, Value]]:
    """The secrets whose value only Terraform sets: name, version, value."""
    for version in configuration.of_type("aws_secretsmanager_secret_version"):
        known = secret(version.attribute("secret_id"))
        replaced = any("ignore_changes" in each.attributes for each in version.block.nested("lifecycle"))
        replaced = replaced or version.attribute("version_stages") is not None
        content = version.attribute("secret_string") or version.attribute("secret_string_wo")
        if known is not None and content is not None and not version.uncertain and not replaced:
            yield known.name, version, content


#: A container's reference to a secret, with the requested JSON member.
_PART = re.compile(r"(?:\$\{[^}]*\}|arn:.*:secret:[^:]+):(?P<member>[^:${}]+):[^:]*:[^:]*")
#: The members of a signing key's JSON.
_MEMBERS = frozenset(
    {"schemaVersion", "activeKid", "privateKey", "pendingKid", "pendingPrivateKey", "revocation"}
)


def partless(configuration: Configuration, defined: Definitions) -> Iterator[Finding]:
    """Return the tasks that never start because they request a member that a secret's JSON lacks."""
    made = defaultdict[str, list[Value]](list)
    for name, _, content in _made(configuration):
        made[name] += options(content)
    for each in defined.definitions:
        for box in each.containers:
            for _, value in box.secrets:
                asked, of = _PART.fullmatch(text(value)), secret(value)
                if asked is not None and of is not None:
                    for what in _without(asked["member"], of.name, made[of.name]):
                        yield box.finding(f"{each.name} asks {what}, so it never starts", value)


def _without(member: str, name: str, values: Collection[Value]) -> Iterator[str]:
    """Why no value of a secret has a member."""
    if name.endswith(_SIGNING) and member not in _MEMBERS:
        yield f"{name} for {member}, which is not in a signing key"
        return
    members = [entries(decoded(each)) for each in values]
    if members and all(each and member not in each for each in members):
        yield f"{name} for {member}, but its JSON has only {' and '.join(sorted(members[0]))}"
    elif values and all(map(_is_no_json, values)):
        yield f"{name} for {member}, but it is not JSON"


def _is_no_json(value: Value) -> bool:
    """Whether a value does not begin like a JSON object, or is a password from Terraform."""
    content = settle(value).content
    if isinstance(content, Text | str):
        first = content.parts[0] if isinstance(content, Text) else content
        return isinstance(first, str) and bool(first.strip()) and not first.lstrip().startswith("{")
    return isinstance(content, Symbol) and getattr(content.resource, "type", "").startswith("random_")


def _keys_in(value: Value) -> Iterator[Value]:
    """The private keys in a secret: the secret itself, or members of its JSON."""
    for each in options(value):
        members = entries(decoded(each))
        found = [members[name] for name in _KEY_MEMBERS if name in members] if members else [each]
        yield from (one for key in found for one in options(key))


def _wrong_members(value: Value) -> Iterator[tuple[str, Value]]:
    """Missing or wrong members in a key's JSON; a bootstrap fills an empty one."""
    for each in options(value):
        members = entries(decoded(each))
        version = flat(members[_VERSION]) if _VERSION in members else each.to(1)
        if is_known(version) and (version.content != 1 or isinstance(version.content, bool)):
            said = f'"{text(version)}"' if isinstance(version.content, str) else text(version)
            yield f"has the {_VERSION} {said}, not 1", version
        missing = [name for name in _DEMANDED if name not in members] if members else []
        if missing:
            yield f"is JSON without {' and '.join(missing)}", each


def _unfit(made: Resource, attribute: str) -> Iterator[str]:
    """How a key from Terraform violates the contract; the default is a P-224 key."""
    algorithm, curve = made.attribute("algorithm"), made.attribute("ecdsa_curve")
    said = known_text(algorithm)
    if said and said != "ECDSA":
        yield f"is {said}, not P-256"
    elif said and (curve is None or (is_known(curve) and text(curve) != "P256")):
        yield f"is {text(curve) if curve is not None else 'P224'}, not P-256"
    if attribute != _PKCS8:
        yield f"is stored as {attribute}, not as PKCS#8"

"""What Terraform refuses to read, plan or apply although each part is right by itself."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from posixpath import dirname, normpath

from smoke.source.checkout import Finding
from smoke.source.terraform.configuration import Configuration, Module
from smoke.source.terraform.evaluate import Body, Environment, Resource
from smoke.source.terraform.functions import ABSENT
from smoke.source.terraform.hcl import Block, Expr
from smoke.source.terraform.references import (
    declared,
    expressions,
    items,
    named_by,
    names_in,
    paths,
    referenced,
    thing,
)
from smoke.source.terraform.values import (
    Symbol,
    Value,
    boolean,
    flat,
    hidden,
    is_known,
    options,
    settle,
    text,
)

from .iam import ROLE, roles_of

#: Resources that must be unique, by their identifying attributes: AWS refuses the second, or it overwrites
#: the first.
_ONCE: Mapping[str, tuple[str, ...]] = {
    "aws_cloudwatch_dashboard": ("dashboard_name",),
    "aws_cloudwatch_log_group": ("name",),
    "aws_db_instance": ("identifier",),
    "aws_ecr_repository": ("name",),
    "aws_ecs_service": ("cluster", "name"),
    "aws_iam_policy": ("name",),
    "aws_iam_role": ("name",),
    "aws_iam_role_policy": ("role", "name"),
    "aws_lb": ("name",),
    "aws_lb_listener": ("load_balancer_arn", "port"),
    "aws_lb_listener_rule": ("listener_arn", "priority"),
    "aws_lb_target_group": ("name",),
    "aws_route53_record": ("zone_id", "type", "set_identifier", "name"),
    "aws_secretsmanager_secret": ("name",),
    "aws_security_group": ("vpc_id", "name"),
    "aws_service_discovery_private_dns_namespace": ("vpc", "name"),
    "aws_sqs_queue": ("name",),
}


def conflicts(configuration: Configuration) -> list[Finding]:
    """Return conflicts that keep `terraform apply` from creating what the files describe."""
    found = [*_taken(configuration)]
    for module in {each.files.directory: each for each in configuration.modules}.values():
        found += _cycles(module)
    for module in configuration.modules:
        found += _unmet(module)
    found += _unfit_for_commits(configuration.root)
    found += [*_undone(configuration), *_taken_away(configuration), *_mixed(configuration)]
    return list(dict.fromkeys(found))


def _taken(configuration: Configuration) -> Iterator[Finding]:
    """Names that two resources share; a resource with another provider is in another region or account."""
    for type_, attributes in _ONCE.items():
        held: dict[tuple[str, ...], Resource] = {}
        for each in configuration.of_type(type_):
            values = [each.attribute(attribute) for attribute in attributes]
            own = values[-1]
            if each.uncertain or own is None or "${" in text(own) or _replaces(each):
                continue
            around = [thing(value, type_).key if value is not None else "" for value in values[:-1]]
            provider = each.block.attributes.get("provider")
            key = (*around, text(own), provider.text if provider is not None else "")
            first = held.setdefault(key, each)
            if first is not each and first.address != each.address:
                what = f"{each.address} and {first.address} share the {attributes[-1]} {text(own)}"
                yield each.finding(what, own)


def _replaces(record: Resource) -> bool:
    """Whether a DNS record may take the place of another one, as those that validate certificates do."""
    overwrites = record.attribute("allow_overwrite")
    return overwrites is not None and boolean(overwrites) is not False


def _cycles(module: Module) -> Iterator[Finding]:
    """Cycles of resources and local values, each once."""
    files = module.files
    needs: dict[str, set[str]] = defaultdict(set)
    for name, expr in files.locals.items():
        needs[f"local.{name}"] = {each for each, _ in named_by(expr)}
    for address in module.addresses:
        needs[address] = {each for each, _ in named_by(files.blocks[address])}
    done: set[str] = set()
    for start in needs:
        path: list[str] = []
        circle = _circle(start, needs, path, done)
        if circle:
            block = files.blocks.get(circle[0])
            place = block.at if block is not None else files.locals[circle[0].partition(".")[2]].at
            yield place.finding(f"{' needs '.join([*circle, circle[0]])}: a cycle")


def _circle(name: str, needs: Mapping[str, set[str]], path: list[str], done: set[str]) -> list[str]:
    """The first cycle on a walk from a name, without what was visited before."""
    if name in path:
        return path[path.index(name) :]
    if name in done:
        return []
    done.add(name)
    for each in sorted(needs[name] & needs.keys()):
        if found := _circle(each, needs, [*path, name], done):
            return found
    return []


#: What Terraform never converts to a type.
_UNFIT: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("string", "number", "bool"), (tuple, dict)),
    **dict.fromkeys(("list", "set", "tuple"), (str, int, float, dict)),
    **dict.fromkeys(("map", "object"), (str, int, float, tuple)),
}


def _unmet(module: Module) -> Iterator[Finding]:
    """Conditions of variables and resources that are false for every value that the files leave open.

    A default that its validation refuses is replaced when Terraform runs.
    """
    if module.uncertain:
        return
    for name, given in module.given.items():
        variable = module.files.blocks.get(f"variable.{name}")
        type_ = variable.attributes.get("type") if variable is not None else None
        held = settle(given).content
        wanted = re.match(r"\w*", type_.text.strip()) if type_ is not None else None
        if wanted is not None and isinstance(held, _UNFIT.get(wanted[0], ())):
            one = "an object" if isinstance(held, dict) else "a single value"
            kind = "a list" if isinstance(held, tuple) else one
            what = f"{module.address}var.{name} is given {kind}, but its type is {wanted[0]}"
            yield given.at.finding(what)
    for address, block in module.files.blocks.items():
        if address.startswith("variable.") and block.labels[0] in module.given:
            for condition in block.nested("validation"):
                said = f"var.{block.labels[0]} is {text(module.variable(block.labels[0]))}"
                what = f"{said}, which its validation refuses"
                yield from _false(Body(condition, Environment(module)), what)
    for resource in module.resources:
        for lifecycle in resource.block.nested("lifecycle") if not resource.uncertain else ():
            for condition in lifecycle.nested("precondition"):
                what = f"{resource.address}: a precondition is false"
                yield from _false(Body(condition, resource.environment), what)


#: Commits as pipelines write them, and the words of a message that demands one.
_HEX = ("0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "9" * 40, "f" * 40)
_COMMITS = [
    f"{mark}{sha[:length]}"
    for sha in _HEX
    for mark in ("", "sha-")
    for length in (*range(7, 13), 16, 20, 32, 40)
]
_OF_COMMITS = re.compile(r"\b(?:git|commit)\b.*\b(?:sha|hash|id)\b|\bcommit\b", re.IGNORECASE)
#: Words of a message that demands something else, or more than a commit.
_OF_MORE = re.compile(
    r"\b(?:no|not|never|or|and|digest|versions?|releases?|semver|branch|prefix|followed)\b|256|\w-[<{$]|\w-[0-9a-f]{7}",
    re.IGNORECASE,
)


def _unfit_for_commits(module: Module) -> Iterator[Finding]:
    """Validations whose message demands a commit, and whose condition refuses each of them."""
    variables = [each for address, each in module.files.blocks.items() if address.startswith("variable.")]
    for variable in variables:
        name = variable.labels[0]
        for validation in variable.nested("validation") if name not in module.given else ():
            message = Body(validation, Environment(module)).attribute("error_message")
            if not _OF_COMMITS.search(text(message)) or _OF_MORE.search(text(message)):
                continue
            values = ({**module.given, name: Value(sha, variable.at)} for sha in _COMMITS)
            tried = (Module(module.sources, module.files, given=each) for each in values)
            said = f"var.{name} accepts no git SHA: its validation refuses every one"
            found = [[*_false(Body(validation, Environment(each)), said)] for each in tried]
            yield from found[0] if all(found) else ()


def _false(condition: Body, what: str) -> Iterator[Finding]:
    value = condition.attribute("condition")
    if value is not None and all(each.content is False for each in options(value)):
        yield condition.finding(what, value)


#: Attributes with a role's complete list, and the resources that add to the same.
_COMPLETE = {
    "aws_iam_role_policies_exclusive": ("policy_names", "aws_iam_role_policy", "name"),
    "aws_iam_role_policy_attachments_exclusive": (
        "policy_arns", "aws_iam_role_policy_attachment", "policy_arn",
    ),
}  # fmt: skip


_COMPLETE_OF = ("aws_iam_role_policy", "aws_iam_role_policy_attachment")


def _undone(configuration: Configuration) -> Iterator[Finding]:
    """Policies of a role that another resource removes, because its complete list lacks them."""
    for type_, (attribute, adds, by) in _COMPLETE.items():
        for complete in configuration.of_type(type_):
            listed = complete.attribute(attribute)
            keys = {_key(each) for each in items(listed)}
            if complete.uncertain or listed is None or None in keys:
                continue
            roles = {*roles_of(complete.attribute("role_name"))}
            for policy in configuration.of_type(adds):
                key = _key(policy.attribute(by))
                if key is not None and key not in keys and roles & {*roles_of(policy.attribute("role"))}:
                    what = f"{complete.address} removes {policy.address}, which it does not list"
                    yield complete.finding(what)
    for role in configuration.of_type(ROLE):
        own = {*roles_of(role.reference)}
        for attribute, adds in (("inline_policy", _COMPLETE_OF[0]), ("managed_policy_arns", _COMPLETE_OF[1])):
            # an empty list is also complete; a missing one is not
            given = [flat(each).content for each in options(role.attribute(attribute))]
            listed_all = given != [] and all(isinstance(each, tuple) for each in given)
            held = (role.blocks(attribute) or listed_all) and not role.ignores(attribute)
            for policy in configuration.of_type(adds) if held else ():
                if own & {*roles_of(policy.attribute("role"))}:
                    what = f"{role.address} has {attribute}: it and {policy.address} overwrite each other"
                    yield policy.finding(what)


def _taken_away(configuration: Configuration) -> Iterator[Finding]:
    """Roles that lose a policy, because another resource attaches it to its own roles and to no others."""
    exclusive = [each for each in configuration.of_type("aws_iam_policy_attachment") if not each.uncertain]
    given = [(each, each.attribute("roles")) for each in exclusive]
    given += [(each, each.attribute("role")) for each in configuration.of_type(_COMPLETE_OF[1])]
    for owner in exclusive:
        of, roles = owner.attribute("policy_arn"), owner.attribute("roles")
        key, own = _key(of), {*roles_of(roles)}
        if key is None or hidden(roles):
            continue
        for other, to in given:
            same = other is not owner and _key(other.attribute("policy_arn")) == key
            if same and not other.uncertain and {*roles_of(to)} - own:
                what = f"{owner.address} removes its policy from every role that it does not list"
                yield owner.finding(f"{what}, and so from that of {other.address}")


def _key(value: Value | None) -> str | None:
    """What identifies a policy: its resource, or its name or ARN; None if unknown."""
    policy = declared(value, "aws_iam_policy")
    return policy.address if policy is not None else text(value) if is_known(value) else None


def _mixed(configuration: Configuration) -> Iterator[Finding]:
    """Security groups with inline rules and separate rules, which overwrite each other."""
    rules = [
        (each, text(each.attribute("type"))) for each in configuration.of_type("aws_security_group_rule")
    ]
    for way in ("ingress", "egress"):
        rules += [(each, way) for each in configuration.of_type(f"aws_vpc_security_group_{way}_rule")]
    for rule, way in rules:
        group = referenced(rule.attribute("security_group_id"))
        if group is None or rule.uncertain or group.type != "aws_security_group":
            continue
        if group.blocks(way) and not group.ignores("ingress|egress"):
            what = f"{group.address} has inline {way} rules: it and {rule.address} overwrite each other"
            yield rule.finding(what)


#: The address of a resource or a module without an index, here or in a module.
_WHOLE = re.compile(r"(?:module\.[\w-]+\.)*(?:module\.[\w-]+|(?!module\.|data\.)\w+\.[\w-]+)")
#: Things that are declared only in their block.
_ALIAS = re.compile(r"([\w-]+\.[\w-]+)(?:\[.*\])?")


def misdeclared(configuration: Configuration) -> list[Finding]:
    """Return mistakes that keep Terraform from reading the files, so that it cannot even plan."""
    found: list[Finding] = []
    for module in {each.files.directory: each for each in configuration.modules}.values():
        for name, first, second in module.files.twice:
            found.append(Finding(second.path, second.line, f"{name} is declared here and at {first}"))
        if not module.files.unread:
            found += [*_addressed(module), *_providers(module), *_elsewhere(module)]
    for module in configuration.modules:
        found += _missing(module)
    return list(dict.fromkeys(found))


def _elsewhere(module: Module) -> Iterator[Finding]:
    """Calls of modules with a path that does not exist."""
    for address, block in module.files.blocks.items():
        written = block.attributes.get("source") if address.startswith("module.") else None
        source = written.args[0] if written is not None and written.kind == "literal" else ""
        if written is None or not isinstance(source, str) or not source.startswith(("./", "../")):
            continue
        path, sources = normpath(f"{module.files.directory}/{source}"), module.sources
        beside = any(each.startswith(f"{dirname(path)}/") for each in sources.tracked)
        if beside and not sources.has(path) and not sources.has(".gitmodules"):
            what = f"{address} calls {path}, which is not in the checkout"
            yield written.at.finding(what)


def _addressed(module: Module) -> Iterator[Finding]:
    """What a block says about an address: moved, removed, or in the files."""
    for block in module.files.others:
        name = {"moved": "from", "removed": "from", "import": "to"}.get(block.type, "")
        expr = block.attributes.get(name)
        address = _bare(expr) if expr is not None else ""
        if expr is None or not _WHOLE.fullmatch(address):
            continue
        there = address in module.files.blocks
        if block.type == "import":
            if not there and address.count(".") == 1 and not address.startswith("module."):
                yield expr.at.finding(f"{address} is imported but declared nowhere")
        elif there and not _is_keyed(block, address):
            yield expr.at.finding(f"{address} is {block.type} and still declared")


def _is_keyed(block: Block, address: str) -> bool:
    """Whether a resource becomes one of several with the same name."""
    to = block.attributes.get("to")
    return to is not None and _bare(to).startswith(f"{address}[")


def _bare(expr: Expr) -> str:
    """An address as written, with or without quotes."""
    return expr.text.strip().strip('"')


def _providers(module: Module) -> Iterator[Finding]:
    """Providers with an alias that neither the module nor its caller defines."""
    known = set[str]()
    for block in module.files.others:
        alias = block.attributes.get("alias") if block.type == "provider" else None
        if alias is not None:
            known.add(f"{block.labels[0]}.{_bare(alias)}")
    for block in module.files.others:
        for inner in block.nested("required_providers") if block.type == "terraform" else ():
            for expr in inner.attributes.values():
                known |= {*re.findall(r"[\w-]+\.[\w-]+", expr.text.partition("configuration_aliases")[2])}
    for expr in _chosen(module):
        named = _ALIAS.fullmatch(_bare(expr))
        if named is not None and named[1] not in known:
            yield expr.at.finding(f"there is no provider {named[1]}")


def _chosen(module: Module) -> Iterator[Expr]:
    for address, block in module.files.blocks.items():
        if "provider" in block.attributes and not address.startswith(("variable.", "output.")):
            yield block.attributes["provider"]
        given = block.attributes.get("providers") if address.startswith("module.") else None
        if given is not None and given.kind == "object":
            yield from (expr for _, expr in given.args)


def _missing(module: Module) -> Iterator[Finding]:
    """Keys that a map lacks, and names that a template uses but does not get."""
    if module.uncertain:
        return
    here = Environment(module)
    for expr in module.files.locals.values():
        yield from _of_expr(module, here, expr, guarded=False)
    for resource in module.resources:
        for expr in expressions(resource.block) if not resource.uncertain else ():
            yield from _of_expr(module, resource.environment, expr, guarded=False)


def _of_expr(module: Module, environment: Environment, expr: Expr, *, guarded: bool) -> Iterator[Finding]:
    for path, guard in paths(expr, guarded):
        base, steps = path.args
        first = steps[0][1] if steps[0][0] == "attr" else ""
        sure = base.args[0] in {"local", "each"} or (base.args[0] == "var" and first in module.given)
        if guard or not sure or len(steps) < 2 or any(step[0] == "splat" for step in steps):
            continue
        for number in range(2 if base.args[0] != "each" else 1, len(steps) + 1):
            held = settle(environment.value(_cut(path, number - 1))).content
            if not isinstance(held, dict | tuple) or any("${" in str(key) for key in held):
                continue
            found = settle(environment.value(_cut(path, number))).content
            if isinstance(found, Symbol) and found.why == f"{ABSENT}{path.text}":
                yield path.at.finding(f"{path.text}: there is no such key")
                break
    yield from _of_templates(module, environment, expr)


def _cut(path: Expr, number: int) -> Expr:
    base, steps = path.args
    return replace(path, args=(base, steps[:number])) if number else base


def _of_templates(module: Module, environment: Environment, expr: Expr) -> Iterator[Finding]:
    if expr.kind == "call" and expr.args[0] == "templatefile" and len(expr.args[1]) == 2:
        path, names = (settle(environment.value(each)).content for each in expr.args[1])
        if isinstance(path, str) and isinstance(names, dict):
            template = module.sources.text_of(path, module.files.directory) is not None
            body = module.sources.template(path, module.files.directory) if template else None
            used = {name.split(".")[0] for name, _ in names_in(body, frozenset(names))} if body else set()
            for name in sorted(filter(None, used)):
                yield expr.at.finding(f"{path} uses {name}, which it is not given")
    for child in expr.children():
        yield from _of_templates(module, environment, child)

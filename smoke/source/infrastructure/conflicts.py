"""What keeps `terraform apply` from making what the files say, though each of them may be right by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from smoke.source.checkout import Finding
from smoke.source.terraform.configuration import Configuration, Module
from smoke.source.terraform.evaluate import Body, Environment, Resource
from smoke.source.terraform.references import items, named_by, referenced, thing
from smoke.source.terraform.values import Value, flat, is_known, options, text

from .iam import ROLE, roles_of

#: What AWS has once, by the attributes that say which: the second is refused, or overwrites the first.
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
    "aws_secretsmanager_secret": ("name",),
    "aws_security_group": ("vpc_id", "name"),
    "aws_service_discovery_private_dns_namespace": ("vpc", "name"),
    "aws_sqs_queue": ("name",),
}


def conflicts(configuration: Configuration) -> list[Finding]:
    """Return what keeps `terraform apply` from making what the files say."""
    found = [*_taken(configuration)]
    for module in {each.files.directory: each for each in configuration.modules}.values():
        found += _cycles(module)
    for module in configuration.modules:
        found += _unmet(module)
    found += [*_undone(configuration), *_mixed(configuration)]
    return list(dict.fromkeys(found))


def _taken(configuration: Configuration) -> Iterator[Finding]:
    """Names that two resources have; those of another provider are in another region or account."""
    for type_, attributes in _ONCE.items():
        held: dict[tuple[str, ...], Resource] = {}
        for each in configuration.of_type(type_):
            values = [each.attribute(attribute) for attribute in attributes]
            own = values[-1]
            if each.uncertain or own is None or "${" in text(flat(own)):
                continue
            around = [thing(value, type_).key if value is not None else "" for value in values[:-1]]
            provider = each.block.attributes.get("provider")
            key = (*around, text(flat(own)), provider.text if provider is not None else "")
            first = held.setdefault(key, each)
            if first is not each and first.address != each.address:
                what = f"{each.address} and {first.address} share the {attributes[-1]} {text(flat(own))}"
                yield each.finding(what, own)


def _cycles(module: Module) -> Iterator[Finding]:
    """Resources and local values that need each other, each circle once."""
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
            yield Finding(place.path, place.line, f"{' needs '.join([*circle, circle[0]])}: a cycle")


def _circle(name: str, needs: Mapping[str, set[str]], path: list[str], done: set[str]) -> list[str]:
    """The circle that a walk from a name meets first; what was walked before is left out."""
    if name in path:
        return path[path.index(name) :]
    if name in done:
        return []
    done.add(name)
    for each in sorted(needs[name] & needs.keys()):
        if found := _circle(each, needs, [*path, name], done):
            return found
    return []


def _unmet(module: Module) -> Iterator[Finding]:
    """Conditions of variables and resources that are false whatever the files leave open.

    A default that its validation refuses has a value given when Terraform runs.
    """
    if module.uncertain:
        return
    for address, block in module.files.blocks.items():
        if address.startswith("variable.") and block.labels[0] in module.given:
            for condition in block.nested("validation"):
                said = f"var.{block.labels[0]} is {text(flat(module.variable(block.labels[0])))}"
                yield from _false(
                    Body(condition, Environment(module)), f"{said}, which its validation refuses"
                )
    for resource in module.resources:
        for lifecycle in resource.block.nested("lifecycle") if not resource.uncertain else ():
            for condition in lifecycle.nested("precondition"):
                yield from _false(
                    Body(condition, resource.environment), f"{resource.address}: a precondition is false"
                )


def _false(condition: Body, what: str) -> Iterator[Finding]:
    value = condition.attribute("condition")
    if value is not None and all(each.content is False for each in options(value)):
        yield condition.finding(what, value)


#: Complete lists of what a role has: its own attribute, and the resources and attribute that add to it.
_COMPLETE = {
    "aws_iam_role_policies_exclusive": ("policy_names", "aws_iam_role_policy", "name"),
    "aws_iam_role_policy_attachments_exclusive": (
        "policy_arns", "aws_iam_role_policy_attachment", "policy_arn",
    ),
}  # fmt: skip


_COMPLETE_OF = ("aws_iam_role_policy", "aws_iam_role_policy_attachment")


def _undone(configuration: Configuration) -> Iterator[Finding]:
    """Policies of a role that another resource takes away, as they are not in its complete list of them."""
    for type_, (attribute, adds, by) in _COMPLETE.items():
        for complete in configuration.of_type(type_):
            listed = complete.attribute(attribute)
            keys = {_key(each) for each in items(listed)}
            if complete.uncertain or listed is None or None in keys:
                continue
            roles = {*roles_of(complete.attribute("role_name"))}
            for policy in configuration.of_type(adds):
                named = policy.attribute(by)
                other = _key(named) is not None and _key(named) not in keys if named is not None else False
                if other and roles & {*roles_of(policy.attribute("role"))}:
                    what = f"{complete.address} removes {policy.address}, which it does not list"
                    yield complete.finding(what)
    for role in configuration.of_type(ROLE):
        own = {*roles_of(role.reference)}
        for attribute, adds in (("inline_policy", _COMPLETE_OF[0]), ("managed_policy_arns", _COMPLETE_OF[1])):
            held = bool(role.blocks(attribute)) or any(items(role.attribute(attribute)))
            held = held and not role.ignores(attribute)
            for policy in configuration.of_type(adds) if held else ():
                if own & {*roles_of(policy.attribute("role"))}:
                    what = f"{role.address} has {attribute}: it and {policy.address} overwrite each other"
                    yield policy.finding(what)


def _key(value: Value) -> str | None:
    """What tells one policy from another: its resource, or its name or ARN; None where that is not known."""
    resource = referenced(value)
    if resource is not None and resource.block.type != "data" and resource.type == "aws_iam_policy":
        return resource.address
    return text(flat(value)) if is_known(value) else None


def _mixed(configuration: Configuration) -> Iterator[Finding]:
    """Security groups with rules of their own, and rules beside them: the two overwrite each other."""
    rules = [
        (each, text(each.attribute("type"))) for each in configuration.of_type("aws_security_group_rule")
    ]
    for way in ("ingress", "egress"):
        rules += [(each, way) for each in configuration.of_type(f"aws_vpc_security_group_{way}_rule")]
    for rule, way in rules:
        of = rule.attribute("security_group_id")
        group = referenced(of) if of is not None else None
        if group is None or rule.uncertain or group.type != "aws_security_group":
            continue
        ignored = any("ingress" in each.text or "egress" in each.text or "all" in each.text
                      for block in group.block.nested("lifecycle")
                      if (each := block.attributes.get("ignore_changes")) is not None)  # fmt: skip
        if group.blocks(way) and not ignored:
            what = f"{group.address} has {way} of its own: it and {rule.address} overwrite each other"
            yield rule.finding(what)

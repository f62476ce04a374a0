"""Whether what the contract names is called so, here or where something else makes it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from smoke.source.checkout import Examined
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.references import items, referenced
from smoke.source.terraform.values import Value, flat, is_known, text


def named(configuration: Configuration, names: Mapping[str, Collection[str]]) -> Examined:
    """Return the names, by type of resource, that the contract gives and no resource has."""
    result = Examined()
    for type_, wanted in names.items():
        attribute = _NAMED.get(type_, "name")
        held = [(each, each.attribute(attribute)) for each in configuration.of_type(type_)]
        made = [value for _, value in held] + _elsewhere_made(configuration, type_, attribute)
        known = {text(flat(value)) for value in made if value is not None}
        for name in sorted({*wanted} - known):
            open_ = [each for each, value in held if value is not None and not is_known(value)]
            what = f"there is no {type_} called {name}"
            if open_:
                result.not_examined.append(open_[0].finding(f"{what}, unless {open_[0].address} is"))
            else:
                configuration.lacks(result, what, (name, *_SPOKEN.get(type_, ()), re.split("[/-]", name)[-1]))
    return result


def _elsewhere_made(configuration: Configuration, type_: str, attribute: str) -> list[Value | None]:
    """The names of what the files look up, as data or, of a task, in a service: something else makes it."""
    found = [
        value for each in configuration.of_type(type_, data=True)
        for value in (each.attribute(_LOOKED_UP.get(type_, attribute)), each.attribute(attribute))
    ]  # fmt: skip
    if type_ == "aws_ecs_task_definition":
        for service in configuration.of_type("aws_ecs_service"):
            found += [
                value.to(text(flat(value)).partition(":")[0])
                for value in items(service.attribute("task_definition"))
                if referenced(value) is None
            ]
    return found


#: What the data source of a type calls its name, where the resource calls it otherwise.
_LOOKED_UP = {
    "aws_ecs_cluster": "cluster_name",
    "aws_ecs_service": "service_name",
    "aws_ecs_task_definition": "task_definition",
    "aws_db_instance": "db_instance_identifier",
}
#: What a module that makes such a resource speaks of, beside its name.
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
#: The attribute that is a resource's name in AWS, where that is not `name`.
_NAMED = {
    "aws_ecs_task_definition": "family",
    "aws_cloudwatch_dashboard": "dashboard_name",
    "aws_db_instance": "identifier",
}

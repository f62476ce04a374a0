"""Useless settings of a container: two values, one in plain text, an ARN instead of a value."""

import re
from collections.abc import Collection, Iterator, Mapping

from smoke.source.terraform.references import choices, entries, items, referenced
from smoke.source.terraform.values import Symbol, Value, flat, is_known, settle, text

from .definitions import Definitions, containers

#: An address with a password in it, which nothing fills in, of a host that is not the task itself.
PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\s:/@]*:[^\s/@${}<>%]+@(?!localhost\b|127\.)")
#: A variable that holds an address, and one that by its name may hold where a secret is.
_OF_ADDRESS, _OF_NAME = re.compile(r"(?:.*_)?(?:URL|URI|DSN)"), re.compile(r".*_(?:ARN|ID|NAME|SECRET|PATH)")
_HOLDERS = ("aws_secretsmanager_secret", "aws_ssm_parameter")
_ARN = re.compile(r"arn:aws[\w-]*:(?:secretsmanager|ssm):.+")


def names_of_secrets(defined: Definitions) -> set[str]:
    """The variables that pass secret values to containers."""
    boxes = (box for each in defined.definitions for task in each.tasks for box in containers(task)[0])
    pairs = (entries(pair) for box in boxes for pair in items(box.entries.get("secrets")))
    return {text(flat(pair["name"])) for pair in pairs if "name" in pair}


def unfit(
    owner: str, listed: Value | None, given: Mapping[str, Value], secrets: Collection[str]
) -> Iterator[tuple[str, Value]]:
    """Yield what is wrong with the variables of a container of `owner`.

    `listed` is its environment, `given` are its variables; `secrets` are names under which containers are
    given the values of secrets.
    """
    every = [dict(_twice(chosen)) for chosen in choices(listed)] if listed is not None else []
    for name, value in every[0].items() if every else ():
        if all(name in each for each in every):
            yield f"{name} of {owner} has two values", value
    for name, value in given.items():
        if is_known(value) and PASSWORD.match(text(flat(value))):
            yield f"{name} of {owner} has a password in plain text", value
        read_as_value = _OF_ADDRESS.fullmatch(name) or (name in secrets and not _OF_NAME.fullmatch(name))
        if read_as_value and _is_where(value):
            yield f"{name} of {owner} is the ARN of a secret, not its value", value


def _twice(chosen: Collection[Value]) -> Iterator[tuple[str, Value]]:
    """The variables of a list that have one value and then another."""
    first: dict[str, Value] = {}
    for pair in map(entries, chosen):
        name, value = pair.get("name"), pair.get("value")
        if name is None or value is None or not is_known(name) or not is_known(value):
            continue
        if text(flat(first.setdefault(text(flat(name)), value))) != text(flat(value)):
            yield text(flat(name)), value


def _is_where(value: Value) -> bool:
    """Whether a value says where a secret is."""
    content, holder = settle(value).content, referenced(value)
    if holder is not None and holder.type in _HOLDERS and isinstance(content, Symbol):
        return content.path[:1] in (("arn",), ("id",)) and holder.block.type == "resource"
    return is_known(value) and _ARN.fullmatch(text(flat(value))) is not None

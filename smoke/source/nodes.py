"""Nodes of YAML: what a mapping has by its keys, with lines, and what stands in it."""

from typing import Any

import yaml

#: The entries of a mapping by key as written: the line of each, and its value.
Entries = dict[str, tuple[int, yaml.Node | None]]
#: What an entry is that is not there.
NONE: tuple[int, yaml.Node | None] = (0, None)


def entries_of(node: yaml.Node | None) -> Entries:
    """The entries of a mapping by key as written, with the line of each; empty for anything else."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {str(key.value): (key.start_mark.line + 1, value) for key, value in node.value}


def plain(node: yaml.Node | None) -> Any:
    """What a node stands for: texts stay as they are written, numbers included."""
    if node is None:
        return None
    if isinstance(node, yaml.SequenceNode):
        return [plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): plain(value) for key, value in node.value}
    if node.tag == "tag:yaml.org,2002:bool":
        return str(node.value).lower() in {"true", "yes", "on"}
    return None if node.tag == "tag:yaml.org,2002:null" else node.value

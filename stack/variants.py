"""Clean variants of the platform: each keeps the contract in another way, as a row of `variants.toml`.

id, what    the name, and what is different, for a person
profile     values of the environment profile, by dotted key
settings    environment variables of every service and of the AWS emulator
sql         statements that follow the seed of the database
rewrite     rules of the fault proxy (`stack/faults/proxy.py`) that always hold, each with its `service`
aws         alterations (`stack/aws/alterations.py`) of what was seeded: `alter` names one
source      edits of the source tree (`stack/source_tree.py`)
group       variants of one group get along: the self-test runs the suite on all of them at once
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

from stack import StackError
from stack.aws.inventory import ControlClient
from stack.source_tree import SourceTree

TABLE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table."""

    id: str
    what: str
    profile: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    sql: str = ""
    rewrite: Sequence[Mapping[str, Any]] = ()
    aws: Sequence[Mapping[str, Any]] = ()
    source: Sequence[Mapping[str, Any]] = ()
    group: str = ""

    @property
    def rules(self) -> dict[str, Mapping[str, Any]]:
        """The rules of the fault proxy, by ids that no fault has."""
        return {f"{self.id}:{number}": rule for number, rule in enumerate(self.rewrite)}

    def beside(self, other: "Variant") -> "Variant":
        """Both at once. Raises StackError if they give different values for the same thing."""
        for own, its in ((self.profile, other.profile), (self.settings, other.settings)):
            if both := own.keys() & its.keys():
                raise StackError(
                    f"variants {self.id} and {other.id} both set {min(both)}", "choose one of them"
                )
        return Variant(
            id=f"{self.id},{other.id}",
            what=f"{self.what}; {other.what}",
            profile={**self.profile, **other.profile},
            settings={**self.settings, **other.settings},
            sql="; ".join(filter(None, (self.sql, other.sql))),
            rewrite=(*self.rewrite, *other.rewrite),
            aws=(*self.aws, *other.aws),
            source=(*self.source, *other.source),
        )

    def alter(self, aws: ControlClient, source: SourceTree) -> None:
        """Make the alterations part of the state that a reset brings back. Raises StackError."""
        for each in self.aws:
            aws.alter(each["alter"], {name: value for name, value in each.items() if name != "alter"})
        if self.aws:
            aws.remember()
        if self.source:
            source.alter(self.what, {"edits": self.source})
            source.remember()

    def applied(self, profile: Mapping[str, Any]) -> dict[str, Any]:
        """A profile with this variant's values, and its own name: its runs make a streak of their own."""
        found = deepcopy(dict(profile))
        found["name"] = "-".join((found["name"], *filter(None, self.id.split(","))))
        for key, value in self.profile.items():
            *way, last = key.split(".")
            table = found
            for step in way:
                table = table.setdefault(step, {})
            table[last] = value
        return found


STANDARD = Variant(id="", what="The platform as the contract's first dialects have it")
VARIANTS = {row["id"]: Variant(**row) for row in tomllib.loads(TABLE.read_text("utf-8"))["variant"]}


def variant(names: str) -> Variant:
    """The variant of that name, several at once (`messages,agent-at-one`), or the standard one for none.

    Raises StackError for an unknown name, and for variants that contradict each other.
    """
    chosen = names.split(",") if names else []
    for name in chosen:
        if name not in VARIANTS:
            raise StackError(f"no variant {name!r}", f"known: {', '.join(VARIANTS)}")
    return reduce(Variant.beside, (VARIANTS[name] for name in chosen)) if chosen else STANDARD


def toml(tables: Mapping[str, Any], within: str = "") -> str:
    """Tables as TOML, in which plain values are written as in JSON."""
    plain, nested = [], []
    for key, value in tables.items():
        name = key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key)
        if isinstance(value, dict):
            nested.append(f"\n[{within}{name}]\n{toml(value, f'{within}{name}.')}")
        else:
            plain.append(f"{name} = {json.dumps(value)}\n")
    return "".join(plain + nested)

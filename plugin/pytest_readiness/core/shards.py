"""Shards: the parts of one run on several machines, and whether their results belong together.

``adapter/judgement`` merges them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ReadinessError

#: Directory below that of the reports, and the suffix of its files.
DIRECTORY, SUFFIX = "shards", ".shard"
NONE_LEFT = "no shard left a result"
#: Maximum number of shards of a run.
MOST = 1000
#: Keys that must be equal in all shards of a run -> their names for people.
COMMON = {
    "run": "run",
    "of": "number of shards",
    "environment": "environment",
    "addresses": "addresses",
    "suite_digest": "suite digest",
    "plan_digest": "plan digest",
    "drills": "--drills",
    "whole": "whole suite asked for",
    "known": "digest of the checks found",
}


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``of`` parts of a run; ``index`` from 1."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``3/20``; ValueError for any other text."""
        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
        index, of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= index <= of <= MOST:
            raise ValueError(f"{text!r} is not a shard (allowed: I/N with I from 1 to N, N up to {MOST})")
        return cls(index, of)

    def has(self, unit: str) -> bool:
        """Tell whether this shard runs a unit of work; every machine gives the same result."""
        return int(hashlib.sha256(unit.encode()).hexdigest()[:12], 16) % self.of == self.index - 1

    @property
    def file_name(self) -> str:
        """The name of the shard's file, unique among the shards of a run."""
        return f"{self.index}-of-{self.of}{SUFFIX}"

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


def written(content: Mapping[str, Any]) -> str:
    """Return a shard's results as text: SHA-256, then JSON, so that an incomplete file is recognised."""
    text = json.dumps(content, ensure_ascii=True)  # unsorted: the order of phases and evidence matters
    return f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n"


def opened(text: str) -> dict[str, Any]:
    """Read the text that :func:`written` made; ValueError if it is incomplete, edited or something else."""
    seal, _, rest = text.partition("\n")
    if hashlib.sha256(rest.removesuffix("\n").encode()).hexdigest() != seal:
        raise ValueError("it is incomplete or was edited")
    content = json.loads(rest)
    if not isinstance(content, dict) or not {"run", "index", "status", *COMMON} <= content.keys():
        raise ValueError("another version wrote it")
    return content


def of_one_run(shards: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[int, Mapping[str, Any]]:
    """Return the shards' results by index, each once; ``shards`` are pairs of place and content.

    ReadinessError if two do not belong to one run, or one ran twice with different results.
    """
    found: dict[int, tuple[str, Mapping[str, Any]]] = {}
    builds: dict[str, tuple[str, str]] = {}
    for place, content in shards:
        first, other = next(iter(found.values()), (place, content))
        for key, word in COMMON.items():
            if content[key] != other[key]:
                raise _another(place, word, content[key], first, other[key])
        for service, build in content["build_start"].items():
            known = builds.setdefault(service, (place, build)) if build else (place, build)
            if known[1] != build:
                raise _another(place, f"build of {service}", build, *known)
        index = content["index"]
        if index in found and found[index][1] != content:
            raise _another(
                place,
                f"end of shard {index}",
                content["finished_at"],
                found[index][0],
                found[index][1]["finished_at"],
            )
        found[index] = (place, content)
    return {index: found[index][1] for index in sorted(found)}


def _another(place: str, word: str, value: object, first: str, other: object) -> ReadinessError:
    return ReadinessError(
        f"another {word} than in {first}: {value}, not {other}",
        where=place,
        allowed="the shards of one run, each with one result",
        action="run all shards again, with the same platform, suite and plan",
    )


def missing(present: Sequence[int], of: int) -> str:
    """Say which shards left no result, "" if none is missing."""
    gone = [str(index) for index in range(1, of + 1) if index not in present]
    if not gone:
        return ""
    plural = "s" if len(gone) > 1 else ""
    return f"shard{plural} {', '.join(gone)} of {of} left no result"

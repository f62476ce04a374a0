"""Dockerfiles as stages of instructions, and what Docker refuses of one, or never runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_KNOWN = frozenset(
    {"FROM", "RUN", "CMD", "LABEL", "MAINTAINER", "EXPOSE", "ENV", "ADD", "COPY", "ENTRYPOINT", "VOLUME"}
    | {"USER", "WORKDIR", "ARG", "ONBUILD", "STOPSIGNAL", "HEALTHCHECK", "SHELL"}
)
#: Instructions of which only the last one in a stage counts.
_ONCE = ("CMD", "ENTRYPOINT", "HEALTHCHECK")
_DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(\S+)", re.IGNORECASE)
_HEREDOC = re.compile(r"<<-?\s*([\"']?)([A-Za-z_]\w*)\1")
_FLAG = re.compile(r"--([\w-]+)(?:=(\S+))?\s*")
#: A list that only looks like JSON: with other quotes, or a comma before its end.
_NO_JSON = re.compile(r"\[\s*'|\[\s*\".*,\s*\]\Z")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^{}]*))?\})")
#: Arguments that BuildKit sets in every FROM.
_GIVEN = re.compile(r"(?:TARGET|BUILD)(?:PLATFORM|OS|ARCH|VARIANT)")
#: Typical names of stages that are not images in a registry.
_OF_STAGES = re.compile(
    r"(?:.*[-_])?(?:build|builder|base|deps?|dependencies|install|installer|compile|assets|runtime|runner|prod"
    r"|production|dev|test|release|final|app|stage-?\d*)(?:[-_].*)?"
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction: `text` is what follows its name and its `flags`, continued lines joined."""

    name: str
    flags: dict[str, str]
    text: str
    line: int

    def words(self) -> list[str]:
        """Its arguments: the list in its JSON form, else the words between spaces."""
        return self.listed() if self.text.startswith("[") else self.text.split()

    def listed(self) -> list[str]:
        """Its arguments in JSON; none in any other form."""
        try:
            found = json.loads(self.text)
        except ValueError:
            return []
        return [str(each) for each in found] if isinstance(found, list) else []


@dataclass(slots=True)
class Stage:
    """The instructions of one FROM. `base` and `platform` are empty if an argument hides them."""

    name: str
    base: str
    platform: str
    line: int
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, name: str) -> Instruction | None:
        """The last instruction of this name, which counts."""
        return next((each for each in reversed(self.instructions) if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The stages of a file; `needed` are arguments of its FROMs without a value; `wrong` with their lines."""

    stages: tuple[Stage, ...]
    needed: tuple[tuple[str, int], ...]
    wrong: tuple[tuple[str, int], ...]

    def target(self, name: str = "") -> Stage | None:
        """The target stage of a build: the one with this name or number, else the last."""
        if not name:
            return self.stages[-1] if self.stages else None
        named = [each for at, each in enumerate(self.stages) if name.lower() in (each.name, str(at))]
        return named[0] if named else None

    def below(self, stage: Stage) -> list[Stage]:
        """A stage and its base stages, the nearest first."""
        found = [stage]
        before = self.stages[: self.stages.index(stage)]
        while base := next((each for each in before if each.name and each.name == found[-1].base), None):
            found.append(base)
            before = self.stages[: self.stages.index(base)]
        return found

    def effective(self, stage: Stage, name: str) -> Instruction | None:
        """The instruction of this name in a stage, or in the stages below it."""
        return next((one for each in self.below(stage) if (one := each.last(name)) is not None), None)


def read(text: str) -> Dockerfile | None:
    """Read a Dockerfile; None if a custom frontend gives it another syntax."""
    syntax = next((value for name, value in _directives(text) if name == "syntax"), "docker/dockerfile")
    if "docker/dockerfile" not in syntax:
        return None
    stages, wrong, needed = list[Stage](), list[tuple[str, int]](), list[tuple[str, int]]()
    values: dict[str, str | None] = {}
    for each in _instructions(text):
        if each.name not in _KNOWN:
            wrong.append((f"there is no instruction {each.name}", each.line))
        elif each.name == "FROM":
            stages.append(_stage(each, values, needed))
        elif each.name == "ARG" and not stages:
            values |= {name: value if equals else None for name, equals, value in _arguments(each.text)}
        elif not stages:
            wrong.append((f"{each.name} comes before the first FROM", each.line))
        else:
            wrong += [*_from_elsewhere(each, stages), *_of_words(each)]
            stages[-1].instructions.append(each)
    if not stages:
        wrong.append(("it has no FROM", 1))
    for stage in stages[-1:]:
        for name in _ONCE:
            same = [each for each in stage.instructions if each.name == name]
            wrong += [(f"a later {name} replaces this one, {one.text}: it never runs", one.line)
                      for one in same[:-1] if one.text != same[-1].text]  # fmt: skip
    return Dockerfile(tuple(stages), tuple(needed), tuple(wrong))


def _of_words(each: Instruction) -> Iterator[tuple[str, int]]:
    """A program that is almost a JSON list: Docker gives it to a shell, which knows no such command."""
    if each.name in ("CMD", "ENTRYPOINT") and _NO_JSON.match(each.text) and not each.listed():
        yield f"{each.name} is neither a list in JSON nor a command: {each.text}", each.line


def _directives(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        found = _DIRECTIVE.fullmatch(line.strip())
        if found is None:
            return
        yield found[1].lower(), found[2]


def _instructions(text: str) -> Iterator[Instruction]:
    escape = next((value for name, value in _directives(text) if name == "escape"), "\\")
    lines = [*enumerate(map(str.strip, text.splitlines()), 1)]
    while lines:
        number, line = lines.pop(0)
        if not line or line.startswith("#"):
            continue
        while line.endswith(escape) and lines:
            _, more = lines.pop(0)
            if more and not more.startswith("#"):  # neither ends a continued line
                line = f"{line[:-1].rstrip()} {more}"
        name, rest = [*line.split(None, 1), ""][:2]
        for _, end in _HEREDOC.findall(rest) if name.upper() in ("RUN", "COPY", "ADD") else ():
            while lines and (body := lines.pop(0)[1]) != end:
                rest += f"\n{body}"
        flags = dict[str, str]()
        rest = rest.strip()
        while found := _FLAG.match(rest):
            flags[found[1]] = found[2] or ""
            rest = rest[found.end() :]
        yield Instruction(name.upper(), flags, rest, number)


def _arguments(text: str) -> Iterator[tuple[str, str, str]]:
    for word in text.split():
        name, equals, value = word.partition("=")
        yield name, equals, value.strip("\"'")


def _stage(each: Instruction, values: dict[str, str | None], needed: list[tuple[str, int]]) -> Stage:
    """A new stage; arguments of its base without a value are `needed`."""
    hidden = False

    def value(found: re.Match[str]) -> str:
        nonlocal hidden
        name, default = found[1] or found[2], found[4] or ""
        known = values.get(name)
        if known is None and found[3] == "-":
            return default
        if known is None and not _GIVEN.fullmatch(name):
            needed.append((name, each.line))
        hidden = hidden or known is None
        return known or ""

    base, *rest = _VARIABLE.sub(value, each.text).split() or [""]
    name = rest[1].lower() if len(rest) > 1 and rest[0].upper() == "AS" else ""
    platform = each.flags.get("platform", "")
    return Stage(name, "" if hidden else base.lower(), "" if "$" in platform else platform, each.line)


def _from_elsewhere(each: Instruction, stages: Sequence[Stage]) -> Iterator[tuple[str, int]]:
    """A COPY from a stage that does not come before; a name of no stage may be an image."""
    source = each.flags.get("from", "").lower()
    before = stages[:-1]
    if each.name != "COPY" or not source or source in {stage.name for stage in before} or "$" in source:
        return
    if source.isdigit():
        if int(source) >= len(before):
            yield f"it copies from stage {source}, which is not an earlier stage", each.line
    elif source == stages[-1].name or _OF_STAGES.fullmatch(source):
        yield f"it copies from {source}, which is not an earlier stage", each.line

"""The builds and pushes for which `docker buildx bake` and `docker compose build` or `push` stand.

Each becomes the `docker build` and `docker push` commands that do the same, so that every rule on these
holds. A value that only a run knows stays as written, `${NAME}`.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from smoke.source.scripts import shell
from smoke.source.terraform.evaluate import Environment
from smoke.source.terraform.hcl import Expr, Place, parse
from smoke.source.terraform.values import Either, Symbol, Text, Value, flat, options, settle, text

from .workflows import Step

_COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_BAKE_FILES = ("docker-bake.json", "docker-bake.hcl")
#: Files that change others when they exist.
_OVERRIDES = ("docker-bake.override.json", "docker-bake.override.hcl", "compose.override.yaml",
              "compose.override.yml", "docker-compose.override.yml",
              "docker-compose.override.yaml")  # fmt: skip
_NAMES_FILES = {"COMPOSE_FILE", "COMPOSE_PROJECT_DIRECTORY", "COMPOSE_ENV_FILES", "BUILDX_BAKE_FILE"}
#: Options with a value, of either program.
_VALUED = frozenset({"-f", "--file", "--set", "--progress", "--builder", "--metadata-file", "--allow",
                     "--call", "--provenance", "--sbom", "--build-arg", "--memory", "-m", "-p", "--ssh",
                     "--project-name", "--profile", "--ansi", "--parallel", "--env-file",
                     "--project-directory"})  # fmt: skip
_ONLY_PRINTS = frozenset({"--print", "--check", "--call", "--list", "--list-targets", "--list-variables"})
_ACTION = "docker/bake-action@"


class Unread(Exception):
    """What is not understood. Without a text, only a run knows it."""


class DockerRefusal(Exception):
    """What Docker refuses."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a command gets: the variables of its environment, and files by their path from its directory.

    `absent` says whether a variable that is not in `variables` certainly has no value.
    """

    variables: Mapping[str, str]
    absent: Callable[[str], bool]
    script: Callable[[str], str | None]

    def filled(self, written: str) -> str:
        """A text with the values of the variables that it names as `${NAME}`."""
        return re.sub(r"\$\{(\w+)\}", lambda found: self.variables.get(found[1], found[0]), written)


def action(step: Step) -> list[str]:
    """Return the command that stands for Docker's bake action; empty for another step."""
    if not step.uses.startswith(_ACTION):
        return []
    given = {name: re.split(r"\s*[\n,]\s*" if name != "set" else r"\s*\n\s*", each.strip())
             for name, each in step.given.items() if each.strip()}  # fmt: skip
    options = [f"--{name[:-1] if name == 'files' else name}={each}"
               for name in ("files", "set") for each in given.get(name, ())]  # fmt: skip
    switches = [f"--{name}" for name in ("push", "load") if given.get(name) == ["true"]]
    remote = [each for each in given.get("source", ()) if each != "."]
    return ["docker", "buildx", "bake", *options, *switches, *remote, *given.get("targets", ())]


def pushes(words: Sequence[str]) -> bool:
    """Whether a command of bake or of compose pushes."""
    builds = shell.runs(words, "docker buildx bake") or shell.runs(words, "docker compose build")
    return shell.runs(words, "docker compose push") or (builds and "--push" in words)


def stands_for(words: Sequence[str], given: Given) -> list[tuple[str, ...]] | None:
    """Return the builds and pushes for which a command stands; None for any other command.

    Raises Unread for what is not understood, and DockerRefusal for what Docker refuses.
    """
    if shell.runs(words, "docker buildx bake"):
        options, switches, names = _read(words[words.index("bake") + 1 :])
        return [] if _ONLY_PRINTS & {*switches, *options} else [*_baked(options, switches, names, given)]
    for verb in ("build", "push"):
        if shell.runs(words, f"docker compose {verb}") or shell.runs(words, f"docker-compose {verb}"):
            at = words.index(verb)
            before, _, _ = _read(words[:at])
            options, switches, names = _read(words[at + 1 :])
            return [*_composed(verb, {**before, **options}, switches, names, given)]
    return None


def _read(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """A command's options with values, those without, and its other words."""
    rest, options, switches, names = [*words], dict[str, list[str]](), list[str](), list[str]()
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            names.append(word)
        elif equals or name in _VALUED:
            value = value if equals else rest.pop(0) if rest else ""
            options.setdefault({"-f": "--file"}.get(name, name), []).append(value)
        else:
            switches.append(word)
    return options, switches, names


@dataclass(slots=True)
class _Definitions:
    """A bake file: what it says of each target, its groups, and its variables."""

    path: str
    targets: dict[str, dict[str, Expr]] = field(default_factory=dict)
    groups: dict[str, dict[str, Expr]] = field(default_factory=dict)
    variables: dict[str, Expr | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Scope:
    """The names in a bake file: its variables, which the environment may set."""

    file: _Definitions
    given: Given

    def lookup(self, name: str, steps: Sequence[object], at: Place, text: str) -> tuple[Value, int]:
        """Return a variable: its default, or a symbol with its name if the environment has or may have it."""
        if name in self.file.variables and not steps:
            default = self.file.variables[name]
            if name in self.given.variables or not self.given.absent(name):
                return Value(Symbol(name, "a variable of the environment"), at), 0
            return Environment(self).value(default) if default is not None else Value("", at), 0
        return Value(Symbol(text, f"{text} in a bake file"), at), len(steps)

    def read(self, *_: object) -> Value | None:
        """No function reads a file."""
        return None

    def plain(self, expr: Expr) -> Any:
        """The value of an expression as Python data; unknown parts are text, `${as.written}`."""
        return self._plain(Environment(self).value(expr))

    def _plain(self, value: Value) -> Any:
        content = flat(value).content
        if isinstance(content, tuple):
            return [self._plain(option) for each in content for option in options(each)]
        if isinstance(content, dict):
            return {key: self._plain(each) for key, each in content.items()}
        return content if content is None else self.given.filled(_written(value))


def _written(value: Value) -> str:
    """A value as text, in which a choice that only a run makes is `${choice}`."""
    content = settle(value).content
    if isinstance(content, Text):
        return "".join(part if isinstance(part, str) else _written(part) for part in content.parts)
    return "${choice}" if isinstance(content, Either) else text(value)


def _baked(
    options: Mapping[str, Sequence[str]], switches: Collection[str], names: Sequence[str], given: Given
) -> Iterator[tuple[str, ...]]:
    if any(re.search(r"[$«]", name) for name in names):
        raise Unread("which targets are built")
    if remote := [name for name in names if re.search(r"://|@", name)]:
        raise Unread(f"a bake file that is not in the checkout: {remote[0]}")
    targets, groups, where = _targets(options, given)
    for name in _chosen(names or ["default"], targets, groups, where):
        target = targets[name]
        _override(target, name, options.get("--set", ()))
        pushed = ["--push"] if "--push" in switches or _pushes(target) else []
        yield _build(target, pushed, ".")


def _targets(
    options: Mapping[str, Sequence[str]], given: Given
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]], str]:
    """The targets of the bake files with their values, the groups of their names, and the files."""
    asked = options.get("--file", ())
    if any(re.search(r"[$«]", path) for path in asked):
        raise Unread
    paths = [posixpath.normpath(path) for path in asked]
    paths = paths or [path for path in (*_COMPOSE_FILES, *_BAKE_FILES) if given.script(path) is not None]
    if not asked and _NAMES_FILES & {*given.variables}:
        raise Unread("which files a variable names")
    if changed := [path for path in _OVERRIDES if not asked and given.script(path) is not None]:
        raise Unread(f"{changed[0]}, which changes other files")
    if not paths:
        raise Unread("which bake file is meant")
    targets, groups = dict[str, dict[str, Any]](), dict[str, list[str]]()
    for path in paths:
        written = given.script(path)
        if written is None:
            raise Unread(f"{path}, which is not in the checkout")
        if path.endswith((".yaml", ".yml")):
            found = {
                name: each for name, each in _services(path, written, given).items() if "context" in each
            }
            named = {"default": [*found]}
        else:
            found, named = _of_bake(path, written, given)
        if {*found} & {*targets} or {*named} & {*groups}:
            raise Unread(f"a name that is both in {' and in '.join(paths)}")
        targets |= found
        groups |= named
    return targets, groups, " and ".join(paths)


def _of_bake(path: str, written: str, given: Given) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    file = _of_json(path, written) if path.endswith(".json") else _of_hcl(path, written)
    scope = _Scope(file, given)
    groups = {
        name: _listed(scope.plain(each["targets"])) for name, each in file.groups.items() if "targets" in each
    }
    own = {name: {key: key == "matrix" or scope.plain(each) for key, each in held.items()}
           for name, held in file.targets.items()}  # fmt: skip
    return {name: _inherited(name, own, ()) for name in own}, groups


def _of_hcl(path: str, written: str) -> _Definitions:
    block = parse(written, path)
    if block.unread:
        raise Unread(f"{path}, which is not valid HCL")
    file = _Definitions(path, variables=dict(block.attributes))
    for each in block.blocks:
        label = each.labels[0] if each.labels else ""
        if each.type == "variable":
            file.variables[label] = each.attributes.get("default")
        elif each.type in ("target", "group"):
            held = file.targets if each.type == "target" else file.groups
            if label in held:
                raise Unread(f"{each.type} {label}, which {path} has twice")
            held[label] = each.attributes
    return file


def _of_json(path: str, written: str) -> _Definitions:
    top = _entries(parse(f"json = {written}", path.removesuffix(".json")).attributes.get("json"), path)
    parts = {name: {key: _entries(each, path) for key, each in _entries(top[name], path).items()}
             for name in ("target", "group", "variable") if name in top}  # fmt: skip
    defaults = {name: held.get("default") for name, held in parts.get("variable", {}).items()}
    return _Definitions(path, parts.get("target", {}), parts.get("group", {}), defaults)


def _entries(expr: Expr | None, path: str) -> dict[str, Expr]:
    if expr is None or expr.kind != "object":
        raise Unread(f"{path}, which is not a bake file")
    return {str(key.args[0]): each for key, each in expr.args}


def _inherited(name: str, own: Mapping[str, Mapping[str, Any]], seen: Sequence[str]) -> dict[str, Any]:
    """A target with what it inherits; its own values replace others, and maps are joined."""
    found: dict[str, Any] = {}
    for base in _listed(own[name].get("inherits")):
        if base not in own or base in seen:
            found["matrix"] = True  # such as one that an action adds: not read
            continue
        found = _joined(found, _inherited(base, own, (*seen, name)))
    return _joined(found, own[name])


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: {**first[key], **each} for key, each in second.items()
            if isinstance(each, dict) and isinstance(first.get(key), dict)}  # fmt: skip
    return {**first, **second, **both}


def _chosen(
    names: Sequence[str], targets: Mapping[str, Any], groups: Mapping[str, Sequence[str]], where: str
) -> Iterator[str]:
    """The targets of these names, groups resolved, each once."""
    waiting, found, seen = [*names], dict[str, None](), set[str]()
    while waiting:
        name = waiting.pop(0)
        if name in targets and name not in groups:
            found[name] = None
        elif name in groups and name not in seen:
            waiting = [*groups[name], *waiting]
        elif name not in groups and (
            any(re.search(r"[*?$]", each) for each in (name, *targets))
            or any("matrix" in each for each in targets.values())
        ):
            raise Unread(f"which targets {name} stands for")
        elif name not in groups:
            raise DockerRefusal(f"{where} has no target {name}")
        seen.add(name)
    return iter(found)


def _override(target: dict[str, Any], name: str, overrides: Sequence[str]) -> None:
    """Apply each `--set TARGET.KEY=VALUE` to a target: the values replace a list, or join it (`+=`)."""
    given = dict[str, list[str]]()
    for written in overrides:
        path, _, value = written.partition("=")
        pattern, _, key = path.partition(".")
        if re.search(r"[$«]", path):
            raise Unread
        if fnmatch.fnmatchcase(name, pattern):
            given.setdefault(key, []).append(value)
    for written, values in given.items():
        key, _, inner = written.rstrip("+").partition(".")
        key = {"platform": "platforms"}.get(key, key)
        if inner:
            target[key] = {**(target.get(key) or {}), inner: values[-1]}
        elif key == "push":
            target["output"] = ["type=registry"] if values[-1] == "true" else target.get("output")
        elif key in ("tags", "platforms", "output"):
            target[key] = [*(_listed(target.get(key)) if written.endswith("+") else ()), *values]
        else:
            target[key] = values[-1]


def _pushes(target: Mapping[str, Any]) -> bool:
    return any(re.search(r"type=registry|push=true", each) for each in _outputs(target))


def _outputs(target: Mapping[str, Any]) -> list[str]:
    held = target.get("output")
    return [",".join(f"{key}={value}" for key, value in each.items()) if isinstance(each, dict) else str(each)
            for each in (held if isinstance(held, list) else [held] if held else [])]  # fmt: skip


def _build(target: Mapping[str, Any], more: Sequence[str], directory: str) -> tuple[str, ...]:
    """The `docker build` of a target; its context is below `directory`."""
    if {"matrix", "dockerfile-inline", "dockerfile_inline", "extends"} & {*target}:
        raise Unread("a target whose values are not written out")
    tags = [each for each in _listed(target.get("tags")) if each]
    for each in tags:
        if each.endswith(":"):
            raise DockerRefusal(f"an image gets the name {each!r}, without a tag: nothing sets its variable")
    context = str(target.get("context") or ".")
    context = context if re.search(r"://|\A[$«/]", context) else posixpath.join(directory, context)
    words = [word for each in tags for word in ("--tag", each)]
    if target.get("dockerfile"):
        words += ["--file", posixpath.normpath(posixpath.join(context, str(target["dockerfile"])))]
    words += ["--target", str(target["target"])] if target.get("target") else []
    for name, option in (("args", "--build-arg"), ("contexts", "--build-context")):
        for key, value in (target.get(name) or {}).items():
            words += [option, key if value is None else f"{key}={value}"]
    words += ["--platform", ",".join(_listed(target["platforms"]))] if target.get("platforms") else []
    words += [word for each in _outputs(target) for word in ("--output", each)]
    return "docker", "build", *words, *more, context if "://" in context else posixpath.normpath(context)


def _listed(held: Any) -> list[str]:
    return [*map(str, held)] if isinstance(held, list) else [str(held)] if held else []


def _composed(
    verb: str, options: Mapping[str, Sequence[str]], switches: Collection[str], names: Sequence[str],
    given: Given,
) -> Iterator[tuple[str, ...]]:  # fmt: skip
    """The builds or pushes of a compose file's services, of all that are built if none is named."""
    asked = options.get("--file", ())
    found = [path for path in asked or _COMPOSE_FILES if given.script(path) is not None][:1]
    changed = [path for path in _OVERRIDES[2:] if not asked and given.script(path) is not None]
    own = {"--env-file", "--project-directory"} & {*options} or _NAMES_FILES & {*given.variables}
    if len(asked) > 1 or len(found) != 1 or changed or own or given.script(".env") is not None:
        raise Unread("which compose file and variables are meant")
    (path,) = found
    services = _services(path, given.script(path) or "", given)
    for name in names or [each for each, held in services.items() if "context" in held]:
        if re.search(r"[$«]", name):
            raise Unread("which services are meant")
        if name not in services:
            raise DockerRefusal(f"{path} has no service {name}")
        held = services[name]
        if "context" in held and verb == "build":
            more = [word for each in options.get("--build-arg", ()) for word in ("--build-arg", each)]
            yield _build(held, [*more, *({"--push"} & {*switches})], posixpath.dirname(path))
        elif "context" in held:
            yield from (("docker", "push", tag) for tag in _listed(held.get("tags")))


def _services(path: str, written: str, given: Given) -> dict[str, dict[str, Any]]:
    """The services of a compose file, each as a target of a bake file; without a context, it is not built."""
    try:
        data = yaml.safe_load(written)
    except yaml.YAMLError as error:
        raise Unread(f"{path}, which is not valid YAML") from error
    held = data.get("services") if isinstance(data, dict) else None
    if not isinstance(held, dict) or "include" in data:
        raise Unread(f"{path}, whose services are not all in it")
    return {str(name): _service(each, given) for name, each in held.items() if isinstance(each, dict)}


def _service(held: Mapping[str, Any], given: Given) -> dict[str, Any]:
    build = held.get("build")
    build = {"context": build} if isinstance(build, str) else build if isinstance(build, dict) else None
    if build is None:
        return {"extends": True, "context": "."} if "extends" in held else {}
    tags = [each for each in (held.get("image"), *(build.get("tags") or ())) if each]
    args = build.get("args") or {}
    if isinstance(args, list):
        pairs = (str(each).partition("=") for each in args)
        args = {name: value if equals else None for name, equals, value in pairs}
    found = {key: each for key, each in build.items() if key in ("target", "dockerfile", "dockerfile_inline")}
    found |= {"context": build.get("context", "."), "tags": tags, "args": args}
    found |= {"platforms": build["platforms"]} if build.get("platforms") else {}
    found |= {"extends": True} if {"extends", "profiles"} & {*held} else {}
    return {key: _interpolated(each, given) for key, each in found.items()}


_INTERPOLATED = re.compile(r"\$(?:\$|(\w+)|\{(\w+)(?:(:?[-?+])([^{}$]*))?\})")


def _interpolated(held: Any, given: Given) -> Any:
    """A part of a compose file with the values of its variables."""
    if isinstance(held, dict):
        return {key: _interpolated(each, given) for key, each in held.items()}
    if isinstance(held, list):
        return [_interpolated(each, given) for each in held]

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        sign, rest = found[3] or "", found[4] or ""
        if name not in given.variables and not given.absent(name):
            return f"${{{name}}}"
        known = given.variables.get(name)
        has = known is not None and (known != "" or not sign.startswith(":"))
        if "?" in sign and not has:
            raise DockerRefusal(f"nothing sets {name}, which the compose file demands")
        if "+" in sign:
            return rest if has else ""
        return known or "" if has or not sign else rest

    return _INTERPOLATED.sub(value, held) if isinstance(held, str) else held

"""The images that the pipeline builds: with which Dockerfile, from which files, and what cannot be built."""

from __future__ import annotations

import fnmatch
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from smoke.source.checkout import Examined, Finding
from smoke.source.infrastructure.addresses import PASSWORD
from smoke.source.scripts import shell
from smoke.source.scripts.dockerfiles import Dockerfile, Instruction, Stage, read

from .deploys import runs_one
from .expansion import Command, Expansion
from .repository import Placed, Repository
from .workflows import Job, Workflow

_BUILDS = ("docker build", "docker buildx build", "docker image build")
_BUILD_ACTION = "docker/build-push-action"
#: Options of `docker build` without a value.
_SWITCHES = frozenset(
    {
        "--push", "--load", "--pull", "--no-cache", "--quiet", "-q", "--rm", "--force-rm", "--squash",
        "--compress",
    }
    | {"--debug", "-D", "--check"}
)  # fmt: skip
#: Directories that are not deployed.
_OF_OTHERS = re.compile(r"(?:\A|/)(?:\..*|tests?|dev|local|tools?|examples?|docs?|e2e|node_modules)(?:/|\Z)")
#: Programs and actions that create no file in the checkout.
_IDLE = frozenset(
    {"echo", "printf", "set", "export", "docker", "aws", "test", "[", "[[", "exit", "true", ":", "cd", "jq"}
)
_IDLE_ACTIONS = re.compile(r"(?:actions/(?:checkout|setup-)|aws-actions/|docker/)")


@dataclass(frozen=True, slots=True)
class Build:
    """One build of an image, or an existing Dockerfile for it (then `command` is None).

    `image` is its repository, `context` the directory from which it copies, empty if unknown; `options` are
    the command's, by name. `alone`: no earlier command creates files.
    """

    image: str
    path: str
    file: Dockerfile
    stage: Stage
    context: str = ""
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    command: Finding | None = None
    runs_on: str = ""
    alone: bool = False

    def finding(self, what: str, line: int) -> Finding:
        """Return a finding in the Dockerfile."""
        return Finding(self.path, line, what)


def builds(repository: Repository, groups: Mapping[str, Sequence[str]], result: Examined) -> list[Build]:
    """Return the builds of images; `groups` are the names of services by their image.

    Mistakes that prevent a build become findings of the `result`.
    """
    found = [
        each
        for workflow, job in repository.jobs()
        for each in _of_job(repository, workflow, job, groups, result)
    ]
    built = {each.image for each in found}
    for image, names in groups.items():
        held = [path for path in repository.paths if _is_of(path, names)] if image not in built else []
        read_ = _read(repository, held[0]) if len(held) == 1 else None
        if read_ is None:
            continue
        if (stage := read_.target()) is not None:
            found.append(Build(image, held[0], read_, stage))
        else:
            result.findings.extend(Finding(held[0], line, f"{what} ({image})") for what, line in read_.wrong)
    return found


def _is_of(path: str, names: Sequence[str]) -> bool:
    """Whether a path is a Dockerfile of one of these services."""
    directory, name = posixpath.split(path.lower())
    if _OF_OTHERS.search(directory):
        return False
    by_name = {f"dockerfile.{each}" for each in names} | {f"{each}.dockerfile" for each in names}
    return name in by_name or (name == "dockerfile" and posixpath.basename(directory) in names)


def _read(repository: Repository, path: str) -> Dockerfile | None:
    text = repository.script(path)
    return read(text) if text is not None else None


def _of_job(
    repository: Repository,
    workflow: Workflow,
    job: Job,
    groups: Mapping[str, Sequence[str]],
    result: Examined,
) -> Iterator[Build]:
    expansion = Expansion(repository, workflow)
    commands = expansion.commands(job)
    idle = all(_IDLE_ACTIONS.match(each.uses) for each in job.steps if each.uses)
    for at, command in enumerate(commands):
        if not runs_one(command.words, _BUILDS):
            continue
        options, places = _options(command.words)
        before = commands[:at]
        alone = idle and all(_makes_nothing(repository, each) for each in before)
        yield from _build(
            repository, job, groups, result, options, command, places[0] if len(places) == 1 else "", alone
        )
    for placed in repository.everything(workflow, job):
        if placed.step.uses.startswith(_BUILD_ACTION):
            options, context = _given(expansion, job, placed)
            at_step = Command(("docker", "build"), placed.path, placed.step.line, ".")
            alone = idle and not commands
            yield from _build(repository, job, groups, result, options, at_step, context, alone)


def _makes_nothing(repository: Repository, command: Command) -> bool:
    """Whether a command makes no file: by its name, or as a script, whose commands are seen as well."""
    paths = [posixpath.normpath(path) for path, _ in shell.scripts_called(list(command.words))]
    return command.words[0].rpartition("/")[2] in _IDLE or (
        bool(paths) and all(repository.script(path) is not None for path in paths)
    )


def _options(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The options of `docker build` by their long names, and its other arguments."""
    rest, options, places = [*words[words.index("build") + 1 :]], dict[str, list[str]](), list[str]()
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            places.append(word)
        elif name not in _SWITCHES:
            value = value if equals else rest.pop(0) if rest else ""
            name = {"-t": "--tag", "-f": "--file", "-o": "--output"}.get(name, name)
            options.setdefault(name, []).append(value)
    return options, places


def _given(expansion: Expansion, job: Job, placed: Placed) -> tuple[dict[str, list[str]], str]:
    """The inputs of an action as options of `docker build`, and its context."""
    given = {name: expansion.text(job, placed, text) for name, text in placed.step.given.items()}
    names = {"tags": "--tag", "file": "--file", "target": "--target", "platforms": "--platform",
             "build-args": "--build-arg", "build-contexts": "--build-context"}  # fmt: skip
    options = {
        option: re.split(r"\s*[\n,]\s*" if name in ("tags",) else r"\s*\n\s*", given[name].strip())
        for name, option in names.items()
        if given.get(name, "").strip()
    }
    return options, given.get("context", ".") or "."


def _build(
    repository: Repository, job: Job, groups: Mapping[str, Sequence[str]], result: Examined,
    options: Mapping[str, Sequence[str]], command: Command, place: str, alone: bool,
) -> Iterator[Build]:  # fmt: skip
    """The build of a command, if the files say which image it is and which Dockerfile makes it."""
    names = {tag.rpartition("/")[2].partition(":")[0] for tag in options.get("--tag", ())}
    image = next((each for each in groups if each in names), "")
    known = command.directory and place and not re.search(r"[$«]|://|\A-\Z|\Agit@", place)
    if not image or not known:
        return
    context = posixpath.normpath(posixpath.join(command.directory, place))
    file = (options.get("--file") or [""])[-1]
    path = posixpath.join(command.directory, file) if file else posixpath.join(context, "Dockerfile")
    path = posixpath.normpath(path)
    if re.search(r"[$«]|\A-\Z|\.\.", path):
        return
    found = _read(repository, path)
    if found is None:
        if repository.script(path) is None and alone:
            result.findings.append(command.finding(f"{image} is built from {path}, which does not exist"))
        return
    others = [name for name, names in groups.items() if name != image and _is_of(path, names)]
    mine = {posixpath.normpath(posixpath.join(context, "Dockerfile"))}
    mine |= {each for each in repository.paths if _is_of(each, groups[image])}
    # one Dockerfile may make several images, by a stage or an argument, or all of them
    chosen = options.get("--target") or options.get("--build-arg") or not mine & {*repository.paths}
    if others and path not in mine and not chosen:
        result.findings.append(command.finding(f"{image} is built from {path}, which is for {others[0]}"))
        return
    target = (options.get("--target") or [""])[-1]
    stage = found.target("" if "$" in target else target)
    if stage is None:
        result.findings.append(
            command.finding(f"{image} is built with the target {target}, not a stage of {path}")
        )
        return
    yield Build(image, path, found, stage, context, options, command.finding(""), job.runs_on, alone)


def unpushed(
    repository: Repository, workflow: Workflow, jobs: Sequence[Job], expansion: Expansion
) -> Iterator[Finding]:
    """Yield the images for a registry that are built before a deployment, but never pushed.

    A bake file that could not be read may push them: nothing is said then.
    """
    steps = [placed for job in jobs for placed in repository.everything(workflow, job)]
    commands = {job.name: expansion.commands(job) for job in jobs}
    said = [word for placed in steps for each in repository.commands(placed.step) for word in each]
    said += [word for each in chain(*commands.values()) for word in each.words]
    unread = any(shell.runs(each.words, "docker buildx bake") for each in chain(*commands.values()))
    said += [text for placed in steps for text in (placed.step.uses, *placed.step.given.values())]
    if unread or any(re.search("push|registry,|type=registry|save", text) for text in said):
        return
    for job in jobs:
        for each in commands[job.name]:
            tag = shell.option(each.words, "--tag", "-t")
            if runs_one(each.words, _BUILDS) and "/" in tag:
                yield workflow.finding(job.line, f"{job.name} builds {tag}, but nothing pushes it")


def refused(repository: Repository, build: Build) -> Iterator[Finding]:
    """What Docker refuses in a build, or leaves out of it; its passwords and users; what npm misses in it."""
    contexts = {each.partition("=")[0] for each in build.options.get("--build-context", ())}
    for what, line in build.file.wrong:
        if not any(what.startswith(f"it copies from {name},") for name in contexts):
            yield build.finding(f"{what} ({build.image})", line)
    given = {each.partition("=")[0] for each in build.options.get("--build-arg", ())}
    if build.command is not None and not any("$" in each for each in given):
        for name, line in build.file.needed:
            if name not in given:
                yield build.finding(f"nothing gives {name} a value ({build.image})", line)
    if build.context:
        ignored = _ignored(repository, build)
        for stage in reached(build):
            for each in stage.instructions:
                yield from _missing(repository, build, each, ignored)
    yield from _inside(build)
    yield from _unbuildable(repository, build)
    yield from _unlocked(repository, build)
    yield from _uninstalled(build)


def reached(build: Build) -> list[Stage]:
    """The stages that a build executes: its target, its bases, and those from which they copy."""
    found: list[Stage] = []
    waiting = [build.stage]
    while waiting:
        stage = waiting.pop()
        if stage in found:
            continue
        found.append(stage)
        sources = [each.flags["from"].lower() for each in stage.instructions if "from" in each.flags]
        for name in (*sources, stage.base):
            before = build.file.stages[: build.file.stages.index(stage)]
            waiting += [each for at, each in enumerate(before) if name and name in (each.name, str(at))]
    return found


def _missing(
    repository: Repository, build: Build, each: Instruction, ignored: Sequence[str]
) -> Iterator[Finding]:
    """Files that a COPY or an ADD does not find in the context; patterns may match nothing."""
    if each.name not in ("COPY", "ADD") or "from" in each.flags:
        return
    words = (
        each.words() if "\n" not in each.text else each.text.partition("\n")[0].split()
    )  # a heredoc's head
    for source in words[:-1]:
        if re.search(r"[$*?\[\\]|://|\A<<|\Agit@", source):
            continue
        inner = posixpath.normpath("/" + source).strip("/")  # parts that lead out of it are stripped
        if not inner:
            continue
        copied = posixpath.normpath(posixpath.join(build.context, inner))
        held = [path for path in repository.paths if path == copied or path.startswith(f"{copied}/")]
        below = [path if build.context == "." else path[len(build.context) + 1 :] for path in held]
        left_out = all(_is_ignored(path, ignored) for path in below) if held else _is_ignored(inner, ignored)
        if left_out:
            what = f"it copies {source}, which .dockerignore leaves out ({build.image})"
            yield build.finding(what, each.line)
        elif not held and build.alone and not _is_of_module(repository, copied):
            yield build.finding(f"it copies {source}, which does not exist ({build.image})", each.line)


def _is_of_module(repository: Repository, path: str) -> bool:
    """Whether a path may be in a submodule."""
    modules = repository.script(".gitmodules") or ""
    return any(
        path.startswith(each) or each.startswith(path) for each in re.findall(r"path\s*=\s*(\S+)", modules)
    )


def _ignored(repository: Repository, build: Build) -> list[str]:
    """The lines of .dockerignore: the Dockerfile's own, else the context's."""
    own = repository.script(f"{build.path}.dockerignore")
    text = own if own is not None else repository.script(posixpath.normpath(f"{build.context}/.dockerignore"))
    return [line.strip() for line in (text or "").splitlines() if line.strip() and not line.startswith("#")]


def _is_ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether the last pattern that matches a path, or a parent directory, excludes it."""
    parts, left_out = path.split("/"), False
    above = ["/".join(parts[: at + 1]) for at in range(len(parts))]
    for each in patterns:
        keeps, pattern = each.startswith("!"), posixpath.normpath(each.lstrip("!")).strip("/")
        if any(_fits(one, pattern) for one in above):
            left_out = not keeps
    return left_out


def _fits(path: str, pattern: str) -> bool:
    """Whether a pattern matches a path by the rules of Go's matcher and `**`: a star stops at a slash."""
    regular = ""
    for part in re.split(r"(\*\*/?|\*|\?)", pattern):
        regular += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part) or (
            fnmatch.translate(part)[4:-3] if "[" in part else re.escape(part)
        )
    return re.fullmatch(regular, path) is not None


def scripts_of(repository: Repository, build: Build) -> Mapping[str, str] | None:
    """The scripts of an image's package; None if the files do not say."""
    written = (
        repository.script(posixpath.normpath(f"{build.context}/package.json")) if build.context else None
    )
    try:
        data = json.loads(written or "")
    except ValueError:
        return None
    found = data.get("scripts", {}) if isinstance(data, dict) else None
    return {name: str(each) for name, each in found.items()} if isinstance(found, dict) else None


#: The users that exist in every image of these, besides numbers.
_OF_NODE = re.compile(r"(?:docker\.io/)?(?:library/)?node:.*")
_USERS = frozenset({"root", "node", "daemon", "bin", "sys", "nobody", "www-data", "mail", "games"})
_MAKES_USERS = re.compile(r"user|passwd|\s/(?:etc/?)?\Z|\.sh\b")


def _inside(build: Build) -> Iterator[Finding]:
    """A password in plain text, and a user that the image lacks."""
    stages = build.file.below(build.stage)
    for stage in stages:
        for each in stage.instructions:
            if each.name == "ENV" and (found := PASSWORD.search(each.text)) is not None:
                name = each.text[: found.start()].split("=")[0].split()[-1:]
                yield build.finding(
                    f"{''.join(name)} of {build.image} has a password in plain text", each.line
                )
    user = build.file.effective(build.stage, "USER")
    called = user.text.partition(":")[0] if user is not None else ""
    if (
        user is not None
        and re.fullmatch(r"[a-z_][\w-]*", called)
        and called not in _USERS
        and _OF_NODE.fullmatch(stages[-1].base)
        and not any(_MAKES_USERS.search(each.text) for stage in stages for each in stage.instructions)
    ):
        yield build.finding(f"{build.image} runs as {called}, a user that its base image lacks", user.line)


#: Yarn also runs programs of packages by this.
_RUNS_NPM = re.compile(r"(?:\A|&&|;|\n)\s*(?:npm|pnpm)\s+run(?:-script)?\s+([\w:.-]+)\s*(?=\Z|&&|;|\n|--\s)")
_OWN_PACKAGE = re.compile(r"(?:.*\s)?(?:\./)?(?:package(?:\*|\.json)\S*|\.)\s+(?:.*\s)?\.?/?\Z")


def _unbuildable(repository: Repository, build: Build) -> Iterator[Finding]:
    """A script of package.json that a build runs, and that does not exist."""
    scripts = scripts_of(repository, build)
    for stage in reached(build) if scripts is not None else ():
        places = [each for each in stage.instructions if each.name == "WORKDIR"]
        copied = any(
            each.name == "COPY" and "from" not in each.flags and _OWN_PACKAGE.match(each.text)
            for each in stage.instructions
        )
        for each in stage.instructions if copied and len(places) < 2 else ():
            for name in _RUNS_NPM.findall(each.text) if each.name == "RUN" and "cd " not in each.text else ():
                if name not in (scripts or {}):
                    what = f"{build.image} is built with npm run {name}, but package.json has no such script"
                    yield build.finding(what, each.line)


def _unlocked(repository: Repository, build: Build) -> Iterator[Finding]:
    """A package.json that is no JSON, or an installation from a lock file that does not exist."""
    top = posixpath.normpath(f"{build.context}/package.json") if build.context and build.alone else ""
    written = repository.script(top) if top else None
    for stage in reached(build) if written is not None else ():
        own = [each for each in stage.instructions if each.name == "COPY" and "from" not in each.flags]
        copied = next((each for each in own if _OWN_PACKAGE.match(each.text)), None)
        places = [each for each in stage.instructions if each.name == "WORKDIR"]
        if copied is None or len(places) > 1:
            continue
        if _broken(written or ""):
            yield Finding(top, 0, f"it is not JSON, and {build.image} is built with it")
        locks = [repository.script(posixpath.join(posixpath.dirname(top), each)) for each in _LOCKS]
        for each in stage.instructions if not any(locks) else ():
            if each.name == "RUN" and re.search(r"(?:\A|&&|\s)npm ci\b(?!.*(?:--prefix|\bcd ))", each.text):
                yield build.finding(
                    f"npm ci of {build.image} needs package-lock.json, which is missing", each.line
                )


#: An installation of all packages whose failure is ignored, and any installation.
_IGNORED = re.compile(
    r"(?:\A|&&|;|\n)\s*(?:npm (?:ci|install|i)|pnpm (?:install|i)|yarn(?: install)?)(?:\s+-\S+)*\s*"
    r"\|\|\s*(?:true|:|exit 0)(?=\s|;|\Z)"
)
_INSTALLS = re.compile(r"\bnpm (?:ci|install|i)\b|\bpnpm (?:install|i)\b|\byarn\b")


def _uninstalled(build: Build) -> Iterator[Finding]:
    """Packages without which an image is built if their only installation fails."""
    runs = [each for stage in reached(build) for each in stage.instructions if each.name == "RUN"]
    installs = [each for each in runs for _ in _INSTALLS.findall(each.text)]
    if len(installs) == 1 and _IGNORED.search(installs[0].text):
        what = f"{build.image} is built even if its packages cannot be installed: the failure is ignored"
        yield build.finding(what, installs[0].line)


_LOCKS = ("package-lock.json", "npm-shrinkwrap.json")


def _broken(written: str) -> bool:
    try:
        json.loads(written.removeprefix("\ufeff") or "{}")
    except ValueError:
        return True
    return False

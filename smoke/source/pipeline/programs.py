"""What images run, on which machine, and the variables they demand, against their task definitions."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from smoke.source.checkout import Examined, Finding
from smoke.source.infrastructure.definitions import (
    Container,
    Definition,
    Definitions,
    plain_ports,
)
from smoke.source.infrastructure.tasks import migrates, modes
from smoke.source.infrastructure.tasks import repository as repository_of
from smoke.source.scripts import shell
from smoke.source.scripts.dockerfiles import Instruction
from smoke.source.terraform.references import choices, entries, items
from smoke.source.terraform.values import hidden, is_known, number, text

from .builds import Build, builds, refused, scripts_of
from .repository import Repository

#: Docker's names of architectures by ECS's; the last is ECS's default.
_MACHINES = {"ARM64": "arm64", "X86_64": "amd64"}
_RUNNERS = re.compile(r"ubuntu-(?:latest|[\d.]+)(-arm)?")


@dataclass(frozen=True, slots=True)
class Run:
    """A container of a definition with an image that is built here."""

    definition: Definition
    container: Container
    build: Build

    def words(self) -> tuple[str, ...] | None:
        """The words that it runs; None if the files leave that open."""
        own = {name: self.container.entries.get(name) for name in ("entryPoint", "command")}
        if any(value is not None and (not is_known(value) or hidden(value)) for value in own.values()):
            return None
        first, then = ([text(word) for word in items(own[name])] for name in ("entryPoint", "command"))
        file, stage = self.build.file, self.build.stage
        entry, command = (file.effective(stage, name) for name in ("ENTRYPOINT", "CMD"))
        if not first and not then and entry is None and command is None:
            return None  # the base image's
        if not first and entry is not None and not entry.listed():  # a line for the shell
            return None if re.search(r"\$[@*\d{]", entry.text) else (entry.text,)
        begins = first or _words(entry)
        return (*begins, *(then or ([] if first else _words(command))))


def _words(each: Instruction | None) -> list[str]:
    return [] if each is None else each.listed() or [each.text]


def runs_of(defined: Definitions, made: Sequence[Build]) -> Iterator[Run]:
    """Yield the containers of all definitions that run one of these images."""
    by_image: dict[str, list[Build]] = {}
    for build in made:
        by_image.setdefault(build.image, []).append(build)
    for definition in defined.definitions:
        for container in definition.containers:
            names = {*map(repository_of, container.images)}
            own = by_image.get(names.pop(), []) if len(names) == 1 else []
            if len(own) == 1:
                yield Run(definition, container, own[0])


def unfit_images(
    repository: Repository, groups: Mapping[str, Sequence[str]], defined: Definitions
) -> Examined:
    """Return which images cannot be built, or are not for the tasks that run them.

    `groups` are the names of services by their image. EXPOSE is only documentation: an exposed port that the
    task lacks is not examined.
    """
    result = Examined()
    made = builds(repository, groups, result)
    for build in made:
        result.findings.extend(refused(repository, build))
    runs = list(runs_of(defined, made))
    result.findings.extend(_alike([each for each in runs if each.definition.service is not None]))
    for run in runs:
        result.findings.extend(_of_machine(run))
        result.findings.extend(_idle(run, runs))
        result.findings.extend(_foreign(run, groups))
        _of_ports(run, result)
        result.findings.extend(_unscripted(repository, run))
    return Examined([*dict.fromkeys(result.findings)], [*dict.fromkeys(result.not_examined)])


def _alike(runs: Sequence[Run]) -> Iterator[Finding]:
    """A service with the command that its image runs by default, for another service."""
    for run, other in itertools.permutations(runs, 2):
        stated, words = run.container.entries.get("command"), run.words()
        if stated is None or "command" in other.container.entries or words != other.words() or not words:
            continue
        if run.build is other.build and modes(run.container) == modes(other.container):
            what = f"{run.definition.name} runs what {other.definition.name} runs: {' '.join(words)}"
            yield run.container.finding(what, stated)


#: Images whose default command is a prompt, which ends without input; tests and pauses; runners of programs.
_PROMPTS = re.compile(
    r"(?:docker\.io/)?(?:library/)?(?:node|python|ruby|debian|ubuntu|alpine|golang|busybox)(?:[:@].*)?"
)
_NO_SERVICE = re.compile(
    r"sleep (?:inf|infinity|\d+[smhd]?)|tail -f /dev/null|(?:npm|pnpm|yarn)(?: run)? test|pytest"
    r"|:|true|false|exit(?: \d+)?|echo [^;&|\n`(]*|--?(?:help|version)"
)
_IN_SHELL = re.compile(r"(?:\S*/)?(?:ba|a|da|z)?sh -[a-z]*c (?:exec )?")
_RUNNERS_OF = re.compile(r"(?:\S*/)?(?:node|nodejs|python3?|ruby|deno|bun)")


def is_idle(words: Sequence[str]) -> bool:
    """Whether a command only waits, ends at once, or runs tests: it serves nothing."""
    return _NO_SERVICE.fullmatch(_IN_SHELL.sub("", " ".join(words)).strip()) is not None


def _idle(run: Run, runs: Sequence[Run]) -> Iterator[Finding]:
    """A task without a program, or with its interpreter named again.

    A program that another of these `runs` starts alone does not run a command that it gets as arguments.
    """
    own = [run.container.entries.get(name) for name in ("entryPoint", "command")]
    words, base = run.words(), run.build.file.below(run.build.stage)[-1].base
    begins = run.build.file.effective(run.build.stage, "ENTRYPOINT")
    if words is None and begins is None and not any(own) and _PROMPTS.fullmatch(base):
        what = f"{run.definition.name} runs nothing: neither {run.build.image} nor its task has a command"
        yield run.build.finding(what, run.build.stage.line)
    elif words and run.definition.service is not None and is_idle(words):
        if sum(each.definition is run.definition for each in runs) == 1:
            yield run.container.finding(f"{run.definition.name} runs {' '.join(words)}: no service", own[1])
    elif words and _RUNNERS_OF.fullmatch(words[0]):
        alone = {each.words() for each in runs if each.build is run.build} - {None, ()}
        if words[1:2] == words[:1]:
            what = f"runs {' '.join(words)}: there is no program {words[0]} for {words[0]}"
            yield run.container.finding(f"{run.definition.name} {what}", own[1])
        elif any((*each, words[0]) == words[: len(each) + 1] for each in alone if each):
            yield run.container.finding(
                f"{run.definition.name} ignores its command: {' '.join(words)}", own[1]
            )


_PROGRAM = re.compile(r"(?:.*/)?([a-z]+)\.(?:[cm]?js|py)")
#: Names that a program of any service may have.
_GENERAL = frozenset(
    ["api", "app", "cron", "gateway", "index", "jobs", "main", "migrate", "proxy", "scheduler", "server",
     "service", "start", "web", "worker"]
)  # fmt: skip


def _foreign(run: Run, groups: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """A container with a program that is named after a service of another image."""
    words, own = run.words() or (), groups[run.build.image]
    found = _PROGRAM.fullmatch(words[-1]) if words and _RUNNERS_OF.fullmatch(words[0]) else None
    last = {image.rpartition("-")[2] for image in groups if image != run.build.image} - {*own} - _GENERAL
    if found and found[1] in last:
        what = f"{run.definition.name} runs {words[-1]}, the program of {found[1]}"
        stated = run.container.entries.get("command")
        command = run.build.file.effective(run.build.stage, "CMD")
        yield (
            run.build.finding(what, command.line)
            if stated is None and command
            else run.container.finding(what, stated)
        )


def _of_machine(run: Run) -> Iterator[Finding]:
    """An image that is built for one architecture and runs on another."""
    wanted = [block.attribute("cpu_architecture") for block in run.container.task.blocks("runtime_platform")]
    if any(each is not None and not is_known(each) for each in wanted):
        return
    named = next((text(each) for each in wanted if each is not None), "X86_64")
    machine = _MACHINES.get(named, "")
    stages = run.build.file.below(run.build.stage)
    fixed = next((each.platform for each in reversed(stages) if each.platform), "")
    asked = ",".join(run.build.options.get("--platform", ()))
    runner = _RUNNERS.fullmatch(run.build.runs_on)
    said = fixed or asked or (("linux/arm64" if runner[1] else "linux/amd64") if runner else "")
    known = {each.split("/")[1] for each in re.findall(r"linux/\w+", said)}
    if machine and known and "$" not in said and "«" not in said and machine not in known:
        built = f"{run.build.image} is built for {' and '.join(sorted(known))}"
        what = f"{built}, but {run.definition.name} runs on {named}"
        if fixed or run.build.command is None:
            yield run.build.finding(what, stages[-1].line)
        else:
            yield Finding(run.build.command.path, run.build.command.line, what)


def _of_ports(run: Run, result: Examined) -> None:
    """A port on which the image listens by its settings, but that its container does not map."""
    ports = [entries(one).get("containerPort") for one in items(run.container.entries.get("portMappings"))]
    listening = {int(port) for each in ports if (port := number(each)) is not None}
    if not listening:
        return
    file, stage, name = run.build.file, run.build.stage, run.definition.name
    named = {text(entries(one).get("name")) for one in items(run.container.entries.get("environment"))}
    envs = [one for below in file.below(stage) for one in reversed(below.instructions) if one.name == "ENV"]
    found = [(re.search(r"(?:\A|\s)PORT[= ][\"']?(\d+)", each.text), each.line) for each in envs]
    set_ports = [(port[1], line) for port, line in found if port]
    bound = ", ".join(map(str, sorted(listening)))
    if set_ports and "PORT" not in named and int(set_ports[0][0]) not in listening:
        what = f"{run.build.image} has PORT={set_ports[0][0]}, but {name} listens on {bound}"
        result.findings.append(run.build.finding(what, set_ports[0][1]))
        return
    exposed = [each for below in file.below(stage) for each in below.instructions if each.name == "EXPOSE"]
    said = {int(port) for each in exposed for port in re.findall(r"(?<![\w-])(\d+)(?![\w-])", each.text)}
    hidden_ones = any("$" in each.text or "-" in each.text for each in exposed)
    check = file.effective(stage, "HEALTHCHECK")
    asked = plain_ports([check.text]) if check is not None else set()
    if said and not hidden_ones and not said & listening:
        shown = ", ".join(map(str, sorted(said)))
        what = f"{run.build.image} exposes {shown}, {name} listens on {bound}: which"
        result.not_examined.append(run.build.finding(what, exposed[0].line))
    elif check is not None and (others := asked - listening - said):
        what = f"{run.build.image} checks itself on {min(others)}, {name} listens on {bound}: which"
        result.not_examined.append(run.build.finding(what, check.line))


_OF_NPM = re.compile(r"(?:npm|pnpm|yarn)\s+(?:run\s+|run-script\s+)([\w:.-]+)|(?:npm|pnpm|yarn)\s+(start)\b")


def _unscripted(repository: Repository, run: Run) -> Iterator[Finding]:
    """A missing package.json script with which a container starts."""
    asked, scripts = _OF_NPM.match(" ".join(run.words() or ())), scripts_of(repository, run.build)
    name = (asked[1] or asked[2]) if asked else ""
    served = name == "start" and any(_SERVER.fullmatch(posixpath.basename(each)) for each in repository.paths)
    if asked and scripts is not None and name not in scripts and not served and not _is_moved(run.build):
        what = f"{run.definition.name} starts with {asked[0]}, but package.json has no such script"
        yield run.container.finding(what)


#: What `npm start` runs without such a script.
_SERVER = re.compile(r"server\.[cm]?[jt]s")


def _is_moved(build: Build) -> bool:
    """Whether an image has its programs where package.json of the build's top need not be theirs."""
    return any(each.name == "WORKDIR" and each.text not in ("/app", "/usr/src/app", "/")
               for each in build.stage.instructions)  # fmt: skip


def started_migrations(
    repository: Repository,
    groups: Mapping[str, Sequence[str]],
    defined: Definitions,
    migrations: Sequence[str],
) -> Examined:
    """Return which services migrate by their images, and which migrations run a service's program."""
    result = Examined()
    runs = list(runs_of(defined, builds(repository, groups, Examined())))
    served = [run for run in runs if run.definition.service is not None]
    for run in served:
        _migrating(repository, run, result)
    for run in runs:
        words = run.words()
        if run.definition.name not in migrations or not words:
            continue
        for other in served:
            own = "command" in run.container.entries and "command" in other.container.entries
            same = run.build is other.build and words == other.words()
            if same and not own and modes(run.container) <= modes(other.container):
                what = f"{run.definition.name} runs what {other.definition.name} runs: {' '.join(words)}"
                result.findings.append(run.container.finding(what, run.container.entries.get("command")))
                break
    return result


def _migrating(repository: Repository, run: Run, result: Examined) -> None:
    """A service that migrates through its image's command, a script of its package, or its entry point."""
    words = " ".join(run.words() or ())
    entries_ = run.container.entries
    line = next((each.line for name in ("ENTRYPOINT", "CMD")
                 if (each := run.build.file.effective(run.build.stage, name)) is not None), 1)  # fmt: skip
    what = f"{run.definition.name} migrates when it starts"
    written = {"command", "entryPoint"} & entries_.keys()
    if not written and migrates(words):
        result.findings.append(run.build.finding(f"{what}: {words}", line))
        return
    asked, scripts = _OF_NPM.match(words), scripts_of(repository, run.build) or {}
    for name in (asked[1] or asked[2], f"pre{asked[1] or asked[2]}") if asked else ():
        if migrates(scripts.get(name, "")):
            result.findings.append(run.build.finding(f"{what}: {name} is {scripts[name]}", line))
    for word in run.words() or ():
        base = posixpath.basename(word)
        paths = [path for path in repository.paths if posixpath.basename(path) == base]
        if not word.endswith(".sh") or len(paths) != 1:
            continue
        sure, maybe = _migrates_in(repository.script(paths[0]) or "")
        if sure:
            result.findings.append(Finding(paths[0], sure, f"{what}: {base} does"))
        elif maybe:
            result.not_examined.append(Finding(paths[0], maybe, f"whether {what}: {base} may"))


_BRANCHES = {"if_statement", "case_statement", "while_statement", "list", "function_definition"}


def _migrates_in(script: str) -> tuple[int, int]:
    """The lines at which a script always migrates, and sometimes: 0 for none."""
    sure = maybe = 0
    for command in shell.commands(shell.parse(script)):
        if not migrates(" ".join(shell.words(command))) or shell.words(command)[:1] == ["echo"]:
            continue
        above, branched = command.parent, False
        while above is not None:
            branched = branched or above.type in _BRANCHES
            above = above.parent
        if branched:
            maybe = maybe or shell.line_of(command)
        else:
            sure = sure or shell.line_of(command)
    return sure, maybe


#: Files in which a program reads all its configuration.
_CONFIG = re.compile(r"(?:config|configuration|env|environment|settings)\.(?:[cm]?[jt]s|py)")
_ASIDE = re.compile(
    r"(?:\A|/)(?:\..*|__\w+__|tests?|scripts|tools?|examples?|bin|e2e|node_modules|dist)(?:/|\Z)"
)
_NAME = r"([A-Z][A-Z0-9_]{2,})"
#: A function that reads an environment variable and throws if it is missing.
_HELPER = re.compile(
    r"(?:const|function)\s+(\w+)\s*=?\s*(?:async\s*)?\(\s*(\w+)\s*(?::\s*string\s*)?\)[^;]{0,60}?(?:=>|\{)"
    r"(?:(?!\bfunction\b|=>).){0,200}?\benv\[\2\](?:(?!\bfunction\b|=>).){0,120}?\bthrow\b",
    re.DOTALL,
)
_PYTHON = re.compile(rf"(?<!in )os\.environ\[[\"']{_NAME}[\"']\](?!\s*=[^=])")
_DIRECT = re.compile(rf"if\s*\(\s*!\s*(?:process\.)?env\.{_NAME}\s*\)\s*\{{?\s*throw\b")
#: Syntax that makes a requirement conditional.
_MAYBE = re.compile(
    r"\?(?![.?]?\s*:)|&&|\|\||\b(?:if|try|case|else|def|lambda|get|function|async)\b|=>|\A\s*(?:#|//|/?\*)"
)
#: A line that opens an object or a call, and the function that loads the configuration.
_OPENS = re.compile(r"(?:[=:(\[,]|\breturn)\s*[\[({]+\s*\Z")
_LOADS = re.compile(r"(?:export\s+)?(?:default\s+)?function\s.*\{\s*\Z")
_RETURNS = re.compile(r"\breturn\s*[({]+\s*\Z")
_ASSIGNED = re.compile(r"(?<![\w$])([A-Z][A-Z0-9_]{2,})=")
#: Variables that AWS, or every image, provides.
_GIVEN = re.compile(r"(?:AWS|ECS)_\w+|PATH|HOME|HOSTNAME|PWD|USER|TZ|LANG|NODE_VERSION|PYTHON_VERSION")


@dataclass(slots=True)
class _Given:
    """The variables of an image's tasks: names with a value, and whether there may be others."""

    names: set[str] = field(default_factory=set)
    open: bool = False
    among: list[str] = field(default_factory=list)


def ungiven(
    repository: Repository, groups: Mapping[str, Sequence[str]], defined: Definitions
) -> list[Finding]:
    """Return the variables that an image's configuration requires but none of its tasks gets.

    `groups` are the names of services by their image. A file counts as a task's configuration only if that
    task gets another variable of it.
    """
    found, given = list[Finding](), defaultdict[str, _Given](_Given)
    made = builds(repository, groups, Examined())
    for run in runs_of(defined, made):
        _add(given[run.build.image], run)
    filled = any(posixpath.basename(each).startswith(".env") for each in repository.paths)
    for build in made:
        own = given.get(build.image)
        if own is None or own.open or filled or not build.context:
            continue
        set_here = own.names | _of_image(build)
        scripts = [repository.script(each) or "" for each in repository.paths if each.endswith(".sh")]
        set_here |= {name for each in scripts for name in _ASSIGNED.findall(each)}
        for path in repository.paths:
            if not _is_config(path, build, groups[build.image]):
                continue
            demanded = dict(_demanded(repository.script(path) or ""))
            if not set_here & demanded.keys():
                continue
            for name, line in demanded.items():
                if name not in set_here and not _GIVEN.fullmatch(name):
                    tasks = " and ".join(own.among)
                    found.append(Finding(path, line, f"it demands {name}, which no task of {tasks} sets"))
    return list(dict.fromkeys(found))


def _add(given: _Given, run: Run) -> None:
    container = run.container.entries
    given.open |= "environmentFiles" in container or bool(run.container.task.uncertain)
    given.among.append(run.definition.name)
    given.names |= {*_ASSIGNED.findall(" ".join(run.words() or ()))}
    for kind in ("environment", "secrets"):
        listed = container.get(kind)
        every = choices(listed) if listed is not None else [[]]
        given.open |= len(every) != 1
        for each in every[0] if every else ():
            one = entries(each)
            name, value = one.get("name"), one.get("value")
            if name is None or not is_known(name):
                given.open = True
            elif not is_known(value) or text(value) != "":
                given.names.add(text(name))


def _of_image(build: Build) -> set[str]:
    """The variables that the stages of an image set."""
    words = [word for stage in build.file.stages for each in stage.instructions
             if each.name == "ENV" for word in re.findall(r"(\w+)(?:=|\s)", each.text)]  # fmt: skip
    return {*words}


def _is_config(path: str, build: Build, names: Sequence[str]) -> bool:
    """Whether a file is the configuration of a service of these names, or of the whole build."""
    directory, name = posixpath.split(path)
    inside = build.context == "." or path.startswith(f"{build.context}/")
    below = directory.removeprefix(build.context).strip("/").split("/")
    own = below in ([""], ["src"]) or bool({*below} & {*names})
    return inside and own and _CONFIG.fullmatch(name) is not None and not _ASIDE.search(directory)


def _demanded(source: str) -> Iterator[tuple[str, int]]:
    """The variables that a source file always requires, with their lines."""
    helpers = {found[1] for found in _HELPER.finditer(source)}
    patterns = [re.compile(rf"\b{re.escape(each)}\(\s*[\"']{_NAME}[\"']\s*\)") for each in helpers]
    lines = source.splitlines()
    for at, line in enumerate(lines, 1):
        if not _is_sure(lines, at - 1):
            continue
        for pattern in (*patterns, _PYTHON) if not _MAYBE.search(line) else ():
            yield from ((found[1], at) for found in pattern.finditer(line))
        yield from ((found[1], at) for found in _DIRECT.finditer(line))


def _is_sure(lines: Sequence[str], at: int) -> bool:
    """Whether a line runs when its file is loaded: only in objects, calls, and functions returning them."""
    around, depth = list[str](), len(lines[at]) - len(lines[at].lstrip())
    for line in reversed(lines[:at]):
        if line.strip() and len(line) - len(line.lstrip()) < depth:
            depth = len(line) - len(line.lstrip())
            around.append(line)
    if around and _LOADS.match(around[-1]) and any(map(_RETURNS.search, around)):
        around.pop()
    return all(_OPENS.search(each) and not _MAYBE.search(each) for each in around)

"""The image that a deploy job delivers, and its changes to the task definition that it registers.

The image has the tag under which the workflow pushes it, a git sha; the next revision of a task definition
differs from the last only in the image of the service's own container.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from smoke.source.checkout import Finding
from smoke.source.infrastructure.definitions import Definition, Definitions, containers
from smoke.source.infrastructure.tasks import MOVING
from smoke.source.infrastructure.tasks import repository as repository_of
from smoke.source.scripts import shell
from smoke.source.terraform.values import is_known, text

from .deploys import Pipeline, deploy_jobs, names_any, pipelines, runs_one
from .effects import never_run
from .expansion import MOST, Command, Expansion
from .gate import left_behind
from .repository import Repository
from .workflows import Job, Workflow

_REGISTERS, _UPDATES = ("aws ecs register-task-definition",), ("aws ecs update-service",)
_PUSHES = ("docker push", "docker image push")
_BUILDS = ("docker build", "docker buildx build", "docker image build")
#: Programs and actions that push or tag an image in ways that are not read here.
_OTHERWISE = re.compile(
    r"imagetools|\bcrane\b|skopeo|put-image|kaniko|buildah|podman|regctl|\boras\b|\bbake\b|compose|\bjib|\bpack\b"
    r"|\bko\b|\bnix\b"
)
_PUSHING = re.compile("push|bake|publish|kaniko")
_BUILD_ACTION, _RENDER_ACTION = "docker/build-push-action", "amazon-ecs-render-task-definition"
_BAKE_ACTION = "docker/bake-action"  # its builds are commands
#: A tag with known parts, or numbers and names of a run of GitHub.
_BY_GITHUB = re.compile(r"«(?:vars|secrets)\.\w+»")
_KNOWN = re.compile(r"(?:[\w.-]|«github\.(?:sha|run_number|run_id|ref_name)»(?:\[:\d+\+?\])?)+")
_SHORT = re.compile(r"\[:(?:[7-9]|1\d)\+?\]")  # of a commit, what `git rev-parse --short` may print


def delivered(
    repository: Repository, plan: Pipeline, groups: Mapping[str, Sequence[str]], defined: Definitions,
    cluster: str, others: Collection[str] = (),
) -> list[Finding]:  # fmt: skip
    """Return deliveries that differ from what was built, or from the files' definitions.

    `groups` are the names of services by the image that they share, `cluster` is this environment's; `others`
    are the clusters that the files declare, "" for an unknown name. Tags that only a run knows, and filters
    that are not understood, are skipped.
    """
    images = _Images(repository)
    services = [each for each in defined.definitions if each.service is not None]
    found: dict[Finding, list[str]] = {}
    builds = defaultdict[tuple[str, str], list[Finding]](list)
    for workflow, job in deploy_jobs(repository, plan):
        if job.name == plan.migration:
            continue
        commands = images.of(workflow).commands(job)
        words = {word for each in commands for word in each.words} | {*job.env.values(), *job.given.values()}
        own = [image for image, names in groups.items() if names_any(words, names)]
        named = [each for each in services if names_any(words, [each.name])]
        known = {f"{cluster.rpartition('-')[0]}-{each.name}" for each in services}
        wrong = [*_pinned(commands), *_exchanged(commands, known)]
        wrong += [
            *_unchanged(commands),
            *_misnamed(commands, known),
            *never_run(repository, workflow, job, commands),
        ]
        if len(own) == 1:
            every = list(images.deployed(workflow, job, own[0]))
            builds[workflow.path, own[0]] += [] if workflow.recovers(job) else every
            tags = [each for each in every if _KNOWN.fullmatch(each.what)]
            wrong += _mistagged(tags, own[0], images.pushed(workflow, own[0]))
            wrong += [replace(each, what=f"{own[0]}:{each.what} is deployed, but no workflow pushes {own[0]}")
                      for each in tags if images.never_pushed(workflow, own[0], each.what)]  # fmt: skip
            beside = {
                repository_of(image) for each in named for box in each.containers for image in box.images
            }
            wrong += _of_others(commands, own[0], groups.keys() - beside)
            for one in images.rendered(workflow, job):
                if (name := _parts(one.what)[0]) in groups.keys() - beside - {own[0]}:
                    what = f"the image of another service is deployed: {name} in place of {own[0]}"
                    wrong.append(replace(one, what=what))
                if re.fullmatch(r"«github\.sha»", one.what):
                    wrong.append(replace(one, what=f"{one.what} is a tag without its repository"))
        for definition in named:
            image = next((image for image, names in groups.items() if definition.name in names), "")
            wrong += [*_altered(commands, definition, image), *_of_code_deploy(commands, definition)]
        for each in wrong:
            found.setdefault(each, []).append(" and ".join(each.name for each in named) or job.name)
    shown = [
        replace(each, what=f"{each.what} ({', '.join(dict.fromkeys(names))})")
        for each, names in found.items()
    ]
    shown += left_behind(repository, plan, groups)
    shown += _misplaced_migrations(images, repository, plan, cluster, others)
    return [*shown, *(each for (_, image), tags in builds.items() for each in _unlike(tags, image))]


def _misplaced_migrations(
    images: _Images, repository: Repository, plan: Pipeline, cluster: str, others: Collection[str]
) -> Iterator[Finding]:
    """Migrations that are started in a cluster with this environment's prefix, which nothing declares.

    The files may declare `others`, such as one for tasks that end.
    """
    if "" in others and len(others) > 1:
        return
    workflow = repository.workflows.get(plan.workflow)
    job = workflow.jobs.get(plan.migration) if workflow is not None else None
    for each in images.of(workflow).commands(job) if workflow is not None and job is not None else ():
        named = shell.option(each.words, "--cluster").rpartition("/")[2]
        ours = named.startswith(f"{cluster.rpartition('-')[0]}-") and re.fullmatch(r"[\w-]+", named)
        if runs_one(each.words, ("aws ecs run-task",)) and ours and named not in (cluster, *others):
            yield each.finding(f"a migration is started in the cluster {named}, not in {cluster}")


def _unlike(tags: Sequence[Finding], image: str) -> Iterator[Finding]:
    """An image that one job deploys by the commit's tag, and another by a tag stored in GitHub."""
    built = next((each.what for each in tags if "«github.sha»" in each.what), "")
    for each in {each.what: each for each in tags if built and _BY_GITHUB.fullmatch(each.what)}.values():
        what = f"{image} is deployed as {each.what}, and as {built}: two builds of one image"
        yield replace(each, what=what)


def _pinned(commands: Sequence[Command]) -> Iterator[Finding]:
    """A service that always gets one revision of its task definition, even if there is a newer one."""
    updates = [each for each in commands if runs_one(each.words, _UPDATES)]
    given = [shell.option(each.words, "--task-definition") for each in updates]
    if given and all(re.search(r"[\w-]:\d+$", each) for each in given):
        yield updates[0].finding("a fixed revision of a task definition is deployed, whatever was built")


def _exchanged(commands: Sequence[Command], known: Collection[str]) -> Iterator[Finding]:
    """A job of one service that gives it the next revision of another service's task definition."""
    read = {shell.option(each.words, "--task-definition")
            for each in commands if runs_one(each.words, ("aws ecs describe-task-definition",))}  # fmt: skip
    updates = [each for each in commands if runs_one(each.words, _UPDATES)]
    given = {shell.option(each.words, "--service") for each in updates}
    if len(read) == len(given) == 1 and read | given <= {*known} and read != given:
        yield updates[0].finding(f"{given.pop()} is given the task definition of {read.pop()}")


def _unchanged(commands: Sequence[Command]) -> Iterator[Finding]:
    """A task definition that is registered as it was read."""
    for each in commands:
        given = shell.option(each.words, "--cli-input-json")
        if runs_one(each.words, _REGISTERS) and _AS_READ.fullmatch(given):
            yield each.finding("the task definition that runs is registered again: nothing changes it")


_AS_READ = re.compile(r"\$\(\s*aws ecs describe-task-definition\b[^|]*\)")


def _of_code_deploy(commands: Sequence[Command], definition: Definition) -> Iterator[Finding]:
    """A new revision for a service that takes one from CodeDeploy alone."""
    blocks = definition.service.blocks("deployment_controller") if definition.service is not None else []
    if any(text(block.attribute("type")) == "CODE_DEPLOY" for block in blocks):
        for each in commands:
            if runs_one(each.words, _UPDATES) and shell.option(each.words, "--task-definition"):
                what = f"ECS refuses the new revision of {definition.name}: only CodeDeploy may change it"
                yield each.finding(what)


def _misnamed(commands: Sequence[Command], known: Collection[str]) -> Iterator[Finding]:
    """A service with the letters, or the words, of one that the files have."""
    plain = {re.sub(r"[\W_]", "", each).lower(): each for each in known}
    plain |= {" ".join(sorted(each.split("-"))): each for each in known}
    for each in commands:
        named = shell.option(each.words, "--service", "--services")
        own = plain.get(re.sub(r"[\W_]", "", named).lower(), named)
        own = plain.get(" ".join(sorted(named.split("-"))), own)
        if named not in known and own != named and re.fullmatch(r"[\w-]+", named):
            yield each.finding(f"there is no service {named}: it is called {own}")


def _of_others(commands: Sequence[Command], own: str, images: Collection[str]) -> Iterator[Finding]:
    """An image that jq writes into a task definition: one of other services' `images`, or a tag alone."""
    for each in commands:
        for written in _written(each):
            name, _ = _parts(written)
            if "/" in written and name in images and name != own:
                yield each.finding(f"the image of another service is deployed: {name} in place of {own}")
        filter_ = _filter(each.words)
        for at, word in enumerate(each.words[:-2]):
            called, value = each.words[at + 1 : at + 3]
            assignment = rf"\.image\s*\|?=\s*\${re.escape(called)}\s*(?:[|)]|\Z)"
            if word == "--arg" and _KNOWN.fullmatch(value) and re.search(assignment, filter_):
                yield each.finding(f"the image becomes {value}: a tag without its repository")


def _mistagged(tags: Sequence[Finding], image: str, pushed: Collection[str]) -> Iterator[Finding]:
    """A tag that is not a commit, or that the workflow never pushes."""
    for each, tag in ((each, each.what) for each in tags):
        same = partial(_SHORT.sub, "[:7+]") if "[:7+]" in " ".join([tag, *pushed]) else str
        if tag.lower() in MOVING or ("«" in tag and "github.sha" not in tag):
            yield replace(each, what=f"{image}:{tag} is deployed, but the tag is not a commit")
        elif pushed and same(tag) not in {*map(same, pushed)}:
            what = f"{image}:{tag} is deployed, but the workflow pushes {' and '.join(sorted(pushed))}"
            yield replace(each, what=what)


class _Images:
    """What the jobs of a repository push and deploy; each workflow is expanded once."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._expansions: dict[str, Expansion] = {}
        self._pushed: dict[str, list[tuple[str, str]]] = {}

    def of(self, workflow: Workflow) -> Expansion:
        """The commands of a workflow's jobs."""
        if workflow.path not in self._expansions:
            self._expansions[workflow.path] = Expansion(self._repository, workflow)
        return self._expansions[workflow.path]

    def deployed(self, workflow: Workflow, job: Job, image: str) -> Iterator[Finding]:
        """The tags of an image that a job writes into a task definition, each with its place."""
        for each in self.of(workflow).commands(job):
            for written in _written(each):
                name, tag = _parts(written) if "/" in written else (image, written)
                if name == image:
                    yield each.finding(tag)
        for one in self.rendered(workflow, job):
            name, tag = _parts(one.what)
            if name == image:
                yield replace(one, what=tag)

    def rendered(self, workflow: Workflow, job: Job) -> Iterator[Finding]:
        """The images that AWS's action writes into a task definition, each with its place."""
        for placed in self._repository.everything(workflow, job):
            if _RENDER_ACTION in placed.step.uses:
                given = self.of(workflow).text(job, placed, placed.step.given.get("image", ""))
                yield Finding(placed.path, placed.step.line, given)

    def pushed(self, workflow: Workflow, image: str) -> set[str]:
        """The tags that only this workflow pushes for an image; none if one of them is unknown."""
        others = [each for each in self._repository.workflows.values() if each.path != workflow.path]
        own = self._of_workflow(workflow)
        if any("$" in name or not _KNOWN.fullmatch(tag) for name, tag in own) or any(
            name == image for other in others for name, _ in self._of_workflow(other)
        ):
            return set()
        return {tag for name, tag in own if name == image}

    def never_pushed(self, workflow: Workflow, image: str, tag: str) -> bool:
        """Whether this workflow pushes the commit's tag of other images, and nothing pushes this image."""
        every = [self._of_workflow(each) for each in self._repository.workflows.values()]
        names = {name for pushed in every for name, _ in pushed}
        known = all(re.fullmatch(r"[\w.-]+", each) for each in names) and not pipelines(self._repository)
        built = any(each == tag for _, each in self._of_workflow(workflow))
        return known and built and "github.sha" in tag and image not in names

    def _of_workflow(self, workflow: Workflow) -> list[tuple[str, str]]:
        """The images that a workflow pushes, as repository and tag, both empty if unknown."""
        if workflow.path not in self._pushed:
            self._pushed[workflow.path] = [
                each
                for job in workflow.jobs.values()
                for each in (*self._by_commands(workflow, job), *self._by_actions(workflow, job))
            ]
        return self._pushed[workflow.path]

    def _by_commands(self, workflow: Workflow, job: Job) -> Iterator[tuple[str, str]]:
        commands = self.of(workflow).commands(job)
        if len(commands) >= MOST:
            yield "", ""
        for each in commands:
            words = each.words
            if _OTHERWISE.search(" ".join(words)):
                yield "", ""
            elif runs_one(words, _PUSHES):
                yield _parts(words[-1])
            elif runs_one(words, _BUILDS) and ("--push" in words or "type=registry" in " ".join(words)):
                yield from map(_parts, shell.option_values(words, "--tag", "-t"))

    def _by_actions(self, workflow: Workflow, job: Job) -> Iterator[tuple[str, str]]:
        if job.uses and self._repository.called(job) is None:
            yield "", ""
        for placed in self._repository.everything(workflow, job):
            if placed.step.uses.startswith(_BUILD_ACTION):
                tags = self.of(workflow).text(job, placed, placed.step.given.get("tags", ""))
                yield from map(_parts, re.split(r"[\s,]+", tags.strip()))
            others = [text for _, text in self._repository.others(placed.step)]
            acts = "" if placed.step.uses.startswith((_BUILD_ACTION, _BAKE_ACTION)) else placed.step.uses
            if any(map(_PUSHING.search, (acts, *others))):
                yield "", ""


def _parts(image: str) -> tuple[str, str]:
    """An image's repository, without the registry, and its tag."""
    name, _, tag = image.rpartition("/")[2].partition(":")
    return name, tag


#: How jq writes an image: a text for its last part.
_LITERAL = re.compile(r"\.image\s*=\s*sub\(\s*\"[^\"]*\"\s*;\s*\":([\w.-]+)\"\s*\)")


def _written(command: Command) -> Iterator[str]:
    """The values that jq puts into an image: its arguments, and texts that replace the tag."""
    filter_ = _filter(command.words).replace("|=", "=")
    for at, word in enumerate(command.words[:-2]):
        name, value = command.words[at + 1 : at + 3]
        if word == "--arg" and re.search(rf"\.image\b[^|]*\${re.escape(name)}\b", filter_):
            yield value
    yield from _LITERAL.findall(filter_)


#: Number of arguments of each jq option.
_OF_JQ = {"--arg": 2, "--argjson": 2, "--slurpfile": 2, "--rawfile": 2, "--indent": 1, "-L": 1}


def _filter(words: Sequence[str]) -> str:
    """The jq filter of a command; empty for other commands."""
    if words[0] != "jq" or {"-f", "--from-file", "--args", "--jsonargs"} & {*words}:
        return ""
    at = 1
    while at < len(words) and words[at].startswith("-"):
        at += 1 + _OF_JQ.get(words[at], 0)
    return words[at] if at < len(words) else ""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the files say about a task: its entries, its first container's, the images and names of all."""

    entries: frozenset[str]
    first: frozenset[str]
    images: tuple[str, ...]
    names: tuple[str, ...]


#: Terraform's arguments of a task definition, by ECS's names.
_ENTRIES = {
    "executionRoleArn": "execution_role_arn",
    "taskRoleArn": "task_role_arn",
    "cpu": "cpu",
    "memory": "memory",
    "networkMode": "network_mode",
}


def _shape(definition: Definition) -> _Shape | None:
    """What the files say about a service's task; None if its containers are unknown."""
    found, unread = containers(definition.tasks[0]) if len(definition.tasks) == 1 else ([], [])
    if unread or not found:
        return None
    (task,) = definition.tasks
    held = {name for name, attribute in _ENTRIES.items() if task.attribute(attribute) is not None}
    held |= {"volumes"} if task.blocks("volume") else set()
    architectures = [block.attribute("cpu_architecture") for block in task.blocks("runtime_platform")]
    held |= {"runtimePlatform"} if any(text(each) == "ARM64" for each in architectures) else set()
    images = [next(map(repository_of, each.images), "") for each in found]
    names = [text(name) if is_known(name := each.entries.get("name")) else "" for each in found]
    return _Shape(frozenset(held), frozenset(found[0].entries), tuple(images), tuple(names))


#: Entries of a container that must be kept.
_KEPT = frozenset({"secrets", "environment", "logConfiguration", "portMappings", "command", "entryPoint"})
_NOTHING = r"(?:\[\]|null|\{\})"
_KEEPS_ONLY = re.compile(r"\{\s*((?:\w+\s*,\s*)*\w+)\s*,?\s*\}\s*\Z")
_IMAGE_OF = re.compile(r"\.containerDefinitions\[(-?\d*)\]\.image\s*\|?=")


def _altered(commands: Sequence[Command], definition: Definition, own: str) -> Iterator[Finding]:
    """What a filter drops from a service's task definition, or sets in another container than its own."""
    registers = [each.words for each in commands if runs_one(each.words, _REGISTERS)]
    shape = _shape(definition) if registers else None
    if shape is None:
        return
    every = " | ".join(_filter(each.words) for each in commands)
    for command in commands:
        filter_ = _filter(command.words)
        kept = _KEEPS_ONLY.search(filter_)
        names = set(re.split(r"[\s,]+", kept[1])) if kept else set()
        left = shape.entries - names if "containerDefinitions" in names else ()
        lost = {name for name in left if not any(shell.option(each, _option(name)) for each in registers)}
        lost |= {name for name in shape.first & _KEPT if _removes(filter_, every, name)}
        lost |= {"containerDefinitions"} if _leaves_none(names, every, registers) else set()
        if lost:
            yield command.finding(f"the next task definition has no {' and no '.join(sorted(lost))}")
        yield from map(command.finding, _unmatched(command.words, filter_, shape, own))
        if own in shape.images and "select(" not in filter_:
            yield from map(command.finding, _misplaced(filter_, shape.images, own))


_SETS = r"\.image\s*\)?\s*\|?=(?!=)"
_SELECTS = re.compile(rf"select\(\s*\.name\s*==\s*(?:\"([\w-]+)\"|\$(\w+))\s*\)\s*\)?\s*(?:\|\s*)?{_SETS}")
#: A pattern of `sub` for an image with a digest; another literal may be the tag that runs.
_REPLACES = re.compile(r"\.image\s*\|?=\s*sub\(\s*\"([^\"\\]*@[^\"\\]*)\"")


def _unmatched(words: Sequence[str], filter_: str, shape: _Shape, own: str) -> Iterator[str]:
    """Why a filter leaves all images as they are: no container has the name, no tag fits the pattern."""
    asked = [
        literal or next((words[at + 2] for at, word in enumerate(words[:-2])
                         if word == "--arg" and words[at + 1] == variable), "")
        for literal, variable in _SELECTS.findall(filter_)
    ]  # fmt: skip
    known = all(re.fullmatch(r"[\w-]+", each) for each in asked) and "" not in shape.names
    if asked and known and not {*asked} & {*shape.names} and not _IMAGE_OF.search(filter_):
        yield f"no image changes: no container is called {' or '.join(asked)}"
    sample = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{own}:{'a1' * 20}"
    patterns = _REPLACES.findall(filter_) if own in shape.images else []
    other = len(patterns) < len(re.findall(_SETS, filter_))  # such as the tag, once a digest is removed
    with suppress(re.error):
        if not other and not any(re.search(each, sample) for each in patterns):
            yield from (f"no image changes: {each} does not match the tag of {own}" for each in patterns)


def _leaves_none(names: Collection[str], every: str, registers: Sequence[Sequence[str]]) -> bool:
    """Whether a filter keeps these entries of a task definition, but no containers, and nothing adds them."""
    kept = {"family"} <= {*names} <= {*_ENTRIES, "family", "volumes", "requiresCompatibilities", "tags"}
    added = re.search(r"\bcontainerDefinitions\s*[:,}]|\{[^{}]*containerDefinitions\b", every)
    return kept and not added and not any(shell.option(each, "--container-definitions") for each in registers)


def _option(name: str) -> str:
    """The option of the AWS CLI for an entry of a task definition."""
    return "--" + re.sub("([A-Z])", lambda found: f"-{found[1].lower()}", name)


def _removes(filter_: str, every: str, name: str) -> bool:
    """Whether a filter removes an entry from the first container, or from all, and no filter sets it."""
    entry = rf"\.containerDefinitions\[0?\]\.{name}\b"
    removes = rf"\bdel\([^()]*{entry}\s*[,)]|{entry}\s*=\s*{_NOTHING}"
    gives = rf"\.{name}\s*(?:\|=|\+=|=(?!=|\s*{_NOTHING}))|\b{name}:"
    return re.search(removes, filter_) is not None and re.search(gives, every) is None


def _misplaced(filter_: str, images: Sequence[str], own: str) -> Iterator[str]:
    """The containers other than the service's own that get an image from a filter."""
    for found in _IMAGE_OF.finditer(filter_):
        which = range(len(images))[int(found[1]) :][:1] if found[1] else range(len(images))
        others = [at for at in which if images[at] != own]
        if not which:
            yield f"the image is given to container {found[1]}, which does not exist"
        elif others:
            yield f"the image is given to container {others[0]}, which belongs to another service"

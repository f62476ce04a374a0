"""Commands of a deployment that certainly lack the effect they are written for.

They are only printed, stand in a function that nothing calls, name what does not exist, or wait for another
state than they should.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain, pairwise

from smoke.source.checkout import Finding
from smoke.source.rules import ENVIRONMENTS
from smoke.source.scripts import shell

from .deploys import Pipeline, deploy_jobs, runs_one
from .expansion import Command, Expansion
from .jobs import is_within, unreached
from .repository import Placed, Repository
from .unset import GITHUBS_MACHINES
from .validity import may_run
from .workflows import OUTCOMES, Job, Situation, Step, Workflow

#: Commands that change something, each of which a deployment may print in place of running it.
_CHANGES = ("aws ecs update-service", "aws ecs register-task-definition", "aws ecs run-task", "docker push")
_UPDATE, _RUN_TASK = ("aws ecs update-service",), ("aws ecs run-task",)
#: Commands that may run what others print, and scripts that deploy in another way.
_RUN_PRINTED = frozenset({"eval", "xargs", "parallel"})
_OTHERWISE = re.compile(
    r"\b(?:terraform|tofu|terragrunt|pulumi|cdk|copilot|ecspresso|ecs-deploy|ecs-cli|cloudformation|deploy"
    r"|codepipeline|helm|kubectl|sam|boto3|create-service|create-deployment|create-task-set|put-targets)\b"
)
_PUSHES = ("docker push", "docker image push")
_BUILDS = ("docker build", "docker buildx build", "docker image build")
_NAMES = ("docker tag", "docker image tag")
#: Other commands after which an image is there to be pushed.
_HAVE_IMAGES = re.compile(
    r"\b(?:compose|bake|load|import|commit|pull|podman|nerdctl|pack|buildah|nix|jib|earthly|bazel|ko|sbt|s2i"
    r"|mvnw?|gradlew?|make|just|task|npm run|pnpm|yarn|build-push-action)\b"
)
#: Actions that push an image, deploy a service or run a task.
_ACTS = re.compile(r"build-push|ecs-deploy|ecs-run")
_NAME = re.compile(r"[\w.-]+")
#: Options of `aws ecs` with names, which have neither quotes nor a dollar.
_NAMED = ("--cluster", "--service", "--services", "--task-definition", "--tasks", "--family", "--launch-type")
_OF_A_TASK = ("aws ecs describe-tasks", "aws ecs wait tasks-stopped", "aws ecs wait tasks-running")
_DELETES = re.compile(r"delete-service|\bdestroy\b|delete-stack")
_LOOPS = re.compile(r"\b(?:while|until|for)\b|\bsleep\b|\bwatch\b|\bretry\b")


def ineffective(repository: Repository, plan: Pipeline, families: Collection[str]) -> list[Finding]:
    """Return the commands of deploying workflows without their effect.

    `families` are all families of task definitions that the files declare.
    """
    workflows = {of.path: of for of, _ in deploy_jobs(repository, plan)}
    found: list[Finding] = []
    for workflow in workflows.values():
        expansion = Expansion(repository, workflow)
        deploying = {job.name for of, job in deploy_jobs(repository, plan) if of is workflow}
        every = [each for job in workflow.jobs.values() for each in expansion.commands(job)]
        found += _for_the_end(every)
        found += _passed_over(repository, workflow, deploying)
        for job in workflow.jobs.values():
            commands = expansion.commands(job)
            acts = any(_ACTS.search(step.uses) for step in job.steps)
            works = job.name in {*deploying, plan.migration} or any(
                runs_one(each.words, _BUILDS) for each in commands
            )
            if works and not acts:
                found += _printed(commands)  # any other job may print them as a hint
            found += _replaces_nothing(repository, commands) if works else ()
            found += _unbuilt(repository, workflow, job, commands)
            found += _quoted(repository, workflow, job, commands)
            for placed in repository.everything(workflow, job):
                found += _up_to_date(repository, placed)
            found += [*_unfamiliar(commands, plan.prefix, families), *_strayed(commands, plan.prefix)]
            if job.name in deploying and not acts:
                found += _uncalled(repository, commands)
            if works and GITHUBS_MACHINES.fullmatch(job.runs_on) and not job.contained:
                found += _too_early(repository, workflow, job)
            if job.name == plan.migration:
                found += _unawaited(repository, workflow, job, commands)
                found += _abroad(commands, plan.prefix) if workflow.path == plan.workflow else ()
    return [*dict.fromkeys(found)]


#: What a deployment needs of a push, as commands or as an action, and what is missing without it.
_WORK = (
    (
        (*_BUILDS, "docker buildx bake", "docker compose build"),
        re.compile(r"build-push-action|bake-action"),
        "no image is built",
    ),
    (_UPDATE, re.compile(r"amazon-ecs-deploy-task-definition"), "the service is not updated"),
)


def _passed_over(repository: Repository, workflow: Workflow, deploying: Collection[str]) -> Iterator[Finding]:
    """Steps that every push skips, each by its `if`, though they alone build an image or update a service.

    A workflow may only test what is pushed to one of its branches.
    """
    pushes = [each for each in workflow.events if each.get("github.event_name") == "push"]
    running = {job.name: [Situation(inputs={}, unread=OUTCOMES, known=each) for each in pushes
                          if may_run(workflow, job, each, asked=False)]
               for job in workflow.jobs.values()}  # fmt: skip
    others = [step for each in repository.workflows.values() if each is not workflow
              for job in each.jobs.values() for step in job.steps]  # fmt: skip
    groups = [[(step, running[job.name]) for step in job.steps]
              for job in workflow.jobs.values() if running[job.name]]  # fmt: skip
    own = [[(step, running[name]) for step in workflow.jobs[name].steps]
           for name in running if name in deploying and running[name]]  # fmt: skip
    built = any(_does(repository, each, _WORK[0]) for each in others)
    every = [[*chain(*groups)]] if own and not built else []
    for work, alike in zip(_WORK, (every, own), strict=True):
        for steps in alike:
            does = [each for each in steps if _does(repository, each[0], work)]
            rest = [step for step, _ in steps if not _does(repository, step, work)]
            skips = not any(step.condition.ways(each)[0] for step, situations in does for each in situations)
            in_another_way = work is _WORK[1] and any(_deploys(repository, each) for each in rest)
            if does and skips and not in_another_way:
                yield workflow.finding(does[0][0].line, f"on a push {work[2]}: its step is skipped")


def _does(repository: Repository, step: Step, work: tuple[Sequence[str], re.Pattern[str], str]) -> bool:
    commands, action, _ = work
    asked = (runs_one(words, commands) for words in repository.commands(step))
    return action.search(step.uses) is not None or any(asked)


def _deploys(repository: Repository, step: Step) -> bool:
    """Whether a step may deploy in another way than by `aws ecs update-service`."""
    said = [step.uses, *(" ".join(words) for words in repository.commands(step))]
    return any(map(_OTHERWISE.search, said))


#: Actions that let a job use AWS or its registry, and other ways to the same.
_CREDENTIALS, _LOGS_IN = "aws-actions/configure-aws-credentials@", "aws-actions/amazon-ecr-login@"
_LETS = re.compile(r"\A\./|aws|login|credential|auth", re.IGNORECASE)
_OWN_CREDENTIALS = re.compile(
    r"AWS_ACCESS|AWS_PROFILE|AWS_WEB_ID|--profile|aws configure|assume-role|docker login"
)


def _too_early(repository: Repository, workflow: Workflow, job: Job) -> Iterator[Finding]:
    """A step that changes AWS, or pushes an image, before the job may do so, or in one that never may."""
    commands = [words for step in job.steps for words in repository.commands(step)]
    said = [*workflow.env, *job.env, *(name for step in job.steps for name in (step.run, *step.env))]
    said += [" ".join(words) for words in commands]
    known = (_CREDENTIALS, _LOGS_IN)
    in_another_way = any(_LETS.search(each.uses) for each in job.steps if not each.uses.startswith(known))
    if in_another_way or any(map(_OWN_CREDENTIALS.search, said)):
        return
    logs_in = any(step.uses.startswith(_LOGS_IN) for step in job.steps)
    for action, needing in ((_CREDENTIALS, _CHANGES[:3]), (known[logs_in], _PUSHES)):
        given = [at for at, step in enumerate(job.steps) if step.uses.startswith(action)]
        able = [at for at in given if _may_run(workflow, job.steps[at])]
        early = job.steps[: min(able, default=len(job.steps))] if given else ()
        why = "which runs only later" if able else "which is always skipped"
        for step in (each for each in early if _may_run(workflow, each)):
            asked = [words for words in repository.commands(step) if not _of_machine(words)]
            if any(runs_one(words, needing) for words in asked):
                yield workflow.finding(step.line, f"this step needs {action.rstrip('@')}, {why}")
                break


def _of_machine(words: Sequence[str]) -> bool:
    """Whether a command pushes to a registry on its own machine."""
    return any(each.startswith(("localhost:", "127.0.0.1:")) for each in words)


def _may_run(workflow: Workflow, step: Step) -> bool:
    situations = [Situation(inputs=inputs, unread=OUTCOMES, known=event)
                  for event in workflow.events for inputs in workflow.runs]  # fmt: skip
    return any(step.condition.ways(each)[0] for each in situations)


def _printed(commands: Sequence[Command]) -> Iterator[Finding]:
    """A command that is only printed, if nothing else in its job does its work."""
    run = [each for each in commands if each.words[0] != "echo"]
    if any(each.words[0] in _RUN_PRINTED or shell.inline_script(each.words) for each in run):
        return
    for wanted in _CHANGES:
        only = [each for each in commands if each not in run and shell.runs(each.words[1:], wanted)]
        real = any(shell.runs(each.words, wanted) or _OTHERWISE.search(each.words[0]) for each in run
                   if not _calls_script(each))  # fmt: skip
        if only and not real:
            yield only[0].finding(f"`{wanted}` is only printed: nothing in the job runs it")


def _calls_script(command: Command) -> bool:
    return re.search(r"\.(?:sh|bash)\Z", command.words[0]) is not None


def _unbuilt(
    repository: Repository, workflow: Workflow, job: Job, commands: Sequence[Command]
) -> Iterator[Finding]:
    """A push of an image under a name that its job gives to none, or only to one that it did not build."""
    texts = [" ".join(each.words) for each in commands]
    texts += [placed.step.uses for placed in repository.everything(workflow, job)]
    if any(map(_HAVE_IMAGES.search, texts)):
        return
    made = [name for each in commands if runs_one(each.words, _BUILDS)
            for name in shell.option_values(each.words, "--tag", "-t")]  # fmt: skip
    built = {_repository(each) for each in made}
    named = [each for each in commands if runs_one(each.words, _NAMES) and len(each.words) > 3]
    made += [each.words[-1] for each in named]
    names = {_repository(each) for each in made}
    sources = [_repository(each.words[-2]) for each in named]
    pushed = {_repository(each.words[-1]) for each in commands if runs_one(each.words, _PUSHES)}
    first = next((at for at, each in enumerate(commands) if runs_one(each.words, _BUILDS)), len(commands))
    later = not any(each in named for each in commands[:first])
    if built and later and all([*names, *sources, *pushed]) and not built & {*sources, *pushed}:
        for each, source in zip(named, sources, strict=True):
            if source not in names and _repository(each.words[-1]) in pushed:
                what = (
                    f"{source} gets the name that is pushed, but the job builds {' and '.join(sorted(built))}"
                )
                yield each.finding(what)
    for each in commands:
        name = _repository(each.words[-1])
        if names and all(names) and runs_one(each.words, _PUSHES) and name and name not in names:
            yield each.finding(f"{name} is pushed, but the job builds {' and '.join(sorted(names))}")


def _repository(image: str) -> str:
    """The last part of an image's repository; empty if only a run knows it."""
    name = re.split("[:@]", image.rpartition("/")[2], maxsplit=1)[0]
    return name if _NAME.fullmatch(name) and not name.startswith("-") else ""


def _quoted(
    repository: Repository, workflow: Workflow, job: Job, commands: Sequence[Command]
) -> Iterator[Finding]:
    """A variable in single quotes where AWS expects a name, or sed what to write: it stays as written."""
    scripts = {each.path for each in commands if each.path.endswith((".sh", ".bash"))}
    texts = [(path, 0, repository.script(path) or "") for path in scripts]
    texts += [(placed.path, placed.step.run_line, placed.step.run)
              for placed in repository.everything(workflow, job)]  # fmt: skip
    for path, before, text in texts:
        for node in shell.commands(shell.parse(text)) if "'" in text else ():
            arguments = shell.arguments(node)
            words = [shell.unquoted(each) for each in arguments]
            later = re.search(r"\b(?:envsubst|eval)\b", text)
            for option, value in zip(words, arguments[1:], strict=False):
                said = shell.unquoted(value)
                kept = words[:2] == ["aws", "ecs"] and option in _NAMED and re.search(r"\$\{?\w", said)
                if words[0] == "sed" and not later and (placed_ := _SED_PLACES.match(said)):
                    option = "sed's replacement"
                    kept = re.search(rf"^\s*(?:export |local )?{placed_[2]}=", text, re.MULTILINE)
                if value.type == "raw_string" and kept:
                    what = f"{option} is literally {said}: single quotes keep the variable as it is written"
                    yield Finding(path, before + shell.line_of(value), what)


def _replaces_nothing(repository: Repository, commands: Sequence[Command]) -> Iterator[Finding]:
    """A sed that should put an image into a file of the checkout, which has none of what it looks for."""
    for each in commands:
        *program, script, path = each.words if len(each.words) > 2 else ("", "", "")
        file = posixpath.normpath(posixpath.join(each.directory, path))
        looked_for = _PLAIN_SED.fullmatch(script) if program[:1] == ["sed"] and each.directory else None
        text = repository.script(file) or "" if looked_for is not None else ""
        if (
            looked_for is None
            or "image" not in text
            or looked_for[2] in text
            or not _OF_IMAGES.search(script)
        ):
            continue
        ending, own = re.escape(posixpath.splitext(file)[1]), repository.script(each.path) or ""
        others = [other.words for other in commands if other.words != each.words]
        written = re.search(rf">\s*\S*{ending}", own) or any(
            runs_one(words, _CHECKS_OUT)
            or (file in words and (words[0] != "sed" or looked_for[2] in " ".join(words)))
            for words in others
        )
        if not written:
            yield each.finding(f"sed changes nothing: {file} has no {looked_for[2]}")


#: A substitution by sed whose replacement has a variable, and one of a plain word.
_SED_PLACES = re.compile(r"s([|/#,@])(?:(?!\1).)*\1(?:(?!\1).)*(?<!\\)\$\{?([A-Za-z_]\w*)")
_PLAIN_SED = re.compile(r"s([|/#,@])((?:(?!\1)[\w@{}%<>-])+)\1.*\1g?")
#: What a substitution is about that must not be without effect: the remains of another one do no harm.
_OF_IMAGES = re.compile(r"image|tag|sha|version|digest|build|commit|revision", re.IGNORECASE)
_CHECKS_OUT = ("git checkout", "git switch", "git pull", "git apply")


#: Commands that use the cluster `default` if they name none.
_IN_A_CLUSTER = (*_UPDATE, "aws ecs run-task", "aws ecs describe-services", "aws ecs wait services-stable",
                 "aws ecs describe-tasks", "aws ecs wait tasks-stopped")  # fmt: skip
_VARIABLE = re.compile(r"\$\{\{ *env\.(\w+) *\}\}|\$\{(\w+)\}|\$(\w+)")


def astray(repository: Repository, workflow: Workflow, job: Job, cluster: str) -> Iterator[str]:
    """Commands of a deploy job that use another cluster than other commands on the same service.

    Names that only a run knows are compared if they use the same variables. A name with this environment's
    prefix is its cluster's.
    """
    known, stem = workflow.env | job.env, cluster.rpartition("-")[0]
    first: dict[str, str] = {}
    found: dict[tuple[str, str], str] = {}
    for words in words_of(repository, workflow, job):
        if runs_one(words, _IN_A_CLUSTER):
            text = shell.option(words, "--cluster")
            name = _VARIABLE.sub(lambda one: known.get(next(filter(None, one.groups())), one[0]), text)
            # a variable that is not an option's value may hold options
            more = any(b.startswith("$") and not a.startswith("--") for a, b in pairwise(words))
            service = shell.option(words, "--service", "--services")
            if name or not more:
                found.setdefault((service, name), " ".join(words[:3]))
            if name:
                first.setdefault(service, name)
    for (service, name), command in found.items():
        other = first.get(service, "") if service else ""
        if not name and other:
            yield f"runs `{command}` in the cluster `default` by default, but other commands name {other}"
        elif name and name != other and other and _VARIABLE.findall(name) == _VARIABLE.findall(other):
            yield f"runs `{command}` in the cluster {name}, but other commands name {other}"
        elif stem and name.startswith(f"{stem}-") and name != cluster:
            yield f"runs `{command}` in the cluster {name}, but this environment has {cluster}"


def words_of(repository: Repository, workflow: Workflow, job: Job) -> Iterator[list[str]]:
    """Yield the commands of a job, each as its words."""
    for placed in repository.everything(workflow, job):
        yield from repository.commands(placed.step)


def _unfamiliar(commands: Sequence[Command], prefix: str, families: Collection[str]) -> Iterator[Finding]:
    """A task family that the files declare with a prefix only, and that nothing here registers."""
    families = {*families, *(shell.option(each.words, "--family") for each in commands)}
    for each in commands:
        named = shell.option(each.words, "--task-definition").partition(":")[0]
        if not runs_one(each.words, ("aws ecs",)) or named in families or not _NAME.fullmatch(named):
            continue
        if f"{prefix}-{named}" in families:
            yield each.finding(f"there is no task definition {named}: it is called {prefix}-{named}")


def _up_to_date(repository: Repository, placed: Placed) -> Iterator[Finding]:
    """Goals of `make` that are files or folders of the checkout, so that make never runs their rules."""
    folder, said = placed.step.directory, [*shell.run_by(placed.step.run)]
    first, second, third = (posixpath.normpath(posixpath.join(folder, each)) for each in _MAKEFILES)
    text = repository.script(third) or ""
    phony = re.findall(r"^\.PHONY\s*:((?:.*\\\n)*.*)", text, re.MULTILINE)
    if _MAY_FORCE.search(text) or "$" in "".join(phony) or {first, second} & {*repository.paths}:
        return
    if any(words[:1] and words[0] in _ELSEWHERE for words in said):
        return
    for words in said:
        plain = words[:1] == ["make"] and all(re.fullmatch(r"\w[\w.-]*", each) for each in words)
        for goal in words[1:] if plain else ():
            name, place = re.escape(goal), posixpath.normpath(posixpath.join(folder, goal))
            rules = re.findall(rf"^(?:[^\t\n]*\s)?{name}(?:\s[^\n:]*)?:.*", text, re.MULTILINE)
            bare = rules and all(re.fullmatch(rf"{name}\s*:\s*(?:#.*)?", each) for each in rules)
            there = any(each == place or each.startswith(f"{place}/") for each in repository.paths)
            if there and bare and goal not in " ".join(phony).split():
                what = f"`make {goal}` does nothing: {place} is there, and its rule needs nothing newer"
                yield Finding(placed.path, placed.step.line, what)


#: The names of makefiles, in the order in which make looks for them.
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
#: Commands after which make may read another makefile, or a goal may not be there.
_ELSEWHERE = ("cd", "pushd", "popd", "rm", "rmdir", "mv")
#: What may declare further phony goals, or make every goal anew.
_MAY_FORCE = re.compile(r"^[ \t]*-?s?include\b|always-make|\bMAKEFLAGS\b.*B", re.MULTILINE)


def _strayed(commands: Sequence[Command], prefix: str) -> Iterator[Finding]:
    """A service of this environment that a command looks for in another cluster, or as a task."""
    for each in commands:
        named = shell.option(each.words, "--cluster").rpartition("/")[2]
        service = shell.option(each.words, "--service", "--services")
        elsewhere = re.fullmatch(r"[\w-]+", named) and not named.startswith(f"{prefix}-")
        if runs_one(each.words, ("aws ecs",)) and service.startswith(f"{prefix}-") and elsewhere:
            yield each.finding(f"a service of {prefix} is looked for in the cluster {named}")
        task = shell.option(each.words, "--tasks")
        if runs_one(each.words, _OF_A_TASK) and task.startswith(f"{prefix}-") and _NAME.fullmatch(task):
            yield each.finding(f"there is no task {task}: --tasks takes the ARN that run-task prints")


def _abroad(commands: Sequence[Command], prefix: str) -> Iterator[Finding]:
    """Migrations that all run in the cluster of another environment."""
    stem, _, own = prefix.rpartition("-")
    other = re.compile(rf"{re.escape(stem)}-(?!{re.escape(own)}\b)(?:{ENVIRONMENTS})-[\w-]+")
    starts = [each for each in commands if runs_one(each.words, _RUN_TASK)]
    named = [shell.option(each.words, "--cluster").rpartition("/")[2] for each in starts]
    if stem and starts and all(map(other.fullmatch, named)):
        yield starts[0].finding(f"the migrations run in the cluster {named[0]}, not in one of {prefix}")


def never_run(
    repository: Repository, workflow: Workflow, job: Job, commands: Sequence[Command]
) -> Iterator[Finding]:
    """Yield the commands of a script that put a new revision into a service, if none is ever reached."""
    updates = [each for each in commands if runs_one(each.words, _UPDATE)]
    if updates and all(_is_plain(repository.script(each.path) or "", each.line) for each in updates):
        places = [(each.path, each.line) for each in updates]
        place = unreached(repository, workflow, job, lambda _: False, places)
        if place is not None:
            yield replace(place, what="the service is never updated: no way through the script leads here")


def _is_plain(script: str, line: int) -> bool:
    """Whether a command at a line of a script updates a service outside of `$( )` and pipes."""
    return any(
        shell.line_of(node) == line and not is_within(node, ("command_substitution", "pipeline"))
        for node in shell.commands(shell.parse(script))
        if runs_one(shell.words(node), _UPDATE)
    )


def _uncalled(repository: Repository, commands: Sequence[Command]) -> Iterator[Finding]:
    """A function that updates a service, in a script that never calls it; nothing else deploys one."""
    for each in commands:
        otherwise = not _calls_script(each) and _OTHERWISE.search(" ".join(each.words))
        if otherwise or runs_one(each.words, _UPDATE) or each.words[0] in (*_RUN_PRINTED, "trap"):
            return
    scripts = dict.fromkeys(each.path for each in commands if each.path.endswith((".sh", ".bash")))
    texts = {path: repository.script(path) or "" for path in scripts}
    for path, text in texts.items():
        for node in shell.below(shell.parse(text), "function_definition"):
            name = shell.text_of(node.named_children[0])
            said = sum(
                len(re.findall(rf"(?<![\w-]){re.escape(name)}(?![\w-])", other)) for other in texts.values()
            )
            dynamic = re.search(r'^\s*"?\$[@{*\d]', text, re.MULTILINE)
            updates = any(runs_one(shell.words(each), _UPDATE) for each in shell.commands(node))
            if updates and said == 1 and not dynamic:
                what = f"nothing calls the function {name}: the service is never updated"
                yield Finding(path, shell.line_of(node), what)


def _for_the_end(commands: Sequence[Command]) -> Iterator[Finding]:
    """A wait for the deletion of services that nothing deletes."""
    if not any(_DELETES.search(" ".join(each.words)) for each in commands):
        for each in commands:
            if runs_one(each.words, ("aws ecs wait services-inactive",)):
                what = "services-inactive waits for the deletion of services; use services-stable"
                yield each.finding(what)


def _unawaited(
    repository: Repository, workflow: Workflow, job: Job, commands: Sequence[Command]
) -> Iterator[Finding]:
    """A migration whose exit code is read as soon as its task runs, when there is none yet."""
    texts = [
        repository.script(each) or "" for each in {each.path for each in commands} if each != workflow.path
    ]
    texts += [placed.step.run for placed in repository.everything(workflow, job)]
    if any(map(_LOOPS.search, texts)) or any("tasks-stopped" in each.words for each in commands):
        return
    starts = any(runs_one(each.words, _RUN_TASK) for each in commands)
    for each in commands if starts else ():
        if runs_one(each.words, ("aws ecs wait tasks-running",)):
            yield each.finding("the exit code is read once the task runs, before it has one: "
                               "tasks-stopped waits for it")  # fmt: skip

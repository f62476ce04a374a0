"""The plan's record against the repository: rollback steps, verified without taking them, and decisions."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pytest_readiness import SetupError

from smoke.source.checkout import Checkout, Finding, GitRefused, git
from smoke.source.infrastructure.definitions import Definitions
from smoke.source.infrastructure.tasks import repository
from smoke.source.scripts import shell
from smoke.source.terraform import values
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.references import entries, items, referenced
from smoke.source.terraform.values import Value, decoded, text

from .repository import Repository
from .workflows import Job, Workflow


@dataclass(frozen=True, slots=True)
class Edit:
    """A value to restore: of a key in a YAML file, or the group `value` of a pattern. "" removes it."""

    file: str
    to: str
    key: str = ""
    pattern: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.key or self.name or self.pattern}"

    def current(self, text: str) -> str:
        """The current value; "" for a missing key.

        SetupError if a pattern of the plan does not match exactly once, or the file cannot be read.
        """
        if self.key:
            try:
                node = _at(yaml.compose(text, Loader=yaml.SafeLoader), self.key)[1]
            except yaml.YAMLError as error:
                where = " ".join(str(error).split())
                raise SetupError(
                    f"not examined: {self}: the file is not one YAML document: {where}"
                ) from error
            if node is None and _inherited(text, self.key):
                raise SetupError(f"not examined: {self}: its value comes from a merge (<<) or an alias")
            return "" if node is None else str(node.value)
        found = list(re.finditer(self.pattern, text, re.MULTILINE | re.DOTALL))
        if len(found) != 1:
            raise SetupError(
                f"not examined: {self}: the pattern is found {len(found)} times, not once\n"
                "correct the pattern in [facts.rollback] of readiness.toml"
            )
        return str(found[0]["value"])

    def taken(self, text: str) -> str:
        """Return the file's text with the step taken."""
        if not self.key:
            found = re.search(self.pattern, text, re.MULTILINE | re.DOTALL)
            assert found is not None, f"{self}: not found"
            return text[: found.start("value")] + self.to + text[found.end("value") :]
        name, value = _at(yaml.compose(text, Loader=yaml.SafeLoader), self.key)
        assert name is not None, f"{self}: there is no such key"
        assert value is not None
        if self.to:
            return text[: value.start_mark.index] + self.to + text[value.end_mark.index :]
        start, end = name.start_mark.index, value.end_mark.index
        lines = text.splitlines(keepends=True)
        to_the_end = re.compile(r"[ \t]*(?:#.*)?$", re.MULTILINE).match(text, end)
        first, last = name.start_mark.line, value.end_mark.line
        if not lines[first][: name.start_mark.column].strip() and (to_the_end or not value.end_mark.column):
            return "".join([*lines[:first], *lines[last + (value.end_mark.column > 0) :]])
        # among others in `{ }`: the comma after it is removed as well, or the one before the last entry
        if behind := re.compile(r"\s*,\s*").match(text, end):
            return text[:start] + text[behind.end() :]
        return re.sub(r"\s*,\s*\Z", "", text[:start]) + text[end:]


def edits(entries: Iterable[Mapping[str, Any]]) -> list[Edit]:
    """Read rollback steps from the plan's facts. SetupError for a malformed one."""
    found = []
    for entry in entries:
        known = {"file", "to", "key", "pattern", "name"}
        if set(entry) - known or not entry.get("file") or ("key" in entry) == ("pattern" in entry):
            raise SetupError(
                f"[facts.rollback] in the plan: malformed step {dict(entry)}\n"
                "allowed: file, to, and one of key (of a YAML file) and pattern (with a group named value)"
            )
        found.append(Edit(**{name: str(value) for name, value in entry.items()}))
    return found


def verify(step: Edit, text: str) -> tuple[str, str]:
    """Return a value before and after its step. AssertionError unless the step is possible and exact."""
    current = step.current(text)
    assert current, f"{step}: there is no value to revert"
    assert current != step.to, f"{step}: already is {step.to}, so there is nothing to revert"
    after = step.taken(text)
    reached = step.current(after)
    assert reached == step.to, f"{step}: reads {reached!r} after the step, expected {step.to!r}"
    if step.key:
        expected = yaml.safe_load(text)
        _put(expected, step.key, step.to)
        assert _without_empty(yaml.safe_load(after)) == _without_empty(expected), (
            f"{step}: the step changes more of the file than this key"
        )
    return current, reached


@dataclass(frozen=True, slots=True)
class Launch:
    """The commit that the plan would revert, and `found`: how it was found."""

    commit: str
    subject: str
    found: str


@dataclass(frozen=True, slots=True)
class Reverted:
    """A revert that applied: the commit, and the files that it changed in the scratch worktree."""

    commit: str
    subject: str
    files: tuple[str, ...]


def launch(checkout: Checkout, facts: Mapping[str, Any]) -> Launch:
    """Find the commit by the plan's `launch_commit` (an id) or `launch_subject` (a pattern of its subject).

    SetupError if that matches no commit of the history, or several: a mistake in the plan is not the
    platform's fault.
    """
    commit, pattern = str(facts.get("launch_commit", "")), str(facts.get("launch_subject", ""))
    if bool(commit) == bool(pattern):
        raise SetupError("[facts.rollback] in the plan: give one of launch_commit and launch_subject")
    try:
        return _by_subject(checkout, pattern) if pattern else _by_id(checkout, commit)
    except LookupError as missing:
        shallow = git(checkout.root, "rev-parse", "--is-shallow-repository").strip() == "true"
        next_step = "the checkout is shallow: fetch its full history" if shallow else "correct the plan"
        raise SetupError(f"not examined: {missing}\n{next_step}") from missing


def _by_id(checkout: Checkout, commit: str) -> Launch:
    if not re.fullmatch(r"[0-9a-f]{7,64}", commit):
        raise SetupError(
            f"[facts.rollback] launch_commit: {commit!r} is not a commit's id of 7 or more hex digits\n"
            "a pattern of its subject line goes into launch_subject"
        )
    try:
        full = git(checkout.root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").strip()
        git(checkout.root, "merge-base", "--is-ancestor", full, "HEAD")
    except GitRefused:
        raise LookupError(f"launch_commit {commit} is not in the history of the checkout") from None
    subject = git(checkout.root, "show", "--no-patch", "--format=%s", full).strip()
    return Launch(full, subject, f"by its id {commit}")


def _by_subject(checkout: Checkout, pattern: str) -> Launch:
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise SetupError(f"[facts.rollback] launch_subject: {pattern!r} is not a pattern: {error}") from error
    history = git(checkout.root, "log", "-z", "--format=%H%n%s%n%b").split("\0")
    commits = [entry.split("\n", 2) for entry in filter(None, history)]
    found = [(commit, subject) for commit, subject, _ in commits if wanted.search(subject)]
    if len(found) > 1:
        first = "; ".join(f"{commit[:12]} {subject}" for commit, subject in found[:5])
        raise LookupError(f"launch_subject {pattern!r} matches {len(found)} subject lines: {first}")
    if found:
        return Launch(*found[0], f"the only one of {len(commits)} subject lines that matches {pattern!r}")
    for commit, subject, body in commits:
        if line := next((line.strip() for line in body.splitlines() if wanted.search(line)), ""):
            raise LookupError(
                f"the launch was squashed into {commit[:12]} ({subject}), see {line!r} in its message: "
                "reverting it undoes more than the launch; if that is intended, name it by launch_commit"
            )
    raise LookupError(f"launch_subject {pattern!r} matches none of {len(commits)} subject lines")


def revert(checkout: Checkout, commit: str, worktree: Path) -> Reverted:
    """Revert a commit in a scratch worktree. AssertionError names the files in conflict."""
    parents = git(checkout.root, "rev-list", "--parents", "--max-count=1", commit).split()[1:]
    if not parents:
        shallow = git(checkout.root, "rev-parse", "--is-shallow-repository").strip() == "true"
        if shallow:
            raise SetupError(
                f"the checkout is shallow: the parent of {commit[:12]} is missing; fetch its history"
            )
        raise AssertionError(f"{commit[:12]} is the first commit: reverting it removes everything")
    mainline = ("--mainline", "1") if len(parents) > 1 else ()
    subject = git(checkout.root, "show", "--no-patch", "--format=%s", commit).strip()
    try:
        git(worktree, "revert", "--no-commit", *mainline, commit)
    except GitRefused as refusal:
        conflicts = git(worktree, "diff", "--name-only", "--diff-filter=U").split("\n")
        where = ", ".join(filter(None, conflicts)) or str(refusal)
        raise AssertionError(f"git revert {commit[:12]} ({subject}) does not apply: {where}") from refusal
    files = tuple(filter(None, git(worktree, "diff", "--name-only", "HEAD").split("\n")))
    assert files, f"git revert {commit[:12]} ({subject}) changes nothing"
    return Reverted(commit, subject, files)


def _at(node: yaml.Node | None, key: str) -> tuple[yaml.Node | None, yaml.Node | None]:
    """The nodes of a dotted key and of its value, (None, None) if it is missing or null."""
    name: yaml.Node | None = None
    for part in key.split("."):
        entries = node.value if isinstance(node, yaml.MappingNode) else ()
        name, node = next(((k, v) for k, v in entries if k.value == part), (None, None))
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return None, None
    return name, node


def _inherited(text: str, key: str) -> bool:
    """Whether a missing key gets a value from a merge."""
    found = yaml.safe_load(text)
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found is not None


def _without_empty(data: Any) -> Any:
    """The data without empty mappings: removing the only key of a block leaves null there."""
    if not isinstance(data, dict):
        return data
    found = {key: _without_empty(value) for key, value in data.items()}
    return {key: value for key, value in found.items() if value is not None} or None


def _put(data: Any, key: str, value: str) -> None:
    *path, last = key.split(".")
    for part in path:
        data = data[part]
    if value:
        data[last] = yaml.safe_load(value)
    else:
        del data[last]


_SOURCE = re.compile(r"\bsource:\s*([\w-]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table, at `line` of the notes; `source` is the source that its rationale names."""

    line: int
    date: str
    decision: str
    rationale: str

    @property
    def source(self) -> str:
        """The row's source in lower case; empty if it does not say."""
        found = _SOURCE.search(self.rationale)
        return found.group(1).lower() if found else ""

    @property
    def key(self) -> tuple[str, str]:
        """The identity of a decision: its date and its text."""
        return self.date, " ".join(self.decision.split())


#: Column headings of a decision's table.
_COLUMNS = {"date": "date", "when": "date", "decision": "decision", "decided": "decision", "what": "decision",
            "rationale": "rationale", "reason": "rationale", "why": "rationale"}  # fmt: skip
_HIDDEN = re.compile(r"<!--.*?-->|^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"(#+)\s+(.*?)[\s#]*")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+\W*(\d{4}-\d\d-\d\d)\W+(.*)")
_NOTHING = re.compile(r"\W*(?:none|n/?a|no decisions?|nothing)?\W*", re.IGNORECASE)


def rows(text: str) -> Iterator[Row]:
    """Yield the decisions under a heading "Decisions": rows of tables, and items that begin with a date.

    LookupError if there is no such heading, or other text below it.
    """
    found, sections, level = 0, 0, 0
    others: list[int] = []
    columns: list[str] = []
    for number, line in _shown(text):
        if heading := _HEADING.fullmatch(line):
            here = re.fullmatch(r"decisions?(?: log)?", re.sub(r"[^\w ]", "", heading[2]).strip().lower())
            if here or len(heading[1]) <= level:
                level = len(heading[1]) if here else 0
                sections += here is not None
            columns = []
        elif level and not _NOTHING.fullmatch(line):
            cells = [
                cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))
            ]
            named = [_COLUMNS.get(cell.strip("*_ ").lower(), "") for cell in cells]
            if "decision" in named and len(cells) > 1:
                columns = named
            elif columns and len(cells) >= len(columns):
                row = dict(zip(columns, cells, strict=False))
                found += 1
                yield Row(number, row.get("date", ""), row["decision"], row.get("rationale", ""))
            elif item := _ITEM.fullmatch(line):
                found += 1
                yield Row(number, item[1], item[2], item[2])
            else:
                others.append(number)
    if not sections:
        raise LookupError("no heading says Decisions")
    if others and not found:
        raise LookupError(
            f"line {others[0]}, below Decisions, is neither a table row nor an item with a date"
        )


def _shown(text: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, without code and comments; an underlined heading is one with `#`."""
    lines = _HIDDEN.sub(lambda found: "\n" * found[0].count("\n"), text).splitlines()
    for number, line in enumerate(lines, 1):
        under = lines[number] if number < len(lines) else ""
        if re.fullmatch(r"-{3,}|={3,}", under.strip()) and "|" not in line and line.strip():
            yield number, f"# {line}" if "=" in under else f"## {line}"
        elif not re.fullmatch(r"[-=|: ]*", line):
            yield number, line


#: With this few images, or days, none is left for a rollback or a new task.
_FEWEST_IMAGES, _FEWEST_DAYS = 2, 7


def expiring(configuration: Configuration, defined: Definitions) -> Iterator[Finding]:
    """Return the lifecycle policies that delete an image while it is needed: in use, or for a rollback.

    ECR also counts images in use. The matching rule with the lowest priority number decides.
    """
    boxes = (box for each in defined.definitions for box in each.containers)
    used = {repository(image) for box in boxes for image in box.images}
    for policy in configuration.of_type("aws_ecr_lifecycle_policy"):
        of = policy.attribute("repository")
        kept = referenced(of)
        name = kept.attribute("name") if kept is not None else of
        if name is None or text(name) not in used or policy.uncertain:
            continue
        for document in items(policy.attribute("policy")):
            yield from (policy.finding(f"{policy.address} {what}", document) for what in lost(document))


def lost(policy: Value) -> Iterator[str]:
    """Images that a lifecycle policy, given as JSON, deletes too early."""
    rules = [entries(rule) for rule in items(entries(decoded(policy)).get("rules"))]
    if all("rulePriority" in each for each in rules):
        yield from _lost(sorted(rules, key=lambda each: values.number(each["rulePriority"]) or 0))


def _lost(rules: Sequence[Mapping[str, Value]]) -> Iterator[str]:
    """Images that the first rule for commit tags deletes too early, if known.

    A rule for other tags may keep images in use, because a moving tag often marks these. An image must match
    all of a rule's patterns, or prefixes.
    """
    for rule in rules:
        chosen = entries(rule.get("selection"))
        status = text(chosen.get("tagStatus"))
        patterns = [text(each) for each in items(chosen.get("tagPatternList"))]
        prefixes = [text(each) for each in items(chosen.get("tagPrefixList"))]
        archived = text(chosen.get("storageClass")) == "archive"
        if status == "untagged" or archived:
            continue
        limit = values.number(chosen.get("countNumber"))
        by, unit = text(chosen.get("countType")), text(chosen.get("countUnit"))
        if (status != "any" and (prefixes or {*patterns} != {"*"})) or limit is None:
            return
        if by == "imageCountMoreThan" and limit < _FEWEST_IMAGES:
            yield f"keeps {limit:g} image, so there is none to roll back to"
        elif by == "sinceImagePushed" and unit in ("", "day", "days") and limit < _FEWEST_DAYS:
            moved = text(entries(rule.get("action")).get("type")) == "transition"
            what = "archives" if moved else "deletes"
            yield f"{what} an image after {limit:g} days, even if it is in use"
        return


#: A revision of a task definition, after its family.
_REVISION = re.compile(r".+:(?:\d+|\$.*)|\$.*")
#: An operator's input that names a build.
_CHOSEN = re.compile(r"inputs\.\w*(?:tag|sha|image|version|commit|ref|digest|revision)", re.IGNORECASE)
_BACK = re.compile(r"roll[-_ ]?back|\b(?:back|revert|restore|undo)\b", re.IGNORECASE)


def goes_back(repository: Repository, workflow: Workflow, job: Job) -> bool:
    """Whether a job is a rollback: an operator starts it, and its name says so.

    It runs an old revision, or the build that the operator names.
    """
    asked = {*workflow.triggers} <= {"workflow_dispatch", "repository_dispatch"}
    if not asked or not _BACK.search(f"{workflow.name} {job.name}"):
        return False
    steps = [placed.step for placed in repository.everything(workflow, job)]
    texts = [text for step in steps for text in (step.run, *step.env.values(), *step.given.values())]
    if any(map(_CHOSEN.search, (*texts, *job.env.values(), *job.given.values(), *workflow.env.values()))):
        return True
    words = [each for step in steps for each in repository.commands(step)]
    updates = [each for each in words if shell.runs(each, "aws ecs update-service")]
    made = any(shell.runs(each, "aws ecs register-task-definition") for each in words)
    given = [shell.option(each, "--task-definition") for each in updates]
    return bool(given) and not made and all(map(_REVISION.fullmatch, given))

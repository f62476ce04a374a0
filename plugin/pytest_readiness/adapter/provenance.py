"""The context of a run: its suite, builds, CI job, and the history of past runs and self-tests.

Also finds assertions in the suite's source that cannot fail, and tests that another definition replaced.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from ..core.classify import failure_of
from ..core.errors import LedgerError, ReadinessError
from ..core.formats import suite_digest, utc_now
from ..core.history import RUNS, is_enough
from ..core.model import Scope
from ..ledger import Ledger, open_ledger, read_history, refuse_broken
from ..profile import LARGEST_RECORD, known_profiles, read_file
from .context import RunContext

DEADLINE_S = 5.0
_LEFT_OUT = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
SELF_TEST_NAME, MUTANTS_NAME = "self-test.json", "mutants.json"
_QUOTED = (
    *("detected", "total", "false_alarms", "uncovered", "clean_runs"),
    *("date", "catalogue_digest", "suite_digest"),
)


class History:
    """Read before the run, so that an unusable ledger is a usage error and not a surprise at the end.

    A run reads the end of the ledger; with ``--gate``, meant for launches, it verifies all of it.
    """

    def __init__(self, context: RunContext, environment: str) -> None:
        self.url = context.settings.ledger_url or context.plan.ledger_url
        self._context = context
        self._root = context.settings.root
        self._own = environment
        self.ledger: Ledger = open_ledger(self.url, self._root, self._own)
        context.notes.extend(
            f"run {late} was BROKEN and killed before its end; it is in the ledger now"
            for late in self.ledger.settle()
        )
        if context.settings.gate:
            refuse_broken(self.ledger.verify(), self.ledger.location)
        self.entries = {self._own: self._read(self._own)}
        #: Every other known environment -> whether it is live.
        self.environments = {
            found.name: found.live
            for found in known_profiles(self._root, context.schema, os.environ)
            if found.name != self._own
        }
        self._read_others()
        self._self_test = self._proved()

    def refresh(self) -> None:
        """Read this environment's ledger again: another run may have ended since this one began.

        If it can no longer be read, it cannot be written either; the end of the run reports that.
        """
        with contextlib.suppress(LedgerError):
            if self.ledger.recent(1) != self.entries[self._own][-1:]:
                self.entries[self._own] = self._read(self._own)

    def has(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether the ledger's newest entries contain a run with the same end and verdict."""
        known = [each for each in self.entries[self._own] if each["run_id"] == entry["run_id"]]
        return bool(known) and all(known[-1][key] == entry[key] for key in ("finished_at", "verdict"))

    def record(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Append this run's entry and return it as recorded."""
        recorded = self.ledger.append(entry)
        self._context.notes.extend(self.ledger.notes)
        return recorded

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Store the entry of this run, already BROKEN, in case it is killed; failures are noted."""
        try:
            self.ledger.announce(entry)
        except LedgerError as problem:
            self._context.notes.append(str(problem).splitlines()[0])

    def self_test(self) -> Mapping[str, Any] | None:
        """Return the last self-test's result for this suite, or None."""
        return self._self_test

    def _proved(self) -> Mapping[str, Any] | None:
        """Read the last self-test. If it tested another suite, it is not quoted, and a note is added."""
        found = self._record(SELF_TEST_NAME, Scope.FULL.value)
        if found is None:
            return None
        mutants = self._record(MUTANTS_NAME, "all", "a sample of") or {}
        settings = self._context.settings
        if found.get("suite_digest") != digest_of((settings.root / self._context.plan.suite).resolve()):
            self._context.notes.append(
                f"the self-test of {found.get('date')} is not quoted: it tested another state of the suite"
                " (readiness self-test tests this one)"
            )
            return None
        quoted = {key: found.get(key) for key in _QUOTED}
        if mutants.get("suite_digest") == found["suite_digest"]:
            quoted["mutants"] = {
                key: mutants.get(key) for key in ("scope", "score", "killed", "total", "equivalent", "date")
            }
        return quoted

    def _record(self, name: str, *scopes: str) -> dict[str, Any] | None:
        """Return a self-test's record if its scope is one of these, else None."""
        path = self._context.settings.reports / name
        if not path.is_file():
            return None
        try:
            found = json.loads(read_file(path, LARGEST_RECORD))
        except (OSError, ValueError, RecursionError) as problem:
            self._context.notes.append(f"{path.name} cannot be read: {problem}")
            return None
        return found if isinstance(found, dict) and str(found.get("scope")).startswith(scopes) else None

    def _read(self, name: str) -> list[dict[str, Any]]:
        """Return as much of an environment's history as the judgement needs."""
        policy, now = self._context.plan.policy, utc_now()
        ledger = open_ledger(self.url, self._root, name)
        return read_history(ledger, name, lambda own: is_enough(own, policy, now), RUNS)

    def _read_others(self) -> None:
        """Read the other environments' histories if that needs no network; failures are only noted."""
        if not self.url.startswith("file:"):
            return
        for name in self.environments:
            try:
                self.entries[name] = self._read(name)
            except LedgerError as problem:
                self._context.notes.append(f"history of {name} left out: {str(problem).splitlines()[0]}")


def build_identity(config: pytest.Config, context: RunContext, moment: str) -> Mapping[str, str]:
    """Return service -> build id from the hook, {} without a hook; problems are noted."""
    answers: list[Mapping[str, str]] = []
    problems: list[str] = []

    def call() -> None:
        try:
            answer = config.hook.pytest_readiness_build_identity(environment=context.environment)
            if not isinstance(answer, Mapping | None):
                raise TypeError(
                    f"pytest_readiness_build_identity returned {type(answer).__name__},"
                    f" not a mapping of service to build"
                )
            answers.append({str(name): str(build or "") for name, build in (answer or {}).items()})
        except BaseException as problem:  # in a separate thread, no exception ends the run
            problems.append(failure_of(problem, str(context.settings.root)))

    asker = threading.Thread(target=call, name="readiness-build-identity", daemon=True)
    asker.start()
    asker.join(DEADLINE_S)
    if asker.is_alive():
        problems.append(f"no answer within {DEADLINE_S:.0f} s")
    for problem in problems:
        context.notes.append(
            context.redactor.shown(f"build identity unknown at the {moment} of the run: {problem}")
        )
    return answers[0] if answers else {}


def digest_of(suite: Path) -> str:
    """Return the digest of all files in the suite's directory, without caches and hidden files.

    ReadinessError if one cannot be read.
    """
    try:
        return suite_digest(
            {
                path.relative_to(suite).as_posix(): path.read_bytes()
                for path in sorted(suite.rglob("*"))
                if path.is_file() and not _is_left_out(path.relative_to(suite))
            }
        )
    except OSError as problem:
        raise ReadinessError(
            f"cannot be read: {problem.strerror}",
            where=str(problem.filename),
            allowed="files of the suite that this user may read",
            action="correct their permissions",
        ) from problem


def checkout_of(places: Sequence[str]) -> str:
    """Name the checkout among these places by its commit, if git can tell."""
    for place in places:
        if not Path(place).expanduser().is_dir():
            continue
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            described = subprocess.run(
                ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"],  # noqa: S607
                cwd=Path(place).expanduser(),
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=True,
            )
            return f"checkout {described.stdout.strip()}"
    return "the platform's own checkout"


def problems_of(suite: Path, name: str, tests: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the problems in the source of each of a suite's modules, by path."""
    found = {
        f"{name}/{path.relative_to(suite).as_posix()}": source_problems(path.read_bytes(), tests)
        for path in sorted(suite.rglob("*.py"))
        if path.is_file() and not _is_left_out(path.relative_to(suite))
    }
    return {path: problems for path, problems in found.items() if problems}


def runner(environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL of this CI job; "" outside a CI, or if the CI does not provide it."""
    if environ.get("GITHUB_RUN_ID"):
        parts = (environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", ""), "actions/runs")
        return "/".join((*parts, environ["GITHUB_RUN_ID"]))
    return environ.get("CI_JOB_URL") or environ.get("BUILD_URL") or ""


def _is_left_out(path: Path) -> bool:
    return any(part in _LEFT_OUT or part.startswith(".") for part in path.parts)


#: Expressions that are always true in an assertion: ``assert (1 == 2, "no")`` compares nothing.
_ALWAYS_TRUE = (ast.Lambda, ast.GeneratorExp, ast.JoinedStr)
#: A module without any of these need not be parsed, which would take longer than collecting it.
_SUSPECT = re.compile(r"\bassert\s*(?:\(|lambda\b|[rbfRBF]{0,2}['\"])")
_DEFINED = re.compile(r"\b(?:def|class)\s+(\w+)")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@lru_cache(maxsize=1024)  # for the runs of a self-test, which are forked from one that has read the suite
def source_problems(source: bytes, names: tuple[str, ...] = ("test",)) -> tuple[str, ...]:
    """Return problems in a module with their lines: assertions that are always true, tests defined twice.

    ``names`` are the prefixes of test names. A module that cannot be parsed is reported elsewhere.
    """
    text = source.decode(errors="replace")
    if not _SUSPECT.search(text) and not _repeated(text, names):
        return ()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    return (*_hollow(tree), *_doubled(tree.body, names))


def _repeated(text: str, names: tuple[str, ...]) -> bool:
    """Tell whether a text contains the name of a test more than once."""
    tests = {name for name in _DEFINED.findall(text) if name.lower().startswith(names)}
    words = Counter(re.findall(r"\w+", text)) if tests else Counter[str]()
    return any(words[name] > 1 for name in tests)


def _hollow(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and _is_always_true(node.test):
            yield f"line {node.lineno}: this assertion is always true: {_shortened(node.test)}"


def _is_always_true(test: ast.expr) -> bool:
    if isinstance(test, ast.Tuple):
        return bool(test.elts)
    return isinstance(test, _ALWAYS_TRUE) or (isinstance(test, ast.Constant) and isinstance(test.value, str))


def _doubled(body: list[ast.stmt], names: tuple[str, ...]) -> Iterator[str]:
    """Find a test whose name is bound again in the same block; definitions in branches are ignored."""
    found: dict[str, int] = {}
    for node in body:
        for name in _bound(node):
            if name in found:
                yield f"line {node.lineno}: {name} replaces that of line {found[name]}, which is never run"
        if isinstance(node, _DEFINITIONS) and node.name.lower().startswith(names):
            found[node.name] = node.lineno
        if isinstance(node, ast.ClassDef):
            yield from _doubled(node.body, names)


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, _DEFINITIONS):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Delete):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _shortened(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:60]}…"

"""Where a run stands: its suite, its builds, its CI job, and the history of past runs and self-tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ..core.errors import LedgerError
from ..core.formats import suite_digest, text_of
from ..core.model import Scope
from ..core.sources import source_problems
from ..ledger import Ledger, open_ledger, read_history
from ..profile.project import LARGEST_RECORD, known_profiles, read_file
from .context import RunContext

DEADLINE_S = 5.0
_LEFT_OUT = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
SELF_TEST_NAME, MUTANTS_NAME = "self-test.json", "mutants.json"
_QUOTED = ("detected", "total", "false_alarms", "clean_runs", "date", "catalogue_digest", "suite_digest")


class History:
    """Read before the run, so that an unusable ledger is a usage error and not a surprise at its end."""

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
        self.entries: dict[str, list[dict[str, Any]]] = dict(read_history(self.url, self._root, [self._own]))
        #: Every known environment but this one -> whether it is live.
        self.environments = {
            found.name: found.live
            for found in known_profiles(self._root, context.schema, os.environ)
            if found.name != self._own
        }
        self._read_others()
        self._self_test = self._proved()

    def refresh(self) -> None:
        """Read this environment's ledger again: another run may have ended since this one began.

        One that cannot be read any more cannot be written either, which the end of the run finds.
        """
        with contextlib.suppress(LedgerError):
            self.entries.update(read_history(self.url, self._root, [self._own]))

    def record(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Append this run's entry and return it as recorded."""
        recorded = self.ledger.append(entry)
        self._context.notes.extend(self.ledger.notes)
        return recorded

    def announce(self, entry: Mapping[str, Any]) -> None:
        """Keep the entry of this run, BROKEN before its end, whatever becomes of it; failures are noted."""
        try:
            self.ledger.announce(entry)
        except LedgerError as problem:
            self._context.notes.append(str(problem).splitlines()[0])

    def self_test(self) -> Mapping[str, Any] | None:
        """Return what the last self-test proved of this suite; None when there is none to quote."""
        return self._self_test

    def _proved(self) -> Mapping[str, Any] | None:
        """Read the last self-test; that of another suite proves nothing here, and a note explains it."""
        found = self._record(SELF_TEST_NAME, Scope.FULL.value)
        if found is None:
            return None
        mutants = self._record(MUTANTS_NAME, "all") or {}
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
                key: mutants.get(key) for key in ("score", "killed", "total", "equivalent", "date")
            }
        return quoted

    def _record(self, name: str, scope: str) -> dict[str, Any] | None:
        """Return what a self-test wrote, None when there is nothing of that scope."""
        path = self._context.settings.reports / name
        if not path.is_file():
            return None
        try:
            found = json.loads(read_file(path, LARGEST_RECORD))
        except (OSError, ValueError, RecursionError) as problem:
            self._context.notes.append(f"{path.name} cannot be read: {problem}")
            return None
        return found if isinstance(found, dict) and found.get("scope") == scope else None

    def _read_others(self) -> None:
        """Read the other environments' histories where that needs no network; failures are only noted."""
        if not self.url.startswith("file:"):
            return
        for name in self.environments:
            try:
                self.entries.update(read_history(self.url, self._root, [name]))
            except LedgerError as problem:
                self._context.notes.append(f"history of {name} left out: {str(problem).splitlines()[0]}")


def build_identity(config: pytest.Config, context: RunContext, moment: str) -> Mapping[str, str]:
    """Return service -> build id from the hook, {} when no hook answers; what went wrong is noted."""
    answers: list[Mapping[str, str]] = []
    problems: list[str] = []

    def call() -> None:
        try:
            answer = config.hook.pytest_readiness_build_identity(environment=context.environment)
            answers.append({str(name): str(build or "") for name, build in (answer or {}).items()})
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as problem:
            problems.append(f"{type(problem).__name__}: {text_of(problem)}")

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
    """Return the digest of all files under the suite's directory, caches and hidden files left out."""
    return suite_digest(
        {
            path.relative_to(suite).as_posix(): path.read_bytes()
            for path in sorted(suite.rglob("*"))
            if path.is_file() and not _is_left_out(path.relative_to(suite))
        }
    )


def checkout_of(places: Sequence[str]) -> str:
    """Name the checkout that is among these places by its commit, as far as git can tell."""
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


def problems_of(suite: Path, name: str, tests: tuple[str, ...]) -> dict[str, list[str]]:
    """Return what the source of each module of a suite says against its checks, by the module's path."""
    found = {
        f"{name}/{path.relative_to(suite).as_posix()}": source_problems(path.read_bytes(), tests)
        for path in sorted(suite.rglob("*.py"))
        if path.is_file() and not _is_left_out(path.relative_to(suite))
    }
    return {path: problems for path, problems in found.items() if problems}


def runner(environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the CI job that runs this, "" outside a CI that names it."""
    if environ.get("GITHUB_RUN_ID"):
        parts = (environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", ""), "actions/runs")
        return "/".join((*parts, environ["GITHUB_RUN_ID"]))
    return environ.get("CI_JOB_URL") or environ.get("BUILD_URL") or ""


def _is_left_out(path: Path) -> bool:
    return any(part in _LEFT_OUT or part.startswith(".") for part in path.parts)

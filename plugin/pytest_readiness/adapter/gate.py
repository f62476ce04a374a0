"""The end of a run on the controller: judge, write, record, and set the exit status."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import pytest

from ..core.assess import belongs_in_ledger, entry_of
from ..core.classify import place_of
from ..core.errors import LedgerError, ReadinessError
from ..core.formats import canonical_json
from ..core.model import Verdict
from ..core.verdict import exit_code
from ..report import (
    ATTESTATION_NAME,
    JSON_NAME,
    NAMES,
    append_summary,
    attest,
    exports,
    github,
    terminal,
    write_all,
)
from . import channels
from .context import RunContext
from .judgement import Judge
from .outcomes import Tally
from .reports import REPLACED, USAGE_ERROR, Reports, unfinished

INTERNAL_ERROR = 3


class Gate:
    """Sets the exit status from the verdict, once all other plugins have set theirs."""

    def __init__(
        self, config: pytest.Config, context: RunContext, tally: Tally, judge: Judge, reports: Reports
    ) -> None:
        self._config = config
        self._reports = reports
        self._context = context
        self._tally = tally
        self._judge = judge
        self._model: Mapping[str, Any] | None = None
        self._failed = self._failure = ""
        self._said = False
        self._announced = False
        #: Why there is no job summary; the verdict stands without.
        self._beside: list[str] = []
        # What pytest remembers of earlier runs, the tests of other suites among them, is not this run's.
        self._earlier = {path: frozenset(_entries(path)) for path in channels.files(config)}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool | None:
        """Ask for the builds before the first check; under ``--gate``, run nothing of a partial run."""
        if self._tally.collection_errors:
            return None
        if (
            self._context.settings.gate
            and self._judge.is_partial
            and not self._context.settings.is_distributed
        ):
            return True
        self._judge.begin()
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Make it lasting that a run is BROKEN, as soon as it is: nothing may undo that, not even a kill."""
        if not report.failed or self._announced:
            return
        entry = self._judge.entry_so_far()
        if entry is not None:
            self._announced = True
            self._judge.history.announce(self._fit(entry))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Judge and report after all plain hooks, among them the one with which pytest-rerunfailures sets 7.

        A fault of the runner, such as a full disk, leaves no verdict. An error of our own is shown and exits
        3: it must never read as a failed test.
        """
        if not self._context.origin.is_here:
            return (yield)
        stopped = session.shouldfail or session.shouldstop
        if stopped and not self._tally.collection_errors:
            self._tally.interrupted = self._tally.interrupted or str(stopped)
        result = None
        try:
            result = yield
        except BaseException as problem:
            self._tally.failed_at_the_end(problem, place_of(problem, str(self._context.settings.root)))
        try:
            self._model = self._finish(int(session.exitstatus))
            self._reports.code = int(self._model["exit_code"])
            self._beside = [self._sign(self._model), append_summary(self._model, self._context.redactor)]
        except (ReadinessError, OSError) as problem:
            self._give_up(problem)
        except Exception:
            self._fail()
        session.exitstatus = self._reports.answer(int(session.exitstatus))
        return result

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the answer at the end of pytest's own summary."""
        self._said = True
        if self._failure:
            terminalreporter.write_sep("=", f"readiness: {self._failed}", red=True)
            terminalreporter.write_line(self._failure)
        elif self._model is not None:
            terminalreporter.write_sep("=", "launch readiness")
            first, *others = self._lines(self._model)
            terminalreporter.write_line(first, bold=True, **{terminal.colour(self._model): True})
            for line in others:
                terminalreporter.write_line(line)

    @pytest.hookimpl
    def pytest_unconfigure(self) -> None:
        """Print to stderr what no terminal summary said: without a terminal, or after an internal error."""
        if self._said or not self._context.origin.is_here:
            return
        if self._failure:
            sys.stderr.write(f"readiness: {self._failed}\n{self._failure}\n")
        elif self._model is not None:
            sys.stderr.write("\n".join(self._lines(self._model)) + "\n")

    def _give_up(self, problem: ReadinessError | OSError) -> None:
        """End without a verdict for a fault of the runner's."""
        if isinstance(problem, OSError):
            problem = ReadinessError(
                f"the run could not be finished: {problem.strerror or type(problem).__name__}",
                where=str(problem.filename or "this runner"),
                action="free space or correct permissions there, then run again",
            )
        self._model = None
        self._failed, self._failure = "NO_VERDICT", self._context.redactor.shown(str(problem))
        self._withdraw(self._failure.splitlines()[0], exit_code(Verdict.NO_VERDICT))

    def _fail(self) -> None:
        """End without a verdict for an error of our own."""
        self._model = None
        self._failed = "internal error, there is no verdict"
        self._failure = self._context.redactor.shown(traceback.format_exc())
        why = f"internal error: {self._failure.strip().splitlines()[-1]}"
        self._withdraw(why, INTERNAL_ERROR)

    def _withdraw(self, why: str, code: int) -> None:
        """Take back what may already tell a verdict, in the reports and in pytest's JUnit file."""
        self._reports.withdraw(why, code)
        made = unfinished(self._context.settings, self._context.run_id, why)
        with contextlib.suppress(OSError):
            self._annotate({**made, "exit_code": code})

    def _finish(self, status: int) -> Mapping[str, Any]:
        self._reports.settle(full=not self._judge.is_partial and status != USAGE_ERROR)
        model = self._described(self._judge.model(), status)
        leaked = self._write(model)
        if leaked:
            for page in self._pages():  # written before the leak was found, with another verdict on top
                page.unlink(missing_ok=True)
            model = self._described(self._judge.withhold(leaked), status)
        entry = entry_of(model) if belongs_in_ledger(model) else None
        if leaked and JSON_NAME in self._write(model):
            reason = f"a live secret was found in {', '.join(leaked)}; withheld"
            settings, run_id = self._context.settings, self._context.run_id
            model = self._described(unfinished(settings, run_id, reason, Verdict.BROKEN), status)
            self._write(model)
        if entry is not None and (status in REPLACED or model["verdict"] == Verdict.BROKEN):
            self._record(model, entry)
            with contextlib.suppress(ReadinessError):  # what it says is written; only its place is not
                self._write(model)
        return model

    def _sign(self, model: Mapping[str, Any]) -> str:
        """Sign the verdict, where that is asked for. A run that cannot be signed may be BROKEN, no better."""
        if self._context.signer is None:
            return ""
        try:
            attest(model, self._reports.directory, self._context.signer, self._context.redactor)
        except ReadinessError as problem:
            if model["verdict"] != Verdict.BROKEN:
                raise
            return self._context.redactor.shown(f"not signed: {str(problem).splitlines()[0]}")
        return ""

    def _record(self, model: dict[str, Any], entry: Mapping[str, Any]) -> None:
        """Append the run to the ledger. A run that cannot be recorded may be BROKEN, but nothing better."""
        try:
            recorded = self._judge.history.record(self._fit(entry))
            model["ledger"] = {**model.get("ledger", {}), "seq": recorded["seq"], "hash": recorded["hash"]}
        except LedgerError as problem:
            if model["verdict"] != Verdict.BROKEN:
                raise
            self._context.notes.append(f"not recorded: {str(problem).splitlines()[0]}")
        model["notes"] = self._context.redactor.data([*dict.fromkeys(self._context.notes)])

    def _fit(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an entry that holds no live secret: what leaks in a report is no better in a ledger."""
        leaks = self._context.redactor.leaks(canonical_json(entry))
        return {**entry, "checks": [], "goals": {}} if leaks else entry

    def _described(self, model: Mapping[str, Any], status: int) -> dict[str, Any]:
        """Return the model with the exit status: the verdict's, unless pytest's is not ours to replace.

        Failed tests outside the suite are no checks, but a run with one never exits 0.
        """
        code = int(model["exit_code"]) if status in REPLACED else status
        if code == 0 and self._tally.foreign_failures(self._judge.checks()):
            code = 1
        return {**model, "exit_code": code}

    def _write(self, model: Mapping[str, Any]) -> list[str]:
        """Write all reports, take away artifacts that hold a live secret; return the names of those."""
        formats = self._context.settings.formats
        leaked = write_all(model, self._reports.directory, self._context.redactor, formats)
        self._annotate(model)
        for path in (*self._foreign_artifacts(), *channels.files(self._config)):
            if self._context.redactor.leaks(self._written(path)):
                path.unlink()
                leaked.append(path.name)
        return leaked

    def _annotate(self, model: Mapping[str, Any]) -> None:
        """Say in pytest's JUnit file, where it wrote one, what the verdict makes of each test."""
        for path in self._named_by("xmlpath"):
            if path.is_file():
                prefix = self._config.getoption("junitprefix", None) or ""
                with contextlib.suppress(ParseError):  # another plugin has changed the file: it stays so
                    path.write_bytes(exports.annotated(path.read_bytes(), model, prefix))

    def _written(self, path: Path) -> bytes:
        """Return what this run wrote into a file."""
        if earlier := self._earlier.get(path):
            return b"\n".join(entry for entry in _entries(path) if entry not in earlier)
        return _content(path)

    def _foreign_artifacts(self) -> Sequence[Path]:
        return [*self._pages(), *self._named_by("xmlpath")]

    def _pages(self) -> Sequence[Path]:
        return self._named_by("htmlpath")

    def _named_by(self, option: str) -> Sequence[Path]:
        path = self._config.getoption(option, None)
        return [self._config.invocation_params.dir / str(path)] if path else []

    def _lines(self, model: Mapping[str, Any]) -> list[str]:
        written = [path for path in (*self._own_reports(), *self._foreign_artifacts()) if path.is_file()]
        shown = terminal.lines(model, reports=[str(path) for path in dict.fromkeys(written)])
        causes = github.commands(model) if os.environ.get(github.ACTIONS) == "true" else []
        return [*shown, *filter(None, self._beside), *causes]

    def _own_reports(self) -> list[Path]:
        return [self._reports.directory / name for name in (*NAMES, ATTESTATION_NAME)]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _entries(path: Path) -> list[bytes]:
    """Return the lines of a file; in JSON, the last of a list has no comma until another follows it."""
    return [line.rstrip(b",") for line in _content(path).splitlines()]

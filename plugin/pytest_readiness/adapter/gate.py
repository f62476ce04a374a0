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
from ..core.errors import LedgerError, ReadinessError, remedy
from ..core.formats import canonical_json, digest
from ..core.model import Verdict
from ..core.verdict import exit_code
from ..report import (
    ATTESTATION_NAME,
    JSON_NAME,
    NAMES,
    Drafts,
    append_summary,
    attest,
    exports,
    markdown,
    terminal,
)
from . import channels
from .context import RunContext
from .judgement import Judge, leave
from .outcomes import Tally
from .reports import REPLACED, USAGE_ERROR, Reports, unfinished

INTERNAL_ERROR = 3
_UNKNOWN_SEQ = 718_281_828_459_045_235


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
        #: Placeholders in the reports for the run's place in the ledger, until that is known.
        self._place = {"seq": _UNKNOWN_SEQ, "hash": digest(f"place of {context.run_id}")}
        #: Why there is no job summary; the verdict does not depend on it.
        self._beside: list[str] = []
        # pytest's cache of earlier runs also holds other suites' tests, which are not part of this run.
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
            self._tally.unreported_because = "the gate refused the run, so nothing was run"
            return True
        self._judge.begin()
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record at once that a run is BROKEN, so that nothing can undo that, not even a kill."""
        if not report.failed or self._announced:
            return
        entry = self._judge.entry_so_far(report.nodeid)
        if entry is not None:
            self._announced = True
            self._judge.history.announce(self._fit(entry))

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Judge and report after all plain hooks, including the one in which pytest-rerunfailures sets 7.

        A fault of the runner, such as a full disk, leaves no verdict. The plugin's own error is shown and
        exits 3: it must never look like a failed test.
        """
        if not self._context.origin.is_here:
            return (yield)
        stopped = session.shouldfail or session.shouldstop
        if stopped and not self._tally.collection_errors:
            self._tally.interrupted = self._tally.interrupted or str(stopped)
        result, failed = None, False
        try:
            result = yield
        except BaseException as problem:
            failed = True
            self._tally.failed_at_the_end(problem, place_of(problem, str(self._context.settings.root)))
        try:
            if failed and self._judge.has_judged:
                self._remove_pages()
                self._judge.again(interrupted=self._tally.interrupted)
            status = int(session.exitstatus)
            self._model = self._finish(status)
            leave(self._context, self._judge, self._tally, status)
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
        """Print the verdict at the end of pytest's own summary."""
        self._said = True
        if self._failure:
            terminalreporter.write_sep("=", f"readiness: {self._failed}", red=True)
            terminalreporter.write_line(self._failure)
        elif (model := self._answer) is not None:
            terminalreporter.write_sep("=", "launch readiness")
            first, *others = self._lines(model)
            terminalreporter.write_line(first, bold=True, **{terminal.colour(model): True})
            for line in others:
                terminalreporter.write_line(line)

    @pytest.hookimpl
    def pytest_unconfigure(self) -> None:
        """Print to stderr what no terminal summary did: without a terminal, or after an internal error."""
        if self._said or not self._context.origin.is_here:
            return
        if self._failure:
            sys.stderr.write(f"readiness: {self._failed}\n{self._failure}\n")
        elif (model := self._answer) is not None:
            sys.stderr.write("\n".join(self._lines(model)) + "\n")

    @property
    def _answer(self) -> Mapping[str, Any] | None:
        """The text printed at the end; empty for a usage error, which pytest itself reports."""
        return None if self._model is None or self._model["exit_code"] == USAGE_ERROR else self._model

    def _give_up(self, problem: ReadinessError | OSError) -> None:
        """End without a verdict because of the runner."""
        if isinstance(problem, OSError):
            problem = ReadinessError(
                f"the run could not be finished: {problem.strerror or type(problem).__name__}",
                where=str(problem.filename or "this runner"),
                action=f"{remedy(problem)}, then run again",
            )
        self._model = None
        self._failed, self._failure = "NO_VERDICT", self._context.redactor.shown(str(problem))
        self._withdraw(self._failure.splitlines()[0], exit_code(Verdict.NO_VERDICT))

    def _fail(self) -> None:
        """End without a verdict because of an error in the plugin."""
        self._model = None
        self._failed = "internal error, there is no verdict"
        self._failure = self._context.redactor.shown(traceback.format_exc())
        why = f"internal error: {self._failure.strip().splitlines()[-1]}"
        self._withdraw(why, INTERNAL_ERROR)

    def _withdraw(self, why: str, code: int) -> None:
        """Remove a verdict that may already be in the reports and in pytest's JUnit file."""
        self._reports.withdraw(why, code)
        made = unfinished(self._context.settings, self._context.run_id, why)
        with contextlib.suppress(OSError):
            self._annotate({**made, "exit_code": code})

    def _finish(self, status: int) -> Mapping[str, Any]:
        self._reports.settle(full=not self._judge.is_partial and status != USAGE_ERROR)
        if status == USAGE_ERROR and (problem := self._judge.checks().problem):
            return self._refuse(problem)
        model = self._described(self._judge.model(), status)
        drafts = self._draft(self._placed(model, status))
        leaked = [*drafts.leaked, *self._leaking(model)]
        if leaked:
            self._remove_pages()
            model = self._described(self._judge.again(leaked=tuple(leaked)), status)
            drafts = self._draft(self._placed(model, status), drafts)
            self._leaking(model)
        entry = entry_of(model) if self._is_recorded(model, status) else None
        if leaked and JSON_NAME in drafts.leaked:
            reason = f"a live secret was found in {', '.join(leaked)}; withheld"
            settings, run_id = self._context.settings, self._context.run_id
            model = self._described(unfinished(settings, run_id, reason, Verdict.BROKEN), status)
            drafts = self._draft(model, drafts)
            self._leaking(model)
        if entry is None:
            drafts.publish()
            return model
        drafted = self._placed(model, status)
        try:
            self._record(model, entry)
        except BaseException:
            drafts.drop()
            raise
        recorded = model.get("ledger", {})
        if {**model, "ledger": {**recorded, **self._place}} != drafted:  # there is more to say
            drafts = self._draft(model, drafts)
        drafts.publish({str(unknown): str(recorded.get(key)) for key, unknown in self._place.items()})
        return model

    def _refuse(self, problem: str) -> Mapping[str, Any]:
        """Report a run that bad input ended after collection like one that it ended earlier."""
        reason = f"usage error: {self._context.redactor.shown(problem).partition(chr(10))[0]}"
        model = self._described(unfinished(self._context.settings, self._context.run_id, reason), USAGE_ERROR)
        self._draft(model).publish()
        self._leaking(model)
        return model

    def _is_recorded(self, model: Mapping[str, Any], status: int) -> bool:
        return belongs_in_ledger(model) and (status in REPLACED or model["verdict"] == Verdict.BROKEN)

    def _placed(self, model: Mapping[str, Any], status: int) -> Mapping[str, Any]:
        """Return the model with placeholders for its place in the ledger."""
        if not self._is_recorded(model, status):
            return model
        return {**model, "ledger": {**model.get("ledger", {}), **self._place}}

    def _draft(self, model: Mapping[str, Any], before: Drafts | None = None) -> Drafts:
        """Prepare the reports that replace those in ``before``.

        They are published once the run is recorded; a run that cannot write its reports is not recorded.
        """
        if before is not None:
            before.drop()
        formats = self._context.settings.formats
        return Drafts(model, self._reports.directory, self._context.redactor, formats)

    def _sign(self, model: Mapping[str, Any]) -> str:
        """Sign the verdict if requested. If that fails, the run may be BROKEN, but nothing better."""
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
        """Append the run to the ledger. A run that cannot be recorded may be BROKEN, but nothing better.

        Merging the same shards again with the same verdict counts as the same run. If the shards ran again,
        the run has another end time and is appended.
        """
        if self._context.settings.merge and self._judge.history.has(entry):
            self._context.notes.append(f"run {entry['run_id']} is in the ledger already: not appended again")
            model["notes"] = self._context.redactor.data([*dict.fromkeys(self._context.notes)])
            return
        try:
            recorded = self._judge.history.record(self._fit(entry))
            model["ledger"] = {**model.get("ledger", {}), "seq": recorded["seq"], "hash": recorded["hash"]}
        except LedgerError as problem:
            if model["verdict"] != Verdict.BROKEN:
                raise
            self._context.notes.append(f"not recorded: {str(problem).splitlines()[0]}")
        model["notes"] = self._context.redactor.data([*dict.fromkeys(self._context.notes)])

    def _fit(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the entry without live secrets: a leak is as bad in the ledger as in a report."""
        leaks = self._context.redactor.leaks(canonical_json(entry))
        return {**entry, "checks": [], "goals": {}} if leaks else entry

    def _described(self, model: Mapping[str, Any], status: int) -> dict[str, Any]:
        """Return the model with the exit status: the verdict's, unless pytest's status must stay.

        Failed tests outside the suite are not checks, but a run with one never exits 0.
        """
        code = int(model["exit_code"]) if status in REPLACED else status
        if code == 0 and self._tally.foreign_failures(self._judge.checks()):
            code = 1
        return {**model, "exit_code": code}

    def _leaking(self, model: Mapping[str, Any]) -> list[str]:
        """Remove others' files with a live secret, including pytest-html's page; return their names."""
        self._annotate(model)
        leaked = []
        for path in (*self._foreign_artifacts(), *channels.files(self._config)):
            if self._context.redactor.leaks(self._written(path)):
                path.unlink()
                leaked.append(path.name)
        return leaked

    def _annotate(self, model: Mapping[str, Any]) -> None:
        """Add each check's result to pytest's JUnit file, if it wrote one."""
        for path in self._named_by("xmlpath"):
            if path.is_file():
                prefix = self._config.getoption("junitprefix", None) or ""
                with contextlib.suppress(ParseError):  # another plugin has changed the file: leave it alone
                    path.write_bytes(exports.annotated(path.read_bytes(), model, prefix))

    def _written(self, path: Path) -> bytes:
        """Return the content that this run wrote into a file."""
        if earlier := self._earlier.get(path):
            return b"\n".join(entry for entry in _entries(path) if entry not in earlier)
        return _content(path)

    def _foreign_artifacts(self) -> Sequence[Path]:
        return [*self._pages(), *self._named_by("xmlpath")]

    def _remove_pages(self) -> None:
        """Remove pytest-html's page, which shows the verdict before facts changed."""
        for page in self._pages():
            page.unlink(missing_ok=True)

    def _pages(self) -> Sequence[Path]:
        return self._named_by("htmlpath")

    def _named_by(self, option: str) -> Sequence[Path]:
        path = self._config.getoption(option, None)
        return [self._config.invocation_params.dir / str(path)] if path else []

    def _lines(self, model: Mapping[str, Any]) -> list[str]:
        own = (self._reports.directory / name for name in (*NAMES, ATTESTATION_NAME))
        written = [path for path in (*own, *self._foreign_artifacts()) if path.is_file()]
        shown = terminal.lines(model, reports=[str(path) for path in dict.fromkeys(written)])
        causes = markdown.workflow_commands(model) if os.environ.get(markdown.ACTIONS) == "true" else []
        return [*shown, *filter(None, self._beside), *causes]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _entries(path: Path) -> list[bytes]:
    """Return the lines of a file; in JSON, the last entry of a list has no comma until another follows."""
    return [line.rstrip(b",") for line in _content(path).splitlines()]

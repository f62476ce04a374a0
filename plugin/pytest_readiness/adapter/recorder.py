"""Facts about each check, attached to its reports in the process that ran it."""

from __future__ import annotations

from collections.abc import Generator
from itertools import takewhile
from typing import Any

import pytest

from .. import NothingMeasured, SafetyViolation
from ..core.classify import DECLARED, classify, is_passing, peer_of, place_of
from ..core.formats import text_of
from ..core.model import UNREAD, FailureClass, Outcome
from .checks import Check, Down, Refusal, refuse
from .context import CHECK, EVIDENCE, PARTS, PASSING, REFUSAL, RunContext
from .evidence import EvidenceLog, Parts
from .limits import Repetition

SUMMARY_LIMIT = 300


class Recorder:
    """Runs beside each check: gates it, demands a measurement of it, and puts plain facts on its reports."""

    def __init__(self, context: RunContext, repetition: Repetition) -> None:
        self._context = context
        self._repetition = repetition

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Start an attempt with an empty log, or skip the check before any of its fixtures is set up."""
        check = item.stash.get(CHECK, None)
        if check is None:
            return
        item.stash[EVIDENCE] = EvidenceLog(self._context.redactor)
        item.stash[PASSING] = True
        refusal = item.stash.get(REFUSAL, None) or self._refusal(check)
        if refusal is not None:
            item.stash[REFUSAL] = refusal
            pytest.skip(refusal.reason)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail a check whose function was not called, or that measured nothing."""
        result = yield
        if CHECK not in item.stash:
            return result
        parts = item.stash.get(PARTS, None)
        is_plain = isinstance(item, pytest.Function) and type(item).runtest is pytest.Function.runtest
        if is_plain and parts is not None and not parts.ran:
            raise NothingMeasured("its function was not called: a conftest or a plugin ran something else")
        if not self._context.plan.policy.require_evidence:
            return result
        if not item.stash[EVIDENCE].measured:
            raise NothingMeasured(
                "the check passed but measured nothing: record an exchange, a figure or an evaluated rule"
            )
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach the facts."""
        parts = item.stash.get(PARTS, None)
        is_part = parts is not None and parts.running
        raised = call.excinfo = call.excinfo or (None if is_part else _swallowed(parts))
        if raised is not None:
            _give_text(raised.value)
        report = yield
        check = item.stash.get(CHECK, None)
        if check is None:
            return report
        # a hook may have thought better of it
        if raised is not None and report.passed and not hasattr(report, "wasxfail"):
            report.outcome, report.longrepr = "failed", item.repr_failure(raised)
        exception = raised.value if raised and report.failed else None
        if report.failed:
            passing = exception is not None and is_passing(exception)
            item.stash[PASSING] = passing and item.stash.get(PASSING, False)
            self._repetition.restrict(item)
        if parts is not None and is_part:
            parts.failures += [exception] if exception is not None else []
            parts.skipped = parts.skipped or (_summary(report, call) if report.skipped else "")
        evidence = item.stash[EVIDENCE].take() if EVIDENCE in item.stash and not is_part else []
        facts: dict[str, Any] = {"attempt": getattr(item, "execution_count", 1)}
        if check.establishes:
            facts |= {"check_id": check.id, "establishes": [*check.establishes]}
        if evidence:
            facts["evidence"] = evidence
        if is_part or not report.passed or hasattr(report, "wasxfail"):
            facts["part"] = is_part
            self._describe(facts, item, check, call, report, exception)
        report.readiness = facts  # type: ignore[attr-defined]
        return report

    def _describe(
        self,
        facts: dict[str, Any],
        item: pytest.Item,
        check: Check,
        call: pytest.CallInfo[None],
        report: pytest.TestReport,
        exception: BaseException | None,
    ) -> None:
        """Add what a phase has to tell that did not simply pass."""
        summary = self._context.redactor.shown(f"{self._peer(exception)}{_summary(report, call)}")
        if report.failed and (unread := _unread(summary)):
            notes = [{"kind": "note", "text": line} for line in unread]
            facts["evidence"] = [*facts.get("evidence", ()), *notes]
        facts |= {
            "check_id": check.id,
            "goal": check.goal,
            "phase": check.phase,
            "severity": str(check.severity),
            "class": None,
            "summary": _line(summary),
            "requires": [*check.requires],
            "covered_by": check.covered_by,
            "applicable": True,
            "drill": check.drill,
            "safety": isinstance(exception, SafetyViolation),
            "not_run": False,
            "where": "",
            "cause": "",
            "raised": exception is not None,
        }
        refusal = item.stash.get(REFUSAL, None)
        if refusal is not None and report.skipped:
            facts.update(_described(refusal))
        elif exception is not None:
            facts["class"] = self._class_of(exception, facts, item.config)
            facts["where"] = place_of(exception, str(self._context.settings.root)) or check.where
            facts["cause"] = self._context.redactor.shown(text_of(getattr(exception, "breaks", "")))
        elif report.failed:
            facts["class"], facts["where"] = str(FailureClass.CHECK_ERROR), check.where

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down what a check establishes once it has finally failed, or was itself not run."""
        facts = getattr(report, "readiness", None)
        if facts and not facts.get("part") and (report.failed or facts.get("not_run")):
            for capability in facts.get("establishes", ()):
                self._context.down.setdefault(capability, Down(facts["check_id"], facts.get("summary", "")))

    def _refusal(self, check: Check) -> Refusal | None:
        context = self._context
        return refuse(check, drills=context.settings.drills, down=context.down, offer=context.availability)

    def _peer(self, exception: BaseException | None) -> str:
        """Return which host a failure of the network is about, and the setting that names it."""
        peer = peer_of(exception) if exception is not None else None
        if peer is None or peer[0] in text_of(exception):
            return ""
        environment = self._context.environment
        setting = environment.profile.setting_of(*peer) if environment is not None else ""
        host = peer[0] if peer[1] is None else f"{peer[0]}:{peer[1]}"
        return f"{host} ({setting}): " if setting else f"{host}: "

    def _class_of(self, exception: BaseException, facts: dict[str, Any], config: pytest.Config) -> str:
        named = config.hook.pytest_readiness_classify(exception=exception, check=facts)
        if named is None:
            return str(classify(exception))
        if named not in DECLARED:
            allowed = ", ".join(DECLARED)
            raise ValueError(f"pytest_readiness_classify returned {named!r}; allowed: {allowed}")
        return str(named)


def _swallowed(parts: Parts | None) -> pytest.ExceptionInfo[BaseException] | None:
    """Return what ended a phase without reaching pytest: a hook caught it."""
    return pytest.ExceptionInfo.from_exception(parts.raised) if parts and parts.raised else None


def _give_text(exception: BaseException) -> None:
    """Give an exception without a text one: other plugins would break the run on it."""
    kind = type(exception)
    try:
        str(exception), repr(exception)
    except Exception:
        text = text_of(exception)
        members = {"__str__": lambda _: text, "__repr__": lambda _: text, "__module__": kind.__module__}
        exception.__class__ = type(kind.__name__, (kind,), members)


def _described(refusal: Refusal) -> dict[str, Any]:
    return {
        "not_run": refusal.outcome is Outcome.NOT_RUN,
        "applicable": refusal.applicable,
        "class": str(refusal.failure_class) if refusal.failure_class else None,
        "summary": refusal.reason,
        "cause": refusal.cause,
    }


def _summary(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    """Return a text whose first line says how a phase ended; nothing for one that passed."""
    if hasattr(report, "wasxfail"):
        kind = "expected to fail" if report.skipped else "passed although expected to fail"
        return f"{kind}: {report.wasxfail or 'no reason given'}"
    if report.passed:
        return ""
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    if call.excinfo is None:
        return report.longreprtext  # strict xpass: no exception, only a text
    message = _message(call.excinfo.value)
    return f"in {call.when}: {message}" if call.when != "call" else message


def _message(exception: BaseException) -> str:
    name = "" if type(exception) is AssertionError else type(exception).__name__
    return ": ".join(filter(None, (name, text_of(exception).strip()))) or type(exception).__name__


def _unread(text: str) -> list[str]:
    """Return each place that a failure says was not examined: those below the first line would be lost."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    starts = [n for n, line in enumerate(lines) if UNREAD in line]
    if not starts:
        return []
    found = takewhile(lambda line: not line.startswith("assert "), lines[starts[0] :])
    return [line if UNREAD in line else f"{UNREAD}: {line}" for line in found]


def _line(text: str) -> str:
    """Return the first line, cut: of a text without secrets, since half of one would not be recognised."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first if len(first) <= SUMMARY_LIMIT else f"{first[:SUMMARY_LIMIT]}…"

"""One platform on which faults are tried one after the other, with proof that none leaves anything behind."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ..core.model import Outcome
from .catalogue import Fault
from .control import Control
from .errors import PlatformError
from .judging import Alarm, Finding, alarms, judge
from .logs import last_words
from .platform import Address, Platform
from .runner import Runner

_SEQUENCE = count(1)
_NO_PAGE = ("-p", "no:html")
#: A fault that is on stays on until it is cleared, so an attempt right after the first one meets what an
#: attempt a second later would. Where a flaky check is expected, time matters: there the usual delay stays.
_AT_ONCE = ("--reruns", "1", "--reruns-delay", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What every platform of a self-test shares: the plan's command, the suite, and where to keep files."""

    command: tuple[str, ...]
    root: Path
    suite: str
    work: Path
    runner: Runner
    stopping: threading.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRun:
    """A run on a platform without a fault: ``whole`` of the suite, or of what the last faults selected."""

    name: str
    whole: bool
    checks: int
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A fault after which the platform was not what it had been: ``what`` differs or failed."""

    fault: str
    what: str

    def as_data(self) -> dict[str, str]:
        """Return it as one row of self-test.json."""
        return {"fault": self.fault, "what": self.what}


class Bench:
    """A platform, replaced when it does not come back to the state of its boot. For one thread at a time."""

    def __init__(self, number: int, setup: Setup) -> None:
        self.name = f"platform {number}"
        self._log = setup.work / f"platform-{number}.log"
        self._setup = setup
        self._platform: Platform | None = None
        self._address = Address(profile="", control="", env={})
        self._control = Control("")
        self._at_boot = ""
        #: Wall seconds by what they went into, and the suite digests that the runs reported.
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.suite_digests: set[str] = set()

    def boot(self) -> None:
        """Start the platform and note its state. Raises PlatformError, also while the self-test stops."""
        with self._timed("boot"):
            self._platform = Platform(self._setup.command, self._setup.root, self._log)
            if (
                self._setup.stopping.is_set()
            ):  # asked after the start: who sets it closes every bench afterwards
                self.close()
                raise PlatformError("the self-test is stopping")
            self._address = self._platform.await_ready()
            self._control = Control(self._address.control)
            self._at_boot = self._control.state()

    def close(self) -> None:
        """Stop the platform. A second call does nothing."""
        platform, self._platform = self._platform, None
        if platform is not None:
            platform.stop()

    def attempt(self, fault: Fault) -> tuple[Finding, Leak | None]:
        """Try one fault: what the suite said to it, and what it left behind, if anything.

        Raises PlatformError only when a platform that had to be replaced does not start again.
        """
        began = time.monotonic()
        try:
            with self._timed("set"):
                self._control.set(fault.id, fault.params)
            delay = () if any(check.outcome == Outcome.FLAKY for check in fault.checks) else _AT_ONCE
            with self._timed("faults"):
                model = self._run(fault.select, (*delay, *fault.args))
            finding = judge(fault, model, seconds=time.monotonic() - began)
        except _NoReport as problem:
            finding = Finding(fault=fault, detected=False, why=str(problem), seconds=time.monotonic() - began)
        except PlatformError as problem:
            finding = Finding(fault=fault, detected=False, why=problem.what, seconds=time.monotonic() - began)
        return finding, self._restore(fault)

    def clean_run(self, name: str, selections: Sequence[Sequence[str]] = ()) -> CleanRun:
        """Run these selections, or the whole suite, without a fault: every red check is a false alarm.

        A selection is what pytest is told beyond the options of every run.
        """
        found: list[Alarm] = []
        checks = 0
        with self._timed("control runs" if selections else "clean runs"):
            for selection in selections or [(self._setup.suite,)]:
                try:
                    model = self._run(selection, ())
                except _NoReport as problem:
                    found.append(Alarm(run=name, check="", summary=str(problem)))
                    continue
                found += alarms(name, model)
                checks += len(model["checks"])
        return CleanRun(name=name, whole=not selections, checks=checks, alarms=tuple(found))

    def refresh(self) -> Leak | None:
        """Bring back the state of the boot after clean runs; replace a platform that does not come back."""
        return self._restore(None)

    def _restore(self, fault: Fault | None) -> Leak | None:
        leaked = ""
        with self._timed("reset"):
            try:
                if fault is not None:
                    self._control.clear(fault.id)
                state = self._control.reset()
                if state != self._at_boot:
                    leaked = f"{state} after the reset, {self._at_boot} after the boot"
            except PlatformError as problem:
                leaked = problem.what
        if not leaked:
            return None
        self.close()
        self.boot()
        return Leak(fault=fault.id if fault is not None else "a clean run", what=leaked)

    def _run(self, words: Sequence[str], options: Sequence[str]) -> Mapping[str, Any]:
        """Run the suite and return its readiness.json. Raises _NoReport with the run's last words."""
        setup, address = self._setup, self._address
        place = setup.work / f"run-{next(_SEQUENCE)}"
        place.mkdir()
        arguments = [
            *("--env", address.profile, "--readiness-dir", str(place)),
            *("--readiness-ledger", f"file:{place / 'ledger.jsonl'}", "--basetemp", str(place / "tmp")),
            *("-o", f"cache_dir={setup.work / 'cache'}", *_NO_PAGE, *options, *words),
        ]
        try:
            ended = setup.runner.run(arguments, address.env, place / "log")
            self.spent["CPU of the suite"] += ended.cpu_s
            model = _report(place, ended.code)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if model.get("suite_digest"):
            self.suite_digests.add(model["suite_digest"])
        return model

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.spent[what] += time.monotonic() - began


class _NoReport(Exception):
    """A run that left no report, or one that cannot be read."""


def _report(place: Path, code: int) -> Mapping[str, Any]:
    model: object = None
    with suppress(OSError, ValueError):
        model = json.loads((place / "readiness.json").read_text(encoding="utf-8"))
    if not isinstance(model, dict) or not {"checks", "verdict"} <= model.keys():
        raise _NoReport(f"the run left no report (exit code {code}): {last_words(place / 'log')}")
    # a pipeline goes by the exit code: a report that says otherwise proves nothing
    if model.get("exit_code") != code:
        raise _NoReport(
            f"exit code {code}, the report says {model.get('exit_code')}: {last_words(place / 'log')}"
        )
    return model

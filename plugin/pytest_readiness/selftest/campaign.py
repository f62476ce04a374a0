"""Tries all faults on several platforms at once, with runs in between that must be green without a fault.

Each worker has its own platform, tries faults on it one after the other, and checks that none leaves a trace.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeAlias, TypeVar

from ..core.assess import UNFINISHED, UNJUDGED
from ..core.model import Outcome
from ..core.plan import Plan
from ..report import report_of
from .catalogue import FalseAlarm, Fault, Finding, false_alarms, judge_fault
from .platform import Address, Control, Platform, PlatformError, Refused, last_words
from .runner import Runner

T = TypeVar("T")
_SEQUENCE = count(1)
_NO_PAGE = ("-p", "no:html")
#: A fault stays on until it is cleared, so a rerun at once finds the same as one a second later. If a flaky
#: check is expected, time matters, and the usual delay stays.
_AT_ONCE = ("--reruns", "1", "--reruns-delay", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all platforms of a self-test share: the plan's command, the suite, and the directory for files.

    The command takes ``--variant ID`` if the plan has variants, and ``ID,ID`` if these have groups.
    """

    command: tuple[str, ...]
    root: Path
    suite: str
    work: Path
    runner: Runner
    stopping: threading.Event

    @classmethod
    def of(cls, plan: Plan, root: Path, work: Path, runner: Runner) -> Setup:
        """Return the setup from a plan, for one self-test."""
        return cls(
            command=plan.self_test.platform,
            root=root,
            suite=plan.suite,
            work=work,
            runner=runner,
            stopping=threading.Event(),
        )


#: When a clean run takes place: before the faults, after them, on a clean variant.
When: TypeAlias = Literal["before", "after", "variant", "control"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRun:
    """A run without a fault: of the suite, or (``control``) of the last faults' checks."""

    name: str
    when: When
    checks: int
    alarms: tuple[FalseAlarm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A fault that left the platform changed: ``what`` says what differs or failed."""

    fault: str
    what: str

    def as_data(self) -> dict[str, str]:
        """Return it as one row of self-test.json."""
        return {"fault": self.fault, "what": self.what}


class Worker:
    """A platform, replaced if it does not return to its boot state. Not thread-safe."""

    def __init__(self, number: int, setup: Setup) -> None:
        self.name = f"platform {number}"
        self._log = setup.work / f"platform-{number}.log"
        self._setup = setup
        self._platform: Platform | None = None
        self._address = Address(profile="", control="", env={})
        self.control = Control("")
        self._at_boot = ""
        #: Its clean variant, "" for none.
        self.variant = ""
        #: Wall seconds by activity, and the suite digests that the runs reported.
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.suite_digests: set[str] = set()

    def boot(self, variant: str = "") -> None:
        """Start the platform, or a variant of it (several: ``ID,ID``), and note its state.

        Raises PlatformError, also while the self-test stops.
        """
        self.variant, chosen = variant, ("--variant", variant) if variant else ()
        with self.timed("boot"):
            self._platform = Platform((*self._setup.command, *chosen), self._setup.root, self._log)
            if (
                self._setup.stopping.is_set()
            ):  # checked after the start: whoever sets it then closes every worker
                self.close()
                raise PlatformError("the self-test is stopping")
            self._address = self._platform.await_ready()
            self.control = Control(self._address.control)
            self._at_boot = self.control.state()

    @property
    def is_up(self) -> bool:
        """Whether the platform was started and not stopped since."""
        return self._platform is not None

    def close(self) -> None:
        """Stop the platform. A second call does nothing."""
        platform, self._platform = self._platform, None
        if platform is not None:
            platform.stop()

    def attempt(self, fault: Fault) -> tuple[Finding, Leak | None]:
        """Try one fault; return the suite's finding, and what the fault left behind, if anything.

        Raises PlatformError only if a platform that had to be replaced does not start again.
        """
        began = time.monotonic()
        try:
            with self.timed("set"):
                self.control.set(fault.id, fault.params)
            delay = () if any(check.outcome == Outcome.FLAKY for check in fault.checks) else _AT_ONCE
            with self.timed("faults"):
                model = self.suite_run(fault.select, (*delay, *fault.args))
            finding = judge_fault(fault, model, seconds=time.monotonic() - began)
        except NoReport as problem:
            finding = Finding(fault=fault, detected=False, why=str(problem), seconds=time.monotonic() - began)
        except Refused as problem:  # it was never on: there is nothing to clear
            spent = time.monotonic() - began
            refused = Finding(fault=fault, detected=False, refused=True, why=problem.what, seconds=spent)
            return refused, self.restore(None)
        except PlatformError as problem:
            finding = Finding(fault=fault, detected=False, why=problem.what, seconds=time.monotonic() - began)
        return finding, self.restore(fault)

    def clean_run(self, name: str, when: When, selections: Sequence[Sequence[str]] = ()) -> CleanRun:
        """Run the suite, or these selections, without a fault: every red check is a false alarm.

        A selection is a list of pytest arguments in addition to those of every run.
        """
        found: list[FalseAlarm] = []
        checks = 0
        with self.timed("control runs" if selections else "clean runs"):
            for selection in selections or [(self._setup.suite,)]:
                try:
                    model = self.suite_run(selection, ())
                except NoReport as problem:
                    found.append(FalseAlarm(run=name, check="", summary=str(problem)))
                    continue
                found += false_alarms(name, model)
                checks += len(model["checks"])
        return CleanRun(name=name, when=when, checks=checks, alarms=tuple(found))

    def refresh(self) -> Leak | None:
        """Restore the boot state after clean runs; replace a platform that does not return to it."""
        return self.restore(None)

    def restore(self, fault: Fault | None) -> Leak | None:
        """Restore the boot state, on a new platform if necessary; return what was left behind."""
        leaked = ""
        with self.timed("reset"):
            try:
                if fault is not None:
                    self.control.clear(fault.id)
                state = self.control.reset()
                if state != self._at_boot:
                    leaked = f"{state} after the reset, {self._at_boot} after the boot"
            except PlatformError as problem:
                leaked = problem.what
        if not leaked:
            return None
        self.close()
        self.boot(self.variant)
        return Leak(fault=fault.id if fault is not None else "a clean run", what=leaked)

    def suite_run(
        self,
        words: Sequence[str],
        options: Sequence[str],
        plugins: Sequence[object] = (),
        limit_s: float = 0.0,
    ) -> Mapping[str, Any]:
        """Run the suite and return its readiness.json. Raises NoReport with the run's last words."""
        setup, address = self._setup, self._address
        place = setup.work / f"run-{next(_SEQUENCE)}"
        place.mkdir()
        arguments = [
            # joined: pytest looks for the rootdir in every separate word that is a path
            *(f"--env={address.profile}", f"--readiness-dir={place}"),
            *(f"--readiness-ledger=file:{place / 'ledger.jsonl'}", f"--basetemp={place / 'tmp'}"),
            *("-o", f"cache_dir={setup.work / 'cache'}", *_NO_PAGE, *options, *words),
        ]
        try:
            ended = setup.runner.run(arguments, address.env, place / "log", plugins, limit_s)
            self.spent["CPU of the suite"] += ended.cpu_s
            model = _report(place, ended.code)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if model.get("suite_digest"):
            self.suite_digests.add(model["suite_digest"])
        return model

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the block's seconds for this activity."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.spent[what] += time.monotonic() - began


class NoReport(Exception):
    """A run that left no report, one that cannot be read, or one without a judgement."""


def _report(place: Path, code: int) -> Mapping[str, Any]:
    model: object = None
    with suppress(OSError, ValueError):
        model = json.loads(report_of(place).read_text(encoding="utf-8"))
    if not isinstance(model, dict) or not {"checks", "verdict"} <= model.keys():
        raise NoReport(f"the run left no report (exit code {code}): {last_words(place / 'log')}")
    if unjudged := {UNFINISHED, UNJUDGED}.intersection(model.get("reasons", ())):
        raise NoReport(f"{unjudged.pop()}: {last_words(place / 'log')}")
    # a pipeline uses the exit code: a report that contradicts it proves nothing
    if model.get("exit_code") != code:
        raise NoReport(
            f"exit code {code}, the report says {model.get('exit_code')}: {last_words(place / 'log')}"
        )
    return model


#: A control run repeats, without a fault, the checks of this many faults.
CONTROL_EVERY = 60

News: TypeAlias = Finding | Leak | CleanRun


@dataclass(slots=True)
class Results:
    """A campaign's results. ``spent`` are wall seconds of platforms by activity."""

    findings: list[Finding] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    clean_runs: list[CleanRun] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)
    suite_digests: set[str] = field(default_factory=set)

    def add(self, news: News) -> None:
        """Add one result."""
        if isinstance(news, Finding):
            self.findings.append(news)
        elif isinstance(news, Leak):
            self.leaks.append(news)
        else:
            self.clean_runs.append(news)

    def take(self, worker: Worker) -> None:
        """Add a finished platform's seconds by activity."""
        self.suite_digests |= worker.suite_digests
        for what, seconds in worker.spent.items():
            self.spent[what] = self.spent.get(what, 0.0) + seconds


class Campaign:
    """Tries faults. It begins with ``clean_runs`` full runs; with ``ends_whole`` each platform ends with one.

    Otherwise each platform ends with a control run. Finally there is a full run on each of the ``variants``;
    several may be combined, and if that run is red, each is also tried separately. The first ``retries``
    undetected faults are tried once more, after all others.
    """

    def __init__(
        self,
        setup: Setup,
        faults: Sequence[Fault],
        variants: Sequence[tuple[str, ...]],
        *,
        workers: int,
        clean_runs: int,
        ends_whole: bool,
        retries: int,
    ) -> None:
        self._setup = setup
        # Taken from both ends: while one platform waits, the others use the processor.
        self._left = deque(sorted(faults, key=lambda fault: -fault.takes_s))
        self._has_faults = bool(faults)
        self._retries = retries
        self._missed: deque[Finding] = deque()
        self._lock = threading.Lock()
        self._variants = deque(variants)
        self._clean_runs = clean_runs
        self._ends_whole = ends_whole
        self._workers = [Worker(number, setup) for number in range(1, workers + 1)]
        self._news: SimpleQueue[News | BaseException | Worker] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._guarded, args=(worker,), name=f"selftest-{number}", daemon=True)
            for number, worker in enumerate(self._workers, start=1)
        ]

    def run(self, listener: Callable[[News], None]) -> Results:
        """Boot the platforms, try every fault, and report each result to the listener.

        Raises NothingProved if a platform or the runner fails. Every platform is stopped in any case.
        """
        results = Results()
        for thread in self._threads:
            thread.start()
        try:
            working = len(self._workers)
            while working:
                news = self._news.get()
                if isinstance(news, BaseException):
                    raise news
                if isinstance(news, Worker):
                    working -= 1
                    results.take(news)
                else:
                    results.add(news)
                    listener(news)
        finally:
            self._stop()
        return results

    def _stop(self) -> None:
        self._setup.stopping.set()
        self._setup.runner.close()
        closers = [threading.Thread(target=worker.close) for worker in self._workers]
        for thread in closers:
            thread.start()
        for thread in [*closers, *self._threads]:
            thread.join()

    def _guarded(self, worker: Worker) -> None:
        try:
            self._work(worker)
        except BaseException as problem:  # passed to the thread that waits for results
            self._news.put(problem)
        finally:
            worker.close()

    def _work(self, worker: Worker) -> None:
        if self._has_faults:
            self._try_faults(worker)
        while (variants := self._take(self._variants.popleft)) is not None:
            worker.close()
            worker.boot(",".join(variants))
            run = worker.clean_run(f"variant {', '.join(variants)}", "variant")
            self._tell(run)
            if run.alarms and len(variants) > 1:
                self._variants.extend((each,) for each in variants)
        self._news.put(worker)

    def _try_faults(self, worker: Worker) -> None:
        worker.boot()
        if worker is self._workers[-1]:
            for number in range(1, self._clean_runs + 1):
                self._tell(worker.clean_run(f"clean run {number} of {self._clean_runs}", "before"))
            if self._clean_runs:
                self._tell(worker.refresh())
        recent: list[Fault] = []
        next_fault = self._left.popleft if worker is self._workers[0] else self._left.pop
        while (fault := self._take(next_fault)) is not None:
            finding, leak = worker.attempt(fault)
            self._tell(None if self._may_retry(finding) else finding, leak)
            recent.append(fault)
            if len(recent) == CONTROL_EVERY:
                self._tell(
                    worker.clean_run(_after(recent), "control", self._control(recent)), worker.refresh()
                )
                recent.clear()
        while (missed := self._take(self._missed.popleft)) is not None:
            finding, leak = worker.attempt(missed.fault)
            self._tell(replace(finding, missed=missed.why), leak)
            recent.append(missed.fault)
        if self._ends_whole:
            self._tell(worker.clean_run(f"clean run at the end, {worker.name}", "after"))
        elif recent:
            self._tell(worker.clean_run(_after(recent), "control", self._control(recent)))

    def _may_retry(self, finding: Finding) -> bool:
        """Return whether to try this fault once more, and remember it for that."""
        if finding.detected or finding.refused:
            return False
        with self._lock:
            if self._retries == 0:
                return False
            self._retries -= 1
        self._missed.append(finding)
        return True

    def _tell(self, *news: News | None) -> None:
        for one in news:
            if one is not None:
                self._news.put(one)

    def _take(self, one: Callable[[], T]) -> T | None:
        if self._setup.stopping.is_set():
            raise PlatformError("the self-test is stopping")
        try:
            return one()
        except IndexError:
            return None

    def _control(self, faults: Sequence[Fault]) -> list[list[str]]:
        """Return the faults' checks, each once, as one selection per set of options."""
        selected: dict[tuple[str, ...], dict[str, None]] = {}
        for fault in faults:
            selected.setdefault(fault.args, {}).update(dict.fromkeys(fault.select))
        return [
            [
                *args,
                *(
                    node
                    for node in nodes
                    if node.partition("::")[0] == node or node.partition("::")[0] not in nodes
                ),
            ]
            for args, nodes in selected.items()
        ]


def _after(faults: Sequence[Fault]) -> str:
    return f"control run after {faults[0].id} to {faults[-1].id}"

"""Mutants of the platform's own services: one small change at a time. Does a check turn red?

A mutant is killed by a check that fails as PLATFORM_BUG with it and passes without it. `platform` describes
the requests to the platform. One run of the suite traces which checks execute a mutant's lines; those are
tried first, then every check in their files (for a mutant outside the services, every check), and drills
last.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from ..core.formats import matches
from ..core.model import FailureClass, Outcome
from .campaign import NoReport, Setup, Worker
from .catalogue import CatalogueError, SuiteCheck, is_red, with_controls
from .platform import PlatformError

#: Limits of the checks that are tried first: total seconds of their own time, and their number.
FIRST_S, FIRST_CHECKS = 3.0, 40
#: The killing checks run without a mutant after this many mutants, or this many seconds.
CONTROL_EVERY, CONTROL_AFTER_S = 12, 90.0
#: A mutant stays on, so a rerun at once finds the same as one a second later.
RUN_OPTIONS = ("--reruns", "1", "--reruns-delay", "0")
DRILLS = "--drills"
KILLED, NOT_STARTED, SURVIVED, UNREACHED = "killed", "does not start", "survived", "not reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A mutant as the platform lists it. Without ``lines`` it runs when its service starts.

    ``reads`` is then where its value is read later: file, first and last line. Without ``services`` it is in
    the repository or AWS: only checks that call no service see it. With a ``variant`` it runs only on that
    clean variant of the platform.
    """

    id: str
    group: str
    operator: str
    file: str
    line: int
    before: str
    after: str
    services: tuple[str, ...]
    lines: tuple[int, ...] = ()
    reads: tuple[tuple[str, int, int], ...] = ()
    equivalent: str = ""
    variant: str = ""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Mutant:
        """Read one from the platform's list. Raises CatalogueError for a malformed one."""
        try:
            return cls(
                **{name: str(data[name]) for name in ("id", "group", "operator", "file", "before", "after")},
                line=int(data["line"]),
                services=tuple(map(str, data["services"])),
                lines=tuple(map(int, data.get("lines", ()))),
                reads=tuple(
                    (str(file), int(first), int(last)) for file, first, last in data.get("reads", ())
                ),
                equivalent=str(data.get("equivalent", "")),
                variant=str(data.get("variant", "")),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise CatalogueError(f"a mutant is malformed: {problem!r}", where="GET /mutants") from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """The result of a mutant in a service: killed by a check, or not, and why."""

    mutant: Mutant
    service: str
    outcome: str
    by: str = ""
    why: str = ""
    reached_by: tuple[str, ...] = ()
    seconds: float = 0.0

    def as_data(self) -> dict[str, Any]:
        """Return it as one row of mutants.json."""
        mutant = self.mutant
        return {
            "id": mutant.id,
            "service": self.service,
            "group": mutant.group,
            "operator": mutant.operator,
            "where": f"{mutant.file}:{mutant.line}",
            "before": mutant.before,
            "after": mutant.after,
            "outcome": self.outcome,
            "by": self.by,
            "why": self.why,
            "reached_by": list(self.reached_by),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, slots=True)
class Trace:
    """Which checks executed which lines, how many seconds each took, the digest of their suite."""

    lines: Mapping[str, Mapping[str, Mapping[str, Sequence[int]]]]
    checks: tuple[str, ...]
    seconds: Mapping[str, float]
    suite_digest: str = ""

    def through(self, mutant: Mutant, service: str) -> list[str]:
        """Return the checks that executed a mutant's lines in a service, or lines where its value is read.

        If it runs when the service starts, or on a variant, these are all checks that reach the service;
        outside the services, all checks that call none.
        """
        if not mutant.services:
            asking = {n for name in self.lines for n in self._asking(name)}
            return [name for number, name in enumerate(self.checks, start=1) if number not in asking]
        files = self.lines.get(service, {})
        places = mutant.reads
        if mutant.lines:
            first, last = mutant.lines
            places = ((mutant.file, first, last),)
        hits = {
            n
            for file, first, last in places
            for line in range(first, last + 1)
            for n in files.get(file, {}).get(str(line), ())
        }
        if mutant.variant or not places or 0 in hits:
            hits = self._reaching(service)
        return [self.checks[number - 1] for number in sorted(hits) if number]

    def _asking(self, service: str) -> set[int]:
        """Return the checks that execute lines which no service runs without them."""
        files = self.lines.get(service, {}).values()
        return {n for lines in files for numbers in lines.values() if 0 not in numbers for n in numbers}

    def _reaching(self, service: str) -> set[int]:
        files = self.lines.get(service, {}).values()
        return {n for lines in files for numbers in lines.values() for n in numbers}


class Experience:
    """Which checks killed mutants so far: those are tried first. Thread-safe."""

    def __init__(
        self, checks: Mapping[str, SuiteCheck], trace: Trace, *, with_drills: bool, judges: Sequence[str] = ()
    ) -> None:
        self.checks = checks
        self.judges = frozenset(name for name in checks if any(matches(each, name) for each in judges))
        self.trace = trace
        self.drills = frozenset(name for name, check in checks.items() if check.drill)
        self.with_drills = with_drills
        self._kills: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._distrusted: set[str] = set()
        self._lock = threading.Lock()

    def killed(self, mutant: Mutant, check: str) -> None:
        """Record a kill."""
        with self._lock:
            self._kills[mutant.file][check] += 1
            self._kills[""][check] += 1

    def distrust(self, check: str) -> None:
        """Record a check that is red without a mutant: it does not count as a killer."""
        with self._lock:
            self._distrusted.add(check)

    def trusted(self, names: Iterable[str]) -> list[str]:
        """Return the checks that were not red without a mutant so far."""
        with self._lock:
            return [name for name in names if name not in self._distrusted]

    def first(self, mutant: Mutant, through: Sequence[str]) -> list[str]:
        """Return the most promising of the checks that execute a mutant, without drills."""
        with self._lock:
            near, far = Counter(self._kills[mutant.file]), Counter(self._kills[""])
        seconds = self.trace.seconds
        ranked = sorted(
            (name for name in self.trusted(through) if name not in self.drills),
            key=lambda name: (-near[name], -far[name], seconds.get(name, 0.0)),
        )
        chosen: list[str] = []
        total = 0.0
        for name in ranked[:FIRST_CHECKS]:
            total += seconds.get(name, 0.0)
            if chosen and total > FIRST_S:
                break
            chosen.append(name)
        return chosen

    def rest(self, mutant: Mutant, through: Iterable[str]) -> list[str]:
        """Return the judges, and the checks of every file in which one executes a mutant, without drills.

        The other checks of a file share data that whichever came first has read. A judge may execute nothing
        itself but judges the answers to these checks. Any check may read what is outside the services.
        """
        files = {self._file(name) for name in (through if mutant.services else self.checks)}
        return [
            name
            for name in self.trusted(self.checks)
            if (self._file(name) in files or name in self.judges) and name not in self.drills
        ]

    def _file(self, name: str) -> str:
        return self.checks[name].nodeid.partition("::")[0]

    def selected(self, names: Iterable[str]) -> list[str]:
        """Return the node ids of checks and their controls."""
        return [self.checks[name].nodeid for name in with_controls(names, self.checks)]


class MutantWorker(Worker):
    """A platform on which mutants are tried one after the other."""

    def attempt_mutant(self, mutant: Mutant, service: str, experience: Experience) -> Fate:
        """Switch a mutant on and look for a check that turns red.

        Raises PlatformError only if a platform that had to be replaced does not start again.
        """
        began = time.monotonic()
        through = experience.trace.through(mutant, service)
        facts: dict[str, Any] = {"mutant": mutant, "service": service, "reached_by": tuple(through)}
        if not through:
            return Fate(**facts, outcome=UNREACHED, why="no check executes it")
        with self.timed("mutants"):
            by, outcome = "", SURVIVED
            if self.variant != mutant.variant:
                self.close()
                self.boot(mutant.variant)
            try:
                why = self._mutated(mutant, service)
            except PlatformError as problem:
                why = f"it could not be switched on: {problem.what}"
            else:
                if why:
                    outcome = NOT_STARTED
                else:
                    by, why = self._killer(mutant, through, experience)
                    outcome = KILLED if by else SURVIVED
        if by:
            experience.killed(mutant, by)
        return Fate(**facts, outcome=outcome, by=by, why=why, seconds=time.monotonic() - began)

    def _mutated(self, mutant: Mutant, service: str) -> str:
        """Switch it on, twice if needed, as a busy machine starts slowly; return why it does not run.

        Raises PlatformError if a platform in its boot state does not switch it on either.
        """
        with suppress(PlatformError):
            if not self.control.mutate(mutant.id, service):
                return ""
        self.restore(None)
        return self.control.mutate(mutant.id, service)

    def _killer(self, mutant: Mutant, through: Sequence[str], experience: Experience) -> tuple[str, str]:
        """Return the check that killed a mutant, and its finding; "" and anything odd if none did."""
        drills = [name for name in experience.trusted(through) if name in experience.drills]
        judged = experience.trusted(experience.judges) if drills else []
        odd = ""
        for names, more in (
            (experience.first(mutant, through), ()),
            (experience.rest(mutant, through), ()),
            ([*drills, *judged] if experience.with_drills else (), (DRILLS,)),
        ):
            if not names:
                continue
            for stop in (("-x",), ()):
                try:
                    model = self.suite_run(experience.selected(names), (*RUN_OPTIONS, *stop, *more))
                except NoReport as problem:
                    odd = str(problem)
                    break
                red = [
                    check
                    for check in model["checks"]
                    if is_red(check) and check["outcome"] != Outcome.NOT_RUN
                ]
                proved = {
                    check["id"]: check["summary"]
                    for check in red
                    if check["outcome"] == Outcome.FAILED and check["class"] == FailureClass.PLATFORM_BUG
                }
                for name in experience.trusted(proved):
                    return name, proved[name]
                if not red:
                    break
                odd = f"{red[0]['id']}: {red[0]['outcome']}, {red[0]['class']}: {red[0]['summary']}"
        return "", odd


News = Fate | Mapping[str, str]


class MutantCampaign:
    """Tries mutants on several platforms at once; starts none after ``until`` (monotonic clock, s)."""

    def __init__(
        self,
        workers: Sequence[MutantWorker],
        targets: Sequence[tuple[Mutant, str]],
        experience: Experience,
        setup: Setup,
        until: float = math.inf,
    ) -> None:
        self._workers = workers
        self._left = deque(targets)
        self._until = until
        self._experience = experience
        self._setup = setup
        self._news: SimpleQueue[News | BaseException | None] = SimpleQueue()

    def run(self, listener: Callable[[News], None]) -> None:
        """Try every mutant and report each fate and each alarm to the listener.

        Raises NothingProved if a platform or the runner fails. Every platform is stopped in any case.
        """
        threads = [
            threading.Thread(target=self._guarded, args=(worker,), daemon=True) for worker in self._workers
        ]
        for thread in threads:
            thread.start()
        working = len(threads)
        try:
            while working:
                news = self._news.get()
                if isinstance(news, BaseException):
                    raise news
                if news is None:
                    working -= 1
                else:
                    listener(news)
        finally:
            self._setup.stopping.set()
            self._setup.runner.close()
            for worker in self._workers:
                worker.close()
            for thread in threads:
                thread.join()

    def _guarded(self, worker: MutantWorker) -> None:
        try:
            self._work(worker)
            self._news.put(None)
        except BaseException as problem:  # passed to the thread that waits for results
            self._news.put(problem)

    def _work(self, worker: MutantWorker) -> None:
        if not worker.is_up:
            worker.boot()
        recent: list[Fate] = []
        since = time.monotonic()
        while not self._setup.stopping.is_set():
            target = self._next()
            due = len(recent) == CONTROL_EVERY or time.monotonic() - since > CONTROL_AFTER_S
            if recent and (target is None or due or target[0].variant != worker.variant):
                self._tell(worker, recent)
                recent, since = [], time.monotonic()
            if target is not None:
                recent.append(worker.attempt_mutant(*target, self._experience))
            elif not self._left:  # mutants killed by a check that cannot be trusted are tried again
                return

    def _tell(self, worker: MutantWorker, recent: Sequence[Fate]) -> None:
        """Report the fates, after the killing checks ran without a mutant.

        A check that is red then proves nothing: its mutants are tried again, without it.
        """
        worker.restore(None)
        killers = dict.fromkeys(fate.by for fate in recent if fate.by)
        drills = self._experience.drills
        selections = [
            [*self._experience.selected(name for name in killers if name not in drills)],
            [*self._experience.selected(name for name in killers if name in drills), DRILLS],
        ]
        alarms = worker.clean_run(
            "control run", "control", [each for each in selections if each not in ([], [DRILLS])]
        ).alarms
        for alarm in alarms:
            self._news.put(alarm.as_data())
            self._experience.distrust(alarm.check)
        crying = {alarm.check for alarm in alarms}
        for fate in recent:
            if fate.by and fate.by in crying:
                self._left.append((fate.mutant, fate.service))
            elif fate.by and "" in crying:
                self._news.put(replace(fate, outcome=SURVIVED, by="", why="the run without it has no report"))
            else:
                self._news.put(fate)

    def _next(self) -> tuple[Mutant, str] | None:
        if time.monotonic() >= self._until:
            self._left.clear()
        with suppress(IndexError):
            return self._left.popleft()
        return None

"""All faults on several platforms at once, and the proof in between that without a fault all is green."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeAlias

from .bench import Bench, CleanRun, Leak, Setup
from .catalogue import Fault
from .errors import PlatformError
from .judging import Finding

#: A control run repeats, without a fault, all that this many faults selected.
CONTROL_EVERY = 25

News: TypeAlias = Finding | Leak | CleanRun


@dataclass(slots=True)
class Results:
    """What a campaign found. ``spent`` are wall seconds of platforms by what they went into."""

    findings: list[Finding] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    clean_runs: list[CleanRun] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)
    suite_digests: set[str] = field(default_factory=set)

    def add(self, news: News) -> None:
        """Keep one piece of news."""
        if isinstance(news, Finding):
            self.findings.append(news)
        elif isinstance(news, Leak):
            self.leaks.append(news)
        else:
            self.clean_runs.append(news)

    def take(self, bench: Bench) -> None:
        """Add up what a platform that is done was busy with."""
        self.suite_digests |= bench.suite_digests
        for what, seconds in bench.spent.items():
            self.spent[what] = self.spent.get(what, 0.0) + seconds


class Campaign:
    """Tries faults. ``clean_runs`` whole runs in a row begin it; ``ends_whole`` ends each platform with one.

    Otherwise each platform ends with a control run.
    """

    def __init__(
        self, setup: Setup, faults: Sequence[Fault], *, workers: int, clean_runs: int, ends_whole: bool
    ) -> None:
        self._setup = setup
        # Taken from both ends: while one platform is waited for, the others have work for the processor.
        self._left = deque(sorted(faults, key=lambda fault: -fault.takes_s))
        self._clean_runs = clean_runs
        self._ends_whole = ends_whole
        self._benches = [Bench(number, setup) for number in range(1, workers + 1)]
        self._news: SimpleQueue[News | BaseException | Bench] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._guarded, args=(bench,), name=f"selftest-{number}", daemon=True)
            for number, bench in enumerate(self._benches, start=1)
        ]

    def run(self, listener: Callable[[News], None]) -> Results:
        """Boot the platforms and try every fault; tell the listener of each.

        Raises NothingProved when a platform or the runner gives up. Every platform is stopped in any case.
        """
        results = Results()
        for thread in self._threads:
            thread.start()
        try:
            working = len(self._benches)
            while working:
                news = self._news.get()
                if isinstance(news, BaseException):
                    raise news
                if isinstance(news, Bench):
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
        closers = [threading.Thread(target=bench.close) for bench in self._benches]
        for thread in closers:
            thread.start()
        for thread in [*closers, *self._threads]:
            thread.join()

    def _guarded(self, bench: Bench) -> None:
        try:
            self._work(bench)
        except BaseException as problem:  # handed to the thread that waits for news
            self._news.put(problem)
        finally:
            bench.close()

    def _work(self, bench: Bench) -> None:
        bench.boot()
        if bench is self._benches[-1]:
            for number in range(1, self._clean_runs + 1):
                self._tell(bench.clean_run(f"clean run {number} of {self._clean_runs}"))
            if self._clean_runs:
                self._tell(bench.refresh())
        recent: list[Fault] = []
        while (fault := self._take(longest=bench is self._benches[0])) is not None:
            finding, leak = bench.attempt(fault)
            self._tell(finding, leak)
            recent.append(fault)
            if len(recent) == CONTROL_EVERY:
                self._tell(bench.clean_run(_after(recent), self._control(recent)), bench.refresh())
                recent.clear()
        if self._ends_whole:
            self._tell(bench.clean_run(f"clean run at the end, {bench.name}"))
        elif recent:
            self._tell(bench.clean_run(_after(recent), self._control(recent)))
        self._news.put(bench)

    def _tell(self, *news: News | None) -> None:
        for one in news:
            if one is not None:
                self._news.put(one)

    def _take(self, *, longest: bool) -> Fault | None:
        if self._setup.stopping.is_set():
            raise PlatformError("the self-test is stopping")
        try:
            return self._left.popleft() if longest else self._left.pop()
        except IndexError:
            return None

    def _control(self, faults: Sequence[Fault]) -> list[list[str]]:
        """Return what the faults selected, once, as one selection for each set of options."""
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

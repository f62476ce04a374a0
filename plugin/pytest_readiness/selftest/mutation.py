"""``readiness self-test --mutants``: from the platform's list of mutants to the score.

What is known is kept in a file, so that a run goes on where the one before it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from ..core.formats import counted, digest, matches
from ..core.plan import Plan
from . import CatalogueError, PlatformError
from .campaign import Setup
from .mutants import (
    Experience,
    Fate,
    Mutant,
    MutantCampaign,
    MutantWorker,
    News,
    Trace,
    placed,
    sample,
    traced,
)
from .runner import Runner
from .score import MutantProgress, record

STATE = "mutants-state.jsonl"


def survey(
    options: argparse.Namespace, plan: Plan, root: Path, out: TextIO, work: Path, suite: str
) -> dict[str, Any]:
    """Try the chosen mutants; the model of mutants.json. Raises NothingProved and ReadinessError."""
    began, date = time.monotonic(), datetime.now(UTC)
    runner = Runner(plan.suite, root, work)
    setup = Setup(
        command=plan.self_test.platform,
        root=root,
        suite=plan.suite,
        work=work,
        runner=runner,
        stopping=threading.Event(),
    )
    first = MutantWorker(1, setup)
    try:
        first.boot()
        checks = runner.checks()
        for pattern in plan.self_test.judges:
            if not any(matches(pattern, name) for name in checks):
                raise CatalogueError(f"no check matches {pattern!r}", where="[self_test] judges")
        mutants = [Mutant.parse(each) for each in first.control.mutants()]
        if not mutants:
            raise PlatformError("the platform lists no mutants", where="GET /mutants")
        chosen = _chosen(options, [each for each in mutants if not each.equivalent])
        state = State(root / options.report / STATE, digest([suite, [asdict(each) for each in mutants]]))
        if state.trace is None:
            out.write("mutants: tracing which checks run through which lines\n")
            state.keep_trace(traced(first, plan.suite, checks))
        assert state.trace is not None
        experience = Experience(checks, state.trace, with_drills=options.drills, judges=plan.self_test.judges)
        targets = placed(chosen, state.trace)
        known = state.known(targets)
        for fate in known:
            if fate.by:
                experience.killed(fate.mutant, fate.by)
        done = {fate.mutant.id for fate in known}
        left = [target for target in targets if target[0].id not in done]
        others = [MutantWorker(number, setup) for number in range(2, min(options.workers, len(left)) + 1)]
        out.write(
            f"mutants: {len(left)} to try of {counted(len(mutants), 'mutant')}, {len(known)} known, "
            f"on {counted(1 + len(others), 'platform')}\n"
        )
        progress = MutantProgress(out, len(left))
        fates, alarms = list(known), []

        def update(news: News) -> None:
            if isinstance(news, Fate):
                state.keep(news)
                fates.append(news)
            else:
                alarms.append(news)
            progress.update(news)

        MutantCampaign([first, *others], left, experience, setup).run(update)
    finally:
        setup.stopping.set()
        runner.close()
        first.close()
    return record(
        fates,
        alarms,
        mutants,
        scope=_scope(options, len(chosen)),
        suite_digest=state.trace.suite_digest,
        date=date,
        duration_s=time.monotonic() - began,
    )


def _chosen(options: argparse.Namespace, mutants: Sequence[Mutant]) -> list[Mutant]:
    for pattern in options.only:
        if not any(_matches(pattern, each) for each in mutants):
            raise CatalogueError(f"no mutant matches {pattern!r}", where="--only", allowed="an id or a group")
    asked = [each for each in mutants if not options.only or any(_matches(p, each) for p in options.only)]
    return sample(asked, options.sample or len(asked), options.seed)


def _matches(pattern: str, mutant: Mutant) -> bool:
    return matches(pattern, mutant.id) or matches(pattern, mutant.group)


def _scope(options: argparse.Namespace, chosen: int) -> str:
    if options.sample:
        return f"a sample of {chosen}, seed {options.seed!r}"
    return "those that match " + ", ".join(options.only) if options.only else "all"


class State:
    """What is known already: a file of JSON lines, begun anew when the suite or the mutants are others."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self.trace: Trace | None = None
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        lines = self._lines()
        if next(lines, None) == {"key": key}:
            for line in lines:
                self._take(line)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"key": key}) + "\n", "utf-8")

    def _lines(self) -> Iterator[Any]:
        if self._path.is_file():
            for text in self._path.read_text("utf-8").splitlines():
                try:
                    yield json.loads(text)
                except ValueError:
                    return  # a line that was being written when the run was killed

    def _take(self, line: dict[str, Any]) -> None:
        if "trace" in line:
            kept = line["trace"]
            self.trace = Trace(**{**kept, "checks": tuple(kept["checks"])})
        else:
            self._rows[line["id"], line["service"]] = line

    def known(self, targets: Iterable[tuple[Mutant, str]]) -> list[Fate]:
        """Return the fates that an earlier run found out."""
        assert self.trace is not None
        return [
            Fate(
                mutant=mutant,
                service=service,
                outcome=row["outcome"],
                by=row["by"],
                why=row["why"],
                reached_by=tuple(self.trace.through(mutant, service)),
                seconds=row["seconds"],
            )
            for mutant, service in targets
            if (row := self._rows.get((mutant.id, service))) is not None
        ]

    def keep_trace(self, trace: Trace) -> None:
        """Keep which checks run through which lines."""
        self.trace = trace
        self._append({"trace": asdict(trace)})

    def keep(self, fate: Fate) -> None:
        """Keep one fate."""
        row = fate.as_data()
        self._append({key: row[key] for key in ("id", "service", "outcome", "by", "why", "seconds")})

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

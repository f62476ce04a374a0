"""``readiness self-test --mutants``: from the platform's list of mutants to the score.

Results are kept in a file, so that a run continues where the previous one stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from ..core.formats import counted, digest, format_moment, matches, one_line
from ..core.plan import Plan
from .campaign import NoReport, Setup, Worker
from .catalogue import CatalogueError, SuiteCheck
from .mutants import (
    DRILLS,
    KILLED,
    NOT_STARTED,
    RUN_OPTIONS,
    UNREACHED,
    Experience,
    Fate,
    Mutant,
    MutantCampaign,
    MutantWorker,
    News,
    Trace,
)
from .platform import Control, PlatformError
from .runner import Runner

#: Services that record their lines are several times slower.
TRACED_WITHIN_S = 900.0


class Marker:
    """A pytest plugin that tells the platform which check runs: its place in ``nodeids``, from 1."""

    def __init__(self, control_url: str, nodeids: Sequence[str]) -> None:
        self._control = Control(control_url)
        self._numbers = {nodeid: number for number, nodeid in enumerate(nodeids, start=1)}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Called by pytest before a check's fixtures are made."""
        with suppress(PlatformError):
            self._control.mark(self._numbers.get(nodeid, 0))


def sample(mutants: Iterable[Mutant], size: int, seed: str) -> list[Mutant]:
    """Return ``size`` mutants; a seed determines which ones, and their order."""
    return sorted(mutants, key=lambda each: hashlib.sha256(f"{seed} {each.id}".encode()).digest())[:size]


def traced(worker: Worker, suite: str, checks: Mapping[str, SuiteCheck], *, with_drills: bool) -> Trace:
    """Run the whole suite, with drills if requested, while the platform records which lines run."""
    nodeids = [check.nodeid for check in checks.values()]
    worker.control.trace()
    try:
        marker = Marker(worker.control.url, nodeids)
        words = (suite, DRILLS) if with_drills else (suite,)
        model = worker.suite_run(words, RUN_OPTIONS, [marker], TRACED_WITHIN_S)
    except NoReport as problem:
        raise PlatformError(f"the traced run failed: {problem}") from problem
    lines = worker.control.traced()
    seconds = {check["id"]: float(check["duration_s"] or 0) for check in model["checks"]}
    return Trace(lines, tuple(checks), seconds, str(model.get("suite_digest", "")))


def placed(mutants: Iterable[Mutant], trace: Trace) -> list[tuple[Mutant, str]]:
    """Return each mutant with one service in which a check executes it, chosen by its id's hash."""
    found = []
    for mutant in mutants:
        reached = [name for name in mutant.services if trace.through(mutant, name)] or mutant.services or [""]
        found.append((mutant, reached[hashlib.sha256(mutant.id.encode()).digest()[0] % len(reached)]))
    return found


STATE = "mutants-state.jsonl"


def survey(
    options: argparse.Namespace, plan: Plan, root: Path, out: TextIO, work: Path, suite: str
) -> dict[str, Any]:
    """Try the chosen mutants; return the model of mutants.json. Raises NothingProved and ReadinessError."""
    began, date = time.monotonic(), datetime.now(UTC)
    runner = Runner(plan.suite, root, work)
    setup = Setup.of(plan, root, work, runner)
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
        kept = root / options.report / (f"drills-{STATE}" if options.drills else STATE)
        state = State(kept, digest([suite, *map(_changed, mutants)]))
        if state.trace is None:
            out.write("mutants: tracing which checks execute which lines\n")
            state.keep_trace(traced(first, plan.suite, checks, with_drills=options.drills))
        assert state.trace is not None
        experience = Experience(checks, state.trace, with_drills=options.drills, judges=plan.self_test.judges)
        targets = placed(chosen, state.trace)
        known = state.known(targets)
        for fate in known:
            if fate.by:
                experience.killed(fate.mutant, fate.by)
        done = {fate.mutant.id for fate in known}
        left = [target for target in targets if target[0].id not in done]
        left.sort(key=lambda target: target[0].variant)
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

        until = began + 60 * options.within if options.within else math.inf
        MutantCampaign([first, *others], left, experience, setup, until).run(update)
    finally:
        setup.stopping.set()
        runner.close()
        first.close()
    if not fates:
        raise PlatformError(f"no mutant was tried within {options.within} min", where="--within")
    return record(
        fates,
        alarms,
        mutants,
        scope=scope_of(options, len(fates), len(chosen)),
        suite_digest=state.trace.suite_digest,
        date=date,
        duration_s=time.monotonic() - began,
    )


def _changed(mutant: Mutant) -> list[Any]:
    """Return what a fate depends on; an added or removed excuse does not change it."""
    return [mutant.id, mutant.file, mutant.before, mutant.after, mutant.lines, mutant.reads, mutant.variant]


def _chosen(options: argparse.Namespace, mutants: Sequence[Mutant]) -> list[Mutant]:
    groups = ", ".join(sorted({each.group for each in mutants}))
    for pattern in options.only:
        if not any(_matches(pattern, each) for each in mutants):
            raise CatalogueError(
                f"no mutant matches {pattern!r}, or all that do are equivalent",
                where="--only",
                allowed=f"a pattern for ids or files, or a group: {groups}",
            )
    asked = [each for each in mutants if not options.only or any(_matches(p, each) for p in options.only)]
    return sample(asked, options.sample or len(asked), options.seed)


def _matches(pattern: str, mutant: Mutant) -> bool:
    return any(matches(pattern, text) for text in (mutant.id, mutant.group, mutant.file))


def scope_of(options: argparse.Namespace, tried: int, chosen: int) -> str:
    """Say which mutants were tried; the report quotes only "all" and "a sample of"."""
    of = f"those that match {', '.join(options.only)}" if options.only else ""
    late = f", {options.within} min were up after {tried} of {chosen}" if tried < chosen else ""
    if not options.sample:
        return f"{of or ('the first of all' if late else 'all')}{late}"
    return f"a sample of {tried}{of and f' of {of}'}, seed {options.seed!r}{late}"


class State:
    """Results so far: a file of JSON lines, started again if the suite or the mutants have changed."""

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
                    return  # a line that was incomplete when the run was killed

    def _take(self, line: dict[str, Any]) -> None:
        if "trace" in line:
            kept = line["trace"]
            self.trace = Trace(**{**kept, "checks": tuple(kept["checks"])})
        else:
            self._rows[line["id"], line["service"]] = line

    def known(self, targets: Iterable[tuple[Mutant, str]]) -> list[Fate]:
        """Return the fates from earlier runs."""
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
        """Store which checks execute which lines."""
        self.trace = trace
        self._append({"trace": asdict(trace)})

    def keep(self, fate: Fate) -> None:
        """Store one fate."""
        row = fate.as_data()
        self._append({key: row[key] for key in ("id", "service", "outcome", "by", "why", "seconds")})

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


SCHEMA_VERSION = 1
_LIMIT = 100
_DEAD = frozenset((KILLED, NOT_STARTED))


def record(
    fates: Sequence[Fate],
    alarms: Sequence[Mapping[str, str]],
    mutants: Sequence[Mutant],
    *,
    scope: str,
    suite_digest: str,
    date: datetime,
    duration_s: float,
) -> dict[str, Any]:
    """Return the model as plain JSON values. A score is killed / (all - equivalent), in percent.

    Mutants that do not start count as killed and are listed separately. ``scope`` says which were tried.
    """
    rows = [fate.as_data() for fate in sorted(fates, key=lambda fate: fate.mutant.id)]
    return {
        "schema_version": SCHEMA_VERSION,
        "scope": scope,
        "date": format_moment(date),
        "suite_digest": suite_digest,
        "duration_s": round(duration_s, 1),
        **_counts(rows),
        "equivalent": sum(bool(each.equivalent) for each in mutants),
        "known": len(mutants),
        "groups": _by(rows, "group"),
        "operators": _by(rows, "operator"),
        "files": _by([{**row, "file": row["where"].rpartition(":")[0]} for row in rows], "file"),
        "mutants": rows,
        "alarms": list(alarms),
        "equivalents": [{"id": each.id, "reason": each.equivalent} for each in mutants if each.equivalent],
    }


def _by(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    return {
        name: _counts([row for row in rows if row[key] == name])
        for name in sorted({row[key] for row in rows})
    }


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    killed = sum(row["outcome"] in _DEAD for row in rows)
    return {
        "score": round(100 * killed / len(rows), 1) if rows else None,
        "killed": killed,
        "total": len(rows),
        "not_started": sum(row["outcome"] == NOT_STARTED for row in rows),
        "not_reached": sum(row["outcome"] == UNREACHED for row in rows),
    }


def survivors(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of the survivors."""
    return [row for row in model["mutants"] if row["outcome"] not in _DEAD]


def headline(model: Mapping[str, Any]) -> str:
    """Return the answer in one line."""
    return (
        f"{model['score']} % of {counted(model['total'], 'mutant')} killed "
        f"({model['not_started']} do not start, {model['not_reached']} not reached), "
        f"{model['equivalent']} equivalent, {model['scope']}"
    )


def lines(model: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the terminal shows at the end."""
    for row in survivors(model):
        yield f"  {row['id']} [{row['service']}]: {_change(row)}"
    for name, counts in model["groups"].items():
        yield f"  {name:<20} {counts['score']:>5} %  {counts['killed']} of {counts['total']}"
    for alarm in model["alarms"]:
        yield f"red without a mutant: {alarm['check']}: {alarm['summary']}"
    yield f"mutants: {headline(model)}, {model['duration_s']:.0f} s"


def render(model: Mapping[str, Any]) -> str:
    """Return the page: the score by group, then every survivor, its change and the checks that execute it."""
    parts = [
        "# Mutants of the platform",
        f"**{headline(model)}**, on {model['date']}, in {model['duration_s']:.0f} s.",
        "| Group | Score | Killed | Mutants | Do not start | Not reached |\n|---|---|---|---|---|---|\n"
        + "\n".join(
            f"| {name} | {each['score']} % | {each['killed']} | {each['total']} | {each['not_started']} "
            f"| {each['not_reached']} |"
            for name, each in model["groups"].items()
        ),
    ]
    for group in model["groups"]:
        left = [row for row in survivors(model) if row["group"] == group]
        if left:
            parts.append(f"## Survivors: {group}\n\n" + "\n".join(map(_survivor, left)))
    return "\n\n".join(parts) + "\n"


def _change(row: Mapping[str, Any]) -> str:
    return f"{one_line(row['before'], _LIMIT)} => {one_line(row['after'], _LIMIT)}"


def _survivor(row: Mapping[str, Any]) -> str:
    through = ", ".join(row["reached_by"][:5]) or "no check"
    more = f" and {len(row['reached_by']) - 5} more" if len(row["reached_by"]) > 5 else ""
    odd = f"; {one_line(row['why'], _LIMIT)}" if row["why"] else ""
    return (
        f"- `{row['id']}` in {row['service']}, {row['where']}: `{_change(row)}`; "
        f"run through by {through}{more}{odd}"
    )


_EVERY_S = 10.0


class MutantProgress:
    """Prints survivors and alarms at once, and progress."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._began = self._printed_at = time.monotonic()
        self._done = self._killed = 0

    def update(self, news: News) -> None:
        """Accept one result."""
        if isinstance(news, Fate):
            self._done += 1
            self._killed += news.outcome in _DEAD
            if news.outcome not in _DEAD:
                row = news.as_data()
                self._line(f"{news.outcome}: {row['id']} [{news.service}]: {_change(row)} {news.why}")
        else:
            self._line(f"red without a mutant: {news['check']}: {news['summary']}")
        now = time.monotonic()
        if now - self._printed_at >= _EVERY_S:
            self._printed_at = now
            left = (now - self._began) / self._done * (self._total - self._done) if self._done else 0.0
            text = f"{self._done} of {self._total} mutants, {self._killed} killed"
            self._line(f"{text}, about {left / 60:.0f} min left")

    def _line(self, text: str) -> None:
        self._stream.write(f"{one_line(text, 300)}\n")
        self._stream.flush()

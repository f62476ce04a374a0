"""``readiness self-test``: reads the catalogue, tries every fault, writes the result."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from ..core.errors import ReadinessError
from ..core.formats import counted, digest, filled, matching
from ..core.model import Scope
from ..core.plan import Plan
from ..core.toml import load_toml
from ..report import replace_file
from . import mutation_score, page
from .campaign import Campaign, Setup
from .catalogue import Catalogue, CatalogueError, Fault, load, read_text
from .mutation_score import survey
from .page import Progress, is_proved, record
from .platform import NothingProved, PlatformError
from .runner import Runner

PROVED, NOT_PROVED, NO_VERDICT = 0, 1, 6
#: One clean run may be luck: ten find a check that fails in one of five runs with a probability of 0.9.
#: A run on variants counts as one of them.
CLEAN_RUNS = 10
RECORD, PARTIAL_RECORD = "self-test", "self-test-partial"


def add(commands: Any) -> None:
    """Add the command and its options to the parsers of ``readiness``."""
    parser = commands.add_parser(
        "self-test",
        help="Inject every fault of the catalogue: does the suite detect it?",
        description="Start the platform that the plan names under [self_test], inject every fault of the "
        "catalogue, one at a time, and run the suite. Exit 0 when the named check noticed each, "
        "and no other check failed.",
        epilog="examples:\n  readiness self-test\n  readiness self-test --only 'G-4' --clean-runs 1\n"
        "  readiness self-test --mutants --sample 50 --seed abc1234",
    )
    parser.add_argument(
        "--only",
        action="append",
        type=filled,
        default=[],
        metavar="PATTERN",
        help="Only faults whose id or goal matches, such as 'G-4' or '*-jwks-*'; may be repeated",
    )
    parser.add_argument(
        "--workers",
        type=_at_least(1),
        # One more than cores: a platform that waits for a fault leaves its core to the others.
        default=(os.cpu_count() or 1) + 1,
        metavar="N",
        help="Number of platforms at the same time (default: cores + 1)",
    )
    parser.add_argument(
        "--clean-runs",
        type=_at_least(0),
        metavar="N",
        help="Full runs in a row without a fault, before the first fault; without --only one more for each "
        f"platform after its last (default: {CLEAN_RUNS}, less one for each run on variants; with --only: 0)",
    )
    parser.add_argument(
        "--retries",
        type=_at_least(0),
        default=0,
        metavar="N",
        help="Try the first N undetected faults once more, after all others; the report names those "
        "detected only then (default: 0)",
    )
    parser.add_argument(
        "--variants",
        action="store_true",
        help="Run the suite on every clean variant of the platform, without a fault; --only takes their ids",
    )
    parser.add_argument(
        "--mutants",
        action="store_true",
        help="Try small changes of the platform's own code instead; --only takes ids and groups of mutants",
    )
    parser.add_argument(
        "--sample",
        type=_at_least(1),
        metavar="N",
        help="With --mutants: N of them, chosen by --seed (default: all, resumed where a run stopped)",
    )
    parser.add_argument(
        "--drills",
        action="store_true",
        help="With --mutants: also try drills on mutants that no other check kills",
    )
    parser.add_argument("--seed", default="", metavar="TEXT", help="Seed of the sample, such as a commit id")
    parser.add_argument(
        "--floor",
        type=_at_least(0),
        default=0,
        metavar="PERCENT",
        help="With --mutants: exit 1 if the score is lower (default: 0)",
    )
    parser.add_argument(
        "--within",
        type=_at_least(1),
        metavar="MINUTES",
        help="With --mutants: start none after this time, and judge those tried (default: no limit)",
    )
    parser.add_argument(
        "--report",
        type=filled,
        default="reports",
        metavar="DIR",
        help="Directory of self-test.json and .md (default: reports)",
    )


def run(options: argparse.Namespace, plan: Plan, root: Path, out: TextIO) -> int:
    """Run the self-test; return 0 if the suite detects everything, otherwise 1.

    Return 6 if a platform could not be started or the run was interrupted: then nothing is proved, and
    nothing is written. Raises ReadinessError for bad input.
    """
    if not plan.self_test.platform:
        raise PlatformError(
            "the plan names no platform to inject faults into",
            where="[self_test] platform",
            allowed='the words of a command, such as ["python", "-m", "stack", "up", "--json"]',
            action="add platform and catalogue to [self_test] of the plan",
        )
    work = Path(tempfile.mkdtemp(prefix="readiness-self-test-"))
    try:
        with _termination_is_interruption():
            if options.mutants:
                return _try_mutants(options, plan, root, out, work)
            model = _try(options, plan, root, out, work)
    except NothingProved as problem:
        out.write(f"{problem}\n")
        return NO_VERDICT
    except KeyboardInterrupt:
        out.write("self-test: interrupted, nothing is proved; every platform is stopped\n")
        return NO_VERDICT
    finally:
        shutil.rmtree(work, ignore_errors=True)
    name = RECORD if model["scope"] == Scope.FULL else PARTIAL_RECORD
    _write(model, root / options.report, name, page.render(model), page.lines(model), out)
    return PROVED if is_proved(model) else NOT_PROVED


def _try(options: argparse.Namespace, plan: Plan, root: Path, out: TextIO, work: Path) -> dict[str, Any]:
    partial = bool(options.only or options.variants)
    began, date, cpu = time.monotonic(), datetime.now(UTC), _cpu_s()
    suite = _state_of(root / plan.suite)
    runner = Runner(plan.suite, root, work)
    try:
        checks = runner.checks()
        catalogue = load(root, plan.self_test.catalogue, checks)
        known = variants_of(root, plan.self_test.variants)
        faults = [] if options.variants else _chosen(catalogue, options.only, plan.self_test.catalogue)
        variants = () if options.only and faults else _chosen_variants(known, options.only)
    except BaseException:
        runner.close()
        raise
    workers = min(options.workers, max(len(faults), len(variants)))
    work_ahead = f"{counted(len(faults), 'fault')} and {counted(sum(map(len, variants)), 'clean variant')}"
    out.write(f"self-test: {work_ahead} on {counted(workers, 'platform')}\n")
    setup = Setup.of(plan, root, work, runner)
    default = 0 if partial else max(1, CLEAN_RUNS - len(variants))
    campaign = Campaign(
        setup,
        faults,
        variants,
        workers=workers,
        clean_runs=default if options.clean_runs is None else options.clean_runs,
        ends_whole=not partial,
        retries=options.retries,
    )
    progress = Progress(out, len(faults))
    try:
        results = campaign.run(progress.update)
    finally:
        progress.end()
    return record(
        results,
        catalogue,
        scope=Scope.PARTIAL if partial else Scope.FULL,
        uncovered=() if partial else catalogue.uncovered(checks),
        # the runs are forked from a process that imported the suite, and reread its files for the digest
        changed=suite != _state_of(root / plan.suite),
        date=date,
        duration_s=time.monotonic() - began,
        # only the fork server can wait for its children: their CPU time comes with their results
        cpu_s=_cpu_s() - cpu + results.spent.get("CPU of the suite", 0.0),
    )


def _try_mutants(options: argparse.Namespace, plan: Plan, root: Path, out: TextIO, work: Path) -> int:
    suite = digest({str(path): content.hex() for path, content in _state_of(root / plan.suite).items()})
    model = survey(options, plan, root, out, work, suite)
    _write(
        model,
        root / options.report,
        "mutants",
        mutation_score.render(model),
        mutation_score.lines(model),
        out,
    )
    return PROVED if not model["alarms"] and (model["score"] or 0) >= options.floor else NOT_PROVED


def _state_of(suite: Path) -> dict[Path, bytes]:
    """Return the content of each file of the suite, without caches."""
    files = (path for path in suite.rglob("*") if "__pycache__" not in path.parts)
    return {path: path.read_bytes() for path in files if path.is_file()}


def _chosen(catalogue: Catalogue, patterns: Sequence[str], files: str) -> list[Fault]:
    for pattern in patterns:
        if not any(fault.matches(pattern) for fault in catalogue.faults):
            raise CatalogueError(
                f"no fault matches {pattern!r}",
                where="--only",
                allowed="a pattern for ids or goals of the catalogue",
                action=f"look for ids and goals in {files}",
            )
    return [
        fault
        for fault in catalogue.faults
        if not patterns or any(fault.matches(pattern) for pattern in patterns)
    ]


def _chosen_variants(groups: Mapping[str, str], patterns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the variants that match the patterns; those of one group are tried together."""
    chosen = [name for name in groups if not patterns or matching(patterns, [name])]
    if patterns and not chosen:
        raise CatalogueError(
            f"no variant matches {', '.join(patterns)}",
            where="--only",
            allowed=f"a pattern for ids of [[variant]]: {', '.join(groups) or 'there are none'}",
            action="look into the file that [self_test] variants of the plan names",
        )
    together: dict[str, list[str]] = {}
    for name in chosen:
        together.setdefault(groups[name] or f"alone: {name}", []).append(name)
    return [tuple(names) for names in together.values()]


def _write(
    model: Mapping[str, Any], directory: Path, name: str, text: str, lines: Iterable[str], out: TextIO
) -> None:
    """Write the model and its page, each in one step, and print the result."""
    files = {f"{name}.json": json.dumps(model, indent=1, ensure_ascii=False) + "\n", f"{name}.md": text}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            replace_file(directory / file, content)
    except OSError as problem:
        raise ReadinessError(
            f"the record cannot be written: {problem.strerror or problem}",
            where=str(problem.filename or directory),
            action="free space or permission there, or name another directory with --report",
        ) from problem
    for line in (*lines, *(f"written: {directory / file}" for file in files)):
        out.write(f"{line}\n")


@contextmanager
def _termination_is_interruption() -> Iterator[None]:
    """Let SIGTERM end the self-test like Ctrl-C, so that a cancelled job leaves no platform running."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _at_least(minimum: int) -> Any:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer >= {minimum}")
        return int(text)

    return number


def variants_of(root: Path, where: str) -> dict[str, str]:
    """Return the clean variants in a file, id -> group; other keys are for the platform.

    Variants of one ``group`` can be combined, and are tried together; with "" a variant is tried separately.
    Raises CatalogueError for a file that cannot be read, and for an id that is missing or used twice.
    """
    groups: dict[str, str] = {}
    rows = load_toml(read_text(root / where, root), where, CatalogueError).tables("variant") if where else ()
    for row in rows:
        name = row.text("id")
        if name in groups:
            row.refuse("id", f"{name!r} is used twice", allowed="a unique id")
        groups[name] = row.text("group", "")
    return groups

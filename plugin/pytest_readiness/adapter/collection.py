"""Collection: every item of the suite becomes a check, by its markers, in the order of the plan's phases."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from ..core.errors import ReadinessError, together
from ..core.model import Severity
from ..core.plan import MAX_LIMIT_S
from .checks import Check, Checks, in_order, inconsistency
from .context import CHECK, RunContext
from .options import is_whole_suite_asked

MARKERS = (
    "p0: Blocking check; its failure makes the run BROKEN",
    "p1: Degrading check; its failure makes the run DEGRADED",
    "goal(id): The launch goal of the plan that this check serves",
    "phase(name): The phase of the plan in which this check runs; phases run in the plan's order",
    "requires(*capabilities, covered_by=None): What this check needs; covered_by: one that proves the same",
    "establishes(*capabilities): Checks that require the capability come later; if it fails, not at all",
    "control(*checks): This check proves something only if these, its positive controls, passed in this run",
    "drill: This check changes the platform's state; it runs only with --drills",
    "timeout(seconds): How long one attempt at this check may take (default: the plan's check_limit_s)",
    "static: This check looks at a checkout only, so that it passes without a live environment",
)
_SEVERITIES = {"p0": Severity.P0, "p1": Severity.P1}


Part = TypeVar("Part")


class MarkerError(ReadinessError):
    """A check is marked wrongly."""


def read_check(
    item: pytest.Item, goals: tuple[str, ...], phases: tuple[str, ...]
) -> tuple[Check | None, list[MarkerError]]:
    """Read the markers of an item: its check, or None and every mistake that is in them."""
    path, line, _ = item.location
    where = f"{path}:{(line or 0) + 1}"
    mistakes: list[MarkerError] = []

    def read(reader: Callable[[], Part], instead: Part) -> Part:
        try:
            return reader()
        except MarkerError as mistake:
            placed = f"{where}: {getattr(item, 'originalname', None) or item.name}"
            mistakes.append(MarkerError(mistake.what, where=placed, allowed=mistake.allowed))
            return instead

    phase = read(lambda: _one_of(item, "phase", phases), "")
    nothing: tuple[tuple[str, ...], str | None] = ((), None)
    requires, covered_by = read(lambda: _requirements(item), nothing)
    check = Check(
        id=f"{phase}/{_name(item)}",
        nodeid=item.nodeid,
        goal=read(lambda: _one_of(item, "goal", goals, required=False), ""),
        phase=phase,
        severity=read(lambda: _severity(item), Severity.P0),
        requires=requires,
        covered_by=covered_by,
        establishes=read(lambda: tuple(dict.fromkeys(_strings(item, "establishes"))), ()),
        controls=read(lambda: tuple(dict.fromkeys(_strings(item, "control"))), ()),
        drill=item.get_closest_marker("drill") is not None,
        static=item.get_closest_marker("static") is not None,
        limit_s=read(lambda: _limit(item), None),
        where=where,
    )
    return (None if mistakes else check), mistakes


def _name(item: pytest.Item) -> str:
    original = getattr(item, "originalname", None) or item.name.split("[")[0]
    parameters = item.name[len(original) :]
    return original.removeprefix("test_").replace("_", "-") + parameters


def _severity(item: pytest.Item) -> Severity:
    for node, _ in item.iter_markers_with_node():
        found = [name for name in _SEVERITIES if any(mark.name == name for mark in node.own_markers)]
        if len(found) == 1:
            return _SEVERITIES[found[0]]
        if found:
            raise MarkerError("both p0 and p1", allowed="one of pytest.mark.p0, pytest.mark.p1")
    raise MarkerError("no severity", allowed="pytest.mark.p0, pytest.mark.p1")


def _one_of(item: pytest.Item, name: str, allowed: tuple[str, ...], *, required: bool = True) -> str:
    """Return the argument of the nearest marker ``name``: inner ones win, two on one level are a mistake."""
    listed = ", ".join(allowed)
    for node, _ in item.iter_markers_with_node(name):
        marks = [mark for mark in node.own_markers if mark.name == name]
        values = {_single(mark, name) for mark in marks}
        if len(values) > 1:
            raise MarkerError(f"several {name} markers: {', '.join(sorted(values))}", allowed="one")
        value = values.pop()
        if value not in allowed:
            raise MarkerError(f"unknown {name} {value!r}", allowed=listed)
        return value
    if required:
        raise MarkerError(f"no {name}", allowed=listed)
    return ""


def _single(mark: pytest.Mark, name: str) -> str:
    if len(mark.args) != 1 or mark.kwargs or not isinstance(mark.args[0], str):
        raise MarkerError(f"malformed {name} marker", allowed=f'pytest.mark.{name}("...")')
    return mark.args[0]


def _limit(item: pytest.Item) -> float | None:
    """Read the marker that pytest-timeout has, too; its 0 would be no limit, which no check goes without."""
    mark = item.get_closest_marker("timeout")
    if mark is None:
        return None
    seconds = mark.args[0] if mark.args else mark.kwargs.get("timeout")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_LIMIT_S:
        raise MarkerError(
            "malformed timeout marker", allowed=f"pytest.mark.timeout(seconds) above 0, up to {MAX_LIMIT_S}"
        )
    return float(seconds)


def _requirements(item: pytest.Item) -> tuple[tuple[str, ...], str | None]:
    covered_by: str | None = None
    for mark in item.iter_markers("requires"):
        unknown = set(mark.kwargs) - {"covered_by"}
        if unknown or not isinstance(mark.kwargs.get("covered_by"), str | None):
            raise MarkerError(
                "malformed requires marker", allowed='requires("capability", ..., covered_by="phase/check")'
            )
        covered_by = covered_by or mark.kwargs.get("covered_by")
    return tuple(dict.fromkeys(_strings(item, "requires"))), covered_by


def _strings(item: pytest.Item, name: str) -> Iterator[str]:
    for mark in item.iter_markers(name):
        if not mark.args or not all(isinstance(value, str) and value for value in mark.args):
            raise MarkerError(f"malformed {name} marker", allowed=f'pytest.mark.{name}("...", ...)')
        yield from mark.args


class Collector:
    """Reads checks from collected items, refuses what is marked wrongly, and orders phases.

    A worker of xdist cannot stop the run by an error of its own: it is replaced and tries again. So there the
    problem is only kept, nothing is run, and the controller refuses.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._suite = context.settings.root / context.plan.suite
        self._seen: set[str] = set()
        self._mistakes: list[MarkerError] = []
        self._files: set[Path] = set()
        self.checks = Checks()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Make an error of what pytest only warns about."""
        if not is_in_suite(collector.path, self._suite):
            report = yield
        else:
            self._files.add(collector.path.resolve())
            with warnings.catch_warnings():
                warnings.filterwarnings("error", category=pytest.PytestCollectionWarning)
                report = yield
            self._context.origin.end_copy(collector.nodeid, None)
            if isinstance(collector, pytest.Module | pytest.Class) and report.passed:
                self._note_hidden(collector)
        return report

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module or package that skipped itself: which checks it holds is unknown."""
        path = self._context.settings.root / report.nodeid.partition("::")[0]
        if report.skipped and is_in_suite(path, self._suite):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.checks.unread[report.nodeid] = f"skipped altogether: {str(reason).removeprefix('Skipped: ')}"

    @pytest.hookimpl
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Remember each check as it is found, before any hook may drop it."""
        if is_in_suite(item.path, self._suite):
            self._seen.add(item.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Attach a check to each item of the suite; when others have sorted, order the phases.

        This last, stable sort keeps the order that others give to the checks inside a phase. Only what later
        checks rest on goes before its phase.
        """
        members = [item for item in items if is_in_suite(item.path, self._suite)]
        whole = is_whole_suite_asked(config, self._suite.resolve())
        if whole and not config.getoption("lf", False):
            self._note_left_out(config)
        found = [self._check(item) for item in members]
        checks = [check for check in found if check is not None]
        problem = str(together(self._mistakes)) if self._mistakes else self.checks.problem
        if not problem:
            # what cannot be collected is reported as such, and may be all of a phase
            partly = session.testsfailed or self.checks.unread or config.getoption("lf", False)
            phases = () if partly else self._context.plan.phases
            problem = inconsistency(checks, self._context.capabilities, phases, whole=whole)
        if problem:
            self.checks.problem = problem
            items.clear()
            if self._context.settings.is_controller:
                raise pytest.UsageError(problem)
        self.checks.collected = checks
        self.checks.dropped = len(self._seen - {check.nodeid for check in checks})
        yield
        place = {phase: index for index, phase in enumerate(self._context.plan.phases)}
        items.sort(key=lambda item: place[item.stash[CHECK].phase] if CHECK in item.stash else len(place))
        ordered = in_order(item.stash[CHECK] for item in items if CHECK in item.stash)
        turn = {check.id: index for index, check in enumerate(ordered)}
        items.sort(key=lambda item: turn[item.stash[CHECK].id] if CHECK in item.stash else len(turn))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is left to run, in its final order and under the node ids that reports will carry."""
        self.note_selected(session)

    def note_selected(self, session: pytest.Session) -> None:
        """Read the selection from the session."""
        self.checks.selected = {
            item.nodeid: item.stash[CHECK] for item in session.items if CHECK in item.stash
        }

    def _note_hidden(self, collector: pytest.Module | pytest.Class) -> None:
        """Note tests that ``__test__ = False`` hides; a class may hide its own for derived ones."""
        kind = collector.obj
        tests = {name: test for name, test in vars(kind).items() if collector.funcnamefilter(name)}
        if getattr(kind, "__test__", True):
            hidden = [name for name, test in tests.items() if not getattr(test, "__test__", True)]
        else:
            hidden = [] if isinstance(kind, type) and kind.__subclasses__() else [*tests]
        if hidden:
            self.checks.unread[collector.nodeid] = f"__test__ = False hides {', '.join(hidden)}"

    def _note_left_out(self, config: pytest.Config) -> None:
        """Note modules that pytest would collect, had not ``collect_ignore`` or a hook said no."""
        pruned = config.getini("norecursedirs")
        for path in sorted(self._suite.rglob("*.py")):
            inner = path.relative_to(self._suite)
            if (
                not _is_one_of(Path(path.name), config.getini("python_files"))
                or path.resolve() in self._files
            ):
                continue
            if not any(_is_one_of(Path(name), [*pruned, "__pycache__"]) for name in inner.parts[:-1]):
                nodeid = (Path(self._context.plan.suite) / inner).as_posix()
                self.checks.unread[nodeid] = "not collected: collect_ignore or a hook leaves it out"

    def _check(self, item: pytest.Item) -> Check | None:
        """Read a check; None, and its mistakes kept, for one that is marked wrongly."""
        plan = self._context.plan
        check, mistakes = read_check(item, plan.goal_ids, plan.phases)
        self._mistakes += mistakes
        if check is not None:
            item.stash[CHECK] = check
        return check


def tests_named(config: pytest.Config) -> tuple[str, ...]:
    """Return how the names of tests begin, in lower case."""
    patterns = [*config.getini("python_functions"), *config.getini("python_classes")]
    return tuple(re.split(r"[*?\[]", pattern)[0].lower() for pattern in patterns)


def _is_one_of(path: Path, patterns: Iterable[str]) -> bool:
    return any(path.match(pattern) for pattern in patterns)


def is_in_suite(path: Path, suite: Path) -> bool:
    """Tell whether a path lies in the suite, by its name or by what it is: either may be a symbolic link."""
    return path.is_relative_to(suite) or path.resolve().is_relative_to(suite.resolve())

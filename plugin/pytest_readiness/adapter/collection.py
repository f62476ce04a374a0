"""Collection: turns every item of the suite into a check, in the order of the plan's phases."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, TypeAlias, TypeVar

import pytest

from ..core.classify import failure_of
from ..core.errors import ReadinessError, three_lines, together
from ..core.model import Severity
from ..core.plan import MAX_LIMIT_S
from .checks import Check, Checks, in_order, inconsistency, is_whole_suite_asked
from .context import CHECK, RunContext

MARKERS = (
    "p0: Blocking check; its failure makes the run BROKEN",
    "p1: Degrading check; its failure makes the run DEGRADED",
    "goal(id): The launch goal of the plan that this check serves",
    "phase(name): The phase of the plan in which this check runs; phases run in the plan's order",
    "requires(*capabilities, covered_by=None): What this check needs; covered_by: one that proves the same",
    "establishes(*capabilities): Checks that require any of them run after this one; not if it fails",
    "control(*checks): This check proves something only if these, its positive controls, passed in this run",
    "drill: This check changes the platform's state; it runs only with --drills",
    "timeout(seconds): How long one attempt at this check may take (default: the plan's check_limit_s)",
    "static: This check looks at a checkout only, so that it passes without a live environment",
)
_SEVERITIES = {"p0": Severity.P0, "p1": Severity.P1}
_NAMES = tuple(re.split(r"\W", line)[0] for line in MARKERS)
#: Similarity from which a marker's name counts as a misspelling of one of ours.
_NEAR = 0.8

Part = TypeVar("Part")
#: The markers of an item by name and by distance, the nearest first: 0 for its own.
Marks: TypeAlias = dict[str, dict[int, list[pytest.Mark]]]


class MarkerError(ReadinessError):
    """A check has wrong markers."""


#: The ids of an item's parent and own markers, which decide; the check that they make, and mistakes.
MarksOf: TypeAlias = tuple[int, ...]
Declared: TypeAlias = tuple[dict[str, Any], list[MarkerError]]


def read_check(
    item: pytest.Item, goals: tuple[str, ...], phases: tuple[str, ...], known: dict[MarksOf, Declared]
) -> tuple[Check | None, list[MarkerError]]:
    """Read the markers of an item: its check, or None and every mistake in them.

    A misspelt marker is a mistake: pytest only warns, and a check without its ``drill`` or ``requires`` would
    run. ``known`` has the results for other items that still exist: most share all their markers.
    """
    key = (id(item.parent), *map(id, item.own_markers))
    if key not in known:
        marks = _marks(item)
        declared, mistakes = _declared(marks, goals, phases)
        known[key] = declared, [*_misspelt(marks, item.config), *mistakes]
    declared, mistakes = known[key]
    path, line, _ = item.location
    where = f"{path}:{(line or 0) + 1}"
    if mistakes:
        placed = f"{where}: {getattr(item, 'originalname', None) or item.name}"
        return None, [MarkerError(each.what, where=placed, allowed=each.allowed) for each in mistakes]
    name = f"{declared['phase']}/{_name(item)}"
    return Check(id=name, nodeid=item.nodeid, where=where, **declared), []


def _declared(marks: Marks, goals: tuple[str, ...], phases: tuple[str, ...]) -> Declared:
    mistakes: list[MarkerError] = []

    def read(reader: Callable[[], Part], instead: Part) -> Part:
        try:
            return reader()
        except MarkerError as mistake:
            mistakes.append(mistake)
            return instead

    none: tuple[str, ...] = ()
    uncovered: str | None = None
    phase = read(lambda: _one_of(marks, "phase", phases), "")
    requires, covered_by = read(lambda: _requirements(marks), (none, uncovered))
    declared = {
        "goal": read(lambda: _one_of(marks, "goal", goals, required=False), ""),
        "phase": phase,
        "severity": read(lambda: _severity(marks), Severity.P0),
        "requires": requires,
        "covered_by": covered_by,
        "establishes": read(lambda: tuple(dict.fromkeys(_strings(marks, "establishes"))), none),
        "controls": read(lambda: tuple(dict.fromkeys(_strings(marks, "control"))), none),
        "drill": read(lambda: _is_marked(marks, "drill"), False),
        "static": read(lambda: _is_marked(marks, "static"), False),
        "limit_s": read(lambda: _limit(marks), None),
    }
    return declared, mistakes


def _name(item: pytest.Item) -> str:
    original = getattr(item, "originalname", None) or item.name.split("[")[0]
    parameters = item.name[len(original) :]
    return original.removeprefix("test_").replace("_", "-") + parameters


def _marks(item: pytest.Item) -> Marks:
    """Read an item's markers and those of its parents, in one walk."""
    found: Marks = {}
    for depth, node in enumerate(item.iter_parents()):
        for mark in node.own_markers:
            found.setdefault(mark.name, {}).setdefault(depth, []).append(mark)
    return found


def _misspelt(marks: Marks, config: pytest.Config) -> Iterator[MarkerError]:
    """Find unregistered markers that look like a misspelt marker of this plugin."""
    if unknown := marks.keys() - set(_NAMES):
        unknown -= {re.split(r"\W", line.strip())[0] for line in config.getini("markers")}
    for name in sorted(unknown):
        for meant in difflib.get_close_matches(name.lower(), _NAMES, n=1, cutoff=_NEAR):
            yield MarkerError(
                f"unknown marker {name!r}", allowed=f"{meant}, or register {name!r} in pytest's markers"
            )


def _severity(marks: Marks) -> Severity:
    found = {name: min(marks[name]) for name in _SEVERITIES if name in marks}
    if not found:
        raise MarkerError("no severity", allowed="pytest.mark.p0, pytest.mark.p1")
    if len({*found.values()}) < len(found):
        raise MarkerError("both p0 and p1", allowed="one of pytest.mark.p0, pytest.mark.p1")
    nearest = min(found, key=found.__getitem__)
    _is_marked(marks, nearest)
    return _SEVERITIES[nearest]


def _is_marked(marks: Marks, name: str) -> bool:
    """Tell whether a marker without arguments is present: ``static(False)`` would mean the opposite."""
    if any(mark.args or mark.kwargs for mark in _all(marks, name)):
        raise MarkerError(f"malformed {name} marker", allowed=f"pytest.mark.{name}, without arguments")
    return name in marks


def _one_of(marks: Marks, name: str, allowed: tuple[str, ...], *, required: bool = True) -> str:
    """Return the argument of the nearest marker ``name``: inner ones win; two on one level are a mistake."""
    listed = ", ".join(allowed)
    for nearest in marks.get(name, {}).values():
        values = {_single(mark, name) for mark in nearest}
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


def _all(marks: Marks, name: str) -> Iterator[pytest.Mark]:
    """Yield the markers of a name, the nearest first."""
    return (mark for level in marks.get(name, {}).values() for mark in level)


def _limit(marks: Marks) -> float | None:
    """Read the marker ``timeout``, which pytest-timeout also has; 0 (no limit) is refused."""
    mark = next(_all(marks, "timeout"), None)
    if mark is None:
        return None
    seconds = mark.args[0] if mark.args else mark.kwargs.get("timeout")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_LIMIT_S:
        raise MarkerError(
            "malformed timeout marker", allowed=f"pytest.mark.timeout(seconds) above 0, up to {MAX_LIMIT_S}"
        )
    return float(seconds)


def _requirements(marks: Marks) -> tuple[tuple[str, ...], str | None]:
    covered_by: str | None = None
    for mark in _all(marks, "requires"):
        unknown = set(mark.kwargs) - {"covered_by"}
        if unknown or not isinstance(mark.kwargs.get("covered_by"), str | None):
            raise MarkerError(
                "malformed requires marker", allowed='requires("capability", ..., covered_by="phase/check")'
            )
        covered_by = covered_by or mark.kwargs.get("covered_by")
    return tuple(dict.fromkeys(_strings(marks, "requires"))), covered_by


def _strings(marks: Marks, name: str) -> Iterator[str]:
    for mark in _all(marks, name):
        if not mark.args or not all(isinstance(value, str) and value for value in mark.args):
            raise MarkerError(f"malformed {name} marker", allowed=f'pytest.mark.{name}("...", ...)')
        yield from mark.args


class Collector:
    """Reads checks from collected items, refuses wrong markers, and orders phases.

    An error cannot stop the run on an xdist worker: the worker is replaced and tries again. There the problem
    is only kept, nothing is run, and the controller refuses.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._suite = context.settings.root / context.plan.suite
        self._seen: set[str] = set()
        self._mistakes: list[MarkerError] = []
        self._files: set[Path] = set()
        #: Node ids, without parameters, of the tests and test classes in a module, and of those that pytest
        #: collected.
        self._held: set[str] = set()
        self._found: set[str] = set()
        #: The hooks that could complete the profile before anything was collected.
        self._asked: list[Any] = []
        #: Path -> whether it is in the suite: every item of a module needs its path.
        self._places: dict[Path, bool] = {}
        self.checks = Checks()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Note which conftests have completed the profile: pytest loads others only now."""
        self._asked = session.config.hook.pytest_readiness_environment.get_hookimpls()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Turn pytest's collection warnings into errors."""
        if not self._has(collector.path):
            report = yield
        else:
            self._files.add(collector.path.resolve())
            with warnings.catch_warnings():
                warnings.filterwarnings("error", category=pytest.PytestCollectionWarning)
                try:
                    report = yield
                except SystemExit as problem:  # pytest would end the run with an internal error
                    said = f"{failure_of(problem, str(self._context.settings.root))}: it ends the process"
                    report = pytest.CollectReport(collector.nodeid, "failed", said, None)
            self._context.origin.end_copy(collector.nodeid, None)
            if isinstance(collector, pytest.Module | pytest.Class) and report.passed:
                self._note_hidden(collector)
                self._found.add(collector.nodeid)
                self._held |= {f"{collector.nodeid}::{name}" for name in _tests_in(collector)}
        return report

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a module or package that skipped itself: its checks are unknown."""
        path = self._context.settings.root / report.nodeid.partition("::")[0]
        if report.skipped and self._has(path):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.checks.unread[report.nodeid] = f"skipped altogether: {str(reason).removeprefix('Skipped: ')}"

    @pytest.hookimpl
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Record each check when it is collected, before a hook can drop it."""
        if self._has(item.path):
            self._seen.add(item.nodeid)
            self._found.add(_without_parameters(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, None, None]:
        """Attach a check to each item of the suite; after other plugins have sorted, order the phases.

        This last sort is stable and keeps their order within a phase. Only prerequisites of other checks
        run before their phase.
        """
        members = [item for item in items if self._has(item.path)]
        whole = is_whole_suite_asked(config, self._suite.resolve())
        if whole and not config.getoption("lf", False):
            self._note_left_out(config)
            self._note_dropped()
        known: dict[MarksOf, Declared] = {}
        found = [self._check(item, known) for item in members]
        checks = [check for check in found if check is not None]
        problem = str(together(self._mistakes)) if self._mistakes else ""
        problem = problem or self.checks.problem or self._late(config)
        if not problem:
            # modules that cannot be collected are reported, and may contain all of a phase
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
        left = (item.stash[CHECK] for item in items if CHECK in item.stash)
        ordered = in_order(left, self._context.plan.phases)
        turn = {check.id: index for index, check in enumerate(ordered)}
        items.sort(key=lambda item: turn[item.stash[CHECK].id] if CHECK in item.stash else len(turn))
        self._leave_to_others(config, items)

    def _late(self, config: pytest.Config) -> str:
        """Name a hook that should have completed the profile, but was loaded when checks were collected."""
        suite = self._context.plan.suite
        for hook in config.hook.pytest_readiness_environment.get_hookimpls():
            # a conftest elsewhere may belong to another project's suite
            ours = not os.path.isabs(hook.plugin_name) or is_in_suite(Path(hook.plugin_name), self._suite)
            if ours and hook not in self._asked and not self._context.settings.inert:
                return three_lines(
                    "hook pytest_readiness_environment: loaded too late to be called",
                    where=hook.plugin_name.removeprefix(f"{self._context.settings.root}{os.sep}"),
                    allowed=f"{suite}/conftest.py, or the conftest.py beside the plan",
                    action=f"ask for the suite: pytest {suite}"
                    if Path(hook.plugin_name).parent == self._suite
                    else f"move it to {suite}/conftest.py, then ask for the suite: pytest {suite}",
                )
        return ""

    def _leave_to_others(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect what other shards run: one shard runs all checks of a file and phase."""
        shard = self._context.settings.shard
        if shard is None:
            return
        own: list[pytest.Item] = []
        others: list[pytest.Item] = []
        for item in items:
            mine = CHECK not in item.stash or shard.has(item.stash[CHECK].unit)
            (own if mine else others).append(item)
        self.checks.elsewhere = {item.stash[CHECK].id for item in others}
        items[:] = own
        config.hook.pytest_deselected(items=others)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record the checks to run, in their final order and with the node ids of their reports."""
        self.note_selected(session)

    def note_selected(self, session: pytest.Session) -> None:
        """Read the selection from the session."""
        self.checks.selected = {
            item.nodeid: item.stash[CHECK] for item in session.items if CHECK in item.stash
        }

    def _has(self, path: Path) -> bool:
        if path not in self._places:
            self._places[path] = is_in_suite(path, self._suite)
        return self._places[path]

    def _note_hidden(self, collector: pytest.Module | pytest.Class) -> None:
        """Note tests that ``__test__ = False`` hides, and marked ones whose name pytest does not collect.

        A base class may hide its own tests.
        """
        kind = collector.obj
        tests = {name: test for name, test in vars(kind).items() if collector.funcnamefilter(name)}
        if getattr(kind, "__test__", True):
            hidden = [name for name, test in tests.items() if not getattr(test, "__test__", True)]
        else:
            hidden = [] if isinstance(kind, type) and kind.__subclasses__() else [*tests]
        if hidden:
            self.checks.unread[collector.nodeid] = f"__test__ = False hides {', '.join(hidden)}"
        home, collected = getattr(kind, "__module__", kind.__name__), {*map(id, tests.values())}
        left_out = [name for name, test in vars(kind).items()
                    if _has_severity(test, home) and id(test) not in collected]  # fmt: skip
        if left_out:
            self.checks.unread[collector.nodeid] = f"not collected, by its name: {', '.join(left_out)}"

    def _note_left_out(self, config: pytest.Config) -> None:
        """Note modules that pytest would collect without ``collect_ignore`` or a hook."""
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

    def _note_dropped(self) -> None:
        """Note tests that did not become items: a hook dropped them."""
        for lost in self._held - self._found:
            self.checks.unread[lost] = "not collected: a hook leaves it out"

    def _check(self, item: pytest.Item, known: dict[MarksOf, Declared]) -> Check | None:
        """Read a check; None if its markers are wrong, and the mistakes are kept."""
        plan = self._context.plan
        check, mistakes = read_check(item, plan.goal_ids, plan.phases, known)
        self._mistakes += mistakes
        if check is not None:
            item.stash[CHECK] = check
        return check


def _has_severity(test: object, home: str) -> bool:
    """Tell whether a function of the module ``home`` is itself marked as a check, whatever its name."""
    ours = isinstance(test, FunctionType) and test.__module__ == home
    return ours and any(mark.name in _SEVERITIES for mark in getattr(test, "pytestmark", ()))


def _tests_in(collector: pytest.Module | pytest.Class) -> Iterator[str]:
    """Yield the names of the functions and classes that pytest collects as tests."""
    holder = collector.obj
    if not getattr(holder, "__test__", True):
        return
    imported = isinstance(holder, type) or collector.config.getini("collect_imported_tests")
    for kind in getattr(holder, "__mro__", [holder]):
        for name, member in vars(kind).items():
            if isinstance(member, type):
                is_test = collector.istestclass(member, name)
            else:
                test = getattr(member, "__func__", member)  # a static method or a class method
                is_test = inspect.isfunction(test) and collector.istestfunction(member, name)
                is_test = is_test and getattr(test, "__test__", True)
            if is_test and (imported or member.__module__ == holder.__name__):
                yield name


def _without_parameters(item: pytest.Item) -> str:
    """Return the node id of an item's function: the parameters in the item's own id may be redacted."""
    name = getattr(item, "originalname", None) or item.name.split("[")[0]
    return f"{item.parent.nodeid}::{name}" if item.parent else item.nodeid


def tests_named(config: pytest.Config) -> tuple[str, ...]:
    """Return the prefixes of test names, in lower case."""
    patterns = [*config.getini("python_functions"), *config.getini("python_classes")]
    return tuple(re.split(r"[*?\[]", pattern)[0].lower() for pattern in patterns)


def _is_one_of(path: Path, patterns: Iterable[str]) -> bool:
    return any(path.match(pattern) for pattern in patterns)


def is_in_suite(path: Path, suite: Path) -> bool:
    """Tell whether a path is in the suite, by name or by location: either may be a symbolic link."""
    return path.is_relative_to(suite) or path.resolve().is_relative_to(suite.resolve())

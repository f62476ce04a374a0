"""Collection: every item of the suite becomes a check, in the order of the plan's phases."""

from __future__ import annotations

from collections.abc import Generator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from ..core.errors import together
from .catalogue import Catalogue, Check, inconsistency
from .context import CHECK, RunContext
from .markers import MarkerError, read_check
from .options import asked_paths

#: Settings and built-in plugins that decide what is collected; a suite's own file may set them, for good.
_COLLECTION_INI = frozenset(
    {"python_files", "python_classes", "python_functions", "norecursedirs", "collect_imported_tests"}
)
_COLLECTION_PLUGINS = ("python", "unittest")


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
        self.catalogue = Catalogue()

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a part of the suite that was skipped whole: what checks it holds, nobody knows."""
        path = self._context.settings.root / report.nodeid.partition("::")[0]
        if report.skipped and is_in_suite(path, self._suite):
            told = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.catalogue.unread[report.nodeid] = (
                f"skipped as a whole: {str(told).removeprefix('Skipped: ')}"
            )

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

        This last, stable sort keeps the order that others give to the checks inside a phase.
        """
        members = [item for item in items if is_in_suite(item.path, self._suite)]
        whole = is_whole_suite_asked(config, self._suite.resolve())
        found = [self._check(item) for item in members]
        checks = [check for check in found if check is not None]
        problem = str(together(self._mistakes)) if self._mistakes else ""
        if not problem:
            # what cannot be collected is reported as such, and may be all of a phase
            partly = session.testsfailed or self.catalogue.unread or config.getoption("lf", False)
            phases = () if partly else self._context.plan.phases
            problem = inconsistency(checks, self._context.capabilities, phases, whole=whole)
        if problem:
            self.catalogue.problem = problem
            items.clear()
            if self._context.settings.is_controller:
                raise pytest.UsageError(problem)
        self.catalogue.collected = checks
        self.catalogue.dropped = len(self._seen - {check.nodeid for check in checks})
        yield
        place = {phase: index for index, phase in enumerate(self._context.plan.phases)}
        items.sort(key=lambda item: place[item.stash[CHECK].phase] if CHECK in item.stash else len(place))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is left to run, in its final order and under the node ids that reports will carry."""
        self.note_selected(session)

    def note_selected(self, session: pytest.Session) -> None:
        """Read the selection from the session."""
        self.catalogue.selected = {
            item.nodeid: item.stash[CHECK] for item in session.items if CHECK in item.stash
        }

    def _check(self, item: pytest.Item) -> Check | None:
        """Read a check; None, and its mistakes kept, for one that is marked wrongly."""
        plan = self._context.plan
        check, mistakes = read_check(item, plan.goal_ids, plan.phases)
        self._mistakes += mistakes
        if check is not None:
            item.stash[CHECK] = check
        return check


def is_in_suite(path: Path, suite: Path) -> bool:
    """Tell whether a path lies in the suite, by its name or by what it is: either may be a symbolic link."""
    return path.is_relative_to(suite) or path.resolve().is_relative_to(suite.resolve())


def is_narrowed(config: pytest.Config, suite: Path) -> bool:
    """Tell whether the invocation may leave a part of the suite out, before anything is collected."""
    selects = ("lf", "keyword", "markexpr", "deselect")
    return any(config.getoption(name, None) for name in selects) or not is_whole_suite_asked(config, suite)


def is_whole_suite_asked(config: pytest.Config, suite: Path) -> bool:
    """Tell whether the invocation names the suite's directory or one around it, and hides no part of it."""
    asked = any(
        suite.is_relative_to(path)
        for path, argument in zip(asked_paths(config), config.args, strict=True)
        if "::" not in argument
    )
    return asked and not _ignores_part_of(config, suite) and not _collects_otherwise(config)


def _collects_otherwise(config: pytest.Config) -> bool:
    """Tell whether this invocation alone changes what pytest takes for a test: nobody would miss the rest."""
    overridden = {entry.partition("=")[0].strip() for entry in config.getoption("override_ini", None) or ()}
    return bool(overridden & _COLLECTION_INI) or any(
        config.pluginmanager.is_blocked(name) for name in _COLLECTION_PLUGINS
    )


def _ignores_part_of(config: pytest.Config, suite: Path) -> bool:
    base = config.invocation_params.dir
    ignored = [(base / path).resolve() for path in config.getoption("ignore", None) or ()]
    if any(path.is_relative_to(suite) or suite.is_relative_to(path) for path in ignored):
        return True
    globs = [str(base / glob) for glob in config.getoption("ignore_glob", None) or ()]
    # As pytest matches: a * also matches slashes, and a directory that matches goes with all it holds.
    return any(fnmatch(str(path), glob) for glob in globs for path in (suite, *suite.rglob("*")))

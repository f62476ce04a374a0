"""The first and the last act of a run. The first precedes any conftest, so that a kill leaves no old verdict.

pytest does not know all options then, because a conftest may add some. They are read again once all are
known; if the run turns out not to concern the plan, the reports of the earlier run are restored.
"""

from __future__ import annotations

import copy
import os
import sys
import traceback
from collections.abc import Generator, Sequence
from glob import glob
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from ..core.errors import ReadinessError
from ..core.plan import PLAN_NAME
from ..profile import DEFAULT_ENVIRONMENT
from .channels import guard
from .options import LEFT_OUT, Settings, asked_paths, is_active, is_inert, suite_name

if TYPE_CHECKING:
    from .reports import Reports

#: The reports of this run, from its first act on.
REPORTS: pytest.StashKey[Reports] = pytest.StashKey()
#: pytest's options that end it before anything is collected.
_ENDS_EARLY = ("help", "version", "markers")


def first_act(early_config: pytest.Config, parser: pytest.Parser, args: Sequence[str]) -> None:
    """Write NO_VERDICT where this run will report, if it concerns the plan; UsageError if that fails."""
    asked = _as_asked(early_config, parser, args)
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if is_worker or is_inert(asked) or not is_active(asked):
        return
    if any(asked.getoption(name, False) for name in _ENDS_EARLY):
        return
    from .reports import Reports  # imports that other runs do not need

    reports = Reports(asked, Settings.from_config(asked))
    try:
        reports.begin()
    except ReadinessError as problem:
        raise pytest.UsageError(str(problem)) from None
    early_config.stash[REPORTS] = reports


def retract(config: pytest.Config) -> None:
    """Restore the earlier reports: with all options known, this run does not concern the plan."""
    if REPORTS in config.stash:
        config.stash[REPORTS].undo()


class SuiteLeftOut:
    """Keeps the suite out of a run for other tests, and says how to run its checks."""

    def __init__(self, config: pytest.Config) -> None:
        self._name = suite_name(config.rootpath / PLAN_NAME)
        self._suite = (config.rootpath / self._name).resolve()
        base = config.invocation_params.dir
        config.args = [path for path in config.args if not self._has((base / path.split("::")[0]).resolve())]

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Ignore the suite's directory, even through a symbolic link."""
        return True if self._has(collection_path.resolve()) else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Have an xdist worker leave out the suite as well."""
        node.workerinput[LEFT_OUT] = True

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what did not run: a pass of the other tests says nothing about the suite."""
        terminalreporter.write_line(
            f"readiness: {self._name}/ did not run: there is no environment {DEFAULT_ENVIRONMENT!r};"
            f" next: readiness run --env NAME"
        )

    def _has(self, path: Path) -> bool:
        return path.is_relative_to(self._suite)


class LastAct:
    """Ends the process with the reports' exit code, even if other hooks change the status or fail.

    Registered after the plugins and conftests that are known at the start, it wraps all of them.
    """

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, object, object]:
        """Show what failed outside the session; pytest itself reports bad input."""
        try:
            result = yield
        except pytest.UsageError:
            raise
        except BaseException:
            sys.stderr.write(guard(config).shown(traceback.format_exc()))
            result = pytest.ExitCode.INTERNAL_ERROR
        return self._reports.answer(int(cast("int", result)))


def _as_asked(early_config: pytest.Config, parser: pytest.Parser, args: Sequence[str]) -> pytest.Config:
    """Return the configuration with the options and paths known so far.

    A conftest's option is not known yet, and the word after it may be its value: such a word counts as a path
    only if it leads to the suite.
    """
    asked = copy.copy(early_config)
    asked.option = early_config.known_args_namespace
    _, unknown = parser.parse_known_and_unknown_args(args, copy.copy(asked.option))
    values = {value for word, value in pairwise(args) if word in unknown and "=" not in word}
    asked.args = list(asked.option.file_or_dir)
    root, directory = early_config.rootpath, early_config.invocation_params.dir
    if values.intersection(asked.args):
        suite = (root / suite_name(root / PLAN_NAME)).resolve()
        asked.args = [
            word
            for word, path in zip(asked.args, asked_paths(asked), strict=True)
            if word not in values or path.is_relative_to(suite) or suite.is_relative_to(path)
        ]
    if not asked.args and directory == root:
        patterns = early_config.getini("testpaths")
        asked.args = [path for pattern in patterns for path in glob(pattern, root_dir=root, recursive=True)]
    asked.args = asked.args or [str(directory)]
    return asked

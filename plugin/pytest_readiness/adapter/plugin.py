"""Entry module of the pytest plugin: wires it, declares the hooks of a suite, begins and ends a run.

The first act of a run precedes any conftest, so that a kill leaves no old verdict. pytest does not know all
options then, because a conftest may add some. They are read again once all are known; if the run turns out
not to concern the plan, the reports of the earlier run are restored.
"""

from __future__ import annotations

import copy
import os
import sys
import traceback
from collections.abc import Generator, Mapping, Sequence
from glob import glob
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from ..core.errors import ReadinessError
from ..core.plan import PLAN_NAME
from ..profile import DEFAULT_ENVIRONMENT
from . import options
from .options import LEFT_OUT, Settings, asked_paths, is_active, is_inert, suite_name

if TYPE_CHECKING:
    from .reports import Reports

#: The reports of this run, from its first act on.
REPORTS: pytest.StashKey[Reports] = pytest.StashKey()
#: pytest's options that end it before anything is collected.
_ENDS_EARLY = ("help", "version", "markers")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; they cost nothing until a run is active."""
    options.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that a conftest may implement."""
    pluginmanager.add_hookspecs(Hooks)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """If there is a plan, redact the output and replace an older verdict before a conftest acts."""
    if not (early_config.rootpath / PLAN_NAME).is_file():
        return (yield)
    from .channels import guard
    from .context import MACHINERY
    from .machinery import Machinery

    guard(early_config)
    early_config.stash[MACHINERY] = Machinery()
    _ask_for_suite(early_config, args)
    first_act(early_config, parser, args)
    own = os.getpid()
    try:
        result = yield
        if REPORTS in early_config.stash:
            early_config.pluginmanager.register(LastAct(early_config.stash[REPORTS]), "readiness-last-act")
        return result
    finally:
        if os.getpid() != own:  # a conftest forked; the copy would be a second run
            os._exit(1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin's objects if this run concerns a launch plan; otherwise register nothing."""
    if is_active(config):
        from .wiring import register

        register(config, config.stash.get(REPORTS, None))
    elif (config.rootpath / PLAN_NAME).is_file():
        from .channels import guard

        guard(config).close()
        retract(config)
        if options.leaves_out_suite(config):
            config.pluginmanager.register(SuiteLeftOut(config), "readiness-left-out")


class Hooks:
    """Hooks that a suite or a composition root may implement."""

    @pytest.hookspec(firstresult=True)
    def pytest_readiness_environment(
        self, name: str, profile: Any, config: pytest.Config
    ) -> Mapping[str, Any] | None:
        """Return values for a profile, such as the addresses of a platform that the hook started.

        Called once, on the controller, before anything is collected; never with ``--collect-only``. ``name``
        is the value of ``--env`` as given, ``profile`` the values of file and variables
        (``profile.get("section.key")``). Return nested tables in the shape of a profile file, or None. Use
        ``config.add_cleanup`` for everything that must end with the run. The result is sent to xdist workers,
        so it must be plain data. An exception ends the run as bad input; ``pytest.exit`` ends it without a
        verdict.
        """

    @pytest.hookspec
    def pytest_readiness_warm(self) -> None:
        """Load what every run needs and no run changes, such as certificates or descriptions of services.

        Called once by the self-test, after the collection, in the process that its runs are forked from;
        never in an ordinary run. Nothing may be sent or left open, because hundreds of runs inherit it. An
        exception goes to the self-test's log and only costs the time that the hook would have saved.
        """

    @pytest.hookspec(firstresult=True)
    def pytest_readiness_build_identity(self, environment: Any) -> Mapping[str, str] | None:
        """Return which build of each service is running, as service -> id; an empty id means unknown.

        Called on the controller after collection and again after the last check, with a short deadline. After
        an exception or a missed deadline the builds are unknown, and the report notes it.
        """

    @pytest.hookspec(firstresult=True)
    def pytest_readiness_classify(self, exception: BaseException, check: Mapping[str, Any]) -> str | None:
        """Return the failure class of an exception that a check raised, or None to use the built-in rules.

        Called in the process that ran the check. ``check`` has the data in the reports: check_id, goal,
        phase, severity and more. Allowed: PLATFORM_BUG, CHECK_ERROR, SETUP_ERROR, EXTERNAL_OUTAGE; anything
        else, or an exception, makes the failure a CHECK_ERROR.
        """


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
            from .channels import guard

            sys.stderr.write(guard(config).shown(traceback.format_exc()))
            result = pytest.ExitCode.INTERNAL_ERROR
        return self._reports.answer(int(cast("int", result)))


def _ask_for_suite(early_config: pytest.Config, args: list[str]) -> None:
    """Have ``readiness run --rootdir ELSEWHERE`` run the plan's suite if no path is given.

    The command sets ``testpaths``, which pytest ignores outside the rootdir. Inside the suite, a run without
    a path is for the current directory.
    """
    root, directory = early_config.rootpath, early_config.invocation_params.dir
    known = early_config.known_args_namespace
    suite = root / suite_name(root / PLAN_NAME)
    if directory == root or directory.is_relative_to(suite) or known.file_or_dir:
        return
    if any(word.startswith("testpaths=") for word in known.override_ini or ()):
        for paths in (args, known.file_or_dir):  # pytest has read the arguments once, and reads them again
            paths.append(str(suite))


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

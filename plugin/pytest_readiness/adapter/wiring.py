"""Registers the plugin's objects of an active run in each process.

Also shows progress in the terminal: phase, checks done, time left.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest

from ..core.errors import LedgerError, PlanError, ReadinessError, three_lines
from ..core.formats import digest, format_moment, parse_moment, text_of, utc_now
from ..core.model import Verdict
from ..core.plan import PLAN_NAME, Exclusion
from ..core.verdict import exit_code
from ..ledger.chain import Holder, Keeper, wait_for
from ..profile import Environment
from ..profile.profile import Profile
from ..report import RESULTS_NAME
from ..report.html import page_template
from . import context as fixtures
from .channels import REDACTOR, guard
from .checks import Check, Checks
from .collection import MARKERS, Collector, tests_named
from .context import REGISTERED, RUN, RunContext, ask_hook, begin, enter, read_profile
from .gate import Gate
from .judgement import Judge, MergedJudge, NothingToRun, Shards
from .leftovers import BackgroundFailures
from .listener import Listener, SharedFixtures
from .options import Settings, asked_paths
from .outcomes import Tally
from .provenance import History, problems_of, runner
from .recorder import Limits, Recorder, Repetition, set_defaults
from .reports import HtmlBridge, Reports

#: Seconds between progress lines within one phase.
EVERY_S = 10.0


class Estimate:
    """Estimates the remaining time from the previous run, or else from this run's checks so far.

    ``earlier`` are the ledger's entries of the environment, newest last.
    """

    def __init__(self, earlier: Sequence[Mapping[str, Any]]) -> None:
        last = next((entry for entry in reversed(earlier) if _tells_time(entry)), None)
        self._took_s = _took_s(last) if last else {}
        self._per_second = 1.0  # wall seconds per second of checks: less than 1 if workers share them
        if last is not None:
            clock = (parse_moment(last["finished_at"]) - parse_moment(last["started_at"])).total_seconds()
            self._per_second = clock / sum(self._took_s.values())

    def left_s(self, done: int, waiting: Sequence[str], elapsed_s: float) -> float | None:
        """Return the seconds that the checks ``waiting`` (ids) will take; None before anything is known."""
        if self._took_s:
            unknown = sum(self._took_s.values()) / len(self._took_s)
            return self._per_second * sum(self._took_s.get(check, unknown) for check in waiting)
        return elapsed_s / done * len(waiting) if done else None


class RunProgress:
    """Writes a line when a phase begins, and more lines during a long one.

    These are separate lines between pytest's: nothing is moved or erased, so they also work with other
    plugins.
    """

    def __init__(
        self, config: pytest.Config, phases: Sequence[str], checks: Callable[[], Checks], estimate: Estimate
    ) -> None:
        self._reporter: Any = config.pluginmanager.getplugin("terminalreporter")
        self._writer = config.get_terminal_writer()
        self._phases = phases
        self._checks = checks
        self._estimate = estimate
        self._done: set[str] = set()
        self._phase = -1
        self._began = self._said = 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write progress before pytest names the check."""
        selected = self._checks().selected
        if nodeid not in selected:
            return
        now = time.monotonic()
        self._began = self._began or now
        phase = self._phases.index(selected[nodeid].phase)
        if phase <= self._phase and now - self._said < EVERY_S:  # workers may also return to an earlier phase
            return
        self._phase, self._said = max(phase, self._phase), now
        self._write(self.line(selected, now - self._began))

    @pytest.hookimpl
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Count a check that has ended."""
        self._done.add(nodeid)

    def line(self, selected: Mapping[str, Check], elapsed_s: float) -> str:
        """Return the line, given the run's checks by node id and the seconds since the first one began."""
        waiting = [check.id for nodeid, check in selected.items() if nodeid not in self._done]
        done = len(selected) - len(waiting)
        left = self._estimate.left_s(done, waiting, elapsed_s)
        return (
            f"readiness: phase {self._phase + 1} of {len(self._phases)} ({self._phases[self._phase]}), "
            f"{done} of {len(selected)} checks done" + ("" if left is None else f", {_about(left)} left")
        )

    def _write(self, line: str) -> None:
        self._reporter.ensure_newline()
        if self._writer.width_of_current_line:  # -q and xdist print letters, which are no line to pytest
            self._writer.line()
        self._writer.write(line, cyan=True)
        if not (self._reporter.showfspath or self._reporter.showlongtestinfo):
            self._writer.line()  # otherwise pytest ends the line, as it does before a check's name
        self._reporter.flush()


def is_wanted(config: pytest.Config) -> bool:
    """Tell whether a run shows progress: as the option says, else on a terminal without ``-qq``."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    asked = config.getoption("readiness_progress")
    if reporter is None or asked == "no":
        return False
    return asked == "yes" or (bool(reporter.isatty) and config.get_verbosity() > -2)


def _tells_time(entry: Mapping[str, Any]) -> bool:
    """Tell whether a past run finished and has durations of its checks."""
    return bool(entry.get("complete")) and sum(_took_s(entry).values()) > 0


def _took_s(entry: Mapping[str, Any]) -> dict[str, float]:
    return {check["id"]: float(check.get("duration_s") or 0) for check in entry["checks"]}


def _about(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"


#: Prefix of the names of the plugin's objects, as in ``-p no:NAME``.
PREFIX = "readiness-"


def register(config: pytest.Config, begun: Reports | None) -> None:
    """Set the defaults of other plugins and register the object that starts the run.

    ``begun`` are its reports since its first act, if it had one.
    """
    if config.getoption("pastebin", None):
        raise pytest.UsageError(
            "--pastebin sends the output to a public site"
            "\n  next: share reports/readiness.md, from which secrets have been removed"
        )
    settings = Settings.from_config(config)
    if config.pluginmanager.is_blocked(f"{PREFIX}start"):
        raise pytest.UsageError(refusal(config))
    if settings.merge and settings.distribution != "no":  # nothing runs, so no workers are needed
        config.option.dist, config.option.tx = "no", []
        settings = Settings.from_config(config)
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if begun is not None:
        begun.confirm(config, settings)
    reports = begun or Reports(config, settings)
    set_defaults(config)
    judges = settings.is_controller and not settings.inert
    if judges and has_html(config) and not config.getoption("htmlpath") and _can_hold(reports.directory):
        config.option.htmlpath = str(reports.directory / RESULTS_NAME)
        config.option.self_contained_html = True
    add(config, "channels", guard(config))
    add(config, "fixtures", fixtures)
    starter: object = WorkerStart(config, settings)
    if settings.is_controller:
        starter = ControllerStart(config, settings, reports)
    add(config, "start", starter)


class ControllerStart:
    """Starts a run in the process that judges it."""

    def __init__(self, config: pytest.Config, settings: Settings, reports: Reports) -> None:
        self._config = config
        self._settings = settings
        self._reports = reports

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Say NO_VERDICT first, then validate every input, before anything is collected or sent."""
        try:
            if not self._settings.inert:
                self._reports.begin()
            self._start()
        except ReadinessError as problem:
            raise pytest.UsageError(str(problem)) from None

    @pytest.hookimpl
    def pytest_readiness_warm(self) -> None:
        """Do once what every run of a self-test would do in the same way: the results are remembered."""
        context = self._config.stash[RUN]
        suite = (context.settings.root / context.plan.suite).resolve()
        problems_of(suite, context.plan.suite, tests_named(self._config))
        page_template()
        inspect.getmodule(register.__code__)  # looks through all modules, as the first traceback does

    @pytest.hookimpl
    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Let the reports say what ended a run before its first check."""
        why = ": ".join(filter(None, (excinfo.typename, text_of(excinfo.value))))
        self._reports.ended_by = guard(self._config).shown(f"the run was interrupted: {why}")

    def _start(self) -> None:
        settings = self._settings
        if settings.distribution == "each":
            raise pytest.UsageError(
                "--dist each would run every check several times"
                "\n  allowed: loadfile, loadscope, loadgroup, load, worksteal"
            )
        _refuse_missing(self._config)
        shared = _shared_directory(self._config) if settings.is_distributed and not settings.inert else None
        context = begin(settings, self._reports.run_id, self._config.stash[REDACTOR])
        self._config.stash[RUN] = context
        collector = Collector(context)
        add(self._config, "collector", collector)
        if settings.inert:
            return
        if problem := refusal(self._config):
            raise pytest.UsageError(problem)
        profile = read_profile(self._config, context)
        history = History(context, profile.name)
        overlay = ask_hook(self._config, context, profile)
        environment = enter(context, profile, overlay)
        if environment.profile.name != profile.name:
            history = History(context, environment.profile.name)
        if self._reports.seems_full:
            history.ledger.prepare()
        self._occupy(environment, history)
        tally = Tally(context.redactor)
        add(self._config, "tally", tally)
        checks = lambda: collector.checks  # noqa: E731
        if shared is not None:
            from .distributed import Distribution

            distribution = Distribution(context, shared, overlay, tally.stop)
            add(self._config, "distribution", distribution)
            checks = distribution.checks
        else:
            beside_checks(self._config, context)
        judge = Judge(self._config, context, tally, history, checks)
        if settings.merge:
            add(self._config, "merge", NothingToRun())
            judge = MergedJudge(self._config, context, tally, history, Shards.read(settings.merge))
        if is_wanted(self._config):
            estimate = Estimate(history.entries.get(environment.profile.name, ()))
            add(self._config, "progress", RunProgress(self._config, context.plan.phases, checks, estimate))
        if has_html(self._config):
            add(self._config, "html", HtmlBridge(self._config, judge.model, self._reports, context.redactor))
        add(self._config, "gate", Gate(self._config, context, tally, judge, self._reports))

    def _occupy(self, environment: Environment, history: History) -> None:
        """Take the lease of the platform; end without a verdict if another run has it."""
        context, rule = self._config.stash[RUN], self._config.stash[RUN].plan.lease
        key = leased(rule, environment.profile)
        if not key or self._settings.merge or self._settings.shard:  # shards of a run share its platform
            return
        wait_s = rule.wait_s if self._settings.wait_s is None else self._settings.wait_s
        reporter = self._config.pluginmanager.getplugin("terminalreporter")

        def waits(holder: Holder) -> None:
            if reporter is not None:
                waiting = f"readiness: waiting for {holder}, up to {wait_s} s"
                reporter.write_line(context.redactor.shown(waiting))

        lease = history.ledger.lease(key)
        own = Holder(context.run_id, runner() or gethostname(), format_moment(utc_now()))
        try:
            other = wait_for(lease, own, wait_s, waits)
        except LedgerError as problem:
            if self._reports.seems_full:
                raise
            context.notes.append(f"without a lease: {str(problem).splitlines()[0]}")
            return
        if other is not None:
            why = context.redactor.shown(
                f"another run uses this platform: {other}; waited {wait_s} s for it to end"
            )
            self._reports.withdraw(why)
            raise _NoVerdict(f"{why}\n  next: {_WAIT}", returncode=exit_code(Verdict.NO_VERDICT))
        self._config.add_cleanup(Keeper(lease, context.stray.append).end)
        history.refresh()  # the ledger now contains the run that this one waited for


def _refuse_missing(config: pytest.Config) -> None:
    """Raise UsageError for a path that does not exist, before its missing conftest causes other errors."""
    if config.getoption("pyargs", False):
        return
    for argument, path in zip(config.args, asked_paths(config), strict=True):
        if not path.exists():
            raise pytest.UsageError(three_lines("no such file or directory", where=argument))


_WAIT = "let that run end, then start this one again, or wait longer for it: --readiness-wait SECONDS"
#: pytest prints the name of the exception that ends a session before it begins, then its text.
_NoVerdict = type(Verdict.NO_VERDICT.value, (pytest.exit.Exception,), {"__module__": "builtins"})


class WorkerStart:
    """Starts a run in an xdist worker, from the controller's data."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Rebuild the run's inputs and register the objects that wrap checks."""
        from .distributed import WORKERINPUT_KEY, Publisher

        given = self._config.workerinput[WORKERINPUT_KEY]  # type: ignore[attr-defined]
        context = begin(self._settings, given["run_id"], self._config.stash[REDACTOR])
        profile = read_profile(self._config, context)
        enter(context, profile, given["overlay"], given["unresolved"])
        self._config.stash[RUN] = context
        collector = Collector(context)
        add(self._config, "collector", collector)
        shared = Path(given["shared"])
        publisher = Publisher(collector, shared, self._settings.worker, context.redactor)
        add(self._config, "publisher", publisher)
        beside_checks(self._config, context)
        if problem := refusal(self._config):
            collector.checks.problem = problem


def leased(rule: Exclusion, profile: Profile) -> str:
    """Return the key of the lease for a profile's platform, "" if a run needs none."""
    unknown = [name for name in rule.of if name not in profile.schema.fields]
    if unknown:
        raise PlanError(
            f"unknown field {', '.join(map(repr, unknown))}",
            where=f"{PLAN_NAME}: lease.of",
            allowed=", ".join(profile.schema.fields),
        )
    used = {name: profile.values[name] for name in rule.of}
    if not used and profile.live:
        used = {"name": profile.name}
    return digest(used)[:16] if used else ""


def beside_checks(config: pytest.Config, context: RunContext) -> None:
    """Register the objects that wrap each check, in the process that runs it."""
    add(config, "shared", shared := SharedFixtures())
    add(config, "recorder", Recorder(context, Repetition(config), shared))
    add(config, "listener", Listener(context, BackgroundFailures(config)))
    add(config, "limits", Limits(context, config))


def refusal(config: pytest.Config) -> str:
    """Say why this process cannot judge a run, or "": assertions are disabled, or a part is blocked."""
    if not __debug__:
        return (
            "python -O or PYTHONOPTIMIZE: the interpreter removes assertions, so that checks cannot fail"
            "\n  next: run it without"
        )
    for name, part in config.pluginmanager.list_name_plugin():
        if part is None and (name.startswith(PREFIX) or name == "python"):  # blocked
            return f"-p no:{name}: without this part, a run gets no verdict"
    return ""


def add(config: pytest.Config, name: str, part: object) -> None:
    """Register an object of the plugin under a name that :func:`refusal` recognises as the plugin's."""
    config.pluginmanager.register(part, f"{PREFIX}{name}")
    config.stash.setdefault(REGISTERED, {})[f"{PREFIX}{name}"] = part


def has_html(config: pytest.Config) -> bool:
    """Tell whether pytest-html is loaded: by its option, since its name depends on how it was loaded."""
    return hasattr(config.option, "htmlpath")


def _can_hold(reports: Path) -> bool:
    """Tell whether pytest-html can write there; if not, this run's first report says why."""
    try:
        reports.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


def _shared_directory(config: pytest.Config) -> Path:
    path = Path(tempfile.mkdtemp(prefix="readiness-"))
    config.add_cleanup(lambda: shutil.rmtree(path, ignore_errors=True))
    return path

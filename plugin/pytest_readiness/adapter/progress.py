"""How far a run is, for the person who waits at its terminal: phase, checks done, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import pytest

from ..core.formats import parse_moment
from .checks import Check, Checks

#: Seconds until a phase that takes long gets another line.
EVERY_S = 10.0


class Estimate:
    """Tells how long a run still takes: as its predecessor took, else as its own checks did so far.

    ``earlier`` are the ledger's entries of the environment, newest last.
    """

    def __init__(self, earlier: Sequence[Mapping[str, Any]]) -> None:
        last = next((entry for entry in reversed(earlier) if _tells_time(entry)), None)
        self._took_s = _took_s(last) if last else {}
        self._per_second = 1.0  # of the clock, for one second of checks: less where workers share them
        if last is not None:
            clock = (parse_moment(last["finished_at"]) - parse_moment(last["started_at"])).total_seconds()
            self._per_second = clock / sum(self._took_s.values())

    def left_s(self, done: int, waiting: Sequence[str], elapsed_s: float) -> float | None:
        """Return the seconds that the checks ``waiting`` (ids) take; None before anything is known."""
        if self._took_s:
            unknown = fmean(self._took_s.values())
            return self._per_second * sum(self._took_s.get(check, unknown) for check in waiting)
        return elapsed_s / done * len(waiting) if done else None


class RunProgress:
    """Writes a line where a phase begins and, while one takes long, another one now and then.

    They are lines of their own between pytest's: nothing is moved or erased, so they also fit other plugins'.
    """

    def __init__(
        self,
        config: pytest.Config,
        phases: Sequence[str],
        checks: Callable[[], Checks],
        estimate: Estimate,
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
        """Say how far the run is, before pytest names the check."""
        selected = self._checks().selected
        if nodeid not in selected:
            return
        now = time.monotonic()
        self._began = self._began or now
        phase = self._phases.index(selected[nodeid].phase)
        if phase <= self._phase and now - self._said < EVERY_S:  # workers also return to an earlier phase
            return
        self._phase, self._said = max(phase, self._phase), now
        self._write(self.line(selected, now - self._began))

    @pytest.hookimpl
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Count a check that has ended."""
        self._done.add(nodeid)

    def line(self, selected: Mapping[str, Check], elapsed_s: float) -> str:
        """Return the line, for the checks of the run by node id and the seconds since the first began."""
        waiting = [check.id for nodeid, check in selected.items() if nodeid not in self._done]
        done = len(selected) - len(waiting)
        left = self._estimate.left_s(done, waiting, elapsed_s)
        return (
            f"readiness: phase {self._phase + 1} of {len(self._phases)} ({self._phases[self._phase]}), "
            f"{done} of {len(selected)} checks done" + ("" if left is None else f", {_about(left)} left")
        )

    def _write(self, line: str) -> None:
        self._reporter.ensure_newline()
        if self._writer.width_of_current_line:  # after the letters of -q and xdist, which are no line to it
            self._writer.line()
        self._writer.write(line, cyan=True)
        if not (self._reporter.showfspath or self._reporter.showlongtestinfo):
            self._writer.line()  # else pytest ends it, as it does what stands before the name of a check
        self._reporter.flush()


def is_wanted(config: pytest.Config) -> bool:
    """Tell whether a run shows progress: as asked, else on a terminal, unless it is to be very quiet."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    asked = config.getoption("readiness_progress")
    if reporter is None or asked == "no":
        return False
    return asked == "yes" or (bool(reporter.isatty) and config.get_verbosity() > -2)


def _tells_time(entry: Mapping[str, Any]) -> bool:
    """Tell whether a past run came to its end and took time for its checks."""
    return bool(entry.get("complete")) and sum(_took_s(entry).values()) > 0


def _took_s(entry: Mapping[str, Any]) -> dict[str, float]:
    return {check["id"]: float(check.get("duration_s") or 0) for check in entry["checks"]}


def _about(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 100 else f"about {seconds / 60:.0f} min"

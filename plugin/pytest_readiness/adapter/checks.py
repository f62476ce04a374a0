"""The checks of a run: every collected one, which of them are selected, and whether each may run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from ..core.errors import ReadinessError, together
from ..core.model import FailureClass, Outcome, Severity
from ..core.verdict import BEHIND
from .options import asked_paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check as its markers declare it. ``id`` is stable (``phase/name[param]``); ``nodeid`` is pytest's."""

    id: str
    nodeid: str
    goal: str
    phase: str
    severity: Severity
    requires: tuple[str, ...] = ()
    covered_by: str | None = None
    establishes: tuple[str, ...] = ()
    #: Ids of the checks that must pass for this one to prove anything.
    controls: tuple[str, ...] = ()
    drill: bool = False
    static: bool = False
    #: Time limit of an attempt in seconds; None: the plan's.
    limit_s: float | None = None
    where: str = ""

    @property
    def unit(self) -> str:
        """Its phase and file; shards and workers never split such a unit."""
        return f"{self.phase}:{self.nodeid.partition('::')[0]}"

    def as_data(self) -> dict[str, Any]:
        """Return plain data that can be sent to another process; an enum cannot."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "severity": str(self.severity),
            "requires": [*self.requires],
            "establishes": [*self.establishes],
            "controls": [*self.controls],
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Check:
        """Rebuild a check from :meth:`as_data`."""
        return cls(
            **{
                **data,
                "severity": Severity(data["severity"]),
                "requires": tuple(data["requires"]),
                "establishes": tuple(data["establishes"]),
                "controls": tuple(data["controls"]),
            }
        )


@dataclass(slots=True)
class Checks:
    """All collected checks in run order, and the node ids that are selected to run.

    ``selected`` maps the node ids in reports to checks: xdist's loadgroup mode changes node ids.
    """

    collected: list[Check] = field(default_factory=list)
    selected: dict[str, Check] = field(default_factory=dict)
    #: What is wrong with the markers, as a message; empty if nothing is.
    problem: str = ""
    #: How many checks another plugin dropped before they were read.
    dropped: int = 0
    #: Node id of each part of the suite that was not examined -> why not.
    unread: dict[str, str] = field(default_factory=dict)
    #: Ids of the checks that other shards run.
    elsewhere: set[str] = field(default_factory=set)

    @property
    def deselected(self) -> int:
        """How many of the checks found are not selected to run."""
        return self.dropped + len(self.collected) - len(self.selected)

    def as_data(self) -> dict[str, Any]:
        """Return plain data for the controller of a distributed run."""
        return {
            "collected": [check.as_data() for check in self.collected],
            "selected": {nodeid: check.nodeid for nodeid, check in self.selected.items()},
            "problem": self.problem,
            "dropped": self.dropped,
            "unread": self.unread,
            "elsewhere": sorted(self.elsewhere),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Checks:
        """Rebuild from :meth:`as_data`."""
        collected = [Check.from_data(entry) for entry in data["collected"]]
        known = {check.nodeid: check for check in collected}
        return cls(
            collected=collected,
            selected={nodeid: known[original] for nodeid, original in data["selected"].items()},
            problem=str(data["problem"]),
            dropped=int(data["dropped"]),
            unread=dict(data["unread"]),
            elsewhere=set(data["elsewhere"]),
        )


def in_order(checks: Iterable[Check], phases: Sequence[str]) -> list[Check]:
    """Return the checks by phase, in their order, except that prerequisites come first.

    A check that establishes a capability runs before the first one that requires it, even across phases, so
    that a missing capability is found only once.
    """
    waiting = {check.id: check for check in sorted(checks, key=lambda check: phases.index(check.phase))}
    establishing: dict[str, list[Check]] = {}
    for check in waiting.values():
        for name in check.establishes:
            establishing.setdefault(name, []).append(check)
    ordered: list[Check] = []

    def place(check: Check) -> None:
        if waiting.pop(check.id, None) is None:
            return
        for name in check.requires:
            for other in establishing.get(name, ()):
                place(other)
        ordered.append(check)

    for check in [*waiting.values()]:
        place(check)
    return ordered


def inconsistency(
    checks: Iterable[Check], capabilities: Iterable[str], phases: Iterable[str], *, whole: bool
) -> str:
    """Describe conflicts between checks, such as a duplicate id; "" if there are none.

    If the ``whole`` suite was collected, also empty phases of the plan and names that nothing provides.
    """
    found: dict[str, Check] = {}
    mistakes = []
    for check in checks:
        other = found.setdefault(check.id, check)
        if other is not check:
            what = f"check id {check.id!r} is also used by {other.where}"
            mistakes.append(
                ReadinessError(what, where=check.where, allowed="a test name that is unique within its phase")
            )
    if whole:
        mistakes += [*_empty_phases(found, phases), *_unknown_names(found, capabilities)]
    return str(together(mistakes)) if mistakes else ""


def _empty_phases(found: Mapping[str, Check], phases: Iterable[str]) -> Iterator[ReadinessError]:
    filled = {check.phase for check in found.values()}
    for phase in phases:
        if found and phase not in filled:
            yield ReadinessError(
                f"no check in phase {phase!r}",
                where="readiness.toml: phases",
                allowed="phases that have checks",
                action=f'mark a check with phase("{phase}"), or remove the phase from the plan',
            )


def _unknown_names(found: Mapping[str, Check], capabilities: Iterable[str]) -> Iterator[ReadinessError]:
    known = {*capabilities, *(name for check in found.values() for name in check.establishes)}
    families = {*found, *(name.split("[")[0] for name in found)}
    for check in found.values():
        for name in check.requires:
            if name not in known:
                yield ReadinessError(
                    f"unknown capability {name!r}",
                    where=check.where,
                    allowed=", ".join(sorted(known)),
                    action=f"correct the name, or define [capability.{name}] in environments/schema.toml",
                )
        stray = next((name for name in check.controls if name not in found or name == check.id), None)
        if stray is not None:
            yield ReadinessError(
                f"control names {stray!r}, which is not another check of this suite",
                where=check.where,
                allowed=f"the id of a check, such as {_nearest(stray, found.keys() - {check.id})}",
            )
        if check.covered_by and check.covered_by not in families:
            yield ReadinessError(
                f"covered_by names {check.covered_by!r}, which is not a check of this suite",
                where=check.where,
                allowed=f"the id of a check, such as {_nearest(check.covered_by, found)}",
            )


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like a mistyped one."""
    return max(known, default="phase/name", key=lambda each: SequenceMatcher(None, name, each).ratio())


#: Settings and built-in plugins that decide what is collected; a suite's own file may set them permanently.
_COLLECTION_INI = frozenset(
    {"python_files", "python_classes", "python_functions", "norecursedirs", "collect_imported_tests"}
)
_COLLECTION_PLUGINS = ("python", "unittest")
#: Where pytest looks for its configuration in a directory; the first match wins.
_CONFIGURATIONS = (
    *("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"),
    *("pyproject.toml", "tox.ini", "setup.cfg"),
)
#: Each of these files is a pytest configuration only if it contains this.
_SECTIONS = {"pyproject.toml": "[tool.pytest", "tox.ini": "[pytest]", "setup.cfg": "[tool:pytest]"}


def is_narrowed(config: pytest.Config, suite: Path) -> bool:
    """Tell, before anything is collected, whether the invocation may leave out part of the suite."""
    selects = ("lf", "keyword", "markexpr", "deselect", "readiness_shard")
    return any(config.getoption(name, None) for name in selects) or not is_whole_suite_asked(config, suite)


def is_whole_suite_asked(config: pytest.Config, suite: Path) -> bool:
    """Tell whether the invocation names the suite's directory or a parent of it, and hides no part of it."""
    asked = any(
        suite.is_relative_to(path)
        for path, argument in zip(asked_paths(config), config.args, strict=True)
        if "::" not in argument
    )
    return asked and not _ignores_part_of(config, suite) and not _collects_otherwise(config)


def _collects_otherwise(config: pytest.Config) -> bool:
    """Tell whether only this invocation changes which functions pytest collects: others have not vanished."""
    overridden = {entry.partition("=")[0].strip() for entry in config.getoption("override_ini", None) or ()}
    cut = config.getoption("confcutdir", None)
    return (
        bool(overridden & _COLLECTION_INI)
        or any(config.pluginmanager.is_blocked(name) for name in _COLLECTION_PLUGINS)
        or bool(config.getoption("noconftest", False))
        or bool(cut and not config.rootpath.resolve().is_relative_to(Path(cut).resolve()))
        or _is_configured_otherwise(config)
    )


def _is_configured_otherwise(config: pytest.Config) -> bool:
    """Tell whether ``-c`` names a different file than the one that pytest finds beside the plan."""
    named = config.getoption("inifilename", None)
    if named is None:
        return False
    candidates = (config.rootpath / name for name in _CONFIGURATIONS)
    usual = next((path for path in candidates if _is_configuration(path)), None)
    return usual is None or (config.invocation_params.dir / named).resolve() != usual.resolve()


def _is_configuration(path: Path) -> bool:
    section = _SECTIONS.get(path.name, "")
    return path.is_file() and section in path.read_text(encoding="utf-8", errors="replace")


def _ignores_part_of(config: pytest.Config, suite: Path) -> bool:
    base = config.invocation_params.dir
    ignored = [(base / path).resolve() for path in config.getoption("ignore", None) or ()]
    if any(path.is_relative_to(suite) or suite.is_relative_to(path) for path in ignored):
        return True
    globs = [str(base / glob) for glob in config.getoption("ignore_glob", None) or ()]
    # As pytest matches: * also matches slashes, and a matching directory includes everything in it.
    return any(fnmatch(str(path), glob) for glob in globs for path in (suite, *suite.rglob("*")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a check is not executed. ``applicable`` is False if the environment declares the lack."""

    outcome: Outcome
    reason: str
    applicable: bool = True
    failure_class: FailureClass | None = None
    #: The cause that all checks refused for it share: see ``core.verdict``.
    cause: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {
            "not_run": self.outcome is Outcome.NOT_RUN,
            "applicable": self.applicable,
            "class": str(self.failure_class) if self.failure_class else None,
            "summary": self.reason,
            "cause": self.cause,
        }


@dataclass(frozen=True, slots=True)
class Down:
    """Which check failed to establish a capability, and its summary.

    ``proved``: it found the capability down. Its own error, or the runner's, says nothing about the
    capability.
    """

    check: str
    summary: str
    proved: bool

    @classmethod
    def by(cls, check: str, summary: str, failure_class: str | None) -> Down:
        """Return it for a check that failed with a class, or did not run."""
        return cls(check, summary, failure_class in (FailureClass.PLATFORM_BUG, FailureClass.EXTERNAL_OUTAGE))

    @property
    def cause(self) -> str:
        """The cause of all checks that do not run because of it."""
        return f"{BEHIND}{self.check}"

    def said_of(self, name: str) -> str:
        """Return what is known about the capability of this name, and from which check."""
        known = f"{name} is down" if self.proved else f"it is not known whether {name} is up"
        return f"{known} ({self.check}: {self.summary})"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a capability can be used; ``reason``: why not; ``declared``: the profile rules it out."""

    available: bool
    reason: str = ""
    declared: bool = False
    #: What is missing; several capabilities may need it.
    missing: str = ""


def refuse(
    check: Check, *, drills: bool, down: Mapping[str, Down], offer: Callable[[str], Availability | None]
) -> Refusal | None:
    """Decide about one check; None lets it run.

    First, a check is not run if a capability that it requires is not known to be up. Otherwise it is skipped
    as not applicable if the environment declares the capability absent, or as the runner's fault if the
    environment declares it but lacks it. ``offer`` returns None for a capability that only checks establish.
    """
    if check.drill and not drills:
        return Refusal(
            outcome=Outcome.SKIPPED,
            reason="a drill changes the platform's state: it needs --drills",
            applicable=False,
        )
    for name in check.requires:
        if name in down:
            reason = f"not run: {down[name].said_of(name)}"
            return Refusal(outcome=Outcome.NOT_RUN, reason=reason, cause=down[name].cause)
    offers = [
        offered for name in check.requires if (offered := offer(name)) is not None and not offered.available
    ]
    for offered in sorted(offers, key=lambda offered: not offered.declared):
        if offered.declared:
            return Refusal(outcome=Outcome.SKIPPED, reason=offered.reason, applicable=False)
        return Refusal(
            outcome=Outcome.SKIPPED,
            reason=offered.reason,
            failure_class=FailureClass.SETUP_ERROR,
            cause=offered.missing,
        )
    return None

"""The vocabulary of a run: checks, how they ended, what a run hands over, what follows; shards of a run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from .errors import ReadinessError

#: Prefix with which a suite says that it could not examine something (a SetupError).
UNREAD = "not examined"


class Severity(StrEnum):
    """How much a failing check weighs: P0 blocks a launch, P1 degrades it."""

    P0 = "P0"
    P1 = "P1"


class Outcome(StrEnum):
    """How one check ended, after all of its attempts and the plan's exemptions."""

    PASSED = "passed"
    FAILED = "failed"
    FLAKY = "flaky"
    SKIPPED = "skipped"
    DEFERRED = "deferred"
    NOT_RUN = "not-run"


class FailureClass(StrEnum):
    """Who is at fault for a failure; without proof, the check itself."""

    PLATFORM_BUG = "PLATFORM_BUG"
    CHECK_ERROR = "CHECK_ERROR"
    EXTERNAL_OUTAGE = "EXTERNAL_OUTAGE"
    FLAKE = "FLAKE"
    SETUP_ERROR = "SETUP_ERROR"


class Verdict(StrEnum):
    """The verdict on one run."""

    READY = "READY"
    BROKEN = "BROKEN"
    DEGRADED = "DEGRADED"
    NO_VERDICT = "NO_VERDICT"


class GoalStatus(StrEnum):
    """The status of a launch goal, from this run, the ledger and the plan."""

    PASS = "PASS"  # noqa: S105 - a word, not a secret
    READY = "READY"
    PENDING = "PENDING"
    DEFERRED = "DEFERRED"
    DEGRADED = "DEGRADED"
    FAIL = "FAIL"


class Scope(StrEnum):
    """Whether a run covers the whole suite; only a full run changes the streak and the declaration."""

    FULL = "full"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check of one run. ``duration_s`` sums all attempts; ``summary`` is one redacted line."""

    id: str
    nodeid: str
    goal: str
    phase: str
    severity: Severity
    outcome: Outcome
    failure_class: FailureClass | None = None
    attempts: int = 1
    duration_s: float = 0.0
    summary: str = ""
    evidence: tuple[Mapping[str, Any], ...] = ()
    #: False: the profile declares the capability absent, or drills were not requested. A P1 then does not
    #: degrade the run.
    applicable: bool = True
    #: Id of a check that proves the same fact; if it passed, it settles a skipped P0.
    covered_by: str | None = None
    #: Capabilities that it needs, and whether it is a drill: required to reproduce it.
    requires: tuple[str, ...] = ()
    drill: bool = False
    #: True: it reads only a checkout, so it can pass without a live environment.
    static: bool = False
    #: File and line of the suite that raised the failure, "" if unknown.
    where: str = ""
    #: What decided it, the same for all checks with this cause: see ``verdict.by_cause``.
    cause: str = ""
    #: What to do next, if the error itself says so.
    advice: str = ""

    @property
    def reason(self) -> str:
        """The summary to show next to the outcome, without repeating "not run"."""
        return self.summary.removeprefix("not run: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vanished:
    """A check that vanished, with the last run that had it; ``blocking``: a P0, under the same plan."""

    id: str
    severity: Severity
    run_id: str
    blocking: bool

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.severity} vanished: {self.id}: run {self.run_id} had it, it is missing from this one"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Events of a run outside its checks. Build identities map a service to its id, "" if unknown."""

    scope: Scope = Scope.FULL
    gate: bool = False
    #: The run is one of several shards: ``readiness merge`` judges all of them.
    shard: bool = False
    #: What deselected all of the suite's checks; "" if some were left.
    unselected: str = ""
    interrupted: str = ""
    collection_errors: tuple[str, ...] = ()
    #: Failures that belong to no check, such as in a thread after the last check.
    stray: tuple[str, ...] = ()
    vanished: tuple[Vanished, ...] = ()
    #: By how many seconds the machine's time ran ahead of its monotonic clock during the run.
    clock_jump_s: float = 0.0
    build_start: Mapping[str, str] = field(default_factory=dict)
    build_end: Mapping[str, str] = field(default_factory=dict)
    #: Names of artifacts withheld because a live secret was found in them.
    leaked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One finished run. Results are as reported, without exemptions. Times carry an offset.

    ``environments`` maps every other known profile to whether it is live. ``env_option`` is the value of
    ``--env``, for the command that reproduces a failure. ``checkout`` names the real checkout that was
    examined, so that static checks apply to the real platform. ``runner`` is the CI job's URL, if any.
    ``addresses`` are the profile's URLs that the run used, by setting, ``variables`` the names of the
    environment variables that it got from its caller.
    """

    run_id: str
    environment: str
    live: bool
    started_at: datetime
    finished_at: datetime
    results: tuple[CheckResult, ...]
    facts: RunFacts = field(default_factory=RunFacts)
    addresses: Mapping[str, str] = field(default_factory=dict)
    variables: tuple[str, ...] = ()
    suite_digest: str = ""
    degraded_exit_code: int = 2
    runner: str = ""
    checkout: str = ""
    env_option: str = ""
    environments: Mapping[str, bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ledger: Mapping[str, Any] = field(default_factory=dict)
    self_test: Mapping[str, Any] | None = None

    @property
    def scope(self) -> Scope:
        """Whether the run asked for the whole suite."""
        return self.facts.scope

    @property
    def build_identity(self) -> Mapping[str, str]:
        """The build of each service, as last seen; an empty string if it was never known."""
        start, end = self.facts.build_start, self.facts.build_end
        return {name: end.get(name) or start.get(name, "") for name in sorted(start.keys() | end.keys())}

    @property
    def is_complete(self) -> bool:
        """Whether the run finished, with all of the suite collected."""
        return not self.facts.interrupted and not self.facts.collection_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict with the reasons that decided it, most important first."""

    verdict: Verdict
    reasons: tuple[str, ...]
    #: Why a run that is not green does not count: EXTERNAL_OUTAGE (NO_VERDICT only because
    #: of outages), FLAKE (DEGRADED with a flaky P0); None for any other run. The streak ignores such runs.
    uncounted: FailureClass | None = None


#: Directory below that of the reports, and the suffix of its files.
SHARDS, SHARD_SUFFIX = "shards", ".shard"
NONE_LEFT = "no shard left a result"
#: Maximum number of shards of a run.
MOST_SHARDS = 1000
#: Keys that must be equal in all shards of a run -> their names for people.
IN_ALL_SHARDS = {
    "run": "run", "of": "number of shards", "environment": "environment", "addresses": "addresses",
    "suite_digest": "suite digest", "plan_digest": "plan digest", "drills": "--drills",
    "whole": "whole suite asked for", "known": "digest of the checks found",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``of`` parts of a run; ``index`` from 1."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``3/20``; ValueError for any other text."""
        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
        index, of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= index <= of <= MOST_SHARDS:
            raise ValueError(
                f"{text!r} is not a shard (allowed: I/N with I from 1 to N, N up to {MOST_SHARDS})"
            )
        return cls(index, of)

    def has(self, unit: str) -> bool:
        """Tell whether this shard runs a unit of work; every machine gives the same result."""
        return int(hashlib.sha256(unit.encode()).hexdigest()[:12], 16) % self.of == self.index - 1

    @property
    def file_name(self) -> str:
        """The name of the shard's file, unique among the shards of a run."""
        return f"{self.index}-of-{self.of}{SHARD_SUFFIX}"

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


def sealed_shard(content: Mapping[str, Any]) -> str:
    """Return a shard's results as text: SHA-256, then JSON, so that an incomplete file is recognised."""
    text = json.dumps(content, ensure_ascii=True)  # unsorted: the order of phases and evidence matters
    return f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n"


def opened_shard(text: str) -> dict[str, Any]:
    """Read what :func:`sealed_shard` made; ValueError if it is incomplete, edited or something else."""
    seal, _, rest = text.partition("\n")
    if hashlib.sha256(rest.removesuffix("\n").encode()).hexdigest() != seal:
        raise ValueError("it is incomplete or was edited")
    content = json.loads(rest)
    needed = {"run", "index", "status", "clock_jump_s", *IN_ALL_SHARDS}
    if not isinstance(content, dict) or not needed <= content.keys():
        raise ValueError("another version wrote it")
    return content


def of_one_run(shards: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[int, Mapping[str, Any]]:
    """Return the shards' results by index, each once; ``shards`` are pairs of place and content.

    ReadinessError if two do not belong to one run, or one ran twice with different results.
    """
    found: dict[int, tuple[str, Mapping[str, Any]]] = {}
    builds: dict[str, tuple[str, str]] = {}
    for place, content in shards:
        first, other = next(iter(found.values()), (place, content))
        for key, word in IN_ALL_SHARDS.items():
            if content[key] != other[key]:
                raise _another(place, word, content[key], first, other[key])
        for service, build in content["build_start"].items():
            known = builds.setdefault(service, (place, build)) if build else (place, build)
            if known[1] != build:
                raise _another(place, f"build of {service}", build, *known)
        index = content["index"]
        if index in found and found[index][1] != content:
            raise _another(
                place,
                f"end of shard {index}",
                content["finished_at"],
                found[index][0],
                found[index][1]["finished_at"],
            )
        found[index] = (place, content)
    return {index: found[index][1] for index in sorted(found)}


def _another(place: str, word: str, value: object, first: str, other: object) -> ReadinessError:
    return ReadinessError(
        f"another {word} than in {first}: {value}, not {other}",
        where=place,
        allowed="the shards of one run, each with one result",
        action="run all shards again, with the same platform, suite and plan",
    )


def missing_shards(present: Sequence[int], of: int) -> str:
    """Say which shards left no result, "" if none is missing."""
    gone = [str(index) for index in range(1, of + 1) if index not in present]
    if not gone:
        return ""
    plural = "s" if len(gone) > 1 else ""
    return f"shard{plural} {', '.join(gone)} of {of} left no result"

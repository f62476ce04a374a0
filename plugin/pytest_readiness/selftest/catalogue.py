"""The catalogue: the platform's faults, and how the suite must react to each.

An entry contains only what cannot be derived. With ``services`` or ``cases`` it is a family: one fault for
each. The markers of the named checks give goal and severity; severity and class give the verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, product
from pathlib import Path
from typing import Any

from ..core.errors import ReadinessError
from ..core.formats import digest, matches, matching, one_line
from ..core.model import CheckResult, FailureClass, Outcome, RunFacts, Severity, Verdict
from ..core.toml import REQUIRED, TomlTable, load_toml
from ..core.verdict import judge
from ..profile import read_file

#: Outcomes with which a check may react to a fault: all except passed and deferred.
OUTCOMES = tuple(each.value for each in Outcome if each not in (Outcome.PASSED, Outcome.DEFERRED))
_NEXT = "correct the catalogue and run again"
_FILES = "a TOML file, a pattern such as faults/*.toml, or a directory of TOML files"
#: A check that did not run because of another one has no class.
_CLASSES = {"failed": FailureClass.PLATFORM_BUG.value, "flaky": FailureClass.FLAKE.value, "not-run": ""}
#: Keys that only the platform reads.
_PLATFORM_KEYS = (
    *("service", "action", "on", "with", "every", "first", "after", "forward", "hang", "delay_s", "repeat"),
    *("status", "headers", "drop_headers", "lower_headers", "cut_headers", "body", "set", "null"),
    *("add", "append", "drop", "replace", "buffer", "close"),
)


class CatalogueError(ReadinessError):
    """The catalogue of faults is malformed, or names checks that the suite does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteCheck:
    """What the catalogue needs to know about a collected check: its node id and its markers."""

    nodeid: str
    severity: str
    goal: str
    controls: tuple[str, ...] = ()
    drill: bool = False
    limit_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The expected result of one check under a fault."""

    id: str
    severity: str
    failure_class: str
    outcome: str = Outcome.FAILED.value

    def as_data(self) -> dict[str, str | None]:
        """Return it under the keys of the catalogue and of readiness.json."""
        return {
            "id": self.id,
            "severity": self.severity,
            "outcome": self.outcome,
            "class": self.failure_class or None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. Without named checks it is a condition that the suite must tolerate: its verdict is READY.

    ``select`` are the node ids to run, ``args`` further options for pytest, ``also`` patterns of checks that
    may fail as a consequence, ``takes_s`` how many seconds it occupies a platform, if many: such faults are
    tried first.
    """

    id: str
    goal: str
    what: str
    verdict: str
    checks: tuple[Expected, ...]
    select: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    takes_s: int = 0

    @property
    def named(self) -> frozenset[str]:
        """The ids of the checks that must detect it."""
        return frozenset(check.id for check in self.checks)

    def matches(self, pattern: str) -> bool:
        """Tell whether a pattern for ids and goals means this fault."""
        return matches(pattern, self.id) or matches(pattern, self.goal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfaulted:
    """A check that no fault can make fail, and why."""

    check: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All faults of all files. ``digest`` covers their content, not their layout or files."""

    faults: tuple[Fault, ...]
    unfaulted: tuple[Unfaulted, ...]
    digest: str

    def uncovered(self, checks: Iterable[str]) -> list[str]:
        """Return the checks that no fault names and that are not declared unfaulted, in their order.

        Every case of a parametrized check counts separately.
        """
        named = {name for fault in self.faults for name in fault.named}
        excused = {entry.check for entry in self.unfaulted}
        return [check for check in checks if check not in named | excused]


def load(root: Path, where: str, suite: Mapping[str, SuiteCheck]) -> Catalogue:
    """Read the catalogue at ``where``: a file, a pattern or a directory of TOML files under ``root``.

    ``suite`` holds the collected checks by id. Raises CatalogueError naming file and key for entries
    that are malformed, duplicated, or about a check that the suite does not have.
    """
    faults: dict[str, Fault] = {}
    unfaulted: dict[str, Unfaulted] = {}
    raw: list[Mapping[str, Any]] = []
    for path in _files(root, where):
        top = load_toml(read_text(path, root), path.relative_to(root).as_posix(), CatalogueError)
        for family in top.tables("fault"):
            for table in _members(family):
                fault = _fault(table, suite)
                if fault.id in faults:
                    table.refuse("id", f"{fault.id!r} is used twice", allowed=_unique(family))
                faults[fault.id] = fault
                raw.append(table.data)
        for table in top.tables("unfaulted"):
            entry = table.read(Unfaulted, check=_known(table, "check", suite))
            if entry.check in unfaulted:
                table.refuse("check", f"{entry.check!r} is used twice", allowed="each check once")
            unfaulted[entry.check] = entry
            raw.append(table.data)
        top.finish()
    named = {check for fault in faults.values() for check in fault.named}
    for name in sorted(unfaulted.keys() & named):
        raise CatalogueError(
            f"{name!r} is listed as unfaulted, but a fault names it",
            where=where,
            action="remove its [[unfaulted]]",
        )
    if not faults:
        raise CatalogueError("contains no fault", where=where, allowed="at least one [[fault]]")
    meaning = digest(sorted(raw, key=digest))
    return Catalogue(faults=tuple(faults.values()), unfaulted=tuple(unfaulted.values()), digest=meaning)


def _unique(family: TomlTable) -> str:
    """What ids an entry may give: one that is expanded needs a different id for each fault."""
    names = [f"{{{key.removesuffix('s')}}}" for key in ("services", "cases") if key in family.data]
    return f"a unique id for each of its faults: put {' and '.join(names)} in it" if names else "a unique id"


def _files(root: Path, where: str) -> list[Path]:
    if not where:
        raise CatalogueError(
            "the plan names no catalogue of faults", where="[self_test] catalogue", allowed=_FILES
        )
    try:
        found = sorted((root / where).glob("*.toml") if (root / where).is_dir() else root.glob(where))
    except NotImplementedError:
        raise _no_catalogue(f"an absolute pattern: {where!r}") from None
    except ValueError as problem:
        raise _no_catalogue(f"not a pattern: {where!r}: {problem}") from None
    except OSError as problem:  # a name that is too long, a directory that must not be listed
        raise _no_catalogue(f"cannot be searched for: {problem.strerror}: {one_line(where, 60)!r}") from None
    if not found:
        raise _no_catalogue(f"no such file: {where!r}")
    return found


def _no_catalogue(what: str) -> CatalogueError:
    return CatalogueError(
        what,
        where="[self_test] catalogue",
        allowed=f"below the plan's directory: {_FILES}",
        action="correct it in the plan, or write the catalogue there",
    )


def read_text(path: Path, root: Path) -> str:
    """Return the text of a file under ``root``; CatalogueError when it cannot be read."""
    try:
        return read_file(path)
    except OSError as problem:
        raise CatalogueError(
            f"cannot be read: {problem.strerror}", where=path.relative_to(root).as_posix(), action=_NEXT
        ) from problem


def _members(family: TomlTable) -> Iterator[TomlTable]:
    """Yield the faults that an entry describes, with service and case filled in wherever it has text."""
    services, cases = family.texts("services", ()), family.texts("cases", ())
    shared = {key: value for key, value in family.data.items() if key not in ("services", "cases")}
    if "check" in shared:
        if "checks" in shared:
            family.refuse("check", "there is `checks` as well", allowed="one of check, checks")
        shared["checks"] = [family.text("check")]
        del shared["check"]
    if isinstance(shared.get("checks"), list):
        shared["checks"] = [{"id": each} if isinstance(each, str) else each for each in shared["checks"]]
    for service, case in product(services or ("",), cases or ("",)):
        words = {"{service}": service, "{Service}": service.capitalize()} if services else {}
        data = _filled(shared, {**words, "{case}": case} if cases else words)
        yield TomlTable(data, source=family.source, error=family.error, path=family.path)


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for placeholder, word in words.items():
            value = value.replace(placeholder, word)
    elif isinstance(value, Mapping):
        return {key: _filled(each, words) for key, each in value.items()}
    elif isinstance(value, list):
        return [_filled(each, words) for each in value]
    return value


def _fault(table: TomlTable, suite: Mapping[str, SuiteCheck]) -> Fault:
    table.finish(*(each.name for each in fields(Fault)), *_PLATFORM_KEYS)
    checks = tuple(_expected(check, suite) for check in table.tables("checks"))
    goals = sorted({"", *(check.goal for check in suite.values())})
    entry = Fault(
        id=table.text("id"),
        goal=table.choice("goal", goals, suite[checks[0].id].goal if checks else ""),
        what=table.text("what"),
        verdict=table.choice("verdict", Verdict, _verdict(checks) if checks else REQUIRED),
        checks=checks,
        select=_with_controls(
            table.texts("select", tuple(suite[check.id].nodeid for check in checks)), suite
        ),
        args=table.texts("args", ()),
        also=table.texts("also", ()),
        params=table.free("params"),
        takes_s=table.integer("takes_s", 0),
    )
    if not checks and entry.verdict != Verdict.READY:
        table.refuse("checks", "empty: nothing would detect it", allowed="at least one, or verdict READY")
    if len(entry.named) < len(checks):
        table.refuse("checks", "a check is named twice", allowed="each check once")
    if not entry.select:
        table.refuse("select", "empty: nothing would run", allowed="node ids, or checks to run")
    for pattern in entry.also:
        if not matching([pattern], suite):
            table.refuse("also", f"{pattern!r} matches no check of the suite", allowed="ids, with * and ?")
    return entry


def _with_controls(asked: Sequence[str], suite: Mapping[str, SuiteCheck]) -> tuple[str, ...]:
    """Return the selection, with the controls that its checks need."""
    inside = tuple(f"{name}{mark}" for name in asked for mark in ("::", "[", "/"))
    chosen = [name for name, of in suite.items() if of.nodeid in asked or of.nodeid.startswith(inside)]
    controls = [suite[name].nodeid for name in with_controls(chosen, suite)]
    missing = [nodeid for nodeid in controls if nodeid not in asked and not nodeid.startswith(inside)]
    return tuple(dict.fromkeys([*missing, *asked]))


def with_controls(names: Iterable[str], suite: Mapping[str, SuiteCheck]) -> list[str]:
    """Return the ids of these checks, each after its controls, recursively."""
    seen: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name in suite and name not in seen:
            seen.add(name)
            for control in suite[name].controls:
                yield from visit(control)
            yield name

    return [each for name in names for each in visit(name)]


def _expected(table: TomlTable, suite: Mapping[str, SuiteCheck]) -> Expected:
    table.finish("id", "severity", "class", "outcome")
    name = _known(table, "id", suite)
    outcome = table.choice("outcome", OUTCOMES, Outcome.FAILED.value)
    return Expected(
        id=name,
        severity=table.choice("severity", Severity, suite[name].severity),
        failure_class=table.choice("class", FailureClass, _CLASSES.get(outcome, REQUIRED)),
        outcome=outcome,
    )


def _known(table: TomlTable, key: str, suite: Mapping[str, SuiteCheck]) -> str:
    name = table.text(key)
    if name not in suite:
        table.refuse(key, f"the suite has no check {name!r}", action="correct the id and run again")
    return name


def _verdict(checks: Sequence[Expected]) -> str:
    """Return the verdict on a run in which these checks end as expected and all others pass."""
    results = [
        CheckResult(
            id=check.id,
            nodeid="",
            goal="",
            phase="",
            severity=Severity(check.severity),
            outcome=Outcome(check.outcome),
            failure_class=FailureClass(check.failure_class) if check.failure_class else None,
        )
        for check in checks
    ]
    return judge(results, RunFacts()).verdict.value


#: Outcomes that count as red.
RED = frozenset({Outcome.FAILED, Outcome.FLAKY, Outcome.NOT_RUN})
_SHOWN = ("id", "severity", "outcome", "class", "summary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one fault. ``why`` says what was wrong, "" if it was detected as expected.

    ``refused``: the platform refused the fault, so the suite did not run.
    ``missed``: what was wrong in an earlier attempt, "" if there was none.
    """

    fault: Fault
    detected: bool
    why: str
    refused: bool = False
    missed: str = ""
    observed: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def as_data(self) -> dict[str, Any]:
        """Return it as one row of self-test.json."""
        return {
            "id": self.fault.id,
            "goal": self.fault.goal,
            "what": self.fault.what,
            "expected": {
                "verdict": self.fault.verdict,
                "checks": [check.as_data() for check in self.fault.checks],
            },
            "observed": dict(self.observed),
            "detected": self.detected,
            "refused": self.refused,
            "why": self.why,
            "missed": self.missed,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarm:
    """A check that was red on a healthy platform, or a clean run that did not end READY."""

    run: str
    check: str
    summary: str

    def as_data(self) -> dict[str, str]:
        """Return it as one row of self-test.json."""
        return {"run": self.run, "check": self.check, "summary": self.summary}


def judge_fault(fault: Fault, model: Mapping[str, Any], *, seconds: float = 0.0) -> Finding:
    """Compare the result of a run under the fault with the catalogue.

    Every named check must have its outcome, severity and class, every other red check must match ``also``,
    and the verdict must be the expected one. A check that the plan covers counts as if nothing covered it.
    """
    checks = {check["id"]: check for check in model["checks"]}
    covered = any(_is_covered(checks.get(name)) for name in fault.named)
    verdict = model["without_cover" if covered else "verdict"]
    problems = [
        *chain.from_iterable(_differences(each, checks.get(each.id)) for each in fault.checks),
        *_unexplained(fault, checks.values()),
    ]
    if verdict != fault.verdict:
        problems.append(f"verdict {verdict}, not {fault.verdict}: {_reasons(model)}")
    shown = [check for check in checks.values() if check["id"] in fault.named or is_red(check)]
    rows = [{key: check.get(key) for key in _SHOWN} for check in shown]
    observed = {"verdict": model["verdict"], "checks": rows}
    return Finding(
        fault=fault, detected=not problems, why="; ".join(problems), observed=observed, seconds=seconds
    )


def false_alarms(run: str, model: Mapping[str, Any]) -> tuple[FalseAlarm, ...]:
    """Return the false alarms of a run on a platform without a fault; none if it is green.

    A failure that the plan covers is also one: its check gives the same result with and without its fault.
    """
    found = [
        FalseAlarm(run=run, check=check["id"], summary=f"{check['outcome']}: {check['summary']}")
        for check in model["checks"]
        if is_red(check) or (check["outcome"] == Outcome.DEFERRED and check["class"] is not None)
    ]
    if not found and model["verdict"] != Verdict.READY:
        found = [FalseAlarm(run=run, check="", summary=f"verdict {model['verdict']}: {_reasons(model)}")]
    return tuple(found)


def is_red(check: Mapping[str, Any]) -> bool:
    """Tell whether a check is red: failed, flaky, not run, or skipped with its capability declared."""
    skipped = check["outcome"] == Outcome.SKIPPED
    return check["class"] is not None if skipped else check["outcome"] in RED


def _is_covered(check: Mapping[str, Any] | None) -> bool:
    """Tell whether the plan covers a check that reacted: deferred is only what did not pass."""
    return check is not None and check["outcome"] == Outcome.DEFERRED


def _differences(expected: Expected, found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        yield f"{expected.id} did not report"
        return
    for key, wanted in expected.as_data().items():
        if found[key] != wanted and not (key == "outcome" and _is_covered(found)):
            reason = f" ({found['summary']})" if found.get("summary") else ""
            yield f"{expected.id}: {key} {found[key] or 'none'}, not {wanted}{reason}"


def _unexplained(fault: Fault, checks: Any) -> Iterator[str]:
    for check in checks:
        if is_red(check) and check["id"] not in fault.named and not matching(fault.also, [check["id"]]):
            yield f"unexplained red: {check['id']} {check['outcome']} ({check['summary']})"


def _reasons(model: Mapping[str, Any]) -> str:
    return "; ".join(map(str, model.get("reasons", ()))) or "no reason given"

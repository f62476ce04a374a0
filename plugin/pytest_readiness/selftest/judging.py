"""From a run's readiness.json to a finding or to false alarms. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.formats import matching
from ..core.model import Outcome, Verdict
from .catalogue import Expected, Fault

#: Outcomes by which a check complains.
RED = frozenset({Outcome.FAILED, Outcome.FLAKY, Outcome.NOT_RUN})
_SHOWN = ("id", "severity", "outcome", "class", "summary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of one fault. ``why`` says what was wrong, "" when it was detected as named."""

    fault: Fault
    detected: bool
    why: str
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
            "why": self.why,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarm:
    """A check that was red although the platform was well, or a clean run that did not end READY."""

    run: str
    check: str
    summary: str

    def as_data(self) -> dict[str, str]:
        """Return it as one row of self-test.json."""
        return {"run": self.run, "check": self.check, "summary": self.summary}


def judge(fault: Fault, model: Mapping[str, Any], *, seconds: float = 0.0) -> Finding:
    """Compare what a run under the fault said with what the catalogue demands of it.

    Every named check must have its outcome, severity and class, every other red check must be foreseen in
    ``also``, and the verdict must be the named one.
    """
    checks = {check["id"]: check for check in model["checks"]}
    problems = [
        *(
            problem
            for expected in fault.checks
            for problem in _differences(expected, checks.get(expected.id))
        ),
        *_unexplained(fault, checks.values()),
    ]
    if model["verdict"] != fault.verdict:
        problems.append(f"verdict {model['verdict']}, not {fault.verdict}: {_reasons(model)}")
    shown = [check for check in checks.values() if check["id"] in fault.named or is_red(check)]
    observed = {
        "verdict": model["verdict"],
        "checks": [{key: check.get(key) for key in _SHOWN} for check in shown],
    }
    return Finding(
        fault=fault, detected=not problems, why="; ".join(problems), observed=observed, seconds=seconds
    )


def false_alarms(run: str, model: Mapping[str, Any]) -> tuple[FalseAlarm, ...]:
    """Return the false alarms of a run on a platform without a fault: none when it is green.

    A failure that the plan covers is one, too: its check says the same whether its fault is there or not.
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
    """Tell whether a check complains: failed, flaky, not run, or skipped for want of what was declared."""
    if check["outcome"] == Outcome.SKIPPED:
        return check["class"] is not None
    return check["outcome"] in RED


def _differences(expected: Expected, found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        yield f"{expected.id} did not report"
        return
    for key, wanted in expected.as_data().items():
        if found[key] != wanted:
            reason = f" ({found['summary']})" if found.get("summary") else ""
            yield f"{expected.id}: {key} {found[key] or 'none'}, not {wanted}{reason}"


def _unexplained(fault: Fault, checks: Any) -> Iterator[str]:
    for check in checks:
        foreseen = check["id"] in fault.named or matching(fault.also, [check["id"]])
        if is_red(check) and not foreseen:
            yield f"unexplained red: {check['id']} {check['outcome']} ({check['summary']})"


def _reasons(model: Mapping[str, Any]) -> str:
    return "; ".join(map(str, model.get("reasons", ()))) or "no reason given"

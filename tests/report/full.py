"""A run as large as a full one, with the project's own plan, for testing the reports' limits."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pytest_readiness.core.model import CheckResult
from pytest_readiness.core.plan import Plan

from tests.core.build import NOW, check, entry, model
from tests.report.sample import EVALUATED, EXCHANGE, NOTE, figure

PLAN = Plan.parse((Path(__file__).parents[2] / "readiness.toml").read_text(), "readiness.toml")
#: Checks of each phase, more than twice as many in the largest; two of three record what an exchange takes.
EACH, MOST, RUNS = 30, 110, 30
BODY = '{"id": "4b1f0c2e", "status": "healthy", "services": {"dixie": {"status": "healthy"}}} ' * 7
ANSWER = EXCHANGE | {"response": EXCHANGE["response"] | {"body": BODY}}
RECORDED = [NOTE, ANSWER, ANSWER, figure("answers", 12, limit=">= 1"), EVALUATED, EVALUATED]
BUILD = {"freeside": "21280cc98fca", "finn": "77aa01bc99d2", "dixie": "c0ffee12ab34"}
#: check -> the figures for the plan's charts, and the check's goal
DRAWN: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "operations/latency-p95": (
        "G-3", [figure("p50", 370.0, "ms"), figure("p95", 918.6, "ms", limit=10_000)],
    ),
    "budget/sequential-spend-is-conserved": (
        "G-4", [figure(f"charges of {n}", 12_760, "µUSD", expected=12_760) for n in range(40)],
    ),
    "loop/quality-moves-the-score": (
        "G-5", [figure("propagation", 0.1 * n, "s", limit=8) for n in range(1, 20)],
    ),
    "operations/revocation-in-time[freeside]": (
        "G-2",
        [
            figure("finn: old key last accepted after", 1.25, "s", limit=300),
            figure("finn: new key accepted after", 2.5, "s", limit=300),
        ],
    ),
}  # fmt: skip


def _checks() -> Iterator[CheckResult]:
    for place, phase in enumerate(PLAN.phases):
        goal = PLAN.goals[place % 6].id
        for number in range(MOST if phase == "auth" else EACH):
            name = f"{phase}/a-name-as-long-as-others-are[freeside.invoke-{number}]"
            severity, some = ("P0", "P1")[number % 2], RECORDED if number % 3 else RECORDED[:1]
            yield check(name, goal=goal, severity=severity, evidence=some, duration_s=0.4)
    for name, (goal, evidence) in DRAWN.items():
        yield check(name, goal=goal, evidence=evidence, duration_s=2.0)


def _history(checks: tuple[CheckResult, ...]) -> list[dict[str, Any]]:
    kept = [{"id": each.id, "outcome": "passed", "severity": "P0"} for each in checks]
    verdicts = ["READY", "DEGRADED", "READY", "BROKEN", "NO_VERDICT"]
    return [
        entry(
            verdicts[n % 5], RUNS - n, build_identity=BUILD, plan_digest=PLAN.digest, checks=kept,
            started_at=NOW.isoformat(),
        )
        for n in range(RUNS)
    ]  # fmt: skip


@cache
def ready() -> dict[str, Any]:
    """Return the model of a green full run with thirty runs before it. It is shared: change a copy."""
    checks = tuple(_checks())
    return model(
        *checks, plan_=PLAN, history={"local": _history(checks)}, build_start=BUILD, build_end=BUILD,
        environments={"staging": True},
    )  # fmt: skip


@cache
def broken() -> dict[str, Any]:
    """Return the model of the same run with every fourth check red, each for a different reason."""
    green = tuple(_checks())
    checks = tuple(
        check(each.id, "failed", each.severity.value, "PLATFORM_BUG", each.goal, evidence=each.evidence,
              summary=f"answer {n} has the status {200 + n}, allowed 401 or 403: it was accepted")
        if n % 4 == 0 else each
        for n, each in enumerate(green)
    )  # fmt: skip
    return model(*checks, plan_=PLAN, history={"local": _history(green)}, build_start=BUILD, build_end=BUILD)

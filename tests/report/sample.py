"""Models as a run leaves them: a green full run of the embedded platform, and the same with trouble in it."""

from copy import deepcopy
from functools import cache
from typing import Any

from pytest_readiness.core.plan import Plan

from tests.core.build import check, entry, model

PLAN = Plan.parse(
    """
schema_version = 1
title = "Freeside staging launch"
suite = "smoke"
goal = [
  {id = "G-1", title = "Parallel dev"}, {id = "G-2", title = "ES256 auth chain"},
  {id = "G-3", title = "Agent invoke E2E"}, {id = "G-4", title = "Budget conservation"},
  {id = "G-5", title = "Reputation loop"}, {id = "G-6", title = "x402 payment"},
  {id = "G-7", title = "3x green smoke", streak = true}, {id = "G-8", title = "Fly.io cleanup"},
]
[[deferral]]
item = "NATS event streaming"
severity = "Low"
rationale = "`NATS_OPTIONAL=true` (IMP-009) — reputation uses direct DB writes"
[[deferral]]
item = "x402 Base Sepolia"
severity = "Medium"
rationale = "Testnet wallet funding + RPC endpoint needed before validation"
goal = "G-6"
expires = 2027-03-01T00:00:00Z
[[waiver]]
check = "alarms/dashboards-have-widgets"
reason = "dashboards land with the next release"
approver = "R. Ortega"
issued = 2026-05-20T09:00:00Z
expires = 2026-06-20T09:00:00Z
[[inventory]]
service = "Freeside (API)"
key = "freeside"
url = "staging.api.arrakis.community"
cpu = 512
memory = 1024
image = "arrakis-staging-api:$SHA"
[[inventory]]
service = "PgBouncer"
key = "pgbouncer"
url = "pgbouncer.arrakis-staging.local"
cpu = 256
memory = 512
[[operational]]
item = "Migration task definitions (one-shot, not startup)"
checks = ["operations/migrations*"]
[[operational]]
item = "First deploy to staging (operational)"
rule = "live-run"
[[rollback]]
title = "Full Rollback"
kind = "full"
steps = ["`git revert <commit-hash>`", "redeploy api and worker"]
checks = ["operations/rollback-full*"]
[declaration]
title = "Staging Declaration"
[[decision]]
date = "2026-02-26"
decision = "One database, three schemas"
rationale = "the connection budget is 85"
source = "review"
""",
    "readiness.toml",
)


def figure(name: str, value: Any, unit: str = "", **bounds: Any) -> dict[str, Any]:
    """A figure as the evidence keeps it."""
    bounds = {"expected": None, "limit": None, **bounds}
    return {"kind": "figure", "name": name, "value": value, "unit": unit, **bounds}


EXCHANGE: dict[str, Any] = {
    "kind": "exchange",
    "method": "POST",
    "url": "http://127.0.0.1:41233/api/agents/invoke",
    "status": 200,
    "ms": 41.7,
    "request": {
        "headers": {"authorization": "Bearer [redacted]", "content-type": "application/json"},
        "body": '{"prompt": "echo n-7f3a"}',
    },
    "response": {
        "headers": {"content-type": "application/json", "x-trace-id": "tr_01"},
        "body": '{"content": "n-7f3a", "usage": {"costMicro": 2210}}',
    },
}
FIGURE = figure("Σ charges", 22100, "µUSD", expected=22100)
EVALUATED: dict[str, Any] = {"kind": "evaluated", "rule": "I-1 committed + reserved ≤ limit", "times": 10}
NOTE: dict[str, Any] = {"kind": "note", "text": "seeded tenant, limit 50 000 cents"}
OBSERVED = {"cpu": 512, "memory": 1024, "image": "arrakis-staging-api:9b1c2d3e"}
GREEN = (
    check("health/freeside", evidence=(EXCHANGE,)),
    check("auth/valid", goal="G-2"),
    check("invoke/answers", goal="G-3"),
    check("budget/is-conserved", goal="G-4", evidence=(NOTE, EXCHANGE, FIGURE, EVALUATED)),
    check("reputation/unknown-agent", goal="G-5"),
    check("x402/payment-required", "skipped", "P1", goal="G-6", summary="no chain is configured"),
    check("flyio/no-reference", goal="G-8", static=True),
    check("alarms/dashboards-have-widgets", severity="P1"),
    check("services/size", evidence=[figure(f"inventory/freeside/{key}", OBSERVED[key]) for key in OBSERVED]),
    *(check(f"operations/migrations[{name}]", severity="P1") for name in ("freeside", "finn", "dixie")),
    check("operations/rollback-full"),
)
DIXIE_DOWN = "not run: dixie is down (health/dixie: connection refused)"
RED = (
    check(
        "auth/refused[freeside-expired]", "failed", cls="PLATFORM_BUG", goal="G-2", duration_s=0.2,
        summary="an expired token was accepted: status 200, allowed 401 or 403",
        evidence=(EXCHANGE, figure("p95", 0.0417342, "s", limit=10), figure("status", 200, expected=401)),
    ),
    check("invoke/nonce", "flaky", cls="FLAKE", goal="G-3", attempts=2, summary="ReadTimeout, then passed"),
    *(
        check(f"reputation/{name}", "not-run", "P1", goal="G-5", summary=DIXIE_DOWN)
        for name in ("seeded-score", "malformed-key", "moves")
    ),
)  # fmt: skip
REPRODUCE = "pytest 'smoke/test_auth.py::test_refused[freeside-expired]' --env local"
BUILD = {"freeside": "9b1c2d3e", "finn": "77aa01bc", "dixie": ""}


@cache
def _assessed(*, red: bool) -> dict[str, Any]:
    return model(
        *GREEN, *(RED if red else ()),
        plan_=PLAN, build_start=BUILD, build_end=BUILD, environments={"staging": True},
        history={"local": [entry(build_identity=BUILD, plan_digest=PLAN.digest)]},
        runner="https://ci.example.com/runs/88", ledger={"url": "file:.readiness/local.jsonl", "entries": 2},
        self_test={"detected": 72, "total": 72, "false_alarms": 0, "date": "2026-03-01"},
        notes=("build identity of dixie is unknown: its /health names none",),
    )  # fmt: skip


def ready() -> dict[str, Any]:
    """Return a green full run of the embedded environment."""
    return deepcopy(_assessed(red=False))


def broken() -> dict[str, Any]:
    """Return the same run with one P0 failure, one flaky check and three that did not run."""
    return deepcopy(_assessed(red=True))


def unfinished() -> dict[str, Any]:
    """Return the model that a run writes first: no verdict and almost nothing else."""
    empty = ("blockers", "goals", "deferred", "waivers", "inventory", "operational", "rollback", "decisions")
    return {
        "schema_version": 1,
        "run_id": "20260301T101500Z-4f2a",
        "environment": "staging",
        "scope": "full",
        "started_at": "2026-03-01T10:15:00+00:00",
        "finished_at": "2026-03-01T10:15:00+00:00",
        "verdict": "NO_VERDICT",
        "exit_code": 6,
        "reasons": ["run did not finish"],
        "declaration": "NOT READY",
        "checks": [],
        **{key: [] for key in empty},
        "build_identity": {},
        "streak": {},
        "notes": [],
    }

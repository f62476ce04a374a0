"""A realistic model: a green full run of the embedded platform, and the same run with trouble in it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

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
FIGURE: dict[str, Any] = {
    "kind": "figure",
    "name": "Σ charges",
    "value": 22100,
    "unit": "µUSD",
    "expected": 22100,
    "limit": None,
}
LATENCY: dict[str, Any] = {
    "kind": "figure",
    "name": "p95",
    "value": 0.0417342,
    "unit": "s",
    "expected": None,
    "limit": 10,
}
EVALUATED: dict[str, Any] = {"kind": "evaluated", "rule": "I-1 committed + reserved ≤ limit", "times": 10}
NOTE: dict[str, Any] = {"kind": "note", "text": "seeded tenant, limit 50 000 cents"}

GOALS = [
    ("G-1", "Parallel dev", "READY", "21 of 21 checks passed on the embedded environment"),
    ("G-2", "ES256 auth chain", "READY", "38 of 38 checks passed on the embedded environment"),
    ("G-3", "Agent invoke E2E", "READY", "14 of 14 checks passed on the embedded environment"),
    ("G-4", "Budget conservation", "READY", "12 of 12 checks passed; I-1 compared 120 times"),
    ("G-5", "Reputation loop", "READY", "7 of 7 checks passed on the embedded environment"),
    ("G-6", "x402 payment", "DEFERRED", "Testnet wallet funding + RPC endpoint needed before validation"),
    ("G-7", "3x green smoke", "PENDING", "local 2/3; staging: none"),
    ("G-8", "Fly.io cleanup", "PASS", "4 of 4 static checks passed on the checkout"),
    ("G-9", "Monitoring", "READY", "11 of 11 checks passed on the embedded environment"),
]

CHECKS: list[dict[str, Any]] = [
    {
        "id": "health/freeside",
        "nodeid": "smoke/test_health.py::test_freeside",
        "goal": "G-1",
        "phase": "health",
        "severity": "P0",
        "outcome": "passed",
        "class": None,
        "attempts": 1,
        "duration_s": 0.031,
        "summary": "",
        "evidence": [EXCHANGE],
    },
    {
        "id": "budget/sequential-spend-is-conserved",
        "nodeid": "smoke/test_budget.py::test_sequential_spend_is_conserved",
        "goal": "G-4",
        "phase": "budget",
        "severity": "P0",
        "outcome": "passed",
        "class": None,
        "attempts": 1,
        "duration_s": 0.81,
        "summary": "",
        "evidence": [NOTE, EXCHANGE, FIGURE, EVALUATED],
    },
    {
        "id": "x402/payment-required",
        "nodeid": "smoke/test_x402.py::test_payment_required",
        "goal": "G-6",
        "phase": "x402",
        "severity": "P1",
        "outcome": "deferred",
        "class": None,
        "attempts": 1,
        "duration_s": 0.0,
        "summary": "deferred: x402 Base Sepolia",
        "evidence": [],
    },
]

READY: dict[str, Any] = {
    "schema_version": 1,
    "title": "Freeside staging launch",
    "run_id": "20260301T101500Z-4f2a",
    "environment": "local",
    "live": False,
    "scope": "full",
    "started_at": "2026-03-01T10:15:00+00:00",
    "finished_at": "2026-03-01T10:15:09+00:00",
    "verdict": "READY",
    "exit_code": 0,
    "reasons": ["every selected check passed or is deferred"],
    "counts": {"passed": 107, "deferred": 3, "failed": 0, "flaky": 0, "skipped": 0, "not-run": 0},
    "declaration": "READY FOR FIRST DEPLOY",
    "blockers": [],
    "goals": [{"id": i, "title": t, "status": s, "evidence": e} for i, t, s, e in GOALS],
    "checks": CHECKS,
    "deferred": [
        {
            "item": "NATS event streaming",
            "severity": "Low",
            "rationale": "`NATS_OPTIONAL=true` (IMP-009) — reputation uses direct DB writes",
        },
        {
            "item": "x402 Base Sepolia",
            "goal": "G-6",
            "severity": "Medium",
            "rationale": "Testnet wallet funding + RPC endpoint needed before validation",
            "expires": "2027-03-01T00:00:00+00:00",
        },
    ],
    "waivers": [
        {
            "check": "alarms/dashboards-have-widgets",
            "reason": "dashboards land with the next release",
            "approver": "R. Ortega",
            "issued": "2026-02-20T09:00:00+00:00",
            "expires": "2026-03-20T09:00:00+00:00",
        }
    ],
    "cover": ["waiver of alarms/dashboards-have-widgets: the check passes, the cover is no longer needed"],
    "inventory": [
        {
            "service": "Freeside (API)",
            "url": "staging.api.arrakis.community",
            "cpu": 512,
            "memory": 1024,
            "image": "arrakis-staging-api:$SHA",
            "observed": {"cpu": 512, "memory": 1024, "image": "arrakis-staging-api:9b1c2d3e"},
        },
        {
            "service": "PgBouncer",
            "url": "pgbouncer.arrakis-staging.local",
            "cpu": 256,
            "memory": 512,
            "image": "",
        },
    ],
    "operational": [
        {
            "item": "Migration task definitions (one-shot, not startup)",
            "done": True,
            "evidence": "operations/migrations-are-one-shot passed",
        },
        {
            "item": "First deploy to staging (operational)",
            "done": False,
            "evidence": "no full green run of a live environment in a ledger",
        },
    ],
    "rollback": [
        {
            "title": "Single-commit revert",
            "kind": "full",
            "steps": ["`git revert <commit-hash>`", "redeploy api and worker"],
            "evidence": "operations/rollback-reverts-cleanly passed",
        }
    ],
    "decisions": [
        {
            "date": "2026-02-26",
            "decision": "One database, three schemas",
            "rationale": "the connection budget is 85",
            "source": "review",
        }
    ],
    "build_identity": {"freeside": "9b1c2d3e", "finn": "77aa01bc", "dixie": ""},
    "streak": {"length": 2, "required": 3, "why": "2 full green runs of this build, suite and plan on local"},
    "suite_digest": "sha256:5f0c",
    "plan_digest": "sha256:a91e",
    "ledger": {"url": "file:.readiness/local.jsonl", "entries": 2},
    "self_test": {
        "detected": 72,
        "total": 72,
        "false_alarms": 0,
        "date": "2026-03-01",
        "catalogue_digest": "sha256:0d2f",
    },
    "notes": ["build identity of dixie is unknown: its /health names none"],
}

REPRODUCE = "pytest 'smoke/test_auth.py::test_refused[freeside-expired]' --env local"


def ready() -> dict[str, Any]:
    """Return a green full run of the embedded environment."""
    return deepcopy(READY)


def broken() -> dict[str, Any]:
    """Return the same run with one P0 failure, one flaky check and one that did not run."""
    model = ready()
    model["checks"] += [
        _check(
            "auth/refused[freeside-expired]",
            "G-2",
            "P0",
            "failed",
            "PLATFORM_BUG",
            "an expired token was accepted: 200",
        ),
        _check("invoke/answers-its-own-nonce", "G-3", "P0", "flaky", "FLAKE", "ReadTimeout, then passed"),
        _check(
            "reputation/seeded-score",
            "G-5",
            "P1",
            "not-run",
            None,
            "not run: dixie is down (health/dixie: refused)",
        ),
    ]
    model.update(
        verdict="BROKEN",
        exit_code=1,
        reasons=[
            "P0 auth/refused[freeside-expired] failed as PLATFORM_BUG: an expired token was accepted: 200"
        ],
        declaration="NOT READY",
        counts={"passed": 104, "deferred": 3, "failed": 1, "flaky": 1, "skipped": 0, "not-run": 1},
        streak={"length": 0, "required": 3, "why": "this run is BROKEN"},
        blockers=[
            {
                "check": "auth/refused[freeside-expired]",
                "goal": "G-2",
                "severity": "P0",
                "class": "PLATFORM_BUG",
                "summary": "an expired token was accepted: status 200, allowed 401 or 403",
                "next_action": "check that Freeside verifies `exp` before it serves the call",
                "reproduce": REPRODUCE,
            },
            {
                "check": "reputation/seeded-score",
                "goal": "G-5",
                "severity": "P1",
                "class": None,
                "summary": "not run: dixie is down (health/dixie: connection refused)",
                "next_action": "bring Dixie up, then run again",
                "reproduce": "pytest smoke/test_reputation.py::test_seeded_score --env local",
            },
        ],
    )
    model["goals"][1].update(
        status="FAIL", evidence="auth/refused[freeside-expired] failed: an expired token was accepted"
    )
    model["goals"][4].update(status="PENDING", evidence="reputation/seeded-score did not run")
    return model


def unfinished() -> dict[str, Any]:
    """Return what the first act of a run writes: no verdict, and next to nothing else."""
    return {
        "schema_version": 1,
        "run_id": "20260301T101500Z-4f2a",
        "environment": "staging",
        "scope": "full",
        "started_at": "2026-03-01T10:15:00+00:00",
        "verdict": "NO_VERDICT",
        "exit_code": 6,
        "reasons": ["run did not finish"],
        "checks": [],
    }


def _check(
    name: str, goal: str, severity: str, outcome: str, failure: str | None, summary: str
) -> dict[str, Any]:
    return {
        "id": name,
        "nodeid": f"smoke/test_{name.partition('/')[0]}.py::test_x",
        "goal": goal,
        "phase": name.partition("/")[0],
        "severity": severity,
        "outcome": outcome,
        "class": failure,
        "attempts": 2 if outcome == "flaky" else 1,
        "duration_s": 0.2,
        "summary": summary,
        "evidence": [EXCHANGE, LATENCY],
    }

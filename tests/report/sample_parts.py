"""The parts of the sample model: evidence, goals, checks, and the tables of the plan."""

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
        "nodeid": "smoke/health/test_health.py::test_freeside",
        "goal": "G-1",
        "phase": "health",
        "severity": "P0",
        "outcome": "passed",
        "class": None,
        "attempts": 1,
        "duration_s": 0.031,
        "summary": "",
        "evidence": [EXCHANGE],
        "applicable": True,
        "covered_by": None,
    },
    {
        "id": "budget/sequential-spend-is-conserved",
        "nodeid": "smoke/budget/test_conservation.py::test_sequential_spend_is_conserved",
        "goal": "G-4",
        "phase": "budget",
        "severity": "P0",
        "outcome": "passed",
        "class": None,
        "attempts": 1,
        "duration_s": 0.81,
        "summary": "",
        "evidence": [NOTE, EXCHANGE, FIGURE, EVALUATED],
        "applicable": True,
        "covered_by": None,
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
        "summary": "skipped: no chain is configured",
        "evidence": [],
        "applicable": True,
        "covered_by": "services/ecs-x402",
    },
]

DEFERRED: list[dict[str, Any]] = [
    {
        "item": "NATS event streaming",
        "severity": "Low",
        "rationale": "`NATS_OPTIONAL=true` (IMP-009) — reputation uses direct DB writes",
        "goal": "",
        "check": "",
        "expires": None,
        "state": "no check",
        "note": "no check of this run covers it",
        "covers": [],
    },
    {
        "item": "x402 Base Sepolia",
        "severity": "Medium",
        "rationale": "Testnet wallet funding + RPC endpoint needed before validation",
        "goal": "G-6",
        "check": "",
        "expires": "2027-03-01T00:00:00+00:00",
        "state": "covers",
        "note": "covers x402/payment-required",
        "covers": ["x402/payment-required"],
    },
]

WAIVERS: list[dict[str, Any]] = [
    {
        "check": "alarms/dashboards-have-widgets",
        "reason": "dashboards land with the next release",
        "approver": "R. Ortega",
        "issued": "2026-02-20T09:00:00+00:00",
        "expires": "2026-03-20T09:00:00+00:00",
        "state": "no longer needed",
        "note": "no longer needed: 1 of 1 checks passed",
        "covers": [],
    }
]

INVENTORY: list[dict[str, Any]] = [
    {
        "service": "Freeside (API)",
        "url": "staging.api.arrakis.community",
        "cpu": 512,
        "memory": 1024,
        "image": "arrakis-staging-api:$SHA",
        "key": "freeside",
        "ecs": "api",
        "observed": {
            "cpu": 512,
            "memory": 1024,
            "image": "arrakis-staging-api:9b1c2d3e",
            "build": "9b1c2d3e",
        },
    },
    {
        "service": "PgBouncer",
        "url": "pgbouncer.arrakis-staging.local",
        "cpu": 256,
        "memory": 512,
        "image": "",
        "key": "pgbouncer",
        "ecs": "pgbouncer",
        "observed": {},
    },
]

OPERATIONAL: list[dict[str, Any]] = [
    {
        "item": "Migration task definitions (one-shot, not startup)",
        "done": True,
        "evidence": "3 checks passed",
        "checks": ["operations/migrations*"],
    },
    {
        "item": "First deploy to staging (operational)",
        "done": False,
        "evidence": "no green live run yet",
        "checks": [],
    },
]

ROLLBACK: list[dict[str, Any]] = [
    {
        "title": "Full Rollback",
        "kind": "full",
        "steps": ["`git revert <commit-hash>`", "redeploy api and worker"],
        "checks": ["operations/rollback-full*"],
        "verified": True,
        "evidence": "1 checks passed",
    }
]

DECISIONS: list[dict[str, Any]] = [
    {
        "date": "2026-02-26",
        "decision": "One database, three schemas",
        "rationale": "the connection budget is 85",
        "source": "review",
    }
]

"""A realistic model: a green full run of the embedded platform, and the same run with trouble in it."""

from copy import deepcopy
from typing import Any

from tests.report.sample_parts import (
    CHECKS,
    DECISIONS,
    DEFERRED,
    EVALUATED,
    EXCHANGE,
    FIGURE,
    GOALS,
    INVENTORY,
    LATENCY,
    NOTE,
    OPERATIONAL,
    ROLLBACK,
    WAIVERS,
)

__all__ = [
    "CHECKS",
    "EVALUATED",
    "EXCHANGE",
    "FIGURE",
    "LATENCY",
    "NOTE",
    "REPRODUCE",
    "broken",
    "ready",
    "unfinished",
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
    "uncounted": None,
    "complete": True,
    "counts": {
        "total": 112,
        "passed": 107,
        "failed": 0,
        "flaky": 0,
        "skipped": 2,
        "deferred": 3,
        "not-run": 0,
        "not_applicable": 2,
    },
    "declaration": "READY FOR FIRST DEPLOY",
    "declaration_why": "every goal holds, and no live environment has been run yet",
    "blockers": [],
    "goals": [{"id": i, "title": t, "status": s, "evidence": e} for i, t, s, e in GOALS],
    "checks": CHECKS,
    "deferred": DEFERRED,
    "waivers": WAIVERS,
    "cover": [
        "deferral NATS event streaming: no check of this run covers it",
        "deferral x402 Base Sepolia: covers x402/payment-required",
        "waiver alarms/dashboards-have-widgets: no longer needed: 1 of 1 checks passed",
    ],
    "inventory": INVENTORY,
    "operational": OPERATIONAL,
    "rollback": ROLLBACK,
    "decisions": DECISIONS,
    "build_identity": {"freeside": "9b1c2d3e", "finn": "77aa01bc", "dixie": ""},
    "streak": {"length": 2, "required": 3, "why": "2 full green runs of this build, suite and plan on local"},
    "suite_digest": "sha256:5f0c",
    "plan_digest": "sha256:a91e",
    "runner": "https://ci.example.com/runs/88",
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

REPRODUCE = "pytest 'smoke/auth/test_tokens.py::test_refused[freeside-expired]' --env local"


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
        declaration_why="the run is BROKEN",
        counts={
            "total": 110,
            "passed": 104,
            "failed": 1,
            "flaky": 1,
            "skipped": 0,
            "deferred": 3,
            "not-run": 1,
        },
        streak={"length": 0, "required": 3, "why": "this run is BROKEN"},
        blockers=[
            {
                "check": "auth/refused[freeside-expired]",
                "also": [],
                "goal": "G-2",
                "severity": "P0",
                "class": "PLATFORM_BUG",
                "summary": "an expired token was accepted: status 200, allowed 401 or 403",
                "rule": "a P0 check that fails on the platform is BROKEN",
                "observed": "status = 200",
                "limit": "401",
                "next_action": "check that Freeside verifies `exp` before it serves the call",
                "reproduce": REPRODUCE,
            },
            {
                "check": "reputation/seeded-score",
                "also": ["reputation/unknown-agent", "reputation/malformed-key"],
                "goal": "G-5",
                "severity": "P1",
                "class": None,
                "summary": "not run: dixie is down (health/dixie: connection refused)",
                "rule": "a P1 check that fails or does not run is DEGRADED",
                "observed": "",
                "limit": "",
                "next_action": "bring Dixie up, then run again",
                "reproduce": "pytest smoke/reputation/test_reputation.py::test_seeded_score --env local",
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
        "applicable": True,
        "covered_by": None,
    }

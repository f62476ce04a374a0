"""The sample that the renderers are tested with has the shape that an assessed run really has."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_readiness.core.assess import assess
from pytest_readiness.core.model import CheckResult, FailureClass, Outcome, RunRecord, Severity
from pytest_readiness.core.plan import Plan
from pytest_readiness.report import html, json, markdown, terminal

from tests.report import sample

PLAN = """
schema_version = 1
title = "Sample launch"
suite = "smoke"
[[goal]]
id = "G-2"
title = "ES256 auth chain"
[[goal]]
id = "G-6"
title = "x402 payment"
[[deferral]]
goal = "G-6"
item = "x402"
severity = "Medium"
rationale = "no chain"
[[waiver]]
check = "auth/slow"
reason = "known"
approver = "R. Ortega"
issued = 2026-02-01T00:00:00Z
expires = 2026-04-01T00:00:00Z
[[inventory]]
service = "API"
key = "api"
url = "api.example.com"
cpu = 512
memory = 1024
image = "api:$SHA"
[[operational]]
item = "Deployed"
rule = "live-run"
[[rollback]]
title = "Full Rollback"
kind = "full"
steps = ["`git revert`"]
[[decision]]
date = "2026-02-26"
decision = "one database"
rationale = "85 connections"
source = "review"
"""
NOW = datetime(2026, 3, 1, 10, 15, tzinfo=UTC)
TABLES = (
    "blockers",
    "goals",
    "checks",
    "deferred",
    "waivers",
    "inventory",
    "operational",
    "rollback",
    "decisions",
)


def assessed() -> dict[str, Any]:
    failed = CheckResult(
        id="auth/refused[expired]",
        nodeid="smoke/auth/test_tokens.py::test_refused[expired]",
        goal="G-2",
        phase="auth",
        severity=Severity.P0,
        outcome=Outcome.FAILED,
        failure_class=FailureClass.PLATFORM_BUG,
        summary="accepted <script>",
        evidence=(sample.FIGURE,),
    )
    run = RunRecord(
        run_id="r1", environment="local", live=False, started_at=NOW, finished_at=NOW, results=(failed,)
    )
    return assess(run, Plan.parse(PLAN, "readiness.toml"), {}, NOW)


def test_the_sample_has_the_keys_of_an_assessed_run() -> None:
    assert set(sample.ready()) == set(assessed())


@pytest.mark.parametrize("key", TABLES)
def test_each_table_has_the_columns_of_an_assessed_run(key: str) -> None:
    known = set(sample.broken()[key][0])
    assert known == set(assessed()[key][0])


def test_every_renderer_shows_an_assessed_run() -> None:
    model = assessed()
    assert "| `auth/refused[expired]` | G-2 | P0 | failed | PLATFORM_BUG |" in markdown.render(model)
    assert "accepted &lt;script&gt;" in html.summary(model)
    assert terminal.lines(model)[0].startswith("BROKEN")
    assert '"verdict": "BROKEN"' in json.render(model)

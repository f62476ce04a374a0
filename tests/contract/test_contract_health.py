"""Every part of a health report is read, by the words that services use and by the profile's rules."""

from typing import Any

import pytest

from smoke.contract.health import parts_amiss, uptime_amiss

#: Responses of real, healthy services.
FINN = {
    "status": "healthy", "uptime": 59.88, "ready_for_billing": True, "goodhart": None,
    "checks": {"agent": {"status": "ok", "model": "unknown-model"}, "sessions": {"active": 0}},
    "billing": {"dlq_size": 0, "dlq_store_type": "redis", "dlq_durable": True, "dlq_aof_verified": False},
}  # fmt: skip
DIXIE = {
    "status": "healthy", "services": {"dixie": {"status": "healthy"}},
    "infrastructure": {"redis": {"status": "healthy", "latency_ms": 0}},
    "governance": {"governor_count": 2, "health": "degraded"},
}  # fmt: skip


@pytest.mark.parametrize(
    "report", [FINN, DIXIE, {"status": "healthy"}, {"status": "ok", "parts": [{"status": "UP"}]}]
)
def test_a_healthy_service_has_no_finding(report: Any) -> None:
    assert parts_amiss(report, {}) == ([], [])


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"checks": {"redis": {"status": "unknown"}}}, "checks.redis.status is unknown"),
        ({"a": [{"status": "ok"}, {"status": "DEGRADED"}]}, "a.1.status is degraded"),
        ({"a": {"b": {"c": {"status": False}}}}, "a.b.c.status is false"),
    ],
)
def test_an_unhealthy_part_is_reported(report: Any, said: str) -> None:
    assert parts_amiss({"status": "healthy", **report}, {}) == ([said], [])


def test_what_is_not_understood_is_neither() -> None:
    assert parts_amiss({"a": {"status": "meh"}, "b": {"status": None}}, {}) == (
        [],
        ["a.status is meh", "b.status is null"],
    )


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"billing.dlq_durable": "true", "billing.dlq_store_type": "redis|kafka", "goodhart": "null"}, []),
        ({"billing.dlq_aof_verified": "true"}, ["billing.dlq_aof_verified is false, not true"]),
        ({"checks.*.status": "running"}, ["checks.agent.status is ok, not running"]),
        ({"billing.replicas": "2"}, ["billing.replicas is missing, not 2"]),
        ({"billing.replicas": "*", "relays.*.status": "up"}, []),
    ],
)
def test_the_profile_has_rules_for_parts(rules: Any, said: list[str]) -> None:
    amiss, unread = parts_amiss(FINN, rules)
    assert (amiss, unread) == (said, [])


def test_a_rule_may_let_a_part_be_degraded() -> None:
    report = {"status": "healthy", "services": {"corpus": {"status": "degraded"}}}
    assert parts_amiss(report, {"services.corpus.status": "*"}) == ([], [])


@pytest.mark.parametrize(
    "readings",
    [
        [(100, 7.0), (130, 37.4)],
        [(100, 7), (130, 36)],
        [(100, 7.0), (100.2, 907.1), (130, 937.2)],  # two tasks behind a load balancer
        [(100, 9000.0), (130, 4.0)],  # restarted
    ],
)
def test_an_uptime_that_follows_the_clock(readings: list[tuple[float, float]]) -> None:
    assert uptime_amiss(readings) == ""


def test_an_uptime_may_count_milliseconds_where_no_unit_is_named() -> None:
    assert uptime_amiss([(100, 7000), (130, 37012)], (1, 1000)) == ""
    assert uptime_amiss([(100, 7.0), (130, 37.4)], (1, 1000)) == ""
    assert uptime_amiss([(100, 7), (130, 7)], (1, 1000)) == "it stands still: 7 in all 2 reports within 30 s"


@pytest.mark.parametrize(
    ("readings", "amiss"),
    [
        ([(100, 7)], "all 1 reports are within 0.0 s"),
        ([(100, 7), (101, 7)], "all 2 reports are within 1.0 s"),  # whole seconds, too soon
        ([(100, 7.0), (130, 907.1)], "it went from 7 to 907.1 within 30 s"),  # two tasks, one report each
        ([(100, 12.5), (103, 12.5)], "it stands still: 12.5 in all 2 reports within 3 s"),
        ([(100, 7000), (130, 37000)], "it went from 7000 to 37000 within 30 s"),
        ([(100, 7.0), (130, 43.0)], "it went from 7 to 43 within 30 s"),
        ([(100, 900.0), (130, 901.0)], "it went from 900 to 901 within 30 s"),
    ],
)
def test_an_uptime_that_does_not(readings: list[tuple[float, float]], amiss: str) -> None:
    assert uptime_amiss(readings) == amiss

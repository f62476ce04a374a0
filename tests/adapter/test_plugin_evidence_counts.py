"""A rule that is compared again and again is one entry of the evidence, which says how often."""

from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse

import pytest
from pytest_readiness.adapter.evidence import Evidence, EvidenceLog
from pytest_readiness.core.redaction import Redactor


def test_comparisons_of_a_rule_add_up() -> None:
    log = EvidenceLog(Redactor())
    evidence = Evidence(log)
    for rule in ("I-1", "I-2", "I-1", "I-1"):
        evidence.evaluated(rule)
    evidence.evaluated("I-2", times=5)
    evidence.evaluated("I-3", times=0)
    assert [(entry["rule"], entry["times"]) for entry in log.take()] == [("I-1", 3), ("I-2", 6)]


def test_each_phase_keeps_its_own_count() -> None:
    log = EvidenceLog(Redactor())
    Evidence(log).evaluated("I-1")
    first = log.take()
    Evidence(log).evaluated("I-1")
    assert [entry["times"] for entry in (*first, *log.take())] == [1, 1]


def test_no_comparison_is_lost_between_threads() -> None:
    log = EvidenceLog(Redactor())
    evidence = Evidence(log)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda place: evidence.evaluated(f"I-{place % 2}"), range(2000)))
    assert sorted((entry["rule"], entry["times"]) for entry in log.take()) == [("I-0", 1000), ("I-1", 1000)]


def test_a_secret_in_the_name_of_a_rule_is_redacted() -> None:
    log = EvidenceLog(Redactor(["hunter2-hunter2"]))
    Evidence(log).evaluated("token hunter2-hunter2 is refused")
    assert "hunter2" not in log.take()[0]["rule"]


def test_a_response_of_another_library_is_refused_with_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"or requests, not HTTPResponse: record .* evidence\.figure"):
        Evidence(EvidenceLog(Redactor())).exchange(HTTPResponse.__new__(HTTPResponse))

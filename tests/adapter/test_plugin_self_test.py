"""The report quotes the last self-test if it tested this exact suite."""

import json
from typing import Any

import pytest

from tests.adapter.scenario import Suite

CHECK = """
@pytest.mark.p0
def test_it(evidence):
    passing(evidence)
"""
PROVED = {
    "schema_version": 1,
    "scope": "full",
    "detected": 72,
    "total": 72,
    "false_alarms": 0,
    "uncovered": [],
    "clean_runs": 3,
    "date": "2026-03-01T00:00:00Z",
    "catalogue_digest": "abc",
    "faults": [{"id": "one"}],
}


def leave(suite: Suite, record: object) -> None:
    suite.write("reports/self-test.json", json.dumps(record))


def notes(model: dict[str, Any]) -> str:
    return "\n".join(model["notes"])


def test_a_self_test_of_this_suite_is_quoted(suite: Suite) -> None:
    suite.checks(CHECK)
    digest = suite.run().model["suite_digest"]
    leave(suite, {**PROVED, "suite_digest": digest})
    run = suite.run()
    quoted = {key: value for key, value in PROVED.items() if key not in {"schema_version", "scope", "faults"}}
    assert run.model["self_test"] == {**quoted, "suite_digest": digest}
    assert "this suite detected 72/72 seeded faults, 0 false alarms" in run.out
    suite.checks(CHECK + "\n# a word more\n")
    run = suite.run()
    assert run.model["self_test"] is None
    assert "the self-test of 2026-03-01T00:00:00Z is not quoted: it tested another state" in notes(run.model)


@pytest.mark.parametrize(
    ("scope", "of_this_suite", "quoted"),
    [
        ("all", True, "9/10 mutants, on"),
        ("a sample of 10, seed 'b'", True, "9/10 mutants (a sample of 10, seed 'b'), on"),
        ("those that match ledger", True, ""),
        ("all", False, ""),
    ],
)
def test_mutants_are_quoted_beside_the_faults(
    suite: Suite, scope: str, of_this_suite: bool, quoted: str
) -> None:
    suite.checks(CHECK)
    digest = suite.run().model["suite_digest"]
    leave(suite, {**PROVED, "suite_digest": digest})
    tried = {"scope": scope, "suite_digest": digest if of_this_suite else "another", "killed": 9, "total": 10}
    suite.write("reports/mutants.json", json.dumps(tried))
    run = suite.run()
    assert ("mutants" in run.model["self_test"]) is bool(quoted)
    said = " ".join(run.out.split())
    assert quoted in said
    assert ("/10 mutants" in said) is bool(quoted)


@pytest.mark.parametrize("record", [{**PROVED, "scope": "partial"}, [], None])
def test_an_incomplete_self_test_is_not_quoted(suite: Suite, record: object) -> None:
    suite.checks(CHECK)
    leave(suite, record)
    run = suite.run()
    assert (run.code, run.model["self_test"]) == (0, None)


def test_a_broken_record_is_noted(suite: Suite) -> None:
    suite.checks(CHECK)
    suite.write("reports/self-test.json", "{")
    run = suite.run()
    assert (run.code, run.model["self_test"]) == (0, None)
    assert "self-test.json cannot be read" in notes(run.model)

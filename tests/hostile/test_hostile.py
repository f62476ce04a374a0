"""A few of the hostile cases; ``make hostile`` runs them all."""

from __future__ import annotations

import pytest

from tests.hostile import answers, bodies, others, runner, streams, timing
from tests.hostile.batch import try_cases

CASES = {
    case.name: case for case in (*answers.CASES, *bodies.CASES, *timing.CASES, *streams.CASES, *others.CASES)
}
TROUBLES = {trouble.name: trouble for trouble in runner.TROUBLES}
FEW = (
    *("gzip-bomb", "gzip-nested", "length-10-gb", "desync-healthy-first", "cookie-domain", "redirect-307"),
    *("json-same-name", "json-deep-objects", "integer-5000-digits", "clear-screen", "charset-rot13"),
    *("drip-body", "endless-103", "endless-chunks", "reset-in-chunk", "sse-no-newline", "sse-slow-comments"),
    *("tls-expired", "tls-wrong-host", "aws-endless-100", "aws-html", "postgres-hangs-after-login"),
)


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(CASES) + len(TROUBLES) == sum(
        len(each)
        for each in (
            *(answers.CASES, bodies.CASES, timing.CASES, streams.CASES, others.CASES, runner.TROUBLES),
        )
    )
    assert len(CASES) + len(TROUBLES) >= 300


def test_hostile_answers_are_survived() -> None:
    outcome = try_cases([CASES[name] for name in FEW])
    assert not outcome.problems


@pytest.mark.parametrize("name", ["sigkill-at-runtest_call", "reports-unwritable", "ledger-deep", "locale-c"])
def test_trouble_of_the_runner_is_survived(name: str) -> None:
    assert not runner.befall(TROUBLES[name]).problems

"""GitHub: annotations that no text can break out of, and a job summary that GitHub takes."""

import re

import pytest
from hypothesis import given
from pytest_readiness.report import github, markdown

from tests.report import sample
from tests.report.hostile import HOSTILE, hostile

COMMAND = re.compile(
    r"::(error|warning) (?:file=[^:,\s][^:,\n]*,)?(?:line=\d+,)?title=[^:,\n]+::([^\n\r]*)", re.S
)


def test_each_cause_is_an_annotation_at_its_place() -> None:
    model = sample.broken()
    next(c for c in model["checks"] if c["id"] == "invoke/nonce")["where"] = "smoke/test_invoke.py:17"
    found = github.commands(model)
    assert len(found) == len(model["blockers"])
    assert found[0] == (
        "::error file=smoke/test_auth.py,title=P0 PLATFORM_BUG auth/refused[freeside-expired]"
        "::an expired token was accepted: status 200, allowed 401 or 403"
        " Next: fix what the summary names on the platform, deploy, then run the check again"
    )
    assert found[1].startswith("::error file=smoke/test_invoke.py,line=17,title=P0 FLAKE invoke/nonce::")
    assert found[2].startswith("::warning ")


def test_what_a_ready_run_still_needs_is_a_notice() -> None:
    (found,) = github.commands(sample.ready())
    assert found.startswith("::notice title=G-7::")


def test_a_run_without_causes_annotates_nothing() -> None:
    assert github.commands(sample.unfinished()) == []


def test_there_are_at_most_ten_annotations() -> None:
    model = sample.broken()
    assert len(github.commands({**model, "blockers": model["blockers"] * 9})) == 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("50%", "50%25"),
        ("a\n::error::b", "a ::error::b"),
        ("a\r\nb", "a b"),
        ("%0A::error::b", "%250A::error::b"),
    ],
)
def test_a_message_is_escaped_as_github_reads_it(text: str, shown: str) -> None:
    model = {"blockers": [{"check": "a,b:c", "severity": "P0", "summary": text}]}
    assert github.commands(model) == [f"::error title=P0 a%2Cb%3Ac::{shown}"]


@given(HOSTILE)
def test_no_content_makes_another_command(text: str) -> None:
    for line in github.commands(hostile(sample.broken(), f"x{text}")):
        assert COMMAND.fullmatch(line), line
        assert line.splitlines() == [line]


def test_the_summary_is_the_markdown_report() -> None:
    assert github.summary(sample.broken()) == "\n" + markdown.render(sample.broken())


def test_a_summary_that_does_not_fit_ends_between_sections() -> None:
    model = sample.broken()
    taken = github.SUMMARY_LIMIT - len(markdown.render(model).encode()) // 2
    text = github.summary(model, taken)
    assert taken + len(text.encode()) < github.SUMMARY_LIMIT
    assert text.endswith("The rest is in readiness.md.\n")
    assert markdown.render(model).startswith(text.partition("\n\nThe rest")[0].strip())
    assert text.count("<details>") == text.count("</details>")


@pytest.mark.parametrize("left", [0, 1, 40])
def test_a_full_summary_gets_nothing(left: int) -> None:
    assert github.summary(sample.broken(), github.SUMMARY_LIMIT - left) == ""

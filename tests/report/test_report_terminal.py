"""The end of the run in the terminal: answer first, aligned, within its columns, commands whole."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.report import markdown, terminal
from pytest_readiness.report.terminal import width

from tests.report import sample
from tests.report.hostile import HOSTILE, hostile


def test_the_verdict_is_the_first_line() -> None:
    first, second, *_ = terminal.lines(sample.broken())
    assert first == "BROKEN  Freeside staging launch  local (not live)"
    assert second == "declaration  NOT READY: the run is BROKEN"


def test_the_headline_marks_a_partial_run() -> None:
    lines = terminal.lines({**sample.ready(), "scope": "partial"})
    assert lines[0].startswith("READY (PARTIAL)  ")
    assert "scope        PARTIAL: only part of the suite ran" in "\n".join(lines)


def test_the_goal_table_is_aligned() -> None:
    lines = terminal.lines(sample.broken())
    start = next(place for place, line in enumerate(lines) if line.startswith("Goal "))
    rows = lines[start : start + 10]
    status, evidence = rows[0].index("Status"), rows[0].index("Evidence")
    assert (
        {row[status - 2 : status] for row in rows} == {"  "} == {row[evidence - 2 : evidence] for row in rows}
    )
    assert [row[status:evidence].strip() for row in rows[1:3]] == ["READY", "FAIL"]


def test_the_evidence_of_a_goal_is_wrapped_not_cut() -> None:
    model = sample.ready()
    model["goals"][6]["evidence"] = (
        "local (not live): 1/3 in a row (counted from the ledger's first run); staging: no run yet"
    )
    lines = terminal.lines(model)
    place = next(place for place, line in enumerate(lines) if line.startswith("G-7"))
    assert lines[place + 1].strip().endswith("staging: no run yet")
    assert lines[place + 1].index(lines[place + 1].strip()) == lines[place].index("local (not live)")


def test_a_blocker_of_the_run_itself_is_named() -> None:
    model = sample.broken()
    model["blockers"][0] |= {"severity": None, "class": None, "check": None, "goal": None, "also": ()}
    assert " 1. the run" in terminal.lines(model)


def test_a_blocker_has_its_next_action_and_its_command() -> None:
    lines = terminal.lines(sample.broken())
    place = lines.index(" 1. P0 PLATFORM_BUG auth/refused[freeside-expired]")
    assert lines[place + 1 : place + 5] == [
        "    an expired token was accepted: status 200, allowed 401 or 403",
        "    next: fix what serves POST http://127.0.0.1:41233/api/agents/invoke (answered 200),",
        "          redeploy, then rerun the check",
        f"    $ {sample.REPRODUCE}",
    ]


def test_the_owner_that_the_plan_names_is_next_to_the_next_action() -> None:
    model = sample.broken()
    model["blockers"][0]["whose"] = {"team": "Checkout", "contact": "#checkout", "runbook": ""}
    found = " ".join(line.strip() for line in terminal.lines(model))
    assert "next (Checkout, #checkout): fix what serves POST" in found
    assert "Next (Checkout, #checkout): fix what serves" in markdown.render(model)
    model["blockers"][0]["whose"]["contact"] = ""
    assert "(Checkout" not in " ".join(terminal.lines(model)), "an owner who cannot be reached"


def test_a_cause_of_several_checks_says_what_lists_them() -> None:
    lines = terminal.lines(sample.broken())
    place = next(place for place, line in enumerate(lines) if line.endswith("and 2 more checks"))
    number = lines[place].split(".")[0].strip()
    assert f"    all its checks: readiness explain {number}" in lines[place:]


def test_streak_self_test_and_the_places_of_the_reports_end_it() -> None:
    model = sample.ready()
    lines = terminal.lines(model, ["reports/readiness.md", "reports/readiness.html"])
    assert lines[-4] == f"streak       2/3: {model['streak']['why']}"
    assert lines[-3].startswith("self-test    this suite detected 72/72 seeded faults")
    assert lines[-2:] == ["reports      reports/readiness.md", "             reports/readiness.html"]


@pytest.mark.parametrize("model", [{}, sample.unfinished()], ids=["empty", "unfinished"])
def test_a_run_that_did_not_finish_has_no_verdict(model: dict[str, object]) -> None:
    assert terminal.lines(model)[0].startswith("NO_VERDICT")


@given(HOSTILE, st.integers(80, 120))
def test_no_content_leaves_its_columns(text: str, columns: int) -> None:
    model = hostile(sample.broken(), text)
    for row in model["blockers"]:
        row["reproduce"] = sample.REPRODUCE
    for line in terminal.lines(model, columns=columns):
        assert width(line) <= columns
        assert line.splitlines() in ([], [line])


def test_a_covered_failure_says_where_the_exit_code_comes_from() -> None:
    model = sample.ready()
    assert any(line.startswith("exit code    0, by the verdict") for line in terminal.lines(model))
    model["checks"] = [check for check in model["checks"] if check["outcome"] != "deferred"]
    assert not any(line.startswith("exit code") for line in terminal.lines(model))


def test_a_long_command_is_broken_and_stays_the_same_command() -> None:
    model = sample.broken()
    command = "pytest 'smoke/auth/test_tokens.py::test_refused[a b]' --env staging " + " ".join(
        f"-o key{n}=v" for n in range(20)
    )
    model["blockers"][0]["reproduce"] = command
    lines = terminal.lines(model)
    start = next(place for place, line in enumerate(lines) if line.startswith("    $ "))
    end = next(place for place in range(start, len(lines)) if not lines[place].endswith("\\"))
    script = "\n".join(line[6:] for line in lines[start : end + 1])
    assert end > start
    assert max(map(len, lines)) <= terminal.COLUMNS
    assert shlex.split(script.replace("\\\n", "")) == shlex.split(command)


def test_a_long_word_is_cut_where_it_is_prose() -> None:
    model = sample.broken()
    model["blockers"][0].update(summary="x" * 250, next_action="y" * 250)
    model["reasons"] = ["z" * 250]
    assert max(map(len, terminal.lines(model))) == terminal.COLUMNS


@pytest.mark.parametrize("command", ["pytest 'open " + "x" * 120, "pytest  two  spaces " + "x " * 60])
def test_a_command_that_cannot_be_broken_safely_is_not_broken(command: str) -> None:
    model = sample.broken()
    model["blockers"][0]["reproduce"] = command
    shown = " ".join(command.split())
    assert any(shown in line for line in terminal.lines(model)) or "\\" in "".join(terminal.lines(model))


@pytest.mark.parametrize(
    ("verdict", "colour"),
    [("READY", "green"), ("BROKEN", "red"), ("DEGRADED", "yellow"), ("NO_VERDICT", "yellow"), ("", "yellow")],
)
def test_the_colour_of_the_verdict(verdict: str, colour: str) -> None:
    assert terminal.colour({"verdict": verdict}) == colour


def test_a_blocker_without_a_command_shows_none() -> None:
    model = sample.broken()
    model["blockers"] = [model["blockers"][0] | {"reproduce": ""}]
    assert not any(line.strip().startswith("$") for line in terminal.lines(model))


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("expired", True),
        ("expiring", True),
        ("unknown", True),
        ("refused", True),
        ("active", True),
        ("unneeded", False),
    ],
)
def test_a_waiver_that_changes_the_verdict_or_fails_to_is_named(state: str, shown: bool) -> None:
    waiver = {"check": "a/b", "state": state, "note": "no check matches"}
    lines = terminal.lines({**sample.ready(), "waivers": [waiver]})
    assert (f"waivers      a/b {state}: no check matches" in lines) is shown


def test_the_headers_of_goals_are_above_their_columns() -> None:
    """Also where every status is shorter than its head."""
    goals = [{"id": "G", "title": "", "status": "PASS", "evidence": "1 check passed (1 P0)"}]
    found = terminal.lines({**sample.ready(), "goals": goals})
    place = next(place for place, line in enumerate(found) if line.startswith("Goal"))
    assert found[place].index("Evidence") == found[place + 1].index("1 check")


def test_only_a_few_notes_are_shown() -> None:
    notes = [f"not_waivable 'a/{n}*' matches no check of the suite" for n in range(terminal.SHOWN + 2)]
    lines = terminal.lines({**sample.ready(), "notes": notes})
    assert f"notes        {notes[0]}" in lines
    assert f"             {notes[1]}" in lines
    assert "             ... and 2 more, see the report" in lines
    assert not any(line.startswith("notes") for line in terminal.lines({**sample.ready(), "notes": []}))

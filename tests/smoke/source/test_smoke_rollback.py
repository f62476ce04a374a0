"""Rollbacks are verified without executing them: in memory and on a scratch copy."""

import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_readiness import SetupError

from smoke.source.checkout import Checkout
from smoke.source.pipeline.rollback import Edit, edits, launch, revert, rows, verify
from tests.smoke.source.repository import commit, git, repository

CONFIG = """\
# a comment that stays
models:
  primary: opus   # so does this one
  secondary: new-model
  third: extra
other: [1, 2]
"""
SCRIPT = 'declare -A MODELS=(\n  ["prd"]="gpt-5.3"\n  ["sdd"]="gpt-5.3"\n)\n'
PRD = Edit(file="s.sh", to="gpt-5.2", pattern=r'^\s*\["prd"\]="(?P<value>[^"]+)"', name="prd")


def test_a_key_is_put_back_and_nothing_else_changes() -> None:
    step = Edit(file="c", to="old-model", key="models.secondary")
    assert verify(step, CONFIG) == ("new-model", "old-model")
    assert step.taken(CONFIG) == CONFIG.replace("new-model", "old-model")


def test_a_key_is_removed_and_nothing_else_changes() -> None:
    step = Edit(file="c", to="", key="models.third")
    assert verify(step, CONFIG) == ("extra", "")
    assert step.taken(CONFIG) == CONFIG.replace("  third: extra\n", "")


def test_a_pattern_is_put_back_once() -> None:
    assert verify(PRD, SCRIPT) == ("gpt-5.3", "gpt-5.2")
    assert PRD.taken(SCRIPT) == SCRIPT.replace('["prd"]="gpt-5.3"', '["prd"]="gpt-5.2"')


@pytest.mark.parametrize(
    ("step", "text", "said"),
    [
        (Edit(file="c", to="x", key="models.fourth"), CONFIG, "there is no value to revert"),
        (Edit(file="c", to="x", key="nowhere.at.all"), CONFIG, "there is no value to revert"),
        (
            Edit(file="c", to="", key="models.third"),
            "models:\n  third:\n",
            "there is no value to revert",
        ),
        (Edit(file="c", to="new-model", key="models.secondary"), CONFIG, "already is new-model"),
        (PRD, SCRIPT.replace("gpt-5.3", "gpt-5.2"), "already is gpt-5.2"),
    ],
)
def test_a_step_that_cannot_be_taken_says_why(step: Edit, text: str, said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        verify(step, text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("step", "text", "said"),
    [
        (PRD, SCRIPT.replace("prd", "other"), "found 0 times"),
        (PRD, SCRIPT + SCRIPT, "found 2 times"),
        (Edit(file="c", to="x", key="a.b"), "a: [1\nb: }", "c: a.b: the file is not one YAML document"),
        (Edit(file="c", to="x", key="a.b"), "a: 1\n---\nb: 2\n", "the file is not one YAML document"),
        (Edit(file="c", to="a: b", key="models.secondary"), CONFIG, "the file is not one YAML document"),
    ],
)
def test_a_step_that_is_not_understood_is_not_examined(step: Edit, text: str, said: str) -> None:
    with pytest.raises(SetupError, match="not examined") as caught:
        verify(step, text)
    assert said in str(caught.value)


WORDS = st.text("abcxyz019-", min_size=1, max_size=6).map(lambda word: f"k{word}z")


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(WORDS, st.dictionaries(WORDS, WORDS, min_size=2, max_size=3), min_size=1, max_size=3),
    WORDS,
    st.data(),
)
def test_any_key_of_any_file_can_be_put_back_or_removed(
    data: dict[str, dict[str, str]], to: str, draw: st.DataObject
) -> None:
    text = yaml.safe_dump(data)
    section = draw.draw(st.sampled_from(sorted(data)))
    name = draw.draw(st.sampled_from(sorted(data[section])))
    if data[section][name] != to:
        assert verify(Edit(file="f", to=to, key=f"{section}.{name}"), text) == (data[section][name], to)
    assert verify(Edit(file="f", to="", key=f"{section}.{name}"), text) == (data[section][name], "")


@pytest.mark.parametrize(
    "entry",
    [
        {"file": "a", "to": "b"},
        {"file": "a", "key": "b", "pattern": "c"},
        {"key": "b"},
        {"file": "a", "key": "b", "t": ""},
    ],
)
def test_a_malformed_step_of_the_plan_is_refused(entry: dict[str, str]) -> None:
    with pytest.raises(SetupError, match="malformed step"):
        edits([entry])


@pytest.fixture
def launched(tmp_path: Path) -> Checkout:
    checkout = repository(tmp_path / "repo", {"a": "one\n", "b": "1\n"})
    commit(checkout.root, {"a": "two\n", "new": "x\n"}, "Launch: two")
    commit(checkout.root, {"b": "2\n"}, "afterwards")
    return checkout


def test_a_revert_that_applies_names_its_files_and_leaves_the_checkout_alone(launched: Checkout) -> None:
    before = git(launched.root, "status", "--porcelain"), git(launched.root, "rev-parse", "HEAD")
    commit_id = launch(launched, {"launch_subject": "^Launch"}).commit
    with launched.scratch() as worktree:
        found = revert(launched, commit_id, worktree)
        assert (worktree / "a").read_text() == "one\n"
    assert (found.subject, set(found.files)) == ("Launch: two", {"a", "new"})
    assert (git(launched.root, "status", "--porcelain"), git(launched.root, "rev-parse", "HEAD")) == before
    assert (launched.root / "a").read_text() == "two\n"


def test_a_conflict_names_the_file(launched: Checkout) -> None:
    commit(launched.root, {"a": "three\n"}, "later")
    with (
        launched.scratch() as worktree,
        pytest.raises(AssertionError, match=r"\(Launch: two\) does not apply: a$"),
    ):
        revert(launched, launch(launched, {"launch_subject": "^Launch"}).commit, worktree)


def test_a_revert_that_was_made_already_changes_nothing(launched: Checkout) -> None:
    commit(launched.root, {"a": "one\n", "new": None}, "undone by hand")
    with (
        launched.scratch() as worktree,
        pytest.raises(AssertionError, match=r"changes nothing|does not apply"),
    ):
        revert(launched, launch(launched, {"launch_subject": "^Launch"}).commit, worktree)


def test_a_merge_is_reverted_along_its_first_parent(launched: Checkout) -> None:
    git(launched.root, "checkout", "--quiet", "-b", "side", "HEAD~1")
    commit(launched.root, {"c": "side\n"}, "on the side")
    git(launched.root, "checkout", "--quiet", "main")
    git(launched.root, "merge", "--quiet", "--no-ff", "--message", "Merge: side", "side")
    with launched.scratch() as worktree:
        assert revert(launched, launch(launched, {"launch_subject": "^Merge"}).commit, worktree).files == (
            "c",
        )


def test_an_unknown_commit_and_the_first_commit_cannot_be_reverted(launched: Checkout) -> None:
    with pytest.raises(SetupError, match="matches none of 3 subject lines"):
        launch(launched, {"launch_subject": "^Nothing"})
    with launched.scratch() as worktree, pytest.raises(AssertionError, match="is the first commit"):
        revert(launched, launch(launched, {"launch_subject": "^first"}).commit, worktree)


def test_a_shallow_checkout_is_the_runners_fault(launched: Checkout, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=2", f"file://{launched.root}", "shallow")
    shallow = Checkout.at(str(tmp_path / "shallow"))
    with pytest.raises(SetupError, match="shallow"):
        launch(shallow, {"launch_subject": "^first"})
    commit_id = launch(shallow, {"launch_subject": "^Launch"}).commit
    with shallow.scratch() as worktree, pytest.raises(SetupError, match="shallow"):
        revert(shallow, commit_id, worktree)


def test_how_the_launch_was_found_is_reported(launched: Checkout) -> None:
    by_subject = launch(launched, {"launch_subject": "^Launch"})
    assert by_subject.found == "the only one of 3 subject lines that matches '^Launch'"
    by_id = launch(launched, {"launch_commit": by_subject.commit[:10]})
    assert (by_id.commit, by_id.subject) == (by_subject.commit, "Launch: two")
    assert by_id.found == f"by its id {by_subject.commit[:10]}"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "give one of"),
        ({"launch_commit": "0" * 40, "launch_subject": "x"}, "give one of"),
        ({"launch_commit": "HEAD~1"}, "is not a commit's id"),
        ({"launch_commit": "feedfeed"}, "feedfeed is not in the history"),
        ({"launch_subject": "("}, "is not a pattern"),
        ({"launch_subject": "a"}, r"matches 2 subject lines: \w{12} afterwards; \w{12} Launch: two"),
        # the body of a commit is not a subject line
        ({"launch_subject": "third opinion"}, r"squashed into \w{12} \(Everything\).*'\* a third opinion'"),
    ],
)
def test_a_launch_that_is_not_one_commit_is_not_examined(
    launched: Checkout, facts: dict[str, str], said: str
) -> None:
    if "third" in facts.get("launch_subject", ""):
        commit(launched.root, {"b": "3\n"}, "Everything\n\n* another thing\n* a third opinion")
    with pytest.raises(SetupError, match=said):
        launch(launched, facts)


def test_a_commit_of_another_branch_is_not_in_the_history(launched: Checkout) -> None:
    git(launched.root, "checkout", "--quiet", "-b", "side", "HEAD~1")
    aside = commit(launched.root, {"c": "side\n"}, "Launch: aside")
    git(launched.root, "checkout", "--quiet", "main")
    with pytest.raises(SetupError, match="is not in the history"):
        launch(launched, {"launch_commit": aside})


def plan_step(name: str) -> Edit:
    plan = tomllib.loads((Path(__file__).parents[3] / "readiness.toml").read_text("utf-8"))
    steps = edits(plan["facts"]["rollback"]["secondary"])
    return next(step for step in steps if step.name == name)


@pytest.mark.parametrize("kind", ["prd", "sdd", "sprint"])
@pytest.mark.parametrize(
    "text",
    [
        'declare -A M=(\n  ["prd"]="gpt-5.3"\n  ["sdd"]="gpt-5.3"\n  ["sprint"]="gpt-5.3"\n)\n',
        'declare -A M=(["prd"]="gpt-5.3" ["sdd"]="gpt-5.3" ["sprint"]="gpt-5.3")\n',
        "# [prd]=gpt-5.1 [sdd]=gpt-5.1 [sprint]=gpt-5.1\nM=([prd]=gpt-5.3 [sdd]=gpt-5.3 [sprint]=gpt-5.3)\n",
    ],
)
def test_a_value_among_others_in_its_line_is_found(kind: str, text: str) -> None:
    assert verify(plan_step(f"DEFAULT_MODELS {kind}"), text) == ("gpt-5.3", "gpt-5.2")


@pytest.mark.parametrize("to", ["", "old"])
@pytest.mark.parametrize("key", ["m.a", "m.b", "m.c", "n.only"])
def test_a_key_among_others_in_its_line_is_put_back_or_removed(key: str, to: str) -> None:
    text = "m: {a: x, b: x,\n    c: x}  # kept\nn: {only: x}\nz: 1\n"
    assert verify(Edit(file="f", to=to, key=key), text) == ("x", to)


@pytest.mark.parametrize("text", ["m:\n  a: |\n    x\n    y\n  b: 1\n", "m:\n  a: x\nb: 1\n"])
def test_a_key_with_several_lines_or_none_beside_it_is_removed(text: str) -> None:
    assert verify(Edit(file="f", to="", key="m.a"), text)[1] == ""


NOTES = """\
# Notes
| Date | Decision | Rationale |
|---|---|---|
| 2026-01-01 | in another section | x |

## Decisions

| Date | Decision | Rationale |
|------|:--------:|-----------|
| 2026-02-26 | Cache: result  stored | Source: cache |
| 2026-03-01 | Two regions | Latency \\| cost. source: Review |
| 2026-03-02 | Nobody says why | |

## Blockers
| 2026-03-03 | not a decision | x |
"""


def test_decisions_are_the_rows_under_their_heading() -> None:
    found = list(rows(NOTES))
    assert [(row.line, row.date, row.source) for row in found] == [
        (10, "2026-02-26", "cache"), (11, "2026-03-01", "review"), (12, "2026-03-02", "")
    ]  # fmt: skip
    assert found[0].key == ("2026-02-26", "Cache: result stored")


HEAD = "| Date | Decision | Rationale |\n|---|---|---|\n"


@pytest.mark.parametrize(
    ("notes", "lines"),
    [
        (f"## Decisions\r\n\r\n{HEAD}| 2026-01-01 | A | B |\r\n", [5]),
        ("## Decisions\n\nDate | Decision | Why\n---|---|---\n2026-01-01 | A | B\n", [5]),
        ("## Decisions\n\n| # | Decision | Date |\n|---|---|---|\n| 1 | A | 2026-01-01 |\n", [5]),
        (f"Decisions\n---------\n\n{HEAD}| 2026-01-01 | A | B |\n", [6]),
        (f"### **Decisions** #\nWhat was decided:\n{HEAD}| 2026-01-01 | A | B |\n", [5]),
        (f"## \U0001f4cc Decision log\n{HEAD}| 2026-01-01 | A | B |\n", [4]),
        (f"## Decisions\n```\n| 2026-01-02 | x | y |\n```\n{HEAD}| 2026-01-01 | A | B |\n", [7]),
        (f"## Decisions\n<!--\n{HEAD}| 2026-01-02 | x | y |\n-->\n{HEAD}| 2026-01-01 | A | B |\n", [9]),
        (f"## Decisions\n### 2026\n{HEAD}| 2026-01-01 | A | B |\n## Other\n| 2026-01-02 | x | y |\n", [5]),
        ("## Decisions\n\n- 2026-01-01: A\n* **2026-01-02** B\n", [3, 4]),
        ("## Decisions\n\nNone.\n", []),
    ],
)
def test_decisions_are_found_however_they_are_written(notes: str, lines: list[int]) -> None:
    found = list(rows(notes))
    assert [row.line for row in found] == lines
    assert all((row.date, row.decision) == ("2026-01-01", "A") for row in found[:1])


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ("# Notes\n", "no heading"),
        ("## Decisions\n\nOn 2026-01-01 we took A.\n", "line 3, below Decisions"),
        ("## Decisions\n\n| Topic | Outcome |\n|---|---|\n| x | y |\n", "line 3, below Decisions"),
    ],
)
def test_decisions_that_cannot_be_read_are_not_mistaken_for_none(notes: str, said: str) -> None:
    with pytest.raises(LookupError, match=said):
        list(rows(notes))


def test_a_value_that_a_merge_brings_is_not_examined() -> None:
    text = "base: &base\n  model: new\nuse:\n  <<: *base\n"
    with pytest.raises(SetupError, match="its value comes from a merge"):
        verify(Edit(file="f", to="old", key="use.model"), text)

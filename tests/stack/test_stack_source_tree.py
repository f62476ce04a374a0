"""The source tree: made quickly and always the same, broken by every fault of the catalogue, and restored."""

import subprocess
import time
from pathlib import Path

import pytest

from stack.control import catalogue
from stack.host import StackError
from stack.source_tree import AFTERWARDS, BASELINE, LAUNCH, LAUNCHED, SourceTree

EDITS = {name: entry["params"] for name, entry in catalogue().items() if entry.get("action") == "source:edit"}


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> SourceTree:
    return SourceTree.materialise(tmp_path_factory.mktemp("tree") / "source")


def test_history_has_baseline_launch_and_runbook(tree: SourceTree) -> None:
    assert git(tree.path, "log", "--reverse", "--format=%s").splitlines() == [BASELINE, LAUNCH, AFTERWARDS]
    assert set(git(tree.path, "log", "--format=%an <%ae>%cn").splitlines()) == {
        "Embedded platform <platform@localhost>Embedded platform"
    }
    assert git(tree.path, "status", "--porcelain", "--ignored") == ""


def test_two_trees_are_the_same_commit(tree: SourceTree, tmp_path: Path) -> None:
    assert SourceTree.materialise(tmp_path).head == tree.head


def test_it_takes_less_than_half_a_second(tmp_path: Path) -> None:
    took = []
    for number in range(5):
        began = time.perf_counter()
        SourceTree.materialise(tmp_path / str(number))
        took.append(time.perf_counter() - began)
    assert min(took) < 0.5, f"took {min(took):.2f} s"


def test_the_callers_git_settings_and_streams_are_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    tree = SourceTree.materialise(tmp_path / "source")
    tree.alter("x", {"path": "README.md", "append": "x"})
    tree.restore()
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.undo()
    assert "Somebody" not in git(tree.path, "log", "--format=%an")


def test_reverting_the_launch_commit_applies(tree: SourceTree, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(tree.path), "copy")
    git(tmp_path / "copy", "revert", "--no-commit", f"HEAD^{{/^{LAUNCH}}}")
    changed = git(tmp_path / "copy", "diff", "--name-only", "HEAD").splitlines()
    assert set(changed) == set(LAUNCHED)


@pytest.mark.parametrize("fault_id", sorted(EDITS))
def test_every_fault_changes_the_tree_and_can_be_undone(tree: SourceTree, fault_id: str) -> None:
    pristine = tree.head
    tree.alter(fault_id, EDITS[fault_id])
    try:
        assert git(tree.path, "log", "--max-count=1", "--format=%s") == fault_id
        assert git(tree.path, "diff", "--name-only", "HEAD~1")
        assert git(tree.path, "status", "--porcelain") == ""
    finally:
        tree.restore()
    assert tree.head == pristine


@pytest.mark.parametrize(
    "edit",
    [
        {"path": "Dockerfile", "find": "not in it", "replace": "x"},
        {"path": "nowhere", "append": "x"},
        {"path": "nowhere", "remove": True},
        {"path": "Dockerfile", "append": ""},
        {"edits": [{"path": "README.md", "append": "x"}, {"path": "Dockerfile", "append": ""}]},
    ],
)
def test_a_fault_that_changes_nothing_is_refused_and_leaves_nothing(
    tree: SourceTree, edit: dict[str, object]
) -> None:
    pristine = tree.head
    with pytest.raises(StackError, match="changes nothing"):
        tree.alter("idle", edit)
    assert (tree.head, git(tree.path, "status", "--porcelain")) == (pristine, "")


def test_an_edit_outside_the_tree_is_refused(tree: SourceTree) -> None:
    with pytest.raises(StackError, match="outside"):
        tree.alter("far", {"path": "../elsewhere", "create": "x"})
    assert not (tree.path.parent / "elsewhere").exists()


def test_a_template_without_files_or_without_the_launch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StackError, match="is missing"):
        SourceTree.materialise(tmp_path / "a", tmp_path / "empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".loa.config.yaml").write_text("nothing")
    with pytest.raises(StackError, match="nothing of the launch commit"):
        SourceTree.materialise(tmp_path / "b", tmp_path / "other")


def test_a_missing_git_is_reported_in_three_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="git is not installed") as caught:
        SourceTree.materialise(tmp_path / "source")
    assert len(str(caught.value).splitlines()) == 3

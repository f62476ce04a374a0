"""A checkout is read with git, refused if it is not one, and never written to."""

import os
from pathlib import Path

import pytest
from pytest_readiness import SetupError

from smoke.source.checkout import Checkout, GitRefused, Tracked, git
from tests.smoke.source.repository import repository


def snapshot(directory: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file() and path.name != "index"  # `git status` and similar commands can refresh it
    }


def test_no_directory_no_checkout_and_a_part_of_one_are_refused(tmp_path: Path) -> None:
    repository(tmp_path / "repo", {"sub/file": "x"})
    (tmp_path / "plain").mkdir()
    for path, said in (
        ("nowhere", "not a directory"),
        ("plain", "not a git checkout"),
        ("repo/sub", "its top is"),
    ):
        with pytest.raises(SetupError, match=said):
            Checkout.at(str(tmp_path / path))


def test_tracked_files_with_awkward_names_are_listed(tmp_path: Path) -> None:
    names = {"a b.txt", "ümlaut.txt", ".hidden/x", 'quo"te', "new\nline"}
    checkout = repository(tmp_path, dict.fromkeys(names, "x"))
    (tmp_path / "untracked").write_text("x")
    assert {file.path for file in checkout.tracked()} == names


def test_a_link_reads_as_its_target_and_a_deleted_file_as_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    checkout = repository(tmp_path, {"gone": "x"})
    (tmp_path / "gone").unlink()
    files = {file.path: file for file in checkout.tracked()}
    assert checkout.content(files["link"]) == b"/etc/passwd"
    assert checkout.content(files["gone"]) is None


def test_a_submodule_is_not_looked_into(tmp_path: Path) -> None:
    inner = repository(tmp_path / "inner", {"file": "x"})
    outer = repository(tmp_path / "outer", {"file": "x"})
    git(
        outer.root,
        "update-index",
        "--add",
        "--cacheinfo",
        f"160000,{git(inner.root, 'rev-parse', 'HEAD').strip()},sub",
    )
    assert outer.tracked() == [Tracked("file", "100644")]


def test_a_scratch_copy_leaves_no_trace(tmp_path: Path) -> None:
    checkout = repository(tmp_path / "repo", {"file": "x"})
    before = snapshot(checkout.root)
    with checkout.scratch() as worktree:
        (worktree / "file").write_text("changed")
        git(worktree, "add", "--all")
        assert (worktree / "file").exists()
    assert not worktree.exists()
    assert not worktree.parent.exists()
    assert snapshot(checkout.root) == before
    assert git(checkout.root, "worktree", "list").count("\n") == 1


def test_a_scratch_copy_may_have_only_some_files(tmp_path: Path) -> None:
    checkout = repository(tmp_path / "repo", {"a/[x]": "x", "b": "y"})
    with checkout.scratch(choose=lambda copy: [file.path for file in copy.tracked()][:1]) as worktree:
        copy = Checkout.at(str(worktree))
        assert [copy.content(file) for file in copy.tracked()] == [b"x", None]
    with checkout.scratch(choose=lambda _: []) as worktree:
        assert not (worktree / "b").exists()


def test_a_scratch_copy_is_removed_after_a_failure(tmp_path: Path) -> None:
    checkout = repository(tmp_path / "repo", {"file": "x"})
    with pytest.raises(ZeroDivisionError), checkout.scratch() as worktree:
        raise ZeroDivisionError
    assert not worktree.parent.exists()


def test_a_detached_head_that_no_branch_reaches_can_be_copied(tmp_path: Path) -> None:
    checkout = repository(tmp_path / "repo", {"file": "x"})
    git(checkout.root, "checkout", "--quiet", "--detach")
    git(checkout.root, "branch", "--delete", "--force", "main")
    with checkout.scratch() as worktree:
        assert (worktree / "file").read_text() == "x"


def test_the_callers_git_variables_have_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other = (
        repository(tmp_path / "here", {"mine": "x"}),
        repository(tmp_path / "other", {"theirs": "x"}),
    )
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git" / "index"))
    assert [file.path for file in here.tracked()] == ["mine"]


def test_hooks_of_the_repository_do_not_run(tmp_path: Path) -> None:
    checkout = repository(tmp_path / "repo", {"file": "x"})
    hook = checkout.root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git(checkout.root, "checkout", "--quiet", "--detach")
    assert not (tmp_path / "ran").exists()


def test_a_missing_git_is_the_runners_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(SetupError, match="git is not installed"):
        git(tmp_path, "status")


def test_what_git_says_is_kept(tmp_path: Path) -> None:
    with pytest.raises(GitRefused, match="not a git repository"):
        git(tmp_path, "log")


def test_a_script_outside_of_the_checkout_is_not_read(tmp_path: Path) -> None:
    checkout = repository(tmp_path / "repo", {"scripts/a.sh": "x"})
    (tmp_path / "secret.sh").write_text("y")
    assert checkout.script("scripts/a.sh") == "x"
    assert checkout.script("../secret.sh") is None
    assert checkout.script("scripts/none.sh") is None
    (tmp_path / "repo" / "loop").symlink_to("loop")
    assert checkout.script("loop") is None

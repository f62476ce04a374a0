"""The platform's source tree as a git repository in the run's directory: breakable at run time, and restored.

Its history has a baseline, the launch commit that the rollback plan speaks of, and what came after. Author,
dates and content are fixed, so that equal trees have equal commit ids.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stack.host import StackError

TEMPLATE = Path(__file__).parent / "source" / "tree"
AUTHOR = {"NAME": "Embedded platform", "EMAIL": "platform@localhost"}
ROLES = ("AUTHOR", "COMMITTER")
BASELINE = "Platform as of cycle 43"
LAUNCH = "Multi-model review upgrade: newer second models, a third opinion"
AFTERWARDS = "Runbook: rotating a signing key"
# 2026-02-26 in UTC, one minute between commits.
FIRST_COMMIT_AT = 1772092800

# path -> (text as launched, text before it): what `git revert` of the launch commit brings back.
LAUNCHED: Mapping[str, tuple[tuple[str, str], ...]] = {
    ".loa.config.yaml": (
        ("  # A third opinion. Without this line reviews fall back to two models.\n", ""),
        ("  flatline_tertiary_model: gemini-2.5-pro\n", ""),
        ("gpt-5.3-codex", "gpt-5.2"),
    ),
    ".claude/defaults/model-config.yaml": (
        ("openai:gpt-5.3-codex", "openai:gpt-5.2"),
        ("  tertiary: google:gemini-2.5-pro\n", ""),
    ),
    ".claude/scripts/gpt-review-api.sh": (("gpt-5.3-codex", "gpt-5.2"),),
    ".claude/scripts/flatline-orchestrator.sh": (("gpt-5.3-codex", "gpt-5.2"),),
}
ADDED_AFTERWARDS = "docs/runbooks/key-rotation.md"


class SourceTree:
    """The repository of one run. Not thread-safe: the control API serialises its requests."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pristine = ""

    @classmethod
    def materialise(cls, path: Path, template: Path = TEMPLATE) -> "SourceTree":
        """Make the repository in `path`, a new or an empty directory. Raises StackError without git."""
        if not template.is_dir() or not any(template.iterdir()):
            raise StackError("the platform's source tree is missing", f"expected files in {template}")
        tree = cls(path)
        shutil.copytree(template, path, dirs_exist_ok=True)
        tree._git("init", "--quiet", "--template=", "--initial-branch=main")
        launched = {path / name: _before_launch(path / name, edits) for name, edits in LAUNCHED.items()}
        added = (path / ADDED_AFTERWARDS).read_bytes()
        (path / ADDED_AFTERWARDS).unlink()
        tree._commit(BASELINE, FIRST_COMMIT_AT)
        for file, text in launched.items():
            file.write_text(text, "utf-8")
        tree._commit(LAUNCH, FIRST_COMMIT_AT + 60)
        (path / ADDED_AFTERWARDS).write_bytes(added)
        tree._commit(AFTERWARDS, FIRST_COMMIT_AT + 120)
        tree.remember()
        return tree

    @property
    def head(self) -> str:
        """The id of the commit that is checked out."""
        return self._git("rev-parse", "HEAD").strip()

    def alter(self, fault_id: str, params: Mapping[str, Any]) -> None:
        """Break the tree, and commit that under the fault's name.

        `params` is one edit, or `{"edits": [edit, ...]}`. An edit has a `path` and one of `find` with
        `replace` (every occurrence), `append`, `create` (a new file's text), `remove` (true,
        also of a folder). Raises StackError for an edit that would change nothing: it would prove nothing.
        """
        try:
            for edit in params.get("edits") or [params]:
                self._edit(fault_id, edit)
        except StackError:
            self._git("reset", "--quiet", "--hard")
            raise
        self._commit(fault_id)

    def remember(self) -> None:
        """Take the present commit as the one that `restore` brings back."""
        self._pristine = self.head

    def restore(self) -> None:
        """Bring back the tree as it was made or remembered. Raises StackError when something is left over."""
        self._git("reset", "--quiet", "--hard", self._pristine)
        self._git("clean", "--quiet", "--force", "-d", "-x")
        left = self._git("status", "--porcelain", "--ignored").strip()
        if left:
            raise StackError("the source tree could not be restored", left, f"look into {self.path}")

    def _edit(self, fault_id: str, edit: Mapping[str, Any]) -> None:
        path = self.path / edit["path"]
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise StackError(f"{fault_id}: {edit['path']} lies outside of the source tree")
        if path.is_dir() and edit.get("remove"):
            shutil.rmtree(path)
            return
        before = path.read_text("utf-8") if path.exists() else None
        after = _edited(before, edit)
        if before == after or (before is None and "create" not in edit):
            raise StackError(
                f"{fault_id} changes nothing in {edit['path']}",
                f"edit: {edit}",
                "correct its params in smoke/<phase>/faults.toml",
            )
        if after is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(after, "utf-8")

    def _commit(self, message: str, at: int | None = None) -> None:
        """Commit everything, at a fixed time (epoch seconds) or now."""
        when = {} if at is None else {f"GIT_{role}_DATE": f"{at} +0000" for role in ROLES}
        self._git("add", "--all", "--force")
        self._git("commit", "--quiet", "--no-verify", "--message", message, **when)

    def _git(self, *arguments: str, **environ: str) -> str:
        git = shutil.which("git")
        if git is None:
            raise StackError("git is not installed", "the source tree is a repository", "apt-get install git")
        try:
            done = subprocess.run(
                [git, *arguments], cwd=self.path, env=_environ() | environ, capture_output=True, check=True
            )
        except subprocess.CalledProcessError as error:
            words = error.stderr.decode(errors="replace").strip()
            raise StackError(f"git {arguments[0]} failed in the source tree", words) from error
        return done.stdout.decode(errors="replace")


def _environ() -> dict[str, str]:
    """Return an environment in which no setting of the caller's reaches git."""
    people = {f"GIT_{role}_{key}": value for role in ROLES for key, value in AUTHOR.items()}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **people,
    }


def _before_launch(file: Path, edits: Iterable[tuple[str, str]]) -> str:
    """Take a file back to before the launch commit, and return its text as launched."""
    text = launched = file.read_text("utf-8")
    for after, before in edits:
        if after not in text:
            raise StackError(f"{file.name} has nothing of the launch commit in it", f"expected: {after!r}")
        text = text.replace(after, before)
    file.write_text(text, "utf-8")
    return launched


def _edited(before: str | None, edit: Mapping[str, Any]) -> str | None:
    """Return the new text of a file, None for a file that is removed."""
    if "create" in edit:
        return str(edit["create"])
    if before is None or edit.get("remove"):
        return None
    if "append" in edit:
        return before + str(edit["append"])
    return before.replace(str(edit["find"]), str(edit["replace"]))

"""The platform's source tree as a git repository in the run's directory: breakable at run time, and restored.

Its history has a baseline, the launch commit that the rollback plan speaks of, and what came after. Author,
dates and content are fixed, so that equal trees have equal commit ids.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEMPLATE = Path(__file__).parent / "source" / "tree"
AUTHOR = "Embedded platform <platform@localhost>"
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
    """The repository of one run. Not thread-safe: the control port serialises its requests."""

    def __init__(self, path: Path, template: Path = TEMPLATE) -> None:
        self.path = path
        self._template = template
        self._pristine = ""

    @classmethod
    def materialise(cls, path: Path, template: Path = TEMPLATE) -> SourceTree:
        """Make the repository in `path`, a new or an empty directory. Raises StackError without git."""
        tree = cls(path, template)
        path.mkdir(parents=True, exist_ok=True)
        tree._git("init", "--quiet", "--template=", "--initial-branch=main")
        tree._git("fast-import", "--quiet", given=b"".join(tree._history()))
        tree._git("reset", "--quiet", "--hard")
        tree._pristine = tree.head
        return tree

    @property
    def head(self) -> str:
        """The id of the commit that is checked out."""
        return self._git("rev-parse", "HEAD").strip()

    def alter(self, fault_id: str, params: Mapping[str, Any]) -> None:
        """Break the tree, and commit that under the fault's name.

        `params` is one edit, or `{"edits": [edit, ...]}`. An edit has a `path` and one of `find` with
        `replace` (every occurrence), `append`, `create` (a new file's text), `remove` (true). Raises
        StackError for an edit that would change nothing: such a fault would prove nothing.
        """
        try:
            for edit in params.get("edits") or [params]:
                self._edit(fault_id, edit)
        except StackError:
            self._git("reset", "--quiet", "--hard")
            raise
        self._git("add", "--all", "--force")
        self._git("commit", "--quiet", "--no-verify", "--message", fault_id)

    def restore(self) -> None:
        """Bring back the tree as it was made. Raises StackError when something is left over."""
        self._git("reset", "--quiet", "--hard", self._pristine)
        self._git("clean", "--quiet", "--force", "-d", "-x")
        left = self._git("status", "--porcelain", "--ignored").strip()
        if left:
            raise StackError("the source tree could not be restored", left, f"look into {self.path}")

    def _edit(self, fault_id: str, edit: Mapping[str, Any]) -> None:
        path = self.path / edit["path"]
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise StackError(f"{fault_id}: {edit['path']} lies outside of the source tree")
        before = path.read_text("utf-8") if path.exists() else None
        after = _edited(before, edit)
        if before == after or (before is None and "create" not in edit):
            raise StackError(
                f"{fault_id} changes nothing in {edit['path']}",
                f"edit: {edit}",
                "correct the fault's params in stack/faults/",
            )
        if after is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(after, "utf-8")

    def _history(self) -> Iterator[bytes]:
        """Yield the stream that `git fast-import` makes three commits of."""
        files = {path.relative_to(self._template).as_posix(): path for path in _files(self._template)}
        now = {name: path.read_bytes() for name, path in files.items()}
        modes = {name: "100755" if os.access(path, os.X_OK) else "100644" for name, path in files.items()}
        before = {name: _unlaunched(name, content) for name, content in now.items()}
        commits = (
            (BASELINE, [name for name in now if name != ADDED_AFTERWARDS], before),
            (LAUNCH, [name for name in now if now[name] != before[name]], now),
            (AFTERWARDS, [ADDED_AFTERWARDS], now),
        )
        for number, (message, names, contents) in enumerate(commits):
            when = f"{FIRST_COMMIT_AT + 60 * number} +0000"
            yield f"commit refs/heads/main\ncommitter {AUTHOR} {when}\n".encode() + _data(message.encode())
            for name in names:
                yield f"M {modes[name]} inline {name}\n".encode() + _data(contents[name])

    def _git(self, *arguments: str, given: bytes = b"") -> str:
        git = shutil.which("git")
        if git is None:
            raise StackError("git is not installed", "the source tree is a repository", "apt-get install git")
        try:
            done = subprocess.run(
                [git, *arguments], cwd=self.path, env=_environ(), input=given, capture_output=True, check=True
            )
        except subprocess.CalledProcessError as error:
            words = error.stderr.decode(errors="replace").strip()
            raise StackError(f"git {arguments[0]} failed in the source tree", words) from error
        return done.stdout.decode(errors="replace")


def _environ() -> dict[str, str]:
    """Return an environment in which no setting of the caller's reaches git."""
    name, _, address = AUTHOR.rstrip(">").partition(" <")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{role}_NAME": name for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": address for role in ("AUTHOR", "COMMITTER")},
    }


def _files(template: Path) -> list[Path]:
    found = sorted(path for path in template.rglob("*") if path.is_file())
    if not found:
        raise StackError("the platform's source tree is missing", f"expected files in {template}")
    return found


def _unlaunched(name: str, content: bytes) -> bytes:
    for launched, before in LAUNCHED.get(name, ()):
        if launched.encode() not in content:
            raise StackError(f"{name} has nothing of the launch commit in it", f"expected: {launched!r}")
        content = content.replace(launched.encode(), before.encode())
    return content


def _edited(before: str | None, edit: Mapping[str, Any]) -> str | None:
    """Return the new text of a file, None for a file that is removed."""
    if "create" in edit:
        return str(edit["create"])
    if before is None or edit.get("remove"):
        return None
    if "append" in edit:
        return before + str(edit["append"])
    return before.replace(str(edit["find"]), str(edit["replace"]))


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)

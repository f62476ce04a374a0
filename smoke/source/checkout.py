"""A git checkout, read only: tracked files and their comments, history, scratch copies, findings at lines."""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from pytest_readiness import SetupError

SHOWN = 12

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """`path` is relative to the checkout, "" for what runs; `line` counts from 1, 0 for no single line."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.what}" if place else self.what


class Malformed(AssertionError):
    """A file is not written in the language that it should be; the message says where."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A rule's findings, and parts that it could not read although they matter."""

    findings: list[Finding] = field(default_factory=list)
    not_examined: list[Finding] = field(default_factory=list)

    def wrong(self, what: str) -> None:
        """Record a finding about what runs, which has no place in a file."""
        self.findings.append(Finding("", 0, what))

    def unclear(self, what: str) -> None:
        """Record a part of what runs that could not be read."""
        self.not_examined.append(Finding("", 0, what))

    def include(self, other: Examined) -> None:
        """Add the results of another rule."""
        self.findings.extend(other.findings)
        self.not_examined.extend(other.not_examined)

    def attempt(
        self, read: Callable[Arguments, Value], *given: Arguments.args, **named: Arguments.kwargs
    ) -> Value | None:
        """The result of a reading; None if this runner cannot read it, which is then not examined."""
        try:
            return read(*given, **named)
        except SetupError as problem:
            self.unclear(" ".join(str(problem).split()))
            return None

    def require(self) -> None:
        """AssertionError that lists the findings, then the unexamined parts; without findings SetupError."""
        others = f"\n{listed(self.not_examined, 'not examined')}" if self.not_examined else ""
        assert not self.findings, f"{listed(self.findings)}{others}"
        if self.not_examined:
            raise SetupError(listed(self.not_examined, "not examined"))


def listed(findings: Sequence[Finding], what: str = "") -> str:
    """Return a message: the first line says `what`, the first finding and their number; then the others."""
    first, *others = sorted(set(findings))
    count = f" ({len(others) + 1} findings)" if others else ""
    lines = [f"{what}: {first}{count}" if what else f"{first}{count}", *map(str, others[: SHOWN - 1])]
    more = len(others) + 1 - SHOWN
    return "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])])


GITLINK = "160000"
SYMLINK = "120000"
PLAIN = "100644"
TIMEOUT_S = 60


class GitRefused(Exception):
    """Git ended with an error; `str()` is its message."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A file in git's index: `path` relative to the checkout, `mode` as git writes it."""

    path: str
    mode: str


@dataclass(frozen=True, slots=True)
class Checkout:
    """The working tree at `root`. Nothing is ever written to it or to its repository."""

    root: Path

    @classmethod
    def at(cls, directory: str) -> Checkout:
        """Open a checkout. SetupError unless `directory` is the top of one."""
        root = Path(directory).expanduser()
        if not root.is_dir():
            raise SetupError(f"[source] iac_dir: {directory} is not a directory")
        try:
            top = git(root, "rev-parse", "--show-toplevel").strip()
        except GitRefused as refusal:
            raise SetupError(f"[source] iac_dir: {directory} is not a git checkout: {refusal}") from refusal
        if Path(top).resolve() != root.resolve():
            raise SetupError(f"[source] iac_dir: {directory} is inside of a checkout; its top is {top}")
        return cls(root.resolve())

    def commit(self) -> str:
        """The id of the commit that is checked out."""
        return git(self.root, "rev-parse", "HEAD").strip()

    def changes(self) -> int:
        """How many files differ from the commit; 0 in a clean checkout."""
        return len(git(self.root, "status", "--porcelain").splitlines())

    def tracked(self) -> list[Tracked]:
        """Every file that git tracks, without the content of submodules."""
        listed = git(self.root, "ls-files", "--stage", "-z").split("\0")
        found = {}
        for line in filter(None, listed):
            facts, path = line.split("\t", 1)
            mode = facts.split(" ", 1)[0]
            if mode != GITLINK:
                found[path] = Tracked(path, mode)  # a file in conflict is listed once per side
        return list(found.values())

    def content(self, file: Tracked) -> bytes | None:
        """The bytes of a tracked file, or a link's target; None if it is not in the working tree."""
        path = self.root / file.path
        try:
            return os.fsencode(path.readlink()) if file.mode == SYMLINK else path.read_bytes()
        except FileNotFoundError:
            return None

    def text(self, path: str) -> str:
        """The text of a file. AssertionError if it does not exist, SetupError if it is not UTF-8."""
        file = self.root / path
        assert file.is_file(), f"{path} is not in the checkout"
        try:
            return file.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise SetupError(f"not examined: {path} is not in UTF-8: {error.reason}") from error

    def script(self, path: str) -> str | None:
        """The text of a file that a command names; None if it does not exist.

        Line ends of any system are accepted, except after `#!`: there a carriage return is part of the
        program's name.
        """
        try:
            file = (self.root / path).resolve()
            if not file.is_relative_to(self.root) or not file.is_file():
                return None
            first, end, rest = file.read_bytes().decode("utf-8").partition("\n")
            first = first if first.startswith("#!") else first.removesuffix("\r")
            return first + end + rest.replace("\r\n", "\n")
        except (OSError, RuntimeError, ValueError):  # no path, a loop of links, or a program
            return None

    @contextmanager
    def scratch(
        self, revision: str = "HEAD", choose: Callable[[Checkout], Sequence[str]] | None = None
    ) -> Iterator[Path]:
        """Yield a scratch worktree at a revision, removed afterwards.

        With ``choose``, it has only the files of these paths; the others are tracked, but missing.

        It belongs to a clone that borrows the checkout's objects: the checkout itself gets no new ref, object
        or worktree entry, so it may be read-only.
        """
        commit = git(self.root, "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
        with tempfile.TemporaryDirectory(prefix="readiness-scratch-") as directory:
            clone, worktree = Path(directory, "clone.git"), Path(directory, "worktree")
            git(self.root, "clone", "--quiet", "--shared", "--bare", "--no-tags", str(self.root), str(clone))
            files = ["--no-checkout"] if choose else []
            git(clone, "worktree", "add", "--quiet", "--detach", *files, str(worktree), commit)
            if choose:
                git(worktree, "read-tree", commit)
                git(worktree, "checkout-index", "--", *choose(Checkout.at(str(worktree))))
            yield worktree


def git(directory: Path, *arguments: str) -> str:
    """Run git in a directory and return what it printed.

    The caller's GIT_* variables do not reach it; the repository's hooks and file system monitor do not run.
    GitRefused if it fails, SetupError if git is missing or takes too long.
    """
    executable = shutil.which("git")
    if executable is None:
        raise SetupError("git is not installed on this runner; the static checks read a checkout with it")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    settings = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the arguments are ours
            [executable, *settings, *arguments],
            cwd=directory, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"git {arguments[0]} did not end within {TIMEOUT_S} s in {directory}") from error
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise GitRefused(said or f"exit code {done.returncode}")
    return done.stdout.decode(errors="surrogateescape")


#: A comment line, by the possible languages of a file; a shebang is not a comment.
_HASH = re.compile(rb"\s*#(?!!)")
_SLASH = re.compile(rb"\s*(?://|/\*|\*(?=[\s/]))")
_LINES = {
    (".sql", ".lua", ".hs"): re.compile(rb"\s*--"),
    (".ini", ".cfg", ".zone", ".db", ".clj", ".el"): re.compile(rb"\s*;"),
    (".tex",): re.compile(rb"\s*%"),
    (".properties",): re.compile(rb"\s*!"),
    (".bat", ".cmd"): re.compile(rb"\s*@?(?:rem\s|::)", re.IGNORECASE),
    (".tf", ".tofu", ".hcl", ".tfvars", ".php", ".scss", ".swift", ".dart", ".proto", ".gradle", ".groovy"):
        _SLASH,
}  # fmt: skip
#: A comment after code, with no open quotes before it.
_BEHIND_CODE = {
    sign: re.compile(rb"(?:[^\"'`]|\"[^\"]*\"|'[^']*'|`[^`]*`)*?\s" + sign + rb"(?=\s)")
    for sign in (b"#", b"//")
}
_SLASH_SUFFIXES = (
    ".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs", ".cjs", ".go", ".rs", ".java", ".kt", ".c", ".h", ".cc",
    ".cpp", ".cs", ".css", ".less", ".vue", ".svelte",
)  # fmt: skip
_HASH_IS_CODE = (*_SLASH_SUFFIXES, ".json")
_MARKUP = (".html", ".htm", ".xml", ".svg", ".vue", ".svelte")
_STRINGS = rb"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
#: Comments of several lines; the part before `(?P<comment>` hides a start inside it.
_BLOCKS = {
    (*_SLASH_SUFFIXES, ".sql", *next(key for key in _LINES if ".tf" in key)):
        re.compile(_STRINGS + rb"|//[^\n]*|(?<![\\/])(?P<comment>/\*.*?\*/)", re.DOTALL),
    _MARKUP: re.compile(rb"(?P<comment><!--.*?-->)", re.DOTALL),
    (".rb",): re.compile(rb"^(?P<comment>=begin\b.*?^=end\b)", re.DOTALL | re.MULTILINE),
    (".ps1",): re.compile(rb"(?P<comment><#.*?#>)", re.DOTALL),
    (".lua",): re.compile(rb"(?P<comment>--\[\[.*?\]\])", re.DOTALL),
    # a text that no command reads, or that is only printed
    ("",): re.compile(
        rb"(?P<comment>^[ \t]*(?::|cat)[ \t]*<<-?[ \t]*([\"']?)(\w+)\2[ \t]*$.*?^[ \t]*\3$)",
        re.DOTALL | re.MULTILINE,
    ),
}  # fmt: skip


class Comments:
    """The comments of one text; `path` tells its language."""

    def __init__(self, path: str, text: bytes) -> None:
        self.name = path.lower()
        self.text = text
        self._spans: list[tuple[int, int]] | None = None

    def cover(self, start: int) -> bool:
        """Whether the byte at `start` is in a comment."""
        before = self.text[self.text.rfind(b"\n", 0, start) + 1 : start]
        return self._on_line(before) or self._in_block(start)

    def _on_line(self, before: bytes) -> bool:
        hash_is_comment = not self.name.endswith(_HASH_IS_CODE)
        if hash_is_comment and (_HASH.match(before) or _BEHIND_CODE[b"#"].match(before)):
            return True
        if self.name.endswith(_SLASH_SUFFIXES) and (
            _SLASH.match(before) or _BEHIND_CODE[b"//"].match(before)
        ):
            return True
        return any(self.name.endswith(suffixes) and sign.match(before) for suffixes, sign in _LINES.items())

    def _in_block(self, start: int) -> bool:
        if self._spans is None:
            self._spans = sorted(_docstrings(self.text) if self.name.endswith(".py") else self._blocks())
        at = bisect_right(self._spans, (start, len(self.text))) - 1
        return at >= 0 and start < self._spans[at][1]

    def _blocks(self) -> list[tuple[int, int]]:
        patterns = [pattern for suffixes, pattern in _BLOCKS.items() if self.name.endswith(suffixes)]
        found = itertools.chain.from_iterable(pattern.finditer(self.text) for pattern in patterns)
        return [match.span("comment") for match in found if match["comment"]]


def _docstrings(text: bytes) -> list[tuple[int, int]]:
    """Strings that are statements: they only document."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code that is read
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    lines = [0, *itertools.accumulate(map(len, text.splitlines(keepends=True)))]
    return [
        (lines[node.lineno - 1] + node.col_offset, lines[node.end_lineno - 1] + (node.end_col_offset or 0))
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and node.end_lineno
    ]

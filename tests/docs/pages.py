"""The documentation's code blocks, and a terminal that follows a page word for word."""

import os
import re
import secrets
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.installed import FOREIGN, ROOT

DOCS = ROOT / "docs"
_FENCE = re.compile(r"^```(\w*)(?: +(.*))?$")
_LIMIT_S = 180


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that its title names, its text."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page of the documentation."""
    return sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    opened: tuple[int, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            title = re.search(r'title="([^"]+)"', fence[2] or "")
            opened, lines = (number, fence[1], title[1] if title else ""), []
        elif opened is not None and line == "```":
            yield Block(page, *opened, "\n".join(lines) + "\n")
            opened = None
        else:
            lines.append(line)
    assert opened is None, f"{page}: a block is not closed"


def project_of(page: Path) -> str:
    """The directory in which a page is followed, relative to the root: `project:` of its front matter."""
    found = re.match(r"---\n(?:.*\n)*?project: *(\S+)\n(?:.*\n)*?---\n", page.read_text("utf-8"))
    return found[1] if found else ""


class Terminal:
    """A shell that stays open between commands, like a reader's."""

    def __init__(self, at: Path, environ: Mapping[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=at,
            env={**clean, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[str, int]:
        """Run a command to its end; return its output and exit code."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        mark = secrets.token_hex(8)
        self._shell.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n{mark} %s\\n' $?\n".encode())
        self._shell.stdin.flush()
        out, deadline = b"", time.monotonic() + _LIMIT_S
        while not (ended := re.search(rf"\n{mark} (\d+)\n".encode(), out)):
            ready = select.select([self._shell.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
            part = os.read(self._shell.stdout.fileno(), 65536) if ready else b""
            assert part, f"{command}\nended the shell or took too long:\n{out.decode(errors='replace')}"
            out += part
        return out[: ended.start()].decode(errors="replace"), int(ended[1])

    def close(self) -> None:
        """End the shell and whatever it started."""
        os.killpg(self._shell.pid, 9)
        self._shell.wait()


@contextmanager
def terminal(at: Path, environ: Mapping[str, str]) -> Iterator[Terminal]:
    """A terminal in a directory; what it started ends with the block."""
    opened = Terminal(at, environ)
    try:
        yield opened
    finally:
        opened.close()


class Walk:
    """Follows a page: writes the files that it shows, types its commands, compares what they print."""

    def __init__(self, at: Path, shell: Terminal) -> None:
        self._at = at
        self._shell = shell
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])

    def follow(self, page: Path) -> int:
        """Follow all blocks that are for a terminal or a file; return how many commands ran."""
        commands = 0
        for block in blocks(page):
            text = block.text.replace("8000", self._port)
            if block.language == "console":
                for command, expected in _typed(text):
                    printed, code = self._shell.run(command)
                    shown = f"{block}\n$ {command}\n{printed}"
                    assert code == 0, f"{shown}\nexit {code}"
                    missing = _missing(expected, printed)
                    assert not missing, f"{shown}\nis not printed: {missing}"
                    commands += 1
            elif block.title:
                name, _, where = block.title.partition(", ")
                path = self._at / name
                path.parent.mkdir(parents=True, exist_ok=True)
                assert where in ("", "at the end"), f"{block}: {where}"
                before = f"{path.read_text('utf-8')}\n" if where else ""
                path.write_text(before + text, "utf-8")
        return commands


def _typed(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of a console block, each with the lines that it is said to print."""
    command, expected = "", list[str]()
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], []
        elif line.startswith("> "):
            command += "\n" + line[2:]
        else:
            expected.append(line)
    assert command, f"no command in a console block:\n{text}"
    yield command, expected


def _missing(expected: list[str], printed: str) -> str:
    """Return the first expected line that is not printed after the one before it; `…` stands for anything."""
    left = iter(" ".join(line.split()) for line in printed.splitlines())
    for line in expected:
        words = " ".join(line.split())
        if words in ("", "…"):
            continue
        pattern = ".*".join(re.escape(part) for part in words.split("…"))
        if not any(re.fullmatch(pattern, actual) for actual in left):
            return line
    return ""

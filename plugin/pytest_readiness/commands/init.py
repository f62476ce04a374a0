"""``readiness init``: writes the files of a first suite, which gives a verdict without changes."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import ReadinessError
from ..core.formats import filled
from ..core.plan import PLAN_NAME
from ..profile.schema import DIRECTORY, SCHEMA_NAME, BadValue, Field
from . import refuse_file, say

STARTER = Path(__file__).parent / "starter"
EMBEDDED, LIVE = "local", "live"
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")


@dataclass(frozen=True, slots=True)
class Answers:
    """The values in the files. With an empty ``url``, they include a stand-in for the platform."""

    title: str
    url: str
    environment: str

    @property
    def files(self) -> Mapping[str, str]:
        """The template for each file of the project."""
        beside = {} if self.url else {"smoke/conftest.py": "conftest.py"}
        return {
            PLAN_NAME: "readiness.toml",
            f"{DIRECTORY}/{SCHEMA_NAME}": "schema.toml",
            f"{DIRECTORY}/{self.environment}.toml": "environment.toml",
            "smoke/test_health.py": "test_health.py",
            **beside,
            ".github/workflows/readiness.yml": "readiness.yml",
        }

    @property
    def values(self) -> Mapping[str, str]:
        """The values that fill the templates, quoted as TOML where needed."""
        platform = f"\n[platform]\nurl = {json.dumps(self.url, ensure_ascii=False)}" if self.url else ""
        return {
            "title": json.dumps(self.title, ensure_ascii=False),
            "name": self.environment,
            "live": json.dumps(self.environment != EMBEDDED),
            "platform": platform or "\n# [platform] url: smoke/conftest.py starts a stand-in and fills it in",
        }


def add(commands: Any) -> None:
    """Add the command to the parsers of ``readiness``."""
    parser = commands.add_parser(
        "init",
        help="Begin a suite: plan, environment, a first check, a workflow",
        description="Write a launch plan, an environment and its schema, a first check that passes, and a "
        "workflow for GitHub. Asks for what no option says. Overwrites nothing.",
        epilog="examples:\n  readiness init\n  readiness init --name Shop --url https://shop.example/health\n"
        "  readiness init shop --name Shop --stand-in",
    )
    parser.add_argument(
        "directory", nargs="?", default=".", type=filled, help="Directory (default: the current one)"
    )
    parser.add_argument("--name", type=filled, metavar="TEXT", help="The platform's name")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--url", type=filled, help="URL of its health route, such as https://shop.example/health"
    )
    where.add_argument(
        "--stand-in",
        action="store_true",
        help="No platform yet: the suite starts a small server in its place",
    )
    parser.add_argument(
        "--env",
        type=filled,
        metavar="NAME",
        help=f"The environment's name (default: {LIVE}; {EMBEDDED} for a URL of this machine or a stand-in)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the files and say what to do next; if one exists already, ReadinessError and no file."""
    root = Path(options.directory)
    refuse_file(root, "DIRECTORY")
    certain = Answers("", "any", "").files.keys() & Answers("", "", EMBEDDED).files.keys()
    _refuse_existing(root / name for name in sorted(certain))
    answers = _ask(options, root.resolve().name or "platform")
    made = {
        root / name: Template((STARTER / f"{source}.in").read_text(encoding="utf-8")).substitute(
            answers.values
        )
        for name, source in answers.files.items()
    }
    _refuse_existing(made)
    try:
        for path, text in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as problem:
        raise ReadinessError(
            f"cannot be written: {problem.strerror}",
            where=str(problem.filename),
            action="correct the permissions there, or name another directory",
        ) from problem
    say(*(f"written: {path}" for path in made))
    there = f"cd {shlex.quote(options.directory)} && " if options.directory != "." else ""
    say(f"next: {there}readiness run --env {answers.environment}")
    say("keep out of git: reports/, __pycache__/ and .readiness/, which holds the history of runs")
    return 0


def _refuse_existing(paths: Iterable[Path]) -> None:
    """Raise ReadinessError if one of these files exists."""
    if existing := [str(path) for path in paths if path.exists() or path.is_symlink()]:
        raise ReadinessError(
            "exists already, and nothing is overwritten",
            where=", ".join(existing),
            action="readiness init DIRECTORY, or move these files away",
        )


def _ask(options: argparse.Namespace, usual: str) -> Answers:
    title = options.name or _answer(f"What is the platform called? [{usual}] ", "--name") or usual
    url = options.url or ""
    if not url and not options.stand_in:
        url = _answer("URL of its health route? [none yet: a stand-in answers] ", "--url or --stand-in")
    try:
        url = str(Field(name="url", type="url").accept(filled(url))) if url else ""
        title = filled(title)
    except BadValue as problem:
        raise ReadinessError(problem.what, where="--url", allowed=problem.allowed) from None
    except argparse.ArgumentTypeError as problem:
        raise ReadinessError(str(problem)) from None
    is_here = not url or bool(_LOOPBACK.fullmatch(urlsplit(url).hostname or ""))
    name = options.env or (EMBEDDED if is_here else LIVE)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) or f"{name}.toml" == SCHEMA_NAME:
        raise ReadinessError(
            f"{name!r} is not a valid environment name",
            where="--env",
            allowed='lowercase letters, digits, "-" and "_"; not "schema"',
        )
    if not url and name != EMBEDDED:
        raise ReadinessError(
            f"a stand-in cannot be {name}", where="--env", allowed=f"{EMBEDDED}, or any name with --url"
        )
    return Answers(title, url, name)


def _answer(question: str, option: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        sys.stderr.write("\n")
        raise ReadinessError("no answer", where=question.partition("?")[0] + "?", action=f"give {option}")
    return line.strip()

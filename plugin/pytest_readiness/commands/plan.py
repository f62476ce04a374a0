"""The plan and its suite: ``init`` writes their first files; ``goals``, ``checks``, ``waivers`` list them."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import ReadinessError
from ..core.formats import filled, matching, number, one_line
from ..core.goals import ExemptionState, apply_exemptions
from ..core.model import CheckResult, FailureClass, Outcome, Severity
from ..core.plan import PLAN_NAME, Plan
from ..core.review import deferral_rows, waiver_rows
from ..profile.schema import DIRECTORY, SCHEMA_NAME, BadValue, Field
from ..report import JSON_NAME
from ..report.columns import rows
from ..selftest.runner import Runner
from . import add_json, project, refuse_file, say, say_json, table
from .saved import load

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


def add_init(commands: Any) -> None:
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
    parser.set_defaults(run=write_suite)


def write_suite(options: argparse.Namespace) -> int:
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
        raise ReadinessError(
            problem.what,
            where="--url",
            allowed=problem.allowed,
            action="for a platform without HTTP: --stand-in, then write your own check and settings",
        ) from None
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


def add(commands: Any) -> None:
    """Add the commands to the parsers of ``readiness``."""
    goals = commands.add_parser(
        "goals",
        help="List the goals with their status",
        description="List the plan's goals with their status and evidence, as the last run found them.",
        epilog="examples:\n  readiness goals\n  readiness goals --json",
    )
    add_json(goals)
    goals.set_defaults(run=list_goals)
    checks = commands.add_parser(
        "checks",
        help="List the checks of the suite with severity, goal and limit",
        description="Collect the suite, without a request, and list its checks in the order of a run.",
        epilog="examples:\n  readiness checks --severity P0\n  readiness checks 'auth/*' --goal G-2 --json",
    )
    checks.add_argument("patterns", nargs="*", type=filled, metavar="PATTERN", help="Only ids that match one")
    checks.add_argument(
        "--severity", type=str.upper, choices=[each.value for each in Severity], help="Only of this severity"
    )
    checks.add_argument("--goal", type=filled, metavar="ID", help="Only of this goal")
    checks.add_argument("--phase", type=filled, metavar="NAME", help="Only of this phase")
    add_json(checks)
    checks.set_defaults(run=list_checks)
    waivers = commands.add_parser(
        "waivers",
        help="List waivers and deferrals with their state",
        description="List what the plan accepts for a time: active, expiring (within 72 hours), expired, "
        "unneeded (all it covers passed in the last full run), unknown (no check of that run matches), "
        "upcoming, refused (the plan forbids it).",
        epilog="examples:\n  readiness waivers\n  readiness waivers --state expiring --state expired",
    )
    waivers.add_argument(
        "--state",
        action="append",
        choices=[each.value for each in ExemptionState],
        help="Only in this state; may be repeated",
    )
    add_json(waivers)
    waivers.set_defaults(run=list_waivers)


_NO_EXEMPTION = "no waiver and no deferral: the plan declares them as [[waiver]] and [[deferral]]"


def list_goals(options: argparse.Namespace) -> int:
    """Print a line for each goal of the plan."""
    here = project()
    plan, model = here.plan, _last_model(here.root)
    found = {row.get("id"): row for row in rows(model, "goals")}
    listed = [
        {
            "id": goal.id,
            "title": goal.title,
            "status": found.get(goal.id, {}).get("status"),
            "evidence": "; ".join(
                (*found.get(goal.id, {}).get("figures", ()), found.get(goal.id, {}).get("evidence", ""))
            ),
        }
        for goal in plan.goals
    ]
    if options.json:
        say_json(listed)
        return 0
    cells = (
        [
            one_line(row["id"]),
            one_line(row["title"]),
            one_line(row["status"]) or "-",
            one_line(row["evidence"]),
        ]
        for row in listed
    )
    say(*table(cells, ("Goal", "Title", "Status", "Evidence")))
    if model:
        named = ("environment", "verdict", "run_id", "finished_at")
        say("last full run: " + ", ".join(one_line(model[key]) for key in named if model.get(key)))
    else:
        say("no run yet: readiness run")
    return 0


def list_checks(options: argparse.Namespace) -> int:
    """Print a line for each check of the suite that matches the filters."""
    here = project()
    wanted = {"severity": options.severity, "goal": options.goal, "phase": options.phase}
    if options.goal and options.goal not in here.plan.goal_ids:
        raise ReadinessError(
            f"unknown goal {options.goal!r}", where="--goal", allowed=", ".join(here.plan.goal_ids)
        )
    if options.phase and options.phase not in here.plan.phases:
        raise ReadinessError(
            f"unknown phase {options.phase!r}", where="--phase", allowed=", ".join(here.plan.phases)
        )
    collected = _collected(here.root, here.plan)
    for pattern in options.patterns:
        if not matching([pattern], [check["id"] for check in collected]):
            raise ReadinessError(
                f"no check matches {pattern!r}", where="PATTERN", action="list them all: readiness checks"
            )
    listed = [
        check
        for check in collected
        if all(value in (None, check[key]) for key, value in wanted.items())
        and (not options.patterns or matching(options.patterns, [check["id"]]))
    ]
    if options.json:
        say_json(listed)
        return 0
    cells = (
        [
            check["severity"],
            check["goal"],
            f"{number(check['limit_s'])} s",
            check["id"] + (" (drill)" if check["drill"] else ""),
        ]
        for check in listed
    )
    say(*table(cells, ("Severity", "Goal", "Time limit", "Check")) or ["no check matches"])
    return 0


def list_waivers(options: argparse.Namespace) -> int:
    """Print a line for each waiver and deferral, with its current state."""
    here = project()
    plan, model = here.plan, _last_model(here.root)
    try:
        results = [_result(row) for row in rows(model, "checks")]
    except (KeyError, ValueError) as problem:
        raise ReadinessError(f"a malformed report: {problem}", where=f"reports/{JSON_NAME}") from None
    _, exemptions = apply_exemptions(results, plan, datetime.now(UTC), str(model.get("environment", "")))
    listed = [
        {"kind": kind, **row}
        for kind, found in (("waiver", waiver_rows(exemptions)), ("deferral", deferral_rows(exemptions)))
        for row in found
        if not options.state or row["state"] in options.state
    ]
    if options.json:
        say_json(listed)
        return 0
    cells = (
        [
            row["state"],
            row["kind"],
            one_line(row["expires"] or "-"),
            one_line(row.get("item") or row["check"]),
            one_line(row["note"]),
        ]
        for row in listed
    )
    nothing = f"none is {' or '.join(options.state)}" if options.state else _NO_EXEMPTION
    say(*table(cells, ("State", "Kind", "Expires", "Of", "Note")) or [nothing])
    if not model:
        say("no run yet, so it is unknown what they cover")
    return 0


def _last_model(root: Path) -> Mapping[str, Any]:
    """Return the model of the last full run: a partial run does not judge goals and waivers."""
    path = root / "reports" / JSON_NAME
    return load(path) if path.is_file() else {}


def _result(row: Mapping[str, Any]) -> CheckResult:
    """Return a saved check as it was before deferrals and waivers were applied."""
    outcome = Outcome(row["outcome"])
    if outcome is Outcome.DEFERRED:
        outcome = Outcome.FLAKY if row.get("class") == FailureClass.FLAKE else Outcome.FAILED
    return CheckResult(
        id=row["id"],
        nodeid=row.get("nodeid", ""),
        goal=row.get("goal", ""),
        phase=row.get("phase", ""),
        severity=Severity(row["severity"]),
        outcome=outcome,
        applicable=row.get("applicable", True),
        drill=row.get("drill", False),
    )


def _collected(root: Path, plan: Plan) -> list[dict[str, Any]]:
    """Collect the suite in a separate process; return its checks in the order of the run."""
    with tempfile.TemporaryDirectory(prefix="readiness-") as work:
        runner = Runner(plan.suite, root, Path(work))
        try:
            checks = runner.checks()
        finally:
            runner.close()
    return [
        {
            "id": name,
            "nodeid": check.nodeid,
            "severity": check.severity,
            "goal": check.goal,
            "phase": name.partition("/")[0],
            "limit_s": check.limit_s or plan.policy.check_limit_s,
            "drill": check.drill,
        }
        for name, check in checks.items()
    ]

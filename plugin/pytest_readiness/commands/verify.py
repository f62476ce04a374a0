"""``readiness verify``: does this signed verdict permit a deployment? Needs no network and no project."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ..core.errors import ReadinessError
from ..core.formats import filled, one_line, parse_moment
from ..core.model import Scope, Verdict
from ..profile import LARGEST_RECORD, read_file
from ..report import JSON_NAME, attestation
from ..report.document import builds
from . import WRONG, say, tinted

#: Exit codes of runs with each verdict; any other means an additional failure, such as another test.
_CODES = {Verdict.READY: (0,), Verdict.DEGRADED: (0, 1, 2)}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
#: How far the signing machine's clock may be ahead of this one's.
_AHEAD = timedelta(minutes=5)


def add(commands: Any) -> None:
    """Add the command to the parsers of ``readiness``."""
    parser = commands.add_parser(
        "verify",
        help="Verify a signed verdict, offline",
        description="Exit 0 for a full run's verdict that this key signed, that is READY and recent enough; "
        "else 1 with the reasons. A readiness.json beside the file must be the one that was signed.",
        epilog="examples:\n  readiness verify reports/readiness.intoto.json --key launch.pub.pem\n"
        "  readiness verify verdict.json --env live --key launch.pub.pem --max-age 2h --build shop=abc",
    )
    parser.add_argument("file", type=filled, metavar="FILE", help="The file that a run with --attest wrote")
    parser.add_argument("--key", type=filled, required=True, metavar="PEM", help="The public key's file")
    parser.add_argument(
        "--max-age", type=_age, default="24h", metavar="AGE", help="Such as 90m, 24h, 7d (default: 24h)"
    )
    parser.add_argument(
        "--env",
        type=filled,
        metavar="NAME",
        help="The environment that must have been tested (default: any live one)",
    )
    parser.add_argument(
        "--build",
        type=_build,
        action="append",
        default=[],
        metavar="SERVICE=ID",
        help="A build that must have been tested; may be repeated",
    )
    parser.add_argument(
        "--accept",
        choices=[Verdict.READY.value, Verdict.DEGRADED.value],
        default=Verdict.READY,
        help="The worst verdict to accept (default: READY)",
    )
    parser.add_argument(
        "--report", type=filled, metavar="FILE", help="Its readiness.json (default: the one next to it)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Verify a signed verdict; return 1 if it is not genuine or does not meet the options."""
    path = Path(options.file)
    key = attestation.public_key(_read(Path(options.key)), options.key)
    try:
        content = attestation.opened(_read(path), key)
    except attestation.NotGenuine as problem:
        say(f"not accepted: {problem}")
        return WRONG
    statement = content["predicate"]["readiness"]
    words = (one_line(statement.get(name)) for name in ("verdict", "environment", "run_id", "finished_at"))
    say(tinted("  ".join(filter(None, words)), statement))
    say(*(f"{name:<12}{text}" for name, text in _facts(statement, key) if text))
    beside = Path(options.report) if options.report else path.parent / JSON_NAME
    report = _read(beside).encode() if options.report or beside.is_file() else None
    problems = [*_problems(statement, options, datetime.now(UTC)), *_another(content, report, beside)]
    say(*(f"not accepted: {problem}" for problem in problems), *([] if problems else ["accepted"]))
    return WRONG if problems else 0


def _facts(statement: Mapping[str, Any], key: attestation.PublicKey) -> Iterator[tuple[str, str]]:
    yield "declaration", one_line(statement.get("declaration"))
    yield "builds", builds(statement.get("build_identity"))
    yield "runner", one_line(statement.get("runner"))
    yield "key", attestation.key_id(key)


def _problems(statement: Mapping[str, Any], options: argparse.Namespace, now: datetime) -> Iterator[str]:
    """Yield the reasons why a genuine verdict is not accepted."""
    accepted = [Verdict.READY, *([Verdict.DEGRADED] if options.accept == Verdict.DEGRADED else [])]
    if statement.get("verdict") not in accepted:
        yield f"the verdict is {one_line(statement.get('verdict'))}"
    elif (code := statement.get("exit_code")) not in _CODES[Verdict(statement["verdict"])]:
        yield f"its run ended with exit code {one_line(code)}"
    if statement.get("scope") != Scope.FULL or statement.get("complete") is not True:
        yield "it is not the verdict of a full run that finished"
    environment = one_line(statement.get("environment"))
    if options.env and environment != options.env:
        yield f"{environment} was checked, not {options.env}"
    elif not options.env and statement.get("live") is not True:
        yield f"{environment} is not a live environment (to accept it, name it: --env {environment})"
    builds = statement.get("build_identity")
    for service, build in options.build:
        found = builds.get(service) if isinstance(builds, dict) else None
        if found != build:
            yield f"build of {service}: {one_line(found) or 'unknown'} was checked, not {build}"
    yield from _untimely(statement, options.max_age, now)


def _untimely(statement: Mapping[str, Any], max_age: timedelta, now: datetime) -> Iterator[str]:
    try:
        age = now - parse_moment(str(statement.get("finished_at")))
    except ValueError:
        yield "it does not say when the run ended"
        return
    if age < -_AHEAD:
        yield "it is dated in the future: compare the clocks"
    if age > max_age:
        yield f"the run ended {_span(age)} ago, more than {_span(max_age)}"


def _another(content: Mapping[str, Any], report: bytes | None, path: Path) -> Sequence[str]:
    subjects = content.get("subject")
    known = {"sha256": hashlib.sha256(report).hexdigest()} if report is not None else None
    signed = [entry for entry in subjects if isinstance(entry, dict)] if isinstance(subjects, list) else []
    if known is None or known in [each.get("digest") for each in signed if each.get("name") == JSON_NAME]:
        return []
    return [f"{path} is not the report that was signed"]


def _read(path: Path) -> str:
    try:
        return read_file(path, LARGEST_RECORD)
    except OSError as problem:
        raise ReadinessError(
            f"cannot be read: {problem.strerror}",
            where=str(path),
            action="name an existing file: the one that --attest wrote, its report, the public key",
        ) from None


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an age (allowed: a number with s, m, h or d, such as 24h)"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _build(text: str) -> tuple[str, str]:
    service, _, build = text.partition("=")
    if not service or not build:
        raise argparse.ArgumentTypeError(f"{text!r} is not a build (allowed: SERVICE=ID)")
    return service, build


def _span(age: timedelta) -> str:
    minutes = age.total_seconds() / 60
    if minutes < 120:
        return f"{minutes:.1f} min"
    return f"{minutes / 60:.1f} h" if minutes < 2880 else f"{minutes / 1440:.1f} days"

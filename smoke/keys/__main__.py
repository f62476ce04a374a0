"""The commands: `python -m smoke.keys bootstrap|rotate|revoke --env NAME|PATH.toml`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from pytest_readiness import ExternalOutage, ProfileError, SetupError, load_environment

from .bootstrap import bootstrap
from .context import SERVICES, Platform
from .errors import Refused
from .revocation import Report, Revocation
from .rotation import Rotation
from .store import prove

DONE, FAULT, REFUSED, UNTOLD = 0, 1, 4, 6
CODES = """\
exit codes: 0 done; 1 the platform is at fault; 4 refused, nothing was changed;
6 it could not be told, because this runner lacks something or AWS is not serving"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A problem is told in three lines, never as a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (ProfileError, Refused) as problem:
        return _said(problem, REFUSED)
    except (SetupError, ExternalOutage) as problem:
        return _said(problem, UNTOLD)
    except AssertionError as problem:
        return _said(problem, FAULT)
    except KeyboardInterrupt:
        _say(f"interrupted; what was done stays, and the lock too\n  next: {options.command} --resume")
        return UNTOLD
    except Exception as problem:  # its text may quote what it handled: only its type is told
        _say(f"{type(problem).__name__}: the command broke; the secret's versions tell how far it came")
        return FAULT


def _run(options: argparse.Namespace) -> int:
    environment = load_environment(options.env)
    services = [options.service] if options.service else list(SERVICES)
    with Platform(environment, read_only=options.dry_run, tell=_tell) as platform:
        if not options.dry_run:
            platform.refuse_protected()
        if options.command == "bootstrap":
            bootstrap(platform, services, _tell, dry_run=options.dry_run)
        elif options.command == "rotate":
            for service in services:
                _rotate(platform, service, options)
        elif not options.service:
            raise Refused("revoke needs --service", where="--service", allowed=", ".join(SERVICES))
        else:
            return _revoke(platform, options.service, options)
    return DONE


def _rotate(platform: Platform, service: str, options: argparse.Namespace) -> None:
    rotation = Rotation(platform.subject(service))
    if options.dry_run:
        return _plan(platform, service, rotation.plan())
    outcome = rotation.run(resume=options.resume)
    took = ", ".join(f"step {step} {seconds:.1f} s" for step, seconds in outcome.took.items())
    _tell(f"{service}: {outcome.new_kid} signs, {outcome.old_kid} is refused everywhere ({took})")
    return None


def _revoke(platform: Platform, service: str, options: argparse.Namespace) -> int:
    revocation = Revocation(platform.subject(service))
    if options.dry_run:
        _plan(platform, service, revocation.plan())
        return DONE
    report = revocation.run(resume=options.resume)
    for line in lines(report):
        _tell(line)
    return UNTOLD if report.unseen else DONE


def lines(report: Report) -> list[str]:
    """What a revocation measured, one line each, the new state last."""
    timed = [
        f"{one.name}: old key last accepted after {one.last_accepted or 0:.1f} s, "
        f"refused from {one.first_refused or 0:.1f} s on, "
        f"new key accepted after {one.new_accepted or 0:.1f} s ({one.looks} looks)"
        for one in report.timelines
    ]
    unseen = [
        f"{name}: cannot be asked from this runner, so nothing is known of it" for name in report.unseen
    ]
    state = f"left in the new state: {report.new_kid} signs for {report.service}; "
    return [*timed, *unseen, f"{state}revoked: {', '.join(report.old_kids)}"]


def _plan(platform: Platform, service: str, plan: list[str]) -> None:
    _tell(f"{service}: dry run, nothing is written")
    for line in plan:
        _tell(f"  {line}")
    secret = platform.store(service).describe()
    _tell(
        f"  permissions: {prove(platform.account, secret, operator=platform.environment.keys.operator_arn)}"
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        self.exit(REFUSED, f"{self.prog}: {message}\n  allowed: {usage}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m smoke.keys",
        description="The signing keys of the platform: fill, rotate, revoke",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="bootstrap|rotate|revoke")
    for name, text in (
        ("bootstrap", "Give a key to each secret that was never filled; touch nothing else"),
        ("rotate", "Replace the key with an overlap, so that no valid token is refused"),
        ("revoke", "Replace the key at once, and time every service until it refuses the old one"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--env", default="local", metavar="NAME|PATH.toml", help="Environment profile (default: local)"
        )
        command.add_argument(
            "--service", choices=SERVICES, help="Whose key (default: all three; revoke wants one)"
        )
        command.add_argument(
            "--dry-run", action="store_true", help="Show the plan and prove the permissions; write nothing"
        )
        if name != "bootstrap":
            command.add_argument(
                "--resume", action="store_true", help="Go on with a run that was killed, taking its lock"
            )
    return parser


def _said(problem: BaseException, code: int) -> int:
    _say(str(problem))
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - it is a command


def _tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is a command


if __name__ == "__main__":
    sys.exit(main())

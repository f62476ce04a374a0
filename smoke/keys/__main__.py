"""The commands: `python -m smoke.keys bootstrap|rotate|revoke --env NAME|PATH.toml`."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from pytest_readiness import ExternalOutage, ProfileError, SetupError, load_environment

from .context import SERVICES, KeyPlatform
from .revocation import Revocation, RevocationReport, bootstrap
from .rotation import Rotation
from .store import CommandRefused, prove

DONE, FAULT, REFUSED, INCONCLUSIVE = 0, 1, 4, 6
CODES = """\
exit codes: 0 done; 1 the platform is at fault; 4 refused, nothing was changed;
6 inconclusive: the runner lacks access, or AWS is not serving"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a problem is printed in three lines, without a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (ProfileError, CommandRefused) as problem:
        return _failed(problem, REFUSED)
    except (SetupError, ExternalOutage) as problem:
        return _failed(problem, INCONCLUSIVE)
    except AssertionError as problem:
        return _failed(problem, FAULT)
    except KeyboardInterrupt:
        _print_error(f"interrupted; completed steps and the lock remain\n  next: {options.command} --resume")
        return INCONCLUSIVE
    except Exception as problem:  # its text may quote a secret: only its type is shown
        _print_error(
            f"{type(problem).__name__}: unexpected; the secret's versions show which step was reached"
        )
        return FAULT


def _run(options: argparse.Namespace) -> int:
    environment = load_environment(options.env)
    services = [options.service] if options.service else list(SERVICES)
    with KeyPlatform(environment, read_only=options.dry_run, progress=_print) as platform:
        if not options.dry_run:
            platform.refuse_protected()
        if options.command == "bootstrap":
            bootstrap(platform, services, _print, dry_run=options.dry_run)
        elif options.command == "rotate":
            for service in services:
                _rotate(platform, service, options)
        elif not options.service:
            raise CommandRefused("revoke needs --service", where="--service", allowed=", ".join(SERVICES))
        else:
            return _revoke(platform, options.service, options)
    return DONE


def _rotate(platform: KeyPlatform, service: str, options: argparse.Namespace) -> None:
    rotation = Rotation(platform.context(service))
    if options.dry_run:
        return _plan(platform, service, rotation.plan())
    outcome = rotation.run(resume=options.resume)
    took = ", ".join(f"step {step} {seconds:.1f} s" for step, seconds in outcome.took.items())
    _print(f"{service}: {outcome.new_kid} signs, {outcome.old_kid} is refused everywhere ({took})")
    return None


def _revoke(platform: KeyPlatform, service: str, options: argparse.Namespace) -> int:
    revocation = Revocation(platform.context(service))
    if options.dry_run:
        _plan(platform, service, revocation.plan())
        return DONE
    report = revocation.run(resume=options.resume)
    for line in lines(report):
        _print(line)
    return INCONCLUSIVE if report.unseen else DONE


def lines(report: RevocationReport) -> list[str]:
    """What a revocation measured, one line each, the new state last."""
    timed = [
        f"{one.name}: old key last accepted after {one.last_accepted or 0:.1f} s, "
        f"refused from {one.first_refused or 0:.1f} s on, "
        f"new key accepted after {one.new_accepted or 0:.1f} s ({one.polls} polls)"
        for one in report.timelines
    ]
    unseen = [f"{name}: not reachable from this runner, so not observed" for name in report.unseen]
    state = f"left in the new state: {report.new_kid} signs for {report.service}; "
    return [*timed, *unseen, f"{state}revoked: {', '.join(report.old_kids)}"]


def _plan(platform: KeyPlatform, service: str, plan: list[str]) -> None:
    _print(f"{service}: dry run, nothing is written")
    for line in plan:
        _print(f"  {line}")
    secret = platform.store(service).describe()
    _print(
        f"  permissions: {prove(platform.account, secret, operator=platform.environment.keys.operator_arn)}"
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).removeprefix("usage: ")
        self.exit(REFUSED, f"{self.prog}: {message}\n  allowed: {usage}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m smoke.keys",
        description="Bootstrap, rotate and revoke the platform's signing keys",
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="bootstrap|rotate|revoke")
    for name, text in (
        ("bootstrap", "Write a key to each secret that has none; change nothing else"),
        ("rotate", "Replace the key with an overlap in which both are valid"),
        ("revoke", "Replace the key at once and measure when every service refuses the old one"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--env", required=True, metavar="NAME|PATH.toml", help="Environment profile")
        command.add_argument(
            "--service", choices=SERVICES, help="Owner of the key (default: all three; revoke requires it)"
        )
        command.add_argument(
            "--dry-run", action="store_true", help="Show the plan and check the permissions; write nothing"
        )
        if name != "bootstrap":
            command.add_argument(
                "--resume", action="store_true", help="Continue a run that was killed, taking over its lock"
            )
    return parser


def _failed(problem: BaseException, code: int) -> int:
    _print_error(str(problem))
    return code


def _print_error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - command output


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - command output


if __name__ == "__main__":
    sys.exit(main())

"""The ``readiness`` command: look at a ledger, test the suite itself; bad input is three lines, exit 4."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from .core.arguments import filled
from .core.errors import LedgerError, PlanError, ReadinessError
from .core.formats import counted
from .core.history import streak
from .core.plan import PLAN_NAME, Plan
from .ledger import Ledger, open_ledger
from .profile.project import find_plan, profile_names, read_plan
from .selftest import command
from .supervisor import supervise

BROKEN, USAGE_ERROR = 1, 4
NO_PLAN = f"no {PLAN_NAME} in this directory or its parents"


class _Parser(argparse.ArgumentParser):
    """Refuses an argument as the plugin refuses an option: exit 4, for 2 would read as DEGRADED."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n  next: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    ``gate``: that of the report. Else 0; 1 when a ledger's chain is broken or the suite misses a fault; 4 for
    bad input; 6 when the self-test could not finish.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["gate"] and given[1:2] not in (["-h"], ["--help"]):
        return supervise(given[2:] if given[1:2] == ["--"] else given[1:])
    options = _parser().parse_args(given)
    try:
        if options.command == "self-test":
            return _self_test(options)
        return _verify(options) if options.action == "verify" else _show(options)
    except ReadinessError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="readiness", description="Launch readiness from the command line")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    ledger = commands.add_parser("ledger", help="Look at the history of full runs")
    ledger.add_argument("action", choices=("show", "verify"), help="Print the runs, or check the hash chain")
    ledger.add_argument(
        "--env", type=filled, default="local", metavar="NAME", help="Environment (default: local)"
    )
    ledger.add_argument("--ledger", type=filled, metavar="URL", help="Ledger URL (default: the plan's)")
    commands.add_parser("gate", help="Run pytest with these arguments and answer for it, the form for CI")
    command.add(commands)
    return parser


def _self_test(options: argparse.Namespace) -> int:
    path = find_plan(Path.cwd())
    if path is None:
        raise PlanError(NO_PLAN, action="run it in the project of the suite")
    return command.run(options, read_plan(path), path.parent, sys.stdout)


def _show(options: argparse.Namespace) -> int:
    ledger, plan = _opened(options)
    ledger.settle()
    entries = [entry for entry in ledger.entries() if entry.get("environment", options.env) == options.env]
    _say(*(f"{entry['seq']:>4}  {_row(entry)}" for entry in entries))
    _say(*(f"note: {note}" for note in ledger.notes))
    if not entries:
        _say(f"no run in {ledger.location}")
    elif plan is not None:
        length = streak(entries, plan.policy, datetime.now(UTC))
        _say(f"streak of {options.env}: {length} ({length.why})")
    return 0


def _row(entry: Mapping[str, Any]) -> str:
    counts = entry.get("counts", {})
    told = ", ".join(f"{counts[word]} {word}" for word in ("passed", "failed", "flaky") if counts.get(word))
    stopped = "  (incomplete)" if entry.get("complete") is False else ""
    return f"{entry.get('finished_at')}  {entry.get('verdict'):<10}  {entry.get('run_id')}  {told}{stopped}"


def _verify(options: argparse.Namespace) -> int:
    ledger, _ = _opened(options)
    found = ledger.verify()
    _say(*(f"note: {note}" for note in found.notes))
    if found.ok and not found.entries:
        _say(f"no run in {ledger.location}")
        return 0
    if found.ok:
        _say(f"{ledger.location}: {counted(found.entries, 'entry')}, chain verified")
        return 0
    _say(f"{ledger.location}: chain broken: {found.problem}")
    return BROKEN


def _opened(options: argparse.Namespace) -> tuple[Ledger, Plan | None]:
    path = find_plan(Path.cwd())
    if path is None and not options.ledger:
        raise LedgerError(NO_PLAN, action="run it in the project of the suite, or name one with --ledger URL")
    plan = read_plan(path) if path is not None else None
    root = path.parent if path is not None else Path.cwd()
    url = options.ledger or (plan.ledger_url if plan is not None else "")
    ledger = open_ledger(url, root, options.env)
    _require_known(options.env, root, ledger)
    return ledger, plan


def _require_known(environment: str, root: Path, ledger: Ledger) -> None:
    """Refuse a name that has neither a profile nor a run: an empty ledger says nothing of a mistyped one."""
    profiles = profile_names(root)
    found = ledger.verify() if profiles and environment not in profiles else None
    if found is not None and found.ok and not found.entries:
        raise LedgerError(
            f"no environment {environment!r} is known, and its ledger is empty",
            where=ledger.location,
            allowed=f"an environment with a profile or with runs: {', '.join(profiles)}",
        )


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())

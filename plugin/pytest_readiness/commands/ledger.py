"""``readiness ledger``: the history of full runs, shown, verified, exported."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import LedgerError
from ..core.formats import canonical_json, counted, filled
from ..core.history import is_enough, streak
from ..core.plan import Plan
from ..ledger import Ledger, open_ledger, read_history
from ..profile.project import find_plan, profile_names, read_plan
from ..report.document import moment
from . import NO_PLAN, WRONG, say


def add(commands: Any) -> None:
    """Add the command to the parsers of ``readiness``."""
    parser = commands.add_parser(
        "ledger",
        help="Look at the history of full runs",
        description="show: the runs and the streak. verify: the hash chain; exit 1 and the first bad entry "
        "when it is broken. export: the verified entries as JSON Lines, oldest first.",
        epilog="examples:\n  readiness ledger show --env live\n"
        "  readiness ledger verify --ledger s3://launches/shop\n"
        "  readiness ledger export --env live > live.jsonl",
    )
    actions = {"show": show, "verify": verify, "export": export}
    parser.add_argument("action", choices=[*actions], metavar="show|verify|export", help="What to do")
    parser.add_argument(
        "--env", type=filled, default="local", metavar="NAME", help="Environment (default: local)"
    )
    parser.add_argument("--ledger", type=filled, metavar="URL", help="Ledger URL (default: the plan's)")
    parser.set_defaults(run=lambda options: actions[options.action](options))


_ROW = "{:>4}  {:<20}  {:<10}  {:<23}  {}"


def show(options: argparse.Namespace) -> int:
    """Print a line for each run, and the streak that they make."""
    ledger, plan = _opened(options)
    ledger.settle()
    empty = True
    for entry in ledger.entries():
        if entry.get("environment", options.env) == options.env:
            if empty:
                say(_ROW.format("Run", "Finished", "Verdict", "Id", "Checks"))
            say(_row(entry))
            empty = False
    say(*(f"note: {note}" for note in ledger.notes))
    if empty:
        say(f"no run in {ledger.location}")
    elif plan is not None:
        policy, now = plan.policy, datetime.now(UTC)
        length = streak(
            read_history(ledger, options.env, lambda own: is_enough(own, policy, now)), policy, now
        )
        say(f"streak of {options.env}: {length} ({length.why})")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Check the hash chain; 1 when it is broken."""
    ledger, _ = _opened(options)
    found = ledger.verify()
    say(*(f"note: {note}" for note in found.notes))
    if found.ok and not found.entries:
        say(f"no run in {ledger.location}")
        return 0
    if found.ok:
        say(f"{ledger.location}: {counted(found.entries, 'entry')}, chain verified")
        return 0
    say(f"{ledger.location}: chain broken: {found.problem}")
    return WRONG


def export(options: argparse.Namespace) -> int:
    """Print the entries in the canonical form that their hashes are made of; nothing of a broken chain."""
    ledger, _ = _opened(options)
    for entry in ledger.entries():
        say(canonical_json(entry).decode())
    return 0


def _row(entry: Mapping[str, Any]) -> str:
    counts = entry.get("counts", {})
    results = ", ".join(
        f"{counts[word]} {word}" for word in ("passed", "failed", "flaky") if counts.get(word)
    )
    stopped = "  (incomplete)" if entry.get("complete") is False else ""
    facts = entry.get("seq"), moment(entry.get("finished_at")), entry.get("verdict"), entry.get("run_id")
    return _ROW.format(*map(str, facts), f"{results}{stopped}").rstrip()


def _opened(options: argparse.Namespace) -> tuple[Ledger, Plan | None]:
    path = find_plan(Path.cwd())
    if path is None and not options.ledger:
        action = "run it in a directory with a readiness.toml, or name one with --ledger URL"
        raise LedgerError(NO_PLAN, action=action)
    plan = read_plan(path) if path is not None else None
    root = path.parent if path is not None else Path.cwd()
    url = options.ledger or (plan.ledger_url if plan is not None else "")
    ledger = open_ledger(url, root, options.env)
    _require_known(options.env, root, ledger)
    return ledger, plan


def _require_known(environment: str, root: Path, ledger: Ledger) -> None:
    """Refuse a name that has neither a profile nor a run: an empty ledger says nothing of a mistyped one."""
    profiles = profile_names(root)
    if profiles and environment not in profiles and not ledger.recent(1):
        raise LedgerError(
            f"environment {environment!r} has no profile, and its ledger is empty",
            where=ledger.location,
            allowed=f"an environment with a profile or with runs: {', '.join(profiles)}",
        )

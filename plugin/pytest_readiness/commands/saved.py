"""Shows saved runs: ``readiness report``, ``explain`` and ``diff``.

Also ``readiness ledger``: shows, verifies and exports the history of full runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import LedgerError, ReadinessError
from ..core.formats import canonical_json, counted, filled, matching, number, one_line
from ..core.history import differences, is_enough, streak
from ..core.model import Verdict
from ..core.plan import Plan
from ..core.redaction import Redactor
from ..ledger import Ledger, open_ledger, read_history
from ..profile import LARGEST_RECORD, find_plan, profile_names, read_file, read_plan
from ..report import FORMATS, JSON_NAME, NAMES, formats_in, report_of, terminal, write_all
from ..report.columns import rows
from ..report.document import headline, members, moment, observed_of
from ..report.html import command, evidence_lines
from . import NO_PLAN, WRONG, add_json, refuse_file, say, say_json, tinted


def add_ledger(commands: Any) -> None:
    """Add the command to the parsers of ``readiness``."""
    parser = commands.add_parser(
        "ledger",
        help="Show, verify or export the history of full runs",
        description="show: the runs and the streak. verify: the hash chain; exit 1 and the first bad entry "
        "when it is broken. export: the verified entries as JSON Lines, oldest first.",
        epilog="examples:\n  readiness ledger show --env live\n"
        "  readiness ledger verify --ledger s3://launches/shop\n"
        "  readiness ledger export --env live > live.jsonl",
    )
    actions = {"show": show_history, "verify": verify, "export": export}
    parser.add_argument("action", choices=[*actions], metavar="show|verify|export", help="What to do")
    parser.add_argument(
        "--env", type=filled, default="local", metavar="NAME", help="Environment (default: local)"
    )
    parser.add_argument("--ledger", type=filled, metavar="URL", help="Ledger URL (default: the plan's)")
    parser.set_defaults(run=lambda options: actions[options.action](options))


_ROW = "{:>4}  {:<20}  {:<10}  {:<23}  {}"


def show_history(options: argparse.Namespace) -> int:
    """Print a line for each run, and the resulting streak."""
    ledger, plan = _opened(options)
    ledger.settle()
    empty = True
    for entry in ledger.entries():
        if entry.get("environment", options.env) == options.env:
            if empty:
                say(_ROW.format("Run", "Finished", "Verdict", "Id", "Checks"))
            say(_entry_row(entry))
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
    """Check the hash chain; return 1 if it is broken."""
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
    """Print the entries in the canonical form that their hashes cover; nothing if the chain is broken."""
    ledger, _ = _opened(options)
    for entry in ledger.entries():
        say(canonical_json(entry).decode())
    return 0


def _entry_row(entry: Mapping[str, Any]) -> str:
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
    """Refuse a name without profile and runs: an empty ledger would hide a typing mistake."""
    profiles = profile_names(root)
    if profiles and environment not in profiles and not ledger.recent(1):
        raise LedgerError(
            f"environment {environment!r} has no profile, and its ledger is empty",
            where=ledger.location,
            allowed=f"an environment with a profile or with runs: {', '.join(profiles)}",
            action="name one with --env",
        )


#: How many runs or checks an error names.
NAMED = 5
LAST_FULL = "--report reports/readiness.json has the last full run"
_CHANGES = {
    "failing": "newly failing", "fixed": "fixed", "silent": "without an answer now", "gone": "gone",
    "new": "new",
}  # fmt: skip


def add(commands: Any) -> None:
    """Add the commands to the parsers of ``readiness``."""
    report = commands.add_parser(
        "report",
        help="Render a saved report again",
        description="Write readiness.md and readiness.html, and other formats, from a saved readiness.json.",
        epilog="examples:\n  readiness report\n  readiness report 41/readiness.json --to out --format csv",
    )
    _add_file(report, "file", nargs="?")
    report.add_argument("--to", type=filled, metavar="DIR", help="Directory (default: next to the file)")
    report.add_argument("--format", type=filled, metavar="NAME[,NAME]", help=f"Also: {', '.join(FORMATS)}")
    report.set_defaults(run=render)
    explain = commands.add_parser(
        "explain",
        help="Show everything that a run recorded about a check or a cause",
        description="Show how a check ended, why, who acts next, how to reproduce it, and its evidence.",
        epilog="examples:\n  readiness explain 1\n  readiness explain health/platform-answers\n"
        "  readiness explain 'orders/*[paid]' --report run-41/readiness.json",
    )
    explain.add_argument(
        "what",
        type=filled,
        metavar="CHECK|CAUSE",
        help="A check's id or a pattern of it, or a cause's number",
    )
    _add_file(explain, "--report")
    add_json(explain)
    explain.set_defaults(run=show)
    diff = commands.add_parser(
        "diff",
        help="Compare two runs: builds, checks, durations, figures",
        description="Compare run A with run B: a readiness.json, or a run id or number of the ledger. "
        "By default the last two full runs in the ledger.",
        epilog="examples:\n  readiness diff\n  readiness diff 41 42 --env live\n"
        "  readiness diff green/readiness.json reports/readiness.json",
    )
    diff.add_argument("before", nargs="?", type=filled, metavar="A", help="Default: the last run but one")
    diff.add_argument("after", nargs="?", type=filled, metavar="B", help="Default: the last run")
    diff.add_argument(
        "--env",
        type=filled,
        default="local",
        metavar="NAME",
        help="Environment of the ledger (default: local)",
    )
    diff.add_argument("--ledger", type=filled, metavar="URL", help="Ledger URL (default: the plan's)")
    add_json(diff)
    diff.set_defaults(run=compare)


def last_report() -> Path:
    """Return the JSON report of this project's last run, full or partial."""
    plan = find_plan(Path.cwd())
    return report_of((plan.parent if plan else Path.cwd()) / "reports")


def load(path: Path) -> dict[str, Any]:
    """Return a saved model; ReadinessError if the file has another schema."""
    path = path / JSON_NAME if path.is_dir() else path
    try:
        model = json.loads(read_file(path, LARGEST_RECORD))
    except (OSError, ValueError, RecursionError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else f"not JSON: {problem}"
        raise ReadinessError(
            f"cannot be read: {reason}",
            where=str(path),
            action="run the suite first, or name a readiness.json",
        ) from None
    if not isinstance(model, dict) or model.get("schema_version") != 1 or not _is_shaped(model):
        raise ReadinessError(
            "not a report of a run", where=str(path), allowed="readiness.json, schema version 1"
        )
    return model


def _is_shaped(model: Mapping[str, Any]) -> bool:
    """Tell whether a model has the shape that these commands need; renderers tolerate the rest."""
    lists = [model.get("blockers"), model.get("checks"), model.get("goals")]
    if not all(isinstance(found, list | None) for found in lists):
        return False
    lists += [check.get("evidence") for check in rows(model, "checks")]
    texts = [blocker.get(key) for blocker in rows(model, "blockers") for key in ("also", "behind")]
    tables = [model.get("build_identity"), model.get("figures")]
    tables += [blocker.get("whose") for blocker in rows(model, "blockers")]
    return (
        str(model.get("verdict")) in Verdict.__members__
        and all(isinstance(found, list | None) for found in (*lists, *texts))
        and all(isinstance(entry, dict) for found in lists for entry in found or ())
        and all(isinstance(found, dict | None) for found in tables)
        and all(isinstance(check.get("id"), str) for check in rows(model, "checks"))
    )


def render(options: argparse.Namespace) -> int:
    """Write the reports of a saved run again and print its summary."""
    path = Path(options.file) if options.file else last_report()
    model = load(path)
    directory = Path(options.to) if options.to else path if path.is_dir() else path.parent
    refuse_file(directory, "--to")
    names = [name.strip() for name in (options.format or "").split(",") if name.strip()]
    if unknown := [name for name in names if name not in FORMATS]:
        raise ReadinessError(
            f"not a report format: {', '.join(unknown)}", where="--format", allowed=", ".join(FORMATS)
        )
    try:
        withheld = write_all(model, directory, Redactor(), [*dict.fromkeys([*formats_in(directory), *names])])
    except (TypeError, ValueError, KeyError, AttributeError) as problem:
        raise ReadinessError(f"a malformed report: {problem}", where=str(path)) from None
    paths = [str(directory / name) for name in NAMES if (directory / name).is_file()]
    first, *others = terminal.lines(model, paths)
    say(tinted(first, model), *others)
    if withheld:
        raise ReadinessError(f"a secret was found in {', '.join(withheld)}: withheld", where=str(directory))
    return 0


def show(options: argparse.Namespace) -> int:
    """Print everything in the report about a check or a cause."""
    model = load(Path(options.report) if options.report else last_report())
    blockers = rows(model, "blockers")
    if not blockers and not rows(model, "checks"):
        raise ReadinessError(
            f"there is nothing to explain: {'; '.join(map(one_line, model.get('reasons') or ()))}",
            where=_named(model),
            action=LAST_FULL,
        )
    if options.what.isdecimal():
        if not 0 < int(options.what) <= len(blockers):
            raise ReadinessError(
                f"no cause {options.what}",
                where=f"run {one_line(model.get('run_id'))}, {model['verdict']}",
                allowed=f"1 to {len(blockers)}" if blockers else "the id of a check: this run has no cause",
            )
        blocker = blockers[int(options.what) - 1]
        check = next((row for row in rows(model, "checks") if row["id"] == blocker.get("check")), None)
    else:
        check = _check(model, options.what)
        blocker = next((row for row in blockers if check["id"] in members(row)), {})
    if options.json:
        say_json({"check": check, "cause": blocker or None})
        return 0
    say(*_explained(model, check or {}, blocker))
    return 0


def _check(model: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    known = {str(row["id"]): row for row in rows(model, "checks")}
    found = [what] if what in known else matching([what], known) or [name for name in known if what in name]
    if len(found) == 1:
        return known[found[0]]
    if not known:
        raise ReadinessError("this run recorded no check", where=_named(model), action=LAST_FULL)
    raise ReadinessError(
        f"{len(found) or 'no'} checks match {what!r}",
        where=_named(model),
        allowed="one of "
        + ", ".join((found or [*known])[:NAMED])
        + (", …" if len(found or known) > NAMED else ""),
        action=f"readiness checks lists all; {LAST_FULL}",
    )


def _named(model: Mapping[str, Any]) -> str:
    partial = "partial " if headline(model).partial else ""
    return f"{partial}run {one_line(model.get('run_id'))} ({one_line(model.get('environment'))})"


def _explained(
    model: Mapping[str, Any], check: Mapping[str, Any], blocker: Mapping[str, Any]
) -> Iterator[str]:
    name = one_line(check.get("id")) or one_line(blocker.get("goal")) or "the run"
    words = (one_line((check or blocker).get(key)) for key in ("severity", "outcome", "class"))
    yield tinted("  ".join(filter(None, (name, *words))), model)
    summary = check.get("summary") or blocker.get("summary")
    run = f"{one_line(model.get('run_id'))}, {one_line(model.get('environment'))}, {model['verdict']}"
    found = blocker.get("whose") or {}
    owner = ", ".join(filter(None, (one_line(found.get(key)) for key in ("team", "contact", "runbook"))))
    shown_by = blocker.get("check")  # the rule belongs to this check; a cause of the run itself has no check
    elsewhere = bool(shown_by) and shown_by != check.get("id")
    facts = {
        "summary": one_line(summary),
        "observed": observed_of(blocker),
        "where": one_line(check.get("where")),
        "goal": ", ".join(filter(None, (one_line(check.get("goal")), one_line(check.get("phase"))))),
        "took": f"{number(check.get('duration_s'))} s, attempts: {check.get('attempts', 1)}" if check else "",
        "run": run,
        "rule": "" if elsewhere else one_line(blocker.get("rule")),
        "cause": one_line(shown_by) if elsewhere else "",
        "also": ", ".join(map(one_line, blocker.get("also") or ())),
        "not run": ", ".join(map(one_line, blocker.get("behind") or ())),
        "owner": owner,
        "next": one_line(blocker.get("next_action")),
        "covered by": one_line(check.get("covered_by")),
    }
    for label, text in facts.items():
        for place, part in enumerate(terminal.wrapped(text, terminal.COLUMNS - 12)):
            yield f"{'' if place else label:<12}{part}"
    again = command(check, model) if check else one_line(blocker.get("reproduce"))
    if again:
        yield f"{'reproduce':<12}{again}"
        needed = ", ".join(map(one_line, model.get("reproduce_env") or ()))
        yield from (f"{'variables':<12}{needed}" for _ in [needed] if needed)
    evidence = [*evidence_lines(rows(check, "evidence"), full=True)]
    if evidence:
        yield from ("", "Evidence", *(f"  {line}" for line in evidence))


def compare(options: argparse.Namespace) -> int:
    """Print what differs between two runs."""
    entries: list[dict[str, Any]] = []
    named = [name for name in (options.before, options.after) if name]
    if len(named) < 2 or not all(Path(name).exists() for name in named):
        entries = _entries(options)
    if options.before is None and len(entries) < 2:
        raise ReadinessError(
            f"{len(entries) or 'no'} full run of {options.env} in the ledger: nothing to compare",
            action="run the suite again, or name two saved readiness.json",
        )
    before = _run(options.before, entries, options.env) if options.before else entries[-2]
    after = _run(options.after, entries, options.env)
    found = differences(before, after)
    if options.json:
        keys = ("run_id", "environment", "finished_at", "verdict", "suite_digest", "plan_digest")
        sides = {name: {key: run.get(key) for key in keys} for name, run in (("a", before), ("b", after))}
        say_json({**sides, **found})
    else:
        say(*_compared(before, after, found))
    return 0


def _entries(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the ledger's named entries, followed by the newest ones."""
    ledger, _ = _opened(options)
    last = ledger.recent(NAMED)
    wanted = {options.before, options.after} - {None} - {each for entry in last for each in _names(entry)}
    if not wanted:
        return last
    return [*(entry for entry in ledger.entries() if wanted.intersection(_names(entry))), *last]


def _names(entry: Mapping[str, Any]) -> tuple[str, str]:
    return str(entry.get("run_id")), str(entry.get("seq"))


def _run(name: str | None, entries: list[dict[str, Any]], environment: str) -> Mapping[str, Any]:
    if name is not None and Path(name).exists():
        return load(Path(name))
    found = [entry for entry in entries if name is None or name in _names(entry)]
    if found:
        return found[-1]
    known = ", ".join(str(entry.get("run_id")) for entry in entries[-NAMED:])
    raise ReadinessError(
        f"no such run of {environment}: {name or 'the last one'}",
        allowed=f"a readiness.json, a number or id of the ledger: {known or 'it is empty'}",
        action=f"readiness ledger show --env {environment}",
    )


def _compared(
    before: Mapping[str, Any], after: Mapping[str, Any], found: Mapping[str, list[dict[str, Any]]]
) -> Iterator[str]:
    for mark, run in (("A", before), ("B", after)):
        words = (one_line(run.get(key)) for key in ("verdict", "run_id", "environment", "finished_at"))
        yield tinted("  ".join((mark, *words)), run)
    for key, word in (("suite_digest", "suite"), ("plan_digest", "plan")):
        if before.get(key) != after.get(key):
            yield f"another {word}"
    for build in found["builds"]:
        yield f"build of {build['service']}: {build['before'] or 'unknown'} → {build['after'] or 'unknown'}"
    for kind, title in _CHANGES.items():
        yield from _titled(title, map(_ended, found[kind]))
    for kind in ("slower", "faster"):
        yield from _titled(kind, (_moved(row, row["id"], " s") for row in found[kind]))
    yield from _titled("figures", (_moved(row, row["name"], "") for row in found["moved"]))
    if not any(found.values()):
        yield "no difference in builds, checks, durations and figures"


def _titled(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = [*lines]
    if found:
        yield from (f"{title} ({len(found)})", *(f"  {line}" for line in found))


def _ended(row: Mapping[str, Any]) -> str:
    words = (one_line(row[key]) for key in ("severity", "id"))
    ends = (one_line(row[key]) or "-" for key in ("before", "after"))
    return f"{' '.join(words)}: {' → '.join(ends)} {one_line(row['class'])}".rstrip()


def _moved(row: Mapping[str, Any], name: object, unit: str) -> str:
    return f"{one_line(name)}: {number(row['before'])} → {number(row['after'])}{unit}"


def _add_file(parser: argparse.ArgumentParser, name: str, **more: Any) -> None:
    parser.add_argument(
        name, type=filled, metavar="FILE", help="A readiness.json (default: the last run's)", **more
    )

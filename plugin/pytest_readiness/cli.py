"""The ``readiness`` command: runs a suite, and shows saved results; bad input gets three lines and exit 4.

``run`` and ``gate`` start pytest as a child, because a process cannot report its own end. ``os._exit(0)``, a
timeout that ends the process, a crash, a plugin that was not loaded: each leaves an exit status that says
nothing about the platform. The report of this run decides; without one the result is NO_VERDICT.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, NoReturn

from .commands import USAGE_ERROR, plan, project, saved, say, verify
from .core.assess import UNFINISHED, UNJUDGED, unfinished_model
from .core.errors import ReadinessError
from .core.formats import HANDOVER, RUN_ID, format_moment, new_run_id
from .core.model import NONE_LEFT, SHARD_SUFFIX, Verdict
from .core.plan import PLAN_NAME
from .core.redaction import Redactor
from .core.verdict import exit_code
from .profile import find_plan, read_plan, read_shards
from .report import PARTIAL_NAME, append_summary, discard, formats_in, write_all
from .selftest import command

SHELLS = ("bash", "zsh", "tcsh")
#: Commands that pass their arguments to pytest; the exit code comes from the report.
RUNS = {
    "run": "Run the suite with these pytest arguments and exit with its verdict",
    "gate": "Run the suite like run, but refuse a partial run; use this in CI",
}
MERGE = "Judge a run that was split over several machines, as gate does"
RUN_EXAMPLES = """\
options beside those of pytest (all of them: docs/suite.md, or pytest --help):
  --env NAME|FILE.toml       the environment (local)
  --drills                   also checks that change the platform's state
  --attest=KEY               sign the verdict with this private key
  --degraded-exit-code N     0, 1 or 2 for DEGRADED (2)
  --readiness-dir DIR        where reports go (reports)
  --readiness-format NAME,…  more reports: csv, ctrf, prometheus, text
  --readiness-wait SECONDS   how long to wait for another run on the same platform

examples:
  readiness {0} --env live
  readiness {0} --env live -n 2 --drills     # -n: pip install 'pytest-readiness[xdist]'

"""
EXIT_CODES = """\
exit codes of run, gate and merge:
  0 READY   1 BROKEN   2 DEGRADED   3 internal error   4 bad input   6 NO_VERDICT
of all others:
  0 done    1 a problem was found: a broken chain, a missed fault, a forged verdict
  4 bad input    6 the self-test could not finish
"""


class _Help(argparse.HelpFormatter):
    """Wraps descriptions, but not the lines of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """Refuses an argument with exit 4, as the plugin refuses an option: 2 would mean DEGRADED."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **settings})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse unknown arguments with the command's own name and help."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n  next: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    ``run``, ``gate`` and ``merge``: the report's. Otherwise 0; 1 if the command found a problem; 4 for bad
    input; 6 if the self-test could not finish.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in (*RUNS, "merge") and given[1:2] not in (["-h"], ["--help"]):
        rest = given[2:] if given[1:2] == ["--"] else given[1:]
        answer = (
            partial(_merge, rest) if given[0] == "merge" else partial(_run, rest, gate=given[0] == "gate")
        )
    else:
        options = _parser().parse_args(given)
        answer = partial(options.run, options)
    try:
        code: int = answer()
        sys.stdout.flush()
    except ReadinessError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE_ERROR
    except BrokenPipeError:  # the reader closed the pipe, as `head` does; Python would report that at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _run(arguments: Sequence[str], *, gate: bool) -> int:
    """Run pytest; without a plan, refuse a call without arguments: pytest would collect anything."""
    if not arguments:
        project()
    return supervise(arguments, gate=gate)


def _merge(arguments: Sequence[str]) -> int:
    """Judge the results of shards, named by the arguments before the first option."""
    project()
    shards = [*takewhile(lambda word: not word.startswith("-"), arguments)]
    if not shards:
        raise ReadinessError(
            "nothing to merge", where="readiness merge", allowed="results of shards: files or directories",
            action="readiness merge reports/shards --env NAME",
        )  # fmt: skip
    if missing := [path for path in shards if not Path(path).exists()]:
        raise ReadinessError(
            f"no such file or directory: {', '.join(missing)}", where="readiness merge",
            allowed="the results of shards: files or directories",
        )  # fmt: skip
    # the directory is empty if all shards died; any other directory would overwrite the last run's reports
    if mistaken := [path for path in shards if not _may_hold_shards(Path(path))]:
        raise ReadinessError(
            f"not the result of a shard: {', '.join(mistaken)}", where="readiness merge",
            allowed=f"files that end in {SHARD_SUFFIX}, or a directory of such files",
            action="name the directory that --readiness-shard wrote, by default reports/shards",
        )  # fmt: skip
    return supervise(arguments[len(shards) :], shards=shards)


def _may_hold_shards(path: Path) -> bool:
    if path.is_dir():
        return not any(path.iterdir()) or any(path.rglob(f"*{SHARD_SUFFIX}"))
    return path.suffix == SHARD_SUFFIX


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="readiness", description="Turn a pytest smoke run into a launch decision", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"readiness {version('pytest-readiness')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    plan.add_init(commands)
    for name, what in RUNS.items():
        commands.add_parser(
            name,
            help=what,
            description=f"{what}. Without a path it runs the plan's suite.",
            usage=f"readiness {name} [ARGUMENT OF PYTEST ...]",
            epilog=RUN_EXAMPLES.format(name) + EXIT_CODES,
        )
    commands.add_parser(
        "merge",
        help=MERGE,
        description=f"{MERGE}. SHARD is a file that a run with --readiness-shard I/N left, or a directory of "
        "them. A missing shard makes it NO_VERDICT; shards of two runs, builds, plans or suites are refused.",
        usage="readiness merge SHARD ... [OPTION OF PYTEST ...]",
        epilog="examples:\n  readiness merge reports/shards --env live\n"
        "  readiness merge shard-1 shard-2 shard-3 --env live --attest env:KEY\n\n" + EXIT_CODES,
    )
    saved.add(commands)
    plan.add(commands)
    saved.add_ledger(commands)
    verify.add(commands)
    command.add(commands)
    commands.choices["self-test"].set_defaults(run=_self_test)
    shells = commands.add_parser(
        "completion",
        help="Print the shell's completion script for this command",
        description="Print the shell's completion script for this command.",
        epilog="examples:\n  readiness completion bash > /etc/bash_completion.d/readiness\n"
        "  readiness completion zsh > ~/.zfunc/_readiness",
    )
    shells.add_argument("shell", choices=SHELLS, help="Which shell")
    shells.set_defaults(run=lambda options: _complete(parser, options.shell))
    return parser


def _complete(parser: argparse.ArgumentParser, shell: str) -> int:
    import shtab  # imports that no other command needs

    say(shtab.complete(parser, shell))
    return 0


def _self_test(options: argparse.Namespace) -> int:
    found = project()
    return command.run(options, found.plan, found.root, sys.stdout)


#: pytest's own exit codes: an internal error, bad input. They say more than NO_VERDICT.
PYTESTS_OWN = frozenset({3, 4})
NO_VERDICT = exit_code(Verdict.NO_VERDICT)
_PR_SET_PDEATHSIG = 1
#: Options whose value is the name of a file or directory.
_PLACES = ("--attest", "--env", "--readiness-dir", "--junitxml", "--junit-xml", "--html")
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def supervise(arguments: Sequence[str], *, gate: bool = True, shards: Sequence[str] = ()) -> int:
    """Run pytest with these arguments; return the exit code in this run's report, otherwise 6.

    Exit 3 and 4 are the child's own. If the report has no verdict, it says how pytest ended. ``gate`` refuses
    a partial run. ``shards``: files or directories to judge instead of running checks. In the plan's
    directory, or with that as ``--rootdir``, arguments without a path mean its suite.
    """
    merged = [f"--readiness-merge={path}" for path in shards]
    arguments = [*(["--gate"] if gate else []), *_usual_suite(arguments), *merged, *_joined(arguments)]
    run_id, started = new_run_id(), format_moment(datetime.now(UTC))
    if shards:
        found, unread = read_shards(map(Path, shards))
        if not found:
            why = "; ".join((f"{NONE_LEFT} in {', '.join(shards)}", *unread))
            return _without_verdict(_usual_reports(arguments), "", run_id, why)
        run_id = str(found[0][1]["run"])
    with tempfile.TemporaryDirectory(prefix="readiness-") as place:
        handover = Path(place, "run.json")
        status = _run_pytest(arguments, {RUN_ID: run_id, HANDOVER: str(handover)})
        run = _read(handover)
    if status in PYTESTS_OWN:
        return status
    usual = Path(run["reports"]) if run else _usual_reports(arguments)
    places = (usual, usual / PARTIAL_NAME)
    own = [place for place in places if _read(place / "readiness.json").get("run_id") == run_id]
    if not own and not gate and _INFORMS & {*arguments}:
        return status
    reports = own[0] if own else usual
    model = _read(reports / "readiness.json")
    if run and not own and str(model.get("finished_at", "")) >= started:
        sys.stderr.write(
            f"readiness: NO_VERDICT: run {model['run_id']} has written its reports over those of this run,"
            f" {run_id}, in {reports}\n  next: give each of two runs at once a --readiness-dir of its own\n"
        )
        return NO_VERDICT
    judged = bool(own) and "counts" in model
    code = int(model["exit_code"]) if judged else NO_VERDICT
    if judged and code in (status, NO_VERDICT):
        return code
    if judged and code:
        sys.stderr.write(f"readiness: pytest {_ended(status)}; its report says {model['verdict']}\n")
        return code
    if own and status == NO_VERDICT and not {*model.get("reasons", ())} & {UNFINISHED, UNJUDGED}:
        return code  # the run itself has reported why there is no verdict
    saw = f"although its report says {model['verdict']}" if judged else "before it had judged the run"
    why = f"pytest {_ended(status)} {saw if run else 'and judged no run of a launch plan'}"
    return _without_verdict(reports, run.get("environment", ""), run_id, run.get("why") or why)


def _without_verdict(reports: Path, environment: str, run_id: str, why: str) -> int:
    """Write reports that say that a run has no verdict, and why; return the exit code for that."""
    sys.stderr.write(f"readiness: NO_VERDICT: {why}\n")
    try:
        discard(reports)
        model = unfinished_model(environment, run_id, why)
        write_all(model, reports, Redactor(), formats_in(reports))
        append_summary(model, Redactor())
    except ReadinessError as problem:
        sys.stderr.write(f"{problem}\n")
    return NO_VERDICT


def _run_pytest(arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run the child in its own process group, so that it gets a terminal's signal only once, from here."""
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _: object) -> None:
        for child in started:
            child.send_signal(number)
        if not started:
            early.append(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        command = [sys.executable, "-P", "-m", "pytest", *arguments]
        child = subprocess.Popen(  # noqa: S603
            command, env={**os.environ, **variables}, process_group=0, preexec_fn=_ends_with(os.getpid())
        )
        started.append(child)
        for number in early:
            child.send_signal(number)
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ends_with(owner: int) -> Callable[[], None] | None:
    """Return a function that ends the child with its owner, if the kernel supports that (Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != owner:  # the owner was killed before this
            os.kill(os.getpid(), signal.SIGKILL)

    return bind


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join each option that takes a path with its value: pytest looks for the rootdir in single ones."""
    found: list[str] = []
    for word in arguments:
        if found and found[-1] in _PLACES:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


#: Options with which pytest runs no check, and so leaves the last report alone.
_INFORMS = frozenset(
    {"--version", "-V", "--help", "-h", "--markers", "--fixtures", "--fixtures-per-test", "--cache-show"}
    | {"--collect-only", "--co", "--setup-plan"}
)


def _usual_suite(arguments: Sequence[str]) -> list[str]:
    """Return the options that make pytest run the plan's suite if no path is given."""
    plan = _root(arguments) / PLAN_NAME
    if not plan.is_file():
        return []
    try:
        return ["-o", f"testpaths={shlex.quote(read_plan(plan).suite)}"]
    except ReadinessError:  # pytest reports what is wrong
        return []


def _usual_reports(arguments: Sequence[str]) -> Path:
    """Return the expected directory of reports for a child that ended before it announced it."""
    if named := _value("--readiness-dir", arguments):
        return Path(named)
    root = _root(arguments)
    plan = find_plan(root)
    return (plan.parent if plan else root) / "reports"


def _root(arguments: Sequence[str]) -> Path:
    return Path.cwd() / _value("--rootdir", arguments)


def _value(option: str, arguments: Sequence[str]) -> str:
    """Return the value of an option of the child, "" without it."""
    for word, following in pairwise([*arguments, ""]):
        name, _, value = word.partition("=")
        if name == option and (value or following):
            return value or following
    return ""


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


if __name__ == "__main__":
    sys.exit(main())

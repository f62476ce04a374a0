"""The ``readiness`` command: runs a suite, and shows what runs left; bad input is three lines, exit 4."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn

from .commands import USAGE_ERROR, init, ledger, listing, project, saved, say, verify
from .core.errors import ReadinessError
from .selftest import command
from .supervisor import supervise

SHELLS = ("bash", "zsh", "tcsh")
#: What pytest does with the arguments behind the name; the answer is that of the report.
RUNS = {
    "run": "Run the suite with these arguments of pytest and answer with its verdict",
    "gate": "The same, and refuse a partial run: the form for CI",
}
RUN_EXAMPLES = """\
examples:
  readiness {0} --env staging
  readiness {0} --env staging -n 2 --drills

"""
EXIT_CODES = """\
exit codes of run and gate:
  0 READY   1 BROKEN   2 DEGRADED   3 internal error   4 bad input   6 NO_VERDICT
of all others:
  0 done    1 what was looked for is wrong: a broken chain, a missed fault, a forged verdict
  4 bad input    6 the self-test could not finish
"""


class _Help(argparse.HelpFormatter):
    """Wraps descriptions, and leaves the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """Refuses an argument as the plugin refuses an option: exit 4, for 2 would read as DEGRADED."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **settings})

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n  next: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    ``run`` and ``gate``: that of the report. Else 0; 1 when what was looked for is wrong; 4 for bad input; 6
    when the self-test could not finish.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in RUNS and given[1:2] not in (["-h"], ["--help"]):
        rest = given[2:] if given[1:2] == ["--"] else given[1:]
        answer = partial(_run, rest, gate=given[0] == "gate")
    else:
        options = _parser().parse_args(given)
        answer = partial(options.run, options)
    try:
        code: int = answer()
        sys.stdout.flush()
    except ReadinessError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE_ERROR
    except BrokenPipeError:  # the reader has seen enough, as `head` has; Python would say so at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _run(arguments: Sequence[str], *, gate: bool) -> int:
    """Run pytest; refuse no arguments at all where no plan is, for pytest would collect what lies there."""
    if not arguments:
        project()
    return supervise(arguments, gate=gate)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="readiness",
        description="Turn a pytest smoke run into a launch decision",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"readiness {version('pytest-readiness')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    init.add(commands)
    for name, what in RUNS.items():
        commands.add_parser(
            name,
            help=what,
            description=f"{what}. Without a path it runs the plan's suite.",
            usage=f"readiness {name} [ARGUMENT OF PYTEST ...]",
            epilog=RUN_EXAMPLES.format(name) + EXIT_CODES,
        )
    saved.add(commands)
    listing.add(commands)
    ledger.add(commands)
    verify.add(commands)
    command.add(commands)
    commands.choices["self-test"].set_defaults(run=_self_test)
    shells = commands.add_parser(
        "completion",
        help="Print what completes this command in a shell",
        epilog="examples:\n  readiness completion bash > /etc/bash_completion.d/readiness\n"
        "  readiness completion zsh > ~/.zfunc/_readiness",
    )
    shells.add_argument("shell", choices=SHELLS, help="Which shell")
    shells.set_defaults(run=lambda options: _complete(parser, options.shell))
    return parser


def _complete(parser: argparse.ArgumentParser, shell: str) -> int:
    import shtab  # what no other command needs

    say(shtab.complete(parser, shell))
    return 0


def _self_test(options: argparse.Namespace) -> int:
    found = project()
    return command.run(options, found.plan, found.root, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())

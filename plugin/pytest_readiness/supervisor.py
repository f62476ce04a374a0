"""``readiness run`` and ``gate``: pytest as a child, answered for by the exit code of its report.

A process cannot answer for its own end. ``os._exit(0)``, a timeout that ends the process, a crash, a plugin
that was not loaded: all of them leave an exit status that says nothing of the platform. Here the report of
this very run decides, and without one the answer is NO_VERDICT.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from .core.assess import unfinished_model
from .core.errors import ReadinessError
from .core.formats import HANDOVER, RUN_ID, new_run_id
from .core.model import Verdict
from .core.redaction import Redactor
from .core.verdict import exit_code
from .profile.project import find_plan, read_plan
from .report import PARTIAL_NAME, append_summary, discard, formats_in, write_all

#: pytest's own: an internal error, bad input. What they say is more than NO_VERDICT.
TOLD_BY_PYTEST = frozenset({3, 4})
NO_VERDICT = exit_code(Verdict.NO_VERDICT)
_PR_SET_PDEATHSIG = 1
#: Options whose value is the name of a file or directory.
_PLACES = ("--attest", "--env", "--readiness-dir", "--junitxml", "--junit-xml", "--html")
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def supervise(arguments: Sequence[str], *, gate: bool = True) -> int:
    """Run pytest with these arguments; return the exit code of this run's report, else 6.

    Exit 3 and 4 are the child's own. A report without an answer says how pytest ended. ``gate`` refuses a
    partial run. Where the plan is, arguments without a path mean its suite.
    """
    arguments = [*(["--gate"] if gate else []), *_usual_suite(), *_joined(arguments)]
    run_id = new_run_id()
    with tempfile.TemporaryDirectory(prefix="readiness-") as place:
        handover = Path(place, "run.json")
        status = _run_pytest(arguments, {RUN_ID: run_id, HANDOVER: str(handover)})
        run = _read(handover)
    if status in TOLD_BY_PYTEST:
        return status
    usual = Path(run["reports"]) if run else _usual_reports(arguments)
    places = (usual, usual / PARTIAL_NAME)
    own = [place for place in places if _read(place / "readiness.json").get("run_id") == run_id]
    reports = own[0] if own else usual
    model = _read(reports / "readiness.json")
    judged = bool(own) and "counts" in model
    code = int(model["exit_code"]) if judged else NO_VERDICT
    if judged and code in (status, NO_VERDICT):
        return code
    if judged and code:
        sys.stderr.write(f"readiness: pytest {_ended(status)}; its report says {model['verdict']}\n")
        return code
    saw = f"although its report says {model['verdict']}" if judged else "before it had judged the run"
    why = f"pytest {_ended(status)} {saw if run else 'and judged no run of a launch plan'}"
    sys.stderr.write(f"readiness: NO_VERDICT: {why}\n")
    try:
        discard(reports)
        model = unfinished_model(run.get("environment", ""), run_id, why)
        write_all(model, reports, Redactor(), formats_in(reports))
        append_summary(model, Redactor())
    except ReadinessError as problem:
        sys.stderr.write(f"{problem}\n")
    return NO_VERDICT


def _run_pytest(arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run the child in a group of its own, so that a signal from a terminal comes once, through here."""
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _: object) -> None:
        for child in started:
            child.send_signal(number)
        if not started:
            early.append(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        command = [sys.executable, "-m", "pytest", *arguments]
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
    """Return what binds a child to the life of its owner, where the kernel offers that: on Linux."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != owner:  # it was killed before this
            os.kill(os.getpid(), signal.SIGKILL)

    return bind


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join each option that names a place with its value: pytest looks for the rootdir in every lone word."""
    found: list[str] = []
    for word in arguments:
        if found and found[-1] in _PLACES:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _usual_suite() -> list[str]:
    """Return the options with which pytest runs the plan's suite where no path is given."""
    plan = find_plan(Path.cwd())
    if plan is None or plan.parent != Path.cwd():
        return []
    try:
        return ["-o", f"testpaths={shlex.quote(read_plan(plan).suite)}"]
    except ReadinessError:  # pytest says what is wrong with it
        return []


def _usual_reports(arguments: Sequence[str]) -> Path:
    """Return where reports are expected of a child that did not come so far as to say it."""
    for word, following in pairwise([*arguments, ""]):
        option, _, value = word.partition("=")
        if option == "--readiness-dir" and (value or following):
            return Path(value or following)
    plan = find_plan(Path.cwd())
    return (plan.parent if plan else Path.cwd()) / "reports"


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

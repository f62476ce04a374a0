"""A few of the hostile cases; ``make hostile`` runs them all."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.hostile import answers, bodies, disks, others, runner, streams, timing

CASES = {
    case.name: case for case in (*answers.CASES, *bodies.CASES, *timing.CASES, *streams.CASES, *others.CASES)
}
TROUBLES = {trouble.name: trouble for trouble in (*runner.TROUBLES, *disks.DISKS)}
FEW = (
    *("gzip-bomb", "gzip-nested", "length-10-gb", "desync-healthy-first", "cookie-domain", "redirect-307"),
    *("json-same-name", "json-deep-objects", "integer-5000-digits", "clear-screen", "charset-rot13"),
    *("drip-body", "endless-103", "endless-chunks", "reset-in-chunk", "sse-no-newline", "sse-slow-comments"),
    *("tls-expired", "tls-wrong-host", "aws-endless-100", "aws-html", "postgres-hangs-after-login"),
)
FEW_TROUBLES = ("sigkill-at-runtest_call", "reports-unwritable", "ledger-deep", "locale-c")


def test_every_case_has_its_own_name() -> None:
    assert len(CASES) + len(TROUBLES) == sum(
        len(each)
        for each in (
            *(answers.CASES, bodies.CASES, timing.CASES, streams.CASES, others.CASES),
            *(runner.TROUBLES, disks.DISKS),
        )
    )
    assert len(CASES) + len(TROUBLES) >= 300


def test_hostile_answers_and_runners_are_survived() -> None:
    # In a new process: a process's peak memory includes its parent's at the fork.
    command = [sys.executable, "-m", "tests.hostile", *FEW, *FEW_TROUBLES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = re.search(r"^hostile: (\d+) tried, (\d+) survived", done.stdout, re.MULTILINE)
    assert tried
    assert tried[1] == tried[2]
    assert int(tried[1]) >= len(FEW) + len(FEW_TROUBLES)

"""``make hostile``: every hostile case, how many were tried and how many passed."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.hostile import answers, bodies, disks, others, runner, streams, suites, timing
from tests.hostile.batch import Outcome, try_cases

#: Processes at a time, for two cores.
AT_ONCE = 2
#: How many problems of one run are printed: when all its cases fail, they fail for one reason.
SHOWN = 20
BATCHES = {
    "answers": answers.CASES + bodies.CASES,
    "slow, endless and broken off": timing.CASES + streams.CASES,
    "TLS, sockets, AWS, PostgreSQL": others.CASES,
}


def jobs(words: list[str]) -> list[tuple[str, Callable[[], Outcome]]]:
    """The cases to run, by group; ``words`` select cases whose name contains one of them."""

    def wanted(name: str) -> bool:
        return not words or any(word in name for word in words)

    found: list[tuple[str, Callable[[], Outcome]]] = []
    for group, cases in BATCHES.items():
        chosen = [case for case in cases if wanted(case.name)]
        if chosen:
            found.append((group, partial(try_cases, chosen)))
    found += [
        (group, partial(runner.befall, trouble))
        for group, troubles in (("the runner", runner.TROUBLES), ("its disks", disks.DISKS))
        for trouble in troubles
        if wanted(trouble.name) and (not trouble.mounts or disks.can_mount())
    ]
    found += [
        ("the whole suite", partial(suites.try_suite, platform))
        for platform in suites.PLATFORMS
        if wanted(platform.name)
    ]
    if wanted("two-at-once"):
        found.append(("the runner", runner.two_at_once))
    return found


def main(words: list[str]) -> int:
    """Run all, a line for each group; 1 when a case failed, 2 when no name contains one of the words."""
    started = time.monotonic()
    # A background job, or one under nohup, ignores these signals, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    chosen = jobs(words)
    if not chosen:
        print(f"no case has {' or '.join(words)} in its name; without words, all are tried")
        return 2
    groups = {group: Outcome() for group, _ in chosen}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (group, _), outcome in zip(chosen, pool.map(lambda job: job[1](), chosen), strict=True):
            groups[group].add(outcome)
            for problem in outcome.problems[:SHOWN]:
                print(f"NOT SURVIVED  {problem}", flush=True)
    if not disks.can_mount():
        print(
            "its disks: not tried, as this machine does not allow a process its own mounts (unshare --mount)"
        )
    total = Outcome()
    for group, outcome in groups.items():
        print(f"{group:32} {outcome.tried:4} tried, {outcome.survived:4} survived")
        total.add(outcome)
    print(
        f"hostile: {total.tried} tried, {total.survived} survived, peak memory {total.peak_mb:.0f} MB,"
        f" {time.monotonic() - started:.0f} s"
    )
    return 1 if total.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One-shot ECS tasks that end, which the emulator's never do. Runs inside the emulator's process."""

from __future__ import annotations

import time

RUNS_FOR_S = 0.3


class OneShots:
    """Ends every running task that no service started, after a moment, with an exit code by family."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._codes: dict[str, int | None] = {}

    def decide(self, family: str, exit_code: int | None) -> None:
        """Let the next tasks of a family end with this code, or never (None)."""
        self._codes[family] = exit_code

    def heal(self) -> None:
        """Let every task end with 0 again."""
        self._codes = {}

    def finish(self, *, now: bool = False) -> None:
        """End the tasks whose time has come; with `now`, all that are to end."""
        from ministack.services import ecs

        for arn, task in ecs._tasks.items():
            if task["lastStatus"] != "RUNNING" or task["group"].startswith("service:"):
                continue
            family = task["taskDefinitionArn"].rpartition("/")[2].rpartition(":")[0]
            code = self._codes.get(family, 0)
            ran_for = time.monotonic() - self._since.setdefault(arn, time.monotonic())
            if code is None or (ran_for < RUNS_FOR_S and not now):
                continue
            del self._since[arn]
            reason = "Essential container in task exited"
            ecs._mark_task_stopped(arn, task, reason, "EssentialContainerExited", exit_code=code)

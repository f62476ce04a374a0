"""The emulator as the alterations see it: its clients, and what it is made to do beyond the AWS APIs.

Runs in the emulator's process.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from stack.aws import internals, monitoring_alterations, platform_alterations
from stack.aws.clients import clients
from stack.aws.metrics import Metrics, evaluate
from stack.aws.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stack.aws.load_balancer import LoadBalancer

ONE_SHOT_RUNS_FOR_S = 0.3
# By the names that faults use; each takes the emulator and the fault's parameters.
ALTERATIONS: Mapping[str, Callable[..., None]] = {
    alteration.__name__.replace("_", "-"): alteration
    for alteration in (*platform_alterations.ALTERATIONS, *monitoring_alterations.ALTERATIONS)
}


class Emulator:
    """Applies alterations and heals them."""

    def __init__(self, endpoint: str, load_balancer: LoadBalancer) -> None:
        self.aws = clients(endpoint)
        self.load_balancer = load_balancer
        self.metrics = Metrics()
        self.one_shots = OneShots()
        self.refusals = Refusals()
        self.notifications_lost = False
        internals.judge_alarms_by(evaluate)
        internals.deliver_notifications_if(lambda: not self.notifications_lost)

    def alter(self, name: str, params: Mapping[str, Any]) -> None:
        """Apply the alteration `name`.

        Raises LookupError for an unknown name or for something that is not there to be altered, TypeError for
        parameters that it does not take.
        """
        if name not in ALTERATIONS:
            raise LookupError(f"no alteration {name!r}; known: {', '.join(sorted(ALTERATIONS))}")
        ALTERATIONS[name](self, **params)

    def heal(self) -> None:
        """Undo every alteration that is not part of the emulator's own state."""
        self.metrics.heal()
        self.one_shots.heal()
        self.refusals.heal()
        self.load_balancer.heal()
        self.notifications_lost = False


class OneShots:
    """Ends every running task that no ECS service started, after a moment, with an exit code by family."""

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
        for arn, family in internals.running_one_shots():
            code = self._codes.get(family, 0)
            ran_for = time.monotonic() - self._since.setdefault(arn, time.monotonic())
            if code is not None and (now or ran_for >= ONE_SHOT_RUNS_FOR_S):
                del self._since[arn]
                internals.end_task(arn, code)

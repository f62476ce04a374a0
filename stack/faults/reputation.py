"""A broken reputation service: scores that are none, never move, or move the wrong way."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stack.dixie.reputation import Signal
    from stack.faults.switch import Faults


def score(faults: Faults, true: float | None) -> float | str | None:
    """The score as told."""
    if faults.on("dixie-score-null"):
        return None
    if faults.on("dixie-score-out-of-range"):
        return 1.7
    if faults.on("dixie-score-as-text"):
        return str(true)
    if true is None and faults.on("dixie-invents-scores"):
        return 0.5
    return true


def signal(faults: Faults, true: Signal) -> Signal | None:
    """The event as counted; None if it is thrown away."""
    if faults.on("dixie-score-frozen"):
        return None
    if faults.on("dixie-score-reversed"):
        true = replace(true, score=1.0 - true.score)
    if faults.on("dixie-only-praise"):
        true = replace(true, score=1.0)
    if faults.on("dixie-only-blame"):
        true = replace(true, score=0.0)
    if faults.on("dixie-counts-repeats"):
        true = replace(true, event_id=uuid.uuid4())
    if faults.on("dixie-moves-the-wrong-agent"):
        true = replace(true, agent_id="smoke-agent-002")
    return true


def echoes(faults: Faults, counted: Signal) -> list[Signal]:
    """The event again, for agents that it does not speak of."""
    if not faults.on("dixie-moves-every-agent"):
        return []
    others = {"smoke-agent-001", "smoke-agent-002"} - {counted.agent_id}
    return [replace(counted, agent_id=agent, event_id=uuid.uuid4()) for agent in sorted(others)]

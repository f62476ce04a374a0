"""The courses that a workflow can take: every outcome of the jobs before a job, and whether it then runs.

The rules are GitHub's: without a status function in its condition a job runs only when every job before it
succeeded; a skipped or failed job is no success; `needs.X.result` knows direct needs only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .expressions import STATUS_FUNCTIONS, UNKNOWN, evaluate, parse, truth
from .workflow import Workflow

SUCCESS, FAILURE, CANCELLED, SKIPPED = "success", "failure", "cancelled", "skipped"
Outcomes = dict[str, str]
#: The inputs of a run by name ({} on a push), or UNKNOWN: whatever an operator may choose.
Inputs = Mapping[str, Any] | Any


def courses(workflow: Workflow, target: str, inputs: Inputs) -> Iterator[tuple[Outcomes, Any]]:
    """Yield each combination of outcomes before `target`, and whether it runs then (True, False, UNKNOWN)."""
    before = workflow.ancestors(target)

    def play(outcomes: Outcomes, left: list[str]) -> Iterator[Outcomes]:
        if not left:
            yield outcomes
            return
        starts = runs(workflow, left[0], outcomes, inputs)
        possible = [] if starts is False else [SUCCESS, FAILURE, CANCELLED]
        for outcome in [*possible, *([] if starts is True else [SKIPPED])]:
            yield from play({**outcomes, left[0]: outcome}, left[1:])

    for outcomes in play({}, before):
        yield outcomes, runs(workflow, target, outcomes, inputs)


def runs(workflow: Workflow, name: str, outcomes: Outcomes, inputs: Inputs) -> Any:
    """Whether a job runs once the jobs before it have ended so: True, False or UNKNOWN."""
    job = workflow.jobs[name]
    ended = [outcomes[other] for other in workflow.ancestors(name)]

    def status(function: str) -> Any:
        if function == "always":
            return True
        if function == "success":
            return all(outcome == SUCCESS for outcome in ended)
        if function == "failure":
            return FAILURE in ended
        # A job is also cancelled by its own time limit, which does not cancel the run.
        return UNKNOWN if CANCELLED in ended else False

    def context(name: str) -> Any:
        if name == "needs.*.result":
            return [outcomes[other] for other in job.needs]
        parts = name.split(".")
        if parts[0] == "needs" and len(parts) == 3 and parts[2] == "result":
            return outcomes[parts[1]] if parts[1] in job.needs else None
        return input_value(name, inputs)

    if not job.condition:
        return status("success")
    node = parse(job.condition)
    if not STATUS_FUNCTIONS & set(node.calls()) and not status("success"):
        return False
    return truth(evaluate(node, context, status))


def input_value(name: str, inputs: Inputs) -> Any:
    """The value of a context that is an input of the run; UNKNOWN for every other context.

    `github.event.inputs` holds text, so that a default of false reads 'false' there, which is true.
    """
    as_text = name.startswith("github.event.inputs.")
    if inputs is UNKNOWN or not (as_text or name.startswith("inputs.")):
        return UNKNOWN
    value = inputs.get(name.rpartition(".")[2])
    if as_text and isinstance(value, bool):
        return str(value).lower()
    return value

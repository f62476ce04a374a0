"""G-3, phase operations: a ramp of concurrent calls; how long they take, how many fail, what they cost."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
from pytest_readiness import Environment, Evidence, SafetyViolation, SetupError

from smoke.platform.batch import sampling
from smoke.platform.chaos import TrackedCall, answered, ramp, require_ends, together
from smoke.platform.freeside import Freeside, Tenants, cost_in, nonce, prompt_for
from smoke.platform.invariants import Conservation
from smoke.platform.parameters import Way, run_of
from smoke.platform.spend import percentile

pytestmark = [
    pytest.mark.goal("G-3"),
    pytest.mark.phase("operations"),
    pytest.mark.p1,
    pytest.mark.drill,
    pytest.mark.requires("freeside", "key", "signing", "budget", "invoke", "freeside.invoke", "load"),
    pytest.mark.usefixtures("alone"),
    pytest.mark.timeout(600),
    # a rerun would cost as much again
    pytest.mark.flaky(reruns=0),
]


def test_invoke_under_load(
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    watch: Conservation,
    environment: Environment,
    plan_facts: Mapping[str, Any],
    evidence: Evidence,
) -> None:
    """A ramp of invokes: each gets its own answer, few fail, p95 stays low, and the charges are exact."""
    load, way, limit_ms = environment.load, ways("freeside.invoke"), plan_facts["invoke"]["p95_ms"]
    count = min(load.calls, freeside.journal.affordable())
    if count < load.callers:
        raise SetupError(
            f"not examined: the spend cap leaves {count} calls, fewer than {load.callers} callers: "
            "raise [budget] max_spend_cents"
        )
    evidence.figure("calls of the ramp", count, limit=load.calls)
    sent: dict[str, TrackedCall] = {}
    slow: dict[int, float] = {}
    with sampling(watch.read) as readings:
        for callers, share in ramp(load.callers, count):
            step = {word: _call(way, tenants.main, word) for word in (nonce() for _ in range(share))}
            sent |= step
            began = time.monotonic()
            together([*step.values()], TrackedCall.attempt, at_once=callers)
            p95 = _show(callers, [*step.values()], time.monotonic() - began, limit_ms, evidence)
            slow |= {callers: p95} if p95 > limit_ms else {}
    calls = [*sent.values()]
    require_ends({"freeside.invoke": calls})
    watch.observe_all(readings)
    failed = [call for call in calls if not answered(call.first)]
    budget = len(calls) * load.errors_percent // 100
    evidence.figure("calls of the ramp that failed", len(failed), limit=budget)
    # a failed call may have been charged: repeating its key gets the answer, charged once
    together(failed, lambda call: call.repeat(answered))
    lost = [call.last.outcome for call in failed if not answered(call.last)]
    assert not lost, f"{len(lost)} of {len(failed)} failed calls got no answer when repeated: {lost[0]}"
    mixed = [word for word, call in sent.items() if word not in _text(call)]
    if mixed:
        raise SafetyViolation(f"{len(mixed)} of {len(calls)} answers under load are to another prompt")
    watch.charged([cost_in(call.last.answer) for call in calls if call.last.answer is not None])
    watch.released()
    first = failed[0].first.outcome if failed else ""
    assert len(failed) <= budget, f"{len(failed)} of {len(calls)} calls failed, only {budget} may: {first}"
    for callers, p95 in slow.items():
        raise AssertionError(f"p95 is {p95:.0f} ms with {callers} concurrent calls; the limit is {limit_ms}")


def _call(way: Way, tenant: str, word: str) -> TrackedCall:
    key = str(uuid.uuid4())
    return TrackedCall(key, partial(way.post, way.body(prompt_for(word)), tenant, key=key))


def _text(call: TrackedCall) -> str:
    assert call.last.answer is not None
    return run_of(call.last.answer)[0]


def _show(
    callers: int, calls: list[TrackedCall], took_s: float, limit_ms: float, evidence: Evidence
) -> float:
    """Record one step of the ramp; return its p95 in ms."""
    times = [(call.first.ended - call.first.began) * 1000 for call in calls if answered(call.first)]
    assert times, f"no call is answered with {callers} concurrent calls: {calls[0].first.outcome}"
    for percent in (50, 95, 99):
        limit = limit_ms if percent == 95 else None
        evidence.figure(
            f"p{percent} at {callers} callers", round(percentile(times, percent)), "ms", limit=limit
        )
    evidence.figure(f"answers a second at {callers} callers", round(len(times) / took_s, 1), "/s")
    return percentile(times, 95)

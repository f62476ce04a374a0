"""Broken answers: to an invoke, and to the question what a budget is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stack.common.http import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stack.faults.switch import Faults

Body = dict[str, Any]
_SOME_TRACE = "00000000-0000-4000-8000-000000000000"


class Answers:
    """What invoke tells its caller."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._desk: Any = None

    def before(self, *, stream: bool) -> None:
        """Fail before anything is done."""
        faults = self._faults
        if faults.on("freeside-stream-missing" if stream else "freeside-invoke-missing"):
            raise ApiError(404, "NOT_FOUND", "No such resource")
        if faults.on("freeside-invoke-500"):
            raise RuntimeError("the fault freeside-invoke-500 is on")
        if faults.tick("freeside-invoke-flaky") == 1:
            raise ApiError(502, "UPSTREAM_ERROR", "The inference service gave no usable answer")
        every = faults.number("freeside-fails-every-third", "every", 3)
        if every is not None and faults.tick("freeside-fails-every-third") % int(every) == 0:
            raise ApiError(502, "UPSTREAM_ERROR", "The inference service gave no usable answer")

    def ids(self, headers: dict[str, str], *, keyed: bool) -> dict[str, str]:
        """The ids of a call as told: all of them, or without the one that is switched off."""
        if self._faults.on("freeside-hides-trace-ids"):
            headers = {**headers, "x-trace-id": ""}
        if not keyed and self._faults.on("freeside-makes-no-keys"):
            headers = {**headers, "x-idempotency-key": ""}
        return headers

    async def told(self, answer: Body) -> Body:
        """The answer as told: untouched, or broken in the way that is switched on."""
        for name, change in _ANSWERS.items():
            if self._faults.on(f"freeside-{name}"):
                answer = change({**answer, "usage": {**answer["usage"]}})
        if self._faults.on("freeside-mixes-answers"):
            # One desk for all tenants: whoever puts an answer down last is read by everybody.
            self._desk = answer["content"]
            await asyncio.sleep(0.05)
            answer = {**answer, "content": self._desk}
        return answer


def budget(faults: Faults, body: Body) -> Body:
    """The figures as told; raises when the route is gone."""
    if faults.on("freeside-budget-missing"):
        raise ApiError(404, "NOT_FOUND", "No such resource")
    reads = faults.number("freeside-budget-dies", "after", 3)
    if reads is not None and faults.tick("freeside-budget-dies") > reads:
        raise RuntimeError("the fault freeside-budget-dies is on")
    for name, change in _BUDGETS.items():
        if faults.on(f"freeside-budget-{name}"):
            body = change(dict(body))
    return body


def _set(name: str, value: Any) -> Callable[[Body], Body]:
    return lambda body: {**body, name: value}


def _without(name: str) -> Callable[[Body], Body]:
    return lambda body: {key: value for key, value in body.items() if key != name}


def _usage(**figures: Any) -> Callable[[Body], Body]:
    return lambda body: {**body, "usage": {**body["usage"], **figures}}


def _cost(change: Callable[[int], Any]) -> Callable[[Body], Body]:
    return lambda body: _usage(costMicro=change(int(body["usage"]["costMicro"])))(body)


def _fractional(body: Body) -> Body:
    return {**body, "committed": body["committed"] + 0.5, "spentCents": body["spentCents"] + 0.5}


def _negative(body: Body) -> Body:
    return {**body, "reserved": -1, "reservedMicro": "-10000"}


def _overdrawn(body: Body) -> Body:
    limit = body["monthlyBudgetCents"]
    return {**body, "reserved": limit + 1, "reservedMicro": str((limit + 1) * 10_000)}


_ANSWERS: dict[str, Callable[[Body], Body]] = {
    "answers-null": _set("content", None),
    "answers-empty": _set("content", ""),
    "answers-constant": _set("content", "The answer that was cached"),
    "serves-wrong-model": _set("model", "some-other-model"),
    "omits-usage": _without("usage"),
    "omits-trace": _without("traceId"),
    "repeats-trace": _set("traceId", _SOME_TRACE),
    "reports-no-tokens": _usage(promptTokens=0, completionTokens=0),
    "reports-no-cost": _usage(costMicro="0"),
    "reports-cost-as-number": _cost(int),
    "reports-cost-in-dollars": _cost(lambda cost: f"{cost / 1_000_000:.6f}"),
    "understates-cost": _cost(lambda cost: str(cost // 10)),
}
_BUDGETS: dict[str, Callable[[Body], Body]] = {
    "fractional": _fractional,
    "null": _set("reserved", None),
    "incomplete": _without("reservedMicro"),
    "in-words": lambda body: {**body, "committed": str(body["committed"])},
    "negative": _negative,
    "inconsistent": lambda body: {**body, "spentCents": body["spentCents"] + 7},
    "rounded-up": lambda body: {
        **body,
        "committed": body["committed"] + 1,
        "spentCents": body["committed"] + 1,
    },
    "overdrawn": _overdrawn,
    "of-another-period": _set("period", "1999-12"),
    "of-another-tenant": _set("communityId", "test-community-staging-002"),
}

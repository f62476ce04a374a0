"""The rules of the contract: each with the routes on which it holds, and the checks that try it there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .model import ROUTES, accesses

#: Every way in with a token: a route, and the kind of token where it accepts several.
WITH_TOKEN = tuple(access.id for access in accesses())
#: Every route, once for all of its dialects. x402 is deferred in the plan: nothing asks it yet.
EVERYWHERE = tuple(dict.fromkeys(route.name for route in ROUTES))
NOT_ASKED = {"freeside.x402": "x402 is deferred in the plan (G-6): no check calls it"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule in words, with its place in the contract.

    ``checks`` are the ids of the checks that try it, with `{route}` and `{service}` for those of a route.
    ``unchecked`` gives the reason why there is none, by route.
    """

    name: str
    says: str
    routes: tuple[str, ...]
    checks: tuple[str, ...]
    unchecked: Mapping[str, str] = field(default_factory=dict)

    def pairs(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each route with the ids of the checks that try the rule there; none where a reason is written."""
        for route in self.routes:
            named = () if route in self.unchecked else self.checks
            service = route.partition(".")[0]
            yield route, tuple(check.format(route=route, service=service) for check in named)


RULES = (
    Rule(
        "answers",
        "status, members and headers of an answer, the form of a refusal, the request id (1 to 3)",
        EVERYWHERE,
        ("operations/answers-keep-the-contract[{service}]",),
        NOT_ASKED,
    ),
    Rule(
        "secrets",
        "no answer shows a credential or a key",
        EVERYWHERE,
        ("operations/answers-show-no-secret[{service}]",),
        NOT_ASKED,
    ),
    Rule(
        "pool",
        "a model outside the token's effective pools is refused (1.1, 1.3)",
        ("freeside.invoke",),
        ("invoke/pool-out-of-reach-is-refused[free-reviewer]",),
    ),
    Rule(
        "budget",
        "a call beyond the budget is refused with 402 and changes nothing (1.3, 1.5)",
        ("freeside.invoke", "finn.invoke"),
        ("budget/over-budget-is-refused", "budget/direct-call-over-budget-is-refused"),
    ),
)

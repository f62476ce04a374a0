"""What derived checks of the reputation intake have in common: who offers, what is judged, what stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import httpx

from smoke.contract.intake import Offer, Verdict

from .answers import require_json_error, require_status
from .attacks import mint_command
from .batch import Case

#: How a service refuses what is no request of the contract (1.3). Dixie's 422 says the same.
TURNED_DOWN = (400, 413, 415, 422)
#: How a service answers a method that it does not have (1.3).
NO_SUCH_ROUTE = (404, 405)
#: An agent that no check reads: whatever may count is offered for it.
ELSEWHERE = "smoke-elsewhere"
RULES = {
    Verdict.ACCEPTED: "what the contract describes is taken",
    Verdict.REFUSED: "anything else is refused, not corrected",
    Verdict.OPEN: "what the contract leaves open is taken or refused",
}


def cases(offers: Iterable[Offer], send: Callable[[bytes], httpx.Response], route: str) -> list[Case]:
    """One case for each offer to a route, judged by the contract's verdict on it."""
    return [
        Case(
            offer.name,
            RULES[verdict],
            partial(send, offer.body),
            judging(verdict),
            partial(mint_command, route),
        )
        for offer, verdict in ((offer, offer.verdict) for offer in offers)
    ]


def judging(verdict: Verdict) -> Callable[[httpx.Response], None]:
    """Raises for an answer to a request of this verdict that the contract does not allow."""
    statuses = {
        Verdict.ACCEPTED: (202,), Verdict.REFUSED: TURNED_DOWN, Verdict.OPEN: (202, *TURNED_DOWN),
    }[verdict]  # fmt: skip
    return answering(*statuses)


def answering(*statuses: int) -> Callable[[httpx.Response], None]:
    """Raises for an answer with another status, and for an error without its form."""

    def judge(answer: httpx.Response) -> None:
        require_status(answer, *statuses)
        if answer.status_code in TURNED_DOWN:
            require_json_error(answer)

    return judge

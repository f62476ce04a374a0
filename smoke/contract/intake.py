"""The reference intake of reputation (contract 3): what an event is, which counts, where a score may go."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .schemas import UUID

#: What a rating at Freeside is worth; the weight of `excellent` is the larger one.
QUALITIES = {"bad": 0.0, "good": 1.0, "excellent": 1.0}
AGENT = r"[A-Za-z0-9_-]+"
#: Longer names are legal, and a service may have a limit of its own.
USUAL_CHARS = 64
#: A score this near to an event's may round to it.
_NEAR = 1e-6
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = re.compile(_DATE + r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z")
_SECONDS = range(1_000_000_000, 10_000_000_000)


class Verdict(Enum):
    """What the contract says of a request. ``OPEN``: nothing, a service may take it or leave it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Event:
    """A quality event: which, about which agent, with which score in [0, 1]."""

    event_id: str
    agent: str
    score: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The verdict on one request, with the member that decided it. Only what is not refused has an event."""

    verdict: Verdict
    member: str = ""
    event: Event | None = None


class _TwiceNamed(dict[str, Any]):
    """An object in which a member is there twice: two readers may read two values."""


def _word(value: Any) -> Verdict:
    """A text of which the contract says no more: a plain word is one, all else is left to the service."""
    if not isinstance(value, str):
        return Verdict.REFUSED
    return Verdict.ACCEPTED if re.fullmatch(AGENT, value) and len(value) <= USUAL_CHARS else Verdict.OPEN


def _score(value: Any) -> Verdict:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Verdict.ACCEPTED if number and 0 <= value <= 1 else Verdict.REFUSED


def _event_id(value: Any) -> Verdict:
    if not isinstance(value, str) or not re.fullmatch(UUID, value):
        return Verdict.REFUSED
    return Verdict.ACCEPTED if value == value.lower() else Verdict.OPEN


def agent(value: Any) -> Verdict:
    """Whether a value can name an agent."""
    if not isinstance(value, str) or not re.fullmatch(AGENT, value):
        return Verdict.REFUSED
    return Verdict.ACCEPTED if len(value) <= USUAL_CHARS else Verdict.OPEN


def _timestamp(value: Any) -> Verdict:
    """RFC 3339 in UTC or whole seconds. What holds a date in another form is left to the service."""
    if isinstance(value, str):
        if _TIME.fullmatch(value):
            return Verdict.ACCEPTED
        return Verdict.OPEN if re.search(_DATE, value) else Verdict.REFUSED
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Verdict.ACCEPTED if isinstance(value, int) and value in _SECONDS else Verdict.OPEN
    return Verdict.REFUSED


def routing_key(value: Any) -> Verdict:
    """Whether a value can name an agent to the query and to Freeside: `nft:<id>`."""
    if not isinstance(value, str) or not value.startswith("nft:"):
        return Verdict.REFUSED
    return agent(value.removeprefix("nft:"))


def _among(*values: str) -> Callable[[Any], Verdict]:
    return lambda value: Verdict.ACCEPTED if isinstance(value, str) and value in values else Verdict.REFUSED


#: Member by member, what an event and a rating must have.
EVENT: Mapping[str, Callable[[Any], Verdict]] = {
    "type": _among("quality_signal"),
    "score": _score,
    "event_id": _event_id,
    "agent_id": agent,
    "collection_id": _word,
    "timestamp": _timestamp,
}
RATING: Mapping[str, Callable[[Any], Verdict]] = {
    "routingKey": routing_key,
    "quality": _among(*QUALITIES),
    "source": _word,
}


def read_event(body: bytes) -> Reading:
    """What the contract says of a body that is posted to Dixie as an event."""
    document, reading = _read(body, EVENT)
    if reading.verdict is Verdict.REFUSED:
        return reading
    event = Event(document["event_id"].lower(), document["agent_id"], float(document["score"]))
    return Reading(reading.verdict, reading.member, event)


def read_rating(body: bytes) -> Reading:
    """What the contract says of a body that is posted to Freeside as a rating; its event has no id yet."""
    document, reading = _read(body, RATING)
    if reading.verdict is Verdict.REFUSED:
        return reading
    event = Event("", document["routingKey"].removeprefix("nft:"), QUALITIES[document["quality"]])
    return Reading(reading.verdict, reading.member, event)


def _read(body: bytes, members: Mapping[str, Callable[[Any], Verdict]]) -> tuple[Any, Reading]:
    try:
        document = json.loads(body.decode(), parse_constant=_refused_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return None, Reading(Verdict.REFUSED, "body")
    if not isinstance(document, dict):
        return None, Reading(Verdict.REFUSED, "body")
    found = {name: check(document.get(name)) for name, check in members.items()}
    for verdict in (Verdict.REFUSED, Verdict.OPEN):
        for name, each in found.items():
            if each is verdict:
                return document, Reading(verdict, name)
    if isinstance(document, _TwiceNamed) or document.keys() - members.keys():
        return document, Reading(Verdict.OPEN, "body")
    return document, Reading(Verdict.ACCEPTED)


def _refused_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else _TwiceNamed(members)


class Intake:
    """What has counted so far, over all agents: an id counts once, whatever comes with it."""

    def __init__(self) -> None:
        self._counted: set[str] = set()

    def offer(self, event: Event) -> bool:
        """Whether an accepted event counts now."""
        known = event.event_id in self._counted
        self._counted.add(event.event_id)
        return not known


def may_become(before: float | None, counted: Iterable[float], after: float | None) -> bool:
    """Whether a score may be ``after``, when it was ``before`` and events of these scores counted since.

    Each event pulls the score toward its own; how far is the service's. None is the score of an agent that
    has none; the contract leaves it to the service whether its first events give it one.
    """
    pulls = list(counted)
    if not pulls or before is None:
        return after == before or (bool(pulls) and after is not None and 0 <= after <= 1)
    if after is None or not min(before, *pulls) <= after <= max(before, *pulls):
        return False
    if min(pulls) - before > _NEAR:
        return after > before
    if before - max(pulls) > _NEAR:
        return after < before
    return True


def far_from(before: float | None) -> float:
    """A score that is far from ``before``: an event of it moves the agent visibly."""
    return 0.0 if before is not None and before > 0.5 else 1.0


def pull(before: float, after: float, toward: float) -> float:
    """Which part of its way toward an event's score a score went; NaN where it was there already."""
    return (after - before) / (toward - before) if toward != before else math.nan

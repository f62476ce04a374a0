"""The reference intake of reputation (contract 3): what an event is, which count, how a score may move.

Also events and ratings that are almost valid, each with its verdict.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from .neighbours import LIMITS, documents, strings, types
from .schemas import UUID

#: The scores of ratings at Freeside; the weight of `excellent` is the larger one.
QUALITIES = {"bad": 0.0, "good": 1.0, "excellent": 1.0}
AGENT = r"[A-Za-z0-9_-]+"
#: Longer names are legal, but a service may have its own limit for the name without `nft:`.
USUAL_CHARS = 64
#: A score this near to an event's may round to it.
_NEAR = 1e-6
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = re.compile(_DATE + r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z")
_SECONDS = range(1_000_000_000, 10_000_000_000)


class Verdict(Enum):
    """The contract's verdict on a request. ``OPEN``: undecided, a service may accept or refuse it."""

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
    """The verdict on one request, with the member that decided it. A refused request has no event."""

    verdict: Verdict
    member: str = ""
    event: Event | None = None


class _TwiceNamed(dict[str, Any]):
    """An object with a repeated member: two readers may read different values."""


def _word(value: Any) -> Verdict:
    """A text that the contract does not define further: a plain word is valid, anything else is open."""
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
    """RFC 3339 in UTC or whole seconds. Dates in another form are left to the service."""
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
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else _TwiceNamed(members)


def may_become(before: float | None, counted: Iterable[float], after: float | None) -> bool:
    """Whether a score may be ``after`` if it was ``before`` and events with these scores have counted since.

    Each event pulls the score toward its own; the service decides how far. None means that the agent has no
    score; the contract lets the service decide whether its first events give it one.
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
    """A score far from ``before``: an event with it moves the agent visibly."""
    return 0.0 if before is not None and before > 0.5 else 1.0


def pull(before: float, after: float, toward: float) -> float:
    """The fraction of the distance to an event's score that a score moved; NaN if there was no distance."""
    return (after - before) / (toward - before) if toward != before else math.nan


#: Scores just beyond the edges of their range, as JSON; some are not numbers to all readers.
_SCORES = (
    *("-0.0", "0.0", "1.0", "0.1", "5e-324", "-5e-324", "1.0000000000000002", "0.9999999999999999", "1.5"),
    *("2", "-1", "100", "1e308", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "01", ".5", "1.", "+1"),
)
#: Members that are tried only with other types: other spellings are also valid, or have a separate list.
_BY_TYPE = frozenset({"collection_id", "source", "timestamp", "routingKey"})
#: Names that a program may take for none.
_LIKE_NONE = ("null", "00")


@dataclass(frozen=True, slots=True)
class Offer:
    """A body for the intake, with the name of what is special about it and the contract's verdict."""

    name: str
    body: bytes
    verdict: Verdict


def quality_signal(agent: str, score: float, at: str) -> dict[str, Any]:
    """A new event about the quality of an agent's work; ``at`` in RFC 3339."""
    return {
        "type": "quality_signal",
        "score": score,
        "event_id": str(uuid.uuid4()),
        "agent_id": agent,
        "collection_id": "smoke",
        "timestamp": at,
    }


def rating(agent: str, quality: str, source: str = "smoke-test") -> dict[str, Any]:
    """A rating of an agent's work."""
    return {"routingKey": f"nft:{agent}", "quality": quality, "source": source}


def events(subject: str, elsewhere: str, score: float, at: str) -> list[Offer]:
    """Events near one that would pull ``subject`` to ``score``; those that may count are for ``elsewhere``.

    An agent with a name similar to ``subject`` is another one: such an event counts only for that one.
    """
    event = quality_signal(subject, score, at)
    texts = [(name, near) for member in event for name, near in _near(event, member, 1.0 - score)]
    edges = [f"{value!r}" for value, _ in LIMITS["score"].edges()]
    texts += [(f"score {text}", _with(event, "score", text)) for text in (*edges, *_SCORES)]
    texts += [(f"agent_id {key!r}", _with(event, "agent_id", json.dumps(key))) for key in _prefixed(subject)]
    texts += _named(event)
    texts += [(f"timestamp {text}", _with(event, "timestamp", text)) for text in _times(at)]
    texts += _bodies(event)
    return [*_offers(event, texts, read_event, "agent_id", elsewhere)]


def ratings(subject: str, elsewhere: str) -> list[Offer]:
    """Ratings near one of ``subject``, like ``events``."""
    document = rating(subject, "good")
    texts = [(name, near) for member in document for name, near in _near(document, member, "bad")]
    for quality in QUALITIES.keys() - {"good"}:
        texts += _near(rating(subject, quality), "quality", "good")
    texts += [
        (f"routingKey {key!r}", _with(document, "routingKey", json.dumps(key)))
        for key in routing_keys(subject)
    ]
    texts += _named(document) + _bodies(document)
    return [*_offers(document, texts, read_rating, "routingKey", f"nft:{elsewhere}")]


def _prefixed(agent: str) -> tuple[str, ...]:
    """An agent as other systems would write it; an event contains the bare name."""
    return f"nft:{agent}", f"NFT:{agent}", f"agent:{agent}", f"smoke/{agent}", f"{agent}:1"


def longest_name(agent: str) -> str:
    """A name that begins like that of ``agent``, of the maximum length that every service accepts."""
    return agent.ljust(USUAL_CHARS, "x")


def _named(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The document with other names and words: of the maximum length that every service accepts, or odd."""
    prefixes = {"agent_id": "", "collection_id": "", "routingKey": "nft:", "source": ""}
    words = {f"of {USUAL_CHARS} characters": longest_name("x")}
    words |= {f"that is the word {word}": word for word in _LIKE_NONE}
    return [
        (f"{name} {what}", _with(document, name, json.dumps(prefix + word)))
        for name, prefix in prefixes.items()
        if name in document
        for what, word in words.items()
    ]


def shortest_key(agent: str) -> str:
    """The routing key of an agent whose name has one character, another one than ``agent``."""
    return f"nft:{agent[0] if len(agent) > 1 else 'x'}"


def routing_keys(agent: str) -> list[str]:
    """Routing keys near the one of ``agent``, without repetitions and without the key itself."""
    own = f"nft:{agent}"
    found = [near.value for near in strings(own)] + [f"nft:{near.value}" for near in strings(agent)]
    found.append(f"nft:{longest_name(agent)}")
    found += [
        agent,
        f"nft::{agent}",
        f"nft:nft:{agent}",
        f"nft:{agent}:1",
        f"nft:0xabc:{agent}",
        f"nft/{agent}",
    ]
    found += [f"NFT:{agent}", f"token:{agent}", f"nft:{agent}&x=1", f"nft:{agent}#x", f"x nft:{agent} x"]
    return [key for key in dict.fromkeys(found) if key != own]


def _near(document: Mapping[str, Any], member: str, other: Any) -> Iterator[tuple[str, str]]:
    if member in _BY_TYPE:
        rest = {name: value for name, value in document.items() if name != member}
        yield f"{member} missing", json.dumps(rest)
        for kind in types(document[member]):
            yield f"{member} {kind.name}", json.dumps(rest | {member: kind.value})
        for name, odd in (("NUL", "\0"), ("half a character", "\ud800")):
            yield f"{member} with {name}", json.dumps(rest | {member: f"{document[member]}{odd}"})
        return
    for near in documents(document, member, other):
        yield f"{member} {near.name}", near.value


def _offers(
    document: Mapping[str, Any],
    texts: list[tuple[str, str]],
    read: Callable[[bytes], Reading],
    name: str,
    elsewhere: str,
) -> Iterator[Offer]:
    for case, text in texts:
        found = read(text.encode())
        # the same id twice would be the same event
        if "event_id" in document and not case.startswith("event_id"):
            text = text.replace(document["event_id"], str(uuid.uuid4()))
        if found.verdict is not Verdict.REFUSED and not case.startswith(name):
            text = text.replace(json.dumps(document[name]), json.dumps(elsewhere))
        yield Offer(case, text.encode(), found.verdict)


def _with(document: Mapping[str, Any], name: str, raw: str) -> str:
    """The object as text, one member being this JSON."""
    return json.dumps({**document, name: "\0"}).replace(json.dumps("\0"), raw)


def _times(at: str) -> list[str]:
    """Timestamps as JSON: legal forms, an hour ago, and neighbours of them."""
    moment = datetime.fromisoformat(at)
    ago = (moment - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    texts = [at.replace("Z", ".123456Z"), ago, at.replace("Z", "+00:00"), at.replace("T", " "), at.lower()]
    seconds = int(moment.timestamp())
    numbers = [seconds, seconds - 3600, seconds * 1000, seconds + 0.5, -1]
    return [json.dumps(value) for value in (*texts, at[:10], "now", "12:00", *numbers)]


def _bodies(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The document in other wrappings, and values that are not documents."""
    text = json.dumps(document)
    pairs = "&".join(f"{name}={value}" for name, value in document.items())
    return [
        ("body unchanged", text),
        ("body with another order", json.dumps(dict(sorted(document.items(), reverse=True)))),
        ("body with white space", f"\n {json.dumps(document, indent=2)} \n"),
        ("body with one member more", json.dumps({**document, "note": "smoke"})),
        ("body empty", ""),
        ("body null", "null"),
        ("body true", "true"),
        ("body an empty object", "{}"),
        ("body an empty list", "[]"),
        ("body in a list", f"[{text}]"),
        ("body in a string", json.dumps(text)),
        ("body in an object", json.dumps({"event": document})),
        ("body cut short", text[:-1]),
        ("body twice", text + text),
        ("body with a tail", text + "x"),
        ("body with a comment", text[:-1] + "/* */}"),
        ("body in single quotes", text.replace('"', "'")),
        ("body as a form", pairs),
    ]

"""Events and ratings that are near to what the contract takes, each with what it says of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .boundaries import LIMITS
from .intake import QUALITIES, Reading, Verdict, read_event, read_rating
from .neighbours import documents, strings, types

#: Scores beside the edges of their range, as JSON: some are no numbers to all readers.
_SCORES = (
    *("-0.0", "0.0", "1.0", "0.1", "5e-324", "-5e-324", "1.0000000000000002", "0.9999999999999999", "1.5"),
    *("2", "-1", "100", "1e308", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "01", ".5", "1.", "+1"),
)
#: Members that are tried with other types alone: other spellings are as good, or have a list of their own.
_BY_TYPE = frozenset({"collection_id", "source", "timestamp", "routingKey"})


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


def rating(agent: str, quality: str) -> dict[str, Any]:
    """A rating of an agent's work."""
    return {"routingKey": f"nft:{agent}", "quality": quality, "source": "smoke-test"}


def events(subject: str, elsewhere: str, score: float, at: str) -> list[Offer]:
    """Events near to one that would pull ``subject`` to ``score``; those that may count do so ``elsewhere``.

    An agent that is merely spelled like ``subject`` is another one: such an event counts for that one alone.
    """
    event = quality_signal(subject, score, at)
    texts = [(name, near) for member in event for name, near in _near(event, member, 1.0 - score)]
    edges = [f"{value!r}" for value, _ in LIMITS["score"].edges()]
    texts += [(f"score {text}", _with(event, "score", text)) for text in (*edges, *_SCORES)]
    texts += [(f"agent_id {key!r}", _with(event, "agent_id", json.dumps(key))) for key in _prefixed(subject)]
    texts += [(f"timestamp {text}", _with(event, "timestamp", text)) for text in _times(at)]
    texts += _bodies(event)
    return [*_offers(event, texts, read_event, "agent_id", elsewhere)]


def ratings(subject: str, elsewhere: str) -> list[Offer]:
    """Ratings near to one of ``subject``, as ``events`` has them."""
    document = rating(subject, "good")
    texts = [(name, near) for member in document for name, near in _near(document, member, "bad")]
    for quality in QUALITIES.keys() - {"good"}:
        texts += _near(rating(subject, quality), "quality", "good")
    texts += [
        (f"routingKey {key!r}", _with(document, "routingKey", json.dumps(key)))
        for key in routing_keys(subject)
    ]
    texts += _bodies(document)
    return [*_offers(document, texts, read_rating, "routingKey", f"nft:{elsewhere}")]


def _prefixed(agent: str) -> tuple[str, ...]:
    """An agent as other systems would write it: in an event it stands alone."""
    return f"nft:{agent}", f"NFT:{agent}", f"agent:{agent}", f"smoke/{agent}", f"{agent}:1"


def routing_keys(agent: str) -> list[str]:
    """Routing keys near to the one of ``agent``, without repetitions; the key itself is not among them."""
    own = f"nft:{agent}"
    found = [near.value for near in strings(own)] + [f"nft:{near.value}" for near in strings(agent)]
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
    """The document in other wrappings, and what is no document."""
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

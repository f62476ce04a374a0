"""The rule for every answer: each status, member and header of the contract, whatever the request."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

from .model import ROUTES
from .schemas import (
    CODE_MEMBERS,
    CODES,
    COMMUNITY_BUDGET,
    DIRECT,
    EVENTS,
    GATEWAY_BUDGET,
    INVOKE,
    JSON,
    JWK_SET,
    KEY_SET,
    PROBLEM,
    REFUSAL_FORM,
    REFUSALS,
    REPLIES,
    STREAM,
    STREAM_EVENTS,
    Reply,
    RouteKey,
    Violation,
    is_path,
    matches,
    record,
    route_key,
    shown,
    violations,
)

#: A load balancer's statuses for a service that it cannot reach, parse or wait for. If they are not JSON,
#: they are not answers of the service.
GATEWAY = frozenset({400, 408, 411, 414, 431, 502, 503, 504})
#: Statuses of a firewall or proxy for an unusual method, and for a target that looks like an attack.
FIREWALL = frozenset({400, 403, 405, 406, 501})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: A path that is spelled differently from the contract's.
_OTHERWISE = re.compile("%|//|./$|[A-Z]")
_PLAIN = re.compile(r"(?!.*\.\.)(?:/?[\w:?=&.@~-])*/?", re.ASCII)
_PRINTABLE = re.compile(rb"[ -~]*")
MICRO_PER_CENT = 10_000
#: Minimum number of content events of a complete stream, even for a short answer (contract 1.4).
LEAST_CONTENTS = 2
#: Longest request id that every service accepts.
USUAL_ID = 64
#: Longest part of a body that is searched for secrets.
SEARCHED = 64 * 1024

#: A word that only one prompt of the suite contains.
NONCE = re.compile("nonce[0-9a-f]{12}")
#: Credentials and keys, which no answer may show. Findings never repeat their text. Before each pattern is a
#: text that every match contains: few answers have it, and searching for it is fast.
SECRETS: Mapping[str, tuple[str, re.Pattern[str]]] = {
    "a private key": ("-----BEGIN ", re.compile("-----BEGIN [A-Z ]*PRIVATE KEY")),
    "a token": (".eyJ", re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.")),
    # Other random text may contain the prefix: a key begins a word, or follows an escape.
    "an API key": ("dxk_", re.compile(
        r"(?:(?<![A-Za-z0-9_-])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))dxk_[A-Za-z0-9_-]{8,}"
    )),
    "an AWS key": ("IA", re.compile(r"\bA[KS]IA[A-Z0-9]{16}\b")),
    "a DSN with a password": ("://", re.compile(r"postgres(?:ql)?://[^\s:/@]+:[^\s@]+@", re.IGNORECASE)),
}  # fmt: skip
#: Internals that no refusal may show: traces, paths, queries, places of keys. The address of a page may have
#: such a path, and advice may look like a query: "select one from the list".
INTERNALS = re.compile(
    r"Traceback|stack\s*trace|\.py\b|\.[jt]s:\d|node_modules|site-packages|(?<![\w.-])/(?:app|usr|home|srv)/\w[\w.-]*[/.]\w"
    r"|-----BEGIN|PRIVATE KEY|postgres(?:ql)?://|secretsmanager"
    r"|(?-i:SELECT\s.{1,200}?\sFROM\s)|SELECT\s.{1,200}?\sFROM\s.{1,100}?\sWHERE\s"
    r"|password[\"'\\]*\s*[:=]\s*[\"'\\]*\w",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event of a stream, with its data as a JSON value; None if it is not JSON."""

    name: str
    id: str
    document: Any


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer. Header names are in lower case, ``path`` is without its query.

    ``document`` is the JSON value of the body; if it is not JSON, ``problem`` says why. A stream has its
    ``events`` as far as they were read, and a ``body`` only if it was read to the end.
    """

    service: str
    method: str
    path: str
    sent: Mapping[str, str]
    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    document: Any = None
    problem: str = ""
    events: tuple[SentEvent, ...] = ()
    #: whether a firewall may refuse the request
    odd: bool = False

    @property
    def media(self) -> str:
        """The media type of the answer, in lower case and without parameters."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def is_json(self) -> bool:
        """Whether its content type is JSON; a refusal may also be a problem document."""
        return self.media == JSON or (self.media == PROBLEM and self.status >= 400)

    @property
    def said(self) -> str:
        """Headers and body; the texts of a stream's events are joined, as a word may be in two of them."""
        parts = [each.document for each in self.events if isinstance(each.document, dict)]
        streamed = "".join(str(part.get("text", part)) for part in parts)
        return f"{self.headers} {streamed or self.body.decode(errors='replace')}"


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """One rule that an answer breaks."""

    rule: str
    violation: Violation


def judge(exchange: Exchange) -> Iterator[BrokenRule]:
    """Every rule of the contract that an answer breaks on its own.

    Not judged are a gateway's answers in place of a service, a firewall's refusal of an unknown path or an
    odd request, a proxy's redirect from another spelling of a path to the plain one, and OPTIONS, which the
    contract does not mention.
    """
    before = exchange.status in GATEWAY or (exchange.status == 403 and _is_nowhere(exchange))
    before = before or (exchange.odd and exchange.status in FIREWALL)
    before = before or (300 <= exchange.status < 400 and _OTHERWISE.search(exchange.path) is not None)
    if exchange.method == "OPTIONS" or (before and not exchange.is_json):
        return
    route = route_key(exchange.service, exchange.method, exchange.path)
    reply = REPLIES.get(route, {}).get(exchange.status) if route else None
    if reply is INVOKE and EVENTS in exchange.sent.get("accept", ""):
        reply = STREAM
    for rule, check in RULES.items():
        for violation in check(exchange, route, reply):
            yield BrokenRule(rule, violation)


def is_odd(method: str, target: str, headers: Iterable[bytes] = (), *, body: bool = False) -> bool:
    """Whether no client of the contract sends such a request: ``target`` is its path with its query.

    ``headers`` are the values of its headers.
    """
    if method not in _METHODS or (body and method in ("GET", "HEAD")):
        return True
    plain = "%2f" not in target.lower() and _PLAIN.fullmatch(unquote(target))
    return not plain or _PRINTABLE.fullmatch(b"".join(headers)) is None


Found = Iterator[Violation]


def _is_nowhere(exchange: Exchange) -> bool:
    return exchange.service == "freeside" and not is_path(exchange.service, exchange.path)


def _status(exchange: Exchange, route: RouteKey | None, reply: Reply | None) -> Found:
    """The status must be one of the contract's for this route; for unknown paths it has only Freeside's 404.

    To a proxy that merges slashes, a path with two slashes is the one with one.
    """
    if "//" in exchange.path:
        return
    if _is_nowhere(exchange) and exchange.status not in (404, 429) and exchange.status < 500:
        yield Violation("status", "404", str(exchange.status))
        return
    known_here = route is not None or exchange.service == "freeside" or exchange.status >= 500
    if reply is None and known_here and exchange.status not in REFUSALS[exchange.service]:
        known = sorted({*REPLIES.get(route, {}), *REFUSALS[exchange.service]}) if route else [404, 405]
        yield Violation("status", "one of " + ", ".join(map(str, known)), str(exchange.status))


def _request_id(exchange: Exchange, _: RouteKey | None, __: Reply | None) -> Found:
    """The request id must be echoed completely, or be a new one, also in place of one that is too long."""
    sent, came = exchange.sent.get("x-request-id"), exchange.headers.get("x-request-id", "")
    if not came.strip():
        yield Violation("header x-request-id", "an echo" if sent else "one made", "nothing")
    elif sent is not None and came != sent and (len(sent) <= USUAL_ID or sent.startswith(came)):
        yield Violation("header x-request-id", f"the echo of {shown(sent)}", shown(came))


def _body(exchange: Exchange, route: RouteKey | None, reply: Reply | None) -> Found:
    """Media type, strict JSON, and every field."""
    if exchange.method == "HEAD":
        return
    silent = exchange.status == 405 or (route is None and exchange.service != "freeside")
    if (reply is None and silent) or (reply is not None and reply.media == "*"):
        if exchange.is_json and exchange.body and exchange.problem:
            yield Violation("body", "JSON", exchange.problem)
        return
    media = JSON if reply is None else reply.media
    of_keys = reply is not None and reply.schema is KEY_SET and exchange.media == JWK_SET
    as_problem = media == JSON and exchange.is_json
    if media and exchange.media != media and not of_keys and not as_problem:
        yield Violation("header content-type", media, shown(exchange.headers.get("content-type")))
    elif not media and exchange.body:
        yield Violation("body", "none", f"{len(exchange.body)} bytes")
    elif media == JSON and exchange.problem:
        yield Violation("body", "JSON", exchange.problem)
    elif reply is not None and reply.schema is not None:
        yield from violations(exchange.document, reply.schema)


def _refusal(exchange: Exchange, _: RouteKey | None, reply: Reply | None) -> Found:
    """The form of an error, and a code that fits its status."""
    if reply is not None or exchange.status < 400 or not exchange.is_json or exchange.problem:
        return
    form = REFUSAL_FORM[exchange.service]
    wrong = list(violations(exchange.document, form))
    yield from wrong
    codes = CODES[exchange.service].get(exchange.status)
    if codes and not wrong:
        name = CODE_MEMBERS[exchange.service][0]
        yield from violations(exchange.document, record(**{name: {"enum": list(codes)}}))


def _headers(exchange: Exchange, _: RouteKey | None, reply: Reply | None) -> Found:
    for name, pattern in reply.headers.items() if reply else ():
        value = exchange.headers.get(name)
        if value is None or not matches(pattern, value):
            yield Violation(f"header {name}", f"a value matching {pattern}", shown(value))
    key, echo = exchange.sent.get("x-idempotency-key"), exchange.headers.get("x-idempotency-key")
    if exchange.status == 200 and key and echo is not None and echo != key:
        yield Violation("header x-idempotency-key", f"the echo of {shown(key)}", shown(echo))
    replay = exchange.headers.get("x-idempotent-replay", "true")
    if replay.lower() not in ("true", "false"):
        yield Violation("header x-idempotent-replay", "true", shown(replay))


def _rate(exchange: Exchange, _: RouteKey | None, __: Reply | None) -> Found:
    """Declared rate limits must be consistent, and a 429 must say when to retry."""
    limit, left = (exchange.headers.get(f"x-ratelimit-{name}") for name in ("limit", "remaining"))
    if (
        limit is not None
        and left is not None
        and limit.isdigit()
        and left.isdigit()
        and int(left) > int(limit)
    ):
        yield Violation("header x-ratelimit-remaining", f"at most the limit {limit}", left)
    after = exchange.headers.get("retry-after")
    if exchange.status == 429 and pause_in(after or "") is None:
        yield Violation("header retry-after", SECONDS_OR_DATE, shown(after))


SECONDS_OR_DATE = "whole seconds or a date"


def pause_in(retry_after: str) -> float | None:
    """The seconds to wait from a Retry-After in either form (RFC 9110, 10.2.3); None if it is neither."""
    if re.fullmatch("[0-9]{1,18}", retry_after):
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time()) if moment.tzinfo else None


def _cached(exchange: Exchange, _: RouteKey | None, __: Reply | None) -> Found:
    """A request with the current ETag must get 304, and no other request."""
    offered, tag = exchange.sent.get("if-none-match"), exchange.headers.get("etag")
    if offered is None or tag is None or exchange.status not in (200, 304):
        return
    current = _opaque(tag) in map(_opaque, _TAG.findall(offered))
    if current != (exchange.status == 304):
        yield Violation(
            "status", "304" if current else "200", f"{exchange.status} to if-none-match {offered}"
        )


#: One entity tag of a list; it may contain commas (RFC 9110 section 8.8.3).
_TAG = re.compile(r'(?:W/)?"[^"]*"')


def _opaque(tag: str) -> str:
    """An entity tag for the weak comparison (RFC 9110 section 8.8.3.2)."""
    return tag.strip().removeprefix("W/")


#: Routes with answers that a cache could repeat to callers without the credential.
_GUARDED = frozenset(
    (route.service, route.method, route.path)
    for route in ROUTES
    if route.method == "GET" and route.credentials
)
#: Directives that let a shared cache reuse an answer (RFC 9111, 3.5), unless it must revalidate or not store.
_SHARED = re.compile(
    r"(?!.*\b(?:no-store|no-cache|private|s-maxage=\"?0+)\b)"
    r"(?:.*\bs-maxage=\"?0*[1-9]|(?=.*\bpublic\b).*\bmax-age=\"?0*[1-9])",
    re.IGNORECASE,
)


def _shared(exchange: Exchange, route: RouteKey | None, _: Reply | None) -> Found:
    """An answer that needs a credential must not be for shared caches, which would give it to anybody.

    If it varies by the credential, they give it only to callers with the same one (RFC 9111, 4.1).
    """
    control, varies = (exchange.headers.get(name, "") for name in ("cache-control", "vary"))
    own = {name.strip().lower() for name in varies.split(",")} & {"authorization", "*"}
    if route in _GUARDED and exchange.status == 200 and not own and _SHARED.match(control):
        yield Violation("header cache-control", "nothing that lets caches share it", shown(control))


def _figures(exchange: Exchange, route: RouteKey | None, reply: Reply | None) -> Found:
    """A budget must be that of its path, and figures with the same meaning must agree (contract 1.5)."""
    body, schema = exchange.document, reply.schema if reply else None
    if schema is GATEWAY_BUDGET and not any(violations(body, schema)):
        yield from _gateway_figures(body)
    if schema is COMMUNITY_BUDGET and not any(violations(body, schema)):
        yield from _community_figures(body, unquote(exchange.path.split("/")[-2]))


def _community_figures(body: Mapping[str, Any], asked: str) -> Found:
    if body["communityId"] != asked:
        yield Violation("communityId", shown(asked), shown(body["communityId"]))
    for name in ("committed", "reserved"):
        micro, cents = body[f"{name}Micro"], body[name]
        if cents != int(micro) // MICRO_PER_CENT:
            yield Violation(name, f"the whole cents of {name}Micro ({micro})", shown(cents))
    if body["spentCents"] != body["committed"]:
        yield Violation("spentCents", f"the committed cents {body['committed']}", shown(body["spentCents"]))


def _gateway_figures(body: Mapping[str, Any]) -> Found:
    """The used share must be a percentage of the limit, in any rounding; it may be capped at 100."""
    limit, spent, used = (body[name] for name in ("monthlyLimitCents", "currentSpendCents", "percentUsed"))
    share = 100 * spent / limit if limit else used
    if not min(share, 100) - 1 <= used <= share + 1:
        yield Violation("percentUsed", f"about {share:.1f}", shown(used))


def _tokens(exchange: Exchange, _: RouteKey | None, reply: Reply | None) -> Found:
    """A total of tokens must be at least the sum of its parts (contract 2)."""
    if reply is not DIRECT or list(violations(exchange.document, DIRECT.schema or {})):
        return
    usage = exchange.document["usage"]
    least = usage["prompt_tokens"] + usage["completion_tokens"]
    if usage["total_tokens"] < least:
        yield Violation("usage.total_tokens", f"{least} or more", shown(usage["total_tokens"]))


def _events(exchange: Exchange, _: RouteKey | None, __: Reply | None) -> Found:
    """Order, ids and members of a stream's events, as far as it was read (contract 1.4)."""
    if not exchange.events:
        return
    events = [event for event in exchange.events if is_ordered(event.name)]
    names = "".join(f"{event.name} " for event in events)
    if not re.fullmatch("(content )*(error |usage (done |error )?)?", names):
        order = "content, usage once, done; or an error at the end"
        yield Violation("events", order, shown(" ".join(dict.fromkeys(names.split()))))
    elif names.endswith("done ") and names.count("content ") < LEAST_CONTENTS:
        yield Violation("events", f"content at least {LEAST_CONTENTS} times", shown(names.strip()))
    ids = [event.id for event in events]
    if not increase(ids):
        yield Violation("event ids", "increasing ones", shown(ids[:5]))
    for event in events:
        yield from violations(event.document, STREAM_EVENTS.get(event.name, {}), f"event {event.name}")


def is_ordered(name: str) -> bool:
    """Whether an event is one of the contract's, or has no name; the contract does not mention others."""
    return name in STREAM_EVENTS or name == "message"


def increase(ids: Sequence[str]) -> bool:
    """Whether every id follows the previous one: by its numbers, or as text of equal length, like ULIDs."""
    if all(re.fullmatch("-?[0-9]+", text) for text in ids):  # a sign is no hyphen
        return all(Decimal(a) < Decimal(b) for a, b in pairwise(ids))
    orders: list[Callable[[str], Any]] = [_by_numbers]
    if len({*map(len, ids)}) == 1:
        orders.append(str)
    return all(ids) and any(all(key(a) < key(b) for a, b in pairwise(ids)) for key in orders)


def _by_numbers(text: str) -> list[Any]:
    """Text and numbers in turn; numbers may have any number of digits."""
    parts = re.split("([0-9]+)", text)
    parts[1::2] = [digits.lstrip("0") for digits in parts[1::2]]
    return [(len(part), part) if place % 2 else part for place, part in enumerate(parts)]


def _internals(exchange: Exchange, _: RouteKey | None, __: Reply | None) -> Found:
    """No refusal may show a service's internals. A model's text in an answer does not count."""
    text = _text(exchange) if exchange.status >= 400 else ""
    if match := INTERNALS.search(text):
        yield Violation("answer", "no internals", shown(match[0]))


#: The rules by name, each a function of the exchange, its route and the contract's answer there.
RULES: Mapping[str, Callable[[Exchange, RouteKey | None, Reply | None], Found]] = {
    "status": _status,
    "request id": _request_id,
    "body": _body,
    "refusal": _refusal,
    "headers": _headers,
    "rate limit": _rate,
    "caching": _cached,
    "sharing": _shared,
    "figures": _figures,
    "tokens": _tokens,
    "events": _events,
    "internals": _internals,
}


def secret_in(exchange: Exchange) -> str:
    """The kind of secret that an answer shows, in its body or headers; empty for none."""
    text = _text(exchange)
    return next(
        (kind for kind, (part, pattern) in SECRETS.items() if part in text and pattern.search(text)), ""
    )


def _text(exchange: Exchange) -> str:
    """Headers and body; an echoed request id is the suite's own random text, which may look like anything."""
    echo = ("x-request-id", exchange.sent.get("x-request-id"))
    headers = "\n".join(
        f"{name}: {value}" for name, value in exchange.headers.items() if (name, value) != echo
    )
    return f"{headers}\n{exchange.body[:SEARCHED].decode(errors='replace')}"

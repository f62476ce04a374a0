"""The answers of every route: per status, the schema of the body and the headers in the contract.

This reads as much of JSON Schema (2020-12) as these bodies need. A row is one status of one route. Paths are
templates, `{id}` stands for one segment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from .model import POOLS, Schema

LONGEST_SHOWN = 80
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_TYPES: Mapping[str, type] = {
    "number": float,
    "string": str,
    "array": list,
    "object": dict,
    "null": type(None),
}
_NAMES = {"integer": "an integer", "array": "an array", "object": "an object", "null": "null"}


def shown(value: object) -> str:
    """A value for the message of a violation: shortened, with its JSON type."""
    if value is None:
        return "null"
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    text = text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
    kind = _KINDS.get(type(value), type(value).__name__)
    return f"{text!r} ({kind})" if isinstance(value, str) else f"{text} ({kind})"


@dataclass(frozen=True, slots=True)
class Violation:
    """A member of a body, by its dotted path, that is not what the schema expects."""

    where: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, got {self.got}"


def violations(value: Any, schema: Schema, where: str = "") -> Iterator[Violation]:
    """What is wrong with a JSON value (an integer is not a float); nothing if it fits the schema.

    It supports type, const, enum, pattern, minimum, maximum, properties, required, items and minItems.
    """
    if not _fits(value, schema):
        yield Violation(where or "body", expectation(schema), shown(value))
        return
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                part = schema.get("properties", {}).get(name, {})
                yield Violation(_at(where, name), expectation(part), "nothing (the member is missing)")
        for name, part in schema.get("properties", {}).items():
            if part is False and value.get(name) is not None:
                yield Violation(_at(where, name), "no such member", "one")
            elif part is not False and name in value:
                yield from violations(value[name], part, _at(where, name))
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from violations(item, schema["items"], f"{where}[{number}]")


def expectation(schema: Schema) -> str:
    """What a schema expects, in words."""
    if "const" in schema:
        return shown(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    types = _types(schema)
    text = " or ".join(_NAMES.get(name, f"a {name}") for name in types) or "a value"
    if "pattern" in schema:
        text += f" matching {schema['pattern']}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        text += f" >= {low}" if high is None else f" in [{low}, {high}]"
    return text + (f" of at least {schema['minItems']}" if "minItems" in schema else "")


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of JSON Schema is found in a text; a final `$` is the very end, as in ECMAScript."""
    end = r"\Z" if pattern.endswith("$") else ""
    return re.search(pattern.removesuffix("$") + end, text) is not None


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _types(schema: Schema) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _fits(value: Any, schema: Schema) -> bool:
    types = _types(schema)
    if types and not any(_is(value, name) for name in types):
        return False
    if "const" in schema and not _same(value, schema["const"]):
        return False
    if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
        return False
    if isinstance(value, str):
        return matches(schema.get("pattern", ""), value)
    if isinstance(value, list):
        return bool(len(value) >= schema.get("minItems", 0))
    if _is(value, "number"):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, int):
        return name in ("integer", "number")
    return name in _TYPES and isinstance(value, _TYPES[name])


def _same(value: Any, wanted: Any) -> bool:
    """Whether two JSON values are equal; in Python, True equals 1."""
    return type(value) is type(wanted) and bool(value == wanted)


#: Maximum lifetime of a cached key set, in seconds; after it, a withdrawn key is gone from every cache.
MAX_CACHE_S = 300

UUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
JSON = "application/json"
#: Media types of a key set (RFC 7517).
JWK_SET = "application/jwk-set+json"
#: Media types of a refusal (RFC 9457); it still has the contract's members.
PROBLEM = "application/problem+json"
EVENTS = "text/event-stream"
#: RFC 3339 in UTC; the letters may be in lower case.
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-]00:00)"

TEXT: Schema = {"type": "string", "pattern": r"\S"}
#: A version, which may be written as a number.
VERSION: Schema = {"type": ["string", "number"], "pattern": r"\S"}
BOOLEAN: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TOKENS: Schema = {"type": "integer", "minimum": 1}
SECONDS: Schema = {"type": "number", "minimum": 0}
MICRO: Schema = {"type": "string", "pattern": "^[0-9]{1,18}$"}
PRICE: Schema = {"type": "string", "pattern": "^(?=0*[1-9])[0-9]{1,18}$"}
SHA: Schema = {"type": "string", "pattern": "^[0-9a-fA-F]{7,40}$"}
MONTH: Schema = {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"}
TRACE: Schema = {"type": "string", "pattern": f"^{UUID}$"}
SCORE: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}


def record(**members: Schema) -> Schema:
    """An object that has at least these members."""
    return {"type": "object", "properties": members, "required": list(members)}


def one_of(*values: Any) -> Schema:
    """One of these values."""
    return {"enum": list(values)}


HEALTH = {"status": one_of("healthy", "degraded", "unhealthy"), "build_sha": SHA}
STATUS = record(status=TEXT)
#: Keys of other algorithms may be next to those for ES256; phase jwks examines these more closely.
KEY = record(kty=TEXT, kid=TEXT)
KEY_SET = record(
    keys={"type": "array", "minItems": 1, "items": {**KEY, "properties": {**KEY["properties"], "d": False}}}
)
USAGE = record(promptTokens=TOKENS, completionTokens=TOKENS, costMicro=PRICE)
ANSWER = record(content=TEXT, model=one_of(*POOLS), usage=USAGE, traceId=TRACE)
ADDRESS: Schema = {"type": "string", "pattern": "^0x(?!0{40}$)[0-9a-fA-F]{40}$"}
#: One entry of `accepts` in a 402 of x402 (contract 1.6). Amounts are in the token's smallest unit.
PAYMENT_TERMS = record(
    scheme=one_of("exact"), network=one_of("base-sepolia"), resource=TEXT, description={"type": "string"},
    maxAmountRequired={"type": "string", "pattern": "^(?=0*[1-9])[0-9]{1,77}$"}, mimeType={"type": "string"},
    payTo=ADDRESS, asset=ADDRESS, maxTimeoutSeconds={"type": "integer", "minimum": 1},
    extra=record(name=one_of("USDC"), version=one_of("2")),
)  # fmt: skip
COMMUNITY_BUDGET = record(
    communityId=TEXT, monthlyBudgetCents=COUNT, committed=COUNT, reserved=COUNT, spentCents=COUNT,
    committedMicro=MICRO, reservedMicro=MICRO, period=MONTH,
)  # fmt: skip
GATEWAY_BUDGET = record(
    communityId=TEXT, monthlyLimitCents=COUNT, currentSpendCents=COUNT, remainingCents=COUNT,
    percentUsed={"type": "number", "minimum": 0},
)  # fmt: skip
#: The events of a stream by name (contract 1.4).
STREAM_EVENTS: Mapping[str, Schema] = {
    "content": record(text={"type": "string"}),
    "usage": USAGE,
    "done": {"type": "object"},
    "error": record(code=TEXT, message=TEXT),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its body's schema, None where the contract gives none, and patterns of its headers."""

    schema: Schema | None
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


CACHED = {"cache-control": "[Mm][Aa][Xx]-[Aa][Gg][Ee]=[0-9]{1,18}", "etag": '^W/"[^"]*"$'}
#: Text after a rate limit's number: its policies, or a gateway's values.
_POLICIES = "(?: *;[^,]*)?(?: *, *[0-9]{1,18}(?: *;[^,]*)?)*$"
#: An invoke's headers. The contract does not say that a refusal carries these.
OF_A_CALL = {
    "x-idempotency-key": r"^[\x20-\x7e]{1,128}$",
    "x-trace-id": f"^{UUID}$",
    "x-ratelimit-limit": f"^0*[1-9][0-9]{{0,17}}{_POLICIES}",
    "x-ratelimit-remaining": f"^[0-9]{{1,18}}{_POLICIES}",
}
INVOKE = Reply(ANSWER, headers=OF_A_CALL)
STREAM = Reply(None, EVENTS, {"cache-control": "[Nn][Oo]-[Cc][Aa][Cc][Hh][Ee]"})
DIRECT = Reply(
    record(
        response=TEXT, model=TEXT, cost_micro=PRICE, trace_id=TEXT,
        usage=record(prompt_tokens=TOKENS, completion_tokens=TOKENS, total_tokens=TOKENS),
    )
)  # fmt: skip

RouteKey = tuple[str, str, str]
#: (service, method, path) → status → what is answered. Refusals have the form of their service.
REPLIES: Mapping[RouteKey, Mapping[int, Reply]] = {
    ("freeside", "GET", "/health"): {
        200: Reply(
            record(**HEALTH, version=VERSION, protocol_version=VERSION, uptime=SECONDS, grace_period=BOOLEAN)
        ),
        503: Reply(record(status=one_of("unhealthy"), error=one_of("database_unreachable"))),
    },
    ("freeside", "GET", "/.well-known/jwks.json"): {
        200: Reply(KEY_SET, headers=CACHED),
        304: Reply(None, "", {"etag": CACHED["etag"]}),
    },
    ("freeside", "POST", "/api/agents/invoke"): {200: INVOKE},
    ("freeside", "POST", "/api/agents/stream"): {200: STREAM},
    ("freeside", "POST", "/api/v1/x402/invoke"): {
        200: Reply(ANSWER, headers={"x-payment-response": "^[A-Za-z0-9+/=_-]+$"}),
        402: Reply(record(error=TEXT), headers={"x-payment-required": r"[\x21-\x7e]"}),
    },
    ("freeside", "GET", "/api/agents/models"): {
        200: Reply(record(models={"type": "array", "minItems": 1, "items": one_of(*POOLS)}))
    },
    ("freeside", "GET", "/api/v1/communities/{id}/budget"): {200: Reply(COMMUNITY_BUDGET)},
    ("freeside", "GET", "/api/agents/budget"): {200: Reply(GATEWAY_BUDGET)},
    ("freeside", "POST", "/api/agents/quality"): {202: Reply(record(accepted=one_of(True), event_id=TEXT))},
    ("finn", "GET", "/health"): {
        200: Reply(
            record(
                **HEALTH,
                uptime=SECONDS,
                checks={"type": ["object", "array"], "items": {"type": ["object", "string"]}},
                protocol=record(contract_version=VERSION),
                ready_for_billing=BOOLEAN,
            )
        )
    },
    ("finn", "GET", "/.well-known/jwks.json"): {200: Reply(KEY_SET), 304: Reply(None, "")},
    ("finn", "POST", "/api/v1/invoke"): {200: DIRECT},
    ("dixie", "GET", "/api/health"): {
        200: Reply(
            record(
                **HEALTH,
                version=VERSION,
                uptime_seconds=SECONDS,
                services=record(
                    dixie={"type": ["object", "string"]}, loa_finn=record(status=TEXT, circuit_state=TEXT)
                ),
                infrastructure=record(postgresql=STATUS),
                reputation_service=record(initialized=BOOLEAN, aggregate_count=COUNT),
                timestamp={"type": ["string", "integer"], "pattern": f"^{_TIME}$"},
            )
        )
    },
    ("dixie", "GET", "/api/auth/.well-known/jwks.json"): {200: Reply(KEY_SET), 304: Reply(None, "")},
    ("dixie", "GET", "/api/reputation/query"): {200: Reply(record(score=SCORE))},
    ("dixie", "POST", "/api/reputation/events"): {202: Reply(None, "*")},
}

_CODE: Schema = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]*$"}
#: The form of every refusal, per service. Finn puts the code into a separate member.
REFUSAL_FORM: Mapping[str, Schema] = {
    "freeside": record(error=_CODE, message=TEXT),
    "dixie": record(error=_CODE, message=TEXT),
    "finn": record(error=TEXT, code=_CODE),
}
#: Where each service's refusals have their code, best first: a gateway before Finn may answer in its place.
CODE_MEMBERS = {"freeside": ("error",), "dixie": ("error",), "finn": ("code", "error")}
FINN_CODES = (
    "JWT_REQUIRED", "JWT_STRUCTURAL_INVALID", "ISSUER_NOT_ALLOWED", "AUDIENCE_MISMATCH", "JWT_INVALID",
    "JTI_REQUIRED", "JTI_REPLAY_DETECTED",
)  # fmt: skip
#: Codes that name one fault, and the code of 400, each with the token rule that is broken.
FINN_FAULTS = {
    "JWT_REQUIRED": "credential", "ISSUER_NOT_ALLOWED": "issuer", "AUDIENCE_MISMATCH": "audience",
    "JTI_REQUIRED": "claims", "JTI_REPLAY_DETECTED": "spent-once", "REQ_HASH_MISMATCH": "binding",
}  # fmt: skip
#: The codes of a status, where the contract lists all of them (1.3, 2, 3).
CODES: Mapping[str, Mapping[int, tuple[str, ...]]] = {
    "freeside": {
        400: ("INVALID_REQUEST",),
        401: ("UNAUTHORIZED",),
        402: ("BUDGET_EXCEEDED",),
        403: ("FORBIDDEN", "MODEL_NOT_ALLOWED"),
        404: ("NOT_FOUND",),
        409: ("JTI_REPLAY", "IDEMPOTENCY_CONFLICT"),
        413: ("PAYLOAD_TOO_LARGE",),
        415: ("UNSUPPORTED_MEDIA_TYPE",),
        429: ("RATE_LIMITED",),
        502: ("UPSTREAM_ERROR",),
        503: ("MODEL_PROVIDER_UNAVAILABLE", "SERVICE_UNAVAILABLE"),
    },
    "dixie": {401: ("unauthorized",)},
    "finn": {401: FINN_CODES},
}
#: The statuses that a refusal may have. 500 is not among them.
REFUSALS: Mapping[str, frozenset[int]] = {
    "freeside": frozenset({405, *CODES["freeside"]}),
    "dixie": frozenset({400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 502, 503}),
    "finn": frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429, 502, 503}),
}


@lru_cache(maxsize=4096)
def route_key(service: str, method: str, path: str) -> RouteKey | None:
    """The contract's route of a request, a HEAD counting as a GET; None for any other."""
    method, path = "GET" if method == "HEAD" else method, _normal(path)
    for route in REPLIES:
        if route[:2] == (service, method) and _path(route[2]).fullmatch(path):
            return route
    return None


def is_path(service: str, path: str) -> bool:
    """Whether the contract has the path, by whatever method."""
    path = _normal(path)
    return any(route[0] == service and _path(route[2]).fullmatch(path) for route in REPLIES)


#: A letter, digit or mark that needs no encoding, encoded.
_NEEDLESS = re.compile("%(2D|2E|3[0-9]|4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE])", re.IGNORECASE)


def _normal(path: str) -> str:
    """The path without encodings that it does not need: it is the same path (RFC 3986, 6.2.2.2)."""
    return _NEEDLESS.sub(lambda found: chr(int(found[1], 16)), path)


@cache
def _path(template: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(map(re.escape, re.split(r"\{\w+\}", template))))

"""The platform's contract as data: services, kinds of tokens, and routes with what is tried on them.

A new service or route is one row here. ``schemas`` has the answers of routes; ``rules`` says which rules hold
on which routes, and which checks try them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Service:
    """One service: its routes for health and keys, and the audience of its tokens.

    A profile may override: ``issuers`` of the tokens that it accepts, by kind; ``paths`` and ``headers``, by
    those of the contract.
    """

    name: str
    health: str
    jwks: str
    audience: str
    issuers: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def path(self, path: str) -> str:
        """The service's path for a path of the contract; `{id}` stands for one segment."""
        for template, other in self.paths.items():
            pattern = re.escape(template).replace(r"\{id\}", "([^/]+)")
            if found := re.fullmatch(pattern, path):
                return other.replace("{id}", found[1]) if found.groups() else other
        return path

    def issuer(self, kind: TokenKind) -> str:
        """The issuer of the tokens of a kind that the service accepts."""
        return self.issuers.get(kind.name) or kind.issuer


SERVICES = {
    service.name: service
    for service in (
        Service("freeside", "/health", "/.well-known/jwks.json", "arrakis"),
        Service("dixie", "/api/health", "/api/auth/.well-known/jwks.json", "loa-dixie"),
        Service("finn", "/health", "/.well-known/jwks.json", "loa-finn"),
    )
}

POOLS = ("cheap", "fast-code", "reviewer", "reasoning", "architect")
TIER_POOLS = {"free": POOLS[:1], "pro": POOLS[:3], "enterprise": POOLS}

#: Limits of tokens (contract 1.1), in seconds.
SKEW_S = 30
MAX_LIFETIME_S = 3600
#: Limits of requests (contract 1.2, 1.3).
MAX_BODY_BYTES = 128 * 1024
MAX_KEY_CHARS = 128

_TEXT: Schema = {"type": "string", "minLength": 1}
_NUMERIC_DATE: Schema = {"type": "number"}
_TIMES = {"iat": _NUMERIC_DATE, "exp": _NUMERIC_DATE, "nbf": _NUMERIC_DATE}
_ANY_TOKEN = {"iss": _TEXT, **_TIMES, "jti": _TEXT}


@dataclass(frozen=True, slots=True)
class TokenKind:
    """A kind of token: its issuer, the service that signs it, the claims it must have, and their types.

    ``bound`` tokens name the hash of the request's body.
    """

    name: str
    issuer: str
    signer: str
    required: tuple[str, ...]
    claims: Mapping[str, Schema]
    bound: bool = False


#: A user (contract 1.1); Freeside to Finn (2); Finn to Dixie (3), with the claims of 1.1 and the same maximum
#: lifetime: the catalogue of checks requires every verifier to refuse a longer one.
USER = TokenKind(
    "user", "arrakis", "freeside",
    ("iss", "aud", "sub", "tenant_id", "tier", "pool_id", "allowed_pools", "iat", "exp", "jti"),
    {
        **_ANY_TOKEN, "sub": _TEXT, "tenant_id": _TEXT, "tier": {"enum": [*TIER_POOLS]}, "pool_id": _TEXT,
        "allowed_pools": {"type": "array"},
    },
)  # fmt: skip
CALL = TokenKind(
    "call", "arrakis", "freeside",
    ("iss", "aud", "sub", "tenant_id", "tier", "req_hash", "iat", "exp", "jti"),
    {**_ANY_TOKEN, "sub": _TEXT, "tenant_id": _TEXT, "tier": _TEXT, "req_hash": _TEXT}, bound=True,
)  # fmt: skip
SERVICE = TokenKind("service", "loa-finn", "finn", ("iss", "aud", "iat", "exp", "jti"), _ANY_TOKEN)
TOKEN_KINDS = {kind.name: kind for kind in (USER, CALL, SERVICE)}
#: The other credential besides tokens: a key that Dixie issued.
API_KEY = "api-key"


@dataclass(frozen=True, slots=True)
class Route:
    """One route in one dialect: ``dialect`` is the profile's setting and its value, empty if there is one.

    ``credentials`` are the kinds of tokens that it accepts, and ``API_KEY``; none: it is open. ``who`` says
    which of their holders may use it, if not all. ``request`` is the schema of its JSON body or its query.
    """

    name: str
    service: str
    method: str
    path: str
    credentials: tuple[str, ...] = ()
    success: int = 200
    failures: tuple[int, ...] = ()
    request: Schema | None = None
    headers: tuple[str, ...] = ()
    dialect: tuple[str, str] = ("", "")
    who: str = ""


def _record(required: str, **members: Schema) -> Schema:
    return {"type": "object", "properties": members, "required": required.split()}


_ALIAS: Schema = {"enum": [*POOLS]}
_SCORE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_ROUTING_KEY: Schema = {"type": "string", "pattern": "^nft:[A-Za-z0-9_-]+$"}
_PROMPT: Schema = {"type": "string", "pattern": r"\S"}
_MESSAGE = _record("role content", role={"enum": ["user", "assistant", "system"]}, content=_PROMPT)
#: The body of a call in each dialect.
CALL_BODIES = {
    "prompt": _record("prompt model", agent=_TEXT, prompt=_PROMPT, model=_ALIAS),
    "messages": _record(
        "agent messages", agent=_TEXT, modelAlias=_ALIAS,
        messages={"type": "array", "items": _MESSAGE, "minItems": 1},
    ),
}  # fmt: skip
#: The body of a direct call to Finn.
DIRECT_CALL: Schema = _record("agent prompt", agent=_TEXT, prompt=_PROMPT)
#: A call in the dialect of the profile: either body.
_CALL: Schema = {"oneOf": [*CALL_BODIES.values()]}
_CALL_FAILURES = (400, 401, 402, 403, 409, 413, 415, 429, 502, 503)
_CALL_HEADERS = ("X-Idempotency-Key", "X-Trace-Id", "X-RateLimit-Limit", "X-RateLimit-Remaining")
_OWN_TENANT = "the token's tenant_id is the community"

ROUTES = (
    *(Route(f"{one.name}.health", one.name, "GET", one.health, failures=(503,)) for one in SERVICES.values()),
    *(Route(f"{one.name}.jwks", one.name, "GET", one.jwks) for one in SERVICES.values()),
    Route(
        "freeside.invoke", "freeside", "POST", "/api/agents/invoke", ("user",), 200, _CALL_FAILURES, _CALL,
        _CALL_HEADERS,
    ),
    Route(
        "freeside.stream", "freeside", "POST", "/api/agents/stream", ("user",), 200, _CALL_FAILURES, _CALL,
        _CALL_HEADERS, ("stream", "endpoint"),
    ),
    Route(
        "freeside.stream", "freeside", "POST", "/api/agents/invoke", ("user",), 200, _CALL_FAILURES, _CALL,
        (*_CALL_HEADERS, "Accept"), ("stream", "accept"),
    ),
    Route("freeside.models", "freeside", "GET", "/api/agents/models", ("user",), 200, (401, 403, 409)),
    Route(
        "freeside.budget", "freeside", "GET", "/api/v1/communities/{id}/budget", ("user",), 200,
        (401, 403, 404, 409), dialect=("budget", "community"), who=_OWN_TENANT,
    ),
    Route(
        "freeside.budget", "freeside", "GET", "/api/agents/budget", ("user",), 200, (401, 403, 404, 409),
        dialect=("budget", "gateway"), who='the token has role "admin"',
    ),
    Route(
        "freeside.quality", "freeside", "POST", "/api/agents/quality", ("user",), 202,
        (400, 401, 409, 413, 415),
        _record(
            "routingKey quality source", routingKey=_ROUTING_KEY, source=_TEXT,
            quality={"enum": ["bad", "good", "excellent"]},
        ),
    ),
    Route("freeside.x402", "freeside", "POST", "/api/v1/x402/invoke", (), 200, (400, 402), _CALL),
    Route(
        "finn.invoke", "finn", "POST", "/api/v1/invoke", ("call",), 200,
        (400, 401, 402, 403, 404, 413, 415, 503),
        DIRECT_CALL,
    ),
    Route(
        "dixie.query", "dixie", "GET", "/api/reputation/query", ("user", "service", API_KEY), 200, (400, 401),
        _record("routingKey", routingKey=_ROUTING_KEY),
    ),
    Route(
        "dixie.events", "dixie", "POST", "/api/reputation/events", ("service",), 202, (400, 401, 413, 415),
        _record(
            "type score event_id agent_id collection_id timestamp", type={"const": "quality_signal"},
            score=_SCORE, event_id={"type": "string", "format": "uuid"}, collection_id=_TEXT,
            agent_id={"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
            timestamp={"type": ["string", "integer"]},
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Access:
    """A route with one kind of token. ``success`` is the status if the token is accepted."""

    route: str
    service: str
    kind: TokenKind
    id: str
    success: int


def accesses(names: Iterable[str] = ()) -> tuple[Access, ...]:
    """Every route with every kind of token that it accepts, of all routes or of those named.

    The id is the route's name, followed by the kind if the route accepts several.
    """
    wanted = set(names)
    found = {}
    for route in ROUTES:
        kinds = [name for name in route.credentials if name in TOKEN_KINDS]
        for kind in kinds if not wanted or route.name in wanted else ():
            id_ = f"{route.name}-{kind}" if len(kinds) > 1 else route.name
            found[id_] = Access(route.name, route.service, TOKEN_KINDS[kind], id_, route.success)
    return tuple(found.values())

"""The platform's contract as data: services, kinds of tokens, and routes with what is tried on them.

A new service or route is one row here. At the end are the rules, each with the routes on which it holds and
the checks that try it there. ``schemas`` has the answers of routes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
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


#: Every route with a token, and the kind of token if it accepts several.
WITH_TOKEN = tuple(access.id for access in accesses())
#: Every route, once for all of its dialects.
EVERYWHERE = tuple(dict.fromkeys(route.name for route in ROUTES))
#: Every route to a model: its answers are charged.
CALLS = ("freeside.invoke", "freeside.stream", "finn.invoke")
X402 = ("freeside.x402",)


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
        """Each route with the ids of the checks that try the rule there; empty if a reason is given."""
        for route in self.routes:
            named = () if route in self.unchecked else self.checks
            service = route.partition(".")[0]
            yield route, tuple(check.format(route=route, service=service) for check in named)


FORGED = "auth/forged-token-is-refused[{route}]"
WITHIN = "auth/times-within-limits-are-accepted[{route}]"
BEYOND = "auth/times-beyond-limits-are-refused[{route}]"

#: The rules of tokens (contract 1.1), by the names that the reference verifier gives them.
OF_TOKENS = (
    *(
        Rule(name, says, WITH_TOKEN, (FORGED,))
        for name, says in {
            "credential": "a bearer token of three parts is needed",
            "algorithm": "only ES256 is accepted",
            "critical": "a critical extension that is not understood is refused (RFC 7515)",
            "key": "the kid is in the key set of the issuer",
            "signature": "the signature is that key's",
            "issuer": "the issuer is the right one for this kind of token",
            "audience": "the token is for this service",
            "claims": "every claim is present, with its type",
        }.items()
    ),
    Rule("encoding", "base64url as in RFC 7515: no padding, no other alphabet", WITH_TOKEN,
        ("auth/token-in-another-encoding-is-refused[{route}]",)),
    *(
        Rule(name, says, WITH_TOKEN, (FORGED, WITHIN, BEYOND))
        for name, says in {
            "expiry": "a token is refused 30 s after exp",
            "not-before": "a token is refused until 30 s before nbf",
            "issued-at": "a token is refused until 30 s before iat",
            "lifetime": "exp is at most 3600 s after iat",
        }.items()
    ),
    Rule("binding", "the token contains the hash of the body it is sent with (2)", ("finn.invoke",),
        (FORGED,)),
    Rule("spent-once", "every verified token is spent once, on any route of the service", WITH_TOKEN,
        ("auth/token-is-spent-once[{route}]", "operations/spent-token-stays-spent[{route}]")),
    Rule("spent-at-its-end", "a token is remembered as long as it is accepted",
        ("freeside.models", "finn.invoke", "dixie.query-user"),
        ("auth/token-is-spent-once-at-its-end[{route}]",)),
    Rule("spent-by-anyone", "a valid token is accepted whoever it is for: an admin or a user of any tier",
        ("freeside.models", "freeside.budget", "finn.invoke", "dixie.query-user"),
        ("auth/equivalent-token-is-accepted[{route}]",)),
    Rule("spent-by-refusal",
        "a verified token is spent even if its call is refused for pool, tenant, body or price",
        ("freeside.invoke", "freeside.stream", "finn.invoke"),
        ("auth/refused-call-spends-its-token[{route}]", "budget/over-budget-is-refused[{route}]")),
    Rule("spent-by-invalid", "a token that is verified before its invalid request is refused is spent",
        tuple(access.id for access in accesses(route.name for route in ROUTES if route.request)),
        ("auth/invalid-call-spends-its-token[{route}]",)),
    Rule("spent-by-conflict", "a token is spent even if its idempotency key was used for another body",
        ("freeside.invoke", "freeside.stream"), ("auth/conflict-spends-its-token[{route}]",)),
    Rule("spent-by-answer", "a replay also needs a valid token, and spends it",
        ("freeside.invoke", "freeside.stream"), ("auth/stored-answer-needs-a-good-token[{route}]",)),
    Rule("spent-by-another-tenant",
        "a token is spent even if it asks for another tenant's or an unknown budget", ("freeside.budget",),
        ("auth/refused-budget-spends-its-token",)),
    Rule("spent-by-all", "a jti is spent for every tenant", WITH_TOKEN,
        ("auth/jti-is-spent-across-tenants[{route}]",),
        dict.fromkeys(("dixie.query-service", "dixie.events"), "these tokens name no tenant")),
    Rule("own-pool", "a user's pool_id is one of the token's effective pools, whatever is requested",
        tuple(access.id for access in accesses() if access.kind is USER),
        ("auth/own-pool-is-one-of-the-tokens[{route}]",),
        {"dixie.query-user": "Dixie serves no pools, and the contract defines no error for one there (3)"}),
    Rule("unspent", "a token refused with 401 is not spent", WITH_TOKEN,
        ("auth/refused-token-stays-unspent[{route}]",)),
    Rule("unspent-elsewhere",
        "a token that a route for another kind refuses is still valid on its own routes",
        ("dixie.query-user",), ("auth/token-of-another-kind-stays-unspent",)),
)  # fmt: skip
#: The rules of reputation (contract 3), by the reference intake.
OF_REPUTATION = (
    Rule("event",
        "an event has all members, with their types and ranges, and is refused rather than corrected",
        ("dixie.events",), ("reputation/only-events-of-the-contract-count",)),
    Rule("event-once", "an event id counts once, and another id counts too", ("dixie.events",),
        ("loop/same-event-counts-once", "loop/another-event-counts-too",
         "loop/agent-asked-for-early-is-scored", "operations/counted-event-stays-counted")),
    Rule("events-at-once", "each of several concurrent events counts", ("dixie.events", "freeside.quality"),
        ("loop/events-at-once-count-each[{route}]",)),
    Rule("rating", "a rating has all members, and a refused one moves neither score nor budget",
        ("freeside.quality",), ("loop/only-ratings-of-the-contract-count",)),
    Rule("routing-key", "a routing key names one agent, or none", ("dixie.query",),
        ("reputation/similar-routing-keys-are-other-agents[user-token]",)),
)  # fmt: skip

RULES = (
    *OF_REPUTATION,
    *OF_TOKENS,
    Rule("tenant", "a token reads and charges its own tenant only (1.5)",
        ("freeside.invoke", "freeside.budget"),
        ("auth/near-tenant-is-another-tenant", "auth/budget-of-another-tenant-is-closed")),
    Rule("named-tenant", "a tenant that a request names outside its token is not charged (1.5)", CALLS,
        tuple(f"auth/another-tenant-is-never-charged[{named_by}{on}]"
              for named_by in ("body", "header") for on in ("", "-stream", "-direct"))),
    Rule("no-tenant-no-budget", "an unknown community has no budget (1)", ("freeside.budget",),
        ("auth/unknown-tenant-has-no-budget",)),
    Rule("known-tenant", "a direct call for an unknown tenant is refused (2)", ("finn.invoke",),
        ("auth/unknown-tenant-has-no-direct-call",)),
    Rule("fault-named", "an error code of Finn's that names one token fault is used only for that fault (2)",
        ("finn.invoke",), ("auth/refusals-name-the-fault[{service}]",)),
    Rule("answers",
        "status, members and headers of an answer, the form of a refusal, the request id (1 to 3)",
        EVERYWHERE, ("operations/answers-keep-the-contract[{service}]",)),
    Rule("secrets", "no answer shows a credential, a key or another tenant's prompt", EVERYWHERE,
        ("operations/answers-show-no-secret[{service}]",)),
    Rule("pool", "a model outside the token's effective pools is refused (1.1, 1.3)", CALLS,
        ("invoke/pools-out-of-reach-are-refused[{route}]",)),
    Rule("models",
        "a token's models are its effective pools: those that both its tier and its list contain (1, 1.1)",
        ("freeside.models",), ("invoke/models-are-the-effective-pools",)),
    Rule("budget", "a call beyond the budget is refused with 402 and changes nothing (1.3, 1.5)", CALLS,
        ("budget/over-budget-is-refused[{route}]", "budget/limit-holds-for-every-caller[{route}]",
         "budget/held-room-is-taken")),
    Rule("charge", "an answered call is charged what it says, to its own tenant only (1.2, 1.5)", CALLS,
        ("budget/every-pool-is-charged[{route}]", "budget/random-walk-follows-the-ledger")),
    Rule("idempotency", "one key of one tenant is one call, one charge, one answer (1.2)", CALLS,
        ("budget/one-key-is-one-charge[{route}]", "budget/similar-keys-are-different-keys[{route}]",
         "budget/a-key-keeps-its-body[{route}]", "budget/a-refused-call-leaves-its-key[{route}]",
         "budget/a-retry-is-one-charge", "operations/answered-key-stays-answered[{route}]"),
        {"finn.invoke": "a direct call has no key (2)"}),
    Rule("intake", "a malformed call is refused, and costs nothing (1.2, 1.3)", CALLS,
        ("invoke/bad-calls-are-refused[{route}]",)),
    Rule("limits", "a call just within a limit is answered (1.2, 1.3)", CALLS,
        ("budget/limits-are-inclusive[{route}]",),
        {"finn.invoke": "the contract gives a direct call no limit (2)"}),
    Rule("payment-required",
        "without a payment the answer is 402 with the terms; a header that does not parse gets 400 (1.6)",
        X402, ("x402/payment-is-required", "x402/unreadable-payment-is-refused")),
    Rule("payment-settled",
        "a payment is answered once, with a receipt, and moves the price to the payee on the chain (1.6)",
        X402,
        ("x402/official-client-is-answered", "x402/payment-is-settled", "x402/used-payment-is-refused",
         "x402/used-payment-outlives-a-restart", "x402/two-at-once-are-one-payment",
         "x402/payments-at-once-stay-apart", "x402/payment-charges-no-community")),
    Rule("payment-refused",
        "a payment that does not verify gets 402 with a reason, moves nothing and runs no model (1.6)", X402,
        ("x402/bad-payment-is-refused", "x402/refused-payment-runs-no-model", "x402/bad-call-costs-nothing")),
)  # fmt: skip

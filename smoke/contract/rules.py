"""The rules of the contract, each with the routes that it applies to and the checks that try it there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .model import ROUTES, USER, accesses

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
    Rule("secrets", "no answer shows a credential or a key", EVERYWHERE,
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

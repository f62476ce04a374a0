"""Typed answers of the agent routes."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from .contract import ContractViolation, Fields, fields_of, route_of, shown
from .tokens import ALL_POOLS

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer consumed; ``cost_micro`` in µUSD."""

    prompt_tokens: int
    completion_tokens: int
    cost_micro: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 of the invoke route. ``replayed``: the stored answer of an earlier call under the same key."""

    tenant: str
    content: str
    model: str
    usage: Usage
    trace_id: str
    idempotency_key: str
    replayed: bool
    ms: float


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What an answer says of the rate limit."""

    limit: int
    remaining: int


def usage_of(fields: Fields) -> Usage:
    """Usage as Freeside serves it, in an answer or in a stream's usage event."""
    return Usage(
        fields.integer("promptTokens", minimum=1),
        fields.integer("completionTokens", minimum=1),
        fields.micro("costMicro", minimum=1),
    )


def answer_of(response: httpx.Response, tenant: str) -> Answer:
    """The answer in a 200 of the invoke route (contract 1.2)."""
    fields = fields_of(response)
    return Answer(
        tenant=tenant,
        content=fields.text("content"),
        model=fields.text("model", among=ALL_POOLS),
        usage=usage_of(fields.object("usage")),
        trace_id=fields.text("traceId", pattern=UUID),
        idempotency_key=header(response, "x-idempotency-key"),
        replayed=response.headers.get("x-idempotent-replay", "").lower() == "true",
        ms=response.elapsed.total_seconds() * 1000,
    )


def header(response: httpx.Response, name: str) -> str:
    """A header that the contract promises."""
    value = response.headers.get(name, "")
    if not value:
        raise ContractViolation(f"{route_of(response)}: header {name}: expected a value, got {shown(None)}")
    return str(value)


def rate_limit_of(response: httpx.Response) -> RateLimit:
    """The rate-limit headers of an answer: whole numbers, not more remaining than the limit."""
    values = {}
    for name in ("x-ratelimit-limit", "x-ratelimit-remaining"):
        value = header(response, name)
        if not value.isdigit():
            raise ContractViolation(
                f"{route_of(response)}: header {name}: expected digits, got {shown(value)}"
            )
        values[name] = int(value)
    limit = RateLimit(values["x-ratelimit-limit"], values["x-ratelimit-remaining"])
    if not 0 <= limit.remaining <= limit.limit or limit.limit < 1:
        raise ContractViolation(f"{route_of(response)}: rate-limit headers disagree: {limit}")
    return limit

"""Broken input handling: bad requests that are served, or that bring the handler down."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from stack.common.claims import POOLS
from stack.common.http import MAX_BODY_BYTES

if TYPE_CHECKING:
    from starlette.requests import Request

    from stack.faults.switch import Faults
    from stack.freeside.asks import Ask


def served_anyway(faults: Faults, request: Request, raw: bytes) -> bool:
    """Whether this bad request is served as if it were good; raises where it brings the handler down."""
    case = _case(request, raw)
    if faults.on(f"freeside-chokes-on-{case}"):
        raise RuntimeError(f"the fault freeside-chokes-on-{case} is on")
    return faults.on(f"freeside-serves-{case}")


def tenant_as_asked(faults: Faults, request: Request, raw: bytes, ask: Ask) -> Ask:
    """The call, for the tenant of its token, or for the one that it names itself."""
    named: str | None = None
    if faults.on("freeside-trusts-tenant-in-body"):
        named = json.loads(raw).get("tenant_id")
    if faults.on("freeside-trusts-tenant-in-header"):
        named = request.headers.get("x-tenant-id")
    if not named:
        return ask
    return replace(ask, claims=replace(ask.claims, raw={**ask.claims.raw, "tenant_id": named}))


def _case(request: Request, raw: bytes) -> str:
    """Which of the suite's bad inputs it is."""
    if len(raw) > MAX_BODY_BYTES:
        return "body-over-128-kib"
    if not request.headers.get("content-type", "").startswith("application/json"):
        return "wrong-content-type"
    if raw.count(b"[") >= 500 or raw.count(b"{") >= 500:
        return "deep-json"
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return "not-json"
    if document is None:
        return "null"
    if not isinstance(document, dict):
        return "array"
    prompt, model = document.get("prompt"), document.get("model", "cheap")
    if "messages" in document:
        return "bad-messages"
    if prompt is None:
        return "missing-prompt"
    if not isinstance(prompt, str) or not prompt.strip():
        return "blank-prompt"
    return "bad-idempotency-key" if model in POOLS else "unknown-model"

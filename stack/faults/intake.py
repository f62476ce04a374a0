"""Broken input handling: bad requests that are served, or that bring the handler down."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from stack.common.claims import POOLS
from stack.common.requests import MAX_BODY_BYTES

if TYPE_CHECKING:
    from starlette.requests import Request

    from stack.faults.switch import Faults


def served_anyway(faults: Faults, request: Request, raw: bytes) -> bool:
    """Whether this bad request is served as if it were good; raises where it brings the handler down."""
    case = _case(request, raw)
    if faults.on(f"freeside-chokes-on-{case}"):
        raise RuntimeError(f"the fault freeside-chokes-on-{case} is on")
    return faults.on(f"freeside-serves-{case}")


def _case(request: Request, raw: bytes) -> str:
    """Which of the suite's bad inputs it is."""
    if len(raw) > MAX_BODY_BYTES:
        return "oversized"
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
    return "bad-key" if model in POOLS else "unknown-model"

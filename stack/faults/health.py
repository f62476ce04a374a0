"""Broken health routes: answers that are wrong, late, or not what the service knows about itself."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from stack.common.http import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stack.faults.switch import Faults

Body = dict[str, Any]


async def report(faults: Faults, service: str, body: Body, status: int = 200) -> Response:
    """The health answer as sent: untouched, or broken in the way that is switched on."""
    seconds = faults.number(f"{service}-health-slow", "seconds", 3.0)
    if seconds is not None:
        await asyncio.sleep(seconds)
    flaky = faults.number(f"{service}-health-flaky", "times", 1)
    if flaky is not None and faults.tick(f"{service}-health-flaky") <= flaky:
        raise ApiError(500, "INTERNAL_ERROR", "Something went wrong on our side")
    if faults.on(f"{service}-health-503"):
        return JSONResponse({"status": "unhealthy", "error": "database_unreachable"}, 503)
    if faults.on(f"{service}-health-missing"):
        raise ApiError(404, "NOT_FOUND", "No such resource")
    for name, change in _CHANGES.items():
        if faults.on(f"{service}-{name}"):
            body = change(body)
    if faults.on(f"{service}-build-changes"):
        asked = faults.tick(f"{service}-build-changes")
        body = {**body, "build_sha": hashlib.sha1(f"{asked}".encode(), usedforsecurity=False).hexdigest()}
    return JSONResponse(_dixie(faults, body) if service == "dixie" else body, status)


def _dixie(faults: Faults, body: Body) -> Body:
    """What Dixie says about what it depends on."""
    if faults.on("dixie-hides-postgresql-down"):
        body = {**body, "infrastructure": {"postgresql": {"status": "unhealthy"}}}
    if faults.on("dixie-hides-finn-unreachable"):
        services = {**body["services"], "loa_finn": {"status": "unreachable", "circuit_state": "open"}}
        body = {**body, "services": services}
    if faults.on("dixie-circuit-open"):
        services = {**body["services"], "loa_finn": {"status": "healthy", "circuit_state": "open"}}
        body = {**body, "services": services}
    if faults.on("dixie-without-infrastructure"):
        body = {name: value for name, value in body.items() if name != "infrastructure"}
    if faults.on("dixie-reputation-uninitialized"):
        body = {**body, "reputation_service": {"initialized": False, "aggregate_count": 0}}
    return body


def _untyped(body: Body) -> Body:
    return {name: "a while" if name.startswith("uptime") else value for name, value in body.items()}


_CHANGES: dict[str, Callable[[Body], Body]] = {
    "health-unhealthy": lambda body: {**body, "status": "unhealthy"},
    "health-degraded": lambda body: {**body, "status": "degraded"},
    "health-untyped": _untyped,
    "build-missing": lambda body: {name: value for name, value in body.items() if name != "build_sha"},
    "build-wrong": lambda body: {**body, "build_sha": "0badc0de" * 5},
}

"""Requests per minute and tenant, in this process: a fixed window, generous enough for any smoke run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stack.common.errors import ApiError

if TYPE_CHECKING:
    from stack.common.claims import Claims
    from stack.faults.switch import Faults

WINDOW_S = 60
LIMITS = {"free": 1200, "pro": 3000, "enterprise": 6000}


class RateLimiter:
    """Counts calls and says how many are left."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._used: dict[str, int] = {}
        self._window = 0
        faults.on_reset(self._used.clear)

    def admit(self, claims: Claims) -> dict[str, str]:
        """The X-RateLimit headers for the answer; raises 429 RATE_LIMITED with Retry-After."""
        now = int(time.time())
        if now // WINDOW_S != self._window:
            self._window = now // WINDOW_S
            self._used.clear()
        limit = LIMITS[claims.tier]
        used = self._used[claims.tenant_id] = self._used.get(claims.tenant_id, 0) + 1
        headers = {"x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(max(0, limit - used))}
        if self._faults.on("freeside-hides-rate-limit"):
            headers = {}
        if used > limit:
            raise _limited(headers, WINDOW_S - now % WINDOW_S)
        if self._faults.on("freeside-limits-everything"):
            raise _limited(headers, 90)
        if self._every("freeside-limits-every-third", 3):
            raise _limited(headers, 1)
        if self._every("freeside-429-without-retry-after", 3):
            raise ApiError(429, "RATE_LIMITED", "Too many requests", headers)
        return headers

    def _every(self, fault: str, default: float) -> bool:
        every = self._faults.number(fault, "every", default)
        return every is not None and self._faults.tick(fault) % int(every) == 0


def _limited(headers: dict[str, str], retry_after: int) -> ApiError:
    return ApiError(429, "RATE_LIMITED", "Too many requests", {**headers, "retry-after": str(retry_after)})

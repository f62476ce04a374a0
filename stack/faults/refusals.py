"""Refusals that tell too much, cost something, or are not what they look like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack.common.errors import ApiError

if TYPE_CHECKING:
    from stack.faults.switch import Faults

_CHALLENGE = {"www-authenticate": "Bearer"}
_TRACE = 'Traceback (most recent call last):\n  File "verifier.py", line 87, in verify\nTokenRefused'
# Shaped like a key, and none.
_KEY = (
    "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----"
)


def unauthorized(faults: Faults, case: str) -> ApiError:
    """The 401 as sent: without detail, or broken in the way that is switched on."""
    message, status, headers = "Authentication required", 401, dict(_CHALLENGE)
    if faults.on("freeside-errors-explain"):
        message = f"token refused: {case}; expected aud=arrakis, alg=ES256, a known kid"
    if faults.on("freeside-errors-leak-trace"):
        message = _TRACE
    if faults.on("freeside-errors-leak-key"):
        message = f"cannot verify with {_KEY}"
    if faults.on("freeside-refuses-with-200"):
        status = 200
    if faults.on("freeside-refuses-with-500"):
        status = 500
    error = ApiError(status, "UNAUTHORIZED", message, headers)
    if faults.on("freeside-refuses-in-html"):
        error.page = "<html><body><h1>401 Unauthorized</h1></body></html>"
    return error


class Grudge:
    """The fault of a gate that, having refused some, refuses all."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._refusals = 0
        faults.on_reset(self._forget)

    def _forget(self) -> None:
        self._refusals = 0

    def refused(self) -> None:
        """Count a refusal."""
        if self._faults.on("freeside-locks-out"):
            self._refusals += 1

    def bears(self) -> bool:
        """Whether a valid token is refused as well."""
        patience = self._faults.number("freeside-locks-out", "after", 5)
        return self._faults.on("freeside-refuses-valid-tokens") or (
            patience is not None and self._refusals >= patience
        )

"""Refusals that tell too much, or are not what they look like."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stack.common.http import ApiError
    from stack.faults.switch import Faults

_TRACE = 'Traceback (most recent call last):\n  File "verifier.py", line 87, in verify\nTokenRefused'
# Shaped like a key, and none.
_KEY = (
    "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----"
)
# Statuses whose code tells a caller what to do next.
_CODED = (402, 403, 409)
_PAGE = "<html><body><h1>401 Unauthorized</h1></body></html>"


def refusal(faults: Faults, service: str, case: str, error: ApiError) -> ApiError:
    """The 401 as sent: untouched, or broken in the way that is switched on."""
    if faults.on(f"{service}-errors-explain"):
        error.message = f"token refused: {case}; expected ES256, a known kid and the right audience"
    if faults.on(f"{service}-errors-leak-trace"):
        error.message = _TRACE
    if faults.on(f"{service}-errors-leak-key"):
        error.message = f"cannot verify with {_KEY}"
    if faults.on(f"{service}-refuses-with-200"):
        error.status = 200
    if faults.on(f"{service}-refuses-with-500"):
        error.status = 500
    if faults.on(f"{service}-refuses-in-html"):
        error.page = _PAGE
    return error


def code(faults: Faults, service: str, error: ApiError) -> ApiError:
    """The error as sent: with its code, or with one that says nothing."""
    if service == "freeside" and error.status in _CODED and faults.on("freeside-misnames-errors"):
        error.code = "ERROR"
    return error


def unrouted(faults: Faults, service: str, error: ApiError) -> ApiError:
    """The answer on a path that is none: in JSON, or as a page."""
    if service == "freeside" and faults.on("freeside-answers-404-in-html"):
        error.page = _PAGE
    return error

"""Errors as the wire shows them: one exception, and one JSON dialect per service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping


class ApiError(Exception):
    """An answer other than success: HTTP status, stable code, a message that is safe to show to anyone."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        # A page instead of the JSON body: only faults send one.
        self.page: str | None = None


def standard(error: ApiError) -> Response:
    """`{"error": CODE, "message": text}`: Freeside, and everything the contract says nothing else about."""
    if error.page is not None:
        return Response(error.page, error.status, error.headers, "text/html")
    body = {"error": error.code, "message": error.message}
    return JSONResponse(body, error.status, headers=error.headers)


def finn(error: ApiError) -> Response:
    """`{"error": text, "code": CODE}`: Finn's dialect (contract section 2)."""
    return JSONResponse({"error": error.message, "code": error.code}, error.status, headers=error.headers)


def dixie(error: ApiError) -> Response:
    """`{"error": "lower_case", "message": text}`: Dixie's dialect (contract section 3)."""
    body = {"error": error.code.lower(), "message": error.message}
    return JSONResponse(body, error.status, headers=error.headers)


def bad_request(message: str) -> ApiError:
    """400 INVALID_REQUEST."""
    return ApiError(400, "INVALID_REQUEST", message)


def unavailable(message: str = "The service is temporarily unavailable") -> ApiError:
    """503 SERVICE_UNAVAILABLE: ours, not a third party's."""
    return ApiError(503, "SERVICE_UNAVAILABLE", message)

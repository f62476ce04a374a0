"""API calls that AWS refuses: no permission, throttled, expired. Runs in the emulator's process."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

CBOR = "application/cbor"
STATUS = {"InternalFailure": 500, "ServiceUnavailable": 503}
# AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...
SIGNING_NAME = re.compile(r"Credential=[^/]*/[^/]*/[^/]*/([^/]+)/")


class Refusals:
    """The services that refuse, each with an error code; found by the signature's service name."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}

    def refuse(self, service: str, code: str) -> None:
        """Refuse every call of a service, by its signing name (`monitoring` for CloudWatch; `*` for all)."""
        self._codes[service] = code

    def heal(self) -> None:
        """Refuse nothing."""
        self._codes = {}

    def answer(self, request: Request) -> Response | None:
        """Return the answer to a request that is to be refused, None for any other."""
        if not self._codes:
            return None
        signed = SIGNING_NAME.search(request.headers.get("authorization", ""))
        code = self._codes.get(signed[1] if signed else "") or self._codes.get("*")
        if code is None:
            return None
        content_type, body = _error(request.headers.get("content-type", ""), code)
        headers = {"smithy-protocol": "rpc-v2-cbor"} if content_type == CBOR else {}
        return Response(body, STATUS.get(code, 400), {"content-type": content_type, **headers})


def _error(asked_in: str, code: str) -> tuple[str, bytes]:
    """Return content type and body of an error, in the protocol of the request's content type."""
    message = f"the embedded platform answers {code} on request"
    if "cbor" in asked_in:
        return CBOR, b"\xa2" + b"".join(_cbor_text(text) for text in ("__type", code, "message", message))
    if "json" in asked_in:
        return "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message}).encode()
    xml = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return "text/xml", f"<ErrorResponse>{xml}</ErrorResponse>".encode()


def _cbor_text(text: str) -> bytes:
    data = text.encode()
    head = bytes([0x60 + len(data)]) if len(data) < 24 else bytes([0x78, len(data)])
    return head + data

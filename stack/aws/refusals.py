"""API calls that AWS refuses: no permission, throttled, expired. Runs in the emulator's process."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

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

    async def answer(
        self, scope: MutableMapping[str, Any], send: Callable[[MutableMapping[str, Any]], Awaitable[None]]
    ) -> bool:
        """Answer a request that is to be refused, and return whether it was."""
        if not self._codes:
            return False
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        signed = SIGNING_NAME.search(headers.get("authorization", ""))
        code = self._codes.get(signed[1] if signed else "") or self._codes.get("*")
        if code is None:
            return False
        content_type, body = _error(headers.get("content-type", ""), code)
        answer = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        if content_type == CBOR:
            answer.append((b"smithy-protocol", b"rpc-v2-cbor"))
        await send({"type": "http.response.start", "status": STATUS.get(code, 400), "headers": answer})
        await send({"type": "http.response.body", "body": body})
        return True


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

"""API calls that AWS refuses: no permission, throttled, expired. Runs in the emulator's process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

CBOR = "application/cbor"
STATUS = {"ThrottlingException": 400, "InternalFailure": 500, "ServiceUnavailable": 503}


class Refusals:
    """The services that refuse, each with an error code; found by the signature's service name."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}

    def deny(self, service: str, code: str) -> None:
        """Refuse every call of a service, by its signing name (`monitoring` for CloudWatch; `*` for all)."""
        self._codes[service] = code

    def heal(self) -> None:
        """Refuse nothing."""
        self._codes = {}

    async def refuse(
        self, scope: MutableMapping[str, Any], send: Callable[[MutableMapping[str, Any]], Awaitable[None]]
    ) -> bool:
        """Answer a request that is to be refused, and return whether it was."""
        if not self._codes:
            return False
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        code = self._codes.get(_service(headers)) or self._codes.get("*")
        if code is None:
            return False
        content_type, body = _error(headers, code)
        answer = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        if content_type == CBOR:
            answer.append((b"smithy-protocol", b"rpc-v2-cbor"))
        status = STATUS.get(code, 400)
        await send({"type": "http.response.start", "status": status, "headers": answer})
        await send({"type": "http.response.body", "body": body})
        return True


def _service(headers: dict[str, str]) -> str:
    # AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...
    scope = headers.get("authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
    return scope[3] if len(scope) > 3 else ""


def _error(headers: dict[str, str], code: str) -> tuple[str, bytes]:
    message = f"the embedded platform was told to answer {code}"
    content_type = headers.get("content-type", "")
    if "cbor" in content_type:
        return CBOR, b"\xa2" + b"".join(_cbor_text(text) for text in ("__type", code, "message", message))
    if "json" in content_type:
        return "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message}).encode()
    xml = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return "text/xml", f"<ErrorResponse>{xml}</ErrorResponse>".encode()


def _cbor_text(text: str) -> bytes:
    data = text.encode()
    head = bytes([0x60 + len(data)]) if len(data) < 24 else bytes([0x78, len(data)])
    return head + data

"""Sends botocore's requests as the suite sends all others: within a total time, and a limit of bytes.

botocore itself limits each read alone, reads a body of any length, and parses whatever it was given.
"""

import re
from typing import Any

import httpx

from smoke.network.strict_json import NotStrict, strict_json
from smoke.network.transport import ContractViolation, failed_in_handshake, http_pool, trusting

#: A page of log events may have a mebibyte, and more as JSON.
MAX_BODY = 8 * 1024 * 1024
_KINDS = re.compile("json|xml|cbor")


class BoundedSender:
    """A handler of botocore's event ``before-send``, whose answer takes the place of botocore's own."""

    def __init__(self, ca_bundle: str | None, *, within: float) -> None:
        self._pool = http_pool(
            "pytest-readiness-smoke",
            proxies=True,
            answers_within=within,
            max_body=MAX_BODY,
            trust=trusting(ca_bundle) if ca_bundle else None,
        )

    def __call__(self, request: Any, **_: Any) -> Any:
        """The answer; botocore's exception of the same meaning when there is none."""
        from botocore import exceptions
        from botocore.awsrequest import AWSResponse
        from botocore.parsers import ResponseParserError

        told: dict[str, Any] = {"endpoint_url": request.url}
        try:
            answer = self._pool.request(
                request.method, request.url, headers=dict(request.headers), content=request.body
            )
            _require_readable(answer)
        except httpx.ConnectTimeout as error:
            raise exceptions.ConnectTimeoutError(**told, error=error) from error
        except httpx.TimeoutException as error:
            raise exceptions.ReadTimeoutError(**told, error=error) from error
        except httpx.ConnectError as error:
            kind = exceptions.SSLError if failed_in_handshake(error) else exceptions.EndpointConnectionError
            raise kind(**told, error=error) from error
        except ContractViolation as error:
            raise ResponseParserError(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise exceptions.ConnectionClosedError(**told, error=error) from error
        return AWSResponse(request.url, answer.status_code, answer.headers, _Read(answer.content))


class _Read:
    """A body that was read, in the form that botocore reads."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> list[bytes]:
        """The whole content."""
        return [self._content]


def _require_readable(answer: httpx.Response) -> None:
    """ContractViolation for a body that botocore would stumble over, or take for an empty answer."""
    kind = answer.headers.get("content-type", "")
    if answer.content and not _KINDS.search(kind):
        raise ContractViolation(f"expected an answer of an AWS API, got {kind[:80]!r}")
    if "json" in kind and answer.content:
        try:
            found = strict_json(answer.content)
        except NotStrict as problem:
            raise ContractViolation(f"expected JSON of an AWS API, got {problem}") from None
        if not isinstance(found, dict):
            raise ContractViolation("expected a JSON object of an AWS API, got another value")
    if "xml" in kind and b"<!" in answer.content:
        raise ContractViolation("expected XML of an AWS API, got one that declares its own document type")

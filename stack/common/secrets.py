"""GetSecretValue over plain HTTP with Signature Version 4.

boto3 would do, but loading it and its service models costs each of the processes more start-up time than all
the rest together; the one call that the services make is this small.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from stack.common.settings import Settings

_TARGET = "secretsmanager.GetSecretValue"
_SERVICE = "secretsmanager"
_TYPE = "application/x-amz-json-1.1"


class SecretUnreadable(Exception):
    """The value could not be read; that never means that it is empty."""


async def read(http: httpx.AsyncClient, settings: Settings) -> str:
    """The current value of the service's secret; raises SecretUnreadable."""
    body = json.dumps({"SecretId": settings.secret_id}).encode()
    headers = _signed(settings, body, datetime.now(UTC))
    try:
        response = await http.post(settings.aws_endpoint + "/", content=body, headers=headers, timeout=5.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SecretUnreadable(f"{settings.secret_id}: {type(error).__name__}") from error
    if response.status_code != 200:
        raise SecretUnreadable(f"{settings.secret_id}: HTTP {response.status_code}")
    try:
        value = response.json().get("SecretString")
    except ValueError as error:
        raise SecretUnreadable(f"{settings.secret_id}: the answer is not JSON") from error
    if not isinstance(value, str):
        raise SecretUnreadable(f"{settings.secret_id}: the answer holds no string")
    return value


def _signed(settings: Settings, body: bytes, now: datetime) -> dict[str, str]:
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {
        "content-type": _TYPE,
        "host": urlsplit(settings.aws_endpoint).netloc,
        "x-amz-date": stamp,
        "x-amz-target": _TARGET,
    }
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join(("POST", "/", "", lines, names, hashlib.sha256(body).hexdigest()))
    scope = f"{day}/{settings.aws_region}/{_SERVICE}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{settings.aws_secret_access_key}".encode()
    for part in (day, settings.aws_region, _SERVICE, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()
    credential = f"{settings.aws_access_key_id}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    )
    return headers

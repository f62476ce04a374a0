"""Reads that fail on purpose, in this process alone: they prove that "failed" is not taken for "empty"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from smoke.aws.account import Account

from .store import CLIENT

EVENT = "before-call.secretsmanager.GetSecretValue"
CODES = {"AccessDeniedException": 400, "ThrottlingException": 400, "InternalServiceError": 500}


@contextmanager
def failing_reads(account: Account, code: str) -> Iterator[None]:
    """A block in which every read of a secret's value fails with a code of CODES."""
    client, status = account.client(CLIENT), CODES[code]
    answer = {
        "Error": {"Code": code, "Message": "refused on purpose"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }

    def refuse(**_: Any) -> tuple[Any, dict[str, Any]]:
        return _Http(status), answer

    client.meta.events.register(EVENT, refuse)
    try:
        yield
    finally:
        client.meta.events.unregister(EVENT, refuse)


class _Http:
    """What botocore looks at of an answer that it did not fetch itself."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code

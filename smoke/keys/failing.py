"""Reads that fail on purpose, in this process alone: they prove that "failed" is not taken for "empty"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from .aws import Aws

EVENT = "before-call.secretsmanager.GetSecretValue"
CODES = {"AccessDeniedException": 400, "ThrottlingException": 400, "InternalServiceError": 500}


def failing_reads(aws: Aws) -> Iterator[tuple[str, AbstractContextManager[None]]]:
    """Each code with a block in which every read of a secret's value fails with it."""
    for code, status in CODES.items():
        yield code, _failing(aws.client("secretsmanager"), code, status)


@contextmanager
def _failing(client: Any, code: str, status: int) -> Iterator[None]:
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

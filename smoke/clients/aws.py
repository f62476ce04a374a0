"""AWS as the profile names it, with short timeouts; boto3 is imported by whoever asks."""

from __future__ import annotations

from typing import Any

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10


def aws_client(environment: Any, service: str) -> Any:
    """A boto3 client for the profile's region and endpoint."""
    import boto3
    from botocore.config import Config

    session: Any = boto3.session.Session(region_name=environment.aws.region)
    return session.client(
        service,
        endpoint_url=environment.aws.endpoint_url or None,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": 2},
        ),
    )

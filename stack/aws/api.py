"""boto3 clients of the emulator."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stack.aws.names import CREDENTIALS, REGION

if TYPE_CHECKING:
    from collections.abc import Callable

    # botocore makes its client classes at run time
    Clients = Callable[[str], Any]


def clients(endpoint: str) -> Clients:
    """Return a function from a service's name to its boto3 client at `endpoint`, made on first use."""
    import boto3
    from botocore.config import Config

    session: Any = boto3.session.Session(
        CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"], region_name=REGION
    )
    # Cloud Map would put "data-" in front of the host.
    config = Config(inject_host_prefix=False, retries={"mode": "standard", "total_max_attempts": 3})
    return functools.cache(lambda service: session.client(service, endpoint_url=endpoint, config=config))

"""botocore clients of the emulator."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from stack.aws.names import CREDENTIALS, REGION

if TYPE_CHECKING:
    from collections.abc import Callable

    # botocore makes its client classes at run time
    Clients = Callable[[str], Any]


def clients(endpoint: str) -> Clients:
    """Return a function from a service's name to its client at `endpoint`, made on first use."""
    # Not through boto3, which costs a fifth of a second more to import and gives the same clients.
    import botocore.session
    from botocore.config import Config

    session: Any = botocore.session.get_session()
    session.set_credentials(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
    # Cloud Map would put "data-" in front of the host.
    config = Config(inject_host_prefix=False, retries={"mode": "standard", "total_max_attempts": 3})

    @functools.cache
    def client(service: str) -> Any:
        return session.create_client(service, region_name=REGION, endpoint_url=endpoint, config=config)

    return client

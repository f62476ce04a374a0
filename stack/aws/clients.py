"""Clients of the emulator: botocore's for the AWS APIs, and one for its control API."""

import functools
import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config

from stack import StackError
from stack.aws.inventory import CREDENTIALS, REGION
from stack.host import LOOPBACK

Clients = Callable[[str], Any]

#: Where the emulator reports that it is up.
HEALTH = "/_ministack/health"


def clients(endpoint: str) -> Clients:
    """Return a function from a service's name to its client at `endpoint`, made on first use."""
    session: Any = botocore.session.get_session()
    session.set_credentials(CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
    # Cloud Map would put "data-" in front of the host.
    config = Config(inject_host_prefix=False, retries={"mode": "standard", "total_max_attempts": 3})

    @functools.cache
    def client(service: str) -> Any:
        return session.create_client(service, region_name=REGION, endpoint_url=endpoint, config=config)

    return client


class ControlClient:
    """Remembers, restores, compares and alters the emulator's state. Every method may raise StackError."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def remember(self) -> None:
        """Take the present state as the one that `restore` brings back."""
        self._ask("POST", "remember")

    def publish(self, series: list[dict[str, Any]]) -> None:
        """Have these metric series published from now on, and every alarm judged."""
        self._ask("PUT", "metrics", {"series": series})

    def restore(self) -> None:
        """Bring back the remembered state."""
        self._ask("POST", "restore")

    def digest(self) -> str:
        """Return the SHA-256 of the present state."""
        return str(self._ask("GET", "state")["digest"])

    def alter(self, name: str, params: Mapping[str, Any]) -> None:
        """Apply one of the alterations of `stack.aws.alterations`."""
        self._ask("PUT", f"faults/{name}", params)

    def mutants(self) -> list[dict[str, Any]]:
        """Return every small change of the present state as data."""
        listed: list[dict[str, Any]] = self._ask("GET", "mutants")["mutants"]
        return listed

    def mutate(self, mutant_id: str) -> None:
        """Make one of these changes."""
        self._ask("PUT", "mutants", {"id": mutant_id})

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        address = urlsplit(self._endpoint)
        connection = http.client.HTTPConnection(address.hostname or LOOPBACK, address.port, timeout=10)
        try:
            connection.request(method, f"/_stack/{path}", body=None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer: dict[str, Any] = json.load(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise StackError(f"the AWS emulator did not answer {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise StackError(f"the AWS emulator refused {path}", str(answer.get("message", "")))
        return answer

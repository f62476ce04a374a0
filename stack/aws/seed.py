"""Fills the emulator with what contract section 4 says: `python -m stack.aws.seed`, once at boot.

Reads STACK_AWS_ENDPOINT. Started together with the emulator: while that comes up, this imports boto3.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from stack.aws.client import SideDoorClient
from stack.aws.launcher import HEALTH
from stack.aws.names import REGION, SIGNERS, secret_id
from stack.ports import answers_ok
from stack.process import wait_until
from stack.supervisor import BOOT_DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    # botocore makes its client classes at run time
    Clients = Callable[[str], Any]


def clients(endpoint: str) -> Clients:
    """Return a function from a service's name to its boto3 client at `endpoint`."""
    import boto3
    from botocore.config import Config

    session: Any = boto3.session.Session(region_name=REGION)
    # Cloud Map would put "data-" in front of the host.
    config = Config(inject_host_prefix=False, retries={"mode": "standard", "total_max_attempts": 3})
    return lambda service: session.client(service, endpoint_url=endpoint, config=config)


def new_key() -> str:
    """Return a fresh P-256 private key, PKCS#8 PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def secrets(aws: Clients) -> None:
    """Create the signing keys' secrets, each with a key that exists nowhere else."""
    manager = aws("secretsmanager")
    for service in SIGNERS:
        manager.create_secret(Name=secret_id(service), SecretString=new_key())


def main() -> None:
    """Seed everything, then have the emulator remember it."""
    endpoint = os.environ["STACK_AWS_ENDPOINT"]
    aws = clients(endpoint)
    wait_until(lambda: answers_ok(endpoint + HEALTH), time.monotonic() + BOOT_DEADLINE_S)
    secrets(aws)
    SideDoorClient(endpoint).remember()


if __name__ == "__main__":
    main()

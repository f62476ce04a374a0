"""Fills the emulator with what contract section 4 says: `python -m stack.aws.seed`, once at boot.

Reads STACK_AWS_ENDPOINT and STACK_ADDRESSES (NAME=HOST:PORT, comma-separated). Started together with the
emulator, it imports botocore while that comes up.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from stack.aws import compute, key_operator, monitoring, network
from stack.aws.clients import ControlClient, clients
from stack.aws.inventory import all_alarms
from stack.aws.launcher import HEALTH
from stack.aws.names import SIGNERS, secret_id
from stack.host import answers_ok
from stack.process import wait_until
from stack.supervisor import BOOT_DEADLINE_S

if TYPE_CHECKING:
    from stack.aws.clients import Clients


def everything(aws: Clients, addresses: dict[str, str], door: ControlClient) -> None:
    """Create all of it; `addresses` maps a Cloud Map name to the HOST:PORT where the part answers."""
    names = [secret_id(service) for service in SIGNERS]
    arns = {name: aws("secretsmanager").describe_secret(SecretId=name)["ARN"] for name in names}
    net = network.seed(aws, addresses)
    compute.seed(aws, net, arns)
    key_operator.seed(aws, arns.values())
    alarms = all_alarms(net.targets)
    # Datapoints first: an alarm that finds none would be in ALARM for a moment, and tell so.
    door.publish([metric.series() for metric in dict.fromkeys(alarm.metric for alarm in alarms)])
    monitoring.seed(aws, alarms)
    wait_until(lambda: compute.migrations_are_over(aws), time.monotonic() + BOOT_DEADLINE_S)
    door.remember()


def main() -> None:
    """Seed everything, then have the emulator remember it."""
    endpoint = os.environ["STACK_AWS_ENDPOINT"]
    addresses = dict(pair.split("=") for pair in os.environ["STACK_ADDRESSES"].split(","))
    aws = clients(endpoint)
    wait_until(lambda: answers_ok(endpoint + HEALTH), time.monotonic() + BOOT_DEADLINE_S)
    everything(aws, addresses, ControlClient(endpoint))


if __name__ == "__main__":
    main()

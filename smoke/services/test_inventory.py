"""G-1, phase services: what runs is what the plan's inventory declares, and names resolve."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pytest_readiness import Evidence

from smoke.aws.addresses import resolve
from smoke.aws.inventory import columns, differences, seen_of
from smoke.aws.names import HOSTS, SERVICES
from smoke.aws.reader import AwsReader

pytestmark = [
    pytest.mark.goal("G-1"),
    pytest.mark.phase("services"),
    pytest.mark.p1,
    pytest.mark.requires("aws"),
]


@pytest.mark.parametrize("service", SERVICES)
def test_inventory(
    aws: AwsReader, plan_inventory: Sequence[Mapping[str, Any]], service: str, evidence: Evidence
) -> None:
    """CPU, memory, image and address are the declared ones."""
    declared = next((row for row in plan_inventory if row["ecs"] == service), None)
    assert declared, f"the plan's inventory has no row whose ecs is {service!r}"
    found = seen_of(aws.service(service), aws.definition(service), aws.routes(), aws.registered())
    compared = columns(declared, found)
    for name, (wanted, seen) in compared.items():
        evidence.figure(f"inventory/{declared['key']}/{name}", seen, expected=wanted or None)
    different = differences(compared)
    assert not different, f"{service} differs from the plan: {'; '.join(different)}"


@pytest.mark.parametrize("host", HOSTS)
def test_cloud_map(aws: AwsReader, host: str, evidence: Evidence) -> None:
    """The name that the services know each other by resolves."""
    aws.cluster()
    addresses = resolve(aws.account, aws.names, host)
    evidence.figure(f"addresses of {host}.{aws.names.namespace}", addresses, limit=">= 1")
    assert addresses, f"{host}.{aws.names.namespace} resolves to nothing in Cloud Map"

"""The plan's inventory beside what runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .balancer import Route, route_to
from .ecs import Definition, Service
from .images import repository_of


@dataclass(frozen=True, slots=True)
class Seen:
    """What runs of one service; `addresses` are HOST or HOST:PORT, the balancer's before Cloud Map's."""

    cpu: int
    memory: int
    image: str
    addresses: tuple[str, ...]


def seen_of(
    service: Service, definition: Definition, routes: Sequence[Route], registered: Mapping[str, str]
) -> Seen:
    """What is observed of a service, for each column of the inventory."""
    container = definition.main(service.name)
    route = route_to(routes, service.target_groups)
    port = f":{container.ports[0]}" if container.ports else ""
    internal = [f"{registered[arn]}{port}" for arn in service.registries if arn in registered]
    return Seen(
        cpu=definition.cpu,
        memory=definition.memory,
        image=repository_of(container.image),
        addresses=(*(route.hosts if route else ()), *internal),
    )


def columns(declared: Mapping[str, Any], seen: Seen) -> dict[str, tuple[Any, Any]]:
    """For each column (declared, observed): what the plan leaves empty is not compared, only shown.

    A service may be known by several names: the declared one is shown when it is among them.
    """
    return {
        "cpu": (declared["cpu"], seen.cpu),
        "memory": (declared["memory"], seen.memory),
        "image": (declared["image"], seen.image),
        "url": (declared["url"], _address(str(declared["url"]), seen.addresses)),
    }


def differences(compared: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """The columns in which something else runs than what is declared."""
    return [
        f"{name}: {observed or 'none'} runs, {declared} is declared"
        for name, (declared, observed) in compared.items()
        if declared and declared != observed
    ]


def _address(declared: str, addresses: Sequence[str]) -> str:
    for address in addresses:
        if declared and declared in {address, address.rpartition(":")[0]}:
            return declared
    return addresses[0] if addresses else ""

"""The plan's inventory beside what runs: images, sizes and addresses."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .addresses import BalancerRoute, routes_to
from .ecs import EcsService, TaskDefinition

SHA = re.compile(r"[0-9a-f]{7,40}")
_VERSION = re.compile(r"v?\d+(\.\d+)+([.-][\w.-]+)?")


def tag_of(image: str) -> str:
    """The tag of an image; empty where it has none."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2]


def repository_of(image: str) -> str:
    """The image's repository: neither registry nor tag nor digest."""
    name = image.partition("@")[0]
    head, slash, rest = name.partition("/")
    # what comes first is a registry when it looks like a host
    path = rest if slash and ("." in head or ":" in head) else name
    folder, slash, last = path.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"


def is_commit(image: str, build: str = "") -> bool:
    """Whether the tag is a git sha: anything else can come to mean another build.

    Digits alone are a date or a number as well, and a sha only where the `build` that runs agrees.
    """
    tag = tag_of(image)
    return SHA.fullmatch(tag) is not None and (not tag.isdigit() or agree(tag, build))


def is_pinned(image: str) -> bool:
    """Whether an image is one build for ever: by a version, a number, a commit or a digest."""
    tag = tag_of(image)
    return bool(digest_of(image) or SHA.fullmatch(tag) or _VERSION.fullmatch(tag))


def digest_of(image: str) -> str:
    """The digest of an image; empty where it has none."""
    return image.partition("@")[2]


def same_image(first: str, second: str) -> bool | None:
    """Whether two are one image; None where one has only a tag and the other only a digest."""
    if repository_of(first) != repository_of(second):
        return False
    parts = [(digest_of(first), digest_of(second)), (tag_of(first), tag_of(second))]
    agreed = [one == other for one, other in parts if one and other]
    return agreed[0] if agreed else None if any(map(any, parts)) else True


def agree(tag: str, build: str) -> bool:
    """Whether a tag and a build are the same commit: one is a prefix of the other."""
    return bool(tag and build) and (build.startswith(tag) or tag.startswith(build))


@dataclass(frozen=True, slots=True)
class ObservedService:
    """What runs of one service; `addresses` are HOST or HOST:PORT, the balancer's before Cloud Map's."""

    cpu: int
    memory: int
    image: str
    addresses: tuple[str, ...]


def seen_of(
    service: EcsService,
    definition: TaskDefinition,
    routes: Sequence[BalancerRoute],
    registered: Mapping[str, str],
) -> ObservedService:
    """What is observed of a service, for each column of the inventory."""
    container = definition.main(service.name)
    port = f":{container.ports[0]}" if container.ports else ""
    internal = [f"{registered[arn]}{port}" for arn in service.registries if arn in registered]
    return ObservedService(
        cpu=definition.cpu,
        memory=definition.memory,
        image=repository_of(container.image),
        addresses=(
            *(host for route in routes_to(routes, service.target_groups) for host in route.hosts),
            *internal,
        ),
    )


def columns(declared: Mapping[str, Any], seen: ObservedService) -> dict[str, tuple[Any, Any]]:
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
        f"{name}: runs {observed or 'nothing'}, declared {declared}"
        for name, (declared, observed) in compared.items()
        if declared and declared != observed
    ]


def _address(declared: str, addresses: Sequence[str]) -> str:
    for address in addresses:
        if declared and declared in {address, address.rpartition(":")[0]}:
            return declared
    return addresses[0] if addresses else ""

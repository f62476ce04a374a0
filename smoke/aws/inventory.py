"""Compares what runs with the plan and the contract: images, sizes, addresses, and what alarms watch."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from smoke.source import rules
from smoke.source.infrastructure.addresses import Directory
from smoke.source.infrastructure.connections import OF_ITSELF
from smoke.source.infrastructure.databases import Budget
from smoke.source.pipeline.programs import is_idle

from .alarms import Metric, Watch
from .balancer import BalancerRoute, routes_to, strange
from .databases import DATABASE_IS_DOWN
from .ecs import EcsService, TaskDefinition, repository_of
from .ecs_tasks import RunningTask
from .names import BUILDS, HOSTS, IF_SET, PORTS, SERVICES, resolve
from .reader import AwsReader

SHA = re.compile(r"[0-9a-fA-F]{7,40}")
_VERSION = re.compile(r"v?\d+(\.\d+)+([.-][\w.-]+)?")


def tag_of(image: str) -> str:
    """The tag of an image; empty if it has none."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2]


def is_commit(image: str, build: str = "") -> bool:
    """Whether the tag is a git sha; any other tag may later refer to another build.

    A tag of digits only may be a date or a number, and is a sha only if the running `build` agrees.
    """
    tag = tag_of(image)
    return SHA.fullmatch(tag) is not None and (not tag.isdigit() or agree(tag, build))


def is_pinned(image: str) -> bool:
    """Whether an image always means one build: by a version, a number, a commit or a digest."""
    tag = tag_of(image)
    return bool(digest_of(image) or SHA.fullmatch(tag) or _VERSION.fullmatch(tag))


def digest_of(image: str) -> str:
    """The digest of an image; empty if it has none."""
    return image.partition("@")[2]


def same_image(first: str, second: str) -> bool | None:
    """Whether two references mean one image; None if one has only a tag and the other only a digest."""
    if repository_of(first) != repository_of(second):
        return False
    parts = [(digest_of(first), digest_of(second)), (tag_of(first), tag_of(second))]
    agreed = [one == other or same_commit(one, other) for one, other in parts if one and other]
    return agreed[0] if agreed else None if any(map(any, parts)) else True


def agree(tag: str, build: str) -> bool:
    """Whether a tag and a build are the same commit: one is a prefix of the other, case-insensitively."""
    tag, build = tag.lower(), build.lower()
    return bool(tag and build) and (build.startswith(tag) or tag.startswith(build))


def same_commit(first: str, second: str) -> bool:
    """Whether both are commit ids and one abbreviates the other."""
    return all(map(SHA.fullmatch, (first, second))) and agree(first, second)


def strays(service: EcsService, definition: TaskDefinition, tasks: Sequence[RunningTask]) -> list[str]:
    """The tasks that run something other than what is deployed, and whether none is healthy.

    The health of a task without a health check is unknown.
    """
    wanted = service.definition.rpartition("/")[2]
    own = {box.name: box.image for box in definition.containers}
    wrong = []
    for task in tasks:
        if task.definition != wanted:
            wrong.append(f"task {task.name} runs {task.definition}, but {wanted} is deployed")
        wrong += [
            f"{name} of task {task.name} runs {image}, but {own[name]} is deployed"
            for name, image in task.images.items()
            if task.definition == wanted and name in own and same_image(image, own[name]) is False
        ]
    if tasks and all(task.health == "UNHEALTHY" for task in tasks):
        wrong.append(f"no task passes its own health check: {', '.join(task.name for task in tasks)}")
    return wrong


@dataclass(frozen=True, slots=True)
class ObservedService:
    """One service as it runs; `addresses` are HOST or HOST:PORT, the balancer's before Cloud Map's."""

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
    """A service's observed values, for each column of the inventory."""
    container = definition.main(service.name)
    port = f":{container.ports[0]}" if container.ports else ""
    internal = [f"{registered[arn]}{port}" for arn in service.registries if arn in registered]
    internal += service.aliases
    return ObservedService(
        cpu=definition.cpu,
        memory=definition.memory,
        image=repository_of(container.image),
        addresses=(
            *(host for route in routes_to(routes, service.target_groups) for host in route.addresses),
            *internal,
        ),
    )


def columns(declared: Mapping[str, Any], seen: ObservedService) -> dict[str, tuple[Any, Any]]:
    """For each column (declared, observed): values that the plan leaves empty are shown but not compared.

    If a service has several names, the declared one is shown if it is among them.
    """
    return {
        "cpu": (declared["cpu"], seen.cpu),
        "memory": (declared["memory"], seen.memory),
        "image": (declared["image"], seen.image),
        "url": (declared["url"], _address(str(declared["url"]), seen.addresses)),
    }


#: Units of the numeric columns: those of a task definition.
UNITS = {"cpu": "CPU units", "memory": "MiB"}


def differences(compared: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """The columns in which the running value differs from the declared one."""
    return [
        f"{name}: runs {observed or 'nothing'}, declared {declared} {UNITS.get(name, '')}".rstrip()
        for name, (declared, observed) in compared.items()
        if declared and declared != observed
    ]


def _address(declared: str, addresses: Sequence[str]) -> str:
    for address in addresses:
        if declared and (declared == address.rpartition(":")[0] or fnmatchcase(declared, address.lower())):
            return declared
    return addresses[0] if addresses else ""


def known_port(row: Mapping[str, Any]) -> int:
    """The port of a service of the plan's inventory inside the platform: its URL's, else the contract's."""
    port = str(row["url"]).rpartition(":")[2]
    return int(port) if port.isdecimal() else PORTS.get(row["ecs"], 0)


#: A health check of a container that fails whatever its service does.
_FAILS = re.compile(r"(?:CMD|CMD-SHELL) (?:exit [1-9]\d*|(?:/usr)?(?:/bin/)?false)")


def unserving(service: EcsService, task: TaskDefinition, health: str) -> Iterator[str]:
    """Why a task does not serve, whatever its image has: its command, its own check, its ports.

    `health` is the path of its health report. A container without port mappings may listen on any port.
    """
    main = task.main(service.name)
    mapped = {box.name: box.ports for box in task.containers}
    ports = {port for box in task.containers for port in box.ports}
    if is_idle(main.runs):
        yield f"command: {main.name} runs {' '.join(main.runs)}, which serves nothing"
    if _FAILS.fullmatch(" ".join(main.asks)):
        yield f"health: the check of {main.name} always fails: {' '.join(main.asks)}"
    asked = [int(port or 80) for port, path in OF_ITSELF.findall(" ".join(main.asks)) if path == health != ""]
    for at in asked[:1] if ports and not ports & {*asked} else ():  # another one may be an alternative
        listening = " and ".join(map(str, sorted(ports)))
        yield f"health: {main.name} checks itself on port {at}, but it listens on {listening}"
    for name, port in service.balanced:
        if name not in mapped or (mapped[name] and port not in mapped[name]):
            yield f"port: target groups use port {port} of {name}, which its task does not map"


def misnamed(
    services: Mapping[str, EcsService], registered: Mapping[str, str], owner: str, host: str
) -> list[str]:
    """Which services are registered under the owner's host name, and whether the owner has another name.

    `registered` has the host name of each registry. A service in no registry may be found in another way.
    """
    held = {name: [registered[arn] for arn in each.registries if arn in registered]
            for name, each in services.items() if name in SERVICES}  # fmt: skip
    wrong = [f"{name} is registered as {host}, the name of {owner}" for name in held if name != owner
             if host in held[name]]  # fmt: skip
    own = held.get(owner, [])
    if own and host not in own:
        wrong.append(f"{owner} is registered as {' and '.join(own)}, not as {host}")
    return wrong


def leftover(
    services: Mapping[str, EcsService],
    registered: Mapping[str, str],
    host: str,
    addresses: Sequence[str],
    of_tasks: Callable[[str], Collection[str] | None] = lambda _: None,
) -> str:
    """The addresses of a host name that belong to no running task behind it; empty if there are none.

    `of_tasks` are the addresses of a service's tasks, None if they have none of their own. During a
    deployment addresses come and go and prove nothing. A service without running tasks is reported elsewhere.
    """
    owners = [each for each in services.values() if host in {registered.get(arn) for arn in each.registries}]
    running = sum(each.running for each in owners)
    moving = any(len(each.deployments) != 1 or each.running != each.desired for each in owners)
    if not running or moving:
        return ""
    if len({*addresses}) <= running:
        found = strange(
            (each.partition(":")[0] for each in addresses), [of_tasks(each.name) for each in owners]
        )
        return f"{host} leads to {found}, which none of its tasks has as its address" if found else ""
    return f"{host} has {len({*addresses})} addresses and {running} tasks: {', '.join(sorted(addresses))}"


def directory_of(
    aws: AwsReader, declared: Sequence[str], connections: Mapping[str, int], keys: Mapping[str, str]
) -> Directory:
    """The addresses of this environment's services.

    `declared` are their addresses in the plan, `connections` its connection budget, `keys` the paths of their
    key sets by host name.
    """
    zone, tasks = aws.names.namespace, aws.definitions()
    hosts = {f"{host}.{zone}": service for host in HOSTS if (service := BUILDS.get(host, host)) in tasks}
    return Directory(
        aws.names.prefix,
        {
            host: {port for box in tasks[service].containers for port in box.ports}
            | {int(each.rpartition(":")[2]) for each in aws.service(service).aliases}
            for host, service in hosts.items()
        },
        [url for url in declared if url and not url.partition(":")[0].endswith(zone)],
        lambda host: bool(resolve(aws.account, aws.names, host.removesuffix(f".{zone}"))),
        IF_SET,
        {"pgbouncer": Budget.of(connections)},
        keys,
        {host: {port for box in tasks[service].containers for port in box.plain}
         for host, service in hosts.items()},
    )  # fmt: skip


REQUIRED = (
    *(f"{name}-{kind}" for name in ("api", "finn", "dixie") for kind in rules.KINDS),
    "rds-connections",
)
FURTHER = tuple(f"{name}-{kind}" for name in ("worker", "pgbouncer") for kind in rules.KINDS)
APPLICATION = {
    "invoke-latency": "InvokeLatencyMs",
    "jwt-validation": "JwtValidationFailedCount",
    "conservation": "ConservationViolationCount",
}


def watch_for(name: str, aws: AwsReader, facts: Mapping[str, Any]) -> Watch:
    """What the alarm of this name must watch.

    `facts` are the plan's: its connection budget and the time limit of alarms. AssertionError if the thing to
    watch does not exist.
    """
    within = facts["alarms"]
    if name in APPLICATION:
        metric = APPLICATION[name]
        own = Metric.of(aws.names.app_metrics, metric, {})
        return Watch((own,), rules.APPLICATION[metric], within)
    if name == "rds-connections":
        found = aws.databases()
        assert found, f"there is no database instance {aws.names.database}"
        down = [f"{each} is {state}" for each, state in found.items() if state in DATABASE_IS_DOWN]
        assert len(down) < len(found), f"the database instance {', '.join(down)}"
        of = [{"DBInstanceIdentifier": each} for each in found]
        if aws.names.database not in found:  # a cluster of this name
            cluster = {"DBClusterIdentifier": aws.names.database}
            of += [cluster, {**cluster, "Role": "WRITER"}]
        used = [Metric.of("AWS/RDS", "DatabaseConnections", each) for each in of]
        return Watch((*used,), rules.connections(facts["connections"]["total"]), within, of="rds")
    service, _, kind = name.rpartition("-")
    running = aws.service(service)
    by_service = {"ClusterName": aws.names.cluster, "ServiceName": aws.names.full(service)}
    if kind != "health":
        metric = rules.UTILIZATION_METRICS[kind]
        return Watch((Metric.of("AWS/ECS", metric, by_service),), rules.UTILIZATION, within, of=service)
    # A balancer's count of healthy hosts also shows whether any task is left.
    routes = routes_to(aws.routes(), running.target_groups) if running.target_groups else []
    hosts = [Metric.of(route.namespace, "HealthyHostCount", route.dimensions) for route in routes]
    reached = {route.target_group for route in routes}
    tasks = Metric.of("ECS/ContainerInsights", "RunningTaskCount", by_service)
    return Watch(
        (*dict.fromkeys(hosts), tasks),
        rules.HEALTH,
        within,
        of=service,
        unreached=frozenset(each.rpartition(":")[2] for each in running.target_groups if each not in reached),
        unpublished=frozenset() if aws.has_insights() else frozenset({tasks}),
    )

"""G-1, phase services: what runs matches the inventory, can start again, and is found, over TLS as well."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence, SetupError

from smoke.aws.balancer import (
    AT_PORT,
    CERTIFICATE_DAYS,
    TargetGroup,
    ailing,
    crowded,
    idle,
    read_target_groups,
    routes_to,
)
from smoke.aws.databases import astray
from smoke.aws.ecs import EcsService, expiring, images_there, read_services
from smoke.aws.ecs_tasks import addresses_of, left_without_tasks, moved, read_running
from smoke.aws.edge import (
    by_cloudfront,
    diverted,
    hindered,
    is_fronted,
    read_distributions,
    unserved,
)
from smoke.aws.inventory import (
    UNITS,
    columns,
    differences,
    directory_of,
    known_port,
    leftover,
    misnamed,
    seen_of,
    unserving,
)
from smoke.aws.names import BUILDS, FOREIGN, HOSTS, MIGRATIONS, SERVICES, SETTINGS, resolve
from smoke.aws.network import reached
from smoke.aws.reader import AwsReader
from smoke.aws.starting import unrotated
from smoke.aws.waf import PublicCall
from smoke.aws.zones import leads, misled, unresolved
from smoke.contract.model import MAX_BODY_BYTES, ROUTES
from smoke.contract.model import SERVICES as CONTRACT
from smoke.platform.http import address_of, certificate_of, key_paths, require_resolvable
from smoke.source.checkout import Examined, Finding
from smoke.source.infrastructure.addresses import is_mixed_up, pinned

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("services"), pytest.mark.p1]
#: The services with a public host, behind a load balancer.
PUBLIC = ("api", "dixie")
#: The services with a public URL.
TLS = ("freeside", "dixie")
#: How long an address may outlive its task in Cloud Map.
SETTLES_S = 20
#: The longest wait for a new task, of which ECS ignores failed health checks meanwhile.
STARTS_S = 600
#: How long callers may cache an address from Cloud Map.
KEPT_S = 300


def calls_of(environment: Environment, key: str, host: str) -> list[PublicCall]:
    """One call to each route of a service, by its host."""
    at, agent = address_of(environment, key), f"nft:{environment.auth.nft_id}"
    streams = "freeside.invoke" if environment.freeside.stream_dialect == "accept" else "freeside.stream"
    return [
        PublicCall(
            each.method,
            at.path(each.path).replace("{id}", "x"),
            host,
            bool(each.credentials),
            tuple((name, agent) for name in each.request["required"])
            if each.request and each.method == "GET"
            else (),
            most=MAX_BODY_BYTES if each.name == "freeside.invoke" else 0,
            streamed=each.name == streams,
        )
        for each in ROUTES
        if each.service == key
        and (not any(each.dialect) or (each.name == streams and "endpoint" in each.dialect))
    ]


def health_path(environment: Environment, key: str) -> str:
    """Where a service of the inventory reports its health, as the profile maps paths; empty for others."""
    return address_of(environment, key).path(CONTRACT[key].health) if key in CONTRACT else ""


@pytest.mark.requires("aws")
@pytest.mark.parametrize("service", SERVICES)
def test_inventory(
    aws: AwsReader,
    environment: Environment,
    plan_facts: Mapping[str, Any],
    plan_inventory: Sequence[Mapping[str, Any]],
    service: str,
    evidence: Evidence,
) -> None:
    """CPU, memory, image and address match the plan's inventory, and Auto Scaling leaves it a task."""
    declared = next((row for row in plan_inventory if row["ecs"] == service), None)
    assert declared, f"the plan's inventory has no row with ecs = {service!r}"
    found = seen_of(aws.service(service), aws.definition(service), aws.routes(), aws.registered())
    url, examined = str(declared["url"]), Examined()
    ends = examined.attempt(leads, aws.account, url) if service in PUBLIC else []
    if is_fronted(ends or ()) or (not ends and any(AT_PORT in each for each in found.addresses)):
        # whatever is in front of the load balancer may use any of its ports; if no DNS record is visible,
        # something may be
        found = replace(found, addresses=tuple(each.partition(AT_PORT)[0] for each in found.addresses))
    compared = columns(declared, found)
    for name, (wanted, seen) in compared.items():
        unit = UNITS.get(name, "")
        evidence.figure(f"inventory/{declared['key']}/{name}", seen, unit, expected=wanted or None)
    different = differences(compared)
    if (task := aws.definition(service)).wasted:
        different.append(f"memory: its containers are killed at {task.limit} of {task.memory} MiB")
    different += unserving(aws.service(service), task, health_path(environment, declared["key"]))
    if not (main := task.main(service)).essential:
        different.append(f"container: {main.name} is not essential, so its task keeps running without it")
    boxes, known = aws.definition(service).containers, known_port(declared)
    listening = sorted({port for box in boxes for port in box.ports})
    if known and listening and known not in listening and aws.service(service).registries:
        different.append(f"port: listens on {' and '.join(map(str, listening))}, but is known by {known}")
    own = aws.service(service).target_groups
    others = {group for name in SERVICES if name != service for group in aws.service(name).target_groups}
    calls = calls_of(environment, declared["key"], url) if service in PUBLIC else []
    if taken := diverted(aws.routes(), calls, own, others - {*own}, aws.is_idle):
        route, call = taken
        where = f"{call.method} {call.path} of {url} to {route.target_group}"
        different.append(f"url: a rule of priority {route.rank:g} sends {where}")
    different += [
        f"url: the certificate of {name} {why}"
        for route in routes_to(aws.routes(), own)
        if route.serves(str(declared["url"]))
        for name, why in route.expiring.items()
        if fnmatchcase(str(declared["url"]), name)
    ]
    mine = [route for route in routes_to(aws.routes(), own) if route.serves(url)]
    proving = [route for route in mine if route.proved]
    if proving and not is_fronted(ends or ()) and not any(route.proves(url) for route in proving):
        names = " and ".join(dict.fromkeys(name for route in proving for name in route.proved))
        different.append(f"url: the certificates of its listener are for {names}, not for {url}")
    away = misled(aws.account, url) if service in PUBLIC else Examined()
    different += [f"url: {each.what}" for each in away.findings]
    examined.not_examined.extend(away.not_examined)
    before: Sequence[Mapping[str, Any]] = ()
    if by_cloudfront(ends or ()):
        before = examined.attempt(read_distributions, aws.account, url) or ()
        different += [f"url: {why}" for each in before for why in unserved(each, calls)]
    if mine:
        through = hindered(aws, mine, ends or (), calls, before)
        different += [f"url: {each.what}" for each in through.findings]
        examined.not_examined.extend(through.not_examined)
    target = (examined.attempt(aws.scalable) or {}).get(service)
    called = service in plan_facts["reach"]
    left = examined.attempt(left_without_tasks, aws.account, target, called=called) if target else ""
    different += [f"tasks: {left}"] if left else []
    assert not different, f"{service} differs from the plan: {'; '.join(different)}"
    examined.require()


@pytest.mark.requires("aws")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("service", PUBLIC)
def test_targets(
    aws: AwsReader,
    environment: Environment,
    plan_inventory: Sequence[Mapping[str, Any]],
    service: str,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """The load balancer checks the service's health route, and its targets are healthy.

    It routes the service's requests only to the service's tasks.
    """
    groups, boxes = aws.target_groups(service), aws.definition(service).containers
    key = next((row["key"] for row in plan_inventory if row["ecs"] == service), "")
    health = health_path(environment, key)
    ports = {port for box in boxes for port in box.ports}
    for group in groups:
        evidence.figure(f"targets of {group.name}", dict(group.targets))
    evidence.evaluated("a target group asks for health where it is reported", len(groups))
    plain = bool(ports) and ports <= {port for box in boxes for port in box.plain}
    wrong = [why for group in groups for why in group.mistaken(service, ports, health, plain=plain)]
    wrong += filter(None, [idle(groups)])
    own = {*aws.service(service).target_groups}
    wrong += [
        f"{name} uses the same target group {arn}"
        for name in SERVICES
        if name != service and name in aws.services()
        for arn in sorted(own & {*aws.service(name).target_groups})
    ]
    assert not wrong, "; ".join(wrong)
    at = partial(addresses_of, aws.account, aws.names)

    def wrongly_led(groups: Sequence[TargetGroup], services: Mapping[str, EcsService]) -> str:
        return crowded(groups, services.values(), at) or ailing(groups, [services[service]])

    if more := wrongly_led(groups, aws.services()):

        def is_gone() -> bool:  # tasks may have come or gone since they were read
            now = read_services(aws.account, aws.names)
            return service in now and not wrongly_led(read_target_groups(aws.account, sorted(own)), now)

        settles_s = max(SETTLES_S, min(aws.service(service).grace, STARTS_S))
        eventually(is_gone, within=settles_s, every=2, what=f"only healthy targets that are tasks ({more})")


@pytest.mark.requires("aws")
@pytest.mark.parametrize("service", SETTINGS)
def test_settings(aws: AwsReader, service: str, evidence: Evidence) -> None:
    """The running task has the settings that the contract names."""
    containers = aws.definition(service).containers
    for name, wanted in SETTINGS[service].items():
        if any(name in box.secrets for box in containers):
            raise SetupError(f"not examined: {name} of {service} comes from a secret")
        found = [box.environment[name] for box in containers if name in box.environment]
        evidence.figure(f"{name} of {service}", found, expected=[wanted])
        files = [one for box in containers for one in box.files]
        if files and not found:
            raise SetupError(f"not examined: whether {name} of {service} comes from {' or '.join(files)}")
        assert found, f"no container of {service} has {name}, expected {wanted}"
        assert {*found} == {wanted}, f"{name} of {service} is {' and '.join(found)}, expected {wanted}"


@pytest.mark.requires("aws")
def test_environments_lead_to_this_platform(
    aws: AwsReader,
    plan_inventory: Sequence[Mapping[str, Any]],
    plan_facts: Mapping[str, Any],
    environment: Environment,
    evidence: Evidence,
) -> None:
    """Tasks have this environment's hosts, databases, ports and pool sizes, and secrets that are rotated."""
    declared = [str(row["url"]) for row in plan_inventory]
    directory = directory_of(
        aws, declared, plan_facts["connections"], key_paths(environment, aws.names.namespace)
    )
    tasks = aws.owners(tuple(MIGRATIONS))
    boxes = [(owner, box) for owner, task in tasks.items() for box in task.containers]
    evidence.figure("variables", sum(len(box.environment) for _, box in boxes), at_least=1)
    wrong = [
        each
        for owner, box in boxes
        for each in directory.wrong(
            owner, box.environment, box.ports, alone=len(tasks[owner].containers) == 1
        )
    ]
    wrong += [
        f"{name} of {owner} contains a signing key"
        for owner, box in boxes
        for name, given in box.secrets.items()
        if is_mixed_up(name, given)
    ]
    wrong += [
        f"{name} of {owner} is pinned to one version, so a later version never reaches it"
        for owner, box in boxes
        for name, given in box.secrets.items()
        if pinned(given)
    ]
    given = [(owner, *each) for owner, box in boxes for each in box.environment.items()]
    wrong += astray(aws.account, aws.instances(), given)
    rotated = unrotated(aws, tuple(MIGRATIONS))
    wrong += [each.what for each in rotated.findings]
    assert not wrong, "; ".join(wrong)
    rotated.require()


@pytest.mark.requires("aws")
@pytest.mark.parametrize("service", [each for each in SERVICES if each not in FOREIGN])
def test_image_is_in_the_registry(aws: AwsReader, service: str, evidence: Evidence) -> None:
    """ECR has the running image and keeps it, so that a replacement task can start, and starts the same."""
    definition, found = aws.definition(service), aws.service(service)
    evidence.figure(f"images of {service}", [each.image for each in definition.containers], at_least=1)
    examined = images_there(aws.account, definition)
    tasks = read_running(aws.account, aws.names, service) if found.is_settled else ()
    deployed = [each for each in tasks if found.definition.endswith(f"/{each.definition}")]
    why = examined.attempt(moved, aws.account, definition.main(service), deployed) or ()
    kept = expiring(aws.account, definition)
    examined.findings.extend([*(Finding("", 0, each) for each in why), *kept.findings])
    examined.not_examined.extend(kept.not_examined)
    examined.require()


@pytest.mark.requires("aws")
def test_let_each_other_in(
    aws: AwsReader,
    plan_facts: Mapping[str, Any],
    plan_inventory: Sequence[Mapping[str, Any]],
    evidence: Evidence,
) -> None:
    """The security groups in use let every service reach those that it calls by the plan.

    They let the load balancer reach its targets, and nobody outside reach the database or its pooler.
    """
    hosts = {row["ecs"]: str(row["url"]) for row in plan_inventory if row["ecs"] in PUBLIC}
    count, examined = reached(aws, plan_facts["reach"], hosts)
    evidence.figure("ways between services, balancers and the database", count, at_least=1)
    examined.require()


@pytest.mark.requires("aws")
@pytest.mark.parametrize("host", HOSTS)
def test_cloud_map(aws: AwsReader, host: str, eventually: Eventually, evidence: Evidence) -> None:
    """The service's private name resolves to its own tasks, and to no other service's."""
    aws.cluster()
    addresses, name = resolve(aws.account, aws.names, host), f"{host}.{aws.names.namespace}"
    evidence.figure(f"addresses of {name}", addresses, at_least=1)
    assert addresses, f"{name} has no address in Cloud Map"
    wrong = misnamed(aws.services(), aws.registered(), BUILDS.get(host, host), name)
    assert not wrong, "; ".join(wrong)
    at = partial(addresses_of, aws.account, aws.names)
    if left := leftover(aws.services(), aws.registered(), name, addresses, at):

        def is_gone() -> bool:  # tasks may have come or gone since they were read
            services, found = read_services(aws.account, aws.names), resolve(aws.account, aws.names, host)
            return not leftover(services, aws.registered(), name, found, at)

        eventually(is_gone, within=SETTLES_S, every=2, what=f"no addresses but those of its tasks ({left})")
    kept = max((each.kept_s for each in aws.registries().values() if each.name == name), default=0)
    evidence.figure(f"how long addresses of {name} are cached", kept, "s", limit=KEPT_S)
    assert kept <= KEPT_S, f"callers may cache an address of {name} for {kept} s, although its task stopped"
    unknown = unresolved(aws, host)
    assert not unknown, unknown


@pytest.mark.requires("https")
@pytest.mark.parametrize("service", TLS)
def test_certificate(environment: Environment, service: str, evidence: Evidence) -> None:
    """The certificate covers the host, is trusted, and lasts another two weeks."""
    url = environment.get(f"edge.{service}_url")
    found = certificate_of(url, environment.edge.ca_file)
    evidence.figure(f"names on the certificate of {urlsplit(url).hostname}", list(found.names))
    evidence.figure("days that it is valid", round(found.days, 1), "days", at_least=CERTIFICATE_DAYS)
    evidence.note(f"issued by {found.issuer}")
    assert found.days >= CERTIFICATE_DAYS, (
        f"the certificate of {urlsplit(url).hostname} ends in {found.days:.1f} days"
    )


@pytest.mark.requires("https")
@pytest.mark.parametrize("service", TLS)
def test_http_redirects(
    environment: Environment, service: str, http: httpx.Client, evidence: Evidence
) -> None:
    """Plain HTTP only redirects to the same host over TLS, if anything listens at all.

    Load balancers decide by path, so the service's own routes are tried as well.
    """
    plain = environment.get(f"edge.{service}_plain_url")
    require_resolvable(plain)
    host, at = urlsplit(plain).hostname, address_of(environment, service)
    for path in ("/", at.path(at.health), at.path(at.jwks)):
        try:
            response = http.get(f"{plain}{path}", follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            evidence.figure(f"answer of {plain}", f"none: {error}")
            return
        evidence.exchange(response)
        target = urlsplit(response.headers.get("location", ""))
        got = f"{plain}{path} answers {response.status_code} without TLS"
        assert response.is_redirect, f"{got}, and does not redirect"
        assert (target.scheme, target.hostname) == ("https", host), (
            f"{plain}{path} redirects to {target.geturl()}, not to https://{host}"
        )

"""G-8, phase flyio: nothing in the platform's repository, answers or account points to Fly.io any more."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pytest_readiness import Environment, Evidence

from smoke.aws.ecs import TaskDefinition
from smoke.aws.names import MIGRATIONS, read_secret_names
from smoke.aws.reader import AwsReader
from smoke.aws.topics import read_endpoints
from smoke.aws.zones import read_records
from smoke.contract.model import SERVICES
from smoke.platform.answers import body_text
from smoke.platform.http import HttpClient, address_of
from smoke.source.checkout import Checkout, listed
from smoke.source.fly import Scan, allow_list, fields, plant, points_to_fly, scan

pytestmark = [pytest.mark.goal("G-8"), pytest.mark.phase("flyio")]

ROUTES = {
    "freeside": (SERVICES["freeside"].health, SERVICES["freeside"].jwks, "/no-such-route"),
    "dixie": (SERVICES["dixie"].health, SERVICES["dixie"].jwks, "/no-such-route"),
}


@pytest.fixture
def scanned(checkout: Checkout, plan_facts: Mapping[str, Any], evidence: Evidence) -> Scan:
    """The checkout, compared with the plan's allow-list."""
    result = scan(checkout, allow_list(plan_facts["flyio"]["allow"]))
    evidence.figure("text files read", result.files)
    evidence.figure("files that are not text", result.binary)
    evidence.figure("references that the plan allows", [str(ref.finding()) for ref in result.allowed])
    return result


@pytest.mark.p0
@pytest.mark.static
@pytest.mark.requires("iac")
def test_no_live_reference(scanned: Scan, evidence: Evidence) -> None:
    """Nothing in the checkout runs on Fly.io or points there, except what the plan allows."""
    evidence.figure("references that nothing allows", len(scanned.live), expected=0)
    assert scanned.files, "git tracks no text file in this checkout"
    assert not scanned.live, listed([ref.finding() for ref in scanned.live], "refers to Fly.io")


@pytest.mark.p1
@pytest.mark.static
@pytest.mark.requires("iac")
def test_mentions_are_allowed(scanned: Scan, evidence: Evidence) -> None:
    """Prose, comments and titles mention Fly.io only where the plan's allow-list says so."""
    evidence.figure("mentions that nothing allows", len(scanned.mentions), expected=0)
    assert scanned.files, "git tracks no text file in this checkout"
    assert not scanned.mentions, listed([ref.finding() for ref in scanned.mentions], "mentions Fly.io")


@pytest.mark.p0
@pytest.mark.static
@pytest.mark.requires("iac")
def test_allow_list_is_not_stale(scanned: Scan, evidence: Evidence) -> None:
    """Every entry of the allow-list is still in use: a stale one would let new references in."""
    evidence.figure("stale entries", [str(entry) for entry in scanned.stale], expected=[])
    assert not scanned.stale, f"allow entries without a reference: {', '.join(map(str, scanned.stale))}"


@pytest.mark.p0
@pytest.mark.static
@pytest.mark.requires("iac")
def test_planted_reference_is_found(checkout: Checkout, evidence: Evidence) -> None:
    """Positive control: references planted into a scratch copy of this checkout's own files are all found."""
    with checkout.scratch(choose=fields) as worktree:
        copy = Checkout.at(str(worktree))
        before = {(ref.path, ref.line, ref.text) for ref in scan(copy, ()).live}
        planted = dict(plant(copy))
        after = [ref for ref in scan(copy, ()).live if (ref.path, ref.line, ref.text) not in before]
    evidence.figure("files with a planted reference", len(planted))
    assert planted, "there is no file of a kind that could contain a reference"
    lines = {path: len({ref.line for ref in after if ref.path == path}) for path in planted}
    evidence.figure("planted lines found", sum(lines.values()), expected=sum(planted.values()))
    missed = [
        f"{path}: {lines[path]} of {count} lines" for path, count in planted.items() if lines[path] != count
    ]
    assert not missed, f"planted references were not found exactly: {'; '.join(missed)}"


@pytest.mark.p1
@pytest.mark.parametrize(
    "service",
    [
        pytest.param("freeside", marks=pytest.mark.requires("freeside")),
        pytest.param("dixie", marks=pytest.mark.requires("dixie")),
    ],
)
def test_responses_do_not_point_to_fly(
    environment: Environment, service: str, http: httpx.Client, evidence: Evidence
) -> None:
    """No header, redirect, error or key set points to Fly.io."""
    client = HttpClient(
        service, environment.get(f"{service}.url"), http, evidence, address=address_of(environment, service)
    )
    responses = [client.send("GET", path) for path in ROUTES[service]]
    responses += plain_http(client, evidence)
    traces = [trace for response in responses for trace in traces_of(response)]
    evidence.evaluated("no trace of Fly.io in a response", len(responses))
    assert not traces, f"{service} points to Fly.io: {'; '.join(traces)}"


def plain_http(client: HttpClient, evidence: Evidence) -> list[httpx.Response]:
    """The host's answer without TLS: its redirect could also point to Fly.io."""
    address = urlsplit(client.base_url)
    if address.scheme != "https":
        return []
    try:
        response = client.pool.get(f"http://{address.hostname}/")
    except httpx.HTTPError as error:
        evidence.note(f"{address.hostname} does not answer without TLS: {type(error).__name__}")
        return []
    evidence.exchange(response)
    return [response]


def traces_of(response: httpx.Response) -> Iterable[str]:
    """All traces of Fly.io in a response's headers and body."""
    route = response.request.url.path
    for name, value in response.headers.items():
        if name.lower().startswith(("fly-", "x-fly-")):
            yield f"{route}: header {name}"
        elif points_to_fly(f"{value}") or (name.lower() == "server" and value.lower().startswith("fly/")):
            yield f"{route}: header {name}: {value}"
    if points_to_fly(body_text(response)):
        yield f"{route}: the body"


@pytest.mark.p1
@pytest.mark.requires("aws")
def test_ecs_environment_does_not_point_to_fly(aws: AwsReader, evidence: Evidence) -> None:
    """No image, command, environment value or secret reference of a service or migration points to Fly.io."""
    services = aws.owners(tuple(MIGRATIONS))
    values = [
        (f"{service}: {where}", value)
        for service, definition in services.items()
        for where, value in values_of(definition)
    ]
    traces = [where for where, value in values if points_to_fly(value)]
    evidence.figure("services and migrations", len(services))
    evidence.figure("values looked at", len(values))
    assert services, f"there is no service in {aws.names.cluster}"
    assert not traces, f"points to Fly.io: {', '.join(traces)}"


@pytest.mark.p1
@pytest.mark.requires("aws")
def test_account_does_not_point_to_fly(
    aws: AwsReader, plan_inventory: Sequence[Mapping[str, Any]], evidence: Evidence
) -> None:
    """No DNS name, secret or subscription of this environment points to Fly.io."""
    aws.cluster()
    hosts = [str(row["url"]) for row in plan_inventory if row["url"] and ":" not in row["url"]]
    found = [(f"record {name}", value) for name, value in read_records(aws.account, aws.names, hosts)]
    found += [("secret", name.replace("-", "_")) for name in read_secret_names(aws.account, aws.names)]
    found += [("subscription", endpoint) for endpoint in read_endpoints(aws.account, aws.topic())]
    evidence.evaluated("a record, a secret or a subscription does not point to Fly.io", len(found))
    traces = [f"{what}: {value}" for what, value in found if points_to_fly(value)]
    assert not traces, f"points to Fly.io: {', '.join(traces)}"


def values_of(task: TaskDefinition) -> Iterable[tuple[str, str]]:
    """Each container's image, commands, environment values and secret references, with where they are."""
    for container in task.containers:
        yield f"command of {container.name}", " ".join(container.words)
        yield f"image of {container.name}", container.image
        for name, value in container.environment.items():
            yield f"environment {name} of {container.name}", f"{name}={value}"
        for name, source in container.secrets.items():
            yield f"secret {name} of {container.name}", f"{name}={source}"

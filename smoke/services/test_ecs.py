"""G-1, phase services: what ECS reports about each service, which build it runs, and which resources it uses.

The worker has no port, so this is its only health check.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import pytest
from pytest_readiness import Environment, Eventually, Evidence, SetupError

from smoke.aws.ecs import read_services
from smoke.aws.ecs_tasks import read_running, restless, without_files, without_volumes
from smoke.aws.inventory import agree, digest_of, is_commit, is_pinned, same_image, strays, tag_of
from smoke.aws.names import BUILDS, FOREIGN, MIGRATIONS, SERVICES
from smoke.aws.network import kept_from_aws
from smoke.aws.reader import AwsReader
from smoke.aws.starting import kept_from_starting
from smoke.aws.subnets import kept_in, roomless
from smoke.platform.http import Connect, ServiceClient
from smoke.platform.parameters import each, plan_of
from smoke.source.checkout import Examined, listed
from smoke.source.infrastructure.starting import stuck
from smoke.source.rules import OWN, REQUIRED, SECRET, Ownership, Use, elsewhere

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("services"), pytest.mark.requires("aws")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a check for each `definition` of the plan, if it takes one."""
    if "definition" in metafunc.fixturenames:
        metafunc.parametrize("definition", list(plan_of(metafunc.config)["facts"]["definitions"]))


@pytest.mark.p0
@pytest.mark.establishes("aws")
def test_aws(aws: AwsReader, evidence: Evidence) -> None:
    """AWS answers this runner, and the platform's cluster exists where the profile says."""
    evidence.figure("cluster", aws.cluster())


@pytest.fixture(scope="session")
def time_left(environment: Environment) -> Callable[[], float]:
    """How long services may still take until their tasks run: all share one deadline from now on."""
    ends = time.monotonic() + environment.limits.deployment_s
    return lambda: max(0.0, ends - time.monotonic())


@pytest.mark.p0
@pytest.mark.timeout(900)
@pytest.mark.parametrize("service", SERVICES)
def test_ecs(
    aws: AwsReader, service: str, time_left: Callable[[], float], eventually: Eventually, evidence: Evidence
) -> None:
    """The running count equals the desired count, at least one, in one completed PRIMARY deployment.

    If CodeDeploy or another controller deploys, that is one task set in a steady state. The running tasks are
    the deployed ones. A deployment in progress, or tasks that come and go, have the profile's time to settle.
    """
    found = aws.service(service)

    def settled() -> bool:
        nonlocal found
        found = read_services(aws.account, aws.names).get(service, found)
        return not found.is_moving

    if found.is_moving:
        evidence.note(f"{service} was on its way: {found}")
        with suppress(AssertionError):  # what is wrong then is said below
            eventually(settled, within=time_left(), every=2, what=f"{service} had its tasks")
    evidence.figure(f"running tasks of {service}", found.running, expected=found.desired, at_least=1)
    assert found.desired >= 1, f"{service}: desired count is {found.desired}"
    assert found.running == found.desired, f"{service}: {found.running} of {found.desired} tasks are running"
    least, most = found.healthy or (0, 200)
    kept = f"{least:g} to {most:g} percent of {found.desired} tasks"
    assert not stuck(found.desired, least, most), f"{service} must keep {kept}: no deployment can replace one"
    deployments = [f"{each.status} {each.rollout}" for each in found.deployments]
    evidence.figure(f"deployments of {service}", deployments, expected=found.settled)
    assert deployments == found.settled, (
        f"{service}, deployed by {found.controller}: deployments {', '.join(deployments) or 'none'}"
    )
    tasks = read_running(aws.account, aws.names, service)
    evidence.figure(f"revisions of {service} that run", sorted({each.definition for each in tasks}))
    wrong = strays(found, aws.definition(service), tasks)
    assert not wrong, f"{service}: {'; '.join(wrong)}"
    ending = restless(aws.account, aws.names, found)
    evidence.figure(f"why tasks of {service} do not stay", ending or "they do", expected="they do")
    assert not ending, f"{service}: {ending}"


@pytest.mark.p0
def test_api_and_worker_run_the_same_image(aws: AwsReader, evidence: Evidence) -> None:
    """Freeside's API and worker run the same build."""
    images = {name: aws.definition(name).main(name).image for name in ("api", "worker")}
    evidence.figure("image of the worker", images["worker"], expected=images["api"])
    same = same_image(images["api"], images["worker"])
    if same is None:
        raise SetupError(
            f"not examined: whether {images['api']} of the api and {images['worker']} of the worker are one "
            "image: one has only a tag, the other only a digest"
        )
    assert same, f"the api runs {images['api']}, but the worker runs {images['worker']}: these are two builds"


def reported(connect: Connect, environment: Environment, service: str, evidence: Evidence) -> str:
    """The build that an ECS service reports, for the worker the API's; empty if none can be queried."""
    build = next(
        (name for name, of in BUILDS.items() if of == {"worker": "api", **MIGRATIONS}.get(service, service)),
        "",
    )
    if not build or (build == "finn" and not environment.finn.reachable):
        return ""
    return ServiceClient(connect(build, evidence)).health().text("build_sha")


@pytest.mark.p0
@pytest.mark.parametrize("service", [*SERVICES, *MIGRATIONS])
def test_image_tag(
    aws: AwsReader, connect: Connect, environment: Environment, service: str, evidence: Evidence
) -> None:
    """The image is pinned by a git sha or a digest, never by `latest` or an environment's name."""
    task = aws.tasks(tuple(MIGRATIONS)).get(service) if service in MIGRATIONS else aws.definition(service)
    assert task, f"there is no task definition {aws.names.full(service)}"
    image = task.main(service).image
    tag, foreign = tag_of(image), service in FOREIGN
    wanted = "a release, a git sha or a digest" if foreign else "a git sha or a digest"
    evidence.figure(f"image of {service}", image, expected=wanted)
    fixed = is_pinned(image) if foreign else bool(digest_of(image)) or is_commit(image)
    if not fixed and tag.isdigit():
        fixed = is_commit(image, reported(connect, environment, service, evidence))
        assert fixed, (
            f"{service} runs {image}: the tag {tag} is not a git sha that the running build agrees with"
        )
    assert fixed, f"{service} runs {image}: the tag {tag or '(none)'} is not {wanted}"


@pytest.mark.p0
@pytest.mark.parametrize("service", each(finn_covered_by="services/ecs[finn]"))
def test_build_is_its_image(connect: Connect, aws: AwsReader, service: str, evidence: Evidence) -> None:
    """The build that a service reports is the one that ECS runs: its image's tag, a git sha."""
    image = aws.definition(BUILDS[service]).main(BUILDS[service]).image
    sha = ServiceClient(connect(service, evidence)).health().text("build_sha")
    evidence.figure(f"build of {service}", sha, expected=tag_of(image))
    if digest_of(image) and not tag_of(image):
        raise SetupError(
            f"not examined: which commit {image} of {service} was built from: it has only a digest"
        )
    assert is_commit(image, sha), (
        f"{service} runs {image}, whose tag is not a git commit, so the build cannot be compared with it"
    )
    assert agree(tag_of(image), sha), f"{service} reports build {sha}, but ECS runs {image}"


@pytest.fixture
def uses(aws: AwsReader, evidence: Evidence) -> Sequence[Use]:
    """What every service and one-shot task uses."""
    found = aws.uses(tuple(MIGRATIONS))
    evidence.figure("uses of families, roles, networks, log groups and secrets", len(found))
    return found


@pytest.mark.p0
def test_independent(
    aws: AwsReader, uses: Sequence[Use], ownership: Ownership, definition: str, evidence: Evidence
) -> None:
    """A definition has its own family, roles, security group, log group and secret.

    It shares none of them with another definition or environment.
    """
    lacking = ownership.lacks(definition, uses, dict.fromkeys(SERVICES, REQUIRED))
    common = ownership.shared(uses, [*OWN, SECRET]).get(definition, [])
    common += elsewhere((use for use in uses if ownership.of(use.owner) == definition), aws.names.prefix)
    for use in uses:
        if ownership.of(use.owner) == definition:
            evidence.evaluated(f"the {use.kind} is {definition}'s alone")
    assert not lacking, f"{definition} is incomplete: {'; '.join(lacking)}"
    assert not common, listed(common, f"{definition} is not independent")
    own = [use for use in uses if ownership.of(use.owner) == definition]
    Examined([], ownership.unclear(own, [SECRET])).require()


@pytest.mark.p1
def test_independent_credentials(uses: Sequence[Use], ownership: Ownership, evidence: Evidence) -> None:
    """No secret serves several definitions."""
    evidence.figure("secrets", len({use.identity for use in uses if use.kind == SECRET}))
    communal = ownership.communal(uses)
    assert not communal, listed(communal)


@pytest.mark.p1
def test_independent_services(uses: Sequence[Use], evidence: Evidence) -> None:
    """Each service has its own family, execution role, security group and logs, even within a definition."""
    own = [use for use in uses if use.owner in SERVICES]
    evidence.figure("services", len({use.owner for use in own}), expected=len(SERVICES))
    common = [finding for each in Ownership({}).shared(own, REQUIRED).values() for finding in each]
    assert not common, listed(common)


@pytest.mark.p0
def test_tasks_can_start(aws: AwsReader, evidence: Evidence) -> None:
    """Each task's roles exist, can be assumed, and may read the task's secrets.

    Its service's subnets have free addresses and reach what a task needs to start.
    """
    count, examined = kept_from_starting(aws, tuple(MIGRATIONS))
    tasks = partial(aws.owners, tuple(MIGRATIONS))
    stored = [lambda aws, look=look: look(aws.account, tasks()) for look in (without_files, without_volumes)]
    for look in (roomless, kept_in, kept_from_aws, *stored):
        if found := examined.attempt(look, aws):
            examined.include(found)
    evidence.figure("roles of tasks", count, at_least=1)
    examined.require()

"""G-1, phase services: three independent definitions, as they run, and tasks that start under their roles."""

from collections.abc import Sequence
from functools import partial

import pytest
from pytest_readiness import Evidence

from smoke.aws.endpoints import kept_from_aws
from smoke.aws.names import MIGRATIONS, SERVICES
from smoke.aws.network import roomless
from smoke.aws.reader import AwsReader
from smoke.aws.starting import kept_from_starting
from smoke.aws.subnets import kept_in
from smoke.source.checkout import Examined, listed
from smoke.source.rules import OWN, REQUIRED, SECRET, Ownership, Use, elsewhere

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("services"), pytest.mark.requires("aws")]


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
    for look in (roomless, kept_in, kept_from_aws):
        if found := examined.attempt(partial(look, aws)):
            examined.findings.extend(found.findings)
            examined.not_examined.extend(found.not_examined)
    evidence.figure("roles of tasks", count, at_least=1)
    examined.require()

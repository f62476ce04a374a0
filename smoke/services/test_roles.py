"""G-1, phase services: tasks start under their roles, as these are in AWS."""

import pytest
from pytest_readiness import Evidence

from smoke.aws.names import MIGRATIONS
from smoke.aws.reader import AwsReader, kept_from_starting

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("services"), pytest.mark.requires("aws")]


@pytest.mark.p0
def test_tasks_can_start(aws: AwsReader, evidence: Evidence) -> None:
    """The roles of each task exist, tasks may act under them, and they read the secrets that it is given."""
    count, examined = kept_from_starting(aws, tuple(MIGRATIONS))
    evidence.figure("roles of tasks", count, at_least=1)
    examined.require()

"""Phase operations: migrations run once, before a deployment, and the last ones succeeded."""

import pytest
from pytest_readiness import Evidence

from smoke.aws.ecs_tasks import failure_of, last_of
from smoke.aws.names import MIGRATIONS
from smoke.aws.reader import AwsReader

pytestmark = [pytest.mark.phase("operations"), pytest.mark.p0]


@pytest.mark.requires("aws")
@pytest.mark.parametrize("migration", sorted(MIGRATIONS))
def test_migrations_run_once(aws: AwsReader, migration: str, evidence: Evidence) -> None:
    """The migration has its own task definition, and no service runs it permanently."""
    family = aws.names.full(migration)
    users = [name for name, each in aws.definitions().items() if each.family == family]
    evidence.figure(f"services that run {family}", users, expected=[])
    assert aws.tasks(tuple(sorted(MIGRATIONS))).get(migration), f"no task definition {family}"
    assert not users, f"{', '.join(users)} keeps the migration {family} running; it must run once"


@pytest.mark.requires("aws", covered_by="operations/pipeline-deploys-only-after-migrations")
@pytest.mark.parametrize("migration", sorted(MIGRATIONS))
def test_migrations_succeeded(aws: AwsReader, migration: str, evidence: Evidence) -> None:
    """The last run has stopped, with exit code 0 for every essential container."""
    runs = aws.runs(migration)
    run = last_of(runs)
    if run is None:
        deployed = aws.service(MIGRATIONS[migration]).deployed_at
        pytest.skip(
            f"ECS lists no run of {migration}: it drops one after an hour; last deployment: "
            f"{deployed or 'an unknown time'}; with [source] iac_dir, the check of the pipeline covers it"
        )
    evidence.figure(f"runs of {migration} that ECS lists", len(runs))
    evidence.figure(
        f"last run of {migration}",
        f"{run.status} {dict(run.exit_codes)}",
        expected="STOPPED, all essential 0",
    )
    failure = failure_of(run, aws.tasks(tuple(sorted(MIGRATIONS))).get(migration))
    assert not failure, f"{migration}: {failure}"

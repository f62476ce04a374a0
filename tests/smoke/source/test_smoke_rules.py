"""Rules on single resources: pinned images, one-shot migrations, alarms."""

import pytest

from smoke.source.rules import connection_alarms, images, mute_alarms, startup_migrations
from tests.smoke.source.terraform_files import Read, service


@pytest.mark.parametrize(
    ("image", "wrong"),
    [
        ("x:1.2.3", False), ("x@sha256:ab", False), ("host:5000/x:abcdef1", False), ("x:${var.tag}", False),
        ("${aws_ecr_repository.x.repository_url}:${var.tag}", False), ("x:latest", True), ("x", True),
        ("host:5000/x", True), ("x:${var.environment}", True), ("x:main", True),
    ],
)  # fmt: skip
def test_images_are_pinned_or_found(read: Read, image: str, wrong: bool) -> None:
    ((_, finding),) = images(read(service("finn", image=image)))
    assert (finding is not None) == wrong


MIGRATION = """
resource "aws_ecs_task_definition" "dixie_migration" {
  family = "m"
  container_definitions = jsonencode([{ name = "m", command = ["node", "migrate.js"] }])
}
"""
KEPT = 'resource "aws_ecs_service" "m" { task_definition = aws_ecs_task_definition.dixie_migration.arn }'


def test_a_migration_is_one_shot_or_found(read: Read) -> None:
    one_shot = ["dixie-migration"]
    assert startup_migrations(read(MIGRATION, service("dixie")), one_shot) == []
    assert "no task definition" in startup_migrations(read(service("dixie")), one_shot)[0].what
    assert "keeps the migration" in startup_migrations(read(MIGRATION, KEPT), one_shot)[0].what
    starts = service("dixie").replace(
        "    secrets", '    command = ["sh", "-c", "npx drizzle-kit push && serve"]\n    secrets'
    )
    assert "migrates when it starts" in startup_migrations(read(MIGRATION, starts), one_shot)[0].what


def alarm(**settings: str) -> str:
    values = {
        "namespace": '"AWS/RDS"',
        "metric_name": '"DatabaseConnections"',
        "threshold": "70",
        "alarm_actions": "[aws_x.y.arn]",
        **settings,
    }
    return (
        'resource "aws_cloudwatch_metric_alarm" "a" {\n'
        + "\n".join(f"{k} = {v}" for k, v in values.items())
        + "\n}"
    )


def test_alarm_thresholds_and_actions(read: Read) -> None:
    assert [found.value for found in connection_alarms(read(alarm()))] == [70]
    assert [found.value for found in connection_alarms(read(alarm(threshold="var.unset")))] == [None]
    assert connection_alarms(read(alarm(metric_name='"CPUUtilization"'))) == []
    assert mute_alarms(read(alarm())) == []
    assert mute_alarms(read(alarm(alarm_actions='var.a != "" ? [var.a] : []'))) == []
    assert len(mute_alarms(read(alarm(alarm_actions="[]")))) == 1
    assert len(mute_alarms(read(alarm(actions_enabled="false")))) == 1

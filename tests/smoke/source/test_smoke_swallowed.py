"""A migration's task fails with its migration, whatever shell its command starts."""

import pytest

from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.infrastructure.tasks import swallowed
from tests.smoke.source.terraform_files import Read

TASK = """
variable "unset" {}
resource "aws_ecs_task_definition" "m" {
  family                = "p-m"
  container_definitions = jsonencode([{ name = "m", image = "x", %s }])
}
"""


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ('command = ["node", "migrate.js"]', ""),
        ('command = ["sh", "-c", "node migrate.js"]', ""),
        ('command = ["sh", "-c", "cd /app && exec node migrate.js"]', ""),
        ('command = ["sh", "-ec", "node migrate.js; echo done"]', ""),
        ('command = ["sh", "-c", "set -e; node migrate.js; echo done"]', ""),
        ('command = ["sh", "-c", var.unset]', ""),
        ('entryPoint = ["sh", "-c"], command = ["node migrate.js || exit 1"]', ""),
        ('command = ["sh", "-c", "node migrate.js || true"]', "|| true"),
        ('command = ["sh", "-c", "node migrate.js --to ${var.unset} || true"]', "|| true"),
        ('command = ["sh", "-c", "node migrate.js --to ${var.unset}"]', ""),
        ('entryPoint = ["sh", "-c"], command = ["node migrate.js; echo done"]', "set -e is not set"),
        ('command = ["sh", "-c", "node migrate.js | tee /tmp/log"]', "lost in a pipe"),
    ],
)
def test_a_migration_fails_with_its_task(read: Read, command: str, what: str) -> None:
    examined = swallowed(read_definitions(read(TASK % command), ["m"]), ["m"])
    assert not examined.not_examined
    assert [what in each.what for each in examined.findings] == [True] * bool(what), examined

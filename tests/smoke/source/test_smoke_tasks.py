"""Rules on task definitions: pinned images, one-shot migrations, the plan's inventory."""

import pytest

from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.infrastructure.tasks import (
    images,
    inventory,
    migrates,
    of_another,
    one_build,
    startup_migrations,
    swallowed,
)
from smoke.source.pipeline.rollback import expiring
from smoke.source.terraform.configuration import Configuration
from tests.smoke.source.terraform_files import Read, service


@pytest.mark.parametrize(
    ("image", "wrong"),
    [
        ("x:1.2.3", False),
        ("x@sha256:ab", False),
        ("host:5000/x:abcdef1", False),
        ("x:${var.tag}", False),
        ("${aws_ecr_repository.x.repository_url}:${var.tag}", False),
        ("x:latest", True),
        ("x", True),
        ("host:5000/x", True),
        ("x:${var.environment}", True),
        ("x:main", True),
        ("public.ecr.aws/aws-observability/aws-for-fluent-bit:stable", False),
        ("906394416424.dkr.ecr.us-east-1.amazonaws.com/aws-for-fluent-bit:stable", False),
        ("nginx:stable", False),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/x:stable", True),
        ("ghcr.io/shop/x:stable", True),
        ("${aws_ecr_repository.x.repository_url}:stable", True),
        ("x:Latest", True),
        ("x:", True),
        ("x:latest-alpine", True),
        ('x:${var.environment == "staging" ? "latest" : var.tag}', True),
        ('x:${var.unset ? "latest" : "1.0"}', True),
        ("x:v-${var.tag}", False),
        ("${var.host}/x:${var.tag}", False),
        ("${aws_ecr_repository.x.repository_url}@${data.aws_ecr_image.x.image_digest}", False),
    ],
)
def test_images_are_pinned_or_found(read: Read, image: str, wrong: bool) -> None:
    _, examined = images(
        read('variable "tag" {}\nvariable "unset" {}\nvariable "host" {}', service("finn", image=image))
    )
    assert bool(examined.findings) == wrong
    assert not examined.not_examined


def test_each_container_of_a_computed_list_is_seen(read: Read) -> None:
    text = """
locals { base = { name = "x", essential = true } }
resource "aws_ecs_task_definition" "x" {
  container_definitions = jsonencode([
    merge(local.base, { image = "report:latest" }), { name = "y", image = "y:1" },
    %s
  ])
}
"""
    seen, examined = images(read(text % ""))
    assert (seen, [finding.line for finding in examined.findings]) == (["report:latest", "y:1"], [11])
    _, examined = images(read(text % "module.sidecar.container,"))
    assert len(examined.findings) == 1
    assert (
        "a container of aws_ecs_task_definition.x: there is no module.sidecar"
        in examined.not_examined[0].what
    )


def test_an_image_that_the_files_do_not_give_is_not_examined(read: Read) -> None:
    _, examined = images(read('variable "image" {}', service("finn", image="${var.image}")))
    assert not examined.findings
    assert "the files do not set var.image" in examined.not_examined[0].what


IMAGE = "host/dixie:1.2.3"
MIGRATION = """
resource "aws_ecs_task_definition" "dixie_migration" {
  family = "m"
  container_definitions = jsonencode([{ name = "m", command = ["node", "migrate.js"] }])
}
"""
KEPT = 'resource "aws_ecs_service" "m" { task_definition = aws_ecs_task_definition.dixie_migration.arn }'


def migrating(configuration: Configuration, *, overridden: bool = False) -> list[str]:
    defined = read_definitions(configuration, ["finn", "dixie", "dixie-migration"])
    examined = startup_migrations(configuration, defined, ["dixie-migration"], overridden=overridden)
    return [finding.what for finding in examined.findings] + [
        f"? {each.what}" for each in examined.not_examined
    ]


@pytest.mark.parametrize(
    ("own", "what"),
    [
        ("", "dixie-migration runs the same program as dixie: the same image and the same command"),
        (
            'environment = [{ name = "TIMEOUT_MS", value = "90000" }]',
            "dixie-migration runs the same program as dixie",
        ),
        ('environment = [{ name = "MODE", value = "migrate" }]', ""),
        ('entryPoint = ["migrate"]', ""),
        ("command = var.command", ""),
    ],
)
def test_a_migration_runs_its_own_program(own: str, what: str, read: Read) -> None:
    image = f'image = "{IMAGE}"'
    task = MIGRATION.replace('command = ["node", "migrate.js"]', f"{image}, {own}".rstrip(", "))
    found = migrating(read('variable "command" {}', task, service("dixie", image=IMAGE)))
    assert [each[: len(what)] for each in found] == ([what] if what else [])
    assert not migrating(read('variable "command" {}', task, service("dixie", image=IMAGE)), overridden=True)


def test_a_sidecar_that_a_migration_shares_with_a_service_is_not_a_program_of_it(read: Read) -> None:
    sidecar = '{ name = "agent", image = "agent:7" }'
    beside = MIGRATION.replace("jsonencode([", f"jsonencode([{sidecar}, ")
    assert "migrate.js" in beside
    assert "agent:7" in beside
    served = service("dixie").replace("_containers = [", f"_containers = [{sidecar}, ")
    assert "agent:7" in served
    assert migrating(read(beside, served)) == []


def test_a_migration_is_one_shot_or_found(read: Read) -> None:
    assert migrating(read(MIGRATION, service("dixie"))) == []
    assert migrating(read(service("dixie"))) == ["there is no task definition dixie-migration"]
    assert migrating(read(MIGRATION, KEPT)) == ["the service m keeps the migration dixie-migration running"]
    at = "    secrets"
    starts = service("dixie").replace(
        at, f'    command = ["sh", "-c", "npx drizzle-kit push && serve"]\n{at}'
    )
    assert migrating(read(MIGRATION, starts))[0].startswith("dixie migrates when it starts")
    upgrading = service("dixie").replace(
        at, f'    entryPoint = ["sh", "-c"]\n    command = ["alembic upgrade head; exec serve"]\n{at}'
    )
    assert "alembic" in migrating(read(MIGRATION, upgrading))[0]
    hidden = service("dixie").replace(at, f"    command = var.command\n{at}")
    assert "var.command" in migrating(read('variable "command" {}', MIGRATION, hidden))[0]


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("node dist/migrate.js", True),
        ("npx prisma db push", True),
        ("serve --migrate=true", True),
        ("serve --no-migrate", False),
        ("serve --skip-migrations --port 80", False),
        ("serve --migrate=false", False),
        ("serve ${var.migrations}", False),
    ],
)
def test_a_command_that_declines_to_migrate_does_not(command: str, found: bool) -> None:
    assert migrates(command) is found


def test_a_migration_may_be_in_a_module_that_cannot_be_read(read: Read) -> None:
    (what,) = migrating(read('module "m" {\n  source = "acme/migration/aws"\n}', service("dixie")))
    assert what.startswith(
        "? there is no task definition dixie-migration, unless it is in what could not be read"
    )


ROW = {"ecs": "finn", "cpu": 512, "memory": 1024, "image": "arrakis-staging-finn"}
REPOSITORY = 'resource "aws_ecr_repository" "finn" { name = "${local.prefix}-finn" }\nvariable "unset" {}\n'
GOOD = "${aws_ecr_repository.finn.repository_url}:${var.unset}"


@pytest.mark.parametrize(
    ("settings", "image", "found", "not_examined"),
    [
        ("cpu = 512\nmemory = 1024", GOOD, [], []),
        ('cpu = "512"\nmemory = "1024"', "1.dkr.ecr.us-east-1.amazonaws.com/arrakis-staging-finn:a1", [], []),
        ('cpu = ".5 vCPU"\nmemory = "1 GB"', GOOD, [], []),
        ('cpu = "1 vCPU"\nmemory = "1GB"', GOOD, ["the cpu of finn is 1 vCPU"], []),
        ("cpu = 256\nmemory = 1024", GOOD, ["the cpu of finn is 256"], []),
        ("memory = 1024", GOOD, ["finn sets no cpu"], []),
        ("cpu = 512\nmemory = var.unset ? 1024 : 512", GOOD, ["the memory of finn is 512"], []),
        ("cpu = var.unset\nmemory = 1024", GOOD, [], ["the cpu of finn"]),
        (
            "cpu = 512\nmemory = 1024",
            "host/arrakis-staging-loa-finn:a1",
            ["the image of finn comes from"],
            [],
        ),
        ("cpu = 512\nmemory = 1024", "${var.unset}:a1", [], ["the image of finn"]),
    ],
)
def test_the_inventory_is_compared(
    read: Read, settings: str, image: str, found: list[str], not_examined: list[str]
) -> None:
    text = service("finn", image=image).replace("  family  ", f"{settings}\n  family  ")
    configuration = read(REPOSITORY, text)
    _, examined = inventory(configuration, read_definitions(configuration, ["finn"]), ROW)
    for wanted, seen in ((found, examined.findings), (not_examined, examined.not_examined)):
        assert len(wanted) == len(seen)
        assert all(finding.what.startswith(what) for what, finding in zip(wanted, seen, strict=True))


@pytest.mark.parametrize(("count", "found"), [("1", 0), ("0", 1), ('"0"', 1), ("var.unset ? 1 : 0", 1)])
def test_a_service_that_runs_no_task_is_found(read: Read, count: str, found: int) -> None:
    text = service("finn", image=GOOD).replace("  family  ", "cpu = 512\nmemory = 1024\n  family  ")
    text = text.replace("  network_conf", f"  desired_count = {count}\n  network_conf")
    configuration = read(REPOSITORY, text)
    _, examined = inventory(configuration, read_definitions(configuration, ["finn"]), ROW)
    assert len(examined.findings) == found


TWINS = [
    {"ecs": "api", "image": "p-api"}, {"ecs": "finn", "image": "p-finn"}, {"ecs": "worker", "image": "p-api"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("api", "worker", "wrong"),
    [
        ("p-api:${var.api}", "p-api:${var.api}", []),
        ("p-api:${var.api}", "p-api:${var.finn}", ["worker runs its image as ${var.finn}"]),
        ("p-api:${var.finn}", "p-api:${var.api}", ["api runs its image as ${var.finn}"]),
        ("p-api:${var.finn}", "p-api:${var.finn}", []),
        ("p-api:${var.api}", "p-api:${var.worker}", []),
        ("p-api:0123abc", "p-api:0123abd", ["worker runs its image as 0123abd"]),
        ("p-api:0123abc", "p-other:0123abd", []),
    ],
)
def test_what_shares_an_image_runs_one_build(read: Read, api: str, worker: str, wrong: list[str]) -> None:
    variables = "".join(f'variable "{name}" {{}}\n' for name in ("api", "worker", "finn"))
    images = {"api": api, "worker": worker, "finn": "p-finn:${var.finn}"}
    configuration = read(variables, *(service(name, image=image) for name, image in images.items()))
    defined = read_definitions(configuration, [*images])
    found = [each.what for row in TWINS for each in one_build(defined, TWINS, row)]
    assert [each.partition(",")[0] for each in found] == wrong


def test_a_service_of_the_inventory_that_is_missing_is_found(read: Read) -> None:
    configuration = read(service("dixie"))
    _, examined = inventory(configuration, read_definitions(configuration, ["finn"]), ROW)
    assert [each.what for each in examined.findings] == ["there is no service finn with a task definition"]


def test_a_task_without_a_size_has_that_of_its_containers(read: Read) -> None:
    text = service("finn", image=GOOD).replace("    secrets", "    cpu = 512\n    memory = 2048\n    secrets")
    configuration = read(REPOSITORY, text)
    _, examined = inventory(configuration, read_definitions(configuration, ["finn"]), ROW)
    assert [each.what for each in examined.findings] == ["the memory of finn is 2048, but the plan says 1024"]


LIFECYCLE = """
resource "aws_ecr_repository" "finn" { name = "p-finn" }
resource "aws_ecr_lifecycle_policy" "finn" {
  repository = REPOSITORY
  policy     = jsonencode({ rules = [RULES] })
}
"""
OWN = "aws_ecr_repository.finn.name"


def rule(number: int, status: str, limit: str, more: str = "") -> str:
    """A rule of a lifecycle policy."""
    return (
        f'{{ rulePriority = {number}, selection = {{ tagStatus = "{status}", {more} {limit} }}, '
        'action = { type = "expire" } }'
    )


COUNT, DAYS = (
    'countType = "imageCountMoreThan", countNumber = {}',
    'countType = "sinceImagePushed", countUnit = "days", countNumber = {}',
)
ALL, RUNNING = 'tagPatternList = ["*"],', 'tagPrefixList = ["staging"],'


@pytest.mark.parametrize(
    ("of", "rules", "what"),
    [
        (OWN, rule(1, "any", COUNT.format(30)), ""),
        (OWN, rule(1, "untagged", DAYS.format(1)), ""),
        (OWN, rule(1, "tagged", COUNT.format(1), 'tagPrefixList = ["pr-"],'), ""),
        (OWN, rule(1, "tagged", COUNT.format(1), 'tagPrefixList = ["a"],'), ""),
        (OWN, rule(2, "any", COUNT.format(1)) + ", " + rule(1, "tagged", COUNT.format(20), ALL), ""),
        (OWN, rule(1, "any", COUNT.format("var.unset")), ""),
        ('"p-tools"', rule(1, "any", COUNT.format(1)), ""),
        (OWN, "var.unset", ""),
        (OWN, rule(1, "any", DAYS.format(90)), ""),
        (OWN, rule(1, "tagged", COUNT.format(20), RUNNING) + ", " + rule(2, "any", DAYS.format(3)), ""),
        (OWN, rule(1, "tagged", DAYS.format(2), 'tagPatternList = ["*", "pr-*"],'), ""),
        (OWN, rule(1, "any", COUNT.format(1), 'storageClass = "archive",'), ""),
        (OWN, rule(1, "any", COUNT.format(1)), "keeps 1 image, so there is none to roll back to"),
        ('"p-finn"', rule(1, "tagged", COUNT.format(1), ALL), "keeps 1 image"),
        (OWN, rule(1, "untagged", DAYS.format(1)) + ", " + rule(2, "any", DAYS.format(1)), "after 1 days"),
    ],
)
def test_an_image_is_kept_while_it_is_needed(read: Read, of: str, rules: str, what: str) -> None:
    policy = LIFECYCLE.replace("REPOSITORY", of).replace("RULES", rules)
    image = "${aws_ecr_repository.finn.repository_url}:1234567"
    configuration = read('variable "unset" {}', policy, service("finn", image=image))
    found = [each.what for each in expiring(configuration, read_definitions(configuration, ["finn"]))]
    assert [what in each for each in found] == [True] * bool(what), found


@pytest.mark.parametrize(
    ("image", "what"),
    [
        ("p-dixie:${var.tag}", ""),
        ("flyway:10", ""),
        ("p-api:${var.tag}", "dixie-migration runs p-api, the image of api"),
    ],
)
def test_a_one_shot_runs_the_image_of_its_own_service(read: Read, image: str, what: str) -> None:
    rows = [
        {"ecs": "api", "image": "p-api"},
        {"ecs": "worker", "image": "p-api"},
        {"ecs": "dixie", "image": "p-dixie"},
    ]
    task = f"""
variable "tag" {{}}
resource "aws_ecs_task_definition" "dixie_migration" {{
  family                = "p-dixie-migration"
  container_definitions = jsonencode([{{ name = "m", image = "1.dkr/{image}" }}])
}}
"""
    found = of_another(
        read_definitions(read(task), ["dixie-migration"]),
        rows,
        {"ecs": "dixie-migration", "image": "p-dixie"},
    )
    assert [each.what for each in found] == ([what] if what else [])


SCHEDULE = """
resource "aws_ecs_task_definition" "m" {
  family                = "m"
  container_definitions = jsonencode([{ name = "m", image = "m:1", command = ["migrate"] }])
}
resource "aws_cloudwatch_event_rule" "r" { WHEN }
resource "aws_cloudwatch_event_target" "t" {
  rule = aws_cloudwatch_event_rule.r.name
  arn  = "arn"
  ecs_target {
    task_definition_arn = aws_ecs_task_definition.m.arn
  }
}
"""


@pytest.mark.parametrize(
    ("when", "count"),
    [
        ('schedule_expression = "rate(1 day)"', 1),
        ('schedule_expression = "cron(0 3 * * ? *)"\n  state = "DISABLED"', 0),
        ('event_pattern = "{}"', 0),
    ],
)
def test_no_schedule_runs_a_migration_again(read: Read, when: str, count: int) -> None:
    configuration = read(SCHEDULE.replace("{ WHEN }", f"{{\n  {when}\n}}"))
    found = startup_migrations(configuration, read_definitions(configuration, ["m"]), ["m"]).findings
    assert len([each for each in found if "on a schedule" in each.what]) == count


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
        ("essential = true", ""),  # the image's own command
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
        ('command = ["node", "migrate.js", "--dry-run"]', "m migrates nothing: --dry-run only shows"),
        ('command = ["node", "migrate.js", "--dry-run=false"]', ""),
        ('command = ["node", "migrate.js", "--dry-run", "false"]', ""),
        ('command = ["node", "migrate.js", "--dry-run", var.unset]', ""),
        ('command = ["node", "migrate.js", "--dry-run", "--verbose"]', "m migrates nothing"),
    ],
)
def test_a_migration_fails_with_its_task(read: Read, command: str, what: str) -> None:
    examined = swallowed(read_definitions(read(TASK % command), ["m"]), ["m"])
    assert not examined.not_examined
    assert [what in each.what for each in examined.findings] == [True] * bool(what), examined

"""Things that an unread part of the repository could contain are neither missing nor proved."""

import pytest

from smoke.source.checkout import Examined
from smoke.source.infrastructure.definitions import named, unseen
from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.terraform.values import Value, text
from tests.smoke.source.terraform_files import Read, service

TOPICS = """
module "alerts" {
  source = "terraform-aws-modules/sns/aws"
  name   = "${local.prefix}-alerts"
}
"""
SERVICES = """
module "services" {
  for_each = toset(["finn", "dixie"])
  source   = "terraform-aws-modules/ecs/aws//modules/service"
  name     = "${local.prefix}-${each.key}"
}
"""


@pytest.mark.parametrize(
    ("part", "type_", "name", "found"),
    [
        (TOPICS, "aws_sns_topic", "arrakis-staging-alerts", False),
        (TOPICS, "aws_sns_topic", "arrakis-staging-other", False),  # a module of topics may make any
        (TOPICS, "aws_ecs_cluster", "arrakis-staging-cluster", True),
        (SERVICES, "aws_ecs_service", "arrakis-staging-finn", False),
        (SERVICES, "aws_db_instance", "arrakis-staging-postgres", True),
        ("", "aws_sns_topic", "arrakis-staging-alerts", True),
    ],
)
def test_a_name_may_be_that_of_a_module_that_is_not_read(
    read: Read, part: str, type_: str, name: str, found: bool
) -> None:
    examined = named(read(part), {type_: [name]})
    assert (len(examined.findings), len(examined.not_examined)) == (found, not found)


def test_where_to_look_first_is_the_module_of_that_name(read: Read) -> None:
    balancer = 'module "front" {\n  source = "example/alb/aws"\n  groups = { alerts = { port = 1 } }\n}\n'
    (unread,) = named(read(balancer, TOPICS), {"aws_sns_topic": ["arrakis-staging-alerts"]}).not_examined
    assert unread.what.endswith("the module alerts")


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([SERVICES], ["dixie", "finn"]),
        ([SERVICES, service("finn")], ["dixie"]),
        ([service("finn")], []),  # that dixie is not there is a finding of another check
    ],
)
def test_a_service_in_a_module_that_is_not_read_was_not_looked_at(
    read: Read, parts: list[str], wanted: list[str]
) -> None:
    configuration = read(*parts)
    members = ["finn", "dixie"]
    found = unseen(configuration, read_definitions(configuration, members), members)
    assert [each.what.partition(" ")[0] for each in found] == wanted


@pytest.mark.parametrize(
    ("part", "type_", "name"),
    [
        ('data "aws_ecs_task_definition" "t" { task_definition = "p-finn" }', "task_definition", "p-finn"),
        ('resource "aws_ecs_service" "s" { task_definition = "p-finn:7" }', "task_definition", "p-finn"),
        ('data "aws_ecs_cluster" "c" { cluster_name = "p-cluster" }', "cluster", "p-cluster"),
    ],
)
def test_a_name_may_be_that_of_what_something_else_makes(
    read: Read, part: str, type_: str, name: str
) -> None:
    assert named(read(part), {f"aws_ecs_{type_}": [name]}) == Examined()
    (missing,) = named(read(part), {f"aws_ecs_{type_}": [f"{name}-2"]}).findings
    assert missing.what.endswith(f"called {name}-2")


def test_a_service_whose_task_is_made_elsewhere_was_not_looked_at(read: Read) -> None:
    configuration = read(service("finn").replace("aws_ecs_task_definition.finn.arn", '"arrakis-dixie"'))
    defined = read_definitions(configuration, ["finn"])
    assert "the task definition of aws_ecs_service.finn" in unseen(configuration, defined, ["finn"])[0].what


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('"./queue"', []),
        ("local.where", []),  # what OpenTofu evaluates early
        ('"${path.module}/queue"', []),
        ("var.where", ["which comes from ${var.where}"]),
        ("module.on_call.arn", ["which comes from ${module.on_call.arn}"]),
    ],
)
def test_the_source_of_a_module_may_be_an_expression(read: Read, source: str, wanted: list[str]) -> None:
    configuration = read(
        'variable "where" {}\nlocals { where = "./queue" }\n',
        f'module "on_call" {{\n  source = {source}\n}}\n',
        files={"tf/queue/main.tf": 'resource "aws_sqs_queue" "q" { name = "q" }\n'},
    )
    assert [each.what.partition(", ")[2] for each in configuration.unread] == wanted
    assert len(configuration.of_type("aws_sqs_queue")) == (not wanted)


NAMED = 'resource "aws_sns_topic" "t" { name = "p-${terraform.workspace}" }'


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, ""),
        ({"deploy.sh": "terraform workspace select a"}, ""),
        ({"a/deploy.sh": "terraform workspace select -or-create=true staging"}, ""),
        ({"deploy-tf.sh": "terraform workspace select staging"}, "staging"),
        ({".github/workflows/tf.yml": "env:\n  TF_WORKSPACE: 'staging'\n"}, "staging"),
        ({"tf.sh": "TF_WORKSPACE=staging", "other.sh": "terraform workspace select production"}, ""),
        ({"tf.sh": 'terraform workspace select "$1"'}, ""),
        ({"tf.md": "terraform workspace select staging"}, ""),
    ],
)
def test_a_workspace_is_the_one_that_scripts_select(read: Read, files: dict[str, str], name: str) -> None:
    configuration = read(NAMED, files=files)
    (topic,) = configuration.of_type("aws_sns_topic")
    assert text(topic.attribute("name") or Value("", topic.at)) == (
        f"p-{name}" if name else "p-${terraform.workspace}"
    )


@pytest.mark.parametrize(
    ("path", "content", "name"),
    [
        ("tf/terragrunt.hcl", 'inputs = { region = "x" }', "x"),
        ("live/tf/terragrunt.hcl", 'terraform {\n  source = "../..//tf"\n}\ninputs = { region = "x" }', "x"),
        (
            "live/tf/terragrunt.hcl",
            'terraform {\n  source = "${get_repo_root()}/tf"\n}\ninputs = { region = "x" }',
            "x",
        ),
        (
            "live/production/terragrunt.hcl",
            'terraform {\n  source = "../../tf"\n}\ninputs = { region = "x" }',
            "",
        ),
        ("live/tf/terragrunt.hcl", 'terraform {\n  source = "../../other"\n}\ninputs = { region = "x" }', ""),
        ("tf/terragrunt.hcl", 'inputs = { region = "x", environment = "y" }', "x"),
    ],
)
def test_terragrunt_inputs_are_read(read: Read, path: str, content: str, name: str) -> None:
    configuration = read('variable "region" {}', files={path: content})
    assert text(configuration.root.variable("region")) == (name or "${var.region}")
    assert text(configuration.root.variable("environment")) == "staging"

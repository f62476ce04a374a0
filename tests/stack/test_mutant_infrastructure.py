"""Mutation operators for Terraform and workflows, each on the smallest text that it applies to."""

from collections import Counter
from random import Random

import pytest
import yaml

from smoke.source.terraform.hcl import parse
from stack.aws.server import changes
from stack.mutants.catalogue import (
    RECORDED_OF_TREE,
    TREE,
    TreeMutant,
    excused,
    of_file,
    records,
    tree_mutants,
)

TERRAFORM = """\
resource "aws_sns_topic" "alerts" {
  name    = "alerts"
  # words
  enabled = var.on ? true : false
}

resource "aws_cloudwatch_metric_alarm" "cpu" {
  threshold = 80
  alarm_actions = [
    aws_sns_topic.alerts.arn,
  ]
}
"""
WORKFLOW = """\
jobs:
  deploy:
    needs: migrate
    if: ${{ !cancelled() && needs.migrate.result == 'success' }}
    steps:
      - run: deploy.sh
        shell: bash
      - run: verify.sh
"""
KNOWN = {"aws_sns_topic": ["alerts", "spare"], "var": ["on"]}


def made(file: str, text: str, operator: str) -> list[str]:
    """Return the changed texts of an operator."""
    return [each.text for each in of_file(file, text, KNOWN) if each.operator == operator]


@pytest.mark.parametrize(
    ("operator", "before", "after"),
    [
        ("entry-dropped", '  name    = "alerts"\n', ""),
        ("entry-dropped", "  alarm_actions = [\n    aws_sns_topic.alerts.arn,\n  ]\n", ""),
        ("resource-dropped", TERRAFORM[: TERRAFORM.index("\nresource")], ""),
        ("count-zero", '"alerts" {\n', '"alerts" {\n  count = 0\n'),
        ("number-changed", "= 80", "= 81"),
        ("number-changed", "= 80", "= 79"),
        ("string-changed", '"alerts"\n', '"alertsx"\n'),
        ("bool-changed", "? true", "? false"),
        ("condition-changed", "? true : false", "? false : true"),
        ("reference-swapped", "aws_sns_topic.alerts.arn", "aws_sns_topic.spare.arn"),
    ],
)
def test_terraform(operator: str, before: str, after: str) -> None:
    assert TERRAFORM.replace(before, after, 1) in made("a.tf", TERRAFORM, operator)


@pytest.mark.parametrize(
    ("operator", "before", "after"),
    [
        ("entry-dropped", "    needs: migrate\n", ""),
        ("entry-dropped", "      - run: deploy.sh\n        shell: bash\n", ""),
        ("scalar-changed", "needs: migrate", "needs: migratex"),
        ("condition-changed", "!cancelled()", "cancelled()"),
        ("condition-changed", "&&", "||"),
        ("condition-changed", "==", "!="),
    ],
)
def test_workflow(operator: str, before: str, after: str) -> None:
    assert WORKFLOW.replace(before, after, 1) in made("a.yml", WORKFLOW, operator)


def test_an_id_names_the_block() -> None:
    names = {each.id for each in of_file("a.tf", TERRAFORM, KNOWN)}
    assert "a.tf:aws_cloudwatch_metric_alarm.cpu.threshold:number-changed:1" in names
    assert "a.yml:jobs.deploy.needs:scalar-changed:1" in {each.id for each in of_file("a.yml", WORKFLOW, {})}


def test_every_mutant_of_the_tree_differs_and_has_its_own_id() -> None:
    originals = {file: (TREE / file).read_text("utf-8") for file in {m.file for m in tree_mutants().values()}}
    assert {"infrastructure/terraform/iam.tf", ".github/workflows/deploy-staging.yml"} <= originals.keys()
    assert not [each.id for each in tree_mutants().values() if each.text == originals[each.file]]
    every = [each for file, text in originals.items() for each in of_file(file, text, {})]
    assert not [name for name, count in Counter(each.id for each in every).items() if count > 1]


@pytest.mark.parametrize("seed", range(3))
def test_a_mutant_can_still_be_read(seed: int) -> None:
    for mutant in Random(seed).sample(list(tree_mutants().values()), 15):
        _read(mutant)


def _read(mutant: TreeMutant) -> None:
    if mutant.file.endswith(".yml"):
        assert isinstance(yaml.safe_load(mutant.text), dict), mutant.id
    else:
        assert not parse(mutant.text, mutant.file).unread, mutant.id


@pytest.mark.parametrize(
    ("key", "value", "made"),
    [
        ("desiredCount", 1, [2, 0]),
        ("failedTasks", 0, [1]),
        ("EvaluationPeriods", 1, [2]),
        ("Period", 120, [180, 60]),
        ("Status", "ISSUED", ["EXPIRED"]),
        ("Name", "api", ["apix"]),
        ("AlarmActions", ["a"], [[]]),
        ("Dimensions", [{"Name": "a"}, {"Name": "b"}], [[], [{"Name": "b"}], [{"Name": "a"}]]),
        (0, {"Name": "a"}, []),
    ],
)
def test_what_aws_was_seeded_with_becomes_what_aws_could_hold(
    key: object, value: object, made: object
) -> None:
    assert [new for _, new in changes((key,), value)] == made


def test_every_family_has_a_mutant_and_a_reason() -> None:
    changes = {each.id: f"{each.before} => {each.after}" for each in tree_mutants().values()}
    for record in records(RECORDED_OF_TREE):
        assert record.reason
        if not record.id.startswith("aws:"):
            assert any(record.fits(name, change) for name, change in changes.items()), record.id


@pytest.mark.parametrize(
    ("mutant_id", "is_excused"),
    [
        ("logs.tf:aws_cloudwatch_log_group.api.retention_in_days:entry-dropped:1", True),
        ("logs.tf:aws_cloudwatch_log_group.api.name:entry-dropped:1", False),
        ("aws:arrakis-staging-alerts:attributes.EffectiveDeliveryPolicy.json.http:emptied:1", True),
        ("aws:arrakis-staging-alerts:subscriptions:emptied:1", False),
        ("aws:rds._instances:arrakis-staging-postgres:MultiAZ:bool-changed:1", True),
        ("aws:rds._instances:arrakis-staging-postgres:VpcSecurityGroups:emptied:1", False),
    ],
)
def test_what_nothing_asks_for_is_excused(mutant_id: str, is_excused: bool) -> None:
    assert bool(excused({"id": mutant_id, "before": "1", "after": "2"})["equivalent"]) is is_excused

"""Definitions: what is missing and what is shared is found, through locals, policies and data sources."""

from pathlib import Path

import pytest

from smoke.source.definitions import containers, required, uses, wildcards
from smoke.source.ownership import OWN, SECRET, Ownership
from smoke.source.parser import Parser
from smoke.source.terraform import Module
from tests.smoke.source.repository import repository
from tests.smoke.source.terraform_files import Read, service

OWNERSHIP = Ownership({"finn": ["finn"], "dixie": ["dixie", "dixie-migration"]})


def findings(module: Module, group: str) -> list[str]:
    found = uses(module)
    lacking = OWNERSHIP.lacks(group, found, required(module, ("finn", "dixie")))
    return [*lacking, *(each.what for each in OWNERSHIP.shared(found, [*OWN, SECRET]).get(group, []))]


def test_independent_definitions_have_no_finding(read: Read) -> None:
    module = read(service("finn"), service("dixie"))
    assert findings(module, "finn") == findings(module, "dixie") == []
    assert module.text(module.resources["aws_iam_role.finn"].attribute("name")) == "arrakis-staging-finn"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"role": "dixie"}, "execution role"),
        ({"group": "dixie"}, "security group"),
        ({"logs": "dixie"}, "log group"),
        ({"secret": "dixie"}, "secret"),
    ],
)
def test_what_is_shared_is_found_on_both_sides(read: Read, change: dict[str, str], kind: str) -> None:
    module = read(service("finn", **change), service("dixie"))
    for group in ("finn", "dixie"):
        assert any(f" the {kind} " in what for what in findings(module, group)), group


def test_one_family_in_two_resources_is_shared(read: Read) -> None:
    text = service("finn").replace(
        '"${local.prefix}-finn"\n  execution', '"${local.prefix}-dixie"\n  execution'
    )
    module = read(text, service("dixie"))
    assert "dixie and finn share the task family arrakis-staging-dixie" in findings(module, "finn")


@pytest.mark.parametrize(
    ("removed", "lacking"),
    [
        ("  execution_role_arn    = aws_iam_role.finn.arn\n", "finn has no execution role"),
        (
            "  network_configuration { security_groups = [aws_security_group.finn.id] }\n",
            "finn has no security group",
        ),
        (
            '    secrets = [{ name = "KEY", valueFrom = "${aws_secretsmanager_secret.finn.arn}:key::" }]\n',
            "finn has no secret of its own",
        ),
    ],
)
def test_what_is_missing_is_named(read: Read, removed: str, lacking: str) -> None:
    text = service("finn")
    assert removed in text
    assert lacking in findings(read(text.replace(removed, ""), service("dixie")), "finn")


def test_a_service_without_a_definition_is_named(read: Read) -> None:
    assert "finn of finn is not defined" in findings(read(service("dixie")), "finn")


POLICY = """
resource "aws_iam_role_policy" "{name}" {{
  role   = aws_iam_role.{name}.id
  policy = {policy}
}}
"""
INLINE = """jsonencode({{
  Statement = [{{ Effect = "{effect}", Action = ["{action}"], Resource = [{resource}] }}]
}})"""


#: What a policy makes of Finn's secret.
READS = "dixie may read the secret arrakis-staging/finn/es256-private-key of finn"


def policy(resource: str, action: str = "secretsmanager:GetSecretValue", effect: str = "Allow") -> str:
    return POLICY.format(name="dixie", policy=INLINE.format(effect=effect, action=action, resource=resource))


def test_a_role_that_may_read_anothers_secret_shares_it(read: Read) -> None:
    module = read(service("finn"), service("dixie"), policy("aws_secretsmanager_secret.finn.arn"))
    assert READS in findings(module, "finn")
    module = read(service("finn"), service("dixie"), policy("aws_secretsmanager_secret.dixie.arn"))
    assert findings(module, "finn") == []


DOCUMENT = """
data "aws_iam_policy_document" "d" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.finn.arn]
  }
}
"""
ATTACHED = """
resource "aws_iam_policy" "p" { policy = data.aws_iam_policy_document.d.json }
resource "aws_iam_role_policy_attachment" "a" {
  role       = aws_iam_role.dixie.name
  policy_arn = aws_iam_policy.p.arn
}
"""
INLINE_BLOCK = """
resource "aws_iam_role" "dixie" {
  inline_policy { policy = data.aws_iam_policy_document.d.json }
}
"""
HEREDOC = """<<-EOT
  {"Statement": [{"Effect": "Allow", "Action": "secretsmanager:GetSecretValue",
                  "Resource": "${aws_secretsmanager_secret.finn.arn}"}]}
EOT"""


@pytest.mark.parametrize(
    "text",
    [
        DOCUMENT + POLICY.format(name="dixie", policy="data.aws_iam_policy_document.d.json"),
        DOCUMENT + ATTACHED,
        DOCUMENT + INLINE_BLOCK,
        POLICY.format(name="dixie", policy=HEREDOC),
    ],
    ids=["document", "attachment", "inline", "heredoc"],
)
def test_every_way_to_write_a_policy_is_followed(read: Read, text: str) -> None:
    assert READS in findings(read(service("finn"), service("dixie"), text), "finn")


@pytest.mark.parametrize(
    ("resource", "action", "effect", "found"),
    [
        ('"*"', "secretsmanager:GetSecretValue", "Allow", True),
        ('"arn:aws:secretsmanager:us-east-1:1:secret:arrakis-*"', "secretsmanager:*", "Allow", True),
        ('"*"', "*", "Allow", True),
        ('"*"', "logs:PutLogEvents", "Allow", False),
        ('"*"', "secretsmanager:GetSecretValue", "Deny", False),
        ("aws_secretsmanager_secret.dixie.arn", "secretsmanager:GetSecretValue", "Allow", False),
    ],
)
def test_a_policy_on_any_secret_is_found(
    read: Read, resource: str, action: str, effect: str, found: bool
) -> None:
    assert bool(wildcards(read(service("dixie"), policy(resource, action, effect)))) == found


def test_a_secret_without_an_owner_counts_as_communal_only(read: Read) -> None:
    redis = 'resource "aws_secretsmanager_secret" "redis" { name = "${local.prefix}/redis" }'
    extra = ', { name = "R", valueFrom = aws_secretsmanager_secret.redis.arn }]\n    log'
    both = [service(name).replace("]\n    log", extra) for name in ("finn", "dixie")]
    module = read(redis, *both)
    assert findings(module, "finn") == []
    (first, second) = OWNERSHIP.communal(uses(module))
    assert first.what == second.what == "the secret arrakis-staging/redis serves dixie and finn"


def test_containers_that_the_files_do_not_define_are_reported(read: Read) -> None:
    module = read('resource "aws_ecs_task_definition" "x" { container_definitions = file("x.json") }')
    with pytest.raises(
        AssertionError, match=r"tf/main\.tf:\d+: the containers of aws_ecs_task_definition\.x"
    ):
        containers(module, module.resources["aws_ecs_task_definition.x"])


def test_a_directory_without_terraform_and_a_missing_variable_file_are_named(
    read: Read, tmp_path: Path
) -> None:
    checkout = repository(tmp_path / "other", {"README": "x", "tf/a.tf": "locals {}"})
    parser = Parser(tmp_path / "cache")
    with pytest.raises(AssertionError, match="there is no Terraform file in infra"):
        Module.read(checkout, "infra", parser)
    with pytest.raises(AssertionError, match=r"tf/b\.tfvars is not in the checkout"):
        Module.read(checkout, "tf", parser, ["tf/b.tfvars"])


def test_locals_in_a_circle_end(read: Read) -> None:
    module = read("locals {\n  a = local.b\n  b = local.a\n}\n")
    assert module.text(module.locals["a"]).startswith("${local.")
    assert module.addresses(module.locals["a"]) == []

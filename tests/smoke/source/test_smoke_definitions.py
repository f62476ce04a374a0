"""Definitions: missing and shared ones are found through locals, policies and data sources."""

from pathlib import Path

import pytest
from pytest_readiness import SetupError

from smoke.source.checkout import Examined
from smoke.source.infrastructure.definitions import definitions, unnamed
from smoke.source.infrastructure.definitions import read as read_definitions
from smoke.source.rules import OWN, SECRET, Ownership
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.values import text
from tests.smoke.source.repository import repository
from tests.smoke.source.terraform_files import Read, service

OWNERSHIP = Ownership({"finn": ["finn"], "dixie": ["dixie", "dixie-migration"]})


def findings(configuration: Configuration, group: str) -> list[str]:
    found = read_definitions(configuration, ["finn", "dixie", "dixie-migration"])
    lacking = OWNERSHIP.lacks(group, found.uses, found.required(("finn", "dixie")))
    return [*lacking, *(each.what for each in OWNERSHIP.shared(found.uses, [*OWN, SECRET]).get(group, []))]


def test_independent_definitions_have_no_finding(read: Read) -> None:
    module = read(service("finn"), service("dixie"))
    assert findings(module, "finn") == findings(module, "dixie") == []
    assert text(module.of_type("aws_iam_role")[0].attribute("name")) == "arrakis-staging-finn"


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
    shared = "dixie and finn share the task family arrakis-staging-dixie (also "
    assert any(what.startswith(shared) for what in findings(module, "finn"))


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


#: A policy's effect on Finn's secret.
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


PREFIX = "arn:aws:secretsmanager:us-east-1:1:secret:arrakis-staging"
PARAMETER = "arn:aws:ssm:us-east-1:${data.aws_caller_identity.me.account_id}:parameter"


@pytest.mark.parametrize(
    ("resource", "action", "found"),
    [
        ('"*"', "secretsmanager:GetSecretValue", True),
        ('"*"', "SecretsManager:getsecretvalue", True),
        ('"*"', "secretsmanager:Get*", True),
        ('"*"', "secretsmanager:*", True),
        ('"*"', "*", True),
        ('"*"', "secretsmanager:?etSecretValue", True),
        ('"*"', "secretsmanager:BatchGetSecretValue", True),
        ('"*"', "ssm:GetParameter", True),
        ('"*"', "ssm:GetParameter*", True),
        ('"*"', "ssm:GetParametersByPath", True),
        ('"*"', "logs:PutLogEvents", False),
        ('"*"', "secretsmanager:DescribeSecret", False),
        ('"*"', "s3:*", False),
        (f'"{PREFIX}-*"', "secretsmanager:*", True),
        (f'"{PREFIX}/*"', "secretsmanager:GetSecretValue", True),
        (f'"{PREFIX}/redis-*"', "secretsmanager:GetSecretValue", True),
        ('"arn:aws:secretsmanager:*:*:secret:*"', "secretsmanager:GetSecretValue", True),
        ('"arn:aws:*"', "*", True),
        ('"arn:aws:s3:::bucket/*"', "*", False),
        ("aws_s3_bucket.b.arn", "*", False),
        (f'"{PREFIX}/dixie/*"', "secretsmanager:GetSecretValue", False),
        (f'"{PREFIX}/dixie/es256-private-key-??????"', "secretsmanager:GetSecretValue", False),
        (f'"{PREFIX}/dixie/es256-private-key-*"', "secretsmanager:GetSecretValue", False),
        ('"${aws_secretsmanager_secret.dixie.arn}-*"', "secretsmanager:GetSecretValue", False),
        ("aws_secretsmanager_secret.dixie.arn", "secretsmanager:GetSecretValue", False),
        (f'"{PARAMETER}/dixie/*"', "ssm:GetParameter*", False),
        (f'"{PARAMETER}/*"', "ssm:GetParameter*", True),
        (f'"{PARAMETER}/shared/*"', "ssm:GetParametersByPath", True),
        (f'"{PARAMETER}/loa-dixie/x/*"', "ssm:GetParameter", False),
    ],
)
def test_a_policy_on_any_secret_is_found(read: Read, resource: str, action: str, found: bool) -> None:
    examined = unnamed_of(read(service("dixie"), policy(resource, action)))
    assert (bool(examined.findings), examined.not_examined) == (found, [])


def unnamed_of(configuration: Configuration) -> Examined:
    return unnamed(read_definitions(configuration, ["finn", "dixie", "dixie-migration"]), OWNERSHIP)


def test_what_a_policy_denies_or_leaves_out_is_read_as_iam_does(read: Read) -> None:
    statement = '{ Effect = "%s", %s, %s }'
    get = 'Action = "secretsmanager:GetSecretValue"'

    def found(*parts: str) -> bool:
        document = "jsonencode({ Statement = [" + statement % parts + "] })"
        return bool(unnamed_of(read(service("dixie"), POLICY.format(name="dixie", policy=document))).findings)

    assert found("Allow", get, 'Resource = "*"')
    assert found("Allow", get, 'NotResource = "arn:aws:secretsmanager:us-east-1:1:secret:x"')
    assert found("Allow", 'NotAction = "iam:*"', 'Resource = "*"')
    assert not found("Allow", 'NotAction = ["secretsmanager:*", "ssm:*"]', 'Resource = "*"')
    assert not found("Deny", get, 'Resource = "*"')


@pytest.mark.parametrize(
    ("arn", "found", "examined"),
    [
        ("arn:aws:iam::aws:policy/SecretsManagerReadWrite", True, True),
        ("arn:aws:iam::aws:policy/AdministratorAccess", True, True),
        ("arn:aws:iam::aws:policy/AmazonSSMReadOnlyAccess", True, True),
        ("arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy", False, True),
        ("arn:aws:iam::aws:policy/SomethingNew", False, False),
        ("arn:aws:iam::1:policy/elsewhere", False, False),
    ],
)
@pytest.mark.parametrize("way", ["attachment", "list", "data"])
def test_policies_of_aws_are_known_or_not_examined(
    read: Read, arn: str, found: bool, examined: bool, way: str
) -> None:
    attached = (
        'resource "aws_iam_role_policy_attachment" "a" {\n'
        "  role       = aws_iam_role.dixie.name\n  policy_arn = %s\n}"
    )
    name = arn.rpartition("/")[2]
    text = {
        "attachment": attached % f'"{arn}"',
        "list": f"""
resource "aws_iam_role" "dixie" {{
  name                = "arrakis-staging-dixie"
  managed_policy_arns = ["{arn}"]
}}""",
        "data": f'data "aws_iam_policy" "p" {{ name = "{name}" }}\n' + attached % "data.aws_iam_policy.p.arn",
    }[way]
    configuration = read(service("dixie"), text)
    assert bool(unnamed_of(configuration).findings) == found
    defined = read_definitions(configuration, ["dixie"])
    assert (not [each for each in defined.not_examined if "the policy" in each.what]) == examined


def test_a_batch_reads_what_its_role_may_read_one_by_one(read: Read) -> None:
    batch = policy('"*"', "secretsmanager:BatchGetSecretValue")
    own = policy("aws_secretsmanager_secret.dixie.arn").replace('"dixie" {', '"own" {')
    assert unnamed_of(read(service("dixie"), batch)).findings
    assert not unnamed_of(read(service("dixie"), batch, own)).findings


def test_a_condition_is_not_examined(read: Read) -> None:
    document = """jsonencode({ Statement = [{
      Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = "*",
      Condition = { StringEquals = { "aws:ResourceTag/owner" = "dixie" } } }] })"""
    configuration = read(service("dixie"), POLICY.format(name="dixie", policy=document))
    assert not unnamed_of(configuration).findings
    assert any("condition" in each.what for each in read_definitions(configuration, ["dixie"]).not_examined)


def test_a_secret_is_its_whole_address(read: Read) -> None:
    """Two parameters of one account are two secrets, not one that is called like the account."""

    def text(name: str, path: str) -> str:
        key = f"{name}/es256-private-key"
        secret = f'"{PARAMETER}/{path}"'
        return (
            service(name).replace(f'"${{aws_secretsmanager_secret.{name}.arn}}:key::"', secret) + f"# {key}"
        )

    own = read(text("finn", "finn/key"), text("dixie", "dixie/key"))
    assert findings(own, "finn") == findings(own, "dixie") == []
    taken = read(text("finn", "finn/key"), text("dixie", "finn/key"))
    assert "dixie uses the secret finn/key of finn" in findings(taken, "finn")


@pytest.mark.parametrize("how", ["arn", "data", "version", "parameter"])
def test_one_secret_is_one_however_it_is_named(read: Read, how: str) -> None:
    other = {
        "arn": f'"{PREFIX}/finn/es256-private-key-AbC123:key::"',
        "data": "data.aws_secretsmanager_secret.theirs.arn",
        "version": "aws_secretsmanager_secret_version.theirs.arn",
        "parameter": f'"{PARAMETER}/finn/es256-private-key"',
    }[how]
    more = """
data "aws_secretsmanager_secret" "theirs" { name = "arrakis-staging/finn/es256-private-key" }
resource "aws_secretsmanager_secret_version" "theirs" { secret_id = aws_secretsmanager_secret.finn.id }
"""
    dixie = service("dixie").replace('"${aws_secretsmanager_secret.dixie.arn}:key::"', other)
    reasons = [
        what for what in findings(read(service("finn"), dixie, more), "finn") if what.startswith("dixie uses")
    ]
    assert len(reasons) == 1


def test_the_policy_of_a_secret_lets_roles_read_it(read: Read) -> None:
    text = """
resource "aws_secretsmanager_secret_policy" "finn" {
  secret_arn = aws_secretsmanager_secret.finn.arn
  policy = jsonencode({ Statement = [{
    Effect = "Allow", Action = "secretsmanager:GetSecretValue", Resource = "*"
    Principal = { AWS = aws_iam_role.dixie.arn }
  }] })
}
"""
    assert READS in findings(read(service("finn"), service("dixie"), text), "finn")


def test_what_a_task_role_reads_counts(read: Read) -> None:
    text = service("dixie").replace(
        "  execution_role_arn", "  task_role_arn = aws_iam_role.act.arn\n  execution_role_arn"
    )
    role = 'resource "aws_iam_role" "act" { name = "act" }\n' + policy(
        "aws_secretsmanager_secret.finn.arn"
    ).replace("aws_iam_role.dixie", "aws_iam_role.act")
    assert READS in findings(read(service("finn"), text, role), "finn")


def test_a_role_that_is_shared_lets_both_read(read: Read) -> None:
    found = findings(
        read(service("finn", role="dixie"), service("dixie"), policy("aws_secretsmanager_secret.dixie.arn")),
        "dixie",
    )
    assert "finn may read the secret arrakis-staging/dixie/es256-private-key of dixie" in found


def test_names_of_the_plan_are_found_in_any_style(read: Read) -> None:
    configuration = read("""
resource "aws_ecs_service" "main" { name = "${local.prefix}-finn" }
resource "aws_ecs_service" "loa_dixie" { name = "x" }
resource "aws_ecs_service" "gp_worker" { name = "p-gp-worker" }
resource "aws_ecs_service" "worker" { name = "p-worker" }
resource "aws_ecs_service" "each" {
  for_each = toset(["api"])
  name     = "x-${each.key}-y"
}
""")
    members = ["api", "worker", "finn", "dixie"]
    found = {
        each.service.address.partition(".")[2]: each.name
        for each in definitions(configuration, members)
        if each.service
    }
    assert found == {
        "main": "finn", "loa_dixie": "loa-dixie", "gp_worker": "gp-worker", "worker": "worker",
        'each["api"]': "api",
    }  # fmt: skip


def test_a_secret_without_an_owner_counts_as_communal_only(read: Read) -> None:
    redis = 'resource "aws_secretsmanager_secret" "redis" { name = "${local.prefix}/redis" }'
    extra = ', { name = "R", valueFrom = aws_secretsmanager_secret.redis.arn }]\n    log'
    both = [service(name).replace("]\n    log", extra) for name in ("finn", "dixie")]
    module = read(redis, *both)
    assert findings(module, "finn") == []
    (only,) = OWNERSHIP.communal(read_definitions(module, ["finn", "dixie"]).uses)
    assert only.what.partition(" (")[0] == "the secret arrakis-staging/redis serves dixie and finn"


def test_what_cannot_be_read_stops_only_that(read: Read) -> None:
    hidden = """
variable "containers" {}
resource "aws_ecs_task_definition" "x" { container_definitions = var.containers }
"""
    defined = read_definitions(read(hidden, service("finn")), ["finn"])
    assert [(each.path, each.what) for each in defined.not_examined] == [
        ("tf/main.tf", "the containers of aws_ecs_task_definition.x: the files do not set var.containers")
    ]
    assert {use.owner for use in defined.uses} == {"finn"}


def test_a_directory_without_terraform_and_a_missing_variable_file_are_named(tmp_path: Path) -> None:
    checkout = repository(tmp_path / "other", {"README": "x", "tf/a.tf": "locals {}"})
    with pytest.raises(SetupError, match="the checkout has no Terraform in infra"):
        Configuration(checkout, "infra")
    with pytest.raises(SetupError, match=r"the checkout lacks tf/b\.tfvars"):
        Configuration(checkout, "tf", ["tf/b.tfvars"])


@pytest.mark.parametrize(
    ("path", "text", "tool"),
    [
        ("cdk.json", "{}", "AWS CDK"),
        ("infra/Pulumi.yaml", "name: p", "Pulumi"),
        ("infra/stack.yml", "AWSTemplateFormatVersion: 2010-09-09", "CloudFormation"),
        ("copilot/api/manifest.yml", "name: api", "AWS Copilot"),
        ("tf/terragrunt.hcl", "inputs = {}", "Terragrunt"),
    ],
)
def test_a_platform_that_another_tool_defines_is_not_examined(
    tmp_path: Path, path: str, text: str, tool: str
) -> None:
    checkout = repository(tmp_path, {"a/terragrunt.hcl": "", path: text})
    with pytest.raises(SetupError, match=rf"no Terraform in tf(.|\n)*{path} \({tool}"):
        Configuration(checkout, "tf", ["tf/staging.tfvars"])


MIGRATIONS = "".join(
    f"""
resource "aws_ecs_task_definition" "{name}-migration" {{
  family                = "{name}-migration"
  execution_role_arn    = aws_iam_role.migrate.arn
  container_definitions = jsonencode([{{ name = "m", image = "m:1", secrets = [%s] }}])
}}
"""
    for name in ("finn", "dixie")
)
MIGRATE = 'resource "aws_iam_role" "migrate" { name = "migrate" }\n'


@pytest.mark.parametrize(
    ("policies", "secrets"),
    [
        ("", []),
        (policy("aws_secretsmanager_secret.dixie.arn").replace("aws_iam_role.dixie", "aws_iam_role.migrate"),
         ["finn-migration may read the secret arrakis-staging/dixie/es256-private-key of dixie"]),
    ],
)  # fmt: skip
def test_a_role_of_two_migrations_is_worse_where_it_reaches_a_secret(
    read: Read, policies: str, secrets: list[str]
) -> None:
    """Sharing it is a finding by itself (P1); another's secret that it lets read is one more (P0)."""
    ownership = Ownership({"finn": ["finn", "finn-migration"], "dixie": ["dixie", "dixie-migration"]})
    members = [member for group in ownership.groups.values() for member in group]
    written = MIGRATIONS.replace("%s", "")
    uses = read_definitions(read(service("finn"), service("dixie"), MIGRATE, written, policies), members).uses
    roles = ownership.shared(uses, ["execution role"])["finn"]
    assert [each.what.partition(" (")[0] for each in roles] == [
        "dixie-migration and finn-migration share the execution role migrate"
    ]
    assert [each.what for each in ownership.shared(uses, [SECRET]).get("finn", [])] == secrets


def test_a_generated_name_is_the_services_own_and_firelens_names_its_log_group(read: Read) -> None:
    named = 'name = "${local.prefix}/finn/es256-private-key"'
    written = service("finn").replace(named, 'name_prefix = "${local.prefix}/finn/"')
    defined = read_definitions(read(written.replace('"awslogs-group"', "log_group_name")), ["finn"])
    assert named not in written
    assert Ownership({"finn": ["finn"]}).lacks("finn", defined.uses, defined.required(["finn"])) == []

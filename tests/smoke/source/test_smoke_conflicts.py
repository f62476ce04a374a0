"""What Terraform or AWS refuses of files together, and what only looks like it."""

from collections.abc import Mapping

import pytest

from smoke.source.infrastructure.conflicts import conflicts
from tests.smoke.source.terraform_files import Read

ROLE = 'resource "aws_iam_role" "{}" {{\n  name = "{}"\n{}}}'
GROUP = 'resource "aws_security_group" "{}" {{\n  name = "{}"\n{}}}'
RULE = """
resource "aws_lb_listener_rule" "{0}" {{
  listener_arn = aws_lb_listener.{1}.arn
  priority     = {2}
}}"""
LISTENERS = 'resource "aws_lb_listener" "a" { port = 443 }\nresource "aws_lb_listener" "b" { port = 80 }'


def wrong(read: Read, *parts: str, files: Mapping[str, str] | None = None) -> list[str]:
    return [each.what for each in conflicts(read(*parts, files=files))]


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([ROLE.format("a", "${local.prefix}-x", ""), ROLE.format("b", "arrakis-staging-x", "")],
         "aws_iam_role.b and aws_iam_role.a share the name arrakis-staging-x"),
        ([ROLE.format("a", "x", ""), ROLE.format("b", "y", "")], ""),
        ([ROLE.format("a", "x", ""), ROLE.format("b", "x", "  provider = aws.other\n")], ""),
        ([ROLE.format("a", "x", ""), ROLE.format("b", "x", "  count = 0\n")], ""),
        (['variable "v" {}', ROLE.format("a", "x", "  count = var.v ? 1 : 0\n"),
          ROLE.format("b", "x", "  count = var.v ? 0 : 1\n")], ""),
        ([GROUP.format("a", "x", "  vpc_id = var.one\n"), GROUP.format("b", "x", "  vpc_id = var.two\n"),
          'variable "one" {}\nvariable "two" {}'], ""),
        ([LISTENERS, RULE.format("x", "a", 10), RULE.format("y", "a", 10)],
         "aws_lb_listener_rule.y and aws_lb_listener_rule.x share the priority 10"),
        ([LISTENERS, RULE.format("x", "a", 10), RULE.format("y", "b", 10)], ""),
        (['resource "aws_iam_role" "a" {\n  for_each = toset(["p", "q"])\n  name = "x"\n}'],
         'aws_iam_role.a["q"] and aws_iam_role.a["p"] share the name x'),
    ],
)  # fmt: skip
def test_a_name_is_taken_once(read: Read, parts: list[str], what: str) -> None:
    assert wrong(read, *parts) == [what] * bool(what)


INGRESS = "  ingress {{\n    security_groups = [aws_security_group.{}.id]\n  }}\n"


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([GROUP.format("a", "a", INGRESS.format("b")), GROUP.format("b", "b", INGRESS.format("a"))],
         "aws_security_group.a needs aws_security_group.b needs aws_security_group.a: a cycle"),
        (["locals {\n  one = local.two\n  two = [local.one]\n}"],
         "local.one needs local.two needs local.one: a cycle"),
        ([GROUP.format("a", "a", INGRESS.format("b")), GROUP.format("b", "b", "  depends_on = [local.x]\n"),
          "locals {\n  x = aws_security_group.a.id\n}"],
         "local.x needs aws_security_group.a needs aws_security_group.b needs local.x: a cycle"),
        ([GROUP.format("a", "a", INGRESS.format("b")), GROUP.format("b", "b", "  x = self.id\n")], ""),
        ([GROUP.format("a", "a", ""), "locals {\n  ids = { for a in [1] : a => local.prefix }\n}"], ""),
    ],
)  # fmt: skip
def test_things_do_not_need_each_other(read: Read, parts: list[str], what: str) -> None:
    assert wrong(read, *parts) == [what] * bool(what)


@pytest.mark.parametrize(
    ("condition", "refused"),
    [
        ('contains(["staging", "production"], var.environment)', False),
        ('contains(["prod", "stage"], var.environment)', True),
        ('can(regex("^[a-z]+$", var.environment))', False),
        ('can(regex("^prod", var.environment))', True),
        ("length(var.environment) > 3 && length(var.environment) < 12", False),
        ("var.environment != var.other", False),
    ],
)
def test_a_validation_takes_the_value_of_this_environment(read: Read, condition: str, refused: bool) -> None:
    block = f"""
  validation {{
    condition     = {condition}
    error_message = "No."
  }}
"""
    module = f'variable "environment" {{{block}}}\nvariable "other" {{\n  default = "x"\n}}'
    call = 'module "m" {\n  source      = "./m"\n  environment = var.environment\n}'
    refused_here = ["var.environment is staging, which its validation refuses"] * refused
    assert wrong(read, call, files={"tf/m/main.tf": module}) == refused_here


def test_a_default_that_its_validation_refuses_is_replaced_where_terraform_runs(read: Read) -> None:
    block = 'validation {\n    condition     = length(var.tag) > 6\n    error_message = "No."\n  }'
    assert wrong(read, f'variable "tag" {{\n  default = ""\n  {block}\n}}') == []


@pytest.mark.parametrize(
    ("condition", "refused"), [('var.environment == "production"', True), ("self.x", False)]
)
def test_a_precondition_holds(read: Read, condition: str, refused: bool) -> None:
    guarded = f"  lifecycle {{\n    precondition {{\n      condition = {condition}\n    }}\n  }}\n"
    assert (
        wrong(read, ROLE.format("a", "x", guarded)) == ["aws_iam_role.a: a precondition is false"] * refused
    )


POLICY = 'resource "aws_iam_role_policy" "p" {\n  name = "secrets"\n  role = aws_iam_role.a.id\n}\n'
EXCLUSIVE = """
resource "aws_iam_role_policies_exclusive" "a" {
  role_name    = aws_iam_role.a.name
  policy_names = %s
}
"""


@pytest.mark.parametrize(
    ("listed", "what"),
    [
        ('["secrets"]', ""),
        ("[aws_iam_role_policy.p.name]", ""),
        ("var.unset", ""),
        ("[]", "aws_iam_role_policies_exclusive.a removes aws_iam_role_policy.p, which it does not list"),
    ],
)
def test_a_complete_list_of_policies_has_all_of_them(read: Read, listed: str, what: str) -> None:
    parts = [ROLE.format("a", "a", ""), POLICY, EXCLUSIVE % listed, 'variable "unset" {}']
    assert wrong(read, *parts) == [what] * bool(what)


RULE_OF = """
resource "aws_security_group_rule" "r" {{
  type              = "{}"
  security_group_id = aws_security_group.a.id
}}
"""


@pytest.mark.parametrize(
    ("inside", "way", "mixed"),
    [
        ("", "ingress", False),
        (INGRESS.format("b"), "egress", False),
        (INGRESS.format("b") + "  lifecycle {\n    ignore_changes = [ingress]\n  }\n", "ingress", False),
        (INGRESS.format("b"), "ingress", True),
    ],
)
def test_rules_stand_in_their_group_or_beside_it(read: Read, inside: str, way: str, mixed: bool) -> None:
    found = wrong(read, GROUP.format("a", "a", inside), GROUP.format("b", "b", ""), RULE_OF.format(way))
    assert ["overwrite each other" in each for each in found] == [True] * mixed


ATTACHED = """
resource "aws_iam_role_policy_attachment" "p" {
  role       = aws_iam_role.a.name
  policy_arn = "arn:aws:iam::aws:policy/x"
}
resource "aws_iam_role_policy_attachments_exclusive" "a" {
  role_name   = aws_iam_role.a.name
  policy_arns = %s
}
"""


@pytest.mark.parametrize(
    ("listed", "count"),
    [('["arn:aws:iam::aws:policy/x"]', 0), ("var.unset", 0), ("[]", 1), ('["arn:aws:iam::aws:policy/y"]', 1)],
)
def test_a_complete_list_of_attachments_has_all_of_them(read: Read, listed: str, count: int) -> None:
    parts = [ROLE.format("a", "a", ""), ATTACHED % listed, 'variable "unset" {}']
    assert ["removes aws_iam_role_policy_attachment.p" in each for each in wrong(read, *parts)] == [
        True
    ] * count


def test_a_role_has_policies_of_its_own_or_beside_it(read: Read) -> None:
    assert not wrong(read, ROLE.format("a", "a", ""), POLICY)
    assert len(wrong(read, ROLE.format("a", "a", "  inline_policy {}\n"), POLICY)) == 1
    managed = '  managed_policy_arns = ["x"]\n'
    assert not wrong(read, ROLE.format("a", "a", managed), POLICY)
    attached = ATTACHED.partition("}")[0] + "}"
    assert len(wrong(read, ROLE.format("a", "a", managed), attached)) == 1
    left = "  lifecycle {\n    ignore_changes = [managed_policy_arns]\n  }\n"
    assert not wrong(read, ROLE.format("a", "a", managed + left), attached)
    others = [ROLE.format("a", "a", ""), ROLE.format("b", "b", "  inline_policy {}\n"), POLICY]
    assert not wrong(read, *others)

"""Conflicts that Terraform or AWS refuses, and lookalikes that they accept."""

from collections.abc import Mapping

import pytest

from smoke.source.infrastructure.conflicts import conflicts, misdeclared
from tests.smoke.source.terraform_files import Read

ROLE = 'resource "aws_iam_role" "{}" {{\n  name = "{}"\n{}}}'
GROUP = 'resource "aws_security_group" "{}" {{\n  name = "{}"\n{}}}'
RULE = """
resource "aws_lb_listener_rule" "{0}" {{
  listener_arn = aws_lb_listener.{1}.arn
  priority     = {2}
}}"""
LISTENERS = 'resource "aws_lb_listener" "a" { port = 443 }\nresource "aws_lb_listener" "b" { port = 80 }'
ZONES = "\n".join(f'resource "aws_route53_zone" "{name}" {{\n  name = "example.com"\n}}' for name in "ab")
RECORD = (
    'resource "aws_route53_record" "{}" {{\n  zone_id = aws_route53_zone.{}.zone_id\n  type = "A"\n'
    '  name = "api"\n  set_identifier = "{}"\n}}'
)


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
        ([ZONES, RECORD.format("x", "a", "blue"), RECORD.format("y", "a", "blue")],
         "aws_route53_record.y and aws_route53_record.x share the name api"),
        ([ZONES, RECORD.format("x", "a", "blue"), RECORD.format("y", "a", "green")], ""),
        ([ZONES, RECORD.format("x", "a", "blue"), RECORD.format("y", "b", "blue")], ""),
        ([ZONES, RECORD.format("x", "a", ""),
          RECORD.format("y", "a", "").replace("\n}", "\n  allow_overwrite = true\n}")], ""),
        (['resource "aws_iam_role" "a" {\n  for_each = toset(["p", "q"])\n  name = "x"\n}'],
         'aws_iam_role.a["q"] and aws_iam_role.a["p"] share the name x'),
    ],
)  # fmt: skip
def test_duplicate_names_are_findings(read: Read, parts: list[str], what: str) -> None:
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
    ("condition", "message", "refused"),
    [
        ('can(regex("^[0-9a-f]{7,40}$", var.tag))', "Expected a git sha.", False),
        ('can(regex("^sha-[0-9a-f]{7}$", var.tag))', "Expected a git sha.", False),
        ('length(var.tag) == 40 && can(regex("^[[:xdigit:]]+$", var.tag))', "Expected a git sha.", False),
        ('can(regex("^[\\\\pL\\\\pN]+$", var.tag))', "Expected a git sha.", False),
        ('can(regex("^[[:upper:]]+$", var.tag))', "Expected a git sha.", True),
        ("length(var.tag) == 40", "Give the full commit hash.", False),
        ("contains(var.released, var.tag)", "Expected a git sha.", False),
        ('can(regex("^v[0-9.]+$", var.tag))', "Expected a version.", False),
        ('can(regex("^v[0-9.]+$", var.tag))', "Expected v1.2.3, not a commit.", False),
        ('can(regex("^main-[0-9a-f]{7}$", var.tag))', "Expected main-<git sha>.", False),
        ('startswith(var.tag, "sha256:")', "Expected the digest that the commit has.", False),
        ('can(regex("^v[0-9.]+$", var.tag))', "Expected a git sha.", True),
        ('can(regex("^[0-9A-Z]+$", var.tag)) && length(var.tag) < 6', "Expected a commit.", True),
    ],
)
def test_a_validation_that_demands_a_commit_takes_one(
    read: Read, condition: str, message: str, refused: bool
) -> None:
    block = f'validation {{\n    condition     = {condition}\n    error_message = "{message}"\n  }}'
    found = wrong(read, f'variable "released" {{}}\nvariable "tag" {{\n  type = string\n  {block}\n}}')
    assert found == ["var.tag accepts no git SHA: its validation refuses every one"] * refused


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
    assert len(wrong(read, ROLE.format("a", "a", "  managed_policy_arns = []\n"), attached)) == 1
    assert not wrong(read, ROLE.format("a", "a", "  managed_policy_arns = null\n"), attached)
    for open_ in ("var.unset", 'var.unset ? ["x"] : null'):
        listed = f"  managed_policy_arns = {open_}\n"
        assert not wrong(read, 'variable "unset" {}', ROLE.format("a", "a", listed), attached)
    left = "  lifecycle {\n    ignore_changes = [managed_policy_arns]\n  }\n"
    assert not wrong(read, ROLE.format("a", "a", managed + left), attached)
    others = [ROLE.format("a", "a", ""), ROLE.format("b", "b", "  inline_policy {}\n"), POLICY]
    assert not wrong(read, *others)


ONE = 'resource "aws_x" "one" {\n%s}\n'
WEST = 'provider "aws" {\n  alias = "west"\n}\n'
ALIASES = "terraform {\n  required_providers {\n    aws = { configuration_aliases = [aws.west] }\n  }\n}\n"
MOVED = "moved {\n  from = aws_x.%s\n  to = aws_x.%s\n}\n"
REMOVED = "removed {\n  from = aws_x.%s\n  lifecycle {\n    destroy = false\n  }\n}\n"
SIZES = 'locals {\n  sizes = { api = 2, dixie = 1 }\n  wanted = %s\n}\nvariable "key" {}\n'
CALL = 'resource "aws_x" "t" {\n  body = templatefile("${path.module}/t.tftpl", { name = "a" })\n}\n'


def misread(read: Read, *parts: str, files: Mapping[str, str] | None = None) -> list[str]:
    return [each.what for each in misdeclared(read(*parts, files=files))]


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([ONE % ""], ""),
        ([ONE % "", ONE % ""], "aws_x.one is declared here and at tf/main.tf:"),
        (["locals {\n  a = 1\n}\nlocals {\n  a = 2\n}"], "local.a is declared here and at tf/main.tf:"),
        ([ONE % "  provider = aws.west\n"], "there is no provider aws.west"),
        ([ONE % "  provider = aws.west\n", WEST], ""),
        ([ONE % "  provider = aws.west\n", ALIASES], ""),
        ([ONE % '  provider = "aws.west"\n', WEST], ""),
        ([ONE % "  provider = aws\n"], ""),
        ([ONE % "  provider = aws.west[each.key]\n", WEST], ""),
        ([ONE % "", MOVED % ("old", "one")], ""),
        ([ONE % "", MOVED % ("one[0]", 'one["a"]')], ""),
        ([ONE % "  count = 1\n", MOVED % ("one", "one[0]")], ""),
        ([ONE % "", MOVED % ("one", "two")], "aws_x.one is moved and still declared"),
        ([ONE % "", REMOVED % "old"], ""),
        ([ONE % "", REMOVED % "one"], "aws_x.one is removed and still declared"),
        ([ONE % "", 'import {\n  to = aws_x.one\n  id = "i"\n}'], ""),
        ([ONE % "", 'import {\n  to = aws_x.one[0]\n  id = "i"\n}'], ""),
        (
            [ONE % "", 'import {\n  to = aws_x.two\n  id = "i"\n}'],
            "aws_x.two is imported but declared nowhere",
        ),
        ([SIZES % "local.sizes.api"], ""),
        ([SIZES % "local.sizes[var.key]"], ""),
        ([SIZES % 'try(local.sizes["finn"], 1)'], ""),
        ([SIZES % 'contains(keys(local.sizes), "finn") ? local.sizes["finn"] : 0'], ""),
        ([SIZES % 'contains(keys(local.sizes), "finn") && local.sizes["finn"] == 1'], ""),
        ([SIZES % "{ for key, size in local.sizes : key => local.sizes[key] }"], ""),
        ([SIZES % 'local.sizes["finn"]'], 'local.sizes["finn"]: there is no such key'),
        (["locals {\n  list = [1, 2]\n  wanted = local.list[1]\n}"], ""),
        (["locals {\n  list = [1, 2]\n  wanted = local.list[2]\n}"], "local.list[2]: there is no such key"),
        (['module "m" {\n  source = "./sub"\n}'], ""),
        (['module "m" {\n  source = "../../elsewhere"\n}'], ""),
        (['module "m" {\n  source = "./gone"\n}'], "module.m calls tf/gone, which is not in the checkout"),
        ([SIZES % "1", ONE % '  for_each = toset(["api"])\n  n = local.sizes[each.key]\n'], ""),
        (
            [SIZES % "1", ONE % '  for_each = toset(["api", "finn"])\n  n = local.sizes[each.key]\n'],
            "local.sizes[each.key]: there is no such key",
        ),
    ],
)
def test_what_terraform_does_not_read_is_a_finding(read: Read, parts: list[str], what: str) -> None:
    found = misread(read, *parts)
    assert [each.startswith(what) for each in found] == [True] * bool(what), found


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("hello ${name}", ""),
        ("%{ for each in split(\",\", name) }${each}%{ endfor }", ""),
        ("hello ${name} of ${place}", "t.tftpl uses place, which it is not given"),
    ],
)  # fmt: skip
def test_a_template_is_given_what_it_uses(read: Read, template: str, what: str) -> None:
    found = misread(read, CALL, files={"tf/t.tftpl": template})
    assert [what in each for each in found] == [True] * bool(what), found


def test_an_override_declares_nothing_twice(read: Read) -> None:
    again = {"tf/one_override.tf": ONE % "  name = 1\n" + "locals {\n  prefix = 1\n}\n"}
    assert not misread(read, ONE % "", files=again)


def test_a_default_that_lacks_a_key_has_a_value_given(read: Read) -> None:
    sizes = 'variable "sizes" {\n  default = { api = 1 }\n}\n' + ONE % '  n = var.sizes["finn"]\n'
    assert not misread(read, sizes)


ALONE = """
resource "aws_iam_policy_attachment" "{0}" {{
  name       = "{0}"
  roles      = {1}
  policy_arn = "arn:aws:iam::aws:policy/x"
}}
"""


@pytest.mark.parametrize(
    ("roles", "count"),
    [
        ("[aws_iam_role.a.name, aws_iam_role.b.name]", 0),
        ("[aws_iam_role.a.name]", 0),  # which is the other attachment's too
        ("var.unset", 0),
        ("[aws_iam_role.b.name]", 1),
    ],
)
def test_an_exclusive_attachment_lists_every_role(read: Read, roles: str, count: int) -> None:
    named = [ROLE.format("a", "a", ""), ROLE.format("b", "b", ""), 'variable "unset" {}']
    beside = ATTACHED.partition("}")[0] + "}"
    assert len(wrong(read, *named, ALONE.format("x", roles), beside)) == count
    assert not wrong(read, *named, ALONE.format("x", roles), beside.replace("policy/x", "policy/y"))


def test_two_exclusive_attachments_take_their_policy_from_each_other(read: Read) -> None:
    named = [ROLE.format("a", "a", ""), ROLE.format("b", "b", "")]
    found = wrong(
        read, *named, ALONE.format("x", "[aws_iam_role.a.name]"), ALONE.format("y", "[aws_iam_role.b.name]")
    )
    assert [each.rpartition(" ")[2] for each in found] == [
        "aws_iam_policy_attachment.y",
        "aws_iam_policy_attachment.x",
    ]


@pytest.mark.parametrize(
    ("type_", "value", "fits"),
    [
        ("string", '["a"]', False),
        ("number", "{ a = 1 }", False),
        ("list(string)", '"a"', False),
        ("map(string)", '["a"]', False),
        ("object({ a = string })", "3", False),
        ("string", "3", True),
        ("number", '"3"', True),
        ("list(string)", '["a"]', True),
        ("set(string)", '["a"]', True),
        ("map(string)", "{ a = 1 }", True),
        ("any", '["a"]', True),
        ("string", "null", True),
    ],
)
def test_a_variable_is_given_a_value_of_its_type(read: Read, type_: str, value: str, fits: bool) -> None:
    module = f'variable "v" {{\n  type = {type_}\n}}\n'
    call = f'module "m" {{\n  source = "./m"\n  v = {value}\n}}\n'
    said = [each.what for each in conflicts(read(call, files={"tf/m/main.tf": module}))]
    assert [each.startswith("module.m.var.v is ") for each in said] == [True] * (not fits), said

"""Every reference has a declaration; an undeclared name is one finding with all its places."""

import pytest

from smoke.source.checkout import Examined
from smoke.source.terraform.references import undeclared
from tests.smoke.source.terraform_files import Read

DECLARED = """
variable "size" {
  type    = object({ a = string, b = optional(number) })
  default = null
  validation {
    condition     = var.size != null
    error_message = "a size"
  }
}
data "aws_region" "here" {}
resource "aws_x" "one" {
  for_each = toset(["a"])
  name     = "${each.key}-${data.aws_region.here.name}-${terraform.workspace}"
  provider = aws.other
  lifecycle { ignore_changes = [tags, name] }
  dynamic "rule" {
    for_each = [1]
    iterator = it
    content { name = it.value }
  }
  dynamic "other" {
    for_each = [1]
    content { name = other.value }
  }
}
locals {
  names = { for key, x in aws_x.one : key => x.name if key != "" }
  text  = <<-EOT
    %{ for name in ["a"] }${name}%{ endfor }
  EOT
}
check "alive" {
  data "http" "health" { url = "https://example.org" }
  assert {
    condition     = data.http.health.status_code == 200
    error_message = "down"
  }
}
moved {
  from = aws_x.former
  to   = aws_x.one
}
output "path" { value = "${path.module}/${aws_x.one["a"].name}" }
"""


def test_what_is_declared_is_not_a_finding(read: Read) -> None:
    count, examined = undeclared(read(DECLARED))
    assert count > 10
    assert examined == Examined()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('output "o" { value = aws_lb.main.arn }', "aws_lb.main"),
        ('output "o" { value = var.gone }', "var.gone"),
        ('output "o" { value = "a-${local.gone}" }', "local.gone"),
        ('output "o" { value = data.aws_vpc.gone.id }', "data.aws_vpc.gone"),
        ('output "o" { value = module.gone.arn }', "module.gone.arn"),
        ("locals {\n  x = [for a in [1] : b.c.d]\n}", "b.c"),
        ("locals {\n  x = { y = [var.environment ? 1 : aws_x.y[local.gone].arn] }\n}", "aws_x.y"),
        ('resource "aws_x" "y" {\n  inner {\n    name = "${aws_y.gone[0].id}"\n  }\n}', "aws_y.gone"),
        ('resource "aws_x" "y" {\n  depends_on = [aws_y.gone]\n}', "aws_y.gone"),
        (
            'resource "aws_x" "y" {\n  lifecycle { replace_triggered_by = [aws_y.gone.id] }\n}',
            "aws_y.gone",
        ),
    ],
)
def test_what_is_not_declared_is_found(read: Read, text: str, name: str) -> None:
    _, examined = undeclared(read(text))
    assert f"{name} is not declared" in [finding.what for finding in examined.findings]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("name = each.key", "aws_x.y uses each and has no for_each"),
        ('inner {\n    name = "a-${count.index}"\n  }', "aws_x.y uses count and has no count"),
        ("count = 2\n  name = each.value", "aws_x.y uses each and has no for_each"),
        ("for_each = toset([])\n  name = each.value", ""),
        ("count = 1\n  name = count.index", ""),
        ("names = [for each in [1] : each.name]", ""),
        (
            'dynamic "rule" {\n    for_each = [1]\n    iterator = each\n    content { n = each.value }\n  }',
            "",
        ),
    ],
)
def test_each_and_count_stand_where_something_is_made_several_times(read: Read, body: str, what: str) -> None:
    _, examined = undeclared(read(f'resource "aws_x" "y" {{\n  {body}\n}}'))
    assert [finding.what for finding in examined.findings] == [what] * bool(what)


def test_one_thing_is_one_finding(read: Read) -> None:
    _, examined = undeclared(read("locals {\n  a = aws_lb.main.arn\n  b = aws_lb.main.id\n}"))
    (finding,) = examined.findings
    assert finding.what.startswith("aws_lb.main is not declared (also tf/main.tf:")


CHILD = {"tf/child/main.tf": 'variable "a" {}\nvariable "b" { default = 1 }\noutput "x" { value = var.a }\n'}


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("a = 1", []),
        ("b = 1", ["the module c is not given its variable a"]),
        ("a = 1\n  d = 2", ["the module c has no variable d"]),
    ],
)
def test_calls_of_local_modules_fit_their_variables(read: Read, call: str, found: list[str]) -> None:
    text = f'module "c" {{\n  source = "./child"\n  {call}\n}}\noutput "x" {{ value = module.c.x }}\n'
    _, examined = undeclared(read(text, files=CHILD))
    assert [finding.what for finding in examined.findings] == found


def test_an_output_that_a_module_has_not_is_found(read: Read) -> None:
    text = 'module "c" {\n  source = "./child"\n  a = 1\n}\noutput "y" { value = module.c.y }\n'
    _, examined = undeclared(read(text, files=CHILD))
    assert [finding.what for finding in examined.findings] == ["module.c.y is not declared"]


def test_where_a_file_cannot_be_read_a_declaration_may_be_in_it(read: Read) -> None:
    _, examined = undeclared(
        read("locals {\n  a = aws_lb.main.arn\n}", files={"tf/bad.tf": "resource = = {"})
    )
    assert not examined.findings
    assert (
        "aws_lb.main is not declared, unless it is in what could not be read" in examined.not_examined[0].what
    )


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        ("aws_x.several[0].id", ""),
        ("aws_x.several[1].id", "aws_x.several has no key 1, by its count"),
        ("aws_x.several[*].id", ""),
        ("aws_x.several.*.id", ""),
        ("aws_x.several.0.id", ""),
        ("aws_x.several.id", "aws_x.several has count: a reference to it needs a key"),
        ("length(aws_x.several)", ""),
        ("one(aws_x.several[*].id)", ""),
        ('aws_x.map["a"].id', ""),
        ('aws_x.map["b"].id', 'aws_x.map has no key "b", by its for_each'),
        ("aws_x.map.id", "aws_x.map has for_each: a reference to it needs a key"),
        ("{ for key, x in aws_x.map : key => x.id }", ""),
        ("jsonencode([aws_x.none.id])", "aws_x.none has count: a reference to it needs a key"),
        ("aws_x.none[0].id", "aws_x.none has no key 0, by its count"),
        ('length(aws_x.none) > 0 ? aws_x.none[0].id : ""', ""),
        ('try(aws_x.none[0].id, "")', ""),
        ("aws_x.open[0].id", ""),
        ("aws_x.plain.id", ""),
        ("aws_x.plain.list[0]", ""),
        ("aws_x.plain[0].id", "aws_x.plain has neither count nor for_each: it has no keys"),
    ],
)
def test_a_reference_has_the_key_that_it_needs(read: Read, reference: str, what: str) -> None:
    things = """
    variable "open" {}
    resource "aws_x" "several" { count = 1 }
    resource "aws_x" "none" { count = 0 }
    resource "aws_x" "open" { count = var.open }
    resource "aws_x" "map" { for_each = toset(["a"]) }
    resource "aws_x" "plain" {}
    """
    _, examined = undeclared(read(things, f"locals {{ one = {reference} }}"))
    assert [each.what for each in examined.findings] == [what] * bool(what)
    assert not examined.not_examined

"""Terraform files are parsed into blocks and expressions with places; invalid text is one unread part."""

import pytest

from smoke.source.terraform.files import parsed
from smoke.source.terraform.hcl import Block, Expr, Place, parse, template

TEXT = """\
# a comment with = and { in it
locals {
  prefix = "arrakis-${var.environment}"
}

resource "aws_ecs_task_definition" "finn" {
  family = "${local.prefix}-finn"
  cpu    = 512
  ratio  = 0.5
  on     = true
  none   = null
  role   = aws_iam_role.finn[0].arn
  quoted = "a \\"b\\" \\\\ $${x}"

  container_definitions = jsonencode([
    {
      name  = "finn"
      "awslogs-group" = aws_cloudwatch_log_group.finn.name
      (var.key)       = 1
    },
  ])

  picked = var.a ? aws_x.one.arn : aws_x.two.arn
  many   = [for name in var.names : aws_y.z[name].arn if name != ""]
  split  = aws_y.z[*].arn

  network_configuration {
    groups = [aws_security_group.finn.id]
  }
}
"""


def attribute(text: str) -> Expr:
    """The value of the first attribute of a file."""
    return next(iter(parse(text, "a.tf").attributes.values()))


@pytest.fixture
def task() -> Block:
    return parse(TEXT, "a.tf").blocks[1]


def test_blocks_have_type_labels_and_place() -> None:
    assert [(block.type, block.labels, block.at.line) for block in parse(TEXT, "a.tf").blocks] == [
        ("locals", (), 2), ("resource", ("aws_ecs_task_definition", "finn"), 6)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("family", "template", 7), ("cpu", "literal", 8), ("ratio", "literal", 9), ("on", "literal", 10),
        ("none", "literal", 11), ("role", "path", 12), ("quoted", "literal", 13),
        ("container_definitions", "call", 15), ("picked", "condition", 23), ("many", "for", 24),
        ("split", "path", 25),
    ],
)  # fmt: skip
def test_each_expression_has_its_kind_and_place(task: Block, name: str, kind: str, line: int) -> None:
    assert (task.attributes[name].kind, task.attributes[name].at) == (kind, Place("a.tf", line))


def test_values_of_literals(task: Block) -> None:
    found = {name: task.attributes[name].args[0] for name in ("cpu", "ratio", "on", "none", "quoted")}
    assert found == {"cpu": 512, "ratio": 0.5, "on": True, "none": None, "quoted": 'a "b" \\ ${x}'}


def test_keys_are_words_or_expressions(task: Block) -> None:
    (container,) = task.attributes["container_definitions"].args[1][0].args
    keys = [(key.kind, key.text) for key, _ in container.args]
    assert keys == [("literal", "name"), ("literal", '"awslogs-group"'), ("path", "var.key")]
    assert container.args[1][1].at.line == 18


def test_a_path_keeps_its_steps(task: Block) -> None:
    base, steps = task.attributes["role"].args
    assert base.args == ("aws_iam_role",)
    assert [step[0] for step in steps] == ["attr", "index", "attr"]
    assert [step[0] for step in task.attributes["split"].args[1]] == ["attr", "splat", "attr"]


def test_nested_blocks(task: Block) -> None:
    (network,) = task.nested("network_configuration")
    assert network.attributes["groups"].args[0].text == "aws_security_group.finn.id"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("a = <<EOT\nx\n  y\nEOT\n", "x\n  y\n"),
        ("a = <<EOT   \nx\nEOT   \n", "x\n"),
        ("a = <<-EOT\n    x\n      y\n  EOT\n", "x\n  y\n"),
        ("a = <<EOT\nEOT\n", ""),
        ('a = "x\\ty\\u0041"\n', "x\tyA"),
        ('a = "%%{ if }"\n', "%{ if }"),
        ("\ufeffa = 1\n", 1),
        ('a = "x"\r\nb = 2\r\n', "x"),
    ],
)
def test_text_is_converted_as_terraform_does(text: str, content: object) -> None:
    read = attribute(text)
    assert (read.kind, read.args) == ("literal", (content,))


def test_blanks_around_interpolations_are_text() -> None:
    parts = attribute('a = "x ${var.b} y"\n').args
    assert [part.args[0] for part in parts if part.kind == "literal"] == ["x ", " y"]


def test_directives_are_conditions_and_lists() -> None:
    found = template("%{ if a }x%{ else }y%{ endif }%{ for n in b }${n},%{ endfor }", "t.tpl").args
    assert [part.kind for part in found] == ["condition", "call"]
    assert found[0].at == Place("t.tpl", 1)


def test_json_is_terraform_with_lines() -> None:
    resources = '{"aws_x": {"y": {\n"name": "a-${var.b}",\n"rule": [{"n": 1}]}}}'
    text = f'{{"resource": {resources},\n"locals": {{"z": "\\u0041"}}}}'
    resource, local = parsed(text, "a.tf.json").blocks
    assert resource.labels == ("aws_x", "y")
    assert (resource.attributes["name"].kind, resource.attributes["name"].at.line) == ("template", 2)
    assert [block.attributes["n"].args for block in resource.nested("rule")] == [(1,)]
    assert local.attributes["z"].args == ("A",)


@pytest.mark.parametrize(
    ("text", "line"),
    [('a = "x', 1), ("\nresource {\n  a = = 1\n}\n", 3), ("a {\n", 1), ("a = 1\na = 2\n", 2)],
)
def test_what_is_not_valid_is_one_unread_part(text: str, line: int) -> None:
    found = parse(text, "bad.tf")
    assert found.unread
    assert found.unread[0].path == "bad.tf"
    assert abs(found.unread[0].line - line) <= 1


def test_an_error_stays_in_its_block() -> None:
    found = parse('resource "a" "b" {\n  x = = 1\n}\nresource "c" "d" {\n  y = 2\n}\n', "a.tf")
    assert [bool(block.unread) for block in found.blocks] == [True, False]
    assert found.blocks[1].attributes["y"].args == (2,)

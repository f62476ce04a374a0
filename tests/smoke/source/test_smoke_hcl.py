"""Terraform files become blocks and expressions with lines, parsed once per content."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoke.source import grammar
from smoke.source.checkout import Malformed
from smoke.source.hcl import Block, Expr
from smoke.source.parser import Parser

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
  quoted = "a \\"b\\" \\\\ ${"x"}"

  container_definitions = jsonencode([
    {
      name  = "finn"
      ports = [3000, 3001]
      "awslogs-group" = aws_cloudwatch_log_group.finn.name
      env   = { in = "x", for = "y" }
    },
  ])

  picked = var.a ? aws_x.one.arn : aws_x.two.arn
  many   = [for name in var.names : aws_y.z[name].arn]

  network_configuration {
    groups = [aws_security_group.finn.id]
  }
}
"""


@pytest.fixture
def parser(tmp_path: Path) -> Parser:
    return Parser(tmp_path / "cache")


@pytest.fixture
def task(parser: Parser) -> Block:
    return parser.parse(TEXT, "a.tf").blocks[1]


def test_blocks_have_type_labels_and_line(parser: Parser) -> None:
    assert [(block.type, block.labels, block.line) for block in parser.parse(TEXT, "a.tf").blocks] == [
        ("locals", (), 2), ("resource", ("aws_ecs_task_definition", "finn"), 6)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("family", "template", 7), ("cpu", "literal", 8), ("ratio", "literal", 9), ("on", "literal", 10),
        ("none", "literal", 11), ("role", "ref", 12), ("quoted", "literal", 13),
        ("container_definitions", "call", 15),
        ("picked", "other", 24), ("many", "other", 25),
    ],
)  # fmt: skip
def test_each_expression_has_its_kind_and_line(task: Block, name: str, kind: str, line: int) -> None:
    assert (task.attributes[name].kind, task.attributes[name].line) == (kind, line)


def test_values_of_literals_and_references(task: Block) -> None:
    values = {name: task.attributes[name].value for name in ("cpu", "ratio", "on", "none", "role")}
    assert values == {"cpu": 512, "ratio": 0.5, "on": True, "none": None, "role": "aws_iam_role.finn[0].arn"}
    assert task.attributes["quoted"].value == 'a "b" \\ x'


def test_nested_objects_keep_keys_and_lines(task: Block) -> None:
    container = task.attributes["container_definitions"].value[1][0].items()[0].entries()
    assert [port.value for port in container["ports"].items()] == [3000, 3001]
    assert (container["awslogs-group"].value, container["awslogs-group"].line) == (
        "aws_cloudwatch_log_group.finn.name",
        19,
    )
    assert set(container["env"].entries()) == {"in", "for"}


def test_references_are_found_in_any_expression(task: Block) -> None:
    assert [ref.value for ref in task.attributes["picked"].refs()] == [
        "var.a",
        "aws_x.one.arn",
        "aws_x.two.arn",
    ]
    assert "aws_y.z[name].arn" in [ref.value for ref in task.attributes["many"].refs()]


def test_nested_blocks(task: Block) -> None:
    (network,) = task.nested("network_configuration")
    assert network.attributes["groups"].items()[0].value == "aws_security_group.finn.id"


def test_a_file_is_parsed_once_per_content(parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    first = parser.parse(TEXT, "a.tf")

    def refuse(text: str, path: str) -> Block:
        raise AssertionError("parsed again")

    monkeypatch.setattr(grammar, "convert", refuse)
    assert parser.parse(TEXT, "renamed.tf") == first
    with pytest.raises(AssertionError, match="parsed again"):
        parser.parse(TEXT + "\n", "a.tf")


def test_a_torn_cache_entry_is_parsed_anew(parser: Parser) -> None:
    first = parser.parse(TEXT, "a.tf")
    (entry,) = parser.cache.iterdir()
    entry.write_text(entry.read_text()[:100])
    assert parser.parse(TEXT, "a.tf") == first
    assert [path.name for path in parser.cache.iterdir()] == [entry.name]


@pytest.mark.parametrize(("text", "line"), [('a = "x', 1), ("\nresource {\n  a = = 1\n}\n", 3), ("a {\n", 2)])
def test_what_is_no_terraform_is_named_by_file_and_line(parser: Parser, text: str, line: int) -> None:
    with pytest.raises(Malformed, match=rf"^bad\.tf:{line}: not valid Terraform") as caught:
        parser.parse(text, "bad.tf")
    assert "\n" not in str(caught.value)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.floats(allow_nan=False, allow_infinity=False),
).map(lambda value: Expr("literal", 1, value)) | st.just(Expr("ref", 2, "var.x"))


def _grow(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    lists = st.lists(inner, max_size=3)
    return st.one_of(
        lists.map(lambda items: Expr("list", 1, items)),
        lists.map(lambda items: Expr("template", 1, items)),
        lists.map(lambda items: Expr("call", 1, ("f", items))),
        lists.map(lambda items: Expr("other", 1, ("x?y:z", items))),
        st.lists(st.tuples(inner, inner), max_size=3).map(lambda items: Expr("object", 1, items)),
    )


@settings(deadline=None)
@given(st.recursive(LEAVES, _grow, max_leaves=8))
def test_what_is_cached_is_what_was_parsed(expr: Expr) -> None:
    assert Expr.from_data(expr.to_data()) == expr

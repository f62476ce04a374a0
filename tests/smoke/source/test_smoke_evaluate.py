"""Expressions evaluate to a value, to one of several values, or to an unknown."""

import pytest

from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.values import Value, boolean, decoded, hidden, number, options, plain, text
from tests.smoke.source.terraform_files import Read

SETTING = """
variable "given" {}
variable "none" {
  default = ""
}
variable "numeric" {
  type    = string
  default = 70
}
variable "services" {
  type = map(object({ cpu = optional(number, 256), public = optional(bool) }))
  default = {
    finn  = { cpu = "512" }
    dixie = {}
  }
}
resource "aws_sns_topic" "one" { name = "alerts" }
resource "aws_sns_topic" "many" {
  for_each = toset(["a", "b"])
  name     = "t-${each.key}"
}
resource "aws_sns_topic" "gone" { count = 0 }
resource "aws_sns_topic" "two" { count = 2 }
"""


def value(configuration: Configuration, name: str = "x") -> Value:
    found, _ = configuration.root.lookup(
        "local", [("attr", name)], configuration.root.files.at, f"local.{name}"
    )
    return found


@pytest.mark.parametrize(
    ("written", "comes_to"),
    [
        ("1 + 2 * 3", 7),
        ("10 / 4", 2.5),
        ("-(2)", -2),
        ('"1" == 1', False),
        ("1 == 1.0", True),
        ("true && !false", True),
        ('"a${1}b${true}"', "a1btrue"),
        ('"${[1][0]}"', 1),
        ("[for n in [1, 2, 3] : n * 2 if n > 1]", [4, 6]),
        ("{ for k, v in { a = 1 } : upper(k) => v }", {"A": 1}),
        ('{ for s in ["a", "b"] : "k" => s... }', {"k": ["a", "b"]}),
        ("merge({ a = 1 }, { a = 2, b = 3 })", {"a": 2, "b": 3}),
        ("concat([1], [], [2])", [1, 2]),
        ('compact(["", "a", null])', ["a"]),
        ("flatten([[1], [[2]]])", [1, 2]),
        ('lookup({ a = 1 }, "b", 9)', 9),
        ('format("%s-%03d", "a", 7)', "a-007"),
        ('join("/", ["a", "b"])', "a/b"),
        ('replace("a.b", ".", "-")', "a-b"),
        ('replace("a1b2", "/[0-9]/", "-")', "a-b-"),
        ('csvdecode("a,b\\n1,2\\n")[0].b', "2"),
        ('cidrsubnet("10.0.0.0/16", 8, 2)', "10.0.2.0/24"),
        ('cidrhost("10.0.0.0/16", 5)', "10.0.0.5"),
        ("chunklist([1, 2, 3], 2)", [[1, 2], [3]]),
        ('matchkeys([1, 2], ["a", "b"], ["b"])', [2]),
        ('regexall("[a-z]", "a1b")', ["a", "b"]),
        ('setintersection(["a", "b"], ["b"])', ["b"]),
        ('transpose({ a = ["x"], b = ["x"] })', {"x": ["a", "b"]}),
        ("alltrue([true, false])", False),
        ('basename("a/b.json")', "b.json"),
        ('sha256("x")', "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"),
        ('trimspace(" x ")', "x"),
        ('split(",", "a,b")', ["a", "b"]),
        ('coalesce("", null, "x")', "x"),
        ("try({ a = 1 }.b, 5)", 5),
        ("can({ a = 1 }.b)", False),
        ("element([1, 2], 3)", 2),
        ('contains(["a"], "a")', True),
        ("length([1, 2])", 2),
        ("one([])", None),
        ('jsondecode("{\\"a\\": [1]}").a[0]', 1),
        ('var.none != "" ? 1 : 2', 2),
        ("var.numeric", "70"),
        ('var.services["finn"].cpu', 512),
        ("var.services.dixie.cpu", 256),
        ("aws_sns_topic.one.name", "alerts"),
        ('aws_sns_topic.many["b"].name', "t-b"),
        ("[for k, t in aws_sns_topic.many : t.name]", ["t-a", "t-b"]),
        ("length(aws_sns_topic.gone)", 0),
        ("length(aws_sns_topic.two[*].arn)", 2),
        ('aws_sns_topic.one.arn != ""', True),
        ('"${var.open}-x" == null', False),
        ("[aws_sns_topic.one.arn] != null", True),
        ("{ for k, v in { a = [aws_sns_topic.one], b = null } : k => 1 if v != null }", {"a": 1}),
        ("tostring(5)", "5"),
        ("values({ b = 2, a = 1 })", [1, 2]),
        ('zipmap(["a"], [1])', {"a": 1}),
        ("slice([1, 2, 3], 1, 2)", [2]),
        ("var.services.finn.public", None),
        ('<<-EOT\n    %{ for n in ["a", "b"] ~}\n    ${n}\n    %{ endfor ~}\n  EOT', None),
    ],
)
def test_what_the_files_say_is_computed(read: Read, written: str, comes_to: object) -> None:
    found = value(read(SETTING, f"locals {{\n  x = {written}\n}}"))
    if "EOT" in written:
        assert text(found).split() == ["a", "b"]
    else:
        assert plain(found) == comes_to
        assert isinstance(plain(found), bool) == isinstance(comes_to, bool)


@pytest.mark.parametrize(
    ("written", "possible"),
    [
        ("var.given ? 1 : 2", ["1", "2"]),
        ('"x-${var.given ? "a" : "b"}"', ["x-a", "x-b"]),
        ("var.given ? 1 : 1", ["1"]),
        ('upper(var.given ? "a" : "b")', ["A", "B"]),
        ('{ a = 1, b = 2 }[var.given ? "a" : "b"]', ["1", "2"]),
        ("length(var.given ? [1] : [])", ["1", "0"]),
        ('var.given != "" ? [1] : []', ["[1]", "[]"]),
    ],
)
def test_an_open_condition_has_two_values(read: Read, written: str, possible: list[str]) -> None:
    found = value(read(SETTING, f"locals {{\n  x = {written}\n}}"))
    assert [text(each) for each in options(found)] == possible


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("var.given", "the files do not set var.given"),
        ('"a-${var.given}"', "var.given"),
        ("upper(var.given)", "var.given"),
        ('bcrypt("a")', "the function bcrypt"),
        ('file("nowhere.json")', "nowhere.json"),
        ("local.x", "refers to itself"),
        ("[for n in var.given : n]", "var.given"),
        ("terraform.workspace", "terraform.workspace"),
        ("merge(var.given, {})", "var.given"),
    ],
)
def test_what_the_files_do_not_say_is_named(read: Read, written: str, why: str) -> None:
    found = value(read(SETTING, f"locals {{\n  x = {written}\n}}"))
    assert why in hidden(found)


def test_equal_symbols_are_equal_and_others_are_not(read: Read) -> None:
    setting = (
        'variable "m" {}\nlocals {\n  a = lookup(var.m, "x")\n  b = local.a\n  c = lookup(var.m, "y")\n}'
    )
    configuration = read(setting)
    assert value(configuration, "a") == value(configuration, "b") != value(configuration, "c")


def test_numbers_are_not_booleans(read: Read) -> None:
    configuration = read('locals {\n  a = 1\n  b = true\n  c = "80"\n  d = "true"\n}')
    a, b, c, d = (value(configuration, name) for name in "abcd")
    assert (text(a), number(a), boolean(a)) == ("1", 1, None)
    assert (text(b), number(b), boolean(b)) == ("true", None, True)
    assert (number(c), boolean(d)) == (80, True)


@pytest.mark.parametrize(
    "written",
    [
        'jsonencode([merge({ a = 1 }, { image = "${aws_sns_topic.one.arn}:x" })])',
        '<<EOT\n[{"a": 1, "image": "${aws_sns_topic.one.arn}:x"}]\nEOT',
        '"[${join(",", [jsonencode({ a = 1, image = "${aws_sns_topic.one.arn}:x" })])}]"',
        'jsonencode(jsondecode("[{\\"a\\": 1, \\"image\\": \\"${aws_sns_topic.one.arn}:x\\"}]"))',
        'templatefile("${path.module}/t.json.tpl", { image = "${aws_sns_topic.one.arn}:x", a = 1 })',
    ],
    ids=["jsonencode", "heredoc", "joined", "twice", "template"],
)
def test_json_is_read_however_it_is_made(read: Read, written: str) -> None:
    files = {"tf/t.json.tpl": '[{"a": ${a}, "image": "${image}"}]'}
    found = decoded(value(read(SETTING, f"locals {{\n  x = {written}\n}}", files=files)))
    assert found is not None
    (container,) = found.content
    assert plain(container.content["a"]) == 1
    assert text(container.content["image"]) == "${aws_sns_topic.one.arn}:x"


def test_alternatives_are_bounded(read: Read) -> None:
    names = [f"v{number}" for number in range(12)]
    declared = "\n".join(f'variable "{name}" {{}}' for name in names)
    parts = "".join(f'${{var.{name} ? "a" : "b"}}' for name in names)
    found = value(read(declared, f'locals {{\n  x = "{parts}"\n}}'))
    assert "possible values" in hidden(found)


MODULE = {
    "tf/modules/service/main.tf": """
variable "name" {}
variable "cpu" {
  type    = number
  default = 256
}
resource "aws_ecs_service" "this" { name = var.name }
resource "aws_iam_role" "this" { name = "${var.name}-role" }
output "role" { value = aws_iam_role.this.arn }
""",
}


def test_local_modules_are_followed(read: Read) -> None:
    calls = """
module "finn" {
  source = "./modules/service"
  name   = "p-finn"
}
module "each" {
  source   = "./modules/service"
  for_each = { api = 512, worker = 256 }
  name     = "p-${each.key}"
  cpu      = each.value
}
locals {
  x = module.finn.role
  y = module.each["api"].role
  z = module.finn.nothing
}
"""
    configuration = read(calls, files=MODULE)
    found = {each.address: text(each.attribute("name")) for each in configuration.of_type("aws_ecs_service")}
    assert found == {
        "module.finn.aws_ecs_service.this": "p-finn",
        'module.each["api"].aws_ecs_service.this': "p-api",
        'module.each["worker"].aws_ecs_service.this': "p-worker",
    }
    assert text(value(configuration, "x")) == "${module.finn.aws_iam_role.this.arn}"
    assert text(value(configuration, "y")) == '${module.each["api"].aws_iam_role.this.arn}'
    assert "there is no module.finn.nothing" in hidden(value(configuration, "z"))


def test_what_is_not_in_the_checkout_is_named(read: Read) -> None:
    calls = (
        'module "a" {\n  source = "terraform-aws-modules/vpc/aws"\n}\nmodule "b" {\n  source = "./gone"\n}\n'
    )
    assert [finding.what.split(",")[0].split(":")[0] for finding in read(calls).unread] == [
        "the module a",
        "the module b",
    ]


def test_files_are_merged_as_terraform_merges_them(read: Read) -> None:
    files: dict[str, str | bytes] = {
        "tf/b.tf": b'\xef\xbb\xbfresource "aws_x" "windows" {\r\n  name = "w"\r\n}\r\n',
        "tf/c.tf.json": '{"resource": {"aws_x": {"json": {"name": "${local.prefix}-j"}}}}',
        "tf/d.tofu": 'resource "aws_x" "tofu" { name = "t" }',
        "tf/main_override.tf": 'resource "aws_x" "base" { name = "overridden" }',
        "tf/terraform.tfvars": 'size = 1\nenvironment = "ignored"',
        "tf/z.auto.tfvars": "size = 2",
        "tf/latin.tf": 'resource "aws_x" "latin" { name = "é" }'.encode("latin-1"),
    }
    base = 'variable "size" {}\nresource "aws_x" "base" {\n  name = "base"\n  size = var.size\n}'
    configuration = read(base, files=files)
    found = {each.label: text(each.attribute("name")) for each in configuration.of_type("aws_x")}
    assert found == {"base": "overridden", "windows": "w", "json": "arrakis-staging-j", "tofu": "t"}
    assert [
        text(each.attribute("size")) for each in configuration.of_type("aws_x") if each.label == "base"
    ] == ["2"]
    assert [finding.path for finding in configuration.unread] == ["tf/latin.tf"]


def test_blocks_made_by_dynamic_are_blocks(read: Read) -> None:
    configuration = read("""
variable "open" {}
resource "aws_x" "y" {
  dynamic "rule" {
    for_each = { a = 1, b = 2 }
    iterator = it
    content { name = "${it.key}-${it.value}" }
  }
  dynamic "maybe" {
    for_each = var.open
    content { name = maybe.value }
  }
}
""")
    (resource,) = configuration.of_type("aws_x")
    assert [text(block.attribute("name")) for block in resource.blocks("rule")] == ["a-1", "b-2"]
    (maybe,) = resource.blocks("maybe")
    assert "var.open" in maybe.uncertain


@pytest.mark.parametrize(
    ("count", "number_of", "open_"),
    [
        ("0", 0, False),
        ("2", 2, False),
        ('"1"', 1, False),
        ('var.environment == "staging" ? 1 : 0', 1, False),
        ("var.unset ? 1 : 0", 1, True),
        ('length(compact([""]))', 0, False),
    ],
)
def test_count_decides_the_number_of_resources(read: Read, count: str, number_of: int, open_: bool) -> None:
    configuration = read('variable "unset" {}', f'resource "aws_x" "y" {{\n  count = {count}\n}}')
    found = configuration.of_type("aws_x")
    assert len(found) == number_of
    assert any(each.uncertain for each in found) == open_
    assert bool(configuration.absent("aws_x")) == (number_of == 0)


def test_what_is_put_into_a_text_need_not_be_known(read: Read) -> None:
    found = value(read(SETTING, 'locals {\n  x = replace("v-TAG:TAG", "TAG", var.given)\n}'))
    assert text(found) == "v-${var.given}:${var.given}"

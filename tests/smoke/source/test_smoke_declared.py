"""What Terraform refuses to read, and what only looks like it."""

from collections.abc import Mapping

import pytest

from smoke.source.infrastructure.conflicts import misdeclared
from tests.smoke.source.terraform_files import Read

ONE = 'resource "aws_x" "one" {\n%s}\n'
WEST = 'provider "aws" {\n  alias = "west"\n}\n'
ALIASES = "terraform {\n  required_providers {\n    aws = { configuration_aliases = [aws.west] }\n  }\n}\n"
MOVED = "moved {\n  from = aws_x.%s\n  to = aws_x.%s\n}\n"
REMOVED = "removed {\n  from = aws_x.%s\n  lifecycle {\n    destroy = false\n  }\n}\n"
SIZES = 'locals {\n  sizes = { api = 2, dixie = 1 }\n  wanted = %s\n}\nvariable "key" {}\n'
CALL = 'resource "aws_x" "t" {\n  body = templatefile("${path.module}/t.tftpl", { name = "a" })\n}\n'


def wrong(read: Read, *parts: str, files: Mapping[str, str] | None = None) -> list[str]:
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
            "aws_x.two is imported and declared nowhere",
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
    found = wrong(read, *parts)
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
    found = wrong(read, CALL, files={"tf/t.tftpl": template})
    assert [what in each for each in found] == [True] * bool(what), found


def test_an_override_declares_nothing_twice(read: Read) -> None:
    again = {"tf/one_override.tf": ONE % "  name = 1\n" + "locals {\n  prefix = 1\n}\n"}
    assert not wrong(read, ONE % "", files=again)


def test_a_default_that_lacks_a_key_has_a_value_given(read: Read) -> None:
    sizes = 'variable "sizes" {\n  default = { api = 1 }\n}\n' + ONE % '  n = var.sizes["finn"]\n'
    assert not wrong(read, sizes)

"""Clean variants: rows of data with only settings that the platform supports."""

import re
import tomllib

import pytest

from stack.aws.alterations import ALTERATIONS
from stack.common.settings import SERVICES
from stack.faults.proxy import KEYS
from stack.host import StackError
from stack.launch import VARIANTS, Variant, toml, variant
from tests.test_architecture import ROOT

SECTIONS = tomllib.loads((ROOT / "environments" / "schema.toml").read_text())["section"]


@pytest.mark.parametrize("row", VARIANTS.values(), ids=VARIANTS)
def test_every_row_uses_known_settings(row: Variant) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", row.id)
    assert re.fullmatch(r"[A-Z].*[^.]", row.what)
    for key in row.profile:
        section, _, name = key.partition(".")
        assert name in SECTIONS[section], key
    assert all(name.startswith("STACK_") for name in row.settings)
    for rule in row.rewrite:
        assert rule.keys() <= KEYS
        assert rule["service"] in SERVICES
    assert all(each["alter"] in ALTERATIONS for each in row.aws)


def test_the_documentation_lists_every_variant() -> None:
    page = (ROOT / "docs" / "variants.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \|$", page, re.MULTILINE)
    assert rows == [(row.id, row.what) for row in VARIANTS.values()]


@pytest.mark.parametrize("names", ["massages", "accept,massages", "massages,"])
def test_an_unknown_variant_is_refused_with_those_that_exist(names: str) -> None:
    with pytest.raises(StackError, match="no variant 'massages'") as refused:
        variant(names)
    assert "messages" in refused.value.detail


def test_variants_at_once_have_all_that_each_has() -> None:
    rows = VARIANTS["messages"], VARIANTS["unscored-agent"], VARIANTS["keepalives"], VARIANTS["code-deploy"]
    together = variant(",".join(row.id for row in rows))
    assert together.applied({"name": "local"})["freeside"] == {"invoke_dialect": "messages"}
    assert together.sql == rows[1].sql
    assert list(together.rules.values()) == list(rows[2].rewrite)
    assert together.aws == tuple(rows[3].aws)


@pytest.mark.parametrize("group", sorted({row.group for row in VARIANTS.values()} - {""}))
def test_variants_of_a_group_get_along(group: str) -> None:
    assert variant(",".join(row.id for row in VARIANTS.values() if row.group == group))


def test_variants_that_contradict_each_other_are_refused() -> None:
    dialects = Variant(id="a", what="A", profile={"x.y": 1}), Variant(id="b", what="B", profile={"x.y": 2})
    with pytest.raises(StackError, match=r"variants a and b both set x\.y"):
        dialects[0].beside(dialects[1])


def test_a_profile_gets_the_variants_values() -> None:
    freeside = {"url": "http://a", "invoke_dialect": "prompt"}
    applied = variant("messages").applied({"name": "local", "freeside": freeside})
    assert applied["freeside"] == {"url": "http://a", "invoke_dialect": "messages"}
    assert freeside["invoke_dialect"] == "prompt"
    assert applied["name"] == "local-messages", "its runs are in no other's streak"
    assert variant("messages,gateway").applied({"name": "local"})["name"] == "local-messages-gateway"
    assert variant("").applied({"name": "local"})["name"] == "local"
    assert tomllib.loads(toml(applied)) == applied

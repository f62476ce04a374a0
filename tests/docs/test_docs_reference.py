"""The reference lists every public name of the plugin, and the site has no broken link."""

import ast
import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import pytest_readiness
import yaml
from pytest_readiness.adapter import context as fixtures
from pytest_readiness.adapter.collection import MARKERS
from pytest_readiness.adapter.plugin import Hooks
from pytest_readiness.core import plan
from pytest_readiness.core.model import FailureClass, GoalStatus, Outcome, Verdict
from pytest_readiness.core.verdict import exit_code
from pytest_readiness.profile import schema

from tests.docs.pages import DOCS, pages
from tests.installed import ROOT

PLUGIN = ROOT / "plugin" / "pytest_readiness"


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def missing(names: list[str], text: str) -> list[str]:
    assert names
    return [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)]


def test_markers() -> None:
    assert not missing([re.split(r"[(:]", text)[0] for text in MARKERS], page("suite.md"))


def test_fixtures() -> None:
    tree = ast.parse(inspect.getsource(fixtures))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    assert not missing(names, page("suite.md"))


def test_exported_names() -> None:
    assert not missing(pytest_readiness.__all__, page("suite.md"))


def test_hooks() -> None:
    assert not missing([name for name in vars(Hooks) if name.startswith("pytest_")], page("suite.md"))


def test_options() -> None:
    options = re.findall(r'addoption\(\s*"(--[\w-]+)"', (PLUGIN / "adapter/options.py").read_text("utf-8"))
    assert not missing(options, page("suite.md"))


def test_settings_of_the_schema() -> None:
    kinds = [*schema.TYPES, *schema.ENV_KINDS, *schema.FORMATS, *schema.SECRET_KINDS, *schema.BUILT_IN]
    keys = [name for kind in (schema.Field, schema.CapabilityRule) for name in kind.__slots__]
    assert not missing([*kinds, *keys], page("profiles.md"))


def test_keys_of_the_plan() -> None:
    tables = [each for each in vars(plan).values() if is_dataclass(each) and each is not plan.Plan]
    keys = {field.name for table in tables for field in fields(table)}
    read = r'(?:table|top|declaration)\.(?!refuse)\w+\(\s*"(\w+)"'
    keys |= {*re.findall(read, inspect.getsource(plan))}
    assert len(keys) > 60, "does the plan read its keys in another way?"
    assert not missing(sorted(keys), page("plan.md"))


def test_verdicts_and_statuses() -> None:
    words = [each.value for kind in (Verdict, Outcome, GoalStatus) for each in kind]
    assert not missing(words, page("verdict.md"))
    assert not missing([each.value for each in FailureClass], page("blame.md"))
    for verdict in Verdict:
        assert re.search(rf"\| `{verdict}` \| {exit_code(verdict)} \|", page("verdict.md"))


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["strict"] is True
    assert sorted(listed) == sorted(
        str(path.relative_to(DOCS)) for path in pages() if path.is_relative_to(DOCS)
    )


def test_the_site_is_built_without_a_broken_link(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="make docs installs it")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    html = (tmp_path / "tutorial" / "index.html").read_text("utf-8")
    assert not re.findall(
        r'(?:src|href)="https?://(?!github\.com|ctrf\.io|squidfunk)[^"]+\.(?:js|css|woff2?)"', html
    )


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"])
def test_links_of_pages_outside_the_site(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", path.read_text("utf-8")):
        assert link.startswith("http") or (path.parent / link).exists(), link

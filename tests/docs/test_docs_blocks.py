"""Some test executes or parses every code block of the documentation."""

import ast
import re
import shlex
import sys
import tomllib
from functools import cache

import pytest
import yaml
from pytest_readiness.core.plan import Plan

from tests.docs.pages import DOCS, Block, blocks, pages
from tests.installed import ROOT, done

ALL = [block for page in pages() for block in blocks(page)]
#: Completes a page's excerpt to a plan.
KEYS = 'schema_version = 1\ntitle = "T"\nsuite = "smoke"\nphases = ["health", "orders"]\n'
GOAL = '\n[[goal]]\nid = "G-1"\ntitle = "It is up"\n'
OF_A_PLAN = {"self_test", "waiver", "deferral", "not_waivable", "ledger", "policy", "owner", "chart"}


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [block for block in ALL if block.language in languages]
    assert chosen, f"no block of {languages}: is the reader of pages broken?"
    return pytest.mark.parametrize("block", chosen, ids=map(str, chosen))


@pytest.mark.parametrize("block", ALL, ids=map(str, ALL))
def test_every_block_names_its_language(block: Block) -> None:
    """`console` is typed, `sh` checked, `text` shown; console belongs to pages that are followed."""
    assert block.language in {"console", "sh", "text", "python", "toml", "yaml", "json", "ini"}
    if block.language == "console":
        assert block.page.is_relative_to(DOCS)


@of("python")
def test_python_blocks_parse(block: Block) -> None:
    ast.parse(block.text)


@of("yaml")
def test_yaml_is_yaml_and_its_commands_are_known(block: Block) -> None:
    assert yaml.safe_load(block.text)
    for command in re.findall(r"(?m)^ +- (?:run: )?(readiness .*)$", block.text):
        assert_known(command)


@of("toml")
def test_toml_is_toml_and_of_a_plan_what_a_plan_takes(block: Block) -> None:
    if tomllib.loads(block.text).keys() <= OF_A_PLAN:
        keys, _, tables = f"\n{block.text}".partition("\n[")
        Plan.parse(f"{KEYS}{keys}\n[{tables}{GOAL}" if tables else f"{KEYS}{keys}{GOAL}", str(block))


@of("sh")
def test_commands_of_this_repository_are_known(block: Block) -> None:
    for line in block.text.splitlines():
        command = re.sub(r"\s+#.*", "", line)
        for part in command.split(" && "):
            assert_known(part)


def assert_known(command: str) -> None:
    """Check program, subcommand, options and files of a command that takes too long or is not ours."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z][A-Z0-9_]*=", word)]
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    match words:
        case ["make", target, *_]:
            assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text())
        case ["readiness", "gate" | "run", *_] | ["pytest", *_]:
            assert options <= options_of("pytest"), command
        case ["readiness", name, *_]:
            assert options <= options_of("pytest_readiness.cli", name), command
        case ["python", "-m", module, *_]:
            assert (ROOT / module.replace(".", "/")).exists(), command
        case ["python", file, *_]:
            assert (ROOT / file).is_file(), command
        case ["git" | "curl" | "cd" | "pip" | "openssl", *_]:
            pass
        case _:
            pytest.fail(f"not known: {command}")


@cache
def options_of(*words: str) -> frozenset[str]:
    """The options that a command's help lists."""
    return frozenset(re.findall(r"--[a-z-]+", done(sys.executable, "-m", *words, "--help", at=ROOT)))

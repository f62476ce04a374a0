"""ARCHITECTURE.md's arrows: imports go one way, and what is pure stays pure."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "plugin" / "pytest_readiness"

#: package -> the sibling packages of the plugin that it may import
ALLOWED = {
    "core": {"core"},
    "profile": {"core", "profile"},
    "ledger": {"core", "ledger"},
    "report": {"core", "report"},
    "selftest": {"core", "profile", "report", "selftest"},
    "adapter": {"core", "profile", "ledger", "report", "adapter"},
    "cli.py": {"core", "profile", "ledger", "report", "selftest"},
}


def _imports(path: Path) -> Iterator[str]:
    """Yield the absolute dotted names that a file imports, at any depth."""
    package = path.relative_to(ROOT / "plugin" if path.is_relative_to(PLUGIN) else ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*prefix, *(node.module or "").split("."))).strip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _files(folder: Path) -> list[Path]:
    found = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
    assert found, f"no Python file under {folder}"
    return found


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_plugin_layers_import_downwards_only(part: str) -> None:
    for path in _files(PLUGIN / part):
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] == "pytest_readiness" and len(parts) > 1 and (PLUGIN / parts[1]).is_dir():
                assert parts[1] in ALLOWED[part], f"{path.relative_to(ROOT)} imports {name}"


def test_core_is_standard_library_only() -> None:
    for path in _files(PLUGIN / "core"):
        for name in _imports(path):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or name.startswith("pytest_readiness.core"), (
                f"{path.relative_to(ROOT)} imports {name}"
            )


def test_only_the_adapter_imports_pytest() -> None:
    for part in ("core", "profile", "ledger", "report", "selftest", "cli.py"):
        for path in _files(PLUGIN / part):
            assert not {"pytest", "_pytest"} & {name.split(".")[0] for name in _imports(path)}, path


def test_nothing_imports_private_pytest() -> None:
    for folder in (PLUGIN, ROOT / "smoke", ROOT / "stack"):
        for path in _files(folder):
            assert not any(name.split(".")[0] == "_pytest" for name in _imports(path)), path


def test_plugin_knows_neither_suite_nor_platform() -> None:
    for path in _files(PLUGIN):
        tops = {name.split(".")[0] for name in _imports(path)}
        assert not tops & {"smoke", "stack", "tests"}, path
        assert not any(word in path.read_text().lower() for word in ("freeside", "dixie", "arrakis")), path


def test_suite_uses_the_public_names_of_the_plugin_only() -> None:
    for path in _files(ROOT / "smoke"):
        for name in _imports(path):
            assert name.split(".")[0] not in {"stack", "tests"}, f"{path.relative_to(ROOT)} imports {name}"
            if name.startswith("pytest_readiness."):
                assert name.count(".") == 1, f"{path.relative_to(ROOT)} imports {name}"


def test_stack_imports_neither_plugin_nor_suite() -> None:
    for path in _files(ROOT / "stack"):
        assert not {name.split(".")[0] for name in _imports(path)} & {"pytest_readiness", "smoke", "tests"}, (
            path
        )

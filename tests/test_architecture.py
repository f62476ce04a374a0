"""ARCHITECTURE.md's arrows: imports go one way, without a cycle, and what is pure stays pure."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "plugin" / "pytest_readiness"
SOURCES = {"pytest_readiness": PLUGIN, "smoke": ROOT / "smoke", "stack": ROOT / "stack"}

#: The phases of the suite: the folders that hold checks.
PHASES = {path.parent.name for path in (ROOT / "smoke").glob("*/test_*.py")}
#: Part, or a package with subpackages -> package or top-level module -> the siblings that it may import. One
#: without a row may import all others: it puts them together.
ARROWS = {
    "pytest_readiness": {
        "core": set(),
        "aws": {"core"},
        "profile": {"aws", "core"},
        "ledger": {"aws", "core"},
        "report": {"core"},
        "selftest": {"core", "profile", "report"},
        "adapter": {"core", "profile", "ledger", "report"},
        "commands": {"core", "profile", "ledger", "report", "selftest"},
        "cli": {"commands", "core", "profile", "report", "selftest"},
    },
    "smoke": {
        "contract": set(),
        "source": set(),
        "network": set(),
        "aws": {"network", "source"},
        "platform": {"aws", "contract", "network"},
        "keys": {"aws", "contract", "network", "platform"},
        **{phase: {"aws", "contract", "keys", "platform", "source"} for phase in PHASES},
    },
    "smoke.source": {
        "terraform": {"checkout"},
        "scripts": set(),
        "access": {"rules"},
        "infrastructure": {"access", "checkout", "rules", "scripts", "terraform"},
        "pipeline": {"checkout", "infrastructure", "rules", "scripts", "terraform"},
        "fly": {"checkout"},
        "rules": {"checkout"},
        "checkout": set(),
    },
    "stack": {
        "common": set(),
        **{service: {"common"} for service in ("freeside", "finn", "dixie")},
        "faults": {"common", "freeside", "finn", "dixie"},
        "serve": {"common", "faults", "freeside", "finn", "dixie"},
        "control": {"aws", "host", "mutants", "postgres", "services", "supervisor"},
        "mutants": {"aws", "host", "services", "source_tree", "supervisor"},
        "services": {"aws", "host", "supervisor"},
        "x402": {"host", "services", "supervisor"},
        "aws": {"host", "supervisor"},
        "pgbouncer": {"host", "postgres", "supervisor"},
        "postgres": {"host", "supervisor"},
        **{package: {"host"} for package in ("source_tree", "supervisor")},
        "host": set(),
    },
}


@cache
def _imports(path: Path) -> frozenset[str]:
    """Return the absolute dotted names that a file imports, at any depth."""
    package = _module(path).split(".")[: None if path.name == "__init__.py" else -1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join(filter(None, (*prefix, node.module)))
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(found)


def _module(path: Path) -> str:
    source = PLUGIN.parent if path.is_relative_to(PLUGIN) else ROOT
    return ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


def _files(folder: Path) -> list[Path]:
    found = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
    assert found, f"no Python file under {folder}"
    return found


def _tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path)}


def _packages(part: str) -> Iterator[tuple[str, str, Path]]:
    """Yield (importing package, imported package, file) for all imports between packages of a part."""
    top, *inner = part.split(".")
    folder = SOURCES[top].joinpath(*inner)
    packages = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    for path in _files(folder):
        package = _module(path).removeprefix(part).lstrip(".").split(".")[0]
        for name in _imports(path):
            other = name.removeprefix(f"{part}.").split(".")[0]
            if name.startswith(f"{part}.") and other in packages - {package}:
                yield package, other, path


@pytest.mark.parametrize("part", sorted(ARROWS))
def test_packages_import_only_along_the_arrows(part: str) -> None:
    for package, imported, path in _packages(part):
        allowed = ARROWS[part].get(package)
        assert allowed is None or imported in {package, *allowed}, (
            f"{path.relative_to(ROOT)} imports {part}.{imported}"
        )


@pytest.mark.parametrize("part", sorted(SOURCES))
def test_no_module_imports_itself_through_others(part: str) -> None:
    modules = {_module(path): path for path in _files(SOURCES[part])}

    def imported(name: str) -> str | None:
        """Return the module that an imported name lives in: itself, or the one that defines it."""
        return (
            name
            if name in modules
            else name.rpartition(".")[0]
            if name.rpartition(".")[0] in modules
            else None
        )

    graph = {
        module: {target for name in _imports(path) if (target := imported(name)) and target != module}
        for module, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail(" -> ".join(reversed(cycle.args[1])))


@pytest.mark.parametrize("part", sorted(SOURCES))
def test_a_class_name_has_one_meaning_in_its_part(part: str) -> None:
    """Only what the services have in common, each in its own module of the same name, shares a name."""
    homes: dict[str, set[str]] = {}
    for path in _files(SOURCES[part]):
        home = re.sub(r"\b(freeside|finn|dixie)\b", "service", _module(path))
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, set()).add(home)
    double = [f"{name} in {', '.join(found)}" for name, found in homes.items() if len(found) > 1]
    assert not double, f"rename one of them after what it alone is: {'; '.join(double)}"


def test_core_is_standard_library_only() -> None:
    for path in _files(PLUGIN / "core"):
        for name in _imports(path):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or name.startswith("pytest_readiness.core"), (
                f"{path.relative_to(ROOT)} imports {name}"
            )


def test_the_contract_is_standard_library_only() -> None:
    for path in _files(ROOT / "smoke" / "contract"):
        for name in _imports(path):
            assert name.split(".")[0] in sys.stdlib_module_names or name.startswith("smoke.contract"), (
                f"{path.relative_to(ROOT)} imports {name}"
            )


def test_only_the_adapter_imports_pytest() -> None:
    for path in set(_files(PLUGIN)) - set(_files(PLUGIN / "adapter")):
        assert not {"pytest", "_pytest"} & _tops(path), path


def test_nothing_imports_private_pytest() -> None:
    for folder in SOURCES.values():
        for path in _files(folder):
            assert "_pytest" not in _tops(path), path


def test_plugin_knows_neither_suite_nor_platform() -> None:
    for path in _files(PLUGIN):
        assert not _tops(path) & {"smoke", "stack", "tests"}, path
    texts = [path for path in PLUGIN.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(texts) > len([*_files(PLUGIN)])
    for path in texts:
        found = re.findall(r"freeside|\bfinn\b|dixie|arrakis|staging", path.read_text(), re.IGNORECASE)
        assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_suite_uses_the_public_names_of_the_plugin_only() -> None:
    for path in _files(ROOT / "smoke"):
        assert not _tops(path) & {"stack", "tests"}, path
        for name in _imports(path):
            if name.startswith("pytest_readiness."):
                assert name.count(".") == 1, f"{path.relative_to(ROOT)} imports {name}"


def test_stack_imports_neither_plugin_nor_suite() -> None:
    for path in _files(ROOT / "stack"):
        assert not _tops(path) & {"pytest_readiness", "smoke", "tests"}, path

"""Whether an invocation asks for the whole suite: what it narrows makes a run partial."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

from .options import asked_paths

#: Settings and built-in plugins that decide what is collected; a suite's own file may set them, for good.
_COLLECTION_INI = frozenset(
    {"python_files", "python_classes", "python_functions", "norecursedirs", "collect_imported_tests"}
)
_COLLECTION_PLUGINS = ("python", "unittest")
#: Where pytest looks for its configuration in a directory, first come, first served.
_CONFIGURATIONS = (
    *("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"),
    *("pyproject.toml", "tox.ini", "setup.cfg"),
)
#: Without this, one of these files is no configuration of pytest.
_SECTIONS = {"pyproject.toml": "[tool.pytest", "tox.ini": "[pytest]", "setup.cfg": "[tool:pytest]"}


def is_narrowed(config: pytest.Config, suite: Path) -> bool:
    """Tell whether the invocation may leave a part of the suite out, before anything is collected."""
    selects = ("lf", "keyword", "markexpr", "deselect")
    return any(config.getoption(name, None) for name in selects) or not is_whole_suite_asked(config, suite)


def is_whole_suite_asked(config: pytest.Config, suite: Path) -> bool:
    """Tell whether the invocation names the suite's directory or one around it, and hides no part of it."""
    asked = any(
        suite.is_relative_to(path)
        for path, argument in zip(asked_paths(config), config.args, strict=True)
        if "::" not in argument
    )
    return asked and not _ignores_part_of(config, suite) and not _collects_otherwise(config)


def _collects_otherwise(config: pytest.Config) -> bool:
    """Tell whether this invocation alone changes what pytest takes for a test: the rest is not missed."""
    overridden = {entry.partition("=")[0].strip() for entry in config.getoption("override_ini", None) or ()}
    cut = config.getoption("confcutdir", None)
    return (
        bool(overridden & _COLLECTION_INI)
        or any(config.pluginmanager.is_blocked(name) for name in _COLLECTION_PLUGINS)
        or bool(config.getoption("noconftest", False))
        or bool(cut and not config.rootpath.resolve().is_relative_to(Path(cut).resolve()))
        or _is_configured_otherwise(config)
    )


def _is_configured_otherwise(config: pytest.Config) -> bool:
    """Tell whether ``-c`` names another file than the one that pytest finds by itself beside the plan."""
    named = config.getoption("inifilename", None)
    if named is None:
        return False
    candidates = (config.rootpath / name for name in _CONFIGURATIONS)
    usual = next((path for path in candidates if _is_configuration(path)), None)
    return usual is None or (config.invocation_params.dir / named).resolve() != usual.resolve()


def _is_configuration(path: Path) -> bool:
    section = _SECTIONS.get(path.name, "")
    return path.is_file() and section in path.read_text(encoding="utf-8", errors="replace")


def _ignores_part_of(config: pytest.Config, suite: Path) -> bool:
    base = config.invocation_params.dir
    ignored = [(base / path).resolve() for path in config.getoption("ignore", None) or ()]
    if any(path.is_relative_to(suite) or suite.is_relative_to(path) for path in ignored):
        return True
    globs = [str(base / glob) for glob in config.getoption("ignore_glob", None) or ()]
    # As pytest matches: a * also matches slashes, and a directory that matches goes with all it holds.
    return any(fnmatch(str(path), glob) for glob in globs for path in (suite, *suite.rglob("*")))

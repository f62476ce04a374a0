"""Notices that a suite's own code patches what pytest itself runs checks with."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

#: Modules of pytest, its hooks and unittest that run checks and carry their results.
_MACHINERY = (
    *(f"pluggy._{name}" for name in ("callers", "hooks", "manager", "result")),
    *(f"_pytest.{name}" for name in ("assertion.rewrite", "fixtures", "main", "nodes", "outcomes", "python")),
    *(f"_pytest.{name}" for name in ("reports", "runner", "skipping", "subtests", "unittest")),
    "unittest.case",
)
#: Members that a suite may replace: a team's own set-up, and texts.
_HARMLESS = re.compile(r"setUp|tearDown|(__(str|repr|doc)__|shortDescription|id)$")
_CODE = (FunctionType, type, property, classmethod, staticmethod)
#: Where installed code is: Python's own directories, and this plugin's.
_INSTALLED = tuple(
    f"{place}{os.sep}"
    for place in (
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        Path(__file__).parents[1],
    )
)
_PACKAGES = {"site-packages", "dist-packages"}


class Machinery:
    """The code of pytest and unittest that runs checks, as it was before a conftest was imported.

    Installed plugins may patch it; the suite's own code may not, because then no result is certain.
    """

    def __init__(self) -> None:
        modules = [sys.modules[name] for name in _MACHINERY if name in sys.modules]
        classes = [
            one
            for module in modules
            for one in vars(module).values()
            if isinstance(one, type) and one.__module__ == module.__name__
        ]
        spaces: tuple[ModuleType | type, ...] = (*modules, *classes)
        self._before = {space: dict(vars(space)) for space in spaces}

    def replaced(self, root: Path, plugins: Iterable[object] = ()) -> list[str]:
        """Return, in words, what code below ``root`` has replaced.

        ``plugins`` are installed, and may be below ``root``: a team's own, in editable mode.
        """
        found = []
        own = tuple(filter(None, map(_home, plugins)))
        for space, before in self._before.items():
            bases = getattr(space, "__mro__", ())[1:]
            for name, value in dict(vars(space)).items():
                old = before.get(name)
                if value is old or _HARMLESS.match(name):
                    continue
                known = name in before or any(name in vars(base) for base in bases)
                if not known and not (isinstance(value, property) and name in self._names((space, *bases))):
                    continue
                place = _source_of(value)
                if _is_installed(place, own) or not (place or isinstance(old, _CODE)):
                    continue
                if not place or Path(place).is_relative_to(root):
                    by = f"{Path(place).relative_to(root)} " if place else "the suite "
                    found.append(f"{by}replaces {space.__name__}.{name}, with which checks are run")
        return found

    def _names(self, classes: Iterable[Any]) -> set[str]:
        """Return the names that the code of classes uses: a property may hide their objects' attributes."""
        members = chain.from_iterable(self._before.get(each, {}).values() for each in classes)
        codes = (member.__code__ for member in members if isinstance(member, FunctionType))
        return {name for code in codes for name in code.co_names}


def _home(plugin: object) -> str:
    """Return the package of an installed plugin, or its file."""
    file = str(getattr(plugin, "__file__", None) or "")
    return f"{os.path.dirname(file)}{os.sep}" if file and getattr(plugin, "__package__", "") else file


def _is_installed(place: str, plugins: tuple[str, ...]) -> bool:
    path = Path(place)
    if place.startswith(_INSTALLED) or not _PACKAGES.isdisjoint(path.parts):
        return True
    return path.name != "conftest.py" and place.startswith(plugins)


def _source_of(value: Any) -> str:
    """Return the file of a function, a class or a property; "" if it has none."""
    for inner in ("fget", "__func__", "func"):
        value = getattr(value, inner, value)
    if isinstance(value, type):
        return getattr(sys.modules.get(value.__module__), "__file__", None) or ""
    code = getattr(value, "__code__", None)
    return str(getattr(code, "co_filename", ""))

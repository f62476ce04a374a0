"""A pytest plugin, loaded by name: one check, named by `--mutant`, keeps its fixtures and loses its body.

It passes and has measured something, as a check whose assertions were removed would.
"""

from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", required=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.nodeid != pyfuncitem.config.getoption("--mutant"):
        return None
    evidence: Any = pyfuncitem._request.getfixturevalue("evidence")
    evidence.figure("assertions", 0)
    return True

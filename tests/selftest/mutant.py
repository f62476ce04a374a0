"""A pytest plugin, loaded by name: one check, named by `--mutant`, keeps its fixtures and loses its body.

It passes and has measured something, like a check that lost its assertions.
"""

from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", required=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Function) -> None:
    if item.nodeid == item.config.getoption("--mutant"):
        evidence: Any = item._request.getfixturevalue("evidence")
        item.obj = lambda **_: evidence.figure("assertions", 0)

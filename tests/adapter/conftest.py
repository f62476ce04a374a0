"""Scenarios for the tests of the plugin."""

from pathlib import Path

import pytest

from tests.adapter.scenario import Suite


@pytest.fixture
def suite(tmp_path: Path, request: pytest.FixtureRequest) -> Suite:
    """An empty suite with a launch plan; the test writes its checks."""
    return Suite(tmp_path, getattr(request, "param", ()))

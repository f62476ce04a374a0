"""The shop is up."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("health")]


@pytest.mark.p0
@pytest.mark.establishes("shop")
def test_up(shop: Any) -> None:
    """The shop says that it is well."""
    answer = shop.send("GET", "/health")
    assert answer.status_code == 200, f"the shop answers its health route with {answer.status_code}"


@pytest.mark.p1
@pytest.mark.requires("shop")
def test_build_is_reported(shop: Any, evidence: Any) -> None:
    """The shop says which build it is."""
    build = shop.send("GET", "/health").json().get("build", "")
    evidence.figure("build", build)
    assert build, "the health route names no build"

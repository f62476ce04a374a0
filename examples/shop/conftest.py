"""Starts the shop for ``--env local``, and says which build an environment runs."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any
from urllib.request import urlopen

import pytest
from shop import Shop, serving


def pytest_readiness_environment(
    name: str, profile: Mapping[str, Any], config: pytest.Config
) -> dict[str, Any] | None:
    """Start the shop on this machine unless the profile already says where it is."""
    if name != "local" or profile.get("shop.url"):
        return None
    stack = ExitStack()
    config.add_cleanup(stack.close)
    os.environ["SHOP_KEY"], os.environ["SHOP_OTHER_KEY"] = secrets.token_hex(16), secrets.token_hex(16)
    shop = Shop({os.environ["SHOP_KEY"]: "ada", os.environ["SHOP_OTHER_KEY"]: "bob"})
    return {"shop": {"url": stack.enter_context(serving(shop))}}


def pytest_readiness_build_identity(environment: Any) -> dict[str, str]:
    """Return the build of each service: a change during the run leaves no verdict."""
    with urlopen(f"{environment.shop.url}/health", timeout=5) as answer:
        return {"shop": json.load(answer).get("build", "")}

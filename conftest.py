"""Composition root: offers the embedded platform as environment `local`, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_readiness_environment(
    name: str, profile: Mapping[str, Any], config: pytest.Config
) -> dict[str, Any] | None:
    """Boot the embedded platform for `--env local` unless the profile already says where Freeside is."""
    if name != "local" or profile.get("freeside.url"):
        return None
    from stack.host import StackError
    from stack.launch import Stack

    try:
        stack = Stack.start()
    except StackError as error:
        raise pytest.UsageError(str(error)) from None
    config.add_cleanup(stack.stop)
    os.environ.update(stack.environ)
    return stack.profile

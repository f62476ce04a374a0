"""Entry module of the pytest plugin: it only wires."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from ..core.plan import PLAN_NAME
from . import hookspecs, options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the options; they cost nothing until a run is active."""
    options.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that a conftest may implement."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Guard the output before a conftest can fail with a secret in its message, where there is a plan."""
    if (early_config.rootpath / PLAN_NAME).is_file():
        from .channels import guard

        guard(early_config)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin's objects when this run concerns a launch plan, else nothing at all."""
    if options.is_active(config):
        from .wiring import register

        register(config)
    elif (config.rootpath / PLAN_NAME).is_file():
        from .channels import guard

        guard(config).close()

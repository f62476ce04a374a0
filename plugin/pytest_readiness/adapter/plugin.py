"""Entry module of the pytest plugin: it only wires."""

from __future__ import annotations

import pytest

from . import hookspecs, options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the options; they cost nothing until a run is active."""
    options.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that a conftest may implement."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin's objects when this run concerns a launch plan, else nothing at all."""
    if options.is_active(config):
        from .wiring import register

        register(config)

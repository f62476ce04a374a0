"""Entry module of the pytest plugin: it only wires."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from ..core.plan import PLAN_NAME
from . import hookspecs, options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; they cost nothing until a run is active."""
    options.add(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that a conftest may implement."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """If there is a plan, redact the output and replace an older verdict before a conftest acts."""
    if not (early_config.rootpath / PLAN_NAME).is_file():
        return (yield)
    from .channels import guard
    from .first_act import REPORTS, LastAct, first_act

    guard(early_config)
    first_act(early_config, parser, args)
    own = os.getpid()
    try:
        result = yield
        if REPORTS in early_config.stash:
            early_config.pluginmanager.register(LastAct(early_config.stash[REPORTS]), "readiness-last-act")
        return result
    finally:
        if os.getpid() != own:  # a conftest forked; the copy would be a second run
            os._exit(1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin's objects if this run concerns a launch plan; otherwise register nothing."""
    if options.is_active(config):
        from .wiring import register

        register(config)
    elif (config.rootpath / PLAN_NAME).is_file():
        from .channels import guard
        from .first_act import SuiteLeftOut, retract

        guard(config).close()
        retract(config)
        if options.leaves_out_suite(config):
            config.pluginmanager.register(SuiteLeftOut(config), "readiness-left-out")

"""What all tests share: property tests are not judged by their speed, for builds share their cores."""

from importlib.util import find_spec

import pytest


def pytest_configure() -> None:
    """Say once what `make smoke` did not install, instead of an ImportError for each file."""
    if find_spec("hypothesis") is None:
        raise pytest.UsageError(
            "tests/ needs the development dependencies: `make test` installs them; "
            "the smoke suite alone is `pytest smoke`"
        )
    from hypothesis import settings

    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")

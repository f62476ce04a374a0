"""Shared fixtures of the static checks' tests."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from smoke.source.terraform.configuration import Configuration
from tests.smoke.source.repository import repository
from tests.smoke.source.terraform_files import BASE, Read


@pytest.fixture
def read(tmp_path: Path) -> Read:
    number = itertools.count()

    def configuration(*parts: str, files: Mapping[str, str | bytes] | None = None) -> Configuration:
        written: dict[str, str | bytes] = {
            "tf/main.tf": "\n".join([BASE, *parts]),
            "tf/a.tfvars": 'environment = "staging"\n',
            "tf/sub/x.tf": "a = = 1",
        }
        checkout = repository(tmp_path / f"repo{next(number)}", {**written, **(files or {})})
        return Configuration(checkout, "tf", ["tf/a.tfvars"])

    return configuration

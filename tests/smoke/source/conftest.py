"""What the tests of the static library share."""

from pathlib import Path

import pytest

from smoke.source.parser import Parser
from smoke.source.terraform import Module
from tests.smoke.source.repository import repository
from tests.smoke.source.terraform_files import BASE, Read


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def module(*parts: str) -> Module:
        files = {
            "tf/main.tf": "\n".join([BASE, *parts]),
            "tf/a.tfvars": 'environment = "staging"\n',
            "tf/sub/x.tf": "a = = 1",
        }
        checkout = repository(tmp_path / "repo", files)
        return Module.read(checkout, "tf", Parser(tmp_path / "cache"), ["tf/a.tfvars"])

    return module

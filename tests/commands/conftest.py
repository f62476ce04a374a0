"""The suite of the plugin's own tests is a project for the commands, too."""

from tests.adapter.conftest import suite

__all__ = ["suite"]

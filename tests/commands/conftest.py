"""The commands use the same project as the plugin's tests."""

from tests.adapter.conftest import suite

__all__ = ["suite"]

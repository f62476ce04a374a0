"""What all tests share: property tests are not judged by their speed, for builds share their cores."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

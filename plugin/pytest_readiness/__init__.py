"""pytest-readiness: turn a smoke run into a launch decision with evidence.

The names exported here are the whole Python surface that a suite may import: the exceptions with which a
check says more than "failed". Everything else reaches a suite through markers, fixtures and hooks.
"""

from __future__ import annotations

__all__ = ["ExternalOutage", "NothingMeasured", "SafetyViolation", "SetupError"]


class SafetyViolation(AssertionError):
    """A safety property was seen broken: proof at the first time, so it is never rerun.

    For example a refused token that was accepted, money that was not conserved, an answer for another tenant.
    """

    failure_class = "PLATFORM_BUG"


class ExternalOutage(AssertionError):
    """A third party is down, proved by a signal that it or the platform named; never guessed from a count."""

    failure_class = "EXTERNAL_OUTAGE"


class SetupError(RuntimeError):
    """The runner's side is at fault: a key, a credential, a permission, a name that its resolver does not
    know.
    """

    failure_class = "SETUP_ERROR"


class NothingMeasured(SetupError):
    """A check ended without having measured anything: it proves nothing about the platform, neither way."""

"""Proves that the suite detects faults: a platform gets every fault of a catalogue, one at a time."""

from __future__ import annotations

from ..core.errors import ReadinessError


class CatalogueError(ReadinessError):
    """The catalogue of faults is malformed, or names what the suite does not have."""


class SuiteError(ReadinessError):
    """The suite cannot be collected, so there is nothing to test."""


class NothingProved(ReadinessError):
    """The self-test could not go on; what it found until then proves nothing about the suite."""


class PlatformError(NothingProved):
    """A platform could not be started, or did not answer on its control port."""


class Refused(PlatformError):
    """A platform says that it cannot do what it was asked for, such as a fault that it does not have."""


class RunnerGone(NothingProved):
    """The process that runs the suite ended while something was expected of it."""

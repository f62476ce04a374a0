"""Alterations by the names that faults use: `aws:alarm-missing` calls `alarm_missing`."""

from collections.abc import Callable, Mapping
from typing import Any

from stack.aws import monitoring_alterations, platform_alterations
from stack.aws.emulator import Emulator

# Each takes the emulator and the fault's parameters.
ALTERATIONS: Mapping[str, Callable[..., None]] = {
    alteration.__name__.replace("_", "-"): alteration
    for alteration in (*platform_alterations.ALTERATIONS, *monitoring_alterations.ALTERATIONS)
}


def apply(emulator: Emulator, name: str, params: Mapping[str, Any]) -> None:
    """Apply the alteration `name`; a restore of the emulator undoes all of them.

    Raises LookupError for an unknown name or for something that is not there to be altered, TypeError for
    parameters that it does not take.
    """
    if name not in ALTERATIONS:
        raise LookupError(f"no alteration {name!r}; known: {', '.join(sorted(ALTERATIONS))}")
    ALTERATIONS[name](emulator, **params)

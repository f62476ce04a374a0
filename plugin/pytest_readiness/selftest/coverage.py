"""Which checks no fault names: a check that was never seen red proves nothing."""

from __future__ import annotations

from collections.abc import Iterable

from .catalogue import Catalogue


def uncovered(catalogue: Catalogue, checks: Iterable[str]) -> list[str]:
    """Return the checks that are the named check of no fault and are not declared unfaulted, in their order.

    Every member of a parametrised family is a check of its own.
    """
    named = {name for fault in catalogue.faults for name in fault.named}
    excused = {entry.check for entry in catalogue.unfaulted}
    return [check for check in checks if check not in named | excused]

"""A gate that refuses the honest: always, or after it has had to refuse others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stack.faults.switch import Faults


class Grudge:
    """Remembers refusals for as long as the fault is on."""

    def __init__(self, faults: Faults, service: str) -> None:
        self._faults = faults
        self._service = service
        self._refusals = 0
        faults.on_reset(self._forget)

    def _forget(self) -> None:
        self._refusals = 0

    def refused(self) -> None:
        """Count a refusal."""
        if self._faults.on(f"{self._service}-locks-out"):
            self._refusals += 1

    def bears(self) -> bool:
        """Whether a valid token is refused as well."""
        patience = self._faults.number(f"{self._service}-locks-out", "after", 5)
        if patience is None:
            self._forget()
            return self._faults.on(f"{self._service}-refuses-valid-tokens")
        return self._refusals >= patience

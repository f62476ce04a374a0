"""Notifications that a topic accepts and never delivers. Runs inside the emulator's process."""

from __future__ import annotations

from typing import Any


class Notices:
    """Stands in the way of SNS deliveries: nothing passes while `lost` is true."""

    def __init__(self) -> None:
        self.lost = False

    def install(self) -> None:
        """Have every delivery of the emulator come by here."""
        from ministack.services import sns

        deliver = sns._fanout

        def fanout(*arguments: Any, **options: Any) -> None:
            if not self.lost:
                deliver(*arguments, **options)

        sns._fanout = fanout

    def heal(self) -> None:
        """Deliver again."""
        self.lost = False

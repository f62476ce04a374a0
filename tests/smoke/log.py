"""An evidence stub that records what it is given."""

from typing import Any

import httpx
from pytest_readiness import Evidence


class Log(Evidence):
    """Stands in for the plugin's `evidence`."""

    def __init__(self) -> None:
        self.exchanges: list[int] = []
        self.notes: list[str] = []
        self.rules: dict[str, int] = {}
        self.figures: list[tuple[str, Any, Any]] = []

    def exchange(self, response: httpx.Response) -> None:
        self.exchanges.append(response.status_code)

    def figure(
        self,
        name: str,
        value: Any,
        unit: str = "",
        expected: Any = None,
        limit: Any = None,
        at_least: float | None = None,
    ) -> None:
        self.figures.append((name, value, expected))

    def evaluated(self, rule: str, times: int = 1) -> None:
        self.rules[rule] = self.rules.get(rule, 0) + times

    def note(self, text: str) -> None:
        self.notes.append(text)

"""Past runs: this environment's ledger, the other environments' histories, and the suite's last self-test."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ..core.errors import LedgerError
from ..core.model import Scope
from ..ledger import Ledger, open_ledger, read_history
from ..profile.environment import known_profiles
from . import suite
from .context import RunContext

SELF_TEST_NAME = "self-test.json"
_QUOTED = ("detected", "total", "false_alarms", "clean_runs", "date", "catalogue_digest", "suite_digest")


class History:
    """Read before the run, so that an unusable ledger is a usage error and not a surprise at its end."""

    def __init__(self, context: RunContext, environment: str) -> None:
        self.url = context.settings.ledger_url or context.plan.ledger_url
        self._context = context
        self._root = context.settings.root
        self._own = environment
        self.ledger: Ledger = open_ledger(self.url, self._root, self._own)
        self.entries: dict[str, list[dict[str, Any]]] = dict(read_history(self.url, self._root, [self._own]))
        #: Every known environment but this one -> whether it is live.
        self.environments = {
            found.name: found.live
            for found in known_profiles(self._root, context.schema, os.environ)
            if found.name != self._own
        }
        self._read_others()
        self._self_test = self._proved()

    def refresh(self) -> None:
        """Read this environment's ledger again: another run may have ended since this one began."""
        self.entries.update(read_history(self.url, self._root, [self._own]))

    def record(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Append this run's entry and return it as recorded."""
        recorded = self.ledger.append(entry)
        self._context.notes.extend(self.ledger.notes)
        return recorded

    def self_test(self) -> Mapping[str, Any] | None:
        """Return what the last self-test proved of this very suite; None when there is none to quote."""
        return self._self_test

    def _proved(self) -> Mapping[str, Any] | None:
        """Read the last self-test; one of another suite proves nothing about this one, and a note says so."""
        path = self._context.settings.reports / SELF_TEST_NAME
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as problem:
            self._context.notes.append(f"{path.name} cannot be read: {problem}")
            return None
        if not isinstance(found, dict) or found.get("scope") != Scope.FULL:
            return None
        settings = self._context.settings
        if found.get("suite_digest") != suite.digest_of((settings.root / self._context.plan.suite).resolve()):
            self._context.notes.append(
                f"the self-test of {found.get('date')} is not quoted: it tested another state of the suite"
                " (readiness self-test tests this one)"
            )
            return None
        return {key: found.get(key) for key in _QUOTED}

    def _read_others(self) -> None:
        """Read the other environments' histories where that needs no network; failures are only noted."""
        if not self.url.startswith("file:"):
            return
        for name in self.environments:
            try:
                self.entries.update(read_history(self.url, self._root, [name]))
            except LedgerError as problem:
                self._context.notes.append(f"history of {name} left out: {str(problem).splitlines()[0]}")

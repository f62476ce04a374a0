"""What a run hands over to be assessed, and what the ledger keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .model import CheckResult, RunFacts, Scope

#: Keys of the model that a ledger entry copies.
_KEPT = (
    "run_id",
    "environment",
    "live",
    "started_at",
    "finished_at",
    "verdict",
    "uncounted",
    "declaration",
    "counts",
    "build_identity",
    "suite_digest",
    "plan_digest",
    "runner",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One finished run. Results are as reported, cover not applied. Times carry an offset.

    ``environments`` maps every known profile beside this one to whether it is live. ``env_option`` is what
    ``--env`` was given, for the command that reproduces a failure. ``iac`` says that a real checkout was
    examined, so that static checks speak of the real platform. ``runner`` is the CI's URL, if any.
    """

    run_id: str
    environment: str
    live: bool
    started_at: datetime
    finished_at: datetime
    results: tuple[CheckResult, ...]
    facts: RunFacts = field(default_factory=RunFacts)
    suite_digest: str = ""
    degraded_exit_code: int = 2
    runner: str = ""
    iac: bool = False
    env_option: str = ""
    environments: Mapping[str, bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ledger: Mapping[str, Any] = field(default_factory=dict)
    self_test: Mapping[str, Any] | None = None

    @property
    def scope(self) -> Scope:
        """Whether the run asked for the whole suite."""
        return self.facts.scope

    @property
    def build_identity(self) -> Mapping[str, str]:
        """The build of each service, as last seen; one that was never known is an empty string."""
        start, end = self.facts.build_start, self.facts.build_end
        return {name: end.get(name) or start.get(name, "") for name in sorted(start.keys() | end.keys())}

    @property
    def belongs_in_ledger(self) -> bool:
        """Whether the ledger records it: the whole suite was asked for and it ran to its end."""
        facts = self.facts
        return facts.scope is Scope.FULL and not facts.interrupted and not facts.collection_errors


def entry_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ledger keeps of an assessed run: the model's head and each check's outcome."""
    kept = {key: model[key] for key in _KEPT}
    checks = [
        {key: check[key] for key in ("id", "severity", "outcome", "class", "duration_s")}
        for check in model["checks"]
    ]
    return {**kept, "goals": {row["id"]: row["status"] for row in model["goals"]}, "checks": checks}

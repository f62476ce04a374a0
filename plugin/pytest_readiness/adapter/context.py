"""What every part of the adapter shares during one run."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ..core.plan import Plan
from ..core.redaction import Redactor
from ..profile.environment import Environment, Vault
from ..profile.profile import Offer
from ..profile.schema import Schema
from .admission import Availability, Down, Refusal
from .catalogue import Check
from .evidence import EvidenceLog, Parts
from .forks import Origin
from .options import Settings


@dataclass(slots=True, kw_only=True)
class RunContext:
    """One run in one process: its inputs, validated, and the few things that all parts write to.

    ``environment`` is None only where no check runs, as with ``--collect-only``.
    """

    settings: Settings
    run_id: str
    plan: Plan
    schema: Schema
    redactor: Redactor
    origin: Origin = field(default_factory=Origin)
    environment: Environment | None = None
    vault: Vault | None = None
    #: Capability -> what took it down, as far as this process has seen.
    down: dict[str, Down] = field(default_factory=dict)
    #: What went wrong and no check can answer for.
    stray: list[str] = field(default_factory=list)
    #: Remarks of the adapter itself, for the report.
    notes: list[str] = field(default_factory=list)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The names of the capabilities that the schema defines."""
        return tuple(self.schema.capabilities)

    def availability(self, name: str) -> Availability | None:
        """Tell whether the environment has a capability; None for one that the schema does not define."""
        if self.environment is None or self.vault is None or name not in self.schema.capabilities:
            return None
        capability = self.environment.profile.capability(name)
        if capability.status is Offer.ABSENT:
            return Availability(
                available=False, declared=True, reason=f"{name} is not offered: {capability.reason}"
            )
        if capability.option == "drills" and not self.settings.drills:
            return Availability(available=False, declared=True, reason=f"{name} needs --drills")
        missing = [self.vault.unresolved[key] for key in capability.secrets if key in self.vault.unresolved]
        if missing:
            reason = f"{name} is configured but unavailable: {missing[0]}"
            return Availability(available=False, reason=reason, missing=missing[0])
        return Availability(available=True)


#: What the plugin keeps on pytest's objects: one typed key for each value.
RUN: pytest.StashKey[RunContext] = pytest.StashKey()
CHECK: pytest.StashKey[Check] = pytest.StashKey()
EVIDENCE: pytest.StashKey[EvidenceLog] = pytest.StashKey()
REFUSAL: pytest.StashKey[Refusal] = pytest.StashKey()
PARTS: pytest.StashKey[Parts] = pytest.StashKey()
#: Whether all that failed so far in the attempt under way may be over the next time.
PASSING: pytest.StashKey[bool] = pytest.StashKey()

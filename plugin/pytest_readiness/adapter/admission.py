"""Whether a check may run: drills, what the environment offers, and what earlier checks found to be down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..core.causes import BEHIND
from ..core.model import FailureClass, Outcome
from .checks import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a check is not executed. ``applicable`` is False where the environment declares the lack itself."""

    outcome: Outcome
    reason: str
    applicable: bool = True
    failure_class: FailureClass | None = None
    #: What it shares with all that are refused for it: see ``core.causes``.
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Down:
    """Which check found a capability to be down, and what it said."""

    check: str
    summary: str

    @property
    def cause(self) -> str:
        """The cause of all that is not run for it."""
        return f"{BEHIND}{self.check}"

    def __str__(self) -> str:
        return f"{self.check}: {self.summary}"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a capability can be used; ``reason`` why not; ``declared``: the profile rules it out."""

    available: bool
    reason: str = ""
    declared: bool = False
    #: What is missing, whichever capability it is missing for.
    missing: str = ""


def refuse(
    check: Check,
    *,
    drills: bool,
    down: Mapping[str, Down],
    offer: Callable[[str], Availability | None],
) -> Refusal | None:
    """Decide about one check; None lets it run.

    A capability that is down wins: then the check is not run. Next, what the environment declares absent
    skips the check as not applicable, and what it declares present but lacks skips it as the runner's fault.
    ``offer`` returns None for a capability that only checks establish.
    """
    if check.drill and not drills:
        return Refusal(
            outcome=Outcome.SKIPPED,
            reason="a drill changes the platform's state: it needs --drills",
            applicable=False,
        )
    for name in check.requires:
        if name in down:
            reason = f"not run: {name} is down ({down[name]})"
            return Refusal(outcome=Outcome.NOT_RUN, reason=reason, cause=down[name].cause)
    offers = [
        offered for name in check.requires if (offered := offer(name)) is not None and not offered.available
    ]
    for offered in sorted(offers, key=lambda offered: not offered.declared):
        if offered.declared:
            return Refusal(outcome=Outcome.SKIPPED, reason=offered.reason, applicable=False)
        return Refusal(
            outcome=Outcome.SKIPPED,
            reason=offered.reason,
            failure_class=FailureClass.SETUP_ERROR,
            cause=offered.missing,
        )
    return None

"""A tenant's budget in both dialects, as one reading in µUSD."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from .contract import Fields, fields_of, shown

MICRO_PER_CENT = 10_000
PERIOD = r"[0-9]{4}-(0[1-9]|1[0-2])"


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a budget, in µUSD. ``exact`` is False where the platform serves whole cents only.

    The gateway dialect serves one figure for committed and reserved together: it is
    read as committed, with reserved 0.
    """

    tenant: str
    limit: int
    committed: int
    reserved: int
    exact: bool
    period: str = ""

    @property
    def room(self) -> int:
        """What may still be spent."""
        return self.limit - self.committed - self.reserved

    @property
    def tolerance_per_call(self) -> int:
        """How far a charge may be from the cost: nothing, or a cent per call where only cents are served."""
        return 0 if self.exact else MICRO_PER_CENT


def budget_route(dialect: str, tenant: str) -> str:
    """Where a dialect serves the budget of ``tenant``."""
    return "/api/agents/budget" if dialect == "gateway" else f"/api/v1/communities/{tenant}/budget"


def reading_of(response: httpx.Response, dialect: str, tenant: str) -> Reading:
    """The reading of an answer; ContractViolation for a wrong type, another tenant, clashing figures."""
    fields = fields_of(response)
    if fields.raw("communityId", f"{tenant!r}") != tenant:
        fields.refuse("communityId", repr(tenant), shown(fields.data["communityId"]))
    return _gateway(fields, tenant) if dialect == "gateway" else _community(fields, tenant)


def _community(fields: Fields, tenant: str) -> Reading:
    limit = fields.integer("monthlyBudgetCents")
    committed, spent = fields.integer("committed"), fields.integer("spentCents")
    if spent != committed:
        fields.refuse("spentCents", f"the committed cents ({committed})", shown(spent))
    reserved = fields.integer("reserved")
    exact = {name: fields.micro(f"{name}Micro") for name in ("committed", "reserved")}
    for name, cents in (("committed", committed), ("reserved", reserved)):
        if cents != exact[name] // MICRO_PER_CENT:
            fields.refuse(name, f"the whole cents of {name}Micro ({exact[name]})", shown(cents))
    return Reading(
        tenant, limit * MICRO_PER_CENT, exact["committed"], exact["reserved"], exact=True,
        period=fields.text("period", pattern=PERIOD),
    )  # fmt: skip


def _gateway(fields: Fields, tenant: str) -> Reading:
    limit, spent = fields.integer("monthlyLimitCents"), fields.integer("currentSpendCents")
    # an overspent budget leaves less than nothing: that is for the invariants to say, with the amount
    left = fields.integer("remainingCents", minimum=-limit - spent)
    fields.number("percentUsed", minimum=0, maximum=float("inf"))
    if left != limit - spent:
        fields.refuse(
            "remainingCents", f"monthlyLimitCents - currentSpendCents ({limit - spent})", shown(left)
        )
    return Reading(tenant, limit * MICRO_PER_CENT, spent * MICRO_PER_CENT, 0, exact=False)

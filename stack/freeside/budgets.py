"""The budget as callers see it, in both dialects (contract 1.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from stack.common.errors import ApiError
from stack.faults import answers as broken
from stack.freeside.ledger import MICRO_PER_CENT

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stack.faults.switch import Faults
    from stack.freeside.auth import Auth
    from stack.freeside.ledger import Figures, Ledger


class Budgets:
    """The budget routes: a token shows its own tenant's figures and nobody else's."""

    def __init__(self, auth: Auth, ledger: Ledger, faults: Faults) -> None:
        self._auth = auth
        self._ledger = ledger
        self._faults = faults

    async def community(self, request: Request) -> Response:
        """Dialect `community`; 403 for any other tenant, existing or not; 404 for an unknown own one."""
        claims = await self._auth.user(request)
        tenant_id = request.path_params["community_id"]
        if tenant_id != claims.tenant_id and not self._faults.on("freeside-shows-any-budget"):
            if self._faults.on("freeside-reveals-tenants"):
                await self._figures(tenant_id)
            raise ApiError(403, "FORBIDDEN", "The token is for another community")
        return JSONResponse(broken.budget(self._faults, community_view(await self._figures(tenant_id))))

    async def gateway(self, request: Request) -> Response:
        """Dialect `gateway`; admins only."""
        claims = await self._auth.user(request)
        if not claims.is_admin:
            raise ApiError(403, "FORBIDDEN", "Admins only")
        return JSONResponse(gateway_view(await self._figures(claims.tenant_id)))

    async def _figures(self, tenant_id: str) -> Figures:
        figures = await self._ledger.figures(tenant_id)
        if figures is None:
            raise ApiError(404, "NOT_FOUND", "No such community")
        return figures


def community_view(figures: Figures) -> dict[str, Any]:
    """Cents as integers, µUSD as digits in a string."""
    committed = figures.committed_micro // MICRO_PER_CENT
    return {
        "communityId": figures.tenant_id,
        "monthlyBudgetCents": figures.limit_micro // MICRO_PER_CENT,
        "committed": committed,
        "reserved": figures.reserved_micro // MICRO_PER_CENT,
        "spentCents": committed,
        "committedMicro": str(figures.committed_micro),
        "reservedMicro": str(figures.reserved_micro),
        "period": figures.period,
    }


def gateway_view(figures: Figures) -> dict[str, Any]:
    """Whole cents only, as the gateway has them."""
    limit, spent = figures.limit_micro // MICRO_PER_CENT, figures.committed_micro // MICRO_PER_CENT
    return {
        "communityId": figures.tenant_id,
        "monthlyLimitCents": limit,
        "currentSpendCents": spent,
        "remainingCents": max(0, limit - spent),
        "percentUsed": 100 * spent // limit if limit else 100,
    }

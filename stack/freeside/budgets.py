"""Budgets as callers see them (contract 1.5), and Finn's reservations for calls that reach it directly."""

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.common.auth import FreesideAuth
from stack.common.http import ApiError, bad_request, json_object, raw_body, text
from stack.common.pricing import Usage, cost_micro
from stack.common.verifier import POOLS
from stack.freeside.budget_ledger import MICRO_PER_CENT, BudgetLedger, Charge, Figures


class Budgets:
    """The budget routes: a token shows its own tenant's figures and no other's."""

    def __init__(self, auth: FreesideAuth, ledger: BudgetLedger) -> None:
        self._auth = auth
        self._ledger = ledger

    async def community(self, request: Request) -> Response:
        """Dialect `community`; 403 for any other tenant, existing or not; 404 for an unknown own one."""
        claims = await self._auth.user(request)
        tenant_id = request.path_params["community_id"]
        if tenant_id != claims.tenant_id:
            raise ApiError(403, "FORBIDDEN", "The token is for another community")
        return JSONResponse(community_view(await self.figures(tenant_id)))

    async def gateway(self, request: Request) -> Response:
        """Dialect `gateway`; admins only."""
        claims = await self._auth.user(request)
        if not claims.is_admin:
            raise ApiError(403, "FORBIDDEN", "Admins only")
        return JSONResponse(gateway_view(await self.figures(claims.tenant_id)))

    async def figures(self, tenant_id: str) -> Figures:
        """The tenant's budget; raises 404 for an unknown one."""
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


# Finn does not extend leases. A call that takes longer is charged late, if there is still room for it.
_LEASE_S = 8.0


class Reservations:
    """Reserve, settle, release; the price is Freeside's own, from pool and tokens."""

    def __init__(self, auth: FreesideAuth, ledger: BudgetLedger) -> None:
        self._auth = auth
        self._ledger = ledger

    async def reserve(self, request: Request) -> Response:
        """`{tenant_id, pool, prompt_tokens, completion_tokens}`: 201 `{reservation_id, amount_micro}`."""
        await self._auth.service(request)
        document = json_object(await raw_body(request))
        reservation = await self._ledger.reserve(text(document, "tenant_id"), _price(document), _LEASE_S)
        body = {"reservation_id": str(reservation.reservation_id), "amount_micro": reservation.amount_micro}
        return JSONResponse(body, 201)

    async def settle(self, request: Request) -> Response:
        """`{pool, prompt_tokens, completion_tokens, trace_id}`: 200 `{cost_micro}`; 409: nothing is held."""
        await self._auth.service(request)
        document = json_object(await raw_body(request))
        cost = _price(document)
        if not await self._ledger.commit(_id(request), Charge(cost, text(document, "trace_id"))):
            raise ApiError(409, "NOT_HELD", "Nothing is reserved under this id")
        return JSONResponse({"cost_micro": cost})

    async def release(self, request: Request) -> Response:
        """204, whether or not something was held."""
        await self._auth.service(request)
        await self._ledger.release(_id(request))
        return Response(status_code=204)


def _price(document: dict[str, Any]) -> int:
    pool = document.get("pool")
    counts = [document.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if pool not in POOLS or not all(type(count) is int and count > 0 for count in counts):
        raise bad_request("pool, prompt_tokens and completion_tokens must be given")
    return cost_micro(pool, Usage(*counts))  # type: ignore[arg-type]


def _id(request: Request) -> uuid.UUID:
    try:
        return uuid.UUID(request.path_params["reservation_id"])
    except ValueError:
        raise bad_request("The reservation's id is not a UUID") from None

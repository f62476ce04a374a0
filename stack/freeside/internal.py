"""Internal routes for Finn: the money of calls that reach it directly (contract section 2)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from stack.common.claims import POOLS
from stack.common.errors import ApiError, bad_request
from stack.common.pricing import Usage, cost_micro
from stack.common.requests import json_object, raw_body, text
from stack.freeside.ledger import Charge, OverBudget, UnknownTenant

if TYPE_CHECKING:
    from starlette.requests import Request

    from stack.freeside.auth import Auth
    from stack.freeside.ledger import Ledger

# Finn does not extend leases. A call that takes longer is charged late, if there is still room for it.
_LEASE_S = 8.0


class Reservations:
    """Reserve, settle, release; the price is Freeside's own, from pool and tokens."""

    def __init__(self, auth: Auth, ledger: Ledger) -> None:
        self._auth = auth
        self._ledger = ledger

    async def reserve(self, request: Request) -> Response:
        """`{tenant_id, pool, prompt_tokens, completion_tokens}`: 201 `{reservation_id, amount_micro}`."""
        await self._auth.service(request)
        document = json_object(await raw_body(request))
        try:
            reservation = await self._ledger.reserve(text(document, "tenant_id"), _price(document), _LEASE_S)
        except OverBudget:
            raise ApiError(
                402, "BUDGET_EXCEEDED", "The community's budget has no room for this call"
            ) from None
        except UnknownTenant:
            raise ApiError(403, "FORBIDDEN", "The token's tenant is not known") from None
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

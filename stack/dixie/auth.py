"""Who is calling Dixie: an API key, a user's token from Freeside, or Finn (contract section 3)."""

from __future__ import annotations

import hmac
import logging
from typing import TYPE_CHECKING

from stack.common.claims import S2S_CLAIMS, USER_CLAIMS, Claims
from stack.common.http import ApiError
from stack.common.jwks import JwksClient
from stack.common.verifier import Issuer, SpentTokens, TokenRefused, Verifier
from stack.faults import refusals as broken

if TYPE_CHECKING:
    from starlette.requests import Request

    from stack.common.context import Context

FINN = "loa-finn"
_KEY_PREFIX = "dxk_"
_log = logging.getLogger("stack.auth")


class Auth:
    """Every bad credential is the same 401."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        freeside = JwksClient(context, f"{settings.freeside_url}/.well-known/jwks.json")
        finn = JwksClient(context, f"{settings.finn_url}/.well-known/jwks.json")
        issuers = {"arrakis": Issuer(freeside, USER_CLAIMS), FINN: Issuer(finn, S2S_CLAIMS)}
        self._context = context
        self._verifier = Verifier("dixie", "loa-dixie", issuers, context.faults)
        self._spent = SpentTokens(context, "dixie")

    async def reader(self, request: Request) -> None:
        """Let any of the three credentials pass; raises 401."""
        faults = self._context.faults
        if faults.on("dixie-query-open"):
            return
        if not self._is_api_key(request) or faults.on("dixie-refuses-api-keys"):
            await self._spend(await self._verified(request), request)

    async def service(self, request: Request) -> Claims:
        """Finn's token only; raises 401 for everything else, a good user's token included."""
        faults = self._context.faults
        if faults.on("dixie-events-open"):
            return Claims({"iss": FINN}, anonymous=True)
        if faults.on("dixie-api-keys-write") and self._is_api_key(request):
            return Claims({"iss": FINN}, anonymous=True)
        claims = await self._verified(request)
        # Before it is spent: a token that is refused with 401 stays good for the routes that are its own.
        if claims.issuer != FINN and not claims.anonymous and not faults.on("dixie-users-write"):
            raise _unauthorized()
        await self._spend(claims, request)
        return claims

    async def _verified(self, request: Request) -> Claims:
        try:
            return await self._verifier.verify(request.headers.get("authorization"))
        except TokenRefused as refused:
            _log.info("401 on %s: %s", request.url.path, refused.case)
            raise broken.refusal(self._context.faults, "dixie", refused.case, _unauthorized()) from None

    async def _spend(self, claims: Claims, request: Request) -> None:
        if not await self._spent.spend(claims, request.url.path):
            raise _unauthorized()

    def _is_api_key(self, request: Request) -> bool:
        scheme, _, offered = request.headers.get("authorization", "").partition(" ")
        path = self._context.settings.dixie_api_key_file
        if scheme.lower() != "bearer" or not offered.startswith(_KEY_PREFIX) or path is None:
            return False
        if self._context.faults.on("dixie-accepts-any-api-key"):
            return True
        known = path.read_text(encoding="utf-8").strip()
        return known.startswith(_KEY_PREFIX) and hmac.compare_digest(offered.encode(), known.encode())


def _unauthorized() -> ApiError:
    return ApiError(401, "UNAUTHORIZED", "Authentication required", {"www-authenticate": "Bearer"})

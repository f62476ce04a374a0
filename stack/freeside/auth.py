"""Who is calling Freeside: users with Freeside's own tokens, Finn with a service token."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from stack.common.claims import S2S_CLAIMS, USER_CLAIMS, Claims
from stack.common.http import ApiError
from stack.common.jwks import JwksClient
from stack.common.verifier import Issuer, SpentTokens, TokenRefused, Verifier
from stack.faults import refusals as broken
from stack.faults.money import stray_charge

if TYPE_CHECKING:
    from starlette.requests import Request

    from stack.common.context import Context

INTERNAL_AUDIENCE = "arrakis-internal"
_log = logging.getLogger("stack.auth")


class Auth:
    """Verify the token, spend it, return its claims."""

    def __init__(self, context: Context) -> None:
        faults = self._faults = context.faults
        self._db = context.db
        finn = JwksClient(context, f"{context.settings.finn_url}/.well-known/jwks.json")
        self._users = Verifier(
            "freeside", "arrakis", {"arrakis": Issuer(context.keyring, USER_CLAIMS)}, faults
        )
        self._services = Verifier(
            "freeside-internal", INTERNAL_AUDIENCE, {"loa-finn": Issuer(finn, S2S_CLAIMS)}, faults
        )
        self._spent = SpentTokens(context, "freeside")

    async def user(self, request: Request) -> Claims:
        """The caller of a public route; raises 401 without saying why, or 409 JTI_REPLAY."""
        return await self._checked(self._users, request)

    async def service(self, request: Request) -> Claims:
        """Finn, on an internal route."""
        return await self._checked(self._services, request)

    async def _checked(self, verifier: Verifier, request: Request) -> Claims:
        try:
            claims = await verifier.verify(request.headers.get("authorization"))
        except TokenRefused as refused:
            _log.info("401 on %s: %s", request.url.path, refused.case)
            if self._faults.on("freeside-charges-refused-tokens"):
                await stray_charge(self._db, Claims({}).tenant_id)
            error = ApiError(401, "UNAUTHORIZED", "Authentication required", {"www-authenticate": "Bearer"})
            raise broken.refusal(self._faults, "freeside", refused.case, error) from None
        if not await self._spent.spend(claims, request.url.path):
            raise ApiError(409, "JTI_REPLAY", "The token has been used before")
        return claims

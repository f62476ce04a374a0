"""Who is calling Finn: holders of Freeside's S2S tokens, bound to the body they were made for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from stack.common.claims import FINN_CLAIMS, Claims
from stack.common.http import ApiError, raw_body
from stack.common.jose import req_hash
from stack.common.jwks import JwksClient
from stack.common.verifier import Issuer, SpentTokens, TokenRefused, Verifier
from stack.faults import refusals as broken

if TYPE_CHECKING:
    from starlette.requests import Request

    from stack.common.context import Context

_CODES = {
    "no-token": "JWT_REQUIRED",
    "empty": "JWT_REQUIRED",
    "other-scheme": "JWT_REQUIRED",
    "garbage": "JWT_STRUCTURAL_INVALID",
    "alg-none": "JWT_STRUCTURAL_INVALID",
    "hs256-public-key": "JWT_STRUCTURAL_INVALID",
    "wrong-algorithm": "JWT_STRUCTURAL_INVALID",
    "no-kid": "JWT_STRUCTURAL_INVALID",
    "wrong-iss": "ISSUER_NOT_ALLOWED",
    "wrong-aud": "AUDIENCE_MISMATCH",
    "missing-jti": "JTI_REQUIRED",
}
_log = logging.getLogger("stack.auth")


class Auth:
    """Verify, spend, compare the body."""

    def __init__(self, context: Context) -> None:
        self._faults = context.faults
        freeside = JwksClient(context, f"{context.settings.freeside_url}/.well-known/jwks.json")
        issuers = {"arrakis": Issuer(freeside, FINN_CLAIMS)}
        self._verifier = Verifier("finn", "loa-finn", issuers, context.faults)
        self._spent = SpentTokens(context, "finn")

    async def caller(self, request: Request) -> tuple[Claims, bytes]:
        """Claims and raw body; raises 401 with a code of the contract, 400 REQ_HASH_MISMATCH, 413."""
        try:
            claims = await self._verifier.verify(request.headers.get("authorization"))
        except TokenRefused as refused:
            _log.info("401 on %s: %s", request.url.path, refused.case)
            error = _unauthorized(_CODES.get(refused.case, "JWT_INVALID"))
            raise broken.refusal(self._faults, "finn", refused.case, error) from None
        if not await self._spent.spend(claims, request.url.path):
            raise _unauthorized("JTI_REPLAY_DETECTED")
        raw = await raw_body(request)
        bound = claims.text("req_hash")
        if bound is not None and bound != req_hash(raw) and not self._faults.on("finn-ignores-req-hash"):
            raise ApiError(400, "REQ_HASH_MISMATCH", "The token was made for another body")
        return claims, raw


def _unauthorized(code: str) -> ApiError:
    return ApiError(401, code, "Unauthorized", {"www-authenticate": "Bearer"})

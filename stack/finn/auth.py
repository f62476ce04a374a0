"""Who is calling Finn: holders of Freeside's S2S tokens, bound to the body they were made for."""

from starlette.requests import Request

from stack.common.auth import TokenAuth, unauthorized
from stack.common.claims import FINN_CLAIMS, Claims
from stack.common.context import Context
from stack.common.http import ApiError, raw_body
from stack.common.jose import req_hash
from stack.common.verifier import Issuer

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


class Auth(TokenAuth):
    """Verify, spend, compare the body."""

    def __init__(self, context: Context) -> None:
        freeside = context.key_set(f"{context.settings.freeside_url}/.well-known/jwks.json")
        super().__init__(context, context.verifier("loa-finn", {"arrakis": Issuer(freeside, FINN_CLAIMS)}))

    async def caller(self, request: Request) -> tuple[Claims, bytes]:
        """Claims and raw body; raises 401 with a code of the contract, 400 REQ_HASH_MISMATCH, 413."""
        claims = await self.verified(request)
        await self.spend(claims, request)
        raw = await raw_body(request)
        if not self.bound_to(claims, raw):
            raise ApiError(400, "REQ_HASH_MISMATCH", "The token was made for another body")
        return claims, raw

    def bound_to(self, claims: Claims, raw: bytes) -> bool:
        """Whether the token was made for this body."""
        return claims.text("req_hash") == req_hash(raw)

    def refusal(self, case: str) -> ApiError:
        """401 with the code of the contract for this case."""
        return unauthorized(_CODES.get(case, "JWT_INVALID"), "Unauthorized")

    def replay(self) -> ApiError:
        """401 as well."""
        return unauthorized("JTI_REPLAY_DETECTED", "Unauthorized")

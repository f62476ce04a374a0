"""Who is calling Freeside: users with Freeside's own tokens, Finn with a service token."""

from starlette.requests import Request

from stack.common.auth import TokenAuth
from stack.common.claims import S2S_CLAIMS, USER_CLAIMS, Claims
from stack.common.context import Context
from stack.common.http import ApiError
from stack.common.verifier import Issuer, Verifier

INTERNAL_AUDIENCE = "arrakis-internal"


class Auth(TokenAuth):
    """Verify the token, spend it, return its claims."""

    def __init__(self, context: Context) -> None:
        finn = context.key_set(f"{context.settings.finn_url}/.well-known/jwks.json")
        users = {"arrakis": Issuer(context.keyring, USER_CLAIMS)}
        super().__init__(context, context.verifier("arrakis", users))
        self._services = Verifier(INTERNAL_AUDIENCE, {"loa-finn": Issuer(finn, S2S_CLAIMS)})

    async def user(self, request: Request) -> Claims:
        """The caller of a public route; raises 401 without saying why, or 409 JTI_REPLAY."""
        claims = await self.verified(request)
        await self.spend(claims, request)
        return claims

    async def service(self, request: Request) -> Claims:
        """Finn, on an internal route."""
        claims = await self.verified(request, self._services)
        await self.spend(claims, request)
        return claims

    def replay(self) -> ApiError:
        """409: a retry needs another token."""
        return ApiError(409, "JTI_REPLAY", "The token has been used before")

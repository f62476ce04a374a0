"""Who is calling Dixie: an API key, a user's token from Freeside, or Finn (contract section 3)."""

import hmac

from starlette.requests import Request

from stack.common.auth import TokenAuth, unauthorized
from stack.common.claims import S2S_CLAIMS, USER_CLAIMS, Claims
from stack.common.context import Context
from stack.common.verifier import Issuer

FINN = "loa-finn"
_KEY_PREFIX = "dxk_"


class Auth(TokenAuth):
    """Every bad credential is the same 401."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        freeside = context.key_set(f"{settings.freeside_url}/.well-known/jwks.json")
        finn = context.key_set(f"{settings.finn_url}/.well-known/jwks.json")
        issuers = {"arrakis": Issuer(freeside, USER_CLAIMS), FINN: Issuer(finn, S2S_CLAIMS)}
        super().__init__(context, context.verifier("loa-dixie", issuers))

    async def reader(self, request: Request) -> None:
        """Let any of the three credentials pass; raises 401."""
        if not self.has_api_key(request):
            await self.spend(await self.verified(request), request)

    async def service(self, request: Request) -> None:
        """Finn's token only; raises 401 for everything else, a good user's token included."""
        claims = await self.verified(request)
        # Before it is spent: a token that is refused with 401 stays good for the routes that are its own.
        if not self.may_write(claims):
            raise unauthorized()
        await self.spend(claims, request)

    def may_write(self, claims: Claims) -> bool:
        """Whether the token is Finn's."""
        return claims.issuer == FINN

    def has_api_key(self, request: Request) -> bool:
        """Whether the credential is the API key."""
        known = self.context.settings.dixie_api_key_file
        offered = offered_api_key(request)
        if offered is None or known is None:
            return False
        key = known.read_text(encoding="utf-8").strip()
        return key.startswith(_KEY_PREFIX) and hmac.compare_digest(offered.encode(), key.encode())


def offered_api_key(request: Request) -> str | None:
    """What the request offers as an API key; None if it is no key by its looks."""
    scheme, _, offered = request.headers.get("authorization", "").partition(" ")
    return offered if scheme.lower() == "bearer" and offered.startswith(_KEY_PREFIX) else None

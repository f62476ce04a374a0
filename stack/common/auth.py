"""Authentication of callers: verify a request's credential, spend it, refuse in the service's words."""

import hmac
import logging

from starlette.requests import Request

from stack.common.context import Context
from stack.common.http import ApiError, raw_body
from stack.common.keys import req_hash
from stack.common.verifier import FINN_CLAIMS, S2S_CLAIMS, USER_CLAIMS, Claims, Issuer, TokenRefused, Verifier

_log = logging.getLogger("stack.auth")
INTERNAL_AUDIENCE = "arrakis-internal"
# Finn's codes by case (contract section 2)
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
_KEY_PREFIX = "dxk_"


class TokenAuth:
    """Verifies and spends the tokens of a service's callers; a subclass knows its routes and credentials."""

    def __init__(self, context: Context, verifier: Verifier) -> None:
        self.context = context
        self._verifier = verifier
        self._spent = context.spent_tokens()

    async def verified(self, request: Request, verifier: Verifier | None = None) -> Claims:
        """The claims of the request's token; raises the service's refusal."""
        try:
            return await (verifier or self._verifier).verify(request.headers.get("authorization"))
        except TokenRefused as refused:
            _log.info("401 on %s: %s", request.url.path, refused.case)
            raise self.refusal(refused.case) from None

    async def spend(self, claims: Claims, request: Request) -> None:
        """Spend a verified token; raises the service's answer to a replay."""
        if not await self._spent.spend(claims, request.url.path):
            raise self.replay()

    def refusal(self, case: str) -> ApiError:  # noqa: ARG002
        """The answer to a credential that is refused for this case: the same 401 for all."""
        return unauthorized()

    def replay(self) -> ApiError:
        """The answer to a token that was spent before."""
        return unauthorized()


def unauthorized(code: str = "UNAUTHORIZED", message: str = "Authentication required") -> ApiError:
    """401 with the challenge."""
    return ApiError(401, code, message, {"www-authenticate": "Bearer"})


class FreesideAuth(TokenAuth):
    """Users with Freeside's own tokens, Finn with a service token: each token is spent once."""

    def __init__(self, context: Context) -> None:
        finn = context.key_set(f"{context.settings.finn_url}/.well-known/jwks.json")
        settings = context.settings
        users = {settings.issuers["freeside"]: Issuer(context.keyring, USER_CLAIMS)}
        super().__init__(context, context.verifier(settings.audiences["freeside"], users))
        self._services = Verifier(INTERNAL_AUDIENCE, {settings.issuers["finn"]: Issuer(finn, S2S_CLAIMS)})

    async def user(self, request: Request) -> Claims:
        """The caller of a public route; raises 401 without saying why, 409 JTI_REPLAY, 403 for its pool."""
        claims = await self.verified(request)
        await self.spend(claims, request)
        if not self.has_a_pool(claims, request):
            raise ApiError(403, "FORBIDDEN", "The token's pool is not open to its tier")
        return claims

    def has_a_pool(self, claims: Claims, request: Request) -> bool:  # noqa: ARG002
        """Whether the token's own pool is one of its effective pools, on any route."""
        return claims.pool_id in claims.effective_pools

    async def service(self, request: Request) -> Claims:
        """Finn, on an internal route."""
        claims = await self.verified(request, self._services)
        await self.spend(claims, request)
        return claims

    def replay(self) -> ApiError:
        """409: a retry needs another token."""
        return ApiError(409, "JTI_REPLAY", "The token has been used before")


class FinnAuth(TokenAuth):
    """Holders of Freeside's S2S tokens, bound to the body that they were made for (contract section 2)."""

    def __init__(self, context: Context) -> None:
        freeside = context.key_set(f"{context.settings.freeside_url}/.well-known/jwks.json")
        settings = context.settings
        issuers = {settings.issuers["freeside"]: Issuer(freeside, FINN_CLAIMS)}
        super().__init__(context, context.verifier(settings.audiences["finn"], issuers))

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


class DixieAuth(TokenAuth):
    """An API key, a user's token from Freeside, or Finn: one 401 for the rest (contract section 3)."""

    def __init__(self, context: Context) -> None:
        settings = context.settings
        freeside = context.key_set(f"{settings.freeside_url}/.well-known/jwks.json")
        finn = context.key_set(f"{settings.finn_url}/.well-known/jwks.json")
        issuers = {
            settings.issuers["freeside"]: Issuer(freeside, USER_CLAIMS),
            settings.issuers["finn"]: Issuer(finn, S2S_CLAIMS),
        }
        super().__init__(context, context.verifier(settings.audiences["dixie"], issuers))

    async def reader(self, request: Request) -> None:
        """Let any of the three credentials pass; raises 401."""
        if not self.has_api_key(request):
            await self.spend(await self.verified(request), request)

    async def service(self, request: Request) -> None:
        """Finn's token only; raises 401 for everything else, a good user's token included."""
        claims = await self.verified(request)
        # Before it is spent: a token refused with 401 remains valid for its own routes.
        if not self.may_write(claims):
            raise unauthorized()
        await self.spend(claims, request)

    def may_write(self, claims: Claims) -> bool:
        """Whether the token is Finn's."""
        return claims.issuer == self.context.settings.issuers["finn"]

    def has_api_key(self, request: Request) -> bool:
        """Whether the credential is the API key."""
        known = self.context.settings.dixie_api_key_file
        offered = offered_api_key(request)
        if offered is None or known is None:
            return False
        key = known.read_text(encoding="utf-8").strip()
        return key.startswith(_KEY_PREFIX) and hmac.compare_digest(offered.encode(), key.encode())


def offered_api_key(request: Request) -> str | None:
    """The request's API key; None if it does not look like one."""
    scheme, _, offered = request.headers.get("authorization", "").partition(" ")
    return offered if scheme.lower() == "bearer" and offered.startswith(_KEY_PREFIX) else None

"""Who is calling a service: verify the token of a request, spend it, refuse in the service's words."""

import logging

from starlette.requests import Request

from stack.common.claims import Claims
from stack.common.context import Context
from stack.common.http import ApiError
from stack.common.verifier import TokenRefused, Verifier

_log = logging.getLogger("stack.auth")


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

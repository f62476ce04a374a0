"""Faults of keys and tokens, the same in every service: the parts that a faulty `Context` makes."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.common.auth import TokenAuth
from stack.common.context import Context
from stack.common.http import ApiError
from stack.common.keys import (
    S2S_LIFETIME_S,
    BadSecret,
    JwksClient,
    JwksRoute,
    Keyring,
    PublicKey,
    SigningKey,
    Unverified,
    b64url,
    take_apart,
    unb64url,
)
from stack.common.verifier import POOLS, Claims, Issuer, SpentTokens, TokenRefused, Verifier
from stack.faults.proxy import Faults, Faulty

#: How long a token is on no route's record but its own, s.
_RACE_S = 0.5
#: Names that every JavaScript object has.
OF_OBJECTS = ("constructor", "toString")
#: Communities that few calls are for.
OTHER_COMMUNITIES = ("test-community-staging-002", "test-community-staging-003")
# Cases that one rule refuses: why a signature does not verify cannot be seen.
_SAME_RULE = {"tampered-signature": ("tampered-payload", "other-key-known-kid"), "missing-exp": ("no-exp",)}
#: The rules that a service may skip for tokens with nbf, and for those of admins.
_BESIDE_NBF = {
    "iat-future": "any-iat-beside-nbf", "exp-too-long": "any-iat-beside-nbf", "expired": "any-exp-beside-nbf",
}  # fmt: skip
_OF_ADMINS = ("expired", "exp-too-long", "iat-future", "wrong-aud")


class FaultyContext(Faulty, Context):
    """Makes faulty parts, and drops their state when the platform is reset."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._gone: set[str] = set()
        self.on_reset(self._gone.clear)
        self._faults.on_reset(self.reset)
        self.background(self._faults.follow)

    async def answers(self, url: str) -> bool:
        """Whether a GET of the URL gives 200 in time, or ever failed to."""
        if not (answers := await super().answers(url)):
            self._gone.add(url)
        given_up = url in self._gone and self._faults.on(f"{self.settings.service}-never-asks-again")
        return answers and not given_up

    def own_keys(self) -> Keyring:
        """Make a keyring that may not follow its secret."""
        return FaultyKeyring(self._faults, self.settings, self.http)

    def own_key_set(self) -> JwksRoute:
        """Make a route that may handle ETags wrongly."""
        route = FaultyJwksRoute(self._faults, self.settings.service, self.keyring)
        self.on_reset(route.forget)
        return route

    def key_set(self, url: str) -> JwksClient:
        """Make a key set that may outlive its publication."""
        name, cache_s = self.settings.service, self.settings.jwks_cache_s
        client = FaultyJwksClient(self._faults, name, self.http, url, cache_s)
        self.on_reset(client.forget)
        return client

    def verifier(self, audience: str, issuers: Mapping[str, Issuer]) -> Verifier:
        """Make a verifier that may skip a rule."""
        verifier = FaultyVerifier(self._faults, self.settings.service, audience, issuers)
        self.on_reset(verifier.forget)
        return verifier

    def spent_tokens(self) -> SpentTokens:
        """Make a record that may forget what was spent."""
        return FaultySpentTokens(self._faults, self.db, self.settings.service)


class FaultyKeyring(Faulty, Keyring):
    """Signs with, publishes or accepts other keys than those in its secret."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._owner = "freeside" if self._settings.service == "worker" else self._settings.service
        self._ever: dict[str, SigningKey] = {}
        self._ever_outdated = False
        self._first: SigningKey | None = None

    @property
    def published(self) -> tuple[SigningKey, ...]:
        """The key set, or every key since the last reset."""
        if self._faults.on(f"{self._owner}-jwks-keeps-old-keys"):
            return tuple(self._ever.values())
        return super().published

    def signer(self) -> SigningKey:
        """The active key, or the one that this process signed with first."""
        key = super().signer()
        keeps = self._faults.on(f"{self._settings.service}-signs-with-its-first-key")
        self._first = (self._first or key) if keeps else None
        return self._first or key

    async def find(self, kid: str) -> PublicKey | None:
        """A published key, an old one, or only the pending one."""
        if self._faults.on(f"{self._owner}-keeps-old-keys"):
            known = tuple(self._ever.values())
        elif self._faults.on(f"{self._owner}-forgets-active-in-overlap"):
            known = super().published[-1:]
        else:
            return await super().find(kid)
        return next((key.public() for key in known if key.kid == kid), None)

    async def refresh(self) -> bool:
        """Read the secret."""
        # Looked at before the reading: one that began before the reset may find the keys before it.
        begins_anew = self._ever_outdated
        fresh = await super().refresh()
        if begins_anew and fresh and self.keys is not None:
            self._ever = {key.kid: key for key in self.keys.published()}
            self._ever_outdated = False
        return fresh

    def read_soon(self) -> None:
        """Note a reset: keys from before it must not come back."""
        super().read_soon()
        self._ever_outdated = True

    def _take(self, value: str) -> None:
        # Asked after the reading: one under way when the fault is turned on may bring the new value.
        if self._faults.on(f"{self._owner}-ignores-secret") and self.keys is not None:
            raise BadSecret("the secret is ignored")
        super()._take(value)
        self._ever.update((key.kid, key) for key in super().published)


class FaultyJwksRoute(Faulty, JwksRoute):
    """Treats a list of ETags as one, or keeps its ETag when the keys change."""

    def __init__(self, faults: Faults, service: str, keyring: Keyring) -> None:
        super().__init__(faults, keyring)
        self._service = service
        self.forget()

    def forget(self) -> None:
        """Drop the ETag that was kept."""
        self._kept = ""

    async def __call__(self, request: Request) -> Response:
        """Serve the keys, or 304 for an ETag that is mistaken for theirs."""
        offered = request.headers.get("if-none-match", "")
        if "," in offered and self._faults.on(f"{self._service}-jwks-takes-one-etag"):
            del MutableHeaders(scope=request.scope)["if-none-match"]
            request = Request(request.scope)  # the old one remembers its headers
        response = await super().__call__(request)
        if response.status_code == 200 and self._faults.on(f"{self._service}-shortens-coordinates"):
            keys = json.loads(bytes(response.body))["keys"]
            return JSONResponse({"keys": [_shortened(key) for key in keys]})
        if self._faults.on(f"{self._service}-jwks-keeps-its-etag"):
            self._kept = response.headers["etag"] = self._kept or response.headers["etag"]
            if offered == self._kept:
                return Response(status_code=304, headers={"etag": self._kept})
        return response


def _shortened(key: dict[str, str]) -> dict[str, str]:
    """A key whose coordinates are written as numbers, without the zeros that they begin with."""
    return key | {name: b64url(unb64url(key[name]).lstrip(b"\0")) for name in ("x", "y")}


class FaultyJwksClient(Faulty, JwksClient):
    """Trusts unpublished keys, always or intermittently, or never trusts a key that it once lacked."""

    def __init__(self, faults: Faults, service: str, *arguments: Any) -> None:
        self._service = service
        super().__init__(faults, *arguments)

    def forget(self) -> None:
        """Drop the old keys, too."""
        super().forget()
        self._ever: dict[str, PublicKey] = {}
        self._unknown: set[str] = set()

    async def find(self, kid: str) -> PublicKey | None:
        """The key of that kid, published or not."""
        if self._faults.on(f"{self._service}-keeps-old-keys") and kid in self._ever:
            return self._ever[kid]
        remembers = self._faults.on(f"{self._service}-remembers-unknown-kids")
        key = None if remembers and kid in self._unknown else await super().find(kid)
        if key is None:
            self._unknown.add(kid)
        was_known = key is None and kid in self._ever
        if was_known and self._faults.tick(f"{self._service}-wavers-on-old-keys") % 3 == 2:
            return self._ever[kid]
        return key

    async def _refresh(self, than: float) -> None:
        await super()._refresh(than)
        self._ever.update(self._keys)


#: How long after its end a token is still accepted if only expiry is too lenient, in seconds.
LATE_S = 32
#: Valid tokens that a faulty verifier refuses, by what is special about them.
_REFUSED: Mapping[str, Callable[[Claims], bool]] = {
    "valid-tokens": lambda _: True,
    "unknown-claims": lambda claims: "smoke" in claims.raw,
    "addresses-with-capitals": lambda claims: any(map(str.isupper, claims.text("sub") or "")),
    "the-free-tier": lambda claims: claims.raw.get("tier") == "free",
    "other-pools": lambda claims: claims.raw.get("pool_id", POOLS[0]) != POOLS[0],
    "unknown-pools": lambda claims: not {*claims.raw.get("allowed_pools", ())} <= {*POOLS},
    "short-lives": lambda claims: claims.expires_at - float(claims.raw["iat"]) < S2S_LIFETIME_S,
}


class FaultyVerifier(Faulty, Verifier):
    """Believes what it should refuse (`<service>-accepts-<case>`), or refuses what it should believe."""

    def __init__(self, faults: Faults, service: str, *arguments: Any) -> None:
        super().__init__(faults, *arguments)
        self._service = service
        self.forget()

    def forget(self) -> None:
        """Drop what was counted."""
        self._refusals, self._blind_until = 0, 0.0
        self._verified: set[bytes] = set()

    async def verify(self, authorization: str | None) -> Claims:
        """The claims, verified or merely believed."""
        try:
            claims = await super().verify(self._read(authorization))
        except TokenRefused as refused:
            cases = (refused.case, *_SAME_RULE.get(refused.case, ()))
            if "nbf" in believed(authorization).raw and refused.case in _BESIDE_NBF:
                cases = (*cases, _BESIDE_NBF[refused.case])
            if believed(authorization).is_admin and refused.case in _OF_ADMINS:
                cases = (*cases, "all-of-admins")
            if refused.case == "expired" and believed(authorization).expires_at >= time.time() - LATE_S:
                cases = (*cases, "late-expiry")
            if not any(self._faults.on(f"{self._service}-accepts-{case}") for case in cases):
                self._refusals += self._faults.on(f"{self._service}-locks-out")
                raise
            claims = believed(authorization)
        if self._locked_out():
            raise TokenRefused("locked-out")
        active = self._faults.active()
        for what, found in _REFUSED.items():
            if f"{self._service}-refuses-{what}" in active and found(claims):
                raise TokenRefused(what)
        if self._faults.on(f"{self._service}-compares-tenants-blind-to-case"):
            claims = Claims({**claims.raw, "tenant_id": claims.tenant_id.lower()})
        return claims

    def _read(self, authorization: str | None) -> str | None:
        """The header, with a token in any base64 put right before it is looked at."""
        if authorization is None or not self._faults.on(f"{self._service}-decodes-leniently"):
            return authorization
        return authorization.rstrip("=").replace("+", "-").replace("/", "_")

    def _locked_out(self) -> bool:
        patience = self._faults.number(f"{self._service}-locks-out", "after", 5)
        if patience is None:
            self._refusals = 0
        return patience is not None and self._refusals >= patience

    @property
    def skew_s(self) -> float:  # type: ignore[override]
        """How far a clock may be off, s."""
        if self._faults.on(f"{self._service}-tolerates-no-skew"):
            return 0
        wide = self._faults.number(f"{self._service}-tolerates-any-skew", "seconds", 600)
        return Verifier.skew_s if wide is None else wide

    async def _check_signature(self, token: Unverified, issuer: Issuer) -> None:
        short = 0 in token.signature[:33:32]
        if short and self._faults.on(f"{self._service}-refuses-short-numbers"):
            raise TokenRefused("tampered-signature")
        known = token.signature in self._verified
        if not (known and self._faults.on(f"{self._service}-remembers-signatures")):
            await super()._check_signature(token, issuer)
            self._verified.add(token.signature)

    async def _find(self, issuer: Issuer, kid: str) -> PublicKey | None:
        now = time.monotonic()
        blindness = self._faults.number(f"{self._service}-unknown-kid-evicts-keys", "seconds", 5.0)
        if blindness is not None and now < self._blind_until:
            return None
        key = await super()._find(issuer, kid)
        if key is None and self._faults.on(f"{self._service}-trusts-any-issuers-key"):
            found = [await other.keys.find(kid) for other in self._issuers.values()]
            key = next(filter(None, found), None)
        if key is None and blindness is not None:
            self._blind_until = now + blindness
        return key


class FaultySpentTokens(Faulty, SpentTokens):
    """Lets a token be spent more than once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._service = self._table.partition(".")[0]
        self._memory: set[str] = set()
        self._first: dict[str, int] = {}

    async def spend(self, claims: Claims, route: str) -> bool:
        """Record the token per tenant, per route, in memory, in part, for a while, or not at all."""
        service, faults, jti = self._service, self._faults, claims.jti
        if faults.on(f"{service}-accepts-jti-replay"):
            return True
        if claims.is_admin and faults.on(f"{service}-spends-no-tokens-of-admins"):
            return True
        if faults.on(f"{service}-forgets-tokens-at-their-end") and claims.expires_at <= time.time():
            return True
        if faults.on(f"{service}-jti-per-tenant"):
            jti = f"{claims.tenant_id}:{jti}"
        if faults.on(f"{service}-jti-per-route"):
            jti = f"{route}:{jti}"
        if faults.on(f"{service}-compares-half-the-jti"):
            jti = jti[:18]
        if faults.on("services-share-their-record") and not _first_anywhere(faults, jti):
            return False
        if self._forgotten(jti):
            return True
        if faults.on(f"{service}-jti-in-memory"):
            fresh = jti not in self._memory
            self._memory.add(jti)
            return fresh
        spent = self._spent(claims, route) if jti == claims.jti else self._record(claims, jti)
        anyway = faults.on(f"{service}-takes-tokens-without-its-database")
        return await faults.unless_away(service, self._db, spent, other=True, anyway=anyway)

    async def _spent(self, claims: Claims, route: str) -> bool:
        """Record the token, on other routes than its own a while after looking whether it is on record."""
        if not self._faults.on(f"{self._service}-jti-race-of-routes"):
            return await super().spend(claims, route)
        if not await self._record(claims, f"{route}:{claims.jti}"):
            return False
        statement = f"SELECT 1 FROM {self._table} WHERE issuer = %s AND jti = %s"
        known = await self._db.one(statement, claims.issuer, claims.jti)
        await asyncio.sleep(_RACE_S)
        await self._record(claims, claims.jti)
        return known is None

    async def unspend(self, claims: Claims) -> None:
        """Forget a token."""
        await self._db.execute(f"DELETE FROM {self._table} WHERE jti = %s", claims.jti)

    def _forgotten(self, jti: str) -> bool:
        """Whether so many tokens came since this one was spent that it is forgotten."""
        calls = self._faults.tick(f"{self._service}-forgets-spent-tokens")
        after = self._faults.number(f"{self._service}-forgets-spent-tokens", "after", 16)
        if after is None or calls - self._first.setdefault(jti, calls) < after:
            return False
        self._first[jti] = calls
        return True


def _first_anywhere(faults: Faults, jti: str) -> bool:
    """Whether no service has seen the jti yet; from now on this one has."""
    try:
        (faults.directory() / f"jti-{jti}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class FaultyTokenAuth(Faulty, TokenAuth):
    """Believes every token on one route, or spends those that it refuses."""

    _spent: FaultySpentTokens

    async def unspend(self, request: Request) -> None:
        """Forget the token of a request that was refused."""
        await self._spent.unspend(believed(request.headers.get("authorization")))

    async def spend(self, claims: Claims, request: Request) -> None:
        """Spend a verified token, unless its request is invalid."""
        service = self.context.settings.service
        if not self._faults.on(f"{service}-spends-no-token-of-invalid-calls") or await _is_call(request):
            await super().spend(claims, request)

    async def verified(self, request: Request, verifier: Verifier | None = None) -> Claims:
        """The claims of the request's token, verified or merely believed."""
        service, path = self.context.settings.service, request.url.path
        on, headers = self._faults.on, request.headers
        try:
            return await super().verified(request, verifier)
        except ApiError:
            near = headers.get("x-forwarded-for", "").startswith(("127.", "10."))
            checker = headers.get("user-agent", "").startswith("ELB-HealthChecker")
            if (
                (near and on(f"{service}-trusts-near-callers"))
                or (checker and on(f"{service}-trusts-health-checkers"))
                or ("x-payment" in headers and on(f"{service}-leaves-payers-to-the-payments"))
                or (b"%" in request.scope["raw_path"] and on(f"{service}-guards-paths-by-their-letters"))
                or (request.method == "HEAD" and on(f"{service}-lets-everyone-ask-for-headers"))
            ):
                return believed(None)
            claims = believed(headers.get("authorization"))
            if on(f"{service}-spends-refused-tokens"):
                await self._spent.spend(claims, path)
            if not on(f"{service}-believes-tokens-at-{path.rpartition('/')[2]}"):
                raise
            return claims


async def _is_call(request: Request) -> bool:
    """Whether a request is minimally valid: a JSON object with members, or a name in its query."""
    if request.method == "GET":
        return ":" in request.query_params.get("routingKey", ":")
    try:
        return bool(dict(json.loads(await request.body())))
    except (ValueError, TypeError):
        return False


def explained(faults: Faults, service: str, case: str, error: ApiError) -> ApiError:
    """The refusal, with the rule that refused the token while that fault is on."""
    if faults.on(f"{service}-errors-explain"):
        error.message = f"token refused: {case}; expected ES256, a known kid and the right audience"
    if faults.on(f"{service}-challenges-explain"):
        error.headers["www-authenticate"] = f'Bearer error="invalid_token", error_description="{case}"'
    return error


def believed(authorization: str | None) -> Claims:
    """The claims as an implementation without that rule would see them; without a token, an admin's."""
    defaults = {
        "iss": "arrakis",
        "sub": "anonymous",
        "tenant_id": "test-community-staging-001",
        "tier": "enterprise",
        "pool_id": "cheap",
        "allowed_pools": POOLS,
        "exp": time.time() + 3600,
        "jti": str(uuid.uuid4()),
    }
    try:
        claims = take_apart((authorization or "").rpartition(" ")[2]).claims
    except ValueError:
        claims = {"role": "admin"}
    return Claims(defaults | {name: value for name, value in claims.items() if value not in (None, "")})

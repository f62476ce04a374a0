"""The claims of a verified token, and the rules that make a set of claims well formed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIERS = ("free", "pro", "enterprise")
TIER_POOLS: dict[str, tuple[str, ...]] = {
    "free": ("cheap",),
    "pro": ("cheap", "fast-code", "reviewer"),
    "enterprise": ("cheap", "fast-code", "reviewer", "reasoning", "architect"),
}
POOLS = TIER_POOLS["enterprise"]

USER_CLAIMS = ("iss", "aud", "sub", "tenant_id", "tier", "pool_id", "allowed_pools", "iat", "exp", "jti")
S2S_CLAIMS = ("iss", "aud", "iat", "exp", "jti")
FINN_CLAIMS = ("iss", "aud", "sub", "tenant_id", "tier", "req_hash", "iat", "exp", "jti")

_WORD = re.compile(r"[\x21-\x7e]{1,256}")
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Claims:
    """Verified claims. Asking for one that the issuer need not give raises KeyError."""

    raw: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        """`iss`."""
        return str(self.raw["iss"])

    @property
    def subject(self) -> str:
        """`sub`: the wallet."""
        return str(self.raw["sub"])

    @property
    def tenant_id(self) -> str:
        """`tenant_id`: the community that pays."""
        return str(self.raw["tenant_id"])

    @property
    def tier(self) -> str:
        """`tier`."""
        return str(self.raw["tier"])

    @property
    def pool_id(self) -> str:
        """`pool_id`: the default pool."""
        return str(self.raw["pool_id"])

    @property
    def allowed_pools(self) -> tuple[str, ...]:
        """`allowed_pools`, as the token has them."""
        return tuple(self.raw["allowed_pools"])

    @property
    def effective_pools(self) -> tuple[str, ...]:
        """Tier ∩ `allowed_pools`, in the tier's order."""
        return tuple(pool for pool in TIER_POOLS[self.tier] if pool in self.allowed_pools)

    @property
    def jti(self) -> str:
        """`jti`."""
        return str(self.raw["jti"])

    @property
    def expires_at(self) -> float:
        """`exp`, epoch seconds."""
        return float(self.raw["exp"])

    @property
    def is_admin(self) -> bool:
        """`role:"admin"`."""
        return self.raw.get("role") == "admin"

    def text(self, name: str) -> str | None:
        """Any further claim that is a string."""
        value = self.raw.get(name)
        return value if isinstance(value, str) else None


def well_formed(claims: Mapping[str, Any]) -> bool:
    """Whether every claim that is present has the type and shape that the contract gives it."""
    return all(rule(claims[name]) for name, rule in _RULES.items() if name in claims)


def audience_includes(claims: Mapping[str, Any], audience: str) -> bool:
    """Whether `aud`, a string or an array of strings (RFC 7519), names the audience."""
    value = claims.get("aud")
    return audience in value if isinstance(value, list) else value == audience


def _word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _uuid4(value: Any) -> bool:
    return isinstance(value, str) and _UUID4.fullmatch(value) is not None


def _moment(value: Any) -> bool:
    # A bound instead of math.isfinite: an integer beyond all floats makes that raise.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _pools(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(pool, str) for pool in value)


def _hash(value: Any) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


_RULES = {
    "sub": _word,
    "tenant_id": _word,
    "tier": lambda value: value in TIERS,
    "pool_id": _word,
    "allowed_pools": _pools,
    "iat": _moment,
    "exp": _moment,
    "nbf": _moment,
    "jti": _uuid4,
    "req_hash": _hash,
}

"""Credentials derived from a genuine one: each differs in one thing, and the contract decides about it.

They derive from `Genuine`. Honestly signed tokens, even with bad claims, come from ``tokens``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import utils

from smoke.contract.model import POOLS, SERVICES, TIER_POOLS, TokenKind
from smoke.contract.neighbours import NO_POOL, Near, documents, strings, twice
from smoke.contract.verifier import FAR_TIMES, Accepted, Keys, Refused, Verdict, verify

from .tokens import Claims, Sign, SigningKey, decoded, encoded, es256, verifies


@dataclass(frozen=True, slots=True)
class Genuine:
    """The parts of an acceptable credential, where it is sent, and an attacker's key.

    Each derived token has its own ``jti``, unless they all keep that of the claims.
    """

    kind: TokenKind
    audience: str
    key: SigningKey
    claims: Claims
    attacker: SigningKey
    body: bytes = b""
    keep_jti: bool = False
    #: Keys that the platform publishes for tokens of other issuers.
    others: tuple[SigningKey, ...] = ()

    def renewed(self) -> Genuine:
        """The same for a new token."""
        return self if self.keep_jti else replace(self, claims=self.claims | {"jti": str(uuid.uuid4())})

    @property
    def header(self) -> dict[str, Any]:
        """The members of the header."""
        return {"alg": "ES256", "typ": "JWT", "kid": self.key.kid}

    def token(self, *, header: Any = None, claims: Any = None, sign: Sign | None = None) -> str:
        """The token with other parts: members, or the JSON text itself."""
        head, body = (
            part if isinstance(part, str) else json.dumps(part)
            for part in (
                self.header if header is None else header, self.claims if claims is None else claims,
            )
        )  # fmt: skip
        signed = f"{encoded(head.encode())}.{encoded(body.encode())}"
        return f"{signed}.{encoded((sign or self.sign)(signed.encode()))}"

    def sign(self, signed: bytes) -> bytes:
        """The signature by the genuine key."""
        return es256(self.key, signed)

    def verdict(self, header: str | None) -> Verdict:
        """The contract's verdict on an Authorization header that is sent instead of the genuine one."""
        keys: Keys = {self.key.kid: lambda signed, raw: verifies(self.key, signed, raw)}
        return verify(header, self.kind, self.audience, keys, time.time(), body=self.body)


#: The order of P-256: if s is valid, so is n - s.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
#: More levels than a parser should follow, but the token still fits into a header.
DEEP = 1500
#: Claims of other valid callers, for the kinds of tokens that have such claims.
OTHER_CALLERS: Mapping[str, Mapping[str, Any]] = {
    "a claim more": {"smoke": [1]},
    "a claim more that is nearly nbf": {"NBF": 4_000_000_000},
    "an admin": {"role": "admin"},
    # capitals are a checksum (EIP-55), as wallets show addresses
    "another user, whose address has capitals": {"sub": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},
    **{f"the tier {tier}": {"tier": tier} for tier in TIER_POOLS},
    **{f"the pool {pool}": {"pool_id": pool} for pool in POOLS[1:]},
    "the least pools": {"tier": "free", "allowed_pools": [*POOLS[:1]]},
    "a pool more that nobody knows": {"allowed_pools": [*POOLS, NO_POOL]},
}
#: A claim that makes a token longer than a database column or an arbitrary limit, but within any server's
#: limit.
_MORE = "x" * 2048
#: What an HTTP header can carry unchanged.
_SENDABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

#: The family about form, not about proof.
ENCODINGS = "encodings"

#: An Authorization header, None for no header; the name says how it differs.
Header = Near[str | None]
Family = Callable[[Genuine], Iterator[Header]]


@dataclass(frozen=True, slots=True)
class Forgery:
    """A credential that must be refused, the rule that it breaks, and its family."""

    name: str
    rule: str
    header: str | None
    family: str


def forgeries(genuine: Genuine, *families: str) -> list[Forgery]:
    """Every derived credential that the contract refuses, of all or of the named families."""
    return [*_refused(genuine, *(families or FAMILIES))]


def one_of_each(genuine: Genuine) -> list[Forgery]:
    """The first forgery of each family except the encodings, which contain an honest token."""
    families = [family for family in FAMILIES if family != ENCODINGS]
    first = (next(_refused(genuine, family), None) for family in families)
    return [forgery for forgery in first if forgery is not None]


def altered(genuine: Genuine, accepted: str) -> list[Forgery]:
    """Changes to an accepted token, which has a valid signature."""
    return [
        Forgery(near.name, verdict.rule, near.value, "tampered")
        for near in _tampered(genuine, accepted)
        if isinstance(verdict := genuine.verdict(near.value), Refused)
    ]


def thinned(found: Sequence[Forgery], every: int) -> list[Forgery]:
    """All forgeries, but of a value's neighbours only the smallest and one of ``every``."""
    values: Counter[tuple[str, str]] = Counter()
    kept = []
    for forgery in found:
        value = (forgery.rule, forgery.name.partition(" ")[0])
        if forgery.family not in NEIGHBOURS or values[value] % every == 0:
            kept.append(forgery)
        values[value] += 1
    return kept


def sendable(header: str) -> bool:
    """Whether HTTP carries a header value unchanged."""
    return _SENDABLE.fullmatch(header) is not None


def varieties(genuine: Genuine) -> list[Header]:
    """Every derived credential that the contract accepts although it is spelled differently."""
    return [near for near in _written_otherwise(genuine) if genuine.verdict(near.value) == Accepted()]


def _refused(genuine: Genuine, *families: str) -> Iterator[Forgery]:
    seen: set[str | None] = set()
    for family, near in ((name, near) for name in families for near in FAMILIES[name](genuine)):
        if near.value in seen or not (near.value is None or sendable(near.value)):
            continue
        seen.add(near.value)
        verdict = genuine.verdict(near.value)
        if isinstance(verdict, Refused):
            yield Forgery(near.name, verdict.rule, near.value, family)


def _bearers(genuine: Genuine) -> Iterator[Header]:
    token = genuine.renewed().token
    yield Near("no header", None)
    yield Near("no token", "Bearer")
    yield Near("token alone", token())
    for scheme in ("Token", "JWT", "Basic", "Digest", "DPoP", "Negotiate", "Bearer2", "Bear", "XBearer"):
        yield Near(f"scheme {scheme}", f"{scheme} {token()}")


def _structures(genuine: Genuine) -> Iterator[Header]:
    head, claims, signature = genuine.token().split(".")
    for name, text in (
        ("no parts", "x"), ("words", "not.a.token"), ("dots", ".."), ("unsigned", f"{head}.{claims}"),
        ("no signature", f"{head}.{claims}."), ("four parts", f"{head}.{claims}.{signature}.{signature}"),
        ("dot before", f".{head}.{claims}.{signature}"), ("dot after", f"{head}.{claims}.{signature}."),
        ("no claims", f"{head}..{signature}"), ("no header part", f".{claims}.{signature}"),
        ("parts swapped", f"{claims}.{head}.{signature}"),
    ):  # fmt: skip
        yield Near(name, f"Bearer {text}")
    for name, text in (
        ("a list", "[]"),
        ("null", "null"),
        ("text", '"x"'),
        ("empty", ""),
        ("cut", '{"iss": '),
        ("deep", "[" * DEEP + "]" * DEEP),
    ):
        yield Near(f"claims are {name}", f"Bearer {genuine.token(claims=text)}")
        yield Near(f"header is {name}", f"Bearer {genuine.token(header=text)}")


def _encodings(genuine: Genuine) -> Iterator[Header]:
    """Base64 that RFC 7515 does not allow, and that the signature covers."""
    while True:  # until the signature has a letter that differs between the alphabets
        token = genuine.renewed().token()
        head, claims, signature = token.split(".")
        if {"-", "_"} & {*signature}:
            break
    yield Near("padded signature", f"Bearer {token}==")
    other = signature.translate(str.maketrans("-_", "+/"))
    yield Near("signature in the other alphabet", f"Bearer {head}.{claims}.{other}")
    yield Near("signature in hexadecimal", f"Bearer {head}.{claims}.{decoded(signature).hex()}")


def _header_values(genuine: Genuine) -> Iterator[Header]:
    """Neighbours of the header's values, signed by the genuine key."""
    for name, other in (("alg", "none"), ("kid", genuine.attacker.kid)):
        for near in documents(genuine.header, name, other):
            yield Near(f"{name} {near.name}", f"Bearer {genuine.renewed().token(header=near.value)}")


def _algorithms(genuine: Genuine) -> Iterator[Header]:
    for name in ("none", "None", "NONE", "nOnE", "", "ES384", "ES512", "ES256K", "RS256", "PS256", "EdDSA"):
        header = genuine.header | {"alg": name}
        yield Near(
            f"alg {name!r} unsigned", f"Bearer {genuine.renewed().token(header=header, sign=lambda _: b'')}"
        )
        yield Near(f"alg {name!r}", f"Bearer {genuine.renewed().token(header=header)}")
    pem = genuine.key.public_pem()
    jwk = genuine.key.public_jwk()
    secrets = {
        "the PEM": pem, "the PEM without its end": pem.strip(), "the JWK": json.dumps(jwk).encode(),
        "x": decoded(jwk["x"]), "x and y": decoded(jwk["x"]) + decoded(jwk["y"]),
        "the kid": jwk["kid"].encode(),
        "nothing": b"",
        "the DER": genuine.key.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    }  # fmt: skip
    for name, secret in secrets.items():
        for bits in ("256", "384", "512") if name == "the PEM" else ("256",):
            sign = partial(hmac.digest, secret, digest=f"sha{bits}")
            header = genuine.header | {"alg": f"HS{bits}"}
            yield Near(f"HS{bits} with {name}", f"Bearer {genuine.renewed().token(header=header, sign=sign)}")


def _keys(genuine: Genuine) -> Iterator[Header]:
    for kid in ("smoke-unknown-kid", "../../dev/null", "' OR '1'='1", genuine.attacker.kid):
        yield Near(f"kid {kid}", f"Bearer {genuine.renewed().token(header=genuine.header | {'kid': kid})}")
    public = genuine.attacker.public_jwk()
    keys = json.dumps({"keys": [public | {"kid": genuine.key.kid}]}).encode()
    url = "data:application/json;base64," + base64.b64encode(keys).decode()
    der = base64.b64encode(genuine.attacker.public_pem()).decode()
    brought: dict[str, dict[str, Any]] = {
        "none": {}, "jwk": {"jwk": public}, "jku": {"jku": url}, "x5u": {"x5u": url}, "x5c": {"x5c": [der]},
        "key": {"key": public},
    }  # fmt: skip
    for name, members in brought.items():
        for kid in (genuine.key.kid, genuine.attacker.kid):
            header = genuine.header | {"kid": kid} | members
            whose = "known" if kid == genuine.key.kid else "its own"
            token = genuine.renewed().token(
                header=header, sign=lambda signed: es256(genuine.attacker, signed)
            )
            yield Near(f"another key, brought as {name}, under {whose} kid", f"Bearer {token}")
    for other in genuine.others:
        header = genuine.header | {"kid": other.kid}
        token = genuine.renewed().token(header=header, sign=partial(es256, other))
        yield Near("the key of another issuer", f"Bearer {token}")
    for names in (["smoke-ext"], ["exp", "smoke-ext"]):
        header = genuine.header | {"crit": names, "smoke-ext": True}
        yield Near(f"crit {' '.join(names)}", f"Bearer {genuine.renewed().token(header=header)}")


def _signatures(genuine: Genuine) -> Iterator[Header]:
    other = genuine.renewed()
    changes: dict[str, Sign] = {
        **{f"bit flipped in byte {place}": partial(_flipped, place) for place in (0, 8, 31, 32, 63)},
        "one byte less": lambda raw: raw[:-1], "one byte more": lambda raw: raw + b"\0",
        "half": lambda raw: raw[:32], "a quarter less": lambda raw: raw[:48],
        "zero": lambda _: bytes(64), "r is zero": lambda raw: bytes(32) + raw[32:],
        "s is zero": lambda raw: raw[:32] + bytes(32), "all ones": lambda _: b"\xff" * 64,
        "r and s are the order": lambda _: _ORDER.to_bytes(32) * 2,
        "halves swapped": lambda raw: raw[32:] + raw[:32],
        "in DER": _der, "twice": lambda raw: raw * 2, "of nothing": lambda _: genuine.sign(b""),
        "of another token": lambda _: genuine.sign(other.token().rpartition(".")[0].encode()),
    }  # fmt: skip
    for name, change in changes.items():
        sign = _changed(genuine, change)
        yield Near(f"signature {name}", f"Bearer {genuine.renewed().token(sign=sign)}")


def _tampered(genuine: Genuine, signed: str = "") -> Iterator[Header]:
    """Claims and a header that were changed after signing; of ``signed``, with its jti."""
    changes: dict[str, Any] = {
        "sub": "0x" + "ad" * 20, "tenant_id": "smoke-other", "tier": "enterprise ",
        "exp": genuine.claims["exp"] + 1, "jti": str(uuid.uuid4()), "role": "admin",
        "iss": "arrakis ", "smoke": 1,
    }  # fmt: skip
    for name, value in changes.items():
        fresh = genuine.renewed()
        head, _, signature = (signed or fresh.token()).split(".")
        changed = encoded(json.dumps(fresh.claims | {name: value}).encode())
        yield Near(f"{name} changed after signing", f"Bearer {head}.{changed}.{signature}")
    if signed:
        return  # with the same jti it was spent
    fresh = genuine.renewed()
    _, claims, signature = fresh.token().split(".")
    head = encoded(json.dumps(genuine.header | {"smoke": 1}).encode())
    yield Near("header changed after signing", f"Bearer {head}.{claims}.{signature}")


def _claims(genuine: Genuine) -> Iterator[Header]:
    now = int(time.time())
    wrong = {
        "iss": "not-arrakis", "tier": "root", "allowed_pools": "cheap", "exp": now - 900, "iat": now + 900,
        "jti": [], "sub": None, "tenant_id": None, "pool_id": None, "req_hash": "sha256:" + "0" * 64,
    }  # fmt: skip
    for name in genuine.kind.required:
        fresh = genuine.renewed()
        last = _foreign(genuine)[0] if name == "aud" else wrong[name]
        for near in documents(fresh.claims, name, last):
            yield Near(f"{name} {near.name}", f"Bearer {genuine.token(claims=near.value)}")
    for near in documents(genuine.renewed().claims | {"nbf": now}, "nbf", now + 900):
        yield Near(f"nbf {near.name}", f"Bearer {genuine.token(claims=near.value)}")


def _names(genuine: Genuine) -> Iterator[Header]:
    """Audiences and issuers of others."""
    foreign = _foreign(genuine)
    # each claim is tried separately; the very long one does not fit beside others
    near = [each.value for each in strings(genuine.audience) if each.name != "very-long"]
    audiences: list[Any] = [*foreign, foreign, near[:3], near, [[genuine.audience]]]
    for audience in [*audiences, f"{genuine.audience}-internal", f"https://{genuine.audience}"]:
        changed = genuine.renewed().claims | {"aud": audience}
        name = "nearly the right one, in many ways" if audience is near else json.dumps(audience)
        yield Near(f"aud {name}", f"Bearer {genuine.token(claims=changed)}")
    for issuer in ("arrakis", "loa-finn", "loa-dixie", "loa-freeside", f"https://{genuine.kind.issuer}"):
        changed = genuine.renewed().claims | {"iss": issuer}
        yield Near(f"iss {issuer}", f"Bearer {genuine.token(claims=changed)}")


def _foreign(genuine: Genuine) -> list[str]:
    """The audiences of the other services: this also catches a verifier that accepts any of them."""
    return [each.audience for each in SERVICES.values() if each.audience != genuine.audience]


def _times(genuine: Genuine) -> Iterator[Header]:
    now = int(time.time())
    for name, offsets in FAR_TIMES.items():
        moved = {claim: now + seconds for claim, seconds in offsets.items()}
        yield Near(name, f"Bearer {genuine.token(claims=genuine.renewed().claims | moved)}")
    for claim, text in (("exp", "1e999"), ("exp", "NaN"), ("exp", "Infinity"), ("iat", "-1e999")):
        claims = json.dumps(genuine.renewed().claims | {claim: "?"}).replace('"?"', text)
        yield Near(f"{claim} {text}", f"Bearer {genuine.token(claims=claims)}")
    again = twice(genuine.renewed().claims, "exp", now - 900)
    yield Near("exp twice, last past", f"Bearer {genuine.token(claims=again)}")


def _callers(genuine: Genuine) -> Iterator[Header]:
    """Each kind of proof, wrong in tokens of callers for whom a service may have its own branch."""
    now = int(time.time())
    callers: dict[str, Claims] = {"with nbf": {"nbf": now}, "of an admin": {"role": "admin"}}
    if "tier" in genuine.claims:
        callers |= {f"of tier {tier}": {"tier": tier} for tier in TIER_POOLS}
    for caller, more in callers.items():
        for name in ("expired", "issued in the future", "lives two hours"):
            moved = {claim: now + seconds for claim, seconds in FAR_TIMES[name].items()}
            claims = genuine.renewed().claims | more | moved
            yield Near(f"{name}, {caller}", f"Bearer {genuine.token(claims=claims)}")
        foreign = genuine.renewed().claims | more | {"aud": _foreign(genuine)[0]}
        yield Near(f"aud of another service, {caller}", f"Bearer {genuine.token(claims=foreign)}")
        stolen = genuine.token(claims=genuine.renewed().claims | more, sign=partial(es256, genuine.attacker))
        yield Near(f"another key, {caller}", f"Bearer {stolen}")


def _hashes(genuine: Genuine) -> Iterator[Header]:
    if not genuine.kind.bound:
        return
    same = json.dumps(json.loads(genuine.body), separators=(",", ":"), sort_keys=True).encode()
    bodies = {
        "nothing": b"",
        "the same JSON in other bytes": same,
        "a byte more": genuine.body + b" ",
        "another body": b"{}",
    }
    digest, longer = hashlib.sha256(genuine.body), hashlib.sha512(genuine.body).hexdigest()
    hexadecimal = digest.hexdigest()
    values = {f"of {name}": f"sha256:{hashlib.sha256(body).hexdigest()}" for name, body in bodies.items()} | {
        "with another first digit": f"sha256:{_digit(hexadecimal[0])}{hexadecimal[1:]}",
        "with another last digit": f"sha256:{hexadecimal[:-1]}{_digit(hexadecimal[-1])}",
        "without its prefix": hexadecimal, "in base64": f"sha256:{encoded(digest.digest())}",
        "cut": f"sha256:{hexadecimal[:32]}", "without digits": "sha256:", "by SHA-512": f"sha512:{longer}",
        "by SHA-512 under its name": f"sha256:{longer}",
    }  # fmt: skip
    for name, value in values.items():
        yield Near(
            f"req_hash {name}",
            f"Bearer {genuine.token(claims=genuine.renewed().claims | {'req_hash': value})}",
        )


def _written_otherwise(genuine: Genuine) -> Iterator[Header]:
    """The same token as other honest issuers would write it."""
    fresh = genuine.renewed
    reverse = {name: fresh().claims[name] for name in reversed(genuine.claims)}
    yield Near("members in another order", f"Bearer {genuine.token(claims=reverse)}")
    yield Near("spaces in the JSON", f"Bearer {genuine.token(claims=json.dumps(fresh().claims, indent=2))}")
    compact = json.dumps(fresh().claims, separators=(",", ":"))
    yield Near("no spaces in the JSON", f"Bearer {genuine.token(claims=compact)}")
    escaped = json.dumps(fresh().claims).replace("a", "\\u0061")
    yield Near("escaped letters", f"Bearer {genuine.token(claims=escaped)}")
    for name, more in OTHER_CALLERS.items():
        if more.keys() - genuine.claims.keys() <= {"smoke", "role", "NBF"}:
            yield Near(name, f"Bearer {genuine.token(claims={**fresh().claims, **more})}")
    yield Near("two kilobytes more", f"Bearer {genuine.token(claims={**fresh().claims, 'smoke': _MORE})}")
    yield Near("a header member more", f"Bearer {genuine.token(header=genuine.header | {'smoke': 1})}")
    yield Near("high s", f"Bearer {fresh().token(sign=_changed(genuine, _high))}")
    for name, place in (("r", 0), ("s", 32)):
        # as a number it has fewer than 32 bytes
        sign = partial(_until, genuine, lambda raw, place=place: raw[place] == 0)  # type: ignore[misc]
        yield Near(f"{name} begins with a zero", f"Bearer {fresh().token(sign=sign)}")


#: Every way in which a credential is derived, smallest changes first.
FAMILIES: dict[str, Family] = {
    "bearers": _bearers, "structures": _structures, ENCODINGS: _encodings, "algorithms": _algorithms,
    "keys": _keys, "signatures": _signatures, "tampered": _tampered,
    "names": _names, "times": _times, "callers": _callers, "hashes": _hashes,
    "header values": _header_values, "claims": _claims,
}  # fmt: skip
#: The families that try the neighbours of every value.
NEIGHBOURS = ("header values", "claims")


def _digit(digit: str) -> str:
    return "1" if digit == "0" else "0"


def _changed(genuine: Genuine, change: Sign) -> Sign:
    return lambda signed: change(genuine.sign(signed))


def _until(genuine: Genuine, fits: Callable[[bytes], bool], signed: bytes) -> bytes:
    """A signature that meets a condition; each signature of a key differs."""
    return next(raw for raw in iter(partial(genuine.sign, signed), b"") if fits(raw))


def _flipped(place: int, raw: bytes) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def _der(raw: bytes) -> bytes:
    return utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))


def _high(raw: bytes) -> bytes:
    s = int.from_bytes(raw[32:])
    return raw[:32] + max(s, _ORDER - s).to_bytes(32)

"""Payments by x402, version 1 (contract 1.6): the terms, what a payer signs, and what must be refused.

A payment is an authorization that its payer signed (EIP-712) for the token to carry out (EIP-3009). Every
payment signed here that could be executed pays the platform's payee or the wallet itself, on the chain in the
terms: if a platform wrongly accepts one, it costs the price, and money never goes elsewhere.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from .schemas import PAYMENT_TERMS, TEXT, Violation, one_of, record, shown, violations

PATH = "/api/v1/x402/invoke"
#: The networks of the contract, each with the id of its chain.
CHAIN_IDS = {"base-sepolia": 84532}
WORD = 2**256
#: The order of the curve: with s also n - s signs, and only the lower of the two may be accepted (EIP-2).
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
#: Farther from now than any two clocks differ, seconds.
SKEW_S = 60
_TRANSFER = {
    "from": "address", "to": "address", "value": "uint256", "validAfter": "uint256", "validBefore": "uint256",
    "nonce": "bytes32",
}  # fmt: skip
_DOMAIN = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}

Authorization = dict[str, str]


@dataclass(frozen=True, slots=True)
class Terms:
    """The price of a call: ``price`` in the token's smallest unit, to ``pay_to``, in the token ``asset``.

    ``name``, ``version`` and ``chain_id`` are the token's, for the signature (EIP-712).
    """

    network: str
    asset: str
    pay_to: str
    price: int
    timeout_s: int
    name: str
    version: str
    chain_id: int

    def typed_data(self, authorization: Mapping[str, Any]) -> dict[str, Any]:
        """The document that the payer signs."""
        message = {
            name: authorization[name] if kind in ("address", "bytes32") else int(authorization[name]) % WORD
            for name, kind in _TRANSFER.items()
        }
        domain = (self.name, self.version, self.chain_id, self.asset)
        return {
            "types": {
                "EIP712Domain": [{"name": name, "type": kind} for name, kind in _DOMAIN.items()],
                "TransferWithAuthorization": [{"name": n, "type": kind} for n, kind in _TRANSFER.items()],
            },
            "primaryType": "TransferWithAuthorization",
            "domain": dict(zip(_DOMAIN, domain, strict=True)),
            "message": message,
        }

    def authorization(self, payer: str, now: float, **other: object) -> Authorization:
        """A payment of the price with a new nonce, valid since ten minutes ago; ``other`` members differ."""
        usual = {
            "from": payer, "to": self.pay_to, "value": self.price, "validAfter": int(now) - 600,
            "validBefore": int(now) + max(self.timeout_s, SKEW_S), "nonce": f"0x{secrets.token_hex(32)}",
        }  # fmt: skip
        return {name: str(value) for name, value in (usual | other).items()}


def challenge_violations(document: Any, path: str) -> Iterator[Violation]:
    """What is wrong with the body of a 402; ``path`` is the route's own."""
    terms = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    found = list(violations(document, record(x402Version=one_of(1), error=TEXT, accepts=terms)))
    yield from found
    if found:
        return
    offer = _offer(document)
    wrong = list(violations(offer, PAYMENT_TERMS, "accepts"))
    yield from wrong
    # a gateway may serve the route below a prefix that the platform does not know
    resource = urlsplit("" if wrong else offer["resource"])
    is_route = path.endswith(resource.path) and resource.path.endswith(PATH.rpartition("/")[2])
    is_url = resource.scheme in ("http", "https") and resource.netloc != ""
    if not wrong and (resource.query or not is_route or not is_url):
        yield Violation("accepts.resource", f"a URL of {path}", shown(offer["resource"]))
    if not wrong and offer["asset"].lower() == offer["payTo"].lower():
        yield Violation("accepts.payTo", "an address other than the token's", shown(offer["payTo"]))


def terms_of(document: Any) -> Terms:
    """The terms in a 402 without violations."""
    offer = _offer(document)
    return Terms(
        offer["network"], offer["asset"], offer["payTo"], int(offer["maxAmountRequired"]),
        offer["maxTimeoutSeconds"], offer["extra"]["name"], offer["extra"]["version"],
        CHAIN_IDS[offer["network"]],
    )  # fmt: skip


def _offer(document: Any) -> Any:
    """The contract's offer among those in a 402; the first, if it is not among them."""
    offers = document["accepts"]
    fitting = (o for o in offers if o.get("scheme") == "exact" and o.get("network") in CHAIN_IDS)
    return next(fitting, offers[0])


def near_nonces(number: int) -> list[str]:
    """This many new nonces, up to 16, that differ only in one digit in the middle."""
    digits = secrets.token_hex(32)
    return [f"0x{digits[:31]}{digit:x}{digits[32:]}" for digit in range(number)]


class Signer(Protocol):
    """A signer of payments."""

    @property
    def address(self) -> str:
        """The account that pays."""

    def sign(self, typed_data: Mapping[str, Any]) -> str:
        """The signature, 65 bytes in hex."""


def payment(terms: Terms, authorization: Authorization, signature: str, **other: object) -> dict[str, Any]:
    """The document of a payment; ``other`` members of it differ."""
    return {
        "x402Version": 1,
        "scheme": "exact",
        "network": terms.network,
        "payload": {"signature": signature, "authorization": authorization},
        **other,
    }


def signed_by(signer: Signer, terms: Terms, document: Mapping[str, Any]) -> dict[str, Any]:
    """The payment with a signature of that key."""
    authorization = document["payload"]["authorization"]
    return payment(terms, authorization, signer.sign(terms.typed_data(authorization)))


def header_of(document: Any) -> str:
    """The value of X-PAYMENT."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.b64encode(text).decode()


@dataclass(frozen=True, slots=True)
class BadPayment:
    """A payment to be refused, with what is wrong about it and the statuses that refuse it."""

    name: str
    header: str
    statuses: tuple[int, ...] = (402,)


#: If a member is not a number, a service may answer that the header does not parse.
UNREADABLE = (400, 402)


def unreadable() -> Iterator[BadPayment]:
    """Headers that do not parse, and documents that are not a payment."""
    for name, text in {
        "no base64": "%%% no base64 %%%",
        "no JSON": header_of(b"payment"),
        "JSON that ends too soon": header_of(b'{"x402Version": 1, "scheme"'),
        "no text": header_of(b"\xff\xfe\x00"),
        "JSON itself, not encoded": '{"x402Version": 1}',
    }.items():
        yield BadPayment(name, text, (400,))
    others: tuple[object, ...] = (None, [], "exact", 1, True)
    for value in others:
        yield BadPayment(f"{json.dumps(value)} for a payment", header_of(value), UNREADABLE)
    terms = Terms("base-sepolia", "0x" + "22" * 20, "0x" + "33" * 20, 1, SKEW_S, "USDC", "2", 0)
    valid = payment(terms, terms.authorization("0x" + "11" * 20, 0), "0x" + "11" * 65)
    for name in ("scheme", "network", "payload"):
        yield BadPayment(f"no {name}", header_of({k: v for k, v in valid.items() if k != name}), UNREADABLE)
    for name in valid["payload"]:
        payload = {k: v for k, v in valid["payload"].items() if k != name}
        yield BadPayment(f"no {name}", header_of(valid | {"payload": payload}), UNREADABLE)
    for name in valid["payload"]["authorization"]:
        left = {k: v for k, v in valid["payload"]["authorization"].items() if k != name}
        payload = valid["payload"] | {"authorization": left}
        yield BadPayment(f"no {name}", header_of(valid | {"payload": payload}), UNREADABLE)


def refused_with(terms: Terms, payer: Signer, now: float, nonce: str) -> Iterator[BadPayment]:
    """Payments signed by ``payer`` that are refused, and so leave their nonce unused."""
    moment = int(now)
    changes: Mapping[str, Mapping[str, object]] = {
        "too little": {"value": terms.price - 1},
        "not valid for an hour": {"validAfter": moment + 3600, "validBefore": moment + 7200},
        "expired an hour ago": {"validAfter": moment - 7200, "validBefore": moment - 3600},
        "to another payee": {"to": payer.address},
    }
    for name, members in changes.items():
        authorization = terms.authorization(payer.address, now, nonce=nonce, **members)
        yield BadPayment(name, _signed(terms, authorization, payer))


def bad_payments(terms: Terms, payer: Signer, other: Signer, now: float) -> Iterator[BadPayment]:
    """Payments near a good one of ``payer``; ``other`` is a key without money."""
    yield from _forged(terms, payer, other, now)
    yield from _for_another_token(terms, payer, now)
    yield from _of_another_amount(terms, payer, now)
    times = {
        "expired a minute ago": (-600, -SKEW_S),
        "expired an hour ago": (-7200, -3600),
        "not valid for two minutes": (2 * SKEW_S, 3600),
        "not valid for an hour": (3600, 7200),
    }
    for name, (after, before) in times.items():
        authorization = terms.authorization(
            payer.address, now, validAfter=int(now) + after, validBefore=int(now) + before
        )
        yield BadPayment(name, _signed(terms, authorization, payer))
    to_self = terms.authorization(payer.address, now, to=payer.address)
    yield BadPayment("to another payee", _signed(terms, to_self, payer))
    for network in ("base", "avalanche-fuji"):
        authorization = terms.authorization(payer.address, now)
        yield BadPayment(f"network {network}", _signed(terms, authorization, payer, network=network))
    authorization = terms.authorization(payer.address, now)
    yield BadPayment("scheme upto", _signed(terms, authorization, payer, scheme="upto"), UNREADABLE)
    yield BadPayment(
        "from an account without money", _signed(terms, terms.authorization(other.address, now), other)
    )


def again(document: Mapping[str, Any]) -> Iterator[BadPayment]:
    """A used payment, unchanged and spelled differently: to the chain it is the same."""
    authorization = document["payload"]["authorization"]
    signature = document["payload"]["signature"]
    yield BadPayment("the same", header_of(document))
    yield BadPayment("its members in another order", header_of(dict(reversed([*document.items()]))))
    for name in ("nonce", "from"):
        text = f"0x{authorization[name][2:].upper()}"
        payload = {"signature": signature, "authorization": authorization | {name: text}}
        yield BadPayment(f"{name} in capitals", header_of({**document, "payload": payload}), UNREADABLE)
    parity = f"{int(signature[-2:], 16) - 27:02x}"
    payload = {"signature": signature[:-2] + parity, "authorization": authorization}
    yield BadPayment("v as 0 or 1", header_of({**document, "payload": payload}), UNREADABLE)


def _signed(terms: Terms, authorization: Authorization, by: Signer, **other: object) -> str:
    return header_of(payment(terms, authorization, by.sign(terms.typed_data(authorization)), **other))


def _forged(terms: Terms, payer: Signer, other: Signer, now: float) -> Iterator[BadPayment]:
    """Signatures that are not the payer's for this payment."""
    honest = terms.authorization(payer.address, now)
    signature = payer.sign(terms.typed_data(honest))
    r, s, v = signature[:66], int(signature[66:130], 16), int(signature[130:], 16)
    flipped = f"{r[:-1]}{int(r[-1], 16) ^ 1:x}{signature[66:]}"
    for name, forged in {
        "signed by another key": other.sign(terms.typed_data(honest)),
        "one bit of the signature flipped": flipped,
        "a signature of zeros": "0x" + "00" * 64 + "1b",
        "the other form of the signature": f"{r}{ORDER - s:064x}{55 - v:02x}",
    }.items():
        yield BadPayment(name, header_of(payment(terms, honest, forged)))
    yield BadPayment("no byte of a signature", header_of(payment(terms, honest, "0x")), UNREADABLE)
    # what was signed could not be executed, or pays the wallet itself
    changes: dict[str, object] = {
        "nonce": f"0x{secrets.token_hex(32)}",
        "to": payer.address,
        "value": 0,
        "validBefore": int(now) - 3600,
    }
    for name, value in changes.items():
        signed = terms.authorization(payer.address, now, **{name: value})
        shown_as = terms.authorization(payer.address, now)
        presented = {**signed, name: shown_as[name]}
        forged = header_of(payment(terms, presented, payer.sign(terms.typed_data(signed))))
        yield BadPayment(f"{name} changed after signing", forged)


def _for_another_token(terms: Terms, payer: Signer, now: float) -> Iterator[BadPayment]:
    """Signatures for a token of another address, chain, name or version: no such token exists."""
    for name, domain in {
        "asset": replace(terms, asset=payer.address),
        "chain": replace(terms, chain_id=terms.chain_id + 1),
        "name": replace(terms, name=f"{terms.name}x"),
        "version": replace(terms, version=f"{terms.version}x"),
    }.items():
        yield BadPayment(
            f"signed for another {name}", _signed(domain, terms.authorization(payer.address, now), payer)
        )


def _of_another_amount(terms: Terms, payer: Signer, now: float) -> Iterator[BadPayment]:
    """Too little, and invalid amounts that would be the price or more as a 256-bit word."""
    for value in dict.fromkeys(amount for amount in (terms.price - 1, 1, 0) if amount < terms.price):
        authorization = terms.authorization(payer.address, now, value=value)
        yield BadPayment(f"{value} instead of {terms.price}", _signed(terms, authorization, payer))
    for name, value in {
        "a negative amount": -terms.price,
        "the price and a word": WORD + terms.price,
        "the largest word": WORD - 1,
    }.items():
        authorization = terms.authorization(payer.address, now, value=value)
        yield BadPayment(name, _signed(terms, authorization, payer), UNREADABLE)

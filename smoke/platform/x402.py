"""Paying for calls (contract 1.6): the chain on which payments are settled, the wallet, and the route."""

from __future__ import annotations

import base64
import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
from pytest_readiness import SafetyViolation, SetupError

from smoke.contract.model import POOLS
from smoke.contract.x402 import PATH, Terms, challenge_violations, header_of, payment, terms_of

from .answers import UUID, ContractViolation, fields_of, header, require_status, route_of
from .freeside import prompt_for, usage_of
from .http import JSON_HEADERS, Credential, HttpClient, wait
from .spend import Once

_BALANCE_OF, _AUTHORIZATION_STATE = "0x70a08231", "0xe94a0102"
_NAME, _VERSION = "0x06fdde03", "0x54fd4d50"
#: The event of every transfer (ERC-20).
TRANSFERRED = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
#: The event of every authorization that was used (EIP-3009).
USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5"
#: How long an RPC behind a load balancer may take to show a settled transaction, s.
SHOWN_WITHIN_S = 10.0
_HEX = re.compile("0x[0-9a-f]*", re.IGNORECASE)
_KEY = re.compile(r"(?:0x)?[0-9a-f]{64}", re.IGNORECASE)
#: More than any wallet has: a payment of this amount cannot be executed.
_BEYOND = 2**128


class Chain:
    """A chain's JSON-RPC. If it does not answer, the platform is not at fault: SetupError.

    Its URL may hold a key; only its host is ever shown.
    """

    def __init__(self, pool: httpx.Client, url: str) -> None:
        self._pool = pool
        self._url = url

    def request(self, method: str, *params: Any) -> Any:
        """The result of one call."""
        host = urlsplit(self._url).hostname
        try:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answer = self._pool.post(self._url, json=body).json()
            return answer["result"]
        except (httpx.HTTPError, AssertionError, ValueError, KeyError, TypeError) as error:
            raise SetupError(
                f"the chain at {host} gave no result of {method} ({type(error).__name__}): "
                "check [x402] rpc_url and that the runner reaches it"
            ) from None

    def wake(self) -> None:
        """Call the chain once and ignore the result, which a check will see; the run may end before."""
        with suppress(SetupError, RuntimeError):
            self.request("eth_chainId")

    @cached_property
    def chain_id(self) -> int:
        """The chain's id."""
        return self._number("eth_chainId")

    def balance(self, asset: str, owner: str) -> int:
        """An account's balance of a token, in its smallest unit."""
        return self._number("eth_call", {"to": asset, "data": _BALANCE_OF + _word(owner)}, "latest")

    def used(self, asset: str, payer: str, nonce: str) -> bool:
        """Whether a payment was executed."""
        data = _AUTHORIZATION_STATE + _word(payer) + _word(nonce)
        return self._number("eth_call", {"to": asset, "data": data}, "latest") != 0

    def has_code(self, address: str) -> bool:
        """Whether an address is a contract's."""
        return len(self._hex("eth_getCode", address, "latest")) > len("0x")

    def token(self, asset: str) -> tuple[str, str]:
        """The name and the version of a token, as in its signatures."""
        name, version = (
            self._hex("eth_call", {"to": asset, "data": selector}, "latest") for selector in (_NAME, _VERSION)
        )
        return _text(name), _text(version)

    def receipt(self, transaction: str) -> Mapping[str, Any] | None:
        """The receipt of a transaction; None while the chain does not know it."""
        found = self.request("eth_getTransactionReceipt", transaction)
        return found if isinstance(found, dict) else None

    def _number(self, method: str, *params: Any) -> int:
        return int(self._hex(method, *params), 16)

    def _hex(self, method: str, *params: Any) -> str:
        found = self.request(method, *params)
        # a call of an address without code has an empty result
        if not isinstance(found, str) or not _HEX.fullmatch(found) or (found, method) == ("0x", "eth_call"):
            host = urlsplit(self._url).hostname
            raise SetupError(f"the chain at {host} has no such token: {method} gave {str(found)[:20]!r}")
        return found


def _word(text: str) -> str:
    return text.removeprefix("0x").lower().rjust(64, "0")


def _text(encoded: str) -> str:
    """The string in the result of a call."""
    raw = bytes.fromhex(encoded[2:])
    return raw[64 : 64 + int.from_bytes(raw[32:64])].decode(errors="replace")


def transferred(receipt: Mapping[str, Any], terms: Terms, authorization: Mapping[str, str]) -> int:
    """The amount that a transaction moved by this authorization, in its smallest unit; 0 if by another."""
    payer, payee, nonce = (f"0x{_word(authorization[name])}" for name in ("from", "to", "nonce"))
    events = [
        ([topic.lower() for topic in log["topics"]], log["data"])
        for log in receipt["logs"]
        if log["address"].lower() == terms.asset.lower()
    ]
    if [USED, payer, nonce] not in [topics for topics, _ in events]:
        return 0
    return sum(int(data, 16) for topics, data in events if topics == [TRANSFERRED, payer, payee])


class Balances:
    """Balances of payer and payee when it is created; in the token's smallest unit.

    On a ``live`` platform others may pay the payee at the same time.
    """

    def __init__(self, chain: Chain, terms: Terms, payer: str, *, live: bool) -> None:
        self._read = partial(_both, chain, terms.asset, payer, terms.pay_to)
        self._live = live
        self.payer, self.payee = self._read()

    def require_moved(self, amount: int, why: str, *, of_others: int = 0) -> None:
        """SafetyViolation unless exactly this much has gone from the payer to the payee since then.

        Another payer also paid the payee ``of_others``. A missing amount may still arrive, because an RPC
        behind a load balancer may show a transaction late.
        """
        deadline = time.monotonic() + SHOWN_WITHIN_S
        due = amount + of_others
        went, came = self._moved()
        while (went < amount or came < due) and time.monotonic() < deadline:
            wait(0.2)
            went, came = self._moved()
        if went != amount or (came < due if self._live else came != due):
            both = f"{amount} and {due}" if of_others else amount
            raise SafetyViolation(f"{why}: the payer lost {went}, the payee got {came}, expected {both}")

    def _moved(self) -> tuple[int, int]:
        payer, payee = self._read()
        return self.payer - payer, payee - self.payee


def _both(chain: Chain, asset: str, payer: str, payee: str) -> tuple[int, int]:
    return chain.balance(asset, payer), chain.balance(asset, payee)


class _LeftOut(ModuleType):
    """A module that is not loaded. Anything that others import from it is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


#: Ethereum modules that no check needs: encrypted key files, a facilitator's access to a chain.
_NOT_NEEDED = ("eth_keyfile", "eth_keyfile.keyfile", "web3", "web3.middleware")


@contextmanager
def signing_alone() -> Iterator[None]:
    """Import the Ethereum libraries without modules that signing a payment does not need.

    Web3 takes a second to load. The mathematics of key files (py_ecc) take half a second, and raise the
    interpreter's recursion limit to 100,000, where a deeply nested answer no longer raises RecursionError but
    ends the process.
    """
    limit = sys.getrecursionlimit()
    names = [name for name in _NOT_NEEDED if name not in sys.modules]
    sys.modules.update((name, _LeftOut(name)) for name in names)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        for name in names:
            del sys.modules[name]


class Wallet:
    """A key that signs payments."""

    def __init__(self, key: str) -> None:
        # takes a quarter of a second to import, which other checks need not wait for
        with signing_alone():
            from eth_account import Account

        self.account = Account.from_key(key)

    @classmethod
    def throwaway(cls) -> Wallet:
        """A key without money."""
        return cls(f"0x{secrets.token_hex(32)}")

    @property
    def address(self) -> str:
        """The account that pays."""
        return str(self.account.address)

    def sign(self, typed_data: Mapping[str, Any]) -> str:
        """The signature of a payment, 65 bytes in hex."""
        from eth_account.messages import encode_typed_data

        signed = self.account.sign_message(encode_typed_data(full_message=dict(typed_data)))
        return f"0x{bytes(signed.signature).hex()}"


class FundedWallet(Wallet):
    """The wallet of the profile: it signs for chains of the allow-list, and no more than a run may spend.

    ``secret`` returns the key, and is not called before the chain is known to be allowed.
    """

    def __init__(
        self, secret: Callable[[], str], chain: Chain, allowed: str, max_spend: int, once: Once
    ) -> None:
        self.allowed = {int(text) for text in re.findall("[0-9]+", allowed)}
        if chain.chain_id not in self.allowed:
            raise SetupError(
                f"the chain of [x402] rpc_url is {chain.chain_id}, nothing was signed: "
                f"[x402] chain_ids allows {', '.join(map(str, sorted(self.allowed))) or 'none'}"
            )
        key = secret().strip()
        if not _KEY.fullmatch(key):
            raise SetupError("[x402] wallet_key is not a private key: 32 bytes in hex are needed")
        super().__init__(key)
        self._chain = chain
        self._max_spend = max_spend
        self._once = once
        #: Minimum remaining balance by asset.
        self._left: dict[str, int] = {}

    def sign(self, typed_data: Mapping[str, Any]) -> str:
        """The signature of a payment; SetupError if signing it is not allowed."""
        message = typed_data["message"]
        spendable = typed_data["domain"]["chainId"] in self.allowed and (
            message["to"].lower() != self.address.lower()
            and message["validAfter"] < time.time() < message["validBefore"]
            and message["value"] < _BEYOND
        )
        if spendable:
            self.admit(message["value"])
        return super().sign(typed_data)

    def require(self, amount: int, asset: str) -> None:
        """SetupError if the wallet has less of a token; the balance is read if the known one is small."""
        if self._left.get(asset, 0) < amount:
            self._left[asset] = self._chain.balance(asset, self.address)
        if self._left[asset] < amount:
            raise SetupError(
                f"the wallet {self.address} has {self._left[asset]} of the token {asset} left, and a payment "
                f"takes {amount}, in its smallest unit: fund it"
            )
        self._left[asset] -= amount

    def admit(self, amount: int) -> None:
        """Record the amount to be signed; SetupError if the run would exceed its cap."""
        spent = sum(entry["amount"] for entry in self._once.remembered("payment"))
        if spent + amount > self._max_spend:
            raise SetupError(
                f"this run signed payments of {spent}, and another of {amount} would exceed its cap of "
                f"{self._max_spend} of the token's smallest unit: raise [x402] max_spend"
            )
        self._once.remember("payment", amount=amount)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt of a payment."""

    transaction: str
    network: str
    payer: str


def require_own_answer(response: httpx.Response, word: str) -> None:
    """Assert a 200 with the body of an invoke (contract 1.2) that answers its own prompt."""
    fields = fields_of(require_status(response, 200))
    content = fields.text("content")
    assert word in content, f"the paid answer does not answer its prompt: it lacks {word}"
    fields.text("model", among=POOLS)
    fields.text("traceId", pattern=UUID)
    usage_of(fields.object("usage"))


def receipt_of(response: httpx.Response) -> Receipt:
    """The receipt in a 200; a violation if it says that the payment failed."""
    text = header(response, "x-payment-response")
    route = f"{route_of(response)}: header x-payment-response"
    try:
        found = json.loads(base64.b64decode(text, validate=True))
    except ValueError:
        raise ContractViolation(f"{route}: expected a receipt in base64, got another text") from None
    members = ("transaction", "network", "payer", "success")
    if absent := [name for name in members if not isinstance(found, dict) or name not in found]:
        raise ContractViolation(f"{route}: the receipt has no {' and no '.join(absent)}")
    receipt, success = Receipt(*(str(found[name]) for name in members[:3])), found["success"]
    if success is not True or not re.fullmatch("0x[0-9a-fA-F]{64}", receipt.transaction):
        raise ContractViolation(f"{route}: expected success and a transaction, got {success!r}, {receipt}")
    return receipt


class PaidRoute:
    """POST /api/v1/x402/invoke, called with payments."""

    def __init__(self, http: HttpClient, body: Callable[..., dict[str, Any]]) -> None:
        self._http = http
        self._body = body

    def post(
        self, pay: str | None = None, *, word: str = "", agent: str | None = None, content: bytes = b"",
        credential: Credential | None = None, key: str = "",
    ) -> httpx.Response:  # fmt: skip
        """The answer to a call, of any status, with a payment if given; ``content`` for another body."""
        headers = JSON_HEADERS | ({} if pay is None else {"X-PAYMENT": pay})
        headers |= {"X-Idempotency-Key": key} if key else {}
        content = content or self.content(word, agent)
        return self._http.send("POST", PATH, credential, headers=headers, content=content)

    def content(
        self, word: str = "", agent: str | None = None, model: str = POOLS[0], padding: int = 0
    ) -> bytes:
        """The body of a call with ``word`` in its right answer, after this much padding."""
        return json.dumps(self._body(prompt_for(word, padding=padding), model=model, agent=agent)).encode()

    def unrecorded(self) -> PaidRoute:
        """The same route without its check's evidence: a family of cases has its batch record a few."""
        quiet = copy(self)
        quiet._http = copy(self._http)
        quiet._http.evidence = None
        return quiet

    def challenge(self) -> httpx.Response:
        """The 402 to a call without a payment; raises for one without the contract's terms."""
        answer = require_status(self.post(), 402)
        self.terms_in(answer)
        header(answer, "x-payment-required")
        return answer

    def terms_for(self, content: bytes) -> Terms:
        """The terms of a call with this body."""
        return self.terms_in(require_status(self.post(content=content), 402))

    def terms_in(self, answer: httpx.Response) -> Terms:
        """The terms in a 402; ContractViolation for one without the contract's."""
        document = fields_of(answer).data
        path = urlsplit(str(answer.request.url)).path
        if wrong := "; ".join(map(str, challenge_violations(document, path))):
            raise ContractViolation(f"{route_of(answer)}: {wrong}")
        return terms_of(document)

    @cached_property
    def terms(self) -> Terms:
        """What a call costs."""
        return self.terms_in(self._unpaid)

    @property
    def asks(self) -> str:
        """The error of a call without a payment: no reason why one was refused."""
        return fields_of(self._unpaid).text("error")

    @cached_property
    def _unpaid(self) -> httpx.Response:
        return self.challenge()

    def payment(self, wallet: Wallet, terms: Terms | None = None, **other: object) -> dict[str, Any]:
        """A new payment of the price, or by other terms than those of a call to the cheapest pool.

        ``other`` members of what is signed differ.
        """
        terms = terms or self.terms
        if isinstance(wallet, FundedWallet):
            wallet.require(terms.price, terms.asset)
        authorization = terms.authorization(wallet.address, time.time(), **other)
        return payment(terms, authorization, wallet.sign(terms.typed_data(authorization)))

    def pay(self, wallet: Wallet, agent: str | None = None) -> httpx.Response:
        """The answer to a new payment of the price, which must be 200."""
        content = self.content(agent=agent)
        header = header_of(self.payment(wallet, self.terms_for(content)))
        return require_status(self.post(header, content=content), 200)

"""Faults of Freeside's payments: bad payments are accepted, money does not move, answers are free."""

import asyncio
import json
import secrets
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.common.auth import unauthorized
from stack.common.http import ApiError, bad_request, drained_body
from stack.common.verifier import POOLS
from stack.faults.budget import BOOT, MANY_CHARS, stray_charge
from stack.faults.deliveries import CHARS_OF_A_NAME, FIRST_COMMUNITY, document_in
from stack.faults.proxy import Faulty
from stack.faults.tokens import believed
from stack.freeside.calls import Ask, read_ask
from stack.freeside.payments import (
    GUEST,
    PRICE,
    FacilitatorClient,
    Object,
    Payment,
    PaymentRequired,
    Payments,
    UsedNonces,
)

#: What a route without a limit of its own reads, bytes.
_ANY_SIZE = 1 << 20
_OF = "invalid_exact_evm_payload_"
#: The 0x of a nonce and a quarter of its digits.
NONCE_CHARS = 2 + 16
#: What a fault overlooks, by the facilitator's reason for the refusal.
OVERLOOKED = {
    "freeside-x402-overlooks-forged-signatures": f"{_OF}signature",
    "freeside-x402-overlooks-small-amounts": f"{_OF}authorization_value",
    "freeside-x402-overlooks-other-payees": f"{_OF}recipient_mismatch",
    "freeside-x402-overlooks-other-networks": "invalid_network",
    "freeside-x402-overlooks-other-schemes": "unsupported_scheme",
    "freeside-x402-overlooks-expiry": f"{_OF}authorization_valid_before",
    "freeside-x402-overlooks-early-payments": f"{_OF}authorization_valid_after",
    "freeside-x402-overlooks-empty-accounts": "insufficient_funds",
}
_USED = f"{_OF}authorization_nonce_used"
#: Faults that take a used payment for a new one, which the chain would not.
_FORGETFUL = (
    "freeside-x402-forgets-nonces",
    "freeside-x402-binds-nonces-to-bodies",
    "freeside-x402-nonces-in-memory",
    "freeside-x402-tells-nonces-apart-by-case",
)
_WORD = 2**256
_OF_ANYONE = "SELECT answer FROM freeside.idempotency WHERE key = %s AND answer IS NOT NULL"
_KEEP = """
INSERT INTO freeside.idempotency (community_id, key, body_hash, owner, lease_until, answer)
VALUES (%s, %s, %s, %s, now(), %s) ON CONFLICT DO NOTHING
"""


class FaultyFacilitator(Faulty, FacilitatorClient):
    """Accepts invalid payments, and reports them as settled."""

    _first: Object | None = None
    _last: Object

    async def verify(self, payment: Payment, required: Object) -> str:
        """Why the payment is refused, unless a fault overlooks that."""
        offered = payment.document["payload"]["authorization"]
        if offered["from"].islower() and self._faults.on("freeside-x402-refuses-addresses-in-lower-case"):
            return f"{_OF}authorization_from_address"
        if offered["validAfter"] == "0" and self._faults.on(
            "freeside-x402-refuses-payments-without-a-beginning"
        ):
            return f"{_OF}authorization_valid_after"
        try:
            reason = await super().verify(payment, required)
        except ApiError:
            if not self._faults.on("freeside-x402-answers-without-the-facilitator"):
                raise
            return ""
        return "" if reason and self._overlooks(reason, payment, required) else reason

    async def settle(self, payment: Payment, required: Object) -> Object:
        """The receipt, of a settlement or of none."""
        if self._faults.on("freeside-x402-never-settles"):
            return _made_up(payment)
        try:
            receipt = self._last = await super().settle(payment, required)
        except ApiError:
            if not self._faults.on("freeside-x402-answers-without-the-facilitator"):
                raise
            return _made_up(payment)
        if self._faults.on("freeside-x402-mixes-receipts-up"):
            await asyncio.sleep(0.5)
            receipt = self._last
        if receipt.get("success") is not True:
            reason = str(receipt.get("errorReason"))
            pretends = self._faults.on("freeside-x402-races-itself") or self._overlooks(
                reason, payment, required
            )
            return _made_up(payment) if pretends else receipt
        if self._faults.on("freeside-x402-repeats-its-first-receipt"):
            self._first = self._first or receipt
            return self._first
        return receipt

    def _overlooks(self, reason: str, payment: Payment, required: Object) -> bool:
        if any(self._faults.on(name) for name, words in OVERLOOKED.items() if words == reason):
            return True
        if reason == f"{_OF}authorization_value" and self._faults.on("freeside-x402-wraps-amounts"):
            value, price = _value(payment), int(required["maxAmountRequired"])
            return not 0 <= value < _WORD and price in (abs(value), value % _WORD)
        return reason == _USED and any(map(self._faults.on, _FORGETFUL))


def _value(payment: Payment) -> int:
    return int(payment.document["payload"]["authorization"]["value"])


def _made_up(payment: Payment) -> Object:
    payer = payment.document["payload"]["authorization"]["from"]
    transaction = f"0x{secrets.token_hex(32)}"
    return {"success": True, "transaction": transaction, "network": "base-sepolia", "payer": payer}


class FaultyNonces(Faulty, UsedNonces):
    """Forgets used nonces, or checks long before it writes."""

    async def claim(self, payment: Payment, trace_id: str) -> bool:
        """Take a payment, whether or not it was taken."""
        if self._faults.on("freeside-x402-races-itself"):
            row = await self._db.one(
                "SELECT 1 FROM freeside.payments WHERE payer = %s AND nonce = %s",
                payment.payer,
                payment.nonce,
            )
            await asyncio.sleep(1.0)  # on a busy machine, too, the others look meanwhile
            return row is None and (await super().claim(payment, trace_id) or True)
        return await super().claim(payment, trace_id) or self._faults.on("freeside-x402-forgets-nonces")

    async def release(self, payment: Payment) -> None:
        """The call had no answer: its payment is good for another, or for none."""
        if not self._faults.on("freeside-x402-uses-up-payments-without-answers"):
            await super().release(payment)


class FaultyPayments(Faulty, Payments):
    """Answers without money, takes money without an answer, or runs the model for nothing."""

    async def invoke(self, request: Request) -> Response:
        """An answer, paid or not."""
        if "x-payment" not in request.headers and self._needs_none(request):
            return await self._unpaid(request)
        request.state.is_expensive = (
            self._faults.on("freeside-x402-takes-the-lowest-price")
            and POOLS[-1].encode() in await request.body()
        )
        if self._faults.on("freeside-x402-takes-bodies-of-any-size"):
            request = _with_body(request, (await drained_body(request, _ANY_SIZE)).strip())
        if self._faults.on("freeside-x402-serves-unknown-pools"):
            document = document_in(raw := await drained_body(request))
            known = document.get("model") in POOLS
            request = _with_body(
                request, raw if known else json.dumps(document | {"model": POOLS[0]}).encode()
            )
        try:
            answer = await super().invoke(request)
            if answer.status_code == 200:
                self._paid_keys.add(request.headers.get("x-idempotency-key"))
            if "x-payment" in request.headers and self._faults.on("freeside-x402-refuses-without-the-header"):
                del answer.headers["x-payment-required"]
            if answer.status_code == 200 and self._faults.on("freeside-x402-charges-communities"):
                tenant = believed(request.headers.get("authorization")).tenant_id
                await stray_charge(self._context.db, tenant)
            return answer
        except ApiError:
            if "x-payment" in request.headers and self._faults.on("freeside-x402-uses-up-failed-payments"):
                await self._nonces.claim(self.read(request.headers.getlist("x-payment")), "failed")
            if "x-payment" in request.headers and self._faults.on("freeside-x402-settles-calls-that-fail"):
                with suppress(ApiError):
                    payment = self.read(request.headers.getlist("x-payment"))
                    await self._facilitator.settle(payment, self.required(request))
            raise

    @cached_property
    def _paid_keys(self) -> set[str | None]:
        """The keys of calls that were paid for."""
        return set()

    def _needs_none(self, request: Request) -> bool:
        """Whether a call is let in without a payment, or refused, for who makes it or for its key."""
        expired = believed(request.headers.get("authorization")).expires_at < time.time()
        if expired and self._faults.on("freeside-x402-verifies-tokens"):
            raise unauthorized()
        user = "authorization" in request.headers and self._faults.on("freeside-x402-answers-users")
        known = request.headers.get("x-idempotency-key", "") in self._paid_keys
        known = known and self._faults.on("freeside-x402-answers-known-keys")
        return user or known or self._faults.on("freeside-x402-gives-answers-away")

    async def _unpaid(self, request: Request) -> Response:
        return JSONResponse(await self.answered(read_ask(request, await drained_body(request), GUEST)))

    def required(self, request: Request) -> Object:
        """The terms of a call; for the most expensive pool, they may ask for more than is charged."""
        terms, offered = super().required(request), request.headers.getlist("x-payment")
        if request.state.is_expensive and (not offered or _value(self.read(offered)) > PRICE):
            return terms | {"maxAmountRequired": str(2 * PRICE)}
        return terms

    async def answered(self, ask: Ask) -> Object:
        """The model's answer, possibly requested without the agent."""
        if len(ask.agent or "") >= CHARS_OF_A_NAME and self._faults.on("freeside-x402-refuses-long-names"):
            raise bad_request("agent is too long")
        if self._faults.on("freeside-x402-names-no-agent"):
            ask = replace(ask, agent=None)
        if self._faults.on("freeside-x402-drops-letters-outside-ascii"):
            ask = replace(ask, prompt=ask.prompt.encode("ascii", "ignore").decode())
        db = self._context.db
        if self._faults.on("freeside-x402-gives-communities-answers-to-payers"):
            known = await db.one(_OF_ANYONE, ask.key)
            if known:
                return dict(json.loads(known["answer"]))
        answer = await super().answered(ask)
        if self._faults.on("freeside-x402-keeps-answers-for-communities"):
            await db.execute(_KEEP, FIRST_COMMUNITY, ask.key, ask.body_hash, uuid.uuid4(), json.dumps(answer))
        return answer

    def read(self, offered: list[str]) -> Payment:
        """The payment, or what a lenient reader makes of the header."""
        try:
            payment = super().read(offered)
        except ApiError:
            if self._faults.on("freeside-x402-chokes-on-unreadable-payments"):
                raise RuntimeError("the fault freeside-x402-chokes-on-unreadable-payments is on") from None
            if self._faults.on("freeside-x402-takes-unreadable-payments-for-none"):
                raise PaymentRequired("X-PAYMENT header is required", []) from None
            raise
        if self._faults.on("freeside-x402-tells-no-payers-apart"):
            return replace(payment, payer="anyone")
        if self._faults.on("freeside-x402-compares-the-beginning-of-nonces"):
            return replace(payment, nonce=payment.nonce[:NONCE_CHARS])
        if self._faults.on("freeside-x402-tells-nonces-apart-by-case"):
            return replace(payment, nonce=payment.document["payload"]["authorization"]["nonce"])
        return payment

    async def paid(self, ask: Ask, payment: Payment, required: Object) -> tuple[Object, Object]:
        """The answer and the receipt, or a refusal that cost something or explains nothing."""
        payment = self._known_by(payment, ask)
        if len(ask.prompt) > MANY_CHARS and self._faults.on("freeside-x402-refuses-long-prompts"):
            raise PaymentRequired("a payment is good for a short prompt", [required])
        try:
            if self._faults.on("freeside-x402-settles-first"):
                receipt = await self._facilitator.settle(payment, required)
                return await self.answered(ask), receipt
            return await super().paid(ask, payment, required)
        except PaymentRequired as refusal:
            early = "valid_after" in refusal.message and self._faults.on(
                "freeside-x402-uses-up-early-payments"
            )
            if early or self._faults.on("freeside-x402-uses-up-refused-payments"):
                await self._nonces.claim(payment, "refused")
            if self._faults.on("freeside-x402-runs-before-it-verifies"):
                await self._finn.invoke(ask, uuid.uuid4())
            if self._faults.on("freeside-x402-settles-refused-payments"):
                await self._facilitator.settle(payment, required | _as_offered(payment))
            if self._faults.on("freeside-x402-raises-its-price-to-refused-payers"):
                raised = [terms | {"maxAmountRequired": str(2 * PRICE)} for terms in refusal.accepts]
                raise PaymentRequired(refusal.message, raised) from None
            if self._faults.on("freeside-x402-gives-one-reason"):
                raise PaymentRequired("X-PAYMENT header is required", refusal.accepts) from None
            if self._faults.on("freeside-x402-gives-no-reason"):
                raise PaymentRequired("", refusal.accepts) from None
            raise

    def _known_by(self, payment: Payment, ask: Ask) -> Payment:
        """The payment's identity, which may depend on more than its nonce."""
        if self._faults.on("freeside-x402-nonces-in-memory"):
            payment = replace(payment, nonce=f"{payment.nonce} {BOOT}")
        if self._faults.on("freeside-x402-binds-nonces-to-bodies"):
            payment = replace(payment, nonce=f"{payment.nonce} {ask.body_hash}")
        return payment


def _with_body(request: Request, body: bytes) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


def _as_offered(payment: Payment) -> dict[str, Any]:
    document = payment.document
    offered = {name: document[name] for name in ("network", "scheme")}
    return offered | {"maxAmountRequired": str(_value(payment))}

"""POST /api/v1/x402/invoke (contract 1.6): a call whose credential is a payment, by x402 version 1.

In this order: the payment is verified, its nonce claimed, the model runs, the payment is settled, the answer
sent. So a refused payment runs no model, a used one has run it once, and a call without an answer is free.
"""

import base64
import binascii
import json
import logging
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.common.context import Context
from stack.common.database import UNREACHABLE, Database, surely
from stack.common.http import ApiError, bad_request, drained_body, unavailable
from stack.common.provider import cost_micro
from stack.common.verifier import POOLS, Claims
from stack.freeside.calls import Ask, FinnClient, answer_body, read_ask

ROUTE = "/api/v1/x402/invoke"
#: The price of any call, in the token's smallest unit: a cent.
PRICE = 10_000
#: For how long a payment is good, in seconds. The embedded chain dates each block a second after the one
#: before, so many payments in a short time put its clock ahead by minutes.
MAX_TIMEOUT_S = 600
GUEST = Claims({"sub": "x402", "tenant_id": "x402", "tier": "enterprise", "pool_id": POOLS[0]})
# A claim whose process died before it was settled may be taken over once no call can still be running.
_CLAIM = """
INSERT INTO freeside.payments AS known (payer, nonce, trace_id) VALUES (%s, %s, %s)
ON CONFLICT (payer, nonce) DO UPDATE SET trace_id = EXCLUDED.trace_id, created_at = now()
WHERE NOT known.settled AND known.created_at < now() - interval '60 seconds'
"""
_log = logging.getLogger("stack.payments")
Object = dict[str, Any]


class PaymentRequired(ApiError):
    """402: why there is no answer yet, and on what terms there will be."""

    def __init__(self, reason: str, accepts: list[Object]) -> None:
        super().__init__(402, "PAYMENT_REQUIRED", reason, {"x-payment-required": "x402"})
        self.accepts = accepts


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that was read: the document, and what makes it unique."""

    document: Object
    payer: str
    nonce: str


class FacilitatorClient:
    """Whoever verifies and settles payments."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def verify(self, payment: Payment, required: Object) -> str:
        """Why the payment is refused; empty if it is good."""
        answer = await self._ask("verify", payment, required)
        return "" if answer.get("isValid") is True else str(answer.get("invalidReason") or "invalid_payload")

    async def settle(self, payment: Payment, required: Object) -> Object:
        """The receipt: `{success, transaction, network, payer}`, with an `errorReason` if it failed."""
        return await self._ask("settle", payment, required)

    async def _ask(self, what: str, payment: Payment, required: Object) -> Object:
        body = {"x402Version": 1, "paymentPayload": payment.document, "paymentRequirements": required}
        try:
            url = f"{self._context.settings.facilitator_url}/{what}"
            response = await self._context.http.post(url, json=body)
            answer = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            answer = None
        if not isinstance(answer, dict):
            raise unavailable("Payments cannot be settled now")
        return answer


class UsedNonces:
    """The used payments, permanently once they are settled."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def claim(self, payment: Payment, trace_id: str) -> bool:
        """Take the payment for one call; False if it was taken before."""
        return await self._db.execute(_CLAIM, payment.payer, payment.nonce, trace_id) == 1

    async def settled(self, payment: Payment) -> None:
        """The payment is used up."""
        await self._db.execute(
            "UPDATE freeside.payments SET settled = true WHERE payer = %s AND nonce = %s",
            payment.payer,
            payment.nonce,
        )

    async def release(self, payment: Payment) -> None:
        """The call had no answer: the payment may be used for another."""
        await self._db.execute(
            "DELETE FROM freeside.payments WHERE payer = %s AND nonce = %s AND NOT settled",
            payment.payer,
            payment.nonce,
        )


class Payments:
    """The route."""

    def __init__(
        self, context: Context, finn: FinnClient, facilitator: FacilitatorClient, nonces: UsedNonces
    ) -> None:
        self._context = context
        self._finn = finn
        self._facilitator = facilitator
        self._nonces = nonces

    async def invoke(self, request: Request) -> Response:
        """200 with the answer and its receipt, 402 with the terms, or 400."""
        required = self.required(request)
        try:
            offered = request.headers.getlist("x-payment")
            if not offered:
                raise PaymentRequired("X-PAYMENT header is required", [required])
            payment = self.read(offered)
            ask = read_ask(request, await drained_body(request), GUEST)
            answer, receipt = await self.paid(ask, payment, required)
        except PaymentRequired as refusal:
            body = {"x402Version": 1, "error": refusal.message, "accepts": refusal.accepts}
            return JSONResponse(body, 402, headers=refusal.headers)
        encoded = base64.b64encode(json.dumps(receipt).encode()).decode()
        return JSONResponse(answer, headers={"x-payment-response": encoded, "x-trace-id": ask.trace_id})

    def required(self, request: Request) -> Object:
        """The terms of a call."""
        settings = self._context.settings
        return {
            "scheme": "exact",
            "network": settings.x402_network,
            "maxAmountRequired": str(PRICE),
            "resource": str(request.url.replace(query="")),
            "description": "One answer of a model",
            "mimeType": "application/json",
            "payTo": settings.x402_payee,
            "maxTimeoutSeconds": MAX_TIMEOUT_S,
            "asset": settings.x402_asset,
            "extra": {"name": "USDC", "version": "2"},
        }

    def read(self, offered: list[str]) -> Payment:
        """The payment in the header; raises 400."""
        try:
            (text,) = offered
            return read_payment(json.loads(base64.b64decode(text, validate=True)))
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
            raise bad_request("X-PAYMENT is not a payment of x402 version 1 in base64") from None

    async def paid(self, ask: Ask, payment: Payment, required: Object) -> tuple[Object, Object]:
        """The answer and the receipt of a payment; raises PaymentRequired when it is refused."""
        if reason := await self._facilitator.verify(payment, required):
            raise PaymentRequired(reason, [required])
        if not await self._nonces.claim(payment, ask.trace_id):
            raise PaymentRequired("invalid_exact_evm_payload_authorization_nonce_used", [required])
        try:
            answer = await self.answered(ask)
            receipt = await self._facilitator.settle(payment, required)
            if receipt.get("success") is not True:
                raise PaymentRequired(str(receipt.get("errorReason") or "settlement failed"), [required])
        except BaseException:
            await surely(self._nonces.release(payment))
            raise
        try:
            await self._nonces.settled(payment)
        except UNREACHABLE as error:
            # It is paid: the answer is due, and the chain refuses the nonce whatever is on record here.
            _log.warning("settlement not recorded: %s", type(error).__name__)
        return answer, receipt

    async def answered(self, ask: Ask) -> Object:
        """The model's answer. No community is charged: to Finn it is a call that Freeside accounts for."""
        result = await self._finn.invoke(ask, uuid.uuid4())
        return answer_body(ask, result.content, result.usage, cost_micro(ask.pool, result.usage))


def read_payment(document: Any) -> Payment:
    """The payment that a document is, each member in its type. Raises ValueError, KeyError, TypeError."""
    authorization = document["payload"]["authorization"]
    texts = [document["scheme"], document["network"], document["payload"]["signature"]]
    texts += [authorization[name] for name in ("from", "to", "value", "validAfter", "validBefore", "nonce")]
    if type(document["x402Version"]) is not int or not all(isinstance(text, str) for text in texts):
        raise ValueError("a member has another type")
    return Payment(document, authorization["from"].lower(), authorization["nonce"].lower())

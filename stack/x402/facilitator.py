"""The facilitator: says whether a payment is good, and carries it out. `python -m stack.x402.facilitator`.

    POST /verify    {x402Version, paymentPayload, paymentRequirements} -> {isValid, invalidReason?, payer}
    POST /settle    the same -> {success, errorReason?, transaction, network, payer}

Requests, answers and reasons are those of the x402 specification, version 1. Whether the signature is the
payer's, the nonce unused and the money there is decided by the token, asked by a call that changes nothing.
"""

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from stack.x402.chain import DEPLOYER, Rpc, RpcError, encoded, serve

TRANSFER = "0xe3ee160e"
#: A payment that ends sooner could be too late by the time that it is in a block, seconds.
MARGIN_S = 6
_WORD = 2**256
_VERSION = "invalid_x402_version"
_PREFIX = "invalid_exact_evm_payload_"
_DIGITS = re.compile(r"[0-9]{1,78}")
_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
_NONCE = re.compile("0x[0-9a-fA-F]{64}")
_SIGNATURE = re.compile("0x[0-9a-fA-F]{130}")
#: What the token says when it refuses, and the reason that stands for it.
_REFUSALS = {
    "authorization is used": f"{_PREFIX}authorization_nonce_used",
    "invalid signature": f"{_PREFIX}signature",
    "transfer amount exceeds balance": "insufficient_funds",
    "authorization is expired": f"{_PREFIX}authorization_valid_before",
    "authorization is not yet valid": f"{_PREFIX}authorization_valid_after",
}

Object = Mapping[str, Any]


class Facilitator:
    """Verifies and settles payments of the scheme `exact`."""

    def __init__(self, chain: Rpc) -> None:
        self._chain = chain

    def answer(self, path: str, body: Object) -> dict[str, Any]:
        """The answer to a request."""
        payment, required = body["paymentPayload"], body["paymentRequirements"]
        authorization = payment["payload"]["authorization"]
        payer = authorization["from"]
        version = "" if body.get("x402Version") == 1 else _VERSION
        reason = version or unfit(payment, required, time.time())
        call = {"from": DEPLOYER, "to": required["asset"]}
        if not reason:
            call["data"] = transfer(authorization, payment["payload"]["signature"])
            reason = self._refusal(call)
        if path == "/verify":
            return {"isValid": not reason, "payer": payer} | ({"invalidReason": reason} if reason else {})
        transaction = "" if reason else self._sent(call)
        reason = reason or ("" if transaction else "invalid_transaction_state")
        return {
            "success": not reason,
            "transaction": transaction,
            "network": required["network"],
            "payer": payer,
        } | ({"errorReason": reason} if reason else {})

    def _refusal(self, call: Object) -> str:
        """Why the token would refuse the transfer; empty if it would not."""
        try:
            self._chain.request("eth_call", call, "latest")
        except RpcError as error:
            found = (reason for words, reason in _REFUSALS.items() if words in str(error))
            return next(found, "invalid_payload")
        return ""

    def _sent(self, call: Object) -> str:
        """The id of the transaction that made the transfer; empty if another one came first."""
        try:
            transaction: str = self._chain.request("eth_sendTransaction", call)
        except RpcError:
            return ""
        receipt = self._chain.request("eth_getTransactionReceipt", transaction)
        return transaction if receipt and receipt["status"] == "0x1" else ""


def unfit(payment: Object, required: Object, now: float) -> str:
    """Why a payment is not one for these requirements, as far as no chain is needed; empty if it is."""
    authorization = payment["payload"]["authorization"]
    times = [str(authorization[name]) for name in ("validAfter", "validBefore")]
    value = str(authorization["value"])
    rules = {
        _VERSION: payment["x402Version"] == 1,
        "unsupported_scheme": payment["scheme"] == required["scheme"],
        "invalid_network": payment["network"] == required["network"],
        f"{_PREFIX}recipient_mismatch": authorization["to"].lower() == required["payTo"].lower(),
        f"{_PREFIX}authorization_value": value == required["maxAmountRequired"],
        "invalid_payload": all(_DIGITS.fullmatch(text) and int(text) < _WORD for text in (value, *times))
        and bool(_ADDRESS.fullmatch(authorization["from"]) and _NONCE.fullmatch(authorization["nonce"])),
        f"{_PREFIX}signature": bool(_SIGNATURE.fullmatch(payment["payload"]["signature"])),
    }
    for reason, holds in rules.items():
        if not holds:
            return reason
    if int(times[0]) >= now:
        return f"{_PREFIX}authorization_valid_after"
    return "" if int(times[1]) > now + MARGIN_S else f"{_PREFIX}authorization_valid_before"


def transfer(authorization: Object, signature: str) -> str:
    """The input of the token's `transferWithAuthorization`."""
    signed = signature.removeprefix("0x")
    given = (authorization[name] for name in ("from", "to"))
    numbers = (int(authorization[name]) for name in ("value", "validAfter", "validBefore"))
    v = int(signed[128:], 16)
    return encoded(
        TRANSFER, *given, *numbers, authorization["nonce"], v, f"0x{signed[:64]}", f"0x{signed[64:128]}"
    )


if __name__ == "__main__":
    serve(Facilitator(Rpc(os.environ["STACK_CHAIN_URL"])).answer)

"""Payments on a chain: an EVM behind JSON-RPC with the token and funded wallets, and the facilitator.

Each is a process of its own, one of the stack's `parts`: `python -m stack.x402 chain|facilitator`.

An EVM takes a second of computing to load. So the chain's process is up at once and loads it at the first
call, which waits: a run without payments does without. `anvil` is used where it is on PATH, else eth-tester.

The facilitator says whether a payment is good, and carries it out:

    POST /verify    {x402Version, paymentPayload, paymentRequirements} -> {isValid, invalidReason?, payer}
    POST /settle    the same -> {success, errorReason?, transaction, network, payer}

Requests, answers and reasons are those of the x402 specification, version 1. Whether the signature is the
payer's, the nonce unused and the money there is decided by the token, asked by a call that changes nothing.
"""

import http.client
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from stack import services
from stack.host import LOOPBACK, RunDir, answers_ok, reserve
from stack.supervisor import BOOT_DEADLINE_S, Command, Part, start, wait_until

NETWORK = "base-sepolia"
CHAIN_ID = 84532
#: Pays for gas and deploys the token: the first account of eth-tester, whose key is the number 1. The address
#: of its first contract follows from that, on any chain.
DEPLOYER = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
TOKEN = "0xF2E246BB76DF876Cef8b38ae84130F4F55De395b"
PAYEE = "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
PROCESSES = ("chain", "facilitator")
WITHIN_S = 30.0
Answerer = Callable[[str, Any], Any]


def payable() -> bool:
    """Whether the extra `x402` is installed. Without it, calls have terms but no way to pay."""
    return find_spec("eth_account") is not None


def urls(ports: Mapping[str, int]) -> dict[str, str]:
    """Where the two processes answer."""
    return {name: f"http://{LOOPBACK}:{ports[name]}" for name in PROCESSES}


def settings(ports: Mapping[str, int]) -> dict[str, str]:
    """What Freeside must know: who settles a payment, who receives it, and in which token."""
    return {
        "STACK_FACILITATOR_URL": urls(ports)["facilitator"],
        "STACK_X402_NETWORK": NETWORK,
        "STACK_X402_ASSET": TOKEN,
        "STACK_X402_PAYEE": PAYEE,
    }


def parts(run: RunDir, ports: Mapping[str, int], wallet_keys: Iterable[Path]) -> list[Part]:
    """The two processes, ready in no time: the chain comes to life at the first call."""
    where = urls(ports)
    environ = {
        **services.base_environ(),
        "STACK_CHAIN_URL": where["chain"],
        "STACK_WALLET_KEY_FILES": os.pathsep.join(map(str, wallet_keys)),
    }
    return [
        Part(
            name,
            Command(
                services.python("stack.x402", name), environ | {"STACK_PORT": str(ports[name])}, run.path
            ),
            ready=partial(answers_ok, f"{where[name]}/health"),
            volatile=name == "chain",
        )
        for name in PROCESSES
    ]


class RpcError(RuntimeError):
    """The chain refused a call: its code, and its words."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Rpc:
    """A chain's JSON-RPC."""

    def __init__(self, url: str) -> None:
        self._url = url

    def request(self, method: str, *params: Any) -> Any:
        """The result of one call. Raises RpcError for a refusal, OSError when there is no answer."""
        document = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = post_json(self._url, document)
        except (http.client.HTTPException, ValueError) as error:
            raise ConnectionError(f"the chain gave no answer to {method}") from error
        if refusal := answer.get("error"):
            raise RpcError(refusal["code"], refusal["message"])
        return answer["result"]


def post_json(url: str, document: Any) -> Any:
    """The JSON answer to a JSON request. Raises OSError, HTTPException or ValueError."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or LOOPBACK, address.port, timeout=WITHIN_S)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", address.path or "/", json.dumps(document), headers)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def word(value: int | str) -> str:
    """A number, an address or other bytes in hex as a word of 32 bytes, in hex."""
    return (value.removeprefix("0x").lower() if isinstance(value, str) else f"{value:x}").rjust(64, "0")


def encoded(selector: str, *words: int | str) -> str:
    """The input of a contract's function with arguments of one word each."""
    return f"{selector}{''.join(map(word, words))}"


def serve(answer: Answerer) -> None:
    """Answer POST with what `answer` makes of path and JSON body, and GET /health; until stopped."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(200 if self.path == "/health" else 404, {"status": "healthy"})

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            try:
                body = json.loads(raw)
            except ValueError:
                return self._send(400, {"error": "INVALID_REQUEST", "message": "the body is not JSON"})
            return self._send(200, answer(self.path, body))

        def _send(self, status: int, document: Any) -> None:
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Log nothing: a payment that failed is as good as money until it expires."""

    ThreadingHTTPServer((LOOPBACK, int(os.environ["STACK_PORT"])), Handler).serve_forever()


ARTIFACT = Path(__file__).parent / "x402_token.json"
MINT = "0x40c10f19"
#: What each wallet begins with: a million dollars, in the token's smallest unit.
BALANCE = 10**12
GAS = 3_000_000
REVERTED = 3
UNKNOWN_METHOD = -32601
FAILED = -32000


class Engine(Protocol):
    """An EVM that keeps a chain."""

    def request(self, method: str, *params: Any) -> Any:
        """The result of a JSON-RPC call. Raises RpcError."""


class Node:
    """The chain as its callers see it: one thread works for all of them, one call at a time."""

    def __init__(self, choose: Callable[[], Engine]) -> None:
        self._choose = choose
        # Whatever it starts ends with the thread that started it, which is why there is only this one.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="chain")

    def answer(self, _: str, body: Any) -> dict[str, Any]:
        """The JSON-RPC answer to a JSON-RPC request."""
        call = body if isinstance(body, dict) else {}
        head = {"jsonrpc": "2.0", "id": call.get("id")}
        try:
            return head | {"result": self._thread.submit(self._request, call).result()}
        except RpcError as error:
            return head | {"error": {"code": error.code, "message": str(error)}}

    def close(self) -> None:
        """End the thread, and with it whatever it started."""
        self._thread.shutdown()

    @cached_property
    def _engine(self) -> Engine:
        engine = self._choose()
        artifact = json.loads(ARTIFACT.read_text())
        receipt = _sent(engine, {"from": DEPLOYER, "data": artifact["bytecode"]})
        if receipt["contractAddress"].lower() != TOKEN.lower():
            raise RpcError(FAILED, f"the token is at {receipt['contractAddress']} instead of {TOKEN}")
        for wallet in wallets():
            _sent(engine, {"from": DEPLOYER, "to": TOKEN, "data": encoded(MINT, wallet, BALANCE)})
        return engine

    def _request(self, call: Mapping[str, Any]) -> Any:
        return self._engine.request(str(call.get("method")), *call.get("params", ()))


def _sent(engine: Engine, transaction: Mapping[str, str]) -> Any:
    sent = engine.request("eth_sendTransaction", {"gas": hex(GAS), **transaction})
    receipt = engine.request("eth_getTransactionReceipt", sent)
    if receipt["status"] != "0x1":
        raise RpcError(FAILED, "the token could not be set up")
    return receipt


def wallets() -> list[str]:
    """The addresses of the wallets whose keys the run made."""
    from eth_account import Account

    files = os.environ["STACK_WALLET_KEY_FILES"].split(os.pathsep)
    return [str(Account.from_key(Path(file).read_text()).address) for file in files]


class EthTester:
    """py-evm behind eth-tester: one block for each transaction."""

    def __init__(self) -> None:
        from eth_tester import EthereumTester, PyEVMBackend
        from eth_tester.exceptions import TransactionFailed, TransactionNotFound

        backend = PyEVMBackend()
        # It has no setting for the id of its chain.
        type(backend.chain).chain_id = CHAIN_ID
        self._tester = EthereumTester(backend)
        self._failed, self._not_found = TransactionFailed, TransactionNotFound

    def request(self, method: str, *params: Any) -> Any:
        """The result of one of the calls that payments need."""
        match method, params:
            case "eth_chainId", _:
                return hex(CHAIN_ID)
            case "eth_blockNumber", _:
                return hex(self._tester.get_block_by_number("latest")["number"])
            case "eth_getCode", [address, *_]:
                return self._tester.get_code(address)
            case "eth_call", [call, *_]:
                self._catch_up()
                return self._run(self._tester.call, call)
            case "eth_sendTransaction", [transaction]:
                self._catch_up()
                return self._run(self._tester.send_transaction, transaction)
            case "eth_getTransactionReceipt", [transaction]:
                try:
                    return _receipt(self._tester.get_transaction_receipt(transaction))
                except self._not_found:
                    return None
        raise RpcError(UNKNOWN_METHOD, f"the method {method} does not exist here")

    def _run(self, work: Callable[..., str], call: Mapping[str, str]) -> str:
        given = {"from": DEPLOYER, "to": "", "data": "0x", **call, "gas": GAS}
        try:
            return work(given)
        except self._failed as error:
            raise RpcError(REVERTED, f"execution reverted: {error}") from None

    def _catch_up(self) -> None:
        # The block to come was dated when the one before it was made, and a contract goes by that date.
        now = int(time.time())
        if now > self._tester.get_block_by_number("pending")["timestamp"]:
            self._tester.time_travel(now)


def _receipt(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "transactionHash": found["transaction_hash"],
        "status": hex(found["status"]),
        "blockNumber": hex(found["block_number"]),
        "contractAddress": found["contract_address"],
        "logs": [{name: log[name] for name in ("address", "topics", "data")} for log in found["logs"]],
    }


class Anvil:
    """An anvil in a process of its own, with the account that deploys unlocked."""

    def __init__(self, program: str) -> None:
        (port,) = reserve(1)
        self._rpc = Rpc(f"http://{LOOPBACK}:{port}")
        argv = [program, "--silent", "--host", LOOPBACK, "--port", str(port), "--chain-id", str(CHAIN_ID)]
        self._process = start("anvil", Command(argv, os.environ, Path.cwd()), Path("logs/anvil.log"))
        wait_until(self._answers, time.monotonic() + BOOT_DEADLINE_S)
        self._rpc.request("anvil_setBalance", DEPLOYER, hex(10**24))
        self._rpc.request("anvil_impersonateAccount", DEPLOYER)

    def request(self, method: str, *params: Any) -> Any:
        """The result of any call that anvil knows."""
        return self._rpc.request(method, *params)

    def _answers(self) -> bool:
        try:
            return bool(self._rpc.request("eth_chainId"))
        except OSError:
            return not self._process.running


def choose() -> Engine:
    """Anvil where it is installed, else eth-tester."""
    program = shutil.which("anvil")
    return Anvil(program) if program else EthTester()


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
    chain = sys.argv[1:] == ["chain"]
    serve(Node(choose).answer if chain else Facilitator(Rpc(os.environ["STACK_CHAIN_URL"])).answer)

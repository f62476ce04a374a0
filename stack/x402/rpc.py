"""JSON over HTTP as the chain and the facilitator speak it, and calls of a contract in its ABI."""

import http.client
import json
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from stack.host import LOOPBACK

WITHIN_S = 30.0
Answerer = Callable[[str, Any], Any]


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

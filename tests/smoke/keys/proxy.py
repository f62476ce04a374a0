"""An HTTP proxy before the AWS emulator that writes down every call and can refuse some."""

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

HOP = {"host", "content-length", "connection", "transfer-encoding"}


class AwsProxy:
    """Passes calls on to ``upstream``; ``refuse`` maps a name, as GetSecretValue, to a code and a status."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.calls: list[str] = []
        self.bodies: list[bytes] = []
        self.refuse: dict[str, tuple[str, int]] = {}
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, answer = proxy.handle(dict(self.headers.items()), body, self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, headers: dict[str, str], body: bytes, path: str) -> tuple[int, dict[str, str], bytes]:
        named = {name.lower(): value for name, value in headers.items()}
        call = named.get("x-amz-target", "").partition(".")[2] or parse_qs(body.decode())["Action"][0]
        self.calls.append(call)
        self.bodies.append(body)
        if call in self.refuse:
            code, status = self.refuse[call]
            answer = json.dumps({"__type": code, "message": "told to refuse"}).encode()
            return status, {"Content-Type": "application/x-amz-json-1.1"}, answer
        passed = {name: value for name, value in headers.items() if name.lower() not in HOP}
        request = urllib.request.Request(self.upstream + path, data=body, headers=passed, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, {"Content-Type": response.headers["Content-Type"]}, response.read()
        except urllib.error.HTTPError as error:
            return error.code, {"Content-Type": error.headers["Content-Type"]}, error.read()

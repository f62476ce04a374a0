"""An HTTP proxy before the AWS emulator that writes down every call and can refuse some."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

HOP = {"host", "content-length", "connection", "transfer-encoding"}
#: What is asked of Route 53, by the end of the path.
ZONES = {"hostedzone": "ListHostedZones", "rrset": "ListResourceRecordSets", "dnssec": "GetDNSSEC"}
#: IAM's prefix of an action where it is not the name that requests are signed for.
PREFIXES = {"monitoring": "cloudwatch"}


def call_of(headers: dict[str, str], body: bytes, path: str) -> str:
    """The operation that a request asks for, in whichever of AWS's protocols; header names in lower case."""
    if target := headers.get("x-amz-target"):
        return target.rpartition(".")[2]
    if "/operation/" in path:
        return path.rpartition("/")[2]
    last = path.partition("?")[0].rpartition("/")[2]
    if last in ZONES:
        return ZONES[last]
    if "/hostedzone/" in path:
        return "GetHostedZone"
    return parse_qs(body.decode())["Action"][0]


def permission_of(headers: dict[str, str], call: str) -> str:
    """The IAM action that a request takes, by the service that it is signed for."""
    # AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...
    service = headers["authorization"].partition("Credential=")[2].split("/")[3]
    return f"{PREFIXES.get(service, service)}:{call}"


class AwsProxy:
    """Passes calls on to ``upstream``; ``refuse`` maps a name, as GetSecretValue, to a code and a status."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.calls: list[str] = []
        self.permissions: set[str] = set()
        self.bodies: list[bytes] = []
        self.refuse: dict[str, tuple[str, int]] = {}
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, answer = proxy.handle(
                    dict(self.headers.items()), body, self.path, self.command
                )
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(
        self, headers: dict[str, str], body: bytes, path: str, method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        named = {name.lower(): value for name, value in headers.items()}
        call = call_of(named, body, path)
        self.calls.append(call)
        self.permissions.add(permission_of(named, call))
        self.bodies.append(body)
        if call in self.refuse:
            code, status = self.refuse[call]
            answer = json.dumps({"__type": code, "message": "refused on purpose"}).encode()
            return status, {"Content-Type": "application/x-amz-json-1.1"}, answer
        passed = {name: value for name, value in headers.items() if name.lower() not in HOP}
        url, data = self.upstream + path, None if method == "GET" else body
        request = urllib.request.Request(url, data=data, headers=passed, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, forwarded(response.headers.items()), response.read()
        except urllib.error.HTTPError as error:
            return error.code, forwarded(error.headers.items()), error.read()


def forwarded(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What an answer says beside its body."""
    return {name: value for name, value in headers if name.lower() not in HOP | {"date", "server"}}

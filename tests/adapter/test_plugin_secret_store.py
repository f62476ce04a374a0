"""Secrets from a secret store: a missing one is reported with its fix."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pytest_readiness import profile as profiles
from pytest_readiness.core.errors import SetupError
from pytest_readiness.profile import load_environment

from tests.adapter.samples import LOCAL, SCHEMA
from tests.adapter.scenario import Suite


class _Store(BaseHTTPRequestHandler):
    """Answers as AWS Secrets Manager does."""

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["SecretId"]
        status, answer = {
            "a/token": (200, {"Name": name, "SecretString": "a-token-in-the-store"}),
            "a/denied": (400, {"__type": "AccessDeniedException", "message": "no"}),
        }.get(name, (400, {"__type": "ResourceNotFoundException", "message": "no"}))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("a/token", 0, ""),
        (
            "a/denied",
            6,
            "AccessDeniedException on secret a/denied: grant this runner secretsmanager:GetSecret",
        ),
        ("a/none", 6, "secret a/none does not exist"),
    ],
)
def test_secret_store(suite: Suite, store: str, name: str, code: int, expected: str) -> None:
    suite.write(
        "environments/schema.toml",
        f"{SCHEMA}[section.aws.region]\ntype = 'string'\n[section.aws.endpoint_url]\ntype = 'url'\n",
    )
    profile = LOCAL.replace("env:SCENARIO_TOKEN", f"secretsmanager:{name}")
    suite.write(
        "environments/local.toml", f"{profile}[aws]\nregion = 'us-east-1'\nendpoint_url = '{store}'\n"
    )
    suite.checks("""
    @pytest.mark.p0
    @pytest.mark.requires("token")
    def test_token(evidence, environment):
        print(environment.secret("auth.token"))
        evidence.figure("length", len(environment.secret("auth.token")))
    """)
    run = suite.run("-rP", environ={"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"})
    assert run.code == code, run.output()
    assert expected in run.check("health/token")["summary"]
    assert "a-token-in-the-store" not in run.out


def test_secret_store_without_credentials(suite: Suite) -> None:
    suite.write("environments/local.toml", LOCAL.replace("env:SCENARIO_TOKEN", "secretsmanager:a/b"))
    suite.checks("""
    @pytest.mark.p0
    @pytest.mark.requires("token")
    def test_token(evidence):
        passing(evidence)
    """)
    run = suite.expect("NO_VERDICT", environ={"AWS_DEFAULT_REGION": "us-east-1"})
    assert "Unable to locate credentials" in run.check("health/token")["summary"]


@pytest.mark.parametrize("hangs", ["resolver", "store"])
def test_a_store_that_is_not_reached_costs_one_deadline(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    suite.write(
        "environments/schema.toml",
        f"{SCHEMA}[section.aws.region]\ntype = 'string'\n[section.aws.endpoint_url]\ntype = 'url'\n",
    )
    over = threading.Event()
    monkeypatch.setattr(profiles, "DEADLINE_S", 0.5)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    if hangs == "resolver":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30) and [])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = "store.example.test" if hangs == "resolver" else "127.0.0.1"
        profile = LOCAL.replace("env:SCENARIO_TOKEN", "secretsmanager:a/token")
        url = f"http://{place}:{silent.getsockname()[1]}"
        suite.write(
            "environments/local.toml", f"{profile}[aws]\nregion = 'us-east-1'\nendpoint_url = '{url}'\n"
        )
        loaded = load_environment("local", suite.root)
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(SetupError, match=r"no answer within 0\.5 s"):
                loaded.secret("auth.token")
        assert time.monotonic() - began < 5
    over.set()

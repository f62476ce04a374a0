"""The check of a hostile project: it asks one case's server through the suite's own clients."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pytest_readiness import Evidence

from smoke.aws.account import AwsAccount
from smoke.contract.exchange import judge
from smoke.contract.model import SERVICES
from smoke.keys.verifiers import TokenReply, freeside_verifier
from smoke.network.transport import http_pool
from smoke.platform import pgbouncer
from smoke.platform.answers import fields_of, require_status
from smoke.platform.backends import build_of
from smoke.platform.freeside import Dialects, Freeside
from smoke.platform.http import HttpClient, certificate_of
from smoke.platform.recorded import exchange_of
from smoke.platform.spend import SpendJournal
from smoke.platform.streams import stream
from smoke.platform.tokens import SigningKey, bearer, key_set_of, user_claims
from tests.hostile.case import DEADLINE_S

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("hostile")]

#: File with the address of each case's server, written by the runner.
URLS: dict[str, str] = json.loads(Path(os.environ["HOSTILE_URLS"]).read_text())
KEY = SigningKey.throwaway()
#: The suite's own limits, shortened for the tests.
HURRIED = (
    "aws.account.ANSWER_WITHIN_S",
    "network.transport.STREAM_WITHIN_S",
    "platform.backends.BUILDS_WITHIN_S",
    "platform.pgbouncer.ANSWER_WITHIN_S",
    "platform.streams.STREAM_WITHIN_S",
    "platform.http.CONNECT_TIMEOUT_S",
)


@pytest.fixture(scope="module")
def pool() -> Any:
    trust = ssl.create_default_context(cafile=os.environ["HOSTILE_CA"])
    with http_pool("hostile", proxies=False, answers_within=DEADLINE_S, trust=trust) as made:
        yield made


class Asker:
    """The suite's ways to ask a platform at ``url``."""

    def __init__(self, url: str, pool: httpx.Client, evidence: Evidence, directory: Path) -> None:
        self.url, self.pool, self.directory = url, pool, directory
        self.http = HttpClient("freeside", url, pool, evidence)
        self.freeside = Freeside(
            self.http,
            Dialects("prompt", "endpoint", "community", "agent"),
            lambda: KEY,
            SpendJournal(directory),
        )

    def get(self) -> httpx.Response:
        return self.http.send("GET", "/health", credential=lambda: bearer(KEY, user_claims("tenant")))

    def health(self) -> None:
        fields_of(require_status(self.get(), 200)).text("status", among=("healthy", "degraded"))

    def twice(self) -> None:
        """The second answer must be the one to the second request."""
        self.health()
        self.health()

    def cookie(self) -> None:
        """The next request, and one to a service on the same host, carry no cookie of the first answer."""
        self.twice()
        origin = urlsplit(self.url)
        HttpClient("dixie", f"{origin.scheme}://{origin.netloc}/no-cookies", self.pool).send("GET", "/x")
        self.pool.get(os.environ["HOSTILE_TRAP"])

    def internals(self) -> None:
        broken = {broken.rule for broken in judge(exchange_of(SERVICES["freeside"], self.get()))}
        assert "internals" not in broken, f"broken: {broken}"

    def uptime(self) -> None:
        fields_of(require_status(self.get(), 200)).number("uptime", minimum=0, maximum=float("inf"))

    def budget(self) -> None:
        self.freeside.budget("tenant")

    def invoke(self) -> None:
        self.freeside.invoke("tenant", "say hello")

    def upload(self) -> None:
        require_status(self.http.send("POST", "/health", content=b"a" * (8 << 20)), 200)

    def jwks(self) -> None:
        keys = key_set_of(require_status(self.get(), 200))
        faulty = [*keys.faults(), *keys.kid_faults()]
        assert not faulty, f"{len(faulty)} faulty keys: {faulty[0]}"

    def stream(self) -> None:
        heard = stream(self.freeside, "tenant", "say hello")
        assert heard.text()
        assert heard.usage()

    def build(self) -> None:
        assert build_of(f"{self.url}/health", proxies=False), "no build"

    def probe(self) -> None:
        """A verifier that answers nonsense has neither accepted nor refused a key."""
        answer = freeside_verifier(self.url, "tenant", self.pool, SERVICES["freeside"]).ask(KEY)
        assert answer is not TokenReply.SILENT, "the verifier is silent"

    def certificate(self) -> None:
        certificate_of(self.url, os.environ["HOSTILE_CA"])

    def aws(self) -> None:
        AwsAccount("us-east-1", self.url).ask("ecs", "list_clusters")

    def aws_xml(self) -> None:
        AwsAccount("us-east-1", self.url).ask("sts", "get_caller_identity")

    def postgres(self) -> None:
        port = urlsplit(self.url).port
        pgbouncer.ask(f"host=127.0.0.1 port={port} user=a password=b dbname=pgbouncer", "SHOW POOLS")


@pytest.mark.p0
@pytest.mark.parametrize("case", sorted(URLS))
def test_case(
    case: str, pool: httpx.Client, evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence.evaluated("the case was asked")
    for place in HURRIED:
        monkeypatch.setattr(f"smoke.{place}", DEADLINE_S)
    monkeypatch.setattr("smoke.aws.account.ATTEMPTS", 1)
    asks, url = URLS[case].split(" ")
    ask: Callable[[], None] = getattr(Asker(url, pool, evidence, tmp_path), asks)
    started = time.monotonic()
    try:
        ask()
    finally:
        evidence.figure("took", round(time.monotonic() - started, 3), "s")

"""HTTP: the client waits after a 429, which is neither outage nor bug; names that do not resolve."""

import base64
import json
import secrets
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from pytest_readiness import SetupError

from smoke.contract.exchange import judge
from smoke.contract.model import SERVICES, Service
from smoke.network.connections import authorities, trusting
from smoke.network.transport import ClosedWhileIdle, http_pool
from smoke.platform import http
from smoke.platform.answers import ContractViolation
from smoke.platform.chaos import TrackedCall
from smoke.platform.freeside import nonce
from smoke.platform.http import (
    BACKOFF_BUDGET_S,
    MAX_REPEATS,
    HttpClient,
    ServiceClient,
    require_resolvable,
    same_clock,
    trust_of,
)
from smoke.platform.recorded import AnswerLog, Events, exchange_of
from smoke.platform.tokens import SigningKey, dixie_service_claims, user_claims
from stack.aws.emulator import Authority
from tests.hostile.case import BODY, answer, head
from tests.hostile.server import Peer, Server, always
from tests.smoke.log import Log
from tests.smoke.test_smoke_jwks import certificate_of


@pytest.mark.parametrize(("off_s", "same"), [(0, True), (-1, True), (3, False), (-5, False), (None, True)])
def test_a_date_shows_another_clock(off_s: float | None, same: bool) -> None:
    sent = time.time()
    date = None if off_s is None else format_datetime(datetime.fromtimestamp(sent + off_s, UTC), usegmt=True)
    assert same_clock(httpx.Response(200, headers={"date": date} if date else {}), sent) is same


class Sender:
    """A client with scripted answers; it records requests, evidence and waits."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.log, self.waits, self.seen = Log(), list[float](), list[httpx.Request]()
        left = iter(answers)

        def handle(request: httpx.Request) -> httpx.Response:
            self.seen.append(request)
            return next(left)

        pool = httpx.Client(transport=httpx.MockTransport(handle))
        self.http = HttpClient("freeside", "http://h/", pool, self.log, pause=self.waits.append)
        self.send = partial(self.http.send, "GET", "/x")


def limited(after: str) -> httpx.Response:
    return httpx.Response(
        429, headers={"retry-after": after} if after else {}, json={"error": "RATE_LIMITED"}
    )


def test_429_is_waited_out_and_noted() -> None:
    made = iter(["Bearer 1", "Bearer 2"])
    sender = Sender(limited("3"), httpx.Response(200, json={}))
    assert sender.send(credential=lambda: next(made)).status_code == 200
    assert (sender.waits, sender.log.exchanges) == ([3.0], [429, 200])
    assert "waited 3 s" in sender.log.notes[0]
    assert [request.headers["authorization"] for request in sender.seen] == ["Bearer 1", "Bearer 2"]


def test_a_family_of_cases_notes_its_wait_for_a_rate() -> None:
    sender = Sender(limited("3"), httpx.Response(200, json={}))
    quiet = ServiceClient(sender.http).unrecorded()
    assert quiet.http.send("GET", "/x").status_code == 200
    assert (sender.log.exchanges, len(sender.log.notes)) == ([], 1)


@pytest.mark.parametrize(("after", "waits"), [(1, MAX_REPEATS), (int(BACKOFF_BUDGET_S) + 1, 0)])
def test_429_that_persists_is_the_runners_fault(after: int, waits: int) -> None:
    sender = Sender(*[limited(str(after))] * (MAX_REPEATS + 1))
    with pytest.raises(SetupError, match="still rate limited after"):
        sender.send()
    assert len(sender.waits) == waits


def once_per_connection(peer: Peer) -> None:
    """Answer one request, and close the idle connection when the next one is already on its way."""
    peer.send(head(length=len(BODY)) + BODY)
    peer.connection.recv(65536)
    peer.reset()


def test_a_request_over_a_connection_that_was_idle_and_closed_goes_out_anew() -> None:
    made, log = iter(["Bearer 1", "Bearer 2", "Bearer 3"]), Log()
    with Server(always(once_per_connection)) as service, http_pool("test", proxies=False) as pool:
        http = HttpClient("freeside", service.url, pool, log)
        assert [http.send("POST", "/x", lambda: next(made)).status_code for _ in range(2)] == [200, 200]
        assert [b"Bearer 1" in service.heads[0], b"Bearer 3" in service.heads[1]] == [True, True]
        assert "idle connection was closed" in log.notes[0]
        call = TrackedCall("", partial(http.send, "POST", "/x"))
        assert call.attempt().outcome == ClosedWhileIdle.__name__  # a drill wants to see what broke off


def test_a_request_that_is_never_answered_is_not_sent_for_ever() -> None:
    with Server(always(Peer.reset)) as service, http_pool("test", proxies=False) as pool:
        with pytest.raises(httpx.TransportError):
            HttpClient("freeside", service.url, pool).send("GET", "/x")
        assert len(service.heads) == 1


def test_429_without_a_pause_is_repeated_for_a_second() -> None:
    sender = Sender(*[limited("0")] * 9, httpx.Response(200, json={}))
    assert sender.send().status_code == 200
    assert sender.waits[0] == 0
    assert sum(sender.waits) > 1


def test_rate_limited_requests_precede_new_ones() -> None:
    """Eight callers of a service that allows one request at a time are all answered in the end."""
    window, lock, allowed = 0.01, Lock(), set[int]()

    def handle(request: httpx.Request) -> httpx.Response:
        now = int(time.monotonic() / window)
        with lock:
            if now in allowed:
                return limited("1")
            allowed.add(now)
        return httpx.Response(200, json={})

    pool = httpx.Client(transport=httpx.MockTransport(handle))
    http = HttpClient("freeside", "http://few/", pool, pause=lambda _: Event().wait(window))
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(http.send, "GET", "/x") for _ in range(80)]
    assert {answer.result().status_code for answer in answers} == {200}


def test_429_may_contain_a_date_instead_of_seconds() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = "Sun, 06 Nov 1994 08:49:37 GMT"
    sender = Sender(limited(soon), limited(past), httpx.Response(200, json={}))
    assert sender.send().status_code == 200
    assert 25 < sender.waits[0] <= 30
    assert sender.waits[1] < 1


@pytest.mark.parametrize("after", ["", "soon", "1.5", "-1"])
def test_429_without_seconds_violates_the_contract(after: str) -> None:
    with pytest.raises(ContractViolation, match="retry-after"):
        Sender(limited(after)).send()


def test_no_credential_sends_no_header() -> None:
    sender = Sender(httpx.Response(200, json={}))
    sender.send(credential=lambda: None)
    assert "authorization" not in sender.seen[0].headers
    assert str(sender.seen[0].url) == "http://h/x"


class Answers(AnswerLog):
    """Keeps what is judged."""

    def saw(self, address: Service, response: httpx.Response, prefix: str = "", events: Events = ()) -> None:
        self.exchange = exchange_of(address, response, prefix, events)


def test_a_service_is_addressed_as_the_profile_says_and_judged_as_the_contract_does(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers={"X-Correlation-Id": "r-1", "Trace-Id": "t"}, json={})

    address = replace(
        SERVICES["freeside"],
        paths={"/api/v1/communities/{id}/budget": "/v2/{id}/money", "/health": "/up"},
        headers={"X-Request-Id": "X-Correlation-Id", "x-trace-id": "Trace-Id", "X-Note": "Note"},
    )
    seen: list[httpx.Request] = []
    log = Answers(tmp_path)
    pool = httpx.Client(transport=httpx.MockTransport(answer))
    http = HttpClient("freeside", "http://h/base", pool, address=address, log=log)
    headers: dict[str, str | bytes] = {"x-request-id": "r-1", "X-Note": "\xe9".encode("latin-1")}
    response = http.send("GET", "/api/v1/communities/a%20b/budget", lambda: "Bearer x", headers=headers)
    (request,) = seen
    assert request.url.raw_path == b"/base/v2/a%20b/money"
    assert (request.headers["x-correlation-id"], request.headers["authorization"]) == ("r-1", "Bearer x")
    assert (b"Note", b"\xe9") in request.headers.raw
    assert not {"x-request-id", "x-note"} & {*request.headers}
    assert (response.headers["x-request-id"], response.headers["x-trace-id"]) == ("r-1", "t")
    assert log.exchange.path == "/api/v1/communities/a%20b/budget"
    assert log.exchange.sent["x-request-id"] == "r-1"
    http.send("GET", "/health")
    http.send("GET", "/health/x")
    assert [each.url.path for each in seen[1:]] == ["/base/up", "/base/health/x"]


def test_the_answer_to_a_streamed_request_is_recorded(tmp_path: Path) -> None:
    request = httpx.Request("POST", "http://h/x", content=iter([b"a", b"b"]))
    log = AnswerLog(tmp_path)
    log.saw(SERVICES["freeside"], httpx.Response(404, json={}, request=request))
    assert sum(log.seen("freeside").answers.values()) == 1


TRACE = {"traceId": "0f9b2c1e-3a4d-4e5f-8a6b-7c8d9e0f1a2b"}
REPLAY = {"x-idempotent-replay": "true"}


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ((TRACE, {}), (TRACE, {}), {"traceId"}),
        ((TRACE, {}), (TRACE, REPLAY), set()),
        (({}, {"x-trace-id": "t"}), ({}, {"x-trace-id": "t"}), {"header x-trace-id"}),
        (({}, {"x-request-id": "r"}), ({}, {"x-request-id": "r"}), {"header x-request-id"}),
    ],
)
def test_an_id_belongs_to_one_answer(tmp_path: Path, first: Any, second: Any, found: set[str]) -> None:
    log, request = AnswerLog(tmp_path), httpx.Request("POST", "http://h/api/agents/invoke")
    for document, headers in (first, second):
        headers = {"x-request-id": secrets.token_hex(), **headers}
        log.saw(SERVICES["freeside"], httpx.Response(200, headers=headers, json=document, request=request))
    findings = log.seen("freeside").findings
    assert {text.split(": ")[2] for rule, text in findings if rule == "unique"} == found


@pytest.mark.parametrize(
    ("service", "route", "content", "count"),
    [
        ("freeside", "/api/agents/invoke", "content", "completionTokens"),
        ("freeside", "/api/v1/x402/invoke", "content", "completionTokens"),
        ("finn", "/api/v1/invoke", "response", "completion_tokens"),
    ],
)
@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([(17, 12), (20, 12), (2000, 12)], True),
        ([(17, 12), (20, 12), (2000, 13)], False),
        ([(2000, 12), (2000, 12), (17, 12)], False),  # one of them came twice
        ([(250, 12), (251, 12), (2000, 12)], False),  # not far enough apart
        ([(2, 256), (20, 256), (2000, 256)], False),  # a model that thinks, and is cut off there
        ([(1, 1), (2, 1), (16, 1)], False),
        ([(17, True), (20, True), (2000, True)], False),
    ],
)
def test_one_count_for_answers_of_all_lengths_is_a_finding(
    tmp_path: Path, service: str, route: str, content: str, count: str, answers: Any, found: bool
) -> None:
    log, request = AnswerLog(tmp_path), httpx.Request("POST", f"http://h{route}")
    for length, tokens in answers:
        document = {content: "a" * length, "usage": {count: tokens}}
        log.saw(SERVICES[service], httpx.Response(200, json=document, request=request))
    for _ in range(2):
        counted = [text for rule, text in log.seen(service).all_findings() if rule == "tokens"]
        assert ["completion tokens each" in text for text in counted] == [True] * found


def test_a_request_id_that_was_sent_is_no_other_answers(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path)
    for sent in ({"x-request-id": "mine"}, {}):
        request = httpx.Request("GET", "http://h/health", headers=sent)
        log.saw(SERVICES["finn"], httpx.Response(200, headers={"x-request-id": "mine"}, request=request))
    findings = log.seen("finn").findings
    assert [n for (rule, _), n in findings.items() if rule == "unique"] == [1]


def asked(tenant: str, prompt: str) -> httpx.Request:
    """A call with a token of a tenant."""
    claims = base64.urlsafe_b64encode(json.dumps({"tenant_id": tenant}).encode()).decode()
    headers = {"authorization": f"Bearer x.{claims}.x"}
    return httpx.Request("POST", "http://h/api/agents/invoke", headers=headers, json={"prompt": prompt})


@pytest.mark.parametrize(
    ("tenant", "shows", "leaks"), [("two", 0, True), ("two", 1, False), ("one", 0, False), ("two", 2, False)]
)
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_words_of_a_prompt_are_for_its_tenant(
    tmp_path: Path, tenant: str, shows: int, leaks: bool, streamed: bool, first: bool
) -> None:
    """A tenant's own earlier words may come again, and words that nobody sent are nobody's."""
    log, words, freeside = AnswerLog(tmp_path), [nonce() for _ in range(3)], SERVICES["freeside"]
    word, empty = words[shows], httpx.Response(200, json={}, request=asked("one", words[0]))
    if first:
        log.saw(freeside, empty)
    document, kind, status = json.dumps({"message": word}), "application/json", 400
    if streamed:
        texts = [json.dumps({"text": text}) for text in (word[:7], word[7:])]
        document = "".join(f"id: {n}\nevent: content\ndata: {text}\n\n" for n, text in enumerate(texts))
        kind, status = "text/event-stream", 200
    answer = httpx.Response(status, headers={"content-type": kind}, text=document)
    answer.request = asked(tenant, words[1])
    log.saw(freeside, answer)
    if not first:
        log.saw(freeside, empty)
    assert bool(log.seen("freeside").secrets) is leaks


def test_tokens_are_those_that_the_profile_names() -> None:
    dixie = replace(SERVICES["dixie"], audience="bff", issuers={"user": "idp", "service": ""})
    assert [user_claims("t", at=dixie)[name] for name in ("iss", "aud")] == ["idp", "bff"]
    assert [dixie_service_claims(at=dixie)[name] for name in ("iss", "aud")] == ["loa-finn", "bff"]


def test_a_name_that_does_not_resolve_is_the_runners_fault() -> None:
    require_resolvable("http://127.0.0.1:1")
    with pytest.raises(SetupError, match=r"does-not-exist\.invalid does not resolve"):
        require_resolvable("https://does-not-exist.invalid/path")


@pytest.mark.parametrize("per_second", [1, 1000])
@pytest.mark.parametrize("service", ["freeside", "finn"])
def test_an_uptime_is_read_in_seconds_whatever_its_unit(service: str, per_second: int) -> None:
    began = time.monotonic() - 90

    def health(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"uptime": int((time.monotonic() - began) * per_second)})

    with httpx.Client(transport=httpx.MockTransport(health)) as pool:
        client = ServiceClient(HttpClient(service, "http://h", pool))
        assert 89 < client.uptime() < 92
        began = time.monotonic()
        assert client.uptime() < 2, "it was restarted"


@pytest.mark.parametrize(("message", "found"), [("try again", set()), (None, {"events"})])
def test_a_stream_that_was_read_to_its_end_is_judged_by_its_events(
    message: str | None, found: set[str]
) -> None:
    data = json.dumps({"code": "SERVICE_UNAVAILABLE"} | ({"message": message} if message else {}))
    body = f'id: 1\nevent: content\ndata: {{"text": "a"}}\n\nid: 2\nevent: error\ndata: {data}\n\n'
    request = httpx.Request("POST", "http://h/api/agents/stream")
    headers = {"content-type": "text/event-stream", "cache-control": "no-cache", "x-request-id": "r"}
    exchange = exchange_of(
        SERVICES["freeside"], httpx.Response(200, text=body, headers=headers, request=request)
    )
    assert [event.name for event in exchange.events] == ["content", "error"]
    assert {broken.rule for broken in judge(exchange)} == found


@pytest.mark.parametrize(("url", "more"), [("https://h", 1), ("http://h", 0)])
def test_the_profiles_authority_is_trusted_beside_the_runners_where_a_service_has_tls(
    tmp_path: Path, url: str, more: int
) -> None:
    own = base64.b64decode(certificate_of(SigningKey.throwaway().private))
    (tmp_path / "ca.pem").write_text(ssl.DER_cert_to_PEM_cert(own))
    values = {"edge.ca_file": str(tmp_path / "ca.pem"), "dixie.url": url}
    environment: Any = SimpleNamespace(get=lambda name: values.get(name, ""))
    trusted = trust_of(environment).cert_store_stats()["x509"]
    assert trusted == authorities().cert_store_stats()["x509"] + more


def test_a_certificate_without_key_identifiers_is_valid_on_every_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = ssl.create_default_context

    def since_3_13(**options: Any) -> ssl.SSLContext:
        context = default(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", since_3_13)
    authority, host = Authority(tmp_path), tmp_path / "host.pem"
    authority.issue(host, "localhost", days=30)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(host)
    with Server(always(answer()), tls=tls) as server:
        found = http.certificate_of(server.url, str(authority.certificate))
        with http_pool("test", proxies=False, trust=trusting(str(authority.certificate))) as pool:
            got = pool.get(server.url)
    assert (found.names, got.status_code) == (("localhost",), 200)


def test_an_unreadable_authority_is_the_profiles_fault() -> None:
    values = {"edge.ca_file": "no/such.pem", "dixie.url": "https://h"}
    environment: Any = SimpleNamespace(get=lambda name: values.get(name, ""))
    with pytest.raises(SetupError, match=r"edge\.ca_file no/such\.pem"):
        trust_of(environment)

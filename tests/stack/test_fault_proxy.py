"""The fault proxy over real HTTP: each key of a rule changes what its name says, and nothing else."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stack.faults import proxy
from stack.faults.proxy import Faults
from tests.stack.tools import poll

BODY = {"status": "healthy", "n": 1, "keys": [{"kid": "a"}], "deep": {"er": True}}
EVENTS = ["id: 1\nevent: content\n\n", "id: 2\nevent: done\n\n"]


class Served:
    """A small service behind the proxy, and the rules that are on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.bodies: list[bytes] = []
        routes = [
            Route("/health", self._answer, methods=["GET", "POST"]),
            Route("/refuses", lambda _: JSONResponse({"error": "NO"}, 401)),
            Route("/stream", self._stream),
        ]
        self.rules()
        app = proxy.FaultProxy(Starlette(routes=routes), Faults(file), "finn")
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))

    def rules(self, **rules: dict[str, Any]) -> None:
        """Turn these rules on, those before off."""
        new = self._file.with_suffix(".new")
        found = {name: {"service": "finn", "rewrite": "GET *", **rule} for name, rule in rules.items()}
        new.write_text(json.dumps({"generation": 0, "active": found}))
        new.replace(self._file)

    def get(self, path: str = "/health", **options: Any) -> httpx.Response:
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return httpx.request(options.pop("method", "GET"), f"http://127.0.0.1:{port}{path}", **options)

    async def _answer(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        return JSONResponse(BODY, headers={"etag": "x"})

    async def _stream(self, _: Request) -> Response:
        return StreamingResponse(iter(EVENTS), media_type="text/event-stream")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path / "faults.json")
    thread = threading.Thread(target=found.server.run)
    thread.start()
    poll(lambda: found.server.started, 5, "the server listens")
    yield found
    found.server.should_exit = True
    thread.join(5)


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ({"set": {"status": "odd", "deep.er": 2, "new": 3}}, {"status": "odd", "deep": {"er": 2}, "new": 3}),
        ({"set": {"status": "call {call}", "absent.way": 1}}, {"status": "call 1"}),
        ({"null": ["status"]}, {"status": None}),
        ({"add": {"n": 0.5, "absent": 1}}, {"n": 1.5}),
        ({"append": {"keys": [{"kid": "b"}]}}, {"keys": [{"kid": "a"}, {"kid": "b"}]}),
        ({"drop": ["keys.0", "keys.5", "absent"]}, {"keys": []}),
        ({"drop": ["deep.er"]}, {"deep": {}}),
        ({"replace": {'"n":(1)': '"n":\\g<1>0'}}, {"n": 10}),
        ({"service": "dixie", "drop": ["n"]}, {}),
        ({"rewrite": "POST *", "drop": ["n"]}, {}),
        ({"rewrite": "GET /h*h", "null": ["n"]}, {"n": None}),
        ({"on": [500], "drop": ["n"]}, {}),
    ],
)  # fmt: skip
def test_a_rule_changes_its_members_only(
    served: Served, rule: dict[str, Any], changed: dict[str, Any]
) -> None:
    served.rules(fault=rule)
    answer = served.get()
    assert answer.json() == BODY | changed
    assert (answer.status_code, answer.headers["etag"]) == (200, "x")
    served.rules()
    assert served.get().json() == BODY


def test_status_body_and_headers(served: Served) -> None:
    served.rules(fault={"status": 503, "body": "gone", "headers": {"via": "me"}, "drop_headers": ["etag"]})
    answer = served.get()
    assert (answer.status_code, answer.text, answer.headers["via"]) == (503, "gone", "me")
    assert "etag" not in answer.headers


def test_headers_in_lower_case(served: Served) -> None:
    served.rules(fault={"headers": {"via": "Me"}, "lower_headers": ["via"]})
    assert served.get().headers["via"] == "me"


def test_headers_cut_short(served: Served) -> None:
    served.rules(fault={"headers": {"via": "1.1 proxy"}, "cut_headers": {"via": 3}})
    assert served.get().headers["via"] == "1.1"


def test_only_answers_with_a_status(served: Served) -> None:
    served.rules(fault={"on": [401], "status": 200, "set": {"error": "YES"}})
    assert (served.get("/refuses").status_code, served.get("/refuses").json()) == (200, {"error": "YES"})
    assert served.get().json() == BODY


def test_only_requests_with_a_header(served: Served) -> None:
    served.rules(fault={"with": "accept: text/h", "status": 406})
    assert [served.get(headers={"accept": media}).status_code for media in ("text/html", "a/b")] == [406, 200]


@pytest.mark.parametrize(
    ("calls", "broken"),
    [
        ({"every": 3}, [3, 6]),
        ({"first": 2}, [1, 2]),
        ({"after": 4}, [5, 6]),
        ({"after": 1, "first": 3}, [2, 3]),
    ],
)
def test_only_some_calls(served: Served, calls: dict[str, int], broken: list[int]) -> None:
    served.rules(fault={"status": 500, **calls})
    assert [n for n in range(1, 7) if served.get().status_code == 500] == broken


def test_an_answer_of_the_proxy_does_not_reach_the_service(served: Served) -> None:
    served.rules(fault={"forward": False, "status": 404, "headers": {"retry-after": "1"}})
    answer = served.get()
    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")
    assert answer.headers["retry-after"] == "1"
    assert served.bodies == []


def test_a_delay_and_a_hang(served: Served) -> None:
    served.rules(fault={"delay_s": 0.3})
    started = time.monotonic()
    assert served.get().json() == BODY
    assert time.monotonic() - started >= 0.3
    served.rules(fault={"hang": True})
    with pytest.raises(httpx.ReadTimeout):
        served.get(timeout=0.3)


def test_a_closed_connection(served: Served) -> None:
    served.rules(fault={"close": True})
    with pytest.raises(httpx.RemoteProtocolError):
        served.get()


def test_a_request_is_forwarded_again_with_its_body(served: Served) -> None:
    served.rules(fault={"rewrite": "* /health", "repeat": 3})
    assert served.get(method="POST", content=b"once").json() == BODY
    assert served.bodies == [b"once"] * 3


def test_a_stream_is_changed_piece_by_piece(served: Served) -> None:
    served.rules(fault={"replace": {r"^id: \d+\nevent: done\n.*": ""}})
    assert served.get("/stream").text == EVENTS[0]
    served.rules(fault={"buffer": True, "replace": {"(id: 1.*)(id: 2.*)": r"\2\1"}})
    assert served.get("/stream").text == EVENTS[1] + EVENTS[0]


def test_two_rules_at_once(served: Served) -> None:
    served.rules(one={"drop": ["n"]}, other={"set": {"status": "odd"}})
    assert served.get().json() == {**{k: v for k, v in BODY.items() if k != "n"}, "status": "odd"}


def test_every_key_is_documented() -> None:
    assert [key for key in proxy.KEYS if key not in str(proxy.__doc__)] == []

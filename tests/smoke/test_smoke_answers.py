"""Answers: strict decoding that names the field, and statuses with the party to blame."""

import time
from contextlib import nullcontext
from typing import Any

import httpx
import pytest
from pytest_readiness import ExternalOutage

from smoke.platform.answers import (
    ContractViolation,
    Fields,
    UnexpectedStatus,
    error_code,
    fields_of,
    require_error,
    require_json_error,
    require_status,
    shown,
)
from smoke.platform.attacks import mentions
from smoke.platform.freeside import answer_of, prompt_tokens_in


def fields(**data: Any) -> Any:
    return Fields("GET /thing", data)


def response(content: Any = b"{}", status: Any = 200, kind: Any = "application/json") -> Any:
    return httpx.Response(
        status,
        content=content,
        headers={"content-type": kind},
        request=httpx.Request("GET", "http://h/thing"),
    )


def test_violation_names_route_field_expectation_and_value() -> None:
    with pytest.raises(ContractViolation) as caught:
        fields(usage={"costMicro": 12}).object("usage").micro("costMicro")
    assert str(caught.value) == (
        "GET /thing: usage.costMicro: expected µUSD as decimal digits in a string, got 12 (integer)"
    )


def test_missing_member_is_named() -> None:
    with pytest.raises(ContractViolation, match=r"model: expected .* got nothing \(the member is missing\)"):
        fields().text("model")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", [None, "", "  ", 1, True, [], {}, ["a"]]),
        ("integer", [None, "1", 1.0, 1.5, True, -1, [], float("nan")]),
        ("number", [None, "0.5", True, -0.1, 1.1, float("nan"), float("inf"), []]),
        ("micro", [None, 12, "-1", "1.5", "1e3", "", " 1", "١٢", True, "0"]),
        ("boolean", [None, 0, 1, "true"]),
    ],
)
def test_value_of_another_kind_is_refused(kind: str, values: list[Any]) -> None:
    bounds = {"number": {"minimum": 0, "maximum": 1}, "micro": {"minimum": 1}}.get(kind, {})
    for value in values:
        with pytest.raises(ContractViolation):
            getattr(fields(name=value), kind)("name", **bounds)


def test_good_values_pass() -> None:
    good = fields(t="x", i=3, n=0, b=False, m="0", o={}, a=[1])
    assert (good.text("t"), good.integer("i"), good.number("n", minimum=0, maximum=1)) == ("x", 3, 0.0)
    assert (good.boolean("b"), good.micro("m"), good.array("a")) == (False, 0, [1])
    assert good.object("o").data == {}


def test_choice_and_pattern_are_held() -> None:
    assert fields(s="healthy").text("s", among={"healthy", "degraded"}) == "healthy"
    with pytest.raises(ContractViolation, match="one of degraded, healthy"):
        fields(s="unhealthy").text("s", among={"healthy", "degraded"})
    with pytest.raises(ContractViolation, match="matching"):
        fields(s="latest").text("s", pattern="[0-9a-f]{7,40}")


@pytest.mark.parametrize("content", [b"", b"<html>", b"null", b"[]", b'"text"', b'{"a": Infinity}', b"\xff"])
def test_body_must_be_a_json_object(content: Any) -> None:
    with pytest.raises(ContractViolation):
        fields_of(response(content))


def test_body_must_be_declared_as_json() -> None:
    with pytest.raises(ContractViolation, match="content-type"):
        fields_of(response(kind="text/html"))


def test_json_error_needs_a_readable_error() -> None:
    assert require_json_error(response(b'{"error": "UNAUTHORIZED", "message": "no"}', 401)) == "UNAUTHORIZED"
    for body in (b"{}", b'{"error": null}', b'{"error": {"code": "X"}}'):
        with pytest.raises(ContractViolation):
            require_json_error(response(body, 401))


def test_long_values_are_shortened() -> None:
    assert len(shown("x" * 500)) < 100
    assert shown(None) == "null"


ANSWER = {
    "content": "yes", "model": "cheap", "traceId": "00000000-0000-4000-8000-000000000000",
    "usage": {"promptTokens": 1, "completionTokens": 1, "costMicro": "2000"},
}  # fmt: skip
HEADERS = {"x-idempotency-key": "k", "x-ratelimit-limit": "60", "x-ratelimit-remaining": "59"}


def answered(status: Any = 200, json: Any = ANSWER, headers: Any = HEADERS) -> Any:
    return httpx.Response(status, json=json, headers=headers, request=httpx.Request("POST", "http://h/x"))


def test_answer_is_read() -> None:
    answer = answer_of(answered(headers=HEADERS | {"x-idempotent-replay": "true"}), "c")
    assert (answer.usage.cost_micro, answer.replayed) == (2000, True)


@pytest.mark.parametrize(
    "change",
    [
        {"content": ""}, {"content": None}, {"model": "gpt"}, {"usage": None}, {"traceId": "t"},
        {"usage": {"promptTokens": 0, "completionTokens": 1, "costMicro": "2000"}},
        {"usage": {"promptTokens": 1, "completionTokens": 1, "costMicro": "0"}},
        {"usage": {"promptTokens": 1, "completionTokens": 1, "costMicro": 2000}},
    ],
)  # fmt: skip
def test_answer_in_another_shape_is_refused(change: Any) -> None:
    with pytest.raises(ContractViolation):
        answer_of(answered(json=ANSWER | change), "c")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (503, {"error": "MODEL_PROVIDER_UNAVAILABLE"}, ExternalOutage),
        (503, {"error": "upstream", "code": "PROVIDER_UNAVAILABLE"}, ExternalOutage),
        (503, {"error": "SERVICE_UNAVAILABLE"}, UnexpectedStatus),
        (502, {"error": "MODEL_PROVIDER_UNAVAILABLE"}, UnexpectedStatus),
        (500, {"error": "INTERNAL_ERROR"}, UnexpectedStatus),
        (404, {"error": "NOT_FOUND"}, UnexpectedStatus),
    ],
)
def test_blame(status: Any, body: Any, expected: Any) -> None:
    answer = httpx.Response(status, json=body, request=httpx.Request("GET", "http://h/x"))
    with pytest.raises(expected):
        require_status(answer, 200)


@pytest.mark.parametrize(
    ("service", "expected"),
    [("freeside", "RATE_LIMITED"), ("dixie", "RATE_LIMITED"), ("finn", "E7"), ("", "E7")],
)
def test_the_code_is_where_the_service_has_it(service: str, expected: str) -> None:
    body = {"error": "RATE_LIMITED", "message": "Later", "code": "E7"}
    request = httpx.Request("GET", "http://h/x", extensions={"service": service})
    assert error_code(httpx.Response(429, json=body, request=request)) == expected


@pytest.mark.parametrize("code", ["MODEL_PROVIDER_UNAVAILABLE", "PROVIDER_UNAVAILABLE"])
def test_a_stream_that_the_provider_ends_is_an_outage(code: str) -> None:
    text = f'event: content\ndata: {{"text": "{code}"}}\n\n'
    error = f'event: error\ndata: {{"code": "{code}", "message": "m"}}\n\n'
    with pytest.raises(ExternalOutage, match=f"GET /thing: the stream ended with the error {code}"):
        require_status(response((text + error).encode(), kind="text/event-stream"), 200, 409)
    other = error.replace(code, f"OTHER_{code}")
    for whole in (text, text + other, error + text, f": {code}\n\n"):
        require_status(response(whole.encode(), kind="text/event-stream"), 200)
    require_status(response(b"\xff" + error.encode(), kind="text/event-stream"), 200)


def test_missing_route_is_named() -> None:
    answer = httpx.Response(404, text="not json", request=httpx.Request("GET", "http://h/x"))
    with pytest.raises(UnexpectedStatus, match="a route of the contract is missing"):
        require_status(answer, 200)


def test_error_has_its_code_and_a_message() -> None:
    require_error(answered(402, {"error": "BUDGET_EXCEEDED", "message": "no room"}), 402, "BUDGET_EXCEEDED")
    for body in ({"error": "ERROR", "message": "no room"}, {"error": "BUDGET_EXCEEDED"}):
        with pytest.raises(ContractViolation):
            require_error(answered(402, body), 402, "BUDGET_EXCEEDED")


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-27T01:00:00Z",
        "2026-11-27T01:00:00.000000000Z",
        "2026-11-27t01:00:00z",
        "2026-11-27T01:00:00+00:00",
        1795741200,
        1795741200.0,
    ],
)
def test_times_are_read_in_every_zone(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert fields(at=value).moment("at") == 1795741200
        texts = "2026-11-27T01:00:00", "now", "1795741200", "2026-11-27"
        others: list[Any] = [None, True, 10**400, []]
        for wrong in (*texts, *others):
            with pytest.raises(ContractViolation, match="at: expected RFC 3339 in UTC or epoch seconds"):
                fields(at=wrong).moment("at")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"tenant": "shop"}, True),
        ({"note": "the budget of shop, as asked"}, True),
        ({"self": "/api/v1/budget/shop"}, True),
        ({"tenant": "shop-two"}, False),
        ({"tenant": "my-shop"}, False),
        ({"tenant": "shop:two"}, False),
        ({"self": "/api/v1/budget/shop-two?tenant_id=shop"}, False),
    ],
)
def test_a_body_mentions_a_name(body: dict[str, str], found: bool) -> None:
    assert mentions(httpx.Response(200, json=body), "shop", "shop:two") is found


@pytest.mark.parametrize(
    ("kind", "content", "found"),
    [
        ("application/json", '{"content": "x", "usage": {"promptTokens": 7}}', 7),
        ("application/json", '{"content": "x"}', "usage: expected an object, got nothing"),
        ("application/json", '{"content": "x", "usage": {}}', "usage.promptTokens: expected an integer"),
        ("application/json", '{"content": "x", "usage": {"promptTokens": "7"}}', "got '7'"),
        ("text/event-stream", 'data: {"promptTokens": 7, "costMicro": "1"}\n\n', 7),
        ("text/event-stream", 'data: {"text": "x"}\n\n', "usage: expected an object, got null"),
        ("text/event-stream", 'data: {"text": null}\n\ndata: [1]\n\n', "usage: expected an object, got null"),
        ("text/event-stream", 'data: {"costMicro": "1"}\n\n', "usage.promptTokens: expected an integer"),
    ],
)
def test_the_tokens_of_a_prompt_are_read_or_found_missing(kind: str, content: str, found: Any) -> None:
    with nullcontext() if isinstance(found, int) else pytest.raises(ContractViolation) as caught:
        assert prompt_tokens_in(response(content.encode(), kind=kind)) == found
    assert caught is None or found in str(caught.value)

"""Strict decoding: a violation names the route, the field, what was expected and what came."""

from typing import Any

import httpx
import pytest

from smoke.platform.answers import ContractViolation, Fields, fields_of, parse_json, require_json_error, shown


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


def test_missing_member_says_so() -> None:
    with pytest.raises(ContractViolation, match=r"model: expected .* got nothing \(the member is missing\)"):
        fields().text("model")


@pytest.mark.parametrize("value", [None, "", "  ", 1, True, [], {}, ["a"]])
def test_text_refuses(value: Any) -> None:
    with pytest.raises(ContractViolation):
        fields(name=value).text("name")


@pytest.mark.parametrize("value", [None, "1", 1.0, 1.5, True, -1, [], float("nan")])
def test_integer_refuses(value: Any) -> None:
    with pytest.raises(ContractViolation):
        fields(name=value).integer("name")


@pytest.mark.parametrize("value", [None, "0.5", True, -0.1, 1.1, float("nan"), float("inf"), []])
def test_number_refuses(value: Any) -> None:
    with pytest.raises(ContractViolation):
        fields(name=value).number("name", minimum=0, maximum=1)


@pytest.mark.parametrize("value", [None, 12, "-1", "1.5", "1e3", "", " 1", "١٢", True])
def test_micro_refuses(value: Any) -> None:
    with pytest.raises(ContractViolation):
        fields(name=value).micro("name")


def test_micro_holds_its_minimum() -> None:
    assert fields(name="1").micro("name", minimum=1) == 1
    with pytest.raises(ContractViolation):
        fields(name="0").micro("name", minimum=1)


@pytest.mark.parametrize("value", [None, 0, 1, "true"])
def test_boolean_refuses(value: Any) -> None:
    with pytest.raises(ContractViolation):
        fields(name=value).boolean("name")


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


@pytest.mark.parametrize("content", [b"", b"<html>", b"null", b"[]", b'"text"', b'{"a": NaN}', b"\xff"])
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


def test_constants_are_no_json() -> None:
    with pytest.raises(ContractViolation, match="Infinity"):
        parse_json('{"a": Infinity}', "GET /thing")


def test_long_values_are_shortened() -> None:
    assert len(shown("x" * 500)) < 100
    assert shown(None) == "null"

"""Neighbours and boundaries: none equals the value, all differ, and each limit is tried from both sides."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoke.contract.neighbours import LIMITS, documents, strings, types, values
from smoke.contract.verifier import times


@given(st.text(min_size=1, max_size=40))
def test_no_neighbour_of_a_string_is_the_string_and_no_two_are_equal(value: str) -> None:
    found = [near.value for near in strings(value)]
    assert value not in found
    assert len(found) == len(set(found)) > 20
    assert len({near.name for near in strings(value)}) == len(found)


@pytest.mark.parametrize("value", ["arrakis", 1700000000, 0.5, ["cheap"], None, True, {}])
def test_no_other_type_is_the_value(value: Any) -> None:
    assert all(json.dumps(near.value) != json.dumps(value) for near in types(value))
    assert len({near.name for near in values(value)}) == len(values(value))


@pytest.mark.parametrize("name", ["unicode", "kid", "Sub"])
def test_folding_a_neighbour_gives_the_value(name: str) -> None:
    near = {near.name: near.value for near in strings(name)}
    assert near["full-width"] != name
    assert near["folding-letter"].isascii() is False


def test_documents_change_one_member() -> None:
    members = {"iss": "arrakis", "aud": "x"}
    found = {near.name: near.value for near in documents(members, "iss", "other")}
    assert json.loads(found["missing"]) == {"aud": "x"}
    assert json.loads(found["twice-last-other"]) == {"iss": "other", "aud": "x"}
    assert found["twice-last-other"].index("arrakis") < found["twice-last-other"].index("other")
    assert all(json.loads(text)["aud"] == "x" for text in found.values())
    assert all(json.loads(text).get("iss") != "arrakis" for text in found.values())


def test_every_limit_has_both_sides() -> None:
    for limit in LIMITS.values():
        assert {inside for _, inside in limit.edges()} == {True, False}, limit.name
        assert all((limit.low <= value <= limit.high) is inside for value, inside in limit.edges())


@given(st.floats(1.7e9, 2e9), st.sampled_from([0.0, 10.0]))
def test_times_lie_close_to_their_limits(now: float, clocks_s: float) -> None:
    found = {each.name: each.claims for each in times(now, clocks_s=clocks_s)}
    near, far = 30 - clocks_s, 30 + clocks_s
    assert 0 < found["expired-within-skew"]["exp"] - (now - near) <= 1
    # a clock with whole seconds can be one second behind
    assert 1 <= (now - far) - found["expired-beyond-skew"]["exp"] <= 2
    for name, claim in (("issued", "iat"), ("starts", "nbf")):
        assert 0 <= (now + near) - found[f"{name}-within-skew"][claim] < 1
        assert 0 < found[f"{name}-beyond-skew"][claim] - (now + far) <= 1
    hour = found["issued-now-lives-an-hour"]
    assert hour["exp"] - hour["iat"] == 3600

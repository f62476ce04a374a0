"""The model as a file: complete, in its own order, readable by every parser."""

import json

import pytest
from pytest_readiness.report.exports import plain_json

from tests.report import sample


def test_the_file_is_the_model() -> None:
    model = sample.broken()
    text = plain_json(model)
    assert json.loads(text) == model
    assert list(json.loads(text)) == list(model)
    assert text.endswith("}\n")
    assert "µUSD" in text


def test_numbers_that_json_does_not_know_become_text() -> None:
    model = {"figures": [{"value": float("nan")}, {"value": float("inf")}, {"value": 1.5}], "pair": (1, 2)}
    assert json.loads(plain_json(model)) == {
        "figures": [{"value": "nan"}, {"value": "inf"}, {"value": 1.5}],
        "pair": [1, 2],
    }


def test_a_value_that_is_not_data_is_refused() -> None:
    with pytest.raises(TypeError):
        plain_json({"checks": object()})

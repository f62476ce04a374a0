"""One canonical form, one hash."""

import math
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.formats import canonical_json, digest, suite_digest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def test_canonical_form() -> None:
    value = {"b": [1, 2.5, None], "a": "µ", "t": datetime(2026, 6, 1, tzinfo=UTC), "d": date(2026, 6, 1)}
    assert canonical_json(value).decode() == (
        '{"a":"µ","b":[1,2.5,null],"d":"2026-06-01","t":"2026-06-01T00:00:00+00:00"}'
    )


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(math.nan)
    with pytest.raises(TypeError, match="set is not JSON"):
        canonical_json({1, 2})


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    assert digest(dict(reversed(value.items()))) == digest(value)


def test_a_suite_is_its_paths_and_contents() -> None:
    suite = {"a.py": b"1", "b.py": b"2"}
    assert suite_digest(dict(reversed(suite.items()))) == suite_digest(suite)
    assert suite_digest({"a.py": b"1", "c.py": b"2"}) != suite_digest(suite)
    assert suite_digest({"a.py": b"12", "b.py": b""}) != suite_digest(suite)
    assert len(suite_digest({})) == 64

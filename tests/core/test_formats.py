"""How values are written: one canonical form, patterns of ids, and text without control sequences."""

import math
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.formats import canonical_json, digest, matches, matching, printable, suite_digest
from pytest_readiness.core.redaction import Redactor

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


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        ("auth/refused[expired]", "auth/refused[expired]", True),
        ("auth/refused[expired]", "auth/refusede", False),
        ("auth/refused[*]", "auth/refused[none]", True),
        ("auth/refused[*]", "auth/refused", False),
        ("G-?", "G-4", True),
        ("G-?", "G-10", False),
        ("auth.*", "auth/x", False),
        ("auth", "auth/x", False),
        ("*", "two\nlines", True),
    ],
)
def test_matches(pattern: str, text: str, matched: bool) -> None:
    assert matches(pattern, text) is matched


def test_matching_keeps_the_order_of_the_ids() -> None:
    ids = ["auth/refused[expired]", "jwks/keys", "auth/refused[none]"]
    assert matching(["auth/refused[none]", "auth/*"], ids) == [ids[0], ids[2]]
    assert matching([], ids) == []


DISGUISES = {
    "\x1b[2JREADY": "READY",
    "\x1b[1;32mREADY\x1b[0m": "READY",
    "\x1b]8;;http://evil\x07READY": "\ufffd]8;;http://evil\ufffdREADY",
    "\x9b32mREADY": "\ufffd32mREADY",
    "BROKEN\rREADY": "BROKEN\ufffdREADY",
    "BROKEN\b\b\b": "BROKEN\ufffd\ufffd\ufffd",
    "\u202eYDAER": "\ufffdYDAER",
    "\u2066READY\u2069": "\ufffdREADY\ufffd",
    "\u061cx\u200fy": "\ufffdx\ufffdy",
    "one\u2028two": "one\ufffdtwo",
    "half \ud800": "half \ufffd",
    "\x00\x07\x7f": "\ufffd\ufffd\ufffd",
    "a\r\n\tb\n": "a\n\tb\n",
    "héllo 鍵 👍": "héllo 鍵 👍",
}


@pytest.mark.parametrize("text", DISGUISES)
def test_disguising_characters_are_replaced(text: str) -> None:
    assert printable(text) == DISGUISES[text]


@given(st.text(st.characters(codec=None)))
def test_what_is_printable_stays_so_and_can_be_encoded(text: str) -> None:
    clean = printable(text)
    assert printable(clean) == clean
    assert clean.encode().decode() == clean
    assert not {"\x1b", "\r", "\x9b", "\u202e"} & {*clean}


def test_secret_that_controls_split_is_found_once_they_are_gone() -> None:
    redactor = Redactor(["correct-horse-battery"])
    assert redactor.shown("correct-\x1b[2Jhorse-battery") == "[redacted]"
    assert redactor.data({"\x1b[1ma": ["x\ry"]}) == {"a": ["x\ufffdy"]}


def test_the_time_that_a_machine_sleeps_counts() -> None:
    # Linux stops CLOCK_MONOTONIC while the machine sleeps, and counts the sleep in CLOCK_BOOTTIME.
    script = """
        import time
        asleep, real = 0, time.clock_gettime
        time.clock_gettime = lambda clock: real(clock) + (asleep if clock == time.CLOCK_BOOTTIME else 0)
        from pytest_readiness.core.formats import utc_now
        before, asleep = utc_now(), 3600
        print(round((utc_now() - before).total_seconds()))
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("Linux alone tells how long a machine slept")
    ran = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, check=True)
    assert ran.stdout == "3600\n"

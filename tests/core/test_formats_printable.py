"""Nothing that a terminal obeys, or that disguises what is read, is left in a text that is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_readiness.core.formats import printable
from pytest_readiness.core.redaction import Redactor

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
def test_disguise_is_taken_off(text: str) -> None:
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

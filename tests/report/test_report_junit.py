"""Properties in pytest's JUnit file: for the suite and each check; other tests are left alone."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from pytest_readiness.report import exports

from tests.report import sample
from tests.report.hostile import HOSTILE, hostile

FILE = b"""<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" tests="4">
<testcase classname="smoke.test_auth" name="test_refused[freeside-expired]" time="0.2">
<properties><property name="mine" value="1" /></properties>
<failure message="a &lt; b">text</failure></testcase>
<testcase classname="smoke.test_health" name="test_freeside" time="0.1" />
<testcase classname="smoke.test_invoke" name="test_nonce@group" time="0.1">
<system-out>x</system-out></testcase>
<testcase classname="tests.test_other" name="test_unit" time="0.1" />
</testsuite></testsuites>"""


def properties(element: ET.Element | None) -> dict[str, str]:
    assert element is not None
    return {found.attrib["name"]: found.attrib["value"] for found in element.findall("properties/property")}


def case(root: ET.Element, name: str) -> dict[str, str]:
    return properties(root.find(f".//testcase[@name='{name}']"))


def test_suite_and_checks_have_their_facts() -> None:
    root = ET.fromstring(exports.annotated(FILE, sample.broken()))
    assert properties(root.find("testsuite")) == {
        "readiness.verdict": "BROKEN",
        "readiness.exit_code": "1",
        "readiness.declaration": "NOT READY",
        "readiness.environment": "local",
        "readiness.scope": "full",
        "readiness.run_id": "run-now",
    }
    assert case(root, "test_refused[freeside-expired]") == {
        "mine": "1",
        "readiness.id": "auth/refused[freeside-expired]",
        "readiness.severity": "P0",
        "readiness.goal": "G-2",
        "readiness.class": "PLATFORM_BUG",
        "readiness.outcome": "failed",
    }
    assert case(root, "test_freeside")["readiness.outcome"] == "passed"
    assert "readiness.class" not in case(root, "test_freeside")
    assert case(root, "test_nonce@group")["readiness.outcome"] == "flaky"
    assert case(root, "test_unit") == {}
    assert all(
        element[0].tag == "properties" for element in root.iter() if element.find("properties") is not None
    )


def test_a_later_answer_replaces_an_earlier_one() -> None:
    first = exports.annotated(FILE, sample.broken())
    assert exports.annotated(first, sample.broken()) == first
    root = ET.fromstring(exports.annotated(first, sample.unfinished()))
    assert properties(root.find("testsuite"))["readiness.verdict"] == "NO_VERDICT"
    assert case(root, "test_refused[freeside-expired]") == {"mine": "1"}
    assert case(root, "test_freeside") == {}


def test_the_junit_prefix_of_class_names_is_recognised() -> None:
    prefixed = FILE.replace(b'classname="', b'classname="nightly.')
    root = ET.fromstring(exports.annotated(prefixed, sample.broken(), "nightly"))
    assert case(root, "test_freeside")["readiness.id"] == "health/freeside"


def test_what_is_not_xml_is_refused() -> None:
    with pytest.raises(ET.ParseError):
        exports.annotated(b"<testsuites>", sample.broken())


@given(HOSTILE)
def test_no_content_breaks_the_file(text: str) -> None:
    model = hostile(sample.broken(), text)
    for check, plain in zip(model["checks"], sample.broken()["checks"], strict=True):
        check["nodeid"] = plain["nodeid"]
    root = ET.fromstring(exports.annotated(FILE, model))
    assert [element.tag for element in root.iter() if element.tag != "property"].count("testcase") == 4
    assert case(root, "test_unit") == {}
    assert set(case(root, "test_freeside")) == {
        f"readiness.{key}" for key in ("id", "severity", "goal", "outcome")
    }

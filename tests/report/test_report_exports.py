"""Export formats, JSON included: the content of each, their agreement, and escaping."""

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from pytest_readiness.report import FORMATS, attestation, exports, html, markdown, terminal

from tests.report import sample
from tests.report.hostile import HOSTILE, hostile

MODELS = [sample.ready, sample.broken, sample.unfinished]
SERIES = re.compile(r'(readiness_\w+)\{((?:\w+="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)+)\} (\S+)')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
STATUSES = {"passed", "failed", "skipped", "pending", "other"}
#: The published schema of CTRF, as far as it concerns what is written: member -> (type, required).
CTRF: dict[str, dict[str, tuple[type, bool]]] = {
    "report": {
        "reportFormat": (str, True),
        "specVersion": (str, True),
        "generatedBy": (str, False),
        "results": (dict, True),
        "extra": (dict, False),
    },
    "results": {"tool": (dict, True), "summary": (dict, True), "tests": (list, True)},
    "summary": {
        **dict.fromkeys(("tests", *STATUSES, "start", "stop"), (int, True)),
        "flaky": (int, False),
    },
    "test": {
        "name": (str, True),
        "status": (str, True),
        "duration": (int, True),
        **dict.fromkeys(("rawStatus", "message", "filePath"), (str, False)),
        **dict.fromkeys(("suite", "tags"), (list, False)),
        "retries": (int, False),
        "flaky": (bool, False),
    },
}


def table(model: dict[str, Any]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exports.table(model), newline="")))


def series(model: dict[str, Any]) -> Iterator[tuple[str, dict[str, str], str]]:
    """Parse the text format as Prometheus does: a line that is no comment must be a sample."""
    text = exports.prometheus(model)
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if not line.startswith(("# HELP readiness_", "# TYPE readiness_")):
            found = SERIES.fullmatch(line)
            assert found, line
            yield found[1], dict(LABEL.findall(found[2])), found[3]


def conforms(value: dict[str, Any], kind: str) -> None:
    rules = CTRF[kind]
    assert value.keys() <= rules.keys()
    assert {name for name, (_, required) in rules.items() if required} <= value.keys()
    for name, found in value.items():
        assert type(found) is rules[name][0], f"{kind}.{name}: {found!r}"


def ctrf(model: dict[str, Any]) -> dict[str, Any]:
    """Parse a CTRF report and hold it against the schema."""
    found: dict[str, Any] = json.loads(exports.ctrf(model))
    conforms(found, "report")
    assert found["reportFormat"] == "CTRF"
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["specVersion"])
    conforms(found["results"], "results")
    assert found["results"]["tool"]["name"]
    conforms(found["results"]["summary"], "summary")
    for test in found["results"]["tests"]:
        conforms(test, "test")
        assert test["name"]
        assert test["status"] in STATUSES
        assert test["suite"]
        assert all(isinstance(text, str) for text in (*test["suite"], *test["tags"]))
    return found


def junit(model: dict[str, Any]) -> bytes:
    """Pytest's own JUnit XML of such a run: one case per check."""
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name="pytest")
    for check in model["checks"]:
        file, _, name = check["nodeid"].partition("::")
        ElementTree.SubElement(
            suite, "testcase", classname=file.removesuffix(".py").replace("/", "."), name=name
        )
    return ElementTree.tostring(root)


def said(element: ElementTree.Element) -> dict[str, str]:
    return {each.attrib["name"]: each.attrib["value"] for each in element.findall("properties/property")}


@pytest.mark.parametrize("make", MODELS)
def test_all_formats_agree_with_the_model(make: Any) -> None:
    model = make()
    verdict, code, causes = model["verdict"], model["exit_code"], model["blockers"]
    counts = model.get("counts", {})
    checks = [cause["check"] for cause in causes]

    samples = list(series(model))
    assert [
        labels["verdict"] for name, labels, value in samples if (name, value) == ("readiness_verdict", "1")
    ] == [verdict]
    assert [value for name, _, value in samples if name == "readiness_exit_code"] == [str(code)]
    assert {
        labels["outcome"]: int(value) for name, labels, value in samples if name == "readiness_checks"
    } == counts
    assert [labels["check"] for name, labels, _ in samples if name == "readiness_cause"] == checks

    report = ctrf(model)
    summary, tests = report["results"]["summary"], report["results"]["tests"]
    assert (report["extra"]["verdict"], report["extra"]["exit_code"]) == (verdict, code)
    assert report["extra"].get("counts", {}) == counts
    assert [cause["check"] for cause in report["extra"]["causes"]] == checks
    assert summary["tests"] == len(tests) == counts.get("total", 0) == sum(summary[name] for name in STATUSES)
    assert all(sum(test["status"] == name for test in tests) == summary[name] for name in STATUSES)

    rows = table(model)
    outcomes = [row["outcome"] for row in rows]
    assert len(rows) == counts.get("total", 0)
    assert all(outcomes.count(name) == counts.get(name, 0) for name in set(outcomes))
    assert {row["cause"] for row in rows} - {""} == set(checks) - {""}

    text = exports.chat(model)
    assert text.startswith(f"{verdict}")
    assert f"exit code {code}:" in text.splitlines()[0]
    assert f"Declaration: {model['declaration']}" in text
    assert all(check in text for check in checks[:3])
    assert all(f"{count} {name.replace('_', ' ')}" in text for name, count in counts.items() if count)


@pytest.mark.parametrize("make", MODELS)
def test_all_pages_agree_with_the_model(make: Any) -> None:
    model = make()
    verdict, code = model["verdict"], model["exit_code"]
    places = [cause["check"] or cause["goal"] for cause in model["blockers"]]
    assert json.loads(exports.plain_json(model)) == model
    for page in (markdown.render(model), markdown.job_summary(model)):
        assert f"**Verdict: {markdown.escape(verdict)}**" in page
        assert f"**Declaration: {model['declaration']}**" in page
        assert f"| Exit code | {code} |" in page
        assert re.findall(r"^\d+\. \*\*(.+?)(?: and \d+ more checks?)?\*\*", page, re.M) == [
            markdown.escape(place) for place in places
        ]
    annotations = markdown.workflow_commands(model)
    assert all(place in command for place, command in zip(places, annotations, strict=True))

    shown = html.render(model)
    assert f">{verdict}</strong>" in shown
    assert f"Declaration: <b>{model['declaration']}</b>" in shown
    assert re.findall(r'<li><p><a href="[^"]*"><code>(.*?)</code>', shown) == [
        place for place in places if "/" in place
    ]
    first, second, *screen = terminal.lines(model)
    assert first.split()[0] == verdict
    assert second.startswith(f"declaration  {model['declaration']}")
    assert [match[1] for line in screen if (match := re.match(r" \d+\. (?:[A-Z]\w+ )*(\S+)", line))] == places

    root = ElementTree.fromstring(exports.annotated(junit(model), model))
    assert {"readiness.verdict": verdict, "readiness.exit_code": str(code)}.items() <= said(root[0]).items()
    found = [said(case) for case in root.iter("testcase")]
    assert [case["readiness.outcome"] for case in found] == [check["outcome"] for check in model["checks"]]
    assert [case["readiness.id"] for case in found] == [check["id"] for check in model["checks"]]

    signed = attestation.statement(model, b"{}")["predicate"]
    assert (signed["readiness"]["verdict"], signed["readiness"]["exit_code"]) == (verdict, code)


def test_a_chat_text_names_the_first_three_causes_and_how_many_more() -> None:
    model = sample.broken()
    model["blockers"] = model["blockers"][:1] * 5
    text = exports.chat(model)
    assert text.count("an expired token was accepted") == 3
    assert "\nand 2 more\n" in text
    assert exports.chat(sample.unfinished()).endswith("\nrun did not finish\n")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "＋", "－", "＠", " =", "\t=", "\r\n="])
def test_no_cell_is_a_formula(start: str) -> None:
    model = {"checks": [{"id": f"{start}1+1", "summary": f'{start}HYPERLINK("http://evil")'}]}
    (row,) = table(model)
    assert row["id"] == f"'{start.strip()}1+1"
    assert row["summary"].startswith("'")


def test_a_label_is_escaped_as_prometheus_reads_it() -> None:
    model = {"environment": 'a"b\\c\nd', "exit_code": 1}
    assert 'readiness_exit_code{environment="a\\"b\\\\c d"} 1\n' in exports.prometheus(model)


def test_a_chat_text_mentions_and_links_to_nothing() -> None:
    cause = {"check": "<!channel>", "summary": "@here <http://evil|click> [x](http://evil)"}
    text = exports.chat({**sample.broken(), "blockers": [cause]})
    assert not re.search(r"[<>]|@\w|\]\(", text)


@given(HOSTILE)
def test_no_content_breaks_a_format(text: str) -> None:
    model, plain = hostile(sample.broken(), text), sample.broken()
    assert len(table(model)) == len(plain["checks"])
    assert all(not value.startswith(tuple("=+-@")) for row in table(model) for value in row.values())
    assert {name for name, _, _ in series(model)} == {name for name, _, _ in series(plain)}
    assert len({(name, *labels.items()) for name, labels, _ in series(model)}) == len(list(series(model)))
    assert len(ctrf(model)["results"]["tests"]) == len(plain["checks"])
    said = exports.chat(model)
    assert len(said) < 1500
    assert said.count("\n") <= exports.chat(plain).count("\n")
    assert not re.search(r"[<>]|@\w|\]\(", said)


@given(HOSTILE)
def test_no_format_shows_a_control_character(text: str) -> None:
    model = hostile(sample.broken(), text)
    for name, (_, render) in FORMATS.items():
        found = render(model).replace("\r\n", "\n") if name == "csv" else render(model)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]", found), name


def test_the_file_is_the_model() -> None:
    model = sample.broken()
    text = exports.plain_json(model)
    assert json.loads(text) == model
    assert list(json.loads(text)) == list(model)
    assert text.endswith("}\n")
    assert "µUSD" in text


def test_numbers_that_json_does_not_know_become_text() -> None:
    model = {"figures": [{"value": float("nan")}, {"value": float("inf")}, {"value": 1.5}], "pair": (1, 2)}
    assert json.loads(exports.plain_json(model)) == {
        "figures": [{"value": "nan"}, {"value": "inf"}, {"value": 1.5}],
        "pair": [1, 2],
    }


def test_a_value_that_is_not_data_is_refused() -> None:
    with pytest.raises(TypeError):
        exports.plain_json({"checks": object()})

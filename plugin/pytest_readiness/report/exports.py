"""The model in the formats of other programs.

JSON, spreadsheets, Prometheus, chats, viewers of test results, and properties in pytest's JUnit file.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from ..core.formats import one_line, parse_moment
from ..core.model import Verdict
from .columns import rows
from .document import and_others, counts, headline, members, streak, summary_of


def plain_json(model: Mapping[str, Any]) -> str:
    """Return the model as JSON, keys in the model's order: a line for each check, goal or other entry.

    Numbers that JSON does not know (NaN, infinities) become text, so that every parser can read the file.
    Raises TypeError for a value that is not plain data.
    """
    try:
        return _text(model)
    except (ValueError, TypeError):  # rare, and walking the model first takes as long as writing it
        return _text({str(name): _portable(value) for name, value in model.items()})


def _text(model: Mapping[str, Any]) -> str:
    members = (f"  {_line(name)}: {_lines(value)}" for name, value in model.items())
    return "{\n" + ",\n".join(members) + "\n}\n"


def _lines(value: object) -> str:
    if not value or not isinstance(value, list | tuple):
        return _line(value)
    return "[\n" + ",\n".join(f"    {_line(entry)}" for entry in value) + "\n  ]"


def _line(value: object) -> str:
    """Encode without indentation, which Python's own encoder would do many times slower."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _portable(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _portable(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_portable(item) for item in value]
    return value


#: Maximum characters of a chat message, and of causes in it.
CHAT_LIMIT, CHAT_CAUSES = 1_499, 3
_COLUMNS = (
    "id", "goal", "phase", "severity", "outcome", "class", "cause", "attempts", "duration_s", "summary",
)  # fmt: skip
#: Characters that a spreadsheet takes for the start of a formula, including full-width ones.
_FORMULA = tuple("=+-@＝＋－＠")
#: Texts that chats take for a mention, a tag or a link, and look-alikes to replace them.
_CHAT = {"<": "‹", ">": "›", "@": "@\u2060", "](": "] ("}
#: Outcomes in CTRF's words; ``rawStatus`` keeps ours.
_CTRF = {
    "passed": "passed", "flaky": "passed", "failed": "failed", "skipped": "skipped", "deferred": "other",
    "not-run": "pending",
}  # fmt: skip


def table(model: Mapping[str, Any]) -> str:
    """Return the checks as CSV (RFC 4180), one line each; ``cause`` is the check that represents it."""
    causes = {each: cause.get("check") for cause in rows(model, "blockers") for each in members(cause)}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for check in rows(model, "checks"):
        found = {**check, "cause": causes.get(check.get("id"))}
        cells = (one_line(found.get(column)) for column in _COLUMNS)
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells])
    return text.getvalue()


def prometheus(model: Mapping[str, Any]) -> str:
    """Return gauges in Prometheus' text format, for the textfile collector of its node exporter."""
    lines: list[str] = []
    for name, meaning, samples in _gauges(model):
        found = {_labels(labels): value for labels, value in samples}  # a series may occur only once
        if found:
            lines += [f"# HELP readiness_{name} {meaning}", f"# TYPE readiness_{name} gauge"]
            lines += [f"readiness_{name}{labels} {value}" for labels, value in found.items()]
    return "\n".join(lines) + "\n"


def _gauges(model: Mapping[str, Any]) -> Iterator[tuple[str, str, list[tuple[dict[str, object], object]]]]:
    """Yield name, meaning and samples (labels, value) of each gauge."""
    verdict, place = headline(model).verdict, {"environment": model.get("environment")}
    yield (
        "verdict",
        "1 for the verdict of the last run.",
        [({**place, "verdict": each}, int(each == verdict)) for each in Verdict],
    )
    yield "exit_code", "Exit code of the last run.", [(place, model.get("exit_code"))]
    partial = int(model.get("scope") == "partial")
    yield "partial", "1 when only a part of the suite ran.", [(place, partial)]
    found = model.get("counts") or {}
    yield (
        "checks",
        "Checks by outcome; total is all of them.",
        [({**place, "outcome": name}, value) for name, value in found.items()],
    )
    yield (
        "cause",
        "1 for each cause that keeps the launch from being ready, by its first check.",
        [
            ({**place, **{key: row.get(key) for key in ("check", "severity", "class", "goal")}}, 1)
            for row in rows(model, "blockers")
        ],
    )
    yield (
        "goal",
        "1 for the status of each goal.",
        [({**place, "goal": row.get("id"), "status": row.get("status")}, 1) for row in rows(model, "goals")],
    )
    greens = model.get("streak") or {}
    for name in ("length", "required"):
        values = [(place, greens[name])] if name in greens else []
        yield f"streak_{name}", f"Green runs in a row: {name}.", values
    end = _milliseconds(model, "finished_at") / 1000
    yield "finished_seconds", "Unix time of the end of the run.", [(place, end)]


def _labels(labels: Mapping[str, object]) -> str:
    quoted = ((name, re.sub(r'[\\"]', r"\\\g<0>", one_line(value))) for name, value in labels.items())
    return "{" + ",".join(f'{name}="{value}"' for name, value in quoted) + "}"


def chat(model: Mapping[str, Any]) -> str:
    """Return a chat message below 1,500 characters: verdict, declaration, why, the first causes."""
    head = headline(model)
    environment = next((text for name, text in head.facts if name == "Environment"), "")
    lines = [
        f"{head.verdict}{' (PARTIAL)' if head.partial else ''}, exit code {model.get('exit_code')}: "
        + ", ".join(filter(None, (one_line(head.title, 80), one_line(environment, 60)))),
        f"Declaration: {head.declaration}" + (f" ({one_line(head.why, 160)})" if head.why else ""),
        *(f"{name}: {one_line(text, 160)}" for name, text in _facts(model) if text),
    ]
    causes = rows(model, "blockers")
    for place, cause in enumerate(causes[:CHAT_CAUSES], start=1):
        words = (one_line(cause.get("severity")), one_line(cause.get("class")), and_others(cause))
        what = one_line(" ".join(filter(None, words)) or cause.get("goal") or "the run", 110)
        lines.append(f"{place}. {what}: {summary_of(cause, 150)}")
    if len(causes) > CHAT_CAUSES:
        lines.append(f"and {len(causes) - CHAT_CAUSES} more")
    if not causes:
        lines += [one_line(reason, 150) for reason in head.reasons[:CHAT_CAUSES]]
    text = re.sub(r"[<>@]|\]\(", lambda match: _CHAT[match[0]], "\n".join(lines))
    return f"{text[: CHAT_LIMIT - 1]}\n"


def _facts(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Checks", counts(model)
    yield "Streak", streak(model)


def ctrf(model: Mapping[str, Any]) -> str:
    """Return the checks in the Common Test Report Format (ctrf.io, 0.1.0); times are in milliseconds.

    The verdict and its causes, which CTRF does not know, are under ``extra``.
    """
    found = model.get("counts") or {}
    start, stop = _milliseconds(model, "started_at"), _milliseconds(model, "finished_at")
    totals = dict.fromkeys(("passed", "failed", "skipped", "pending", "other"), 0)
    for outcome, status in _CTRF.items():
        totals[status] += found.get(outcome, 0)
    summary = {"tests": found.get("total", 0), **totals, "flaky": found.get("flaky", 0)}
    keys = ("run_id", "environment", "scope", "verdict", "exit_code", "declaration", "reasons", "counts")
    report = {
        "reportFormat": "CTRF",
        "specVersion": "0.1.0",
        "generatedBy": "pytest-readiness",
        "results": {
            "tool": {"name": "pytest-readiness"},
            "summary": {**summary, "start": start, "stop": stop},
            "tests": [_test(check) for check in rows(model, "checks")],
        },
        "extra": {
            **{key: model[key] for key in keys if key in model},
            "causes": [
                {key: cause.get(key) for key in ("check", "also", "behind", "severity", "class", "summary")}
                for cause in rows(model, "blockers")
            ],
        },
    }
    return json.dumps(report, indent=1) + "\n"


def _test(check: Mapping[str, Any]) -> dict[str, object]:
    outcome, path = one_line(check.get("outcome")), one_line(check.get("nodeid")).partition("::")[0]
    tags = [one_line(check.get(key)) for key in ("severity", "goal", "class") if check.get(key)]
    return {
        "name": one_line(check.get("id")) or "unnamed",
        "status": _CTRF.get(outcome, "other"),
        "rawStatus": outcome,
        "duration": round(1000 * check.get("duration_s", 0)),
        "suite": [one_line(check.get("phase"))],
        "message": one_line(check.get("summary")),
        "tags": tags,
        "filePath": path,
        "retries": max(0, check.get("attempts", 1) - 1),
        "flaky": outcome == "flaky",
    }


def _milliseconds(model: Mapping[str, Any], key: str) -> int:
    """Return a time of the model as Unix time in milliseconds, 0 if it is not a time."""
    try:
        return round(parse_moment(str(model.get(key))).timestamp() * 1000)
    except ValueError:
        return 0


#: Prefix of our properties, which distinguishes them from those of ``record_property``.
PREFIX = "readiness."
_RUN = ("verdict", "exit_code", "declaration", "environment", "scope", "run_id")
_CHECK = ("id", "severity", "goal", "class", "outcome")


def annotated(content: bytes, model: Mapping[str, Any], classname_prefix: str = "") -> bytes:
    """Return pytest's JUnit file with properties for the suite and for each check.

    Properties from an earlier call are replaced. ``classname_prefix`` is pytest's ``--junit-prefix``. Raises
    ElementTree.ParseError if it is not XML.
    """
    root = ET.fromstring(content)  # noqa: S314 - pytest has just written it, without entities
    checks = {_address(one_line(check.get("nodeid"))): check for check in rows(model, "checks")}
    prefix = f"{classname_prefix}." if classname_prefix else ""
    for suite in root.iter("testsuite"):
        _describe(suite, model, _RUN)
        for case in suite.iter("testcase"):
            place, name = case.get("classname", "").removeprefix(prefix), case.get("name", "")
            grouped = (place, name.rpartition("@")[0])  # xdist's loadgroup appends the group to the name
            check = checks.get((place, name)) or checks.get(grouped)
            _describe(case, check or {}, _CHECK)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _address(nodeid: str) -> tuple[str, str]:
    """Return the class name and the name that pytest gives to the test case of a node."""
    path, bracket, parameters = nodeid.partition("[")
    file, *names = path.split("::")
    parts = [re.sub(r"\.py$", "", file.replace("/", ".")), *names]
    return ".".join(parts[:-1]), f"{parts[-1]}{bracket}{parameters}"


def _describe(element: ET.Element, facts: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Set our properties of an element, as its first children, as the format requires."""
    found = element.find("properties")
    properties = ET.Element("properties") if found is None else found
    for earlier in properties.findall("property"):
        if earlier.get("name", "").startswith(PREFIX):
            properties.remove(earlier)
    for key in keys:
        if facts.get(key) is not None:
            ET.SubElement(properties, "property", name=f"{PREFIX}{key}", value=one_line(facts[key]))
    if found is not None and not len(properties):
        element.remove(properties)
    if found is None and len(properties):
        element.insert(0, properties)

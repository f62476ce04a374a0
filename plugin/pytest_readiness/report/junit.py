"""pytest's JUnit file: what the verdict makes of the run and of each test, as properties."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from ..core.formats import one_line
from .sections import rows

#: What our properties begin with, so that they are told from those of ``record_property``.
PREFIX = "readiness."
_RUN = ("verdict", "exit_code", "declaration", "environment", "scope", "run_id")
_CHECK = ("id", "severity", "goal", "class", "outcome")


def annotated(content: bytes, model: Mapping[str, Any], classname_prefix: str = "") -> bytes:
    """Return a JUnit file of pytest's with properties for the suite and for each check.

    Those of an earlier call are replaced. ``classname_prefix`` is pytest's ``--junit-prefix``. Raises
    ElementTree.ParseError for what is no XML.
    """
    root = ET.fromstring(content)  # noqa: S314 - pytest has just written it, without entities
    checks = {_address(one_line(check.get("nodeid"))): check for check in rows(model, "checks")}
    prefix = f"{classname_prefix}." if classname_prefix else ""
    for suite in root.iter("testsuite"):
        _describe(suite, model, _RUN)
        for case in suite.iter("testcase"):
            place, name = case.get("classname", "").removeprefix(prefix), case.get("name", "")
            grouped = (place, name.rpartition("@")[0])  # xdist's loadgroup puts the group behind the name
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
    """Set our properties of an element; they come first in it, as the format wants."""
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

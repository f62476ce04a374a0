"""What checks that did not pass have in common: one deciding fact, because of which they ended so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .model import CheckResult, FailureClass, Outcome

#: How ``CheckResult.cause`` names another check, because of which this one did not run.
BEHIND = "check:"
_ANSWERED = frozenset({Outcome.PASSED, Outcome.FLAKY})
_ROUTE = re.compile(r"\b[A-Z]{3,} /(?:\S*/)?(\w+)")
_WHEN = re.compile(r"^in (?:setup|teardown): ")
#: What was asked when a third party's fault showed: a route or an action, with the answer's status and code.
_ASKED = re.compile(r"(?:[A-Z]+ /\S*|[\w-]+:\w+ in .+?): (?:\d{3} \w+: )?(?=\S)")
#: What the resolver answers, whichever name it was asked for.
_RESOLVER = re.compile(r"\[Errno -\d+\] .+")
_VALUE = re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b|\d+(?:\.\d+)?|'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One deciding fact: the checks that show it themselves, and those that did not run because of it."""

    shown: tuple[CheckResult, ...]
    behind: tuple[CheckResult, ...] = ()

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """All of them; the first stands for the cause."""
        return self.shown + self.behind


def by_cause(checks: Iterable[CheckResult], results: Iterable[CheckResult]) -> list[Cause]:
    """Group ``checks`` by their deciding fact, in the order of their first.

    A check that did not run because of another one belongs to that one's cause, be it at several removes; so
    does one that cannot run here when its cover did not run either.
    """
    known = {check.id: check for check in results}
    wanted = [*checks]
    counted = {check.id for check in wanted}
    groups: dict[tuple[object, ...], tuple[list[CheckResult], list[CheckResult]]] = {}
    for check in wanted:
        root = _root(check, known)
        keys = _keys(root)
        group = next((groups[key] for key in keys if key in groups), ([], []))
        groups.update(dict.fromkeys(keys, group))
        shown, behind = group
        (shown if root.id == check.id or root.id not in counted else behind).append(check)
    return [
        Cause(shown=tuple(shown or behind), behind=tuple(behind if shown else ()))
        for shown, behind in {id(group): group for group in groups.values()}.values()
    ]


def _root(check: CheckResult, known: Mapping[str, CheckResult]) -> CheckResult:
    """Return the check because of which this one has no answer, itself where there is none."""
    passed: set[str] = set()
    while check.id not in passed:
        passed.add(check.id)
        other = _before(check, known)
        if other is None or other.outcome in _ANSWERED:
            return check
        check = other
    return check


def _before(check: CheckResult, known: Mapping[str, CheckResult]) -> CheckResult | None:
    """Return what a check that did not run waits for, or what would prove the same in its place."""
    if check.cause.startswith(BEHIND):
        return known.get(check.cause.removeprefix(BEHIND))
    if check.cause or not check.covered_by or check.outcome in (*_ANSWERED, Outcome.FAILED):
        return None
    name = check.covered_by
    covering = (other for other in known.values() if other.id == name or other.id.startswith(f"{name}["))
    open_ones = [other for other in covering if other.outcome not in _ANSWERED]
    return min(open_ones, key=lambda other: other.id, default=None)


def _keys(check: CheckResult) -> list[tuple[object, ...]]:
    """Return what checks with one cause may share: what they say, and that without what is each one's own."""
    if check.outcome is not Outcome.FAILED:
        if check.cause:
            return [(check.cause,)]
        return [(check.outcome, check.failure_class, check.summary or check.id)]
    text = _WHEN.sub("", check.summary)
    if check.failure_class in (FailureClass.SETUP_ERROR, FailureClass.EXTERNAL_OUTAGE):
        text = _ASKED.sub("", text)
        resolver = _RESOLVER.search(text)
        text = resolver.group() if resolver else text
    # by itself, what Python says of an error or an assertion says too little
    bare = check.failure_class is FailureClass.CHECK_ERROR or not text or text.startswith("assert ")
    place = (check.where or check.id) if bare else ""
    like_brothers = _VALUE.sub("…", _without_case(text, check.id))
    keys: list[tuple[object, ...]] = [
        (check.failure_class, place, text) for text in dict.fromkeys((text, like_brothers))
    ]
    if check.cause:
        keys.append((check.failure_class, check.cause))
    family, _, parameters = check.id.partition("[")
    if parameters and not place:
        keys.append((check.failure_class, family, _without_own_route(like_brothers, parameters)))
    return keys


def _without_own_route(text: str, parameters: str) -> str:
    """Take out the routes that a check's parameters name: "pay.refund" tries ``POST /api/refund``."""
    words = re.findall(r"\w+", parameters)
    return _ROUTE.sub(lambda match: "…" if match[1] in words else match[0], text)


def _without_case(text: str, name: str) -> str:
    """Take a parametrised check's own case out of what it says: it is what differs between its brothers."""
    words = name.partition("[")[2].removesuffix("]").split("-")
    cases = ("-".join(words[start:]) for start in range(len(words)))
    return next((text.replace(case, "…") for case in cases if case and case in text), text)

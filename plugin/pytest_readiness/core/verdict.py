"""From outcomes to a verdict and its exit code; failures are grouped by cause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .formats import counted
from .model import CheckResult, FailureClass, Judgement, Outcome, RunFacts, Scope, Severity, Verdict

#: Prefix in ``CheckResult.cause`` for the check because of which this one did not run.
BEHIND = "check:"
_ROUTE = re.compile(r"\b[A-Z]{3,} /(?:\S*/)?(\w+)")
_WHEN = re.compile(r"^in (?:setup|teardown): ")
#: The request that showed a third party's fault: a route or an action, with the answer's status and code.
_ASKED = re.compile(r"(?:[A-Z]+ /\S*|[\w-]+:\w+ in .+?): (?:\d{3} \w+: )?(?=\S)")
#: The resolver's error, without the name.
_RESOLVER = re.compile(r"\[Errno -\d+\] .+")
_VALUE = re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b|\d+(?:\.\d+)?|'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One cause: the checks that show it, and those that did not run because of it."""

    shown: tuple[CheckResult, ...]
    behind: tuple[CheckResult, ...] = ()

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """All of them; the first represents the cause."""
        return self.shown + self.behind


def by_cause(checks: Iterable[CheckResult], results: Iterable[CheckResult]) -> list[Cause]:
    """Group ``checks`` by cause, in the order of each cause's first check.

    A check that did not run because of another one belongs to that one's cause, even indirectly; so does a
    check that cannot run here if the check that covers it did not run either. The plainest check is first.
    """
    known = {check.id: check for check in results}
    wanted = [*checks]
    counted = {check.id for check in wanted}
    groups: dict[tuple[object, ...], tuple[list[CheckResult], list[CheckResult]]] = {}
    for check in wanted:
        root = root_of(check, known)
        keys = _keys(root)
        group = next((groups[key] for key in keys if key in groups), ([], []))
        groups.update(dict.fromkeys(keys, group))
        shown, behind = group
        (shown if root.id == check.id or root.id not in counted else behind).append(check)
    return [
        Cause(shown=_plainest_first(shown or behind), behind=tuple(behind if shown else ()))
        for shown, behind in {id(group): group for group in groups.values()}.values()
    ]


def _plainest_first(shown: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
    """Move the family with the shortest summary to the front, within the first severity and phase."""
    first = shown[0]
    if first.outcome is not Outcome.FAILED:
        return tuple(shown)
    alike = [each for each in shown if (each.severity, each.phase) == (first.severity, first.phase)]
    family = min(alike, key=lambda each: len(each.summary)).id.partition("[")[0]
    lead = next(each for each in alike if each.id.partition("[")[0] == family)
    return (lead, *(each for each in shown if each is not lead))


def root_of(check: CheckResult, known: Mapping[str, CheckResult]) -> CheckResult:
    """Return the check that prevents this one's result; the check itself if there is none."""
    passed: set[str] = set()
    while check.id not in passed:
        passed.add(check.id)
        other = _before(check, known)
        if other is None or other.outcome in _ANSWERED:
            return check
        check = other
    return check


def _before(check: CheckResult, known: Mapping[str, CheckResult]) -> CheckResult | None:
    """Return the check that one that did not run depends on, or that would cover it."""
    if check.cause.startswith(BEHIND):
        return known.get(check.cause.removeprefix(BEHIND))
    if check.cause or not check.covered_by or check.outcome in (*_ANSWERED, Outcome.FAILED):
        return None
    name = check.covered_by
    covering = (other for other in known.values() if other.id == name or other.id.startswith(f"{name}["))
    open_ones = [other for other in covering if other.outcome not in _ANSWERED]
    return min(open_ones, key=lambda other: other.id, default=None)


def _keys(check: CheckResult) -> list[tuple[object, ...]]:
    """Return keys that checks with one cause can share: the summary, with and without their own values."""
    if check.outcome is not Outcome.FAILED:
        if check.cause:
            return [(check.cause,)]
        return [(check.outcome, check.failure_class, check.summary or check.id)]
    text = _WHEN.sub("", check.summary)
    if check.failure_class in (FailureClass.SETUP_ERROR, FailureClass.EXTERNAL_OUTAGE):
        text = _ASKED.sub("", text)
        resolver = _RESOLVER.search(text)
        text = resolver.group() if resolver else text
    # Python's bare text of an error or an assertion says too little
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
    """Remove a parametrized check's own case from its summary, because only that differs in its family."""
    words = name.partition("[")[2].removesuffix("]").split("-")
    cases = ("-".join(words[start:]) for start in range(len(words)))
    return next((text.replace(case, "…") for case in cases if case and case in text), text)


#: Classes with which a failed P0 leads to NO_VERDICT; with any other the platform is at fault.
NOT_OURS = frozenset({FailureClass.EXTERNAL_OUTAGE, FailureClass.SETUP_ERROR, FailureClass.CHECK_ERROR})
#: Seconds by which a machine's clocks may diverge during a run: fewer than any limit measured with them.
MAX_JUMP_S = 5.0
_ANSWERED = frozenset({Outcome.PASSED, Outcome.FLAKY})
_UNANSWERED = frozenset({Outcome.SKIPPED, Outcome.NOT_RUN})


def judge(results: Sequence[CheckResult], facts: RunFacts) -> Judgement:
    """Judge a run on the checks it selected, exemptions already applied.

    A leaked secret is BROKEN. A build that changed during the run is NO_VERDICT, because nothing can be
    attributed; so are a run whose clock jumped, because it measured nothing, and a partial run under
    ``gate``. Then BROKEN > NO_VERDICT > DEGRADED > READY. Reasons of
    lower ranks follow the deciding ones.
    """
    leaks = _leaks(facts)
    refusals = [*_build_changes(facts), *_clock_jumps(facts), *_gate_refusal(facts)]
    found = causes(results, facts)
    described = {rank: [_described(cause) for verdict, cause in found if verdict is rank] for rank in Verdict}
    ranked = (
        (Verdict.BROKEN, leaks),
        (Verdict.NO_VERDICT, refusals),
        (Verdict.BROKEN, described[Verdict.BROKEN]),
        (Verdict.NO_VERDICT, [*_unfinished(results, facts), *described[Verdict.NO_VERDICT]]),
        (Verdict.DEGRADED, described[Verdict.DEGRADED]),
    )
    verdict = next((verdict for verdict, reasons in ranked if reasons), Verdict.READY)
    reasons = [reason for _, reasons in ranked for reason in reasons]
    return Judgement(
        verdict=verdict,
        reasons=tuple(reasons) or (_all_well(results),),
        uncounted=None if leaks or refusals else _uncounted(verdict, results, facts),
    )


def run_problems(results: Sequence[CheckResult], facts: RunFacts) -> list[tuple[str, str, str]]:
    """Return the problems of the run itself, worst first, each with the rule it breaks and what to do."""
    again = "then run the whole suite again"
    known = {*_vanished(facts), *(errors := _collection_errors(facts))}
    kinds = (
        (
            _leaks(facts),
            "no report may contain a secret",
            f"find out what wrote it there, rotate the secret, {again}",
        ),
        (
            _build_changes(facts),
            "a run must test one build from start to end",
            "run the whole suite again once the deployment has ended",
        ),
        (
            _clock_jumps(facts),
            "a run must measure time from start to end",
            "keep the machine awake and its clock synchronised, and run the whole suite again",
        ),
        (
            _gate_refusal(facts),
            "a gate judges the whole suite",
            "remove the arguments that narrow the run: paths, -k, -m, --lf",
        ),
        (
            _vanished(facts),
            "a P0 check may disappear only if the plan says so",
            f"restore the check, or list it in the plan as renamed or retired; {again}",
        ),
        (errors, "every file of the suite must be read", f"correct the file, {again}"),
        (
            [each for each in _unfinished(results, facts) if each not in known],
            "a run must finish, and every check must give a result",
            f"fix what it names, {again}",
        ),
    )
    return [(problem, rule, action) for problems, rule, action in kinds for problem in problems]


def exit_code(verdict: Verdict, degraded_exit_code: int = 2) -> int:
    """Return the process exit code of a verdict; only DEGRADED can be chosen by the caller."""
    fixed = {Verdict.READY: 0, Verdict.BROKEN: 1, Verdict.NO_VERDICT: 6}
    return fixed.get(verdict, degraded_exit_code)


def is_broken(check: CheckResult) -> bool:
    """Tell whether a check by itself makes the run BROKEN: a failed P0 that is the platform's fault."""
    return (
        check.severity is Severity.P0
        and check.outcome is Outcome.FAILED
        and check.failure_class not in NOT_OURS
    )


def is_open(check: CheckResult, results: Iterable[CheckResult]) -> bool:
    """Tell whether a P0 leads to NO_VERDICT: it failed but not by the platform's fault, or has no result."""
    if check.severity is not Severity.P0:
        return False
    if check.outcome is Outcome.FAILED:
        return check.failure_class in NOT_OURS
    return check.outcome in _UNANSWERED and not is_settled(check, results)


def is_degrading(check: CheckResult, results: Iterable[CheckResult]) -> bool:
    """Tell whether a check degrades the run: a flaky P0, or a P1 that failed or should have run."""
    if check.severity is Severity.P0:
        return check.outcome is Outcome.FLAKY
    if check.outcome is Outcome.FAILED:
        return True
    return check.outcome in _UNANSWERED and not is_not_applicable(check) and not is_settled(check, results)


def is_not_applicable(check: CheckResult) -> bool:
    """Tell whether a P1 was skipped because this environment declares that it lacks what the check needs."""
    return check.severity is Severity.P1 and check.outcome is Outcome.SKIPPED and not check.applicable


def is_settled(check: CheckResult, results: Iterable[CheckResult]) -> bool:
    """Tell whether the named check, or every member of the named family, passed and so proves the same."""
    if check.covered_by is None:
        return False
    name = check.covered_by
    covering = [other for other in results if other.id == name or other.id.startswith(f"{name}[")]
    return bool(covering) and all(other.outcome in _ANSWERED for other in covering)


def causes(results: Sequence[CheckResult], facts: RunFacts) -> list[tuple[Verdict, Cause]]:
    """Return the causes that keep a run from READY, worst first, each with its verdict.

    Checks that the gate kept from running belong to its refusal and are not separate causes.
    """
    if _gate_refusal(facts):
        results = [check for check in results if check.outcome is not Outcome.NOT_RUN]
    ranks = (
        (Verdict.BROKEN, [check for check in results if is_broken(check)]),
        (Verdict.NO_VERDICT, [check for check in results if is_open(check, results)]),
        (Verdict.DEGRADED, [check for check in results if is_degrading(check, results)]),
    )
    found = by_cause((check for _, checks in ranks for check in checks), results)

    members = [(verdict, {check.id for check in checks}) for verdict, checks in ranks]

    def verdict_of(cause: Cause) -> Verdict:
        own = {check.id for check in cause.checks}
        return next(verdict for verdict, ids in members if not ids.isdisjoint(own))

    return [(verdict_of(cause), cause) for cause in found]


def _described(cause: Cause) -> str:
    check, others = cause.checks[0], len(cause.shown) - 1
    named = f" ({check.failure_class})" if check.failure_class else ""
    more = f" and {counted(others, 'more check')}" if others else ""
    lead = f"{check.severity} {check.outcome.replace('-', ' ')}{named}: {check.id}{more}"
    text = f"{lead}: {check.reason}" if check.reason else lead
    return text + (f"; {counted(len(cause.behind), 'check')} not run because of it" if cause.behind else "")


def _leaks(facts: RunFacts) -> list[str]:
    return [f"a live secret was found in {name}; it is withheld" for name in facts.leaked]


def _build_changes(facts: RunFacts) -> list[str]:
    return [
        f"the build of {service} changed during the run: {before} -> {facts.build_end[service]}"
        for service, before in sorted(facts.build_start.items())
        if before and facts.build_end.get(service) and facts.build_end[service] != before
    ]


def _clock_jumps(facts: RunFacts) -> list[str]:
    if abs(facts.clock_jump_s) <= MAX_JUMP_S:
        return []
    way = "ahead" if facts.clock_jump_s > 0 else "back"
    jump = f"the clock of this machine jumped {abs(facts.clock_jump_s):.0f} s {way} during the run"
    return [f"{jump}: it slept, or its clock was set, perhaps by a library such as time-machine"]


def _gate_refusal(facts: RunFacts) -> list[str]:
    if facts.gate and facts.scope is Scope.PARTIAL:
        return ["the gate refuses a partial run: run the whole suite"]
    return []


def _unfinished(results: Sequence[CheckResult], facts: RunFacts) -> list[str]:
    reasons = _collection_errors(facts)
    if facts.interrupted:
        reasons.append(f"the run was interrupted: {facts.interrupted}")
    reasons += facts.stray
    reasons += _vanished(facts)
    if not results and not reasons and not _gate_refusal(facts):  # the collection error is already a reason
        nothing = "this shard got no check: use fewer shards" if facts.shard else "no check was collected"
        reasons.append(facts.unselected or nothing)
    elif results and all(_is_silent(check) for check in results):
        reasons.append("no check could run in this environment")
    return reasons


def _is_silent(check: CheckResult) -> bool:
    """Tell whether a check has no result and needs none: not applicable, or deferred without running."""
    unseen = check.outcome is Outcome.DEFERRED and check.failure_class in (None, *NOT_OURS)
    return unseen or is_not_applicable(check)


def _collection_errors(facts: RunFacts) -> list[str]:
    return [f"collection error: {error}" for error in facts.collection_errors]


def _vanished(facts: RunFacts) -> list[str]:
    return [str(check) for check in facts.vanished if check.blocking]


def _uncounted(verdict: Verdict, results: Sequence[CheckResult], facts: RunFacts) -> FailureClass | None:
    if verdict is Verdict.NO_VERDICT:
        known = {check.id: check for check in results}
        roots = [root_of(check, known) for check in results if is_open(check, results)]
        outage = all(root.failure_class is FailureClass.EXTERNAL_OUTAGE for root in roots)
        return FailureClass.EXTERNAL_OUTAGE if outage and not _unfinished(results, facts) else None
    flaky = any(check.severity is Severity.P0 and check.outcome is Outcome.FLAKY for check in results)
    return FailureClass.FLAKE if verdict is Verdict.DEGRADED and flaky else None


def _all_well(results: Sequence[CheckResult]) -> str:
    passed = sum(check.outcome in _ANSWERED for check in results)
    deferred = sum(check.outcome is Outcome.DEFERRED for check in results)
    return f"{counted(passed, 'check')} passed" + (f", {deferred} deferred by the plan" if deferred else "")

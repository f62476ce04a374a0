"""Operations, at the end of the run: all answers that any check got, and all budgets that any check read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.health import PER_SECOND, uptime_amiss
from smoke.contract.schemas import REPLIES
from smoke.platform.answers import AnswerLog, ContractViolation, Seen
from smoke.platform.batch import at_once
from smoke.platform.freeside import Freeside, Tenants, prompt_for
from smoke.platform.http import Connect, ServiceClient, wait
from smoke.platform.invariants import I3, I4, Sighting, require_steady
from smoke.platform.parameters import each
from smoke.platform.spend import percentile

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("operations")]

#: Paths that frameworks and deployments leave open. Freeside has only the contract's paths (1).
LEFT_OPEN = (
    *("/metrics", "/docs", "/openapi.json", "/graphql", "/debug/pprof/", "/debug/vars", "/actuator/env"),
    *("/admin", "/internal", "/status", "/.env", "/.git/config", "/server-status", "/api/docs"),
)
#: A browser's headers, for which frameworks send their own HTML pages. The answer must still be JSON.
A_BROWSERS = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "de,en;q=0.5",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
}
#: How many findings per service are shown in full.
SHOWN = 8
#: The least sample for a percentile; a run with fewer invokes sends the rest.
LATENCY_SAMPLES = 10
#: How long and how often more health reports are read, until two from one task show its uptime's pace.
UPTIME_WITHIN_S, UPTIME_EVERY_S = 6.0, 0.5


@pytest.fixture
def seen(service: str, connect: Connect, answer_log: AnswerLog, evidence: Evidence) -> Seen:
    """The run's answers from a service, completed by calls to each route without a credential.

    Also by calls to paths that do not exist: below a route, in upper case, with parameters or a format
    suffix, and paths that frameworks leave open. Each is sent once more with a browser's headers.
    """
    client = connect(service)
    asked = [("GET", "/smoke/no-such-path"), *(("GET", path) for path in LEFT_OPEN if service == "freeside")]
    for _, method, path in filter(lambda route: route[0] == service, REPLIES):
        known = path.replace("{id}", "smoke-unknown")
        paths = [known, known, f"{known}/", f"{known}/smoke-no-such-path", known.upper()]
        paths += [f"{known};smoke=1", f"{known}.smoke"] if service == "freeside" else []
        asked += [(method, path) for path in paths]
    at_once(
        [
            partial(client.send, method, path, headers=headers)
            for method, path in asked
            for headers in ({}, A_BROWSERS)
        ]
    )
    seen = answer_log.seen(service)
    for route in sorted({route for route, _ in seen.answers}):
        evidence.note(
            f"{route}: {', '.join(f'{n} × {s}' for (r, s), n in sorted(seen.answers.items()) if r == route)}"
        )
    return seen


@pytest.mark.p1
@pytest.mark.parametrize("service", each())
def test_answers_keep_the_contract(seen: Seen, service: str, evidence: Evidence) -> None:
    """Every status, header and field of every answer in the run is as the contract says."""
    total = sum(seen.answers.values())
    evidence.evaluated(f"answers of {service} keep the contract", total)
    if seen.findings:
        first = "; ".join(
            f"{rule}: {text} ({n} times)" for (rule, text), n in seen.findings.most_common(SHOWN)
        )
        raise ContractViolation(f"{service}: {len(seen.findings)} findings in {total} answers: {first}")


@pytest.mark.p1
@pytest.mark.parametrize("service", each())
def test_uptime_follows_the_clock(
    service: str, connect: Connect, answer_log: AnswerLog, evidence: Evidence
) -> None:
    """A service's uptime follows the clock, and so does Dixie's own time.

    A value that does not move comes from a cache or from the start. More reports are read if the run's
    reports are too close together or from different tasks.
    """
    client, deadline = ServiceClient(connect(service, evidence)), time.monotonic() + UPTIME_WITHIN_S
    while True:
        client.get_health()
        clocks = {"uptime": [], **answer_log.seen(service).clocks}
        amiss = {
            clock: problem
            for clock, readings in clocks.items()
            if (problem := uptime_amiss(readings, PER_SECOND[service]))
        }
        if not amiss or time.monotonic() >= deadline:
            break
        wait(UPTIME_EVERY_S)
    evidence.figure(f"health reports of {service}", len(clocks["uptime"]), at_least=2)
    for clock, problem in amiss.items():
        raise AssertionError(f"the {clock} of {service} does not follow the clock: {problem}")


@pytest.mark.parametrize(
    "service", each(marks=lambda name: [pytest.mark.p1 if name == "finn" else pytest.mark.p0])
)
def test_answers_show_no_secret(seen: Seen, service: str, evidence: Evidence) -> None:
    """No answer of the run shows a credential or a key."""
    evidence.evaluated(f"answers of {service} show no secret", sum(seen.answers.values()))
    if seen.secrets:
        raise SafetyViolation(f"{service} shows secrets: {'; '.join(sorted(seen.secrets))}")


@pytest.mark.goal("G-4")
@pytest.mark.p0
@pytest.mark.requires("freeside", "key", "signing", "budget")
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("rule", [pytest.param(I3, id="committed"), pytest.param(I4, id="limit")])
def test_budgets_are_steady(rule: str, freeside: Freeside, tenants: Tenants, evidence: Evidence) -> None:
    """I-3 and I-4 hold for every tenant from the run's first reading to its last, even between checks."""
    freeside.journal.open()
    for tenant in tenants.all():
        freeside.budget(tenant)
    sightings = [Sighting.of(each) for each in freeside.journal.once.remembered("reading")]
    require_steady(sightings, rule, evidence, freeside.journal)


@pytest.mark.goal("G-3")
@pytest.mark.p1
@pytest.mark.requires("freeside", "key", "signing", "invoke")
@pytest.mark.usefixtures("alone")
def test_latency_p95(
    freeside: Freeside, tenants: Tenants, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """The p95 latency of all invokes of the run is within the limit."""
    missing = LATENCY_SAMPLES - len(freeside.journal.spend().latencies_ms)
    if missing > 0:
        at_once([partial(freeside.invoke, tenants.main, prompt_for()) for _ in range(missing)])
    sample = freeside.journal.spend().latencies_ms
    limit, warning = plan_facts["invoke"]["p95_ms"], plan_facts["invoke"]["p95_warning_ms"]
    evidence.figure("sample size", len(sample), "invokes", at_least=LATENCY_SAMPLES)
    evidence.figure("p50", round(percentile(sample, 50), 1), "ms")
    p95 = percentile(sample, 95)
    evidence.figure("p95", round(p95, 1), "ms", limit=limit)
    if p95 > warning:
        evidence.note(f"p95 is in the warning band: above {warning} ms")
    assert len(sample) >= LATENCY_SAMPLES, f"only {len(sample)} invokes were answered"
    assert p95 < limit, f"p95 of {len(sample)} invokes is {p95:.0f} ms, limit {limit} ms"

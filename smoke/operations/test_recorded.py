"""Phase operations, at the end: what the run spent and received, and the migrations that ECS lists."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import pytest
from pytest_readiness import Evidence, SafetyViolation, SetupError

from smoke.aws.ecs import repository_of
from smoke.aws.ecs_tasks import failure_of, last_of
from smoke.aws.names import MIGRATIONS
from smoke.aws.reader import AwsReader
from smoke.contract.health import PER_SECOND, uptime_amiss
from smoke.contract.model import Access
from smoke.contract.schemas import REPLIES
from smoke.platform.answers import ContractViolation, require_error, require_status
from smoke.platform.attacks import Target, require_spent
from smoke.platform.backends import Dixie
from smoke.platform.batch import at_once
from smoke.platform.freeside import Freeside, Tenants, prompt_for
from smoke.platform.http import Connect, ServiceClient, wait
from smoke.platform.invariants import I3, I4, Sighting, require_steady
from smoke.platform.parameters import OF_FREESIDE, SPENT_ONCE, Way, each, each_access, require_no_run
from smoke.platform.recorded import AnswerLog, Seen
from smoke.platform.scores import Scores
from smoke.platform.spend import Once, percentile
from smoke.platform.tokens import SigningKeyLookup
from smoke.source.infrastructure.tasks import migrates

pytestmark = pytest.mark.phase("operations")


def spent(once: Once, kind: str, **of: str) -> list[dict[str, Any]]:
    """What the run spent of one kind; SetupError if nothing.

    Then the check that spends it was not part of this run. If that check failed, checks that require what it
    establishes do not run.
    """
    found = [each for each in once.remembered(kind) if of.items() <= each.items()]
    if not found:
        raise SetupError(f"not examined: this run spent no {kind} {' '.join(of.values())}".rstrip())
    return found


@pytest.mark.goal("G-2")
@pytest.mark.requires("freeside", "key", "signing")
@pytest.mark.parametrize("access", each_access("operations/spent-token-stays-spent", control=SPENT_ONCE))
def test_spent_token_stays_spent(
    access: Access, opened: Callable[[Access], Target], once: Once, evidence: Evidence
) -> None:
    """A token spent in phase auth is still refused at the end of the run, before it expires."""
    target = opened(access)
    for entry in spent(once, "token", access=access.id):
        answer = target.again(entry["claims"])
        evidence.exchange(answer)
        require_spent(answer, access.service, "a token that was spent when the run began")


@pytest.mark.goal("G-5")
@pytest.mark.p1
@pytest.mark.requires("freeside", "key", "signing", "dixie", "finn", "finn_key", "events")
@pytest.mark.usefixtures("alone")
@pytest.mark.control("loop/same-event-counts-once")
def test_counted_event_stays_counted(
    dixie: Dixie, scores: Scores, finn_key: SigningKeyLookup, once: Once
) -> None:
    """An event counted in phase loop does not count again at the end of the run."""
    events = [entry["event"] for entry in spent(once, "event")]
    before = scores.hold(*{event["agent_id"] for event in events})

    def again() -> None:
        for event in events:
            require_status(dixie.post_event(event, dixie.service_credential(finn_key())), 202)

    scores.stay_after(before, again, "an event that counted when the run began counted again")


def _controlled(way: Any) -> Any:
    """A way to the model, with the check that used keys there as its control."""
    control = pytest.mark.control(f"budget/one-key-is-one-charge[{way.id}]")
    used = pytest.mark.requires(f"{way.id}.used-key")
    return pytest.param(*way.values, id=way.id, marks=[*way.marks, control, used])


@pytest.mark.goal("G-4")
@pytest.mark.p0
@pytest.mark.requires("freeside", "key", "signing", "budget", "invoke")
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("route", [_controlled(way) for way in OF_FREESIDE])
def test_answered_key_stays_answered(
    route: str,
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    once: Once,
    evidence: Evidence,
) -> None:
    """A key answered in phase budget still has its own answer at the end of the run."""
    way = ways(route)
    known = spent(once, "key", route=route)
    watches = {tenant: freeside.watch(tenant, evidence) for tenant in {entry["tenant"] for entry in known}}
    for entry in known:
        again = way.post(entry["body"], entry["tenant"], key=entry["key"])
        evidence.exchange(again)
        require_no_run(entry["run"], again)
        other = way.post(way.body(prompt_for()), entry["tenant"], key=entry["key"])
        require_error(other, 409, "IDEMPOTENCY_CONFLICT")
    for watch in watches.values():
        watch.unchanged(f"{len(known)} keys that were answered when the run began")


@pytest.mark.p0
@pytest.mark.requires("aws")
@pytest.mark.parametrize("migration", sorted(MIGRATIONS))
def test_migrations_run_once(aws: AwsReader, migration: str, evidence: Evidence) -> None:
    """The migration has its own task definition, and no service runs it permanently.

    Nor does a service with the migration's image migrate whenever a task starts.
    """
    family = aws.names.full(migration)
    users = [name for name, each in aws.definitions().items() if each.family == family]
    evidence.figure(f"services that run {family}", users, expected=[])
    task = aws.tasks(tuple(sorted(MIGRATIONS))).get(migration)
    assert task, f"no task definition {family}"
    assert not users, f"{', '.join(users)} keeps the migration {family} running; it must run once"
    image = repository_of(task.main(migration).image)
    for name, definition in aws.definitions().items():
        for box in definition.containers:
            command = " ".join(box.runs)
            assert repository_of(box.image) != image or not migrates(command), (
                f"{name} migrates whenever a task starts: its container {box.name} runs {command}"
            )


@pytest.mark.p0
@pytest.mark.requires("aws", covered_by="operations/pipeline-deploys-only-after-migrations")
@pytest.mark.parametrize("migration", sorted(MIGRATIONS))
def test_migrations_succeeded(aws: AwsReader, migration: str, evidence: Evidence) -> None:
    """The last run has stopped, with exit code 0 for every essential container."""
    runs = aws.runs(migration)
    run = last_of(runs)
    if run is None:
        deployed = aws.service(MIGRATIONS[migration]).deployed_at
        pytest.skip(
            f"ECS lists no run of {migration}: it drops one after an hour; last deployment: "
            f"{deployed or 'an unknown time'}; with [source] iac_dir, the check of the pipeline covers it"
        )
    evidence.figure(f"runs of {migration} that ECS lists", len(runs))
    evidence.figure(
        f"last run of {migration}",
        f"{run.status} {dict(run.exit_codes)}",
        expected="STOPPED, all essential 0",
    )
    failure = failure_of(run, aws.tasks(tuple(sorted(MIGRATIONS))).get(migration))
    assert not failure, f"{migration}: {failure}"


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


@pytest.fixture(scope="module")
def odd_calls(connect: Connect) -> Callable[[str], None]:
    """Sends a service, once a run, calls to each route without a credential and to paths that do not exist.

    The latter are below a route, in upper case, with parameters or a format suffix, and paths that frameworks
    leave open. Each call is sent once more with a browser's headers.
    """

    @cache
    def send(service: str) -> None:
        client = connect(service)
        asked = [("GET", "/smoke/no-such-path")]
        asked += [("GET", path) for path in LEFT_OPEN if service == "freeside"]
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

    return send


@pytest.fixture
def seen(service: str, odd_calls: Callable[[str], None], answer_log: AnswerLog, evidence: Evidence) -> Seen:
    """The run's answers from a service, odd calls included."""
    odd_calls(service)
    seen = answer_log.seen(service)
    for route in sorted({route for route, _ in seen.answers}):
        evidence.note(
            f"{route}: {', '.join(f'{n} × {s}' for (r, s), n in sorted(seen.answers.items()) if r == route)}"
        )
    return seen


@pytest.mark.goal("G-1")
@pytest.mark.p1
@pytest.mark.parametrize("service", each())
def test_answers_keep_the_contract(seen: Seen, service: str, evidence: Evidence) -> None:
    """Every status, header and field of every answer in the run is as the contract says.

    Answers of very different lengths do not all have the same few tokens.
    """
    total = sum(seen.answers.values())
    evidence.evaluated(f"answers of {service} keep the contract", total)
    if findings := seen.all_findings():
        first = "; ".join(f"{rule}: {text} ({n} times)" for (rule, text), n in findings.most_common(SHOWN))
        raise ContractViolation(f"{service}: {len(findings)} findings in {total} answers: {first}")


@pytest.mark.goal("G-1")
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


@pytest.mark.goal("G-1")
@pytest.mark.parametrize(
    "service", each(marks=lambda name: [pytest.mark.p1 if name == "finn" else pytest.mark.p0])
)
def test_answers_show_no_secret(seen: Seen, service: str, evidence: Evidence) -> None:
    """No answer of the run shows a credential, a key, or words that only another tenant sent."""
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

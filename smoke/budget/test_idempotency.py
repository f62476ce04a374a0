"""G-4, phase budget: one idempotency key of one tenant is one call, one charge, one answer (contract 1.2)."""

import json
import re
import secrets
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence, SafetyViolation, SetupError

from smoke.contract.model import MAX_KEY_CHARS, POOLS, TIER_POOLS
from smoke.contract.neighbours import FIXED, KEY_HEADER, Near, strings
from smoke.platform.answers import UUID, error_code, fields_of, require_error, require_status
from smoke.platform.attacks import require_refused
from smoke.platform.batch import Batch, Case, answering, at_once
from smoke.platform.freeside import (
    INVOKE_PATH,
    Freeside,
    Tenants,
    cost_in,
    is_replay,
    nonce,
    once_free,
    prompt_for,
)
from smoke.platform.http import JSON_HEADERS
from smoke.platform.invariants import I7, Conservation
from smoke.platform.parameters import OF_FREESIDE, Way, require_no_run, run_of
from smoke.platform.spend import Once

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("budget"),
    pytest.mark.p0,
    pytest.mark.requires("freeside", "key", "signing", "budget", "invoke"),
    pytest.mark.usefixtures("alone"),
]

#: Other users of the same community: a key belongs to the community, whoever sends it.
HOLDERS: Mapping[str, Mapping[str, Any]] = {
    "another user": {"sub": "0x" + "ad" * 20},
    **{f"tier {tier}": {"tier": tier, "allowed_pools": [*TIER_POOLS[tier]]} for tier in ("free", "pro")},
    "fewer pools": {"allowed_pools": [*POOLS[:2]]},
    "an admin": {"role": "admin"},
}
#: Why a call to the second pool may be refused: the statuses, and what is wrong with the call.
REFUSED_FIRST: Mapping[str, tuple[tuple[int, ...], str, Mapping[str, Any]]] = {
    "pool": ((403,), "", {"allowed_pools": [*POOLS[:1]]}),
    "tier": ((403,), "", {"tier": "free"}),
    "token": ((401,), "expiry", {"iat": 1, "exp": 2}),
    "media type": ((400, 415), "", {"headers": {"Content-Type": "text/plain"}}),
}
#: A tenant that the platform may not know: its calls are refused, or it is new and pays for itself.
UNKNOWN_TENANT = "smoke-no-such-community"
#: How many calls with one key each of two tenants sends at once.
AT_ONCE = 5
#: Rounds of several bodies at once under a key, some together: one may be answered before the others arrive.
ROUNDS, TOGETHER = 4, 2
#: When callers give up, as fractions of the time that a call takes; so many rounds at most.
GIVEN_UP = (1 / 4, 1 / 2, 3 / 4, 7 / 8)
GIVE_UP_ROUNDS = 4
#: Length of a body of which a service may compare only the beginning.
LONG = 6000
PREFIXES = (16, 32, 36, 64, 100, 127)
PRINTABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")
ROCKET = "\N{ROCKET}"
APART = "different keys are different calls (1.2)"
CONFLICT = "a key used with another body is refused (1.2)"
ONE_RUN = "a key used with the same body is never charged again (1.2)"


def near_keys(key: str) -> Iterable[Near[str]]:
    """The key's neighbours that are keys themselves."""
    yield from (Near(f"first {count}", key[:count]) for count in PREFIXES)
    yield from (near for near in strings(key[:100]) if near.name not in FIXED)


def typed_keys() -> Iterable[Near[str]]:
    """Keys that a service would treat as equal if it parsed them: as a UUID, a number, base64."""
    one, number = str(uuid.uuid4()), 10**17 + 2 * secrets.randbelow(10**16)
    yield Near("a UUID", one)
    yield Near("the UUID in upper case", one.upper())
    yield Near("the UUID without hyphens", one.replace("-", ""))
    yield Near("a number", f"{number}")
    yield Near("the number after a zero", f"0{number}")
    yield Near("the next number, which is the same float", f"{number + 1}")
    yield Near("base64", coded := f"{one[:8]}+/{one[-8:]}")
    yield Near("the same base64, as in URLs", coded.replace("+/", "-_"))


@pytest.mark.parametrize("route", OF_FREESIDE)
def test_similar_keys_are_different_keys(
    route: str, ways: Callable[[str], Way], batch: Batch, tenants: Tenants, watch: Conservation
) -> None:
    """Similar keys, for example in another case, are different keys: each call runs and is charged.

    Later, each key still returns its own answer.
    """
    way = ways(route)
    key, body = secrets.token_urlsafe(MAX_KEY_CHARS)[:MAX_KEY_CHARS], way.body(prompt_for())
    near = [*near_keys(key), *typed_keys()]
    keys = {each.value: each.name for each in near if PRINTABLE.fullmatch(each.value)}
    some = {key[:32], key[:64], key[:127], key[:100], key[:100].upper(), key[:100].lower()}
    if way.streamed:
        keys = {each: name for each, name in keys.items() if each in some}
    keys = {key: "the key itself", **keys}
    calls = {each: partial(way.post, body, tenants.main, key=each) for each in keys}
    answers = batch.run(
        [Case(f"{route}: {name}", APART, calls[each], require_own_run) for each, name in keys.items()]
    )
    if not way.streamed:  # only the body shows whose answer it is
        traces = {each: fields_of(answer).text("traceId") for each, answer in zip(keys, answers, strict=True)}
        again = {each: f"{route}: {name}, again" for each, name in keys.items() if each in some}
        own = {each: partial(require_trace, traces[each]) for each in again}
        batch.run([Case(name, APART, calls[each], own[each]) for each, name in again.items()])
    watch.charged([cost_in(answer) for answer in answers])


def require_own_run(answer: httpx.Response) -> None:
    """SafetyViolation for another key's answer."""
    if is_replay(answer.headers) or error_code(answer) == "IDEMPOTENCY_CONFLICT":
        raise SafetyViolation(f"treated as another key: {answer.status_code} {error_code(answer)}".strip())
    require_status(answer, 200)


def require_trace(trace: str, answer: httpx.Response) -> None:
    """SafetyViolation unless an answer is the stored one with this trace id."""
    require_status(answer, 200)
    if fields_of(answer).text("traceId") != trace:
        raise SafetyViolation("a key got the answer that was stored for another key (1.2)")


def _establishing(way: Any) -> Any:
    """A route to the model; passing the check establishes that a key was used there."""
    used = pytest.mark.establishes(f"{way.id}.used-key")
    return pytest.param(*way.values, id=way.id, marks=[*way.marks, used])


@pytest.mark.parametrize("route", [_establishing(way) for way in OF_FREESIDE])
def test_one_key_is_one_charge(
    route: str,
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    once: Once,
    evidence: Evidence,
) -> None:
    """Two tenants use one key for one body at once, several times: each is charged once, for its own run.

    Later calls get the stored answer, marked as a replay; while the first one runs, they wait for it or are
    refused. Neither tenant's answer shows the other's.
    """
    # in upper and lower case: an answer echoes it unchanged
    way, key, body = ways(route), f"Key-{uuid.uuid4()}", ways(route).body(prompt_for())
    payers = (tenants.main, tenants.other)
    watches = {tenant: freeside.watch(tenant, evidence) for tenant in payers}
    calls = [
        (tenant, partial(once_free, partial(way.post, body, tenant, key=key)))
        for tenant in payers
        for _ in range(AT_ONCE)
    ]
    answers = at_once([call for _, call in calls])
    traces = set()
    for tenant, watch in watches.items():
        own = [answer for (payer, _), answer in zip(calls, answers, strict=True) if payer == tenant]
        own.append(way.post(body, tenant, key=key))
        for answer in own:
            require_status(answer, 200)
        watch.charged([cost_in(own[0])])
        runs = [answer for answer in own if not is_replay(answer.headers)]
        evidence.figure(f"runs for {tenant} by {route}", len(runs), expected=1)
        if len(runs) != 1:
            what = f"{len(runs)} answers without X-Idempotent-Replay: true"
            raise SafetyViolation(f"{tenant}: one key, one body, {what}, expected 1")
        if any(run_of(answer) != run_of(own[0]) for answer in own):
            raise SafetyViolation(f"{tenant}: one key, one body, but different answers")
        for name in () if way.streamed else ("model", "traceId"):
            found = {fields_of(answer).text(name) for answer in own}
            assert len(found) == 1, f"one key, one body, but the replay has another {name}: {found}"
        traces.add(trace_of(runs[0]))
        once.remember("key", tenant=tenant, route=route, key=key, body=body, run=run_of(runs[0]))
    if len(traces) != len(payers):
        raise SafetyViolation(f"one key, {len(payers)} tenants, {len(traces)} trace ids: an answer is shared")


def trace_of(answer: httpx.Response) -> str:
    """The trace id of an answer; AssertionError for none."""
    trace = answer.headers.get("x-trace-id", "")
    assert re.fullmatch(UUID, trace), f"x-trace-id is {trace!r}, expected a uuid"
    return str(trace)


def other_bodies(way: Way, prompt: str) -> Iterable[Near[dict[str, Any]]]:
    """Calls that are not the one with this prompt to the first pool."""
    for pool in POOLS[1:]:
        yield Near(f"pool {pool}", way.body(prompt, pool))
    yield Near("another agent", way.body(prompt, agent="smoke-elsewhere"))
    for name, text in (
        ("a letter less", prompt[:-1]), ("a letter more", prompt + "x"), ("a space more", prompt + " "),
        ("another letter", prompt[:-1] + "x"), ("a letter's case", prompt[:1].lower() + prompt[1:]),
        ("its half", prompt[:20]), ("its accents apart", unicodedata.normalize("NFD", prompt)),
        ("very much more", prompt + " again" * 2000), ("another accent", prompt.replace("\u00e9", "\u00e8")),
        ("another four-byte character", prompt.replace(ROCKET, "\N{AUTOMOBILE}")),
        ("a space twice", prompt.replace(" ", "  ", 1)), ("a tab for a space", prompt.replace(" ", "\t", 1)),
    ):  # fmt: skip
        yield Near(f"prompt with {name}", way.body(text))


def same_bodies(way: Way, prompt: str) -> Iterable[Near[bytes]]:
    """The same call in other bytes; a service may treat it as the same call or as another one."""
    body = way.body(prompt)
    yield Near("other order", json.dumps(dict(reversed(body.items()))).encode())
    yield Near("white space", json.dumps(body, indent=1).encode())
    yield Near("compact", json.dumps(body, separators=(",", ":")).encode())
    yield Near("escapes", json.dumps(body).replace("R", "\\u0052").encode())


def conversations(way: Way, tenant: str) -> list[Case]:
    """Near misses of a conversation under one key; none if the dialect has no messages."""
    if not (talk := way.conversation(prompt_for())):
        return []
    key, messages, last = str(uuid.uuid4()), talk["messages"], talk["messages"][-1]
    require_status(way.post(talk, tenant, key=key), 200)
    others = {
        "in another order": [messages[0], *messages[3:0:-1], *messages[4:]],
        "but without the last one": [last],
        "with another role": [messages[0] | {"role": "user"}, *messages[1:]],
        "with another first one": [messages[0] | {"content": "Be quick."}, *messages[1:]],
        "and one more": [*messages, last],
    }
    judge = partial(require_error, status=409, code="IDEMPOTENCY_CONFLICT")
    send = partial(way.post, tenant=tenant, key=key)
    return [
        Case(f"{way.route}: messages {name}", CONFLICT, partial(send, {**talk, "messages": found}), judge)
        for name, found in others.items()
    ]


def require_one_body(way: Way, tenant: str) -> None:
    """Send several bodies with one key at once; SafetyViolation unless one gets an answer, its own.

    A refused call does not affect the answered one: its answer is kept.
    """
    key, words = str(uuid.uuid4()), [nonce() for _ in range(AT_ONCE)]
    calls = [partial(way.post, way.body(prompt_for(word)), tenant, key=key) for word in words]
    answers = at_once(calls)
    for answer in answers:
        answering(200, 409)(answer)
    served = [place for place, answer in enumerate(answers) if answer.is_success]
    if len(served) != 1 or any(words[place] not in run_of(answers[place])[0] for place in served):
        raise SafetyViolation(
            f"{way.route}: {AT_ONCE} bodies with one key at once, {len(served)} are answered"
        )
    again = require_status(calls[served[0]](), 200)
    require_no_run(run_of(answers[served[0]]), again)


def require_one_run(ways: Sequence[Way], tenant: str) -> None:
    """Send one body with one key to several routes at once; SafetyViolation unless it runs once."""
    key, body = str(uuid.uuid4()), ways[0].body(prompt_for())
    answers = at_once([partial(way.post, body, tenant, key=key) for way in ways] * 2)
    for answer in answers:
        answering(200, 409)(answer)
    runs = sum(answer.status_code == 200 and not is_replay(answer.headers) for answer in answers)
    if runs != 1:
        routes = " and ".join(way.route for way in ways)
        raise SafetyViolation(f"one key and one body sent to {routes} at once: {runs} runs, expected 1")


@pytest.mark.requires("stream")
@pytest.mark.parametrize("route", OF_FREESIDE)
def test_a_key_keeps_its_body(
    route: str,
    ways: Callable[[str], Way],
    batch: Batch,
    freeside: Freeside,
    tenants: Tenants,
    evidence: Evidence,
) -> None:
    """An answered key is refused for any other body on either route, and never runs again.

    It does not matter who got the answer and how long it was. Of several bodies that arrive with one key at
    once, one is answered. The same body also runs once if both routes get it at once.
    """
    for _ in range(ROUNDS // TOGETHER):
        at_once([partial(require_one_body, ways(route), tenants.main)] * TOGETHER)
    require_one_run((ways("freeside.invoke"), ways("freeside.stream")), tenants.main)
    way, key, prompt = ways(route), str(uuid.uuid4()), f"{prompt_for()} \u00e9 {ROCKET}"
    long, long_key = prompt_for(padding=LONG), str(uuid.uuid4())
    asked: dict[str, tuple[str, str, Mapping[str, Any]]] = {
        "": (key, prompt, {}),
        f"{len(long)} characters": (long_key, long, {}),
        **{f"{name} first": (str(uuid.uuid4()), prompt_for(), claims) for name, claims in HOLDERS.items()},
    }
    answers = at_once(
        [
            partial(way.post, way.body(text), tenants.main, key=by, **claims)
            for by, text, claims in asked.values()
        ]
    )
    runs = [(run_of(require_status(answer, 200)), trace_of(answer)) for answer in answers]
    first, trace = runs[0]
    talks = conversations(way, tenants.main)
    watch = freeside.watch(tenants.main, evidence)
    cases = talks + [
        Case(
            f"{route}: the same again, {name}", ONE_RUN,
            partial(way.post, way.body(text), tenants.main, key=by),
            partial(require_no_run, run),
        )
        for (name, (by, text, _)), (run, _) in zip(asked.items(), runs, strict=True)
        if name
    ]  # fmt: skip
    for other in (ways("freeside.invoke"), ways("freeside.stream")):
        by = f"{route} first, then {other.route}"
        cases.append(
            Case(
                f"{by}: the last of {len(long)} letters differs",
                CONFLICT,
                partial(other.post, other.body(long[:-1] + "x"), tenants.main, key=long_key),
                lambda answer: require_error(answer, 409, "IDEMPOTENCY_CONFLICT"),
            )
        )
        cases += [
            Case(
                f"{by}: {near.name}", CONFLICT, partial(other.post, near.value, tenants.main, key=key),
                lambda answer: require_error(answer, 409, "IDEMPOTENCY_CONFLICT"),
            )
            for near in other_bodies(other, prompt)
        ]  # fmt: skip
        cases += [
            Case(
                f"{by}: {near.name}", ONE_RUN, partial(other.post, near.value, tenants.main, key=key),
                partial(require_no_run, first),
            )
            for near in (Near("the same", other.encoded(other.body(prompt))), *same_bodies(other, prompt))
        ]  # fmt: skip
        cases += [
            Case(
                f"{by}: {name}", ONE_RUN,
                partial(other.post, other.body(prompt), tenants.main, key=key, **claims),
                partial(require_no_run, first),
            )
            for name, claims in HOLDERS.items()
        ]  # fmt: skip
    batch.run(cases)
    watch.unchanged(f"{len(cases)} calls under the key of trace {trace}")


@pytest.mark.parametrize("route", OF_FREESIDE)
def test_a_refused_call_leaves_its_key(
    route: str, ways: Callable[[str], Way], tenants: Tenants, watch: Conservation
) -> None:
    """A refused call leaves no answer under its key: the corrected call runs.

    If calls wait for another one with their key and that one is refused, they are refused or run themselves;
    none fails.
    """
    way, body = ways(route), ways(route).body(prompt_for(), POOLS[1])
    keys = {name: str(uuid.uuid4()) for name in REFUSED_FIRST}

    def refused(name: str) -> None:
        statuses, rule, how = REFUSED_FIRST[name]
        answer = way.post(body, tenants.main, key=keys[name], **how)
        require_refused(answer, "freeside", f"a call with a bad {name}", statuses, rule)

    def answered(name: str) -> httpx.Response:
        answer = way.post(body, tenants.main, key=keys[name])
        require_own_run(answer)
        return answer

    at_once([partial(refused, name) for name in keys])
    watch.charged([cost_in(answer) for answer in at_once([partial(answered, name) for name in keys])])
    for _ in range(ROUNDS):
        waiting = [partial(way.post, body, UNKNOWN_TENANT, key=keys["pool"])] * AT_ONCE
        for answer in at_once(waiting):
            answering(200, 401, 402, 403, 404, 409)(answer)


def test_a_retry_is_one_charge(
    freeside: Freeside, tenants: Tenants, watch: Conservation, evidence: Evidence
) -> None:
    """A client that gives up and retries with the same key is answered, and pays once.

    If the call had not begun, or was cancelled with its caller, it runs now; otherwise it does not run again.
    """
    started = time.monotonic()
    first = freeside.invoke(tenants.main, prompt_for())
    took = [time.monotonic() - started]
    body = json.dumps(freeside.invoke_body(prompt_for())).encode()  # to the byte the same in both calls
    answers, given_up = [], 0
    for share in GIVEN_UP * GIVE_UP_ROUNDS:
        key, token = str(uuid.uuid4()), freeside.credential(tenants.main)
        headers, limit, started = {**JSON_HEADERS, KEY_HEADER: key}, min(took) * share, time.monotonic()
        try:
            with freeside.journal.charging(tenants.main, key) as charge:
                charge.unknown = True  # the answer to the retry shows it
                freeside.http.once("POST", INVOKE_PATH, token, content=body, timeout=limit, headers=headers)
        except httpx.TimeoutException:
            given_up += 1
        else:
            took.append(time.monotonic() - started)  # it was answered: calls are faster than measured
        again = partial(freeside.post_invoke, body, tenant=tenants.main, credential=token, key=key)
        answers.append(require_status(once_free(again), 200))
        if given_up == len(GIVEN_UP):
            break
    evidence.figure("calls that were aborted", given_up, limit=len(answers))
    if not given_up:
        raise SetupError(f"not examined: {len(answers)} calls were answered before they could be aborted")
    watch.released()
    watch.charged([first.usage.cost_micro, *map(cost_in, answers)])


def test_a_tenants_key_is_its_own(
    ways: Callable[[str], Way], freeside: Freeside, tenants: Tenants, evidence: Evidence
) -> None:
    """A key used by another tenant is a new key, for the same body and for another."""
    way, key, body = ways("freeside.invoke"), str(uuid.uuid4()), ways("freeside.invoke").body(prompt_for())
    require_own_run(way.post(body, tenants.main, key=key))
    first = freeside.watch(tenants.main, evidence)
    second = freeside.watch(tenants.other, evidence)
    answer = way.post(way.body(prompt_for()), tenants.other, key=key)
    require_own_run(answer)
    second.charged([cost_in(answer)])
    first.unchanged(f"{tenants.other} used a key of {tenants.main}", I7)


@pytest.mark.p1
@pytest.mark.drill
@pytest.mark.requires("restart_freeside")
def test_a_key_outlives_a_restart(
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    watch: Conservation,
    environment: Environment,
    eventually: Eventually,
) -> None:
    """An answered key keeps its answer across a restart of Freeside, and is charged once."""
    way, key, body = ways("freeside.invoke"), str(uuid.uuid4()), ways("freeside.invoke").body(prompt_for())
    first = require_status(way.post(body, tenants.main, key=key), 200)
    freeside.restart(environment.get("freeside.restart_url"), eventually)
    require_no_run(run_of(first), way.post(body, tenants.main, key=key))
    watch.charged([cost_in(first)])

"""Rules for every response: a conforming one breaks none; each wrong member or header breaks one."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoke.contract.exchange import Exchange, SentEvent, increase, judge, secret_in
from smoke.contract.model import Schema
from smoke.contract.schemas import CODES, REFUSAL_FORM, REFUSALS, REPLIES, Reply, RouteKey, violations

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "null": st.none(),
    "object": st.just({}),
    "string": st.text(),
}


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Values that fit a schema."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return st.one_of([_of(kind, schema) for kind in types])


def _of(kind: str, schema: Schema) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    match kind:
        case "integer":
            return st.integers(low, high)
        case "number":
            return st.floats(low, high, allow_nan=False, allow_infinity=False)
        case "array":
            return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"].replace("$", r"\Z"))
        case "object" if "properties" in schema:
            return st.fixed_dictionaries(
                {name: values(part) for name, part in schema["properties"].items() if part}
            )
    return KINDS[kind]


ROWS = [(route, status, reply) for route, by in REPLIES.items() for status, reply in by.items()]
IDS = [f"{route[0]}-{route[2]}-{status}" for route, status, _ in ROWS]
HEADERS = {
    "cache-control": "public, No-Cache, MAX-AGE=60",
    "etag": 'W/"1"',
    "x-idempotency-key": "k-1",
    "x-trace-id": "0f9b2c1e-3a4d-4e5f-8a6b-7c8d9e0f1a2b",
    "x-ratelimit-limit": "60",
    "x-ratelimit-remaining": "60",
    "x-payment-response": "eyJzdWNjZXNzIjogdHJ1ZX0=",
    "x-payment-required": "x402",
}


def answer(
    route: RouteKey, status: int, document: Any, media: str = "application/json", **headers: str
) -> Exchange:
    body = b"" if document is None else json.dumps(document).encode()
    came = {"x-request-id": "r-1", "content-type": media, **headers}
    problem = "" if body else "nothing"
    path = route[2].replace("{id}", "t-1")
    return Exchange(route[0], route[1], path, {}, status, came, body, document, problem)


def conforming(route: RouteKey, status: int, reply: Reply, document: Any = None) -> Exchange:
    if isinstance(document, dict) and "committedMicro" in document:
        micro = {name: int(document[f"{name}Micro"]) // 10_000 for name in ("committed", "reserved")}
        document = {**document, **micro, "spentCents": micro["committed"], "communityId": "t-1"}
    if isinstance(document, dict) and "percentUsed" in document:
        limit = document["monthlyLimitCents"]
        share = {"percentUsed": 100 * document["currentSpendCents"] / limit} if limit else {}
        document = {**document, **share}
    if isinstance(document, dict) and "total_tokens" in document.get("usage", {}):
        usage = document["usage"]
        total = usage["prompt_tokens"] + usage["completion_tokens"]
        document = {**document, "usage": {**usage, "total_tokens": total}}
    named = {name: HEADERS[name] for name in reply.headers}
    return answer(route, status, document, reply.media, **named)


def rules(exchange: Exchange) -> set[str]:
    return {finding.rule for finding in judge(exchange)}


@pytest.mark.parametrize(("route", "status", "reply"), ROWS, ids=IDS)
@settings(max_examples=20)
@given(data=st.data())
def test_a_conforming_answer_breaks_no_rule(
    data: st.DataObject, route: RouteKey, status: int, reply: Reply
) -> None:
    document = data.draw(values(reply.schema)) if reply.schema else None
    assert not list(judge(conforming(route, status, reply, document)))


def test_a_total_of_tokens_is_no_less_than_its_parts() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 6}
    body = {"response": "a", "model": "cheap", "cost_micro": "1", "trace_id": "t", "usage": usage}
    route = ("finn", "POST", "/api/v1/invoke")
    assert rules(answer(route, 200, body)) == {"tokens"}
    for total in (7, 9):  # a reasoning model also counts its thinking
        assert not rules(answer(route, 200, {**body, "usage": {**usage, "total_tokens": total}}))


def leaves(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member that a schema names, by its path through objects and arrays."""
    for name, part in schema.get("properties", {}).items():
        if part:
            yield (*path, name)
            yield from leaves(part, (*path, name))
    if "items" in schema:
        yield from leaves(schema["items"], (*path, "0"))


def at(document: Any, path: tuple[str, ...]) -> tuple[Any, Any]:
    """The holder of a member, and its key there."""
    for step in path[:-1]:
        document = document[int(step) if step.isdigit() else step]
    return document, path[-1]


MEMBERS = [
    pytest.param(route, status, reply, path, id=f"{route[0]}-{route[2]}-{status}-{'.'.join(path)}")
    for route, status, reply in ROWS
    if reply.schema
    for path in leaves(reply.schema)
]


@pytest.mark.parametrize(("route", "status", "reply", "path"), MEMBERS)
@settings(max_examples=3)
@given(data=st.data())
def test_each_member_is_missed_and_typed(
    data: st.DataObject, route: RouteKey, status: int, reply: Reply, path: tuple[str, ...]
) -> None:
    assert reply.schema
    document = data.draw(values(reply.schema))
    holder, name = at(document, path)
    kept = holder.pop(name)
    assert "body" in rules(answer(route, status, document))
    for other in (not kept, [kept], {"value": kept}, -1):
        holder[name] = other
        if list(violations(document, reply.schema)):
            break
    else:
        pytest.fail(f"no value of {path} is refused")
    assert "body" in rules(answer(route, status, document))


@pytest.mark.parametrize(
    ("route", "status", "reply", "name"),
    [
        pytest.param(*row, name, id=f"{label}-{name}")
        for row, label in zip(ROWS, IDS, strict=True)
        for name in row[2].headers
    ],
)
def test_each_header_is_missed_and_read(route: RouteKey, status: int, reply: Reply, name: str) -> None:
    for wrong in (None, "", "µ", "\n"):
        named = {each: HEADERS[each] for each in reply.headers} | {name: wrong}
        came = {each: value for each, value in named.items() if value is not None}
        assert "headers" in rules(answer(route, status, None, reply.media, **came)), wrong


REFUSED = [
    pytest.param(service, status, id=f"{service}-{status}")
    for service, statuses in REFUSALS.items()
    for status in sorted(statuses)
]
ASKED = {
    "freeside": ("freeside", "POST", "/api/agents/invoke"),
    "dixie": ("dixie", "POST", "/api/reputation/events"),
    "finn": ("finn", "POST", "/api/v1/invoke"),
}


def refusal(service: str, status: int, **members: Any) -> Exchange:
    code = CODES[service].get(status, ("SOME_CODE",))[0]
    named = {"error": code, "message": "why"} if service != "finn" else {"error": "why", "code": code}
    after = {"retry-after": "3"} if status == 429 else {}
    return answer(ASKED[service], status, {**named, **members}, **after)


@pytest.mark.parametrize(("service", "status"), REFUSED)
def test_refusals_have_the_form_of_their_service(service: str, status: int) -> None:
    good = refusal(service, status)
    assert not list(judge(good))
    for name in REFUSAL_FORM[service]["required"]:
        for wrong in (None, "", " ", 1, ["x"]):
            assert "refusal" in rules(refusal(service, status, **{name: wrong})), (name, wrong)
    if status in CODES[service]:
        code = "code" if service == "finn" else "error"
        assert "refusal" in rules(refusal(service, status, **{code: "ANOTHER_CODE"}))
    assert (
        "rate limit" in rules(replace(good, headers={**good.headers, "retry-after": "soon"})) or status != 429
    )
    page = replace(good, headers={**good.headers, "content-type": "text/html"})
    assert "body" in rules(page) or status in (400, 405, 502, 503)


@pytest.mark.parametrize(
    ("ids", "rising"),
    [
        (["1", "2", "10"], True),
        (["9", "1000"], True),
        (["1795815648612940668", "1795815648621064467"], True),
        (["evt-9", "evt-10"], True),
        (["1-9", "1-10", "2-1"], True),
        (["01J9ZA10", "01J9ZA9B"], True),
        (["01J9ZA9B", "01J9ZA10"], True),
        (["1000", "999"], False),
        (["2", "2"], False),
        (["2", "02"], False),
        (["", "1"], False),
        (["b", "a"], False),
        (["-9", "-8", "0", "1"], True),
        (["-1", "-2"], False),
    ],
)
def test_ids_of_events_increase_whatever_they_look_like(ids: list[str], rising: bool) -> None:
    assert increase(ids) is rising


def test_a_429_may_contain_a_retry_date() -> None:
    good = refusal("freeside", 429)
    for after, broken in {
        "Sun, 06 Nov 1994 08:49:37 GMT": set(), "0": set(),
        "Sun Nov  6 08:49:37 1994": {"rate limit"}, "06:00": {"rate limit"}, "": {"rate limit"},
    }.items():  # fmt: skip
        assert rules(replace(good, headers={**good.headers, "retry-after": after})) == broken, after


@pytest.mark.parametrize(
    ("limit", "left", "broken"),
    [
        ("60, 60;w=1", "59", set()),
        ("60;w=60;burst=10, 5000;w=3600", "59", set()),
        ("60, 60", "59, 58", set()),
        ("0", "0", {"headers"}),
        ("60 per minute", "59", {"headers"}),
        ("60,", "59", {"headers"}),
        ("60", "many", {"headers"}),
    ],
)
def test_rate_figures_may_have_policies_and_those_of_a_gateway(
    limit: str, left: str, broken: set[str]
) -> None:
    route = ("freeside", "POST", "/api/agents/invoke")
    body = {
        "content": "Yes.", "model": "cheap", "traceId": HEADERS["x-trace-id"],
        "usage": {"promptTokens": 1, "completionTokens": 1, "costMicro": "1"},
    }  # fmt: skip
    figures = {"x-ratelimit-limit": limit, "x-ratelimit-remaining": left}
    assert rules(answer(route, 200, body, **HEADERS | figures)) == broken


@pytest.mark.parametrize("status", [100, 201, 204, 301, 302, 418, 500, 501, 505, 520])
@pytest.mark.parametrize("service", REFUSALS)
def test_a_status_that_the_contract_does_not_know(service: str, status: int) -> None:
    assert "status" in rules(refusal(service, status))


@pytest.mark.parametrize("status", [502, 503, 504, 431])
def test_a_gateway_in_front_is_not_judged(status: int) -> None:
    assert not list(judge(answer(ASKED["dixie"], status, None, "text/html")))


def test_a_firewall_may_refuse_paths_outside_the_contract() -> None:
    nowhere: RouteKey = ("freeside", "GET", "/.env")
    assert not list(judge(answer(nowhere, 403, None, "text/html")))
    assert rules(answer(nowhere, 403, {"error": "FORBIDDEN", "message": "x"})) == {"status"}
    assert "status" in rules(answer(nowhere, 401, None, "text/html"))
    assert rules(answer(("freeside", "GET", "/health"), 403, None, "text/html"))


@pytest.mark.parametrize(("path", "status"), [("/api/agents/model%73", 308), ("/api//agents/models", 401)])
def test_a_proxy_may_know_a_path_by_another_spelling(path: str, status: int) -> None:
    assert "status" not in rules(answer(("freeside", "GET", path), status, None, "text/html"))
    assert "status" in rules(answer(("freeside", "GET", "/api/agents/models"), 308, None, "text/html"))
    assert "status" in rules(answer(("freeside", "GET", "/api/agents/other"), 401, None, "text/html"))


HEALTHY: Mapping[str, Any] = {
    "status": "healthy", "build_sha": "0" * 40, "version": "1", "protocol_version": "1", "uptime": 1,
    "grace_period": False,
}  # fmt: skip
HEALTH: RouteKey = ("freeside", "GET", "/health")


def test_a_request_id_is_echoed_or_made() -> None:
    good = answer(HEALTH, 200, HEALTHY)
    assert not rules(replace(good, sent={"x-request-id": "r-1"}))
    assert rules(replace(good, sent={"x-request-id": "R-1"})) == {"request id"}
    assert rules(replace(good, headers={"content-type": "application/json"})) == {"request id"}


def test_a_long_request_id_is_echoed_whole_or_replaced() -> None:
    good, long = answer(HEALTH, 200, HEALTHY), "r-1" + "1" * 95
    replaced = replace(good, sent={"x-request-id": long}, headers={**good.headers, "x-request-id": "made"})
    assert not rules(replaced)
    for cut in (long[:64], long[:97]):
        assert rules(replace(replaced, headers={**good.headers, "x-request-id": cut})) == {"request id"}
    assert rules(replace(replaced, sent={"x-request-id": long[:64]})) == {"request id"}


def test_a_current_version_is_answered_with_304() -> None:
    jwks: RouteKey = ("dixie", "GET", "/api/auth/.well-known/jwks.json")
    key = {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k", "x": "x", "y": "y"}
    full, not_modified = answer(jwks, 200, {"keys": [key]}, etag='"1"'), answer(jwks, 304, None, etag='"1"')
    comma = answer(jwks, 304, None, etag='W/"1,2"')
    assert not rules(replace(comma, sent={"if-none-match": 'W/"0", W/"1,2"'}))
    for offered, good, bad in (('W/"0", W/"1"', not_modified, full), ('W/"0"', full, not_modified)):
        assert not rules(replace(good, sent={"if-none-match": offered}))
        assert rules(replace(bad, sent={"if-none-match": offered})) == {"caching"}
    assert "body" in rules(answer(jwks, 200, {"keys": [{**key, "d": "secret"}]}))
    assert not rules(answer(jwks, 200, {"keys": [key]}, "application/jwk-set+json"))
    assert "body" in rules(answer(jwks, 200, {"keys": [key]}, "text/plain"))


@pytest.mark.parametrize(
    ("control", "shared"),
    [
        ("public, max-age=60", True),
        ("max-age=5, PUBLIC", True),
        ('s-maxage="10"', True),
        ("private, max-age=60", False),
        ("max-age=60", False),
        ("public, max-age=0", False),
        ("public, s-maxage=0, no-cache", False),
        ("public, max-age=60, s-maxage=0", False),
        ("public, max-age=60, s-maxage=05", True),
        ("no-store", False),
    ],
)
def test_an_answer_to_a_credential_is_not_for_shared_caches(control: str, shared: bool) -> None:
    query: RouteKey = ("dixie", "GET", "/api/reputation/query")
    found = rules(answer(query, 200, {"score": 0.5}, **{"cache-control": control}))
    assert found == ({"sharing"} if shared else set())
    for varies in ("Authorization", "origin, authorization", "*"):
        own = {"cache-control": control, "vary": varies}
        assert not rules(answer(query, 200, {"score": 0.5}, **own))
    assert found == rules(answer(query, 200, {"score": 0.5}, **{"cache-control": control, "vary": "Origin"}))


def test_figures_of_a_budget_agree() -> None:
    route: RouteKey = ("freeside", "GET", "/api/v1/communities/{id}/budget")
    good = {
        "communityId": "t-1", "monthlyBudgetCents": 100, "committed": 1, "reserved": 0, "spentCents": 1,
        "committedMicro": "19999", "reservedMicro": "0", "period": "2026-01",
    }  # fmt: skip
    assert not rules(answer(route, 200, good))
    for wrong in ({"committed": 2}, {"reserved": 1}, {"spentCents": 2}, {"communityId": "t-2"}):
        assert rules(answer(route, 200, good | wrong)) == {"figures"}, wrong


def test_a_share_of_the_budget_is_a_percentage() -> None:
    route: RouteKey = ("freeside", "GET", "/api/agents/budget")
    good = {"communityId": "t", "monthlyLimitCents": 300, "currentSpendCents": 100, "remainingCents": 200}
    for used, found in ((33, set()), (34, set()), (33.333, set()), (67, {"figures"}), (0.33, {"figures"})):
        assert rules(answer(route, 200, good | {"percentUsed": used})) == found
    spent = good | {"currentSpendCents": 400, "remainingCents": 0}
    for used, found in ((100, set()), (133.3, set()), (33, {"figures"})):
        assert rules(answer(route, 200, spent | {"percentUsed": used})) == found


def test_an_event_is_accepted_with_any_body_or_none() -> None:
    accepted = answer(("dixie", "POST", "/api/reputation/events"), 202, None, "application/json")
    assert not rules(accepted)
    assert rules(replace(accepted, body=b"{", problem="nothing")) == {"body"}


def test_a_complete_stream_has_content_twice() -> None:
    assert not rules(streamed(*STREAMED[1:3]))
    assert rules(streamed(*STREAMED[1:])) == {"events"}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Select one of the models from the list: cheap, reviewer", False),
        ("See https://docs.example/app/errors/ or https://docs.example/home/", False),
        ("SELECT score FROM dixie.aggregates", True),
        ("select score from aggregates a where a.agent_id = 1", True),
        ("at handler (/app/src/index)", True),
        ('File "/usr/lib/python3/dist"', True),
    ],
)
def test_a_refusal_shows_no_internals(message: str, shown: bool) -> None:
    refused = answer(
        ("freeside", "POST", "/api/agents/invoke"), 400, {"error": "INVALID_REQUEST", "message": message}
    )
    assert rules(refused) == ({"internals"} if shown else set())


def test_a_stream_is_requested_with_accept() -> None:
    route: RouteKey = ("freeside", "POST", "/api/agents/invoke")
    stream = answer(route, 200, None, "text/event-stream", **{"cache-control": "no-cache"})
    assert not rules(replace(stream, sent={"accept": "text/event-stream"}))
    assert rules(stream) >= {"body", "headers"}


CONTENT, USAGE = {"text": "a"}, {"promptTokens": 1, "completionTokens": 1, "costMicro": "5"}
STREAMED: tuple[tuple[str, Any], ...] = (
    ("content", CONTENT),
    ("content", CONTENT),
    ("usage", USAGE),
    ("done", {}),
)


def streamed(*events: tuple[str, Any], ids: str = "123456789") -> Exchange:
    made = tuple(SentEvent(name, id_, data) for (name, data), id_ in zip(events, ids, strict=False))
    route: RouteKey = ("freeside", "POST", "/api/agents/stream")
    started = answer(route, 200, None, "text/event-stream", **{"cache-control": "no-cache"})
    return replace(started, events=made)


@pytest.mark.parametrize("end", range(len(STREAMED) + 1))
def test_a_stream_may_be_left_at_any_event(end: int) -> None:
    assert not rules(streamed(*STREAMED[:end]))
    error = ("error", {"code": "UPSTREAM_ERROR", "message": "why"})
    assert rules(streamed(*STREAMED[:end], error)) == (set() if end < 4 else {"events"})


def test_events_of_other_names_may_come_at_any_time() -> None:
    ping = ("ping", None)
    assert not rules(streamed(ping, *STREAMED[:2], ping, *STREAMED[2:], ping, ids="0122345"))


@pytest.mark.parametrize(
    "wrong",
    [
        streamed(*reversed(STREAMED)),
        streamed(*STREAMED[:3], *STREAMED[2:]),
        streamed(*STREAMED, STREAMED[0]),
        streamed(STREAMED[0], ("message", CONTENT)),
        streamed(("content", {})),
        streamed(("content", None)),
        streamed(STREAMED[0], ("usage", USAGE | {"costMicro": 5})),
        streamed(*STREAMED, ids="1223"),
        streamed(*STREAMED, ids="a123"),
    ],
)
def test_a_stream_out_of_order_or_form(wrong: Exchange) -> None:
    assert rules(wrong) == {"events"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("nothing of the kind", ""),
        ("-----BEGIN EC PRIVATE KEY-----", "a private key"),
        ("eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJhcnJha2lzIn0.c2lnbmF0dXJl", "a token"),
        ("dxk_0123456789", "an API key"),
        ("a line\ndxk_0123456789", "an API key"),
        ("key%3Ddxk_0123456789", "an API key"),
        ("9Zk4dxk_0123456789", ""),
        ("AKIAIOSFODNN7EXAMPLE", "an AWS key"),
        ("postgres://dixie:hunter2@db/dixie", "a DSN with a password"),
    ],
)
def test_secrets_are_seen_in_body_and_headers(text: str, kind: str) -> None:
    assert secret_in(answer(HEALTH, 200, {"status": text})) == kind
    assert secret_in(answer(HEALTH, 200, {}, **{"x-debug": text})) == kind


def test_an_echoed_request_id_is_not_a_secret_but_an_id_of_the_service_may_be() -> None:
    """The suite's ids are random: once in many runs one looks like a key."""
    request_id = {"x-request-id": "/dxk_0123456789"}
    shown = answer(HEALTH, 200, {"status": "ok"}, **request_id)
    assert secret_in(replace(shown, sent=request_id)) == ""
    assert secret_in(shown) == "an API key"


@pytest.mark.parametrize(
    ("message", "shows"),
    [
        ("File /app/dixie/main.py, line 3", True),
        ("SELECT sub FROM dixie.spent WHERE jti = $1", True),
        ('{"password": "hunter2"}', True),
        ("password=hunter2", True),
        ("Select an agent first", False),
        ("no password is needed here", False),
    ],
)
def test_refusals_show_no_internals(message: str, shows: bool) -> None:
    assert rules(refusal("dixie", 400, message=message)) == ({"internals"} if shows else set())

"""G-2, phase auth: errors that reveal no reason, keys that stay cached, tokens that stay spent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence

from smoke.contract.model import Access
from smoke.contract.schemas import FINN_FAULTS, REPLIES
from smoke.platform.answers import UnexpectedStatus, body_text, error_code, route_of
from smoke.platform.attacks import REFUSALS, REPLAYS, Target, is_of_a_gateway, require_refused
from smoke.platform.backends import INVOKE_PATH as FINN_INVOKE
from smoke.platform.backends import QUERY_PATH, Dixie, Finn
from smoke.platform.batch import Batch, Case, answering
from smoke.platform.forgeries import forgeries, one_of_each
from smoke.platform.freeside import INVOKE_PATH, Freeside, Tenants
from smoke.platform.http import JSON_HEADERS, Connect
from smoke.platform.parameters import each, first_access, way_in
from smoke.platform.tokens import WALLET, SigningKey, bearer

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("auth"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

#: Times may be equal in two answers and differ in a third without revealing anything.
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+|\b\d{10,13}\b", re.IGNORECASE)
#: Replaced as one word: an id is one word in any notation, a sentence has several.
WORD = re.compile(r"[\w.+/=~-]+")
#: Claims, each with the token rule about its value; a missing claim also breaks it.
WRONG_CLAIMS = {"iss": "issuer", "aud": "audience", "req_hash": "binding"}
BURST = 20
WITH_BODY: dict[str, dict[str, str]] = {"POST": {}, "PUT": {}, "PATCH": {}}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE")
#: Headers by which a service may recognise callers in its own network, or callers that a proxy authenticated.
OF_PROXIES = {
    "a near address": dict.fromkeys(
        ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP"), "127.0.0.1"
    ),
    "a private address": {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1;host=localhost"},
    "a near host": {"X-Forwarded-Host": "localhost", "X-Original-URL": "/health", "X-Rewrite-URL": "/health"},
    "an internal call": dict.fromkeys(
        ("X-Internal", "X-Internal-Request", "X-Service-Call", "X-Debug"), "true"
    ),
    "another service": dict.fromkeys(("X-Service", "X-Service-Name", "X-Caller", "X-Source"), "loa-finn"),
    "a user": dict.fromkeys(
        ("X-User", "X-User-Id", "X-Forwarded-User", "X-Auth-Request-User", "Remote-User"), WALLET
    ),
    "a health checker": {"User-Agent": "ELB-HealthChecker/2.0"},
    "a payment": {"X-PAYMENT": "e30="},
    "an administrator": {"X-Role": "admin", "X-Admin": "true", "X-Tier": "enterprise", "X-Wallet": WALLET},
}
#: The cheapest route of each service: a good request is sent there without a token.
ASKED = {"freeside": "freeside.models", "finn": "finn.invoke", "dixie": "dixie.query-user"}
#: Credentials of other systems, as a browser or a proxy may add them.
OTHER_SCHEMES = {"a password": "Basic c21va2U6c21va2U=", "an API key": "Bearer dxk_smoke_never_given_out"}
#: An answer may show that a credential is not a token at all.
OF_ANY_HEADER = ("credential", "encoding")


@pytest.fixture
def access(service: str) -> Access:
    """The first token route of the parametrized service."""
    return first_access(service)


def takes_tokens(service: str) -> pytest.MarkDecorator:
    """The capabilities that a check needs to send valid tokens there."""
    return pytest.mark.requires(first_access(service).id)


def words(answer: httpx.Response) -> list[str]:
    """The words of an answer's body and challenge, without times."""
    challenge = answer.headers.get("www-authenticate", "")
    return WORD.findall(TIME.sub("...", f"{body_text(answer)} {challenge}"))


@pytest.mark.parametrize(
    "service", each("freeside", "dixie", marks=lambda name: way_in(first_access(name).id))
)
def test_refusals_reveal_no_reason(target: Target, service: str, evidence: Evidence) -> None:
    """Every invalid token gets the same answer. (Finn's codes are part of its contract.)"""
    answers: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    forged = [each for each in one_of_each(target.genuine()) if each.rule not in OF_ANY_HEADER]
    first, again = (words(target.offer(forged[0].header)) for _ in range(2))
    ids = {place for place, (one, other) in enumerate(zip(first, again, strict=False)) if one != other}
    for forgery in forged:
        answer = target.offer(forgery.header)
        require_refused(answer, service, forgery.name, rule=forgery.rule)
        found = tuple(word for place, word in enumerate(words(answer)) if place not in ids)
        answers.setdefault((answer.status_code, found), []).append(forgery.name)
    evidence.figure("different answers", len(answers), expected=1)
    assert len(answers) == 1, f"{service} answers differently: {list(answers.values())}"


def named(target: Target) -> Iterator[tuple[str, str, str, str]]:
    """Tokens with one fault each: name, Authorization header, the broken rule, the code that names it."""
    genuine, fresh = target.genuine(), target.genuine().renewed()
    without = {name: value for name, value in fresh.claims.items() if name != "jti"}
    yield "jti missing", f"Bearer {genuine.token(claims=without)}", "claims", "JTI_REQUIRED"
    yield "sent again", bearer(target.key(), target.spent()), "spent-once", "JTI_REPLAY_DETECTED"
    for forgery in (*one_of_each(genuine), *forgeries(genuine, "names")):
        plain = forgery.family == "names" and "[" not in forgery.name
        code = next((code for code, rule in FINN_FAULTS.items() if plain and rule == forgery.rule), "")
        code = "JWT_REQUIRED" if forgery.header is None else code
        yield forgery.name, forgery.header or "", forgery.rule, code


@pytest.mark.parametrize("service", each("finn", marks=lambda name: way_in(first_access(name).id)))
def test_refusals_name_the_fault(target: Target, service: str, batch: Batch) -> None:
    """An error code of Finn that names one fault is used for that fault only."""

    def judge(name: str, rule: str, code: str, answer: httpx.Response) -> None:
        require_refused(answer, service, "a token with one fault", (*REFUSALS, 400), rule)
        named = error_code(answer)
        assert named == (code or named), f"the code is {named}, expected {code}"
        rules = {rule, WRONG_CLAIMS.get(name.partition(" ")[0], rule)}
        assert FINN_FAULTS.get(named, rule) in rules, (
            f"{named} names another fault: the token breaks {rule!r}"
        )

    batch.run(
        [
            Case(
                name,
                "an error code names the token's fault (2)",
                partial(target.offer, header or None),
                partial(judge, name, rule, code),
                partial(target.mint, name),
            )
            for name, header, rule, code in named(target)
        ]
    )


@pytest.mark.parametrize("service", each(marks=lambda name: [takes_tokens(name)]))
def test_open_routes_take_any_credential(
    target: Target, service: str, connect: Connect, batch: Batch
) -> None:
    """Open routes give the same answer with any Authorization header as without one (1 to 3)."""
    client, genuine = connect(service), target.genuine()
    headers = {near.name: near.header for near in one_of_each(genuine) if near.header is not None}
    headers |= {"a token that was spent": bearer(target.key(), target.spent()), **OTHER_SCHEMES}
    batch.run(
        [
            Case(
                f"GET {path} with {name}",
                "an open route needs no credential, and refuses none",
                partial(client.send, "GET", path, lambda header=header: header),  # type: ignore[misc]
                answering(usual),
            )
            for path in (client.address.health, client.address.jwks)
            for usual in (_reached(client.send("GET", path)).status_code,)
            for name, header in headers.items()
        ]
    )


def _reached(answer: httpx.Response) -> httpx.Response:
    """The service's own answer; any other cannot be compared."""
    if is_of_a_gateway(answer):
        raise UnexpectedStatus(f"{route_of(answer)} is not reached: got {answer.status_code}", answer)
    return answer


@pytest.mark.requires("freeside.models", "freeside.budget")
def test_other_methods_are_refused(freeside: Freeside, tenants: Tenants, batch: Batch) -> None:
    """A path accepts only its own methods, from any caller (1.3).

    The routes of calls are covered by the bad calls. A body in JSON leaves the method as the only fault.
    """
    quiet = freeside.unrecorded()
    served = {(method, path) for service, method, path in REPLIES if service == "freeside"}
    calls = (INVOKE_PATH, freeside.dialects.stream_path)
    batch.run(
        [
            Case(
                f"{method} {path}",
                "a wrong method on a known path is a 404 or 405 (1.3)",
                partial(
                    quiet.http.send,
                    method,
                    path.replace("{id}", tenants.main),
                    token,
                    json=WITH_BODY.get(method),
                ),
                answering(404, 405),
            )
            for path in sorted({path for _, path in served if path not in calls})
            for method in METHODS
            if (method, path) not in served
            for token in (quiet.credential(tenants.main, role="admin"),)
        ]
    )


def without_token(
    connect: Connect, target: Target, agent: str, spelled: Callable[[str], str] = str, get: str = "GET"
) -> Callable[..., httpx.Response]:
    """Sends a good request to a service with the headers given, and no credential."""
    client = connect(target.service)
    if target.service == "finn":
        path = spelled(FINN_INVOKE)
        return lambda headers: client.send("POST", path, headers=headers, content=target.body)
    path, asked = {
        "freeside": ("/api/agents/models", {}),
        "dixie": (QUERY_PATH, {"routingKey": f"nft:{agent}"}),
    }[target.service]
    path = spelled(path)
    return lambda headers: client.send(get, path, headers=headers, params=asked)


#: Other spellings of the same path: a guard that compares text may let these through to the route.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "its last letter encoded": lambda path: f"{path[:-1]}%{ord(path[-1]):02X}",
    "its first letter encoded": lambda path: f"/%{ord(path[1]):02x}{path[2:]}",
    "a slash twice": lambda path: path.replace("/api/", "/api//"),
    "capitals": str.upper,
    "a slash at its end": lambda path: f"{path}/",
}


def require_closed(answer: httpx.Response, service: str, what: str) -> None:
    """Assert that a request got no access: any refusal will do, even a proxy's or a redirect."""
    if not (answer.is_redirect or answer.is_client_error or answer.status_code == 501):
        require_refused(answer, service, what)


@pytest.mark.p0
@pytest.mark.parametrize(
    "service",
    each(
        finn_covered_by="auth/no-spelling-of-a-path-opens-it[freeside]",
        marks=lambda name: way_in(ASKED[name]),
    ),
)
def test_no_spelling_of_a_path_opens_it(
    target: Target, service: str, connect: Connect, agent: str, batch: Batch
) -> None:
    """A route is closed to a request without a credential, however its path is spelled (1 to 3).

    So it is to HEAD.
    """
    rule = "a route needs its credential, however its path is spelled"
    sends = {
        f"a path with {name}": without_token(connect, target, agent, spelled)
        for name, spelled in SPELLINGS.items()
    }
    if service != "finn":  # it is asked by POST
        sends["HEAD"] = without_token(connect, target, agent, get="HEAD")
    batch.run(
        [
            Case(
                name,
                rule,
                partial(send, JSON_HEADERS),
                partial(require_closed, service=service, what=f"no token, and {name}"),
            )
            for name, send in sends.items()
        ]
    )


def session_of(answer: httpx.Response) -> dict[str, dict[str, str]]:
    """The cookies of an answer, as a browser would send them with its next request; empty if none."""
    pairs = [cookie.partition(";")[0] for cookie in answer.headers.get_list("set-cookie")]
    return {"the cookies of an accepted call": {"Cookie": "; ".join(pairs)}} if pairs else {}


@pytest.mark.p0
@pytest.mark.parametrize(
    "service",
    each(
        finn_covered_by="auth/no-header-stands-for-a-token[freeside]",
        marks=lambda name: [*way_in(ASKED[name]), takes_tokens(name)],
    ),
)
def test_no_header_stands_for_a_token(
    target: Target, service: str, connect: Connect, tenants: Tenants, agent: str, batch: Batch
) -> None:
    """Identity headers of a proxy or a caller are not a credential (1 to 3).

    Neither are cookies set by an earlier answer: a token is spent with its request.
    """
    send = without_token(connect, target, agent)
    batch.run(
        [
            Case(
                name,
                "only the Authorization header carries a credential",
                partial(send, {**JSON_HEADERS, **headers, "X-Tenant-Id": tenants.main}),
                partial(require_refused, service=service, what=f"headers of {name} for a token"),
            )
            for name, headers in (OF_PROXIES | session_of(target.accepted())).items()
        ]
    )


@pytest.mark.parametrize("service", each(marks=lambda name: [takes_tokens(name)]))
def test_unknown_kids_evict_no_good_key(target: Target, service: str, evidence: Evidence) -> None:
    """After a burst of unknown kids a valid token still passes."""
    target.accepted()
    for n in range(BURST):
        unknown = SigningKey(target.key().private, f"smoke-unknown-{n}")
        require_refused(target.offer(bearer(unknown, target.claims())), service, "a token of an unknown kid")
    evidence.exchange(target.accepted())


@pytest.mark.drill
@pytest.mark.parametrize(
    "service", each(marks=lambda name: [takes_tokens(name), pytest.mark.requires(f"restart_{name}")])
)
def test_jti_stays_spent_after_a_restart(
    request: pytest.FixtureRequest,
    target: Target,
    service: str,
    environment: Environment,
    eventually: Eventually,
) -> None:
    """A service remembers spent tokens across a restart."""
    found: Freeside | Finn | Dixie = request.getfixturevalue(service)
    claims = target.spent()
    found.restart(environment.get(f"{service}.restart_url"), eventually)
    require_refused(target.again(claims), service, "a token used before the restart", REPLAYS)

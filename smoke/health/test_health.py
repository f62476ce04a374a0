"""G-1, phase health: every service answers in time, reports status healthy, and names its build.

PgBouncer serves every service's user, in transaction mode and within its budget.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence, SetupError

from smoke.contract.health import parts_amiss
from smoke.contract.model import SKEW_S
from smoke.platform.answers import Fields, fields_of, require_error, require_status, shown
from smoke.platform.backends import Dixie, Finn
from smoke.platform.freeside import Freeside
from smoke.platform.http import Connect, ServiceClient, require_resolvable
from smoke.platform.parameters import each, requires
from smoke.platform.pgbouncer import (
    CONNECTED,
    PoolerState,
    addresses_of,
    admits,
    ask,
    can_serve,
    login_of,
    overdrawn,
    password_of,
    past,
    setting,
    shares_its_address,
    shares_of,
    untried,
    waiting_in,
)

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("health")]

PROMPT_WITHIN_MS = 2000
SHA = r"[0-9a-fA-F]{7,40}"

COVER = "services/ecs[finn]"
SERVICES = each(finn_covered_by=COVER)


@pytest.fixture
def client(connect: Connect, evidence: Evidence, service: str) -> ServiceClient:
    """The parametrised service."""
    return ServiceClient(connect(service, evidence))


@pytest.fixture
def answer(client: ServiceClient) -> httpx.Response:
    """The health answer of the parametrised service."""
    return client.get_health()


@pytest.mark.p1
@pytest.mark.requires("freeside")
@pytest.mark.control("health/freeside")
def test_unknown_path_is_not_found(freeside: Freeside) -> None:
    """An unknown path gets a 404 in JSON."""
    require_error(freeside.http.send("GET", "/smoke/no-such-path"), 404, "NOT_FOUND")


def require_not_unhealthy(client: ServiceClient) -> None:
    """Assert that a service answers and its body does not report unhealthy; HTTP 200 alone proves nothing."""
    require_resolvable(client.http.base_url)
    client.health().text("status", among=("healthy", "degraded"))


@pytest.mark.p0
@pytest.mark.establishes("freeside")
def test_freeside(freeside: Freeside) -> None:
    """Freeside answers and is not unhealthy."""
    require_not_unhealthy(freeside)


@pytest.mark.p0
@pytest.mark.establishes("dixie")
def test_dixie(dixie: Dixie) -> None:
    """Dixie answers and is not unhealthy."""
    require_not_unhealthy(dixie)


@pytest.mark.p0
@requires("finn", finn_covered_by=COVER)
@pytest.mark.establishes("finn")
def test_finn(finn: Finn) -> None:
    """Finn answers and is not unhealthy."""
    require_not_unhealthy(finn)


@pytest.mark.p0
@pytest.mark.parametrize("service", SERVICES)
def test_answers_promptly(
    answer: httpx.Response, client: ServiceClient, service: str, evidence: Evidence
) -> None:
    """Health is answered within 2 s; an instance that has just started may take longer once."""
    ms = answer.elapsed.total_seconds() * 1000
    if ms > PROMPT_WITHIN_MS:
        evidence.note(f"{service} answered after {ms:.0f} ms, and was asked again")
        ms = client.get_health().elapsed.total_seconds() * 1000
    evidence.figure(f"health of {service}", round(ms, 1), "ms", limit=PROMPT_WITHIN_MS)
    assert ms <= PROMPT_WITHIN_MS, f"{service} answered after {ms:.0f} ms, limit {PROMPT_WITHIN_MS} ms"


@pytest.mark.p0
@pytest.mark.parametrize("service", SERVICES)
def test_body_is_typed(answer: httpx.Response, service: str) -> None:
    """The health body has the contract's shape."""
    body = fields_of(require_status(answer, 200))
    {"freeside": freeside_body, "finn": finn_body, "dixie": dixie_body}[service](body)


def freeside_body(body: Fields) -> None:
    """Contract section 1."""
    body.version("version")
    body.version("protocol_version")
    body.number("uptime", minimum=0)
    body.boolean("grace_period")


def finn_body(body: Fields) -> None:
    """Contract section 2."""
    body.number("uptime", minimum=0)
    checks = body.raw("checks", "an object or an array")
    if not isinstance(checks, dict | list):
        body.refuse("checks", "an object or an array", shown(checks))
    body.object("protocol").version("contract_version")
    body.boolean("ready_for_billing")


def dixie_body(body: Fields) -> None:
    """Contract section 3."""
    body.version("version")
    body.number("uptime_seconds", minimum=0)
    reputation = body.object("reputation_service")
    reputation.boolean("initialized")
    reputation.integer("aggregate_count")


@pytest.mark.p1
@pytest.mark.requires("dixie")
def test_clock_is_right(dixie: Dixie, evidence: Evidence) -> None:
    """Dixie's clock agrees with this runner's, in UTC: a clock further off would refuse valid tokens."""
    sent = time.time()
    off = dixie.health().moment("timestamp") - sent
    evidence.figure("Dixie's clock is ahead of this runner's", round(off, 1), "s", limit=SKEW_S)
    assert abs(off) <= SKEW_S, f"Dixie's timestamp is {off:.0f} s ahead of this runner's time"


@pytest.mark.p0
@pytest.mark.parametrize("service", SERVICES)
def test_build_is_known(answer: httpx.Response, service: str, evidence: Evidence) -> None:
    """The service names the commit that it runs."""
    sha = fields_of(require_status(answer, 200)).text("build_sha", pattern=SHA)
    evidence.figure(f"build of {service}", sha)


@pytest.mark.p1
@pytest.mark.parametrize("service", SERVICES)
def test_is_not_degraded(
    answer: httpx.Response, service: str, environment: Environment, evidence: Evidence
) -> None:
    """The service reports status healthy, and so does each of its parts, by the profile's rules."""
    body = fields_of(require_status(answer, 200))
    rules = environment.get(f"{service}.health")
    amiss, unread = parts_amiss(body.data, rules)
    status = body.text("status")
    assert status == "healthy", (
        f"{service} reports status {status}: {', '.join(amiss + unread) or 'no reason given'}"
    )
    assert not amiss, f"{service} reports status healthy, but {', '.join(amiss)}"
    evidence.evaluated(f"a part of {service} is well", 1 + len(body.data))
    require_read(service, unread)


def require_read(service: str, unread: Sequence[str]) -> None:
    """SetupError for states in a health report that the suite does not understand."""
    if unread:
        raise SetupError(
            f"not examined: the health of {service} says {', '.join(unread)}; name what a part may say in "
            f"[{service}.health] of the profile"
        )


#: The state of Dixie's circuit to Finn while calls go through, unless the profile has another rule.
CIRCUIT = {"services.loa_finn.circuit_state": "closed"}


@pytest.mark.p0
@pytest.mark.requires("dixie")
@pytest.mark.parametrize("name", ["postgresql", "loa_finn", "reputation"])
def test_dixie_dependency(dixie: Dixie, environment: Environment, name: str) -> None:
    """Dixie reports its dependencies healthy, in any wording, and the circuit to Finn closed."""
    body = dixie.health()
    if name == "reputation":
        assert body.object("reputation_service").boolean("initialized"), (
            "Dixie's reputation is not initialized"
        )
        return
    group = "infrastructure" if name == "postgresql" else "services"
    report = body.object(group).object(name)
    report.text("status")
    if name == "loa_finn":
        report.text("circuit_state")
    amiss, unread = parts_amiss(body.data, {**CIRCUIT, **environment.get("dixie.health")})
    of_this = f"{group}.{name}."
    amiss = [each for each in amiss if each.startswith(of_this)]
    assert not amiss, f"Dixie reports that {', '.join(amiss)}"
    require_read("dixie", [each for each in unread if each.startswith(of_this)])


#: Where no pooler can be reached, ECS says whether it runs.
POOLER = pytest.mark.requires("pgbouncer", covered_by="services/ecs[pgbouncer]")

POOL_USERS = ("freeside", "finn", "dixie")
#: Clients of other runs may wait for a moment.
WAITING_S = 2.0
#: A client that gave up is not visible until it comes back. One reading without waiting clients proves
#: something only if the pools have server connections; otherwise it takes this many in a row.
QUIET_LOOKS, LOOK_EVERY_S = 6, 0.1


@POOLER
@pytest.mark.p0
@pytest.mark.parametrize("user", POOL_USERS)
def test_pgbouncer_select(environment: Environment, user: str, evidence: Evidence) -> None:
    """A query passes through the pool as each service's user."""
    dsn = environment.secret(f"pgbouncer.{user}_dsn")
    rows = ask(dsn, 'SELECT 1 AS one, current_user AS "user"')
    evidence.figure(f"SELECT 1 as {user}", rows[0]["one"], expected=1)
    assert rows[0]["one"] == 1
    login = login_of(dsn)[1]
    assert rows[0]["user"] == login, f"the pool logs {login} in as {rows[0]['user']}"


@POOLER
@pytest.mark.p1
@pytest.mark.parametrize("user", POOL_USERS)
def test_pgbouncer_requires_the_password(environment: Environment, user: str, evidence: Evidence) -> None:
    """A service's user is let in with their own password, and with no other, such as another service's."""
    passwords = {name: password_of(environment.secret(f"pgbouncer.{name}_dsn")) for name in POOL_USERS}
    dsn, own = environment.secret(f"pgbouncer.{user}_dsn"), passwords.pop(user)
    ask(dsn, "SELECT 1 AS one")
    tried = {"their password and one more letter": f"{own}x"}
    tried |= {f"the password of {name}": one for name, one in passwords.items() if one and one != own}
    kind = setting(environment.secret("pgbouncer.dsn"), "auth_type")
    if why := untried(dsn, kind):
        evidence.note(f"not examined: {user}: {why}")
        return
    evidence.figure("other passwords that were tried", len(tried))
    let_in = [name for name, other in tried.items() if admits(dsn, other)]
    if let_in and kind == "hba":
        raise SetupError(
            f"not examined: {user} is let in with any password, but PgBouncer's auth_type is hba: "
            "a rule may be for this runner's address alone"
        )
    assert not let_in, f"PgBouncer lets {user} in with {' and with '.join(let_in)}"


@POOLER
@pytest.mark.p1
def test_pgbouncer_has_no_queue(environment: Environment, evidence: Evidence, eventually: Eventually) -> None:
    """No client waits long for a server connection."""
    console = environment.secret("pgbouncer.dsn")
    waiting: dict[str, int] = {}
    looks = 0

    def none_waiting() -> bool:
        nonlocal looks
        pools = ask(console, "SHOW POOLS")
        waiting.clear()
        waiting.update(waiting_in(pools))
        looks = 0 if waiting else looks + 1
        return looks >= (1 if can_serve(pools) else QUIET_LOOKS)

    try:
        eventually(
            none_waiting, within=WAITING_S, every=LOOK_EVERY_S, what="no client waits for a connection"
        )
    except AssertionError as problem:
        if waiting:
            raise AssertionError(f"clients wait for a connection for {WAITING_S} s: {waiting}") from problem
        raise
    finally:
        evidence.figure("waiting clients", sum(waiting.values()), expected=0)


@POOLER
@pytest.mark.p1
def test_pgbouncer_pools_transactions(environment: Environment, evidence: Evidence) -> None:
    """Every application pool is in transaction mode, and so is every database and user without a pool yet."""
    console = environment.secret("pgbouncer.dsn")
    seen = PoolerState.of(console)
    modes = seen.modes(setting(console, "pool_mode"), login_of(console)[1])
    evidence.figure("pool modes", modes, expected="transaction")
    assert any("/" in name for name in modes), "PgBouncer has no application pool"
    others = {name: mode for name, mode in modes.items() if mode != "transaction"}
    assert not others, f"not in transaction mode: {others}"


#: What the database itself allows a user; -1 is no limit.
ROLE_LIMIT = 'SELECT current_user AS "user", rolconnlimit AS most FROM pg_roles WHERE rolname = current_user'


@POOLER
@pytest.mark.p1
def test_pgbouncer_fits_the_connection_budget(
    environment: Environment, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """Open and permitted connections are within the plan's connection budget, in total and per service."""
    budget = plan_facts["connections"]
    limit = budget["total"] - budget["admin"] - budget["buffer"]
    dsns = {user: environment.secret(f"pgbouncer.{user}_dsn") for user in POOL_USERS}
    logins = {user: login_of(dsn) for user, dsn in dsns.items()}
    seen = PoolerState.of(environment.secret("pgbouncer.dsn"), [*logins.values()])
    shares = shares_of(seen, logins, budget)
    caps = seen.caps() or {}
    evidence.figure("connections that the pools may open", seen.most(caps), limit=limit)
    for user, share in shares.items():
        evidence.figure(
            f"connections that {user} may have", seen.most_of(user, caps), limit=share.connections
        )

    def roles() -> dict[str, int]:
        rows = [row for dsn in dsns.values() for row in ask(dsn, ROLE_LIMIT)]
        return {row["user"]: row["most"] for row in rows if row["most"] >= 0}

    wrong, unknown = overdrawn(seen, shares, limit, roles)
    assert not wrong, "; ".join(wrong)
    if unknown:
        raise SetupError(
            f"not examined: {'; '.join(unknown)}, unless [users] of its file limits them, which this version "
            "does not show: upgrade PgBouncer, or give the roles a CONNECTION LIMIT"
        )


#: How long a connection may be visible at the database but not yet, or no longer, at the pooler.
SETTLED_WITHIN_S = 3.0


@POOLER
@pytest.mark.p1
@pytest.mark.parametrize("user", POOL_USERS)
def test_pgbouncer_is_the_only_way(
    environment: Environment, user: str, evidence: Evidence, eventually: Eventually
) -> None:
    """All database connections of a service's user come from the pooler, whose limits cover no others."""
    dsn, console = environment.secret(f"pgbouncer.{user}_dsn"), environment.secret("pgbouncer.dsn")
    login, poolers = login_of(dsn), addresses_of(dsn)
    several, found = shares_its_address(console), list[str]()
    if several:
        evidence.note(
            "not examined at the pooler's address: so_reuseport is on, so other processes may be there"
        )

    def none_past() -> bool:
        connected = ask(dsn, CONNECTED)
        seen = PoolerState.of(console, [login])
        held = None if several else seen.held().get(seen.user_of(login), 0)
        found[:] = past(connected, held, poolers)
        return not found

    try:
        eventually(none_past, within=SETTLED_WITHIN_S, every=LOOK_EVERY_S, what="every connection is pooled")
    except AssertionError as problem:
        if found:
            text = f"{user} is connected without PgBouncer: {'; '.join(found)}"
            raise AssertionError(text) from problem
        raise
    finally:
        evidence.figure(f"connections of {user} that bypass the pooler", len(found), expected=0)

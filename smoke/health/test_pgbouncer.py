"""G-1, phase health: PgBouncer serves every service's user, in transaction mode and within its budget."""

from collections.abc import Mapping
from typing import Any

import pytest
from pytest_readiness import Environment, Eventually, Evidence, SetupError

from smoke.platform.pgbouncer import PoolerState, ask, can_serve, login_of, overdrawn, shares_of, waiting_in

pytestmark = [
    pytest.mark.goal("G-1"),
    pytest.mark.phase("health"),
    pytest.mark.requires("pgbouncer", covered_by="services/ecs[pgbouncer]"),
]

POOL_USERS = ("freeside", "finn", "dixie")
#: Clients of other runs may wait for a moment.
WAITING_S = 2.0
#: A client that gave up is not seen until it comes back. One look without waiting clients is proof only where
#: the pools hold server connections; elsewhere it takes this many in a row.
QUIET_LOOKS, LOOK_EVERY_S = 6, 0.1


@pytest.mark.p0
@pytest.mark.parametrize("user", POOL_USERS)
def test_pgbouncer_select(environment: Environment, user: str, evidence: Evidence) -> None:
    """A query goes through the pool as each service's user."""
    dsn = environment.secret(f"pgbouncer.{user}_dsn")
    rows = ask(dsn, 'SELECT 1 AS one, current_user AS "user"')
    evidence.figure(f"SELECT 1 as {user}", rows[0]["one"], expected=1)
    assert rows[0]["one"] == 1
    login = login_of(dsn)[1]
    assert rows[0]["user"] == login, f"the pool logs {login} in as {rows[0]['user']}"


@pytest.mark.p1
def test_pgbouncer_has_no_queue(environment: Environment, evidence: Evidence, eventually: Eventually) -> None:
    """No client waits for a server connection for longer than a moment."""
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


@pytest.mark.p1
def test_pgbouncer_pools_transactions(environment: Environment, evidence: Evidence) -> None:
    """Every application pool is in transaction mode, and so is every database and user without one yet."""
    console = environment.secret("pgbouncer.dsn")
    settings = {row["key"]: row["value"] for row in ask(console, "SHOW CONFIG")}
    seen = PoolerState.of(console)
    modes = seen.modes(settings["pool_mode"], login_of(console)[1])
    evidence.figure("pool modes", modes, expected="transaction")
    assert any("/" in name for name in modes), "PgBouncer has no application pool"
    others = {name: mode for name, mode in modes.items() if mode != "transaction"}
    assert not others, f"not in transaction mode: {others}"


#: What the database itself allows a user; -1 is no limit.
ROLE_LIMIT = 'SELECT current_user AS "user", rolconnlimit AS most FROM pg_roles WHERE rolname = current_user'


@pytest.mark.p1
def test_pgbouncer_fits_the_connection_budget(
    environment: Environment, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """What pools have and may open is within the plan's connection budget, together and for each service."""
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

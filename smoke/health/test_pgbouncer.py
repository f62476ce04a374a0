"""G-1, phase health: PgBouncer serves every service's user, in transaction mode and within its budget."""

from collections.abc import Mapping
from typing import Any

import pytest
from pytest_readiness import Environment, Eventually, Evidence

from smoke.platform.pgbouncer import CONSOLE, ask, can_serve, login_of, pool_ceilings, waiting_in

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
    """Every application pool is in transaction mode."""
    pools = ask(environment.secret("pgbouncer.dsn"), "SHOW POOLS")
    modes = {
        f"{row['database']}/{row['user']}": row["pool_mode"] for row in pools if row["database"] != CONSOLE
    }
    evidence.figure("pool modes", modes, expected="transaction")
    assert modes, "PgBouncer has no application pool"
    others = {pool: mode for pool, mode in modes.items() if mode != "transaction"}
    assert not others, f"not in transaction mode: {others}"


@pytest.mark.p1
def test_pgbouncer_fits_the_connection_budget(
    environment: Environment, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """What the pools may open together stays within the services' share of the plan's connection budget."""
    console, share = environment.secret("pgbouncer.dsn"), plan_facts["connections"]
    limit = share["total"] - share["admin"] - share["buffer"]
    logins = [login_of(environment.secret(f"pgbouncer.{user}_dsn")) for user in POOL_USERS]
    ceilings = pool_ceilings(ask(console, "SHOW POOLS"), ask(console, "SHOW DATABASES"), logins)
    most = sum(ceilings.values())
    evidence.figure("connections that the pools may open", most, limit=limit)
    assert most <= limit, (
        f"the pools may open {most} connections, the plan gives the services {limit}: {ceilings}"
    )

"""What PgBouncer's console says, read."""

from smoke.platform.pgbouncer import can_serve, login_of, pool_ceilings, waiting_in


def test_pool_ceilings_count_every_login_up_to_the_cap() -> None:
    pools = [{"database": "platform", "user": "seen"}, {"database": "pgbouncer", "user": "admin"}]
    databases = [
        {"name": "platform", "pool_size": 15, "reserve_pool": 5, "max_connections": 0},
        {"name": "capped", "pool_size": 50, "reserve_pool_size": 0, "max_connections": 65},
        {"name": "forced", "pool_size": 7, "reserve_pool": 1, "max_connections": 0, "force_user": "one"},
        {"name": "pgbouncer", "pool_size": 2, "reserve_pool": 0, "max_connections": 0},
    ]
    logins = [(name, user) for name in ("platform", "capped", "forced") for user in ("freeside", "dixie")]
    found = pool_ceilings(pools, databases, logins)
    assert found == {"platform": 60, "capped": 65, "forced": 8}
    assert login_of("postgresql://finn_app:x@h:6432/finn") == ("finn", "finn_app")


def test_an_empty_queue_proves_nothing_where_no_pool_can_serve() -> None:
    idle = {"database": "platform", "user": "dixie", "cl_active": 2, "cl_waiting": 0}
    idle |= {"sv_active": 0, "sv_idle": 1, "sv_used": 0}
    console = idle | {"database": "pgbouncer", "sv_idle": 0}
    assert waiting_in([idle, console]) == {}
    assert can_serve([idle, console])
    assert not can_serve([idle | {"sv_idle": 0}, console])
    assert not can_serve([console]), "clients that gave up come back"
    assert waiting_in([idle | {"cl_waiting": 3}]) == {"platform/dixie": 3}

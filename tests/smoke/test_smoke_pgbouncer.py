"""Parsing the output of PgBouncer's console."""

from collections.abc import Mapping
from typing import Any

import pytest
from pytest_readiness import SetupError

from smoke.platform import pgbouncer
from smoke.platform.pgbouncer import (
    NoPool,
    PoolerState,
    admits,
    can_serve,
    login_of,
    overdrawn,
    past,
    shares_of,
    untried,
    waiting_in,
)

BUDGET = {"freeside": 30, "dixie": 20, "finn": 15}
LOGINS = {service: ("platform", service) for service in BUDGET}
CONSOLE = {"name": "pgbouncer", "pool_size": 2, "reserve_pool": 0, "pool_mode": "statement"}


def seen(*databases: Mapping[str, Any], users: Any = (), pools: Any = (), logins: Any = ()) -> PoolerState:
    return PoolerState(pools, [CONSOLE, *databases], users, logins or [*LOGINS.values()])


def platform(**settings: Any) -> dict[str, Any]:
    return {"name": "platform", "pool_size": 15, "reserve_pool": 0, "max_connections": 65, "pool_mode": None,
            **settings}  # fmt: skip


def users(**settings: Any) -> list[dict[str, Any]]:
    return [{"name": each, "pool_mode": None, "max_user_connections": 0, **settings.get(each, {})}
            for each in (*BUDGET, "admin")]  # fmt: skip


def judged(found: PoolerState, **roles: int) -> tuple[list[str], list[str]]:
    return overdrawn(found, shares_of(found, LOGINS, BUDGET), 65, lambda: roles)


def test_ceilings_count_every_login_with_its_reserve() -> None:
    pools = [{"database": "platform", "user": "seen"}, {"database": "pgbouncer", "user": "admin"}]
    databases = [
        platform(reserve_pool=5, max_connections=0),
        {"name": "capped", "pool_size": 50, "reserve_pool_size": 0, "max_connections": 65},
        {"name": "forced", "pool_size": 7, "reserve_pool": 1, "max_connections": 0, "force_user": "one"},
    ]
    logins = [(name, user) for name in ("platform", "capped", "forced") for user in ("freeside", "dixie")]
    found = seen(*databases, pools=pools, logins=logins)
    assert found.ceilings()["forced", "one"] == 8
    assert found.ceilings()["platform", "seen"] == 20
    assert found.most({}) == 60 + 65 + 8
    assert found.most({"freeside": 30, "dixie": 20}) == 30 + 20 + 20 + 8
    assert login_of("postgresql://finn_app:x@h:6432/finn") == ("finn", "finn_app")


def test_a_users_own_sizes_go_before_the_databases() -> None:
    found = seen(platform(), users=users(finn={"pool_size": 40, "reserve_pool_size": 2}))
    assert found.ceilings()["platform", "finn"] == 42
    assert judged(found)[0][-1] == "finn may take 42 connections, but its share is 15"


def test_one_user_may_not_take_more_than_its_share() -> None:
    wide = platform(pool_size=60)
    wrong, unknown = judged(seen(wide, users=users()))
    assert (len(wrong), unknown) == (3, [])
    limits = {service: {"max_user_connections": share} for service, share in BUDGET.items()}
    assert judged(seen(wide, users=users(**limits))) == ([], [])
    assert judged(seen(platform(pool_size=60, max_connections=0), users=users(**limits))) == ([], [])
    assert judged(seen(wide, users=users()), **BUDGET) == ([], []), "the database allows no more"


def test_a_version_that_does_not_show_limits_is_not_accused() -> None:
    quiet = [{"name": service, "pool_mode": None} for service in BUDGET]
    wrong, unknown = judged(seen(platform(pool_size=60), users=quiet))
    assert wrong == []
    assert "finn may take 60 connections, but its share is 15" in unknown
    assert judged(seen(platform(), users=quiet)) == ([], [])
    held = [{"database": "platform", "user": "finn", "sv_active": 9, "sv_idle": 7}]
    wrong, unknown = judged(seen(platform(pool_size=60), users=quiet, pools=held))
    assert (wrong, unknown) == (["finn has 16 connections, but its share is 15"], [])


def test_services_of_one_user_have_one_share() -> None:
    one = seen(platform(pool_size=65, force_user="app"), users=users(app={}))
    assert {each.connections for each in shares_of(one, LOGINS, BUDGET).values()} == {65}
    assert judged(one) == ([], [])


def test_modes_of_databases_and_users_without_a_pool_count() -> None:
    jobs = {"name": "jobs", "pool_mode": "session"}
    assert seen(platform(), jobs, users=users()).modes("transaction", "admin") == {
        "database platform": "transaction", "database jobs": "session",
    }  # fmt: skip
    assert "database jobs" not in seen(jobs | {"disabled": 1}, users=users()).modes("transaction", "admin")
    own = seen(platform(), users=users(dixie={"pool_mode": "session"}, admin={"pool_mode": "session"}))
    assert own.modes("transaction", "admin")["user dixie"] == "session"
    assert "user admin" not in own.modes("transaction", "admin")
    each = users(**{name: {"pool_mode": "transaction"} for name in BUDGET})
    assert {*seen(platform(), jobs, users=each).modes("session", "admin").values()} == {"transaction"}
    forced = jobs | {"force_user": "dixie"}
    known = users(dixie={"pool_mode": "transaction"})
    assert seen(forced, users=known).modes("transaction", "admin")["database jobs"] == "transaction"


def test_an_empty_queue_proves_nothing_if_no_pool_can_serve() -> None:
    idle = {"database": "platform", "user": "dixie", "cl_active": 2, "cl_waiting": 0}
    idle |= {"sv_active": 0, "sv_idle": 1, "sv_used": 0}
    console = idle | {"database": "pgbouncer", "sv_idle": 0}
    assert waiting_in([idle, console]) == {}
    assert can_serve([idle, console])
    assert not can_serve([idle | {"sv_idle": 0}, console])
    assert not can_serve([console]), "clients that gave up come back"
    assert waiting_in([idle | {"cl_waiting": 3}]) == {"platform/dixie": 3}


def test_connections_past_the_pooler_are_those_it_has_not() -> None:
    own = {"address": "10.0.0.5", "own": True, "connections": 4}
    other = {"address": "10.0.0.9", "own": False, "connections": 2}
    assert not past([own], 4, {"10.0.0.5"})
    assert not past([own], None, {"10.0.0.5"}), "processes beside it hold some"
    assert past([own], 3, {"10.0.0.5"}) == ["4 from the pooler's address, which has 3"]
    assert past([own, other], 4, {"10.0.0.5"}) == ["2 from 10.0.0.9"]


def test_another_task_of_the_pooler_is_not_a_way_past_it() -> None:
    own = {"address": "10.0.0.5", "own": True, "connections": 4}
    other = {"address": "10.0.0.9", "own": False, "connections": 2}
    assert not past([own, other], 4, {"10.0.0.5", "10.0.0.9"})
    assert not past([own, other], 4, {"127.0.0.1"}), "through a tunnel its tasks are not known"


@pytest.mark.parametrize(
    ("dsn", "kind", "why"),
    [
        ("postgresql://finn:secret@pool:6432/app", "scram-sha-256", ""),
        ("postgresql://finn:secret@pool:6432/app", "trust", ""),  # lets anybody in
        ("postgresql://finn:secret@pool:6432/app", "", ""),
        ("postgresql://finn@pool:6432/app", "md5", "its DSN has no password"),
        ("postgresql://finn:secret@pool:6432/app?sslcert=finn.pem", "md5", "also a certificate"),
        ("postgresql://finn:secret@pool:6432/app", "ldap", "may lock users out"),
    ],
)
def test_where_no_wrong_password_is_tried(dsn: str, kind: str, why: str) -> None:
    found = untried(dsn, kind)
    assert why in found
    assert bool(found) is bool(why)


@pytest.mark.parametrize(
    ("said", "judged"),
    [
        ("connection failed: FATAL:  password authentication failed", True),
        ('connection failed: FATAL:  SASL authentication failed for user "finn"', True),
        ("connection failed: ERROR:  Auth failed", True),  # an old PgBouncer
        ("connection failed: FATAL:  query_wait_timeout", False),
        ("connection failed: FATAL:  server login has been failing, cached error: x", False),
        ("connection failed: FATAL:  no more connections allowed (max_client_conn)", False),
        ("connection failed: FATAL:  sorry, too many clients already", False),
        ("no connection to pgbouncer:6432: Connection reset by peer", False),
        ("connection timeout expired", False),
    ],
)
def test_a_connection_that_fails_refuses_no_password(
    monkeypatch: pytest.MonkeyPatch, said: str, judged: bool
) -> None:
    def ask(_: str, query: str) -> None:
        raise NoPool(f"PgBouncer: {query}: {said}")

    monkeypatch.setattr(pgbouncer, "ask", ask)
    if judged:
        assert not admits("postgresql://finn:own@h:6432/platform", "other")
    else:
        with pytest.raises(SetupError, match="not examined: no answer to another password"):
            admits("postgresql://finn:own@h:6432/platform", "other")

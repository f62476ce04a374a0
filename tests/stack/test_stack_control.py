"""The control API: processes are stopped and frozen for real, and a reset restores the state of the boot."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from stack.aws.inventory import secret_id
from stack.launch import Stack
from tests.stack.tools import Aws, alive, poll, request


def _answers(url: str) -> bool:
    try:
        return request("GET", url, timeout=0.5)[0] == 200
    except httpx.HTTPError:
        return False


def test_a_stopped_service_starts_again_at_its_address(stack: Stack) -> None:
    health = stack.profile["finn"]["url"] + "/health"
    status, states = request("POST", f"{stack.control_url}/services/finn/stop")
    assert (status, states["finn"]) == (200, "stopped")
    assert not _answers(health)
    status, states = request("POST", f"{stack.control_url}/services/finn/start")
    assert (status, states["finn"]) == (200, "running")
    assert _answers(health)


def test_a_restarted_service_is_a_new_process(stack: Stack) -> None:
    before = stack.pids["dixie"]
    assert request("POST", f"{stack.control_url}/services/dixie/restart")[0] == 200
    assert stack.pids["dixie"] != before
    assert _answers(stack.profile["dixie"]["url"] + "/api/health")


@pytest.mark.parametrize("name", ["freeside", "worker", "finn", "dixie", "pgbouncer", "postgres"])
def test_a_part_that_crashes_is_started_again(stack: Stack, name: str) -> None:
    before = stack.pids[name]
    section = stack.profile[name]
    assert section["restart_url"] == f"{stack.control_url}/services/{name}/crash"
    assert request("POST", section["restart_url"])[1][name] == "running"
    assert stack.pids[name] != before
    assert not alive(before)
    poll(lambda: _answers(stack.profile["freeside"]["url"] + "/health"), 15, f"all is well after {name}")


def test_what_was_committed_outlives_a_crash_of_the_database(stack: Stack) -> None:
    dsn = Path(stack.profile["pgbouncer"]["freeside_dsn"].removeprefix("file:")).read_text()
    with psycopg.connect(dsn, prepare_threshold=None, autocommit=True) as connection:
        connection.execute("UPDATE freeside.communities SET limit_micro = 12345")
    committed = request("GET", f"{stack.control_url}/state")[1]["tables"]
    assert request("POST", stack.profile["postgres"]["restart_url"])[0] == 200
    assert request("GET", f"{stack.control_url}/state")[1]["tables"] == committed
    assert request("POST", f"{stack.control_url}/reset")[0] == 200


def test_an_abandoned_part_stays_down_until_its_fault_is_cleared(stack: Stack) -> None:
    fault = f"{stack.control_url}/faults/worker-does-not-come-back"
    assert request("PUT", fault)[0] == 200
    assert request("GET", f"{stack.control_url}/services")[1]["worker"] == "running"
    assert request("POST", stack.profile["worker"]["restart_url"])[1]["worker"] == "stopped"
    assert request("DELETE", fault)[0] == 200
    assert request("POST", f"{stack.control_url}/reset")[1]["restarted"] == []
    assert request("POST", stack.profile["worker"]["restart_url"])[1]["worker"] == "running"


@pytest.mark.parametrize("name", ["freeside", "pgbouncer"])
def test_a_paused_part_answers_only_after_resume(stack: Stack, name: str) -> None:
    health = stack.profile["freeside"]["url"] + "/health"
    assert request("POST", f"{stack.control_url}/services/{name}/pause")[1][name] == "paused"
    assert not _answers(health)
    assert request("POST", f"{stack.control_url}/services/{name}/resume")[1][name] == "running"
    assert request("GET", health, timeout=10)[0] in (200, 503)


def test_a_reset_disconnects_clients_of_session_mode(stack: Stack) -> None:
    dsn = Path(stack.profile["pgbouncer"]["freeside_dsn"].removeprefix("file:")).read_text()
    console = Path(stack.profile["pgbouncer"]["dsn"].removeprefix("file:")).read_text()
    fault = f"{stack.control_url}/faults/pgbouncer-session-mode"
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as client:
        assert request("PUT", fault)[0] == 200
        client.execute("SELECT 1")  # from now on it holds a server connection
        assert request("POST", f"{stack.control_url}/reset")[0] == 200
        with psycopg.connect(console, autocommit=True) as asked:
            clients = asked.execute("SHOW CLIENTS")
            port = [column.name for column in clients.description or ()].index("port")
            assert _port_of(client) not in [row[port] for row in clients.fetchall()]


def _port_of(client: psycopg.Connection[Any]) -> int:
    with socket.socket(fileno=os.dup(client.fileno())) as inner:
        return int(inner.getsockname()[1])


def test_unknown_requests_are_refused(stack: Stack) -> None:
    refused = (
        ("POST", "/services/moon/stop", 409),
        ("POST", "/services/aws-seed/start", 409),
        ("POST", "/services/aws/stop", 409),
        ("POST", "/services/aws/restart", 409),
        ("POST", "/services/aws/crash", 409),
        ("POST", "/services/postgres/pause", 409),
        ("POST", "/services/finn/explode", 404),
        ("PUT", "/faults/no-such-fault", 404),
        ("DELETE", "/faults/no-such-fault", 404),
        ("GET", "/moon", 404),
    )
    for method, path, expected in refused:
        status, answer = request(method, stack.control_url + path)
        assert status == expected, (method, path, answer)
        assert set(answer) == {"error", "message"}
        assert len(answer["message"].splitlines()) <= 3


@pytest.mark.parametrize("body", [b"[1]", b"5", b'"on"', b"{"])
def test_a_body_must_be_a_json_object(stack: Stack, body: bytes) -> None:
    answer = httpx.put(f"{stack.control_url}/faults/freeside-health-unhealthy", content=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")
    assert answer.json()["message"] == "the body has to be a JSON object, or empty"
    assert request("GET", f"{stack.control_url}/faults")[1]["active"] == {}


def test_a_stopped_database_is_an_error_of_the_request(stack: Stack) -> None:
    assert request("POST", f"{stack.control_url}/services/postgres/stop")[0] == 200
    status, answer = request("GET", f"{stack.control_url}/state")
    assert (status, answer["error"]) == (409, "NOT_DONE")
    assert answer["message"].startswith("PostgreSQL did not")


def test_a_silent_database_times_out(stack: Stack) -> None:
    postmaster = stack.pids["postgres"]
    os.kill(postmaster, signal.SIGSTOP)
    try:
        status, answer = request("GET", f"{stack.control_url}/state", timeout=10)
    finally:
        os.kill(postmaster, signal.SIGCONT)
    assert (status, answer["error"]) == (409, "NOT_DONE")


def test_reset_brings_back_tables_secrets_and_processes(stack: Stack, aws: Aws) -> None:
    before = request("GET", f"{stack.control_url}/state")[1]
    dsn = Path(stack.profile["pgbouncer"]["freeside_dsn"].removeprefix("file:")).read_text()
    with psycopg.connect(dsn, prepare_threshold=None, autocommit=True) as connection:
        connection.execute("UPDATE freeside.communities SET limit_micro = 1")
    altered = request("GET", f"{stack.control_url}/state")[1]
    assert altered["tables"] != before["tables"]
    assert altered["aws"] == before["aws"]

    aws("secretsmanager").put_secret_value(SecretId=secret_id("finn"), SecretString="PLACEHOLDER")
    assert request("GET", f"{stack.control_url}/state")[1]["aws"] != before["aws"]
    request("POST", f"{stack.control_url}/services/finn/stop")

    status, after = request("POST", f"{stack.control_url}/reset")
    assert status == 200, after
    assert {key: after[key] for key in before} == before
    assert request("GET", f"{stack.control_url}/state")[1] == before
    assert request("GET", f"{stack.control_url}/services")[1]["finn"] == "running"
    again = request("POST", f"{stack.control_url}/reset")[1]
    assert (again["generation"], again["restarted"]) == (after["generation"] + 1, [])


def test_reset_names_what_had_crashed(stack: Stack) -> None:
    os.kill(stack.pids["dixie"], signal.SIGKILL)
    states = f"{stack.control_url}/services"
    poll(lambda: request("GET", states)[1]["dixie"] != "running", 5, "the supervisor sees that dixie died")
    assert request("POST", f"{stack.control_url}/reset")[1]["restarted"] == ["dixie"]


def test_a_fault_of_the_catalogue_is_set_and_cleared(stack: Stack) -> None:
    health = stack.profile["freeside"]["url"] + "/health"
    assert "freeside-health-unhealthy" in request("GET", f"{stack.control_url}/faults")[1]["known"]
    status, answer = request("PUT", f"{stack.control_url}/faults/freeside-health-unhealthy")
    assert (status, list(answer["active"])) == (200, ["freeside-health-unhealthy"])
    assert request("GET", health)[1]["status"] == "unhealthy"
    assert request("DELETE", f"{stack.control_url}/faults/freeside-health-unhealthy") == (200, {"active": {}})
    assert request("GET", health)[1]["status"] == "healthy"


@pytest.mark.parametrize("fault_id", ["source-shared-execution-role", "alarm-api-health-missing"])
def test_an_alteration_can_be_set_twice_and_is_undone_once(stack: Stack, fault_id: str) -> None:
    before = request("GET", f"{stack.control_url}/state")[1]
    for _ in range(2):
        status, answer = request("PUT", f"{stack.control_url}/faults/{fault_id}")
        assert (status, list(answer.get("active", ()))) == (200, [fault_id]), answer
    assert request("DELETE", f"{stack.control_url}/faults/{fault_id}") == (200, {"active": {}})
    assert request("GET", f"{stack.control_url}/state")[1] == before


@pytest.mark.parametrize("fault_id", ["freeside-health-503", "pgbouncer-serves-nobody", "finn-down"])
@pytest.mark.parametrize("stopped", ["freeside", "pgbouncer"])
def test_a_reset_starts_a_service_that_a_fault_keeps_unhealthy(
    stack: Stack, fault_id: str, stopped: str
) -> None:
    assert request("PUT", f"{stack.control_url}/faults/{fault_id}")[0] == 200
    for name in {"freeside", stopped}:
        assert request("POST", f"{stack.control_url}/services/{name}/stop")[0] == 200
    status, answer = request("POST", f"{stack.control_url}/reset", timeout=30)
    assert status == 200, answer
    assert set(request("GET", f"{stack.control_url}/services")[1].values()) == {"running"}
    assert _answers(stack.profile["freeside"]["url"] + "/health")

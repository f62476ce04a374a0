"""The engine of derived cases: the first counterexample, the kind of its failure, a replay that works."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_readiness import SafetyViolation, SetupError

from smoke.platform.answers import ContractViolation, UnexpectedStatus, require_status
from smoke.platform.batch import Batch, Case, minting, replay
from smoke.platform.spend import Once
from smoke.platform.tokens import SigningKey, bearer, user_claims
from tests.smoke.log import Log


def answered(status: int = 200) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("POST", "http://h/x?y=1", json={"a": "it's"}))


def case(name: str, error: Exception | None = None, *, status: int = 200, sent: bool = True) -> Case:
    def send() -> httpx.Response:
        if error and not sent:
            raise error
        return answered(status)

    def judge(answer: httpx.Response) -> None:
        if error:
            raise error
        require_status(answer, 200)

    return Case(name, "the rule", send, judge, lambda: "mint it")


def run(*cases: Case) -> tuple[Log, Any]:
    log = Log()
    try:
        return log, Batch(log, 3).run(cases)
    except Exception as error:
        return log, error


def test_good_cases_are_counted_and_answered_in_their_order() -> None:
    log, answers = run(*(case(str(n)) for n in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    assert log.rules == {"the rule": 20}
    assert len(log.exchanges) == 1


def test_no_case_is_no_proof() -> None:
    assert isinstance(run()[1], AssertionError)


def test_the_first_counterexample_is_reported_with_its_replay() -> None:
    log, error = run(case("good"), case("small", status=500), case("large", status=404))
    assert isinstance(error, UnexpectedStatus)
    assert error.response.status_code == 500
    assert "the rule: small: POST /x: expected 200, got 500 (2 of 3 cases failed)" in str(error)
    assert log.exchanges == [500]
    assert log.figures == [("the rule", 1, 3)], "one of three cases held"
    assert not log.rules
    assert "curl" in log.notes[0]
    assert '-H "$(mint it --env PROFILE)"' in log.notes[0]


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        ((AssertionError("a"), SafetyViolation("s")), SafetyViolation),
        ((httpx.ReadTimeout("t"), ContractViolation("c")), ContractViolation),
        ((httpx.ReadTimeout("t"),), httpx.ReadTimeout),
        ((SetupError("limited"), ), SetupError),
        ((KeyError("own"), ), KeyError),
    ],
)  # fmt: skip
def test_safety_violations_come_first_and_transport_errors_last(errors: Any, raised: Any) -> None:
    _, found = run(case("good"), *(case(f"case {n}", error) for n, error in enumerate(errors)))
    assert type(found) is raised


def test_what_was_not_sent_has_no_counterexample() -> None:
    log, error = run(case("lost", httpx.ConnectError("refused"), sent=False))
    assert isinstance(error, httpx.ConnectError)
    assert not log.notes


def test_replay_sends_the_same_request(tmp_path: Path) -> None:
    fake = tmp_path / "curl"
    fake.write_text("#!/usr/bin/env python3\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    fake.chmod(0o755)
    request = answered().request
    request.headers["Authorization"] = "Bearer secret"
    command = replay(request, "echo Authorization: Bearer new")
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    words = json.loads(
        subprocess.run(["sh", "-c", command], env=environ, capture_output=True, check=True).stdout
    )
    assert words[:4] == ["-sSi", "-X", "POST", "http://h/x?y=1"]
    assert words[words.index("--data-binary") + 1] == request.content.decode()
    assert words[-2:] == ["-H", "Authorization: Bearer new"]
    assert "secret" not in command


def test_long_bodies_are_described() -> None:
    request = httpx.Request("POST", "http://h/x", content=b"a" * 131073)
    assert "131073" in replay(request)
    assert len(replay(request)) < 200


def test_what_was_spent_is_remembered_by_all_processes(tmp_path: Path) -> None:
    Once(tmp_path).remember("token", route="freeside.invoke", jti="1")
    Once(tmp_path).remember("token", route="freeside.models", jti="2")
    assert [each["jti"] for each in Once(tmp_path).remembered("token")] == ["1", "2"]
    assert Once(tmp_path).remembered("event") == []


def test_call_is_sent_again_with_a_token_of_its_tenant() -> None:
    token = bearer(SigningKey.throwaway(), user_claims("tenant-7", tier="free"))
    sent = httpx.Request("POST", "http://h/api/agents/invoke", headers={"Authorization": token}, json={})
    found = minting(sent)
    assert found.startswith("python -m smoke.platform mint --to freeside.invoke")
    assert "tenant-7" in found
    assert 'tier="free"' in found
    assert token.split(".")[2] not in found
    assert not minting(httpx.Request("POST", "http://h/api/agents/invoke"))
    assert not minting(httpx.Request("GET", "http://h/health", headers={"Authorization": token}))

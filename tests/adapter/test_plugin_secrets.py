"""No output contains a loaded secret or text with a secret's shape."""

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from pytest_readiness.core.redaction import Redactor

from tests.adapter.scenario import HTML, Run, Suite

TOKEN = "s3cr3t/value+with=specials"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzbW9rZSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
REQUEST = """
class Message:
    def __init__(self, **values): self.__dict__.update(values)

class Elapsed:
    def total_seconds(self): return 0.0123

@pytest.mark.p0
def test_call(environment, evidence):
    token = environment.secret("auth.token")
    request = Message(
        method="POST",
        url=f"https://user:{token}@host/path?key={token}",
        content=b'{"token": "' + token.encode() + b'"}',
        headers={"Authorization": f"Bearer {token}", "Cookie": "a=b", "Content-Type": "application/json"},
    )
    evidence.exchange(
        Message(
            request=request,
            status_code=401,
            elapsed=Elapsed(),
            headers={"Retry-After": "3", "X-Odd": "1"},
            content=("x" * 2040 + token + "y" * 5000).encode(),
        )
    )
"""


def _nowhere(run: Run) -> None:
    forms = [TOKEN, quote(TOKEN, safe=""), base64.b64encode(TOKEN.encode()).decode(), JWT]
    files = [path for path in (run.root / "reports").iterdir() if path.is_file()]
    assert {path.name for path in files} >= {
        "readiness.json",
        "readiness.md",
        "readiness.html",
        "results.html",
        "junit.xml",
    }
    for text in [*(path.read_text() for path in files), run.out, run.err, *_ledger(run)]:
        for form in forms:
            assert form not in text


def _ledger(run: Run) -> list[str]:
    return [path.read_text() for path in (run.root / ".readiness").glob("*.jsonl")]


def test_exchange_is_kept_without_secrets(suite: Suite) -> None:
    suite.checks(REQUEST)
    run = suite.run("--junitxml=reports/junit.xml", plugins=HTML, environ={"SCENARIO_TOKEN": TOKEN})
    assert run.code == 0, run.verdict
    _nowhere(run)
    (entry,) = run.check("health/call")["evidence"]
    assert (entry["kind"], entry["method"], entry["status"], entry["ms"]) == ("exchange", "POST", 401, 12.3)
    assert "Cookie" not in entry["request"]["headers"]
    assert entry["response"]["headers"] == {"Retry-After": "3"}
    assert entry["url"].startswith("https://[redacted]@host/path?key=")
    assert len(entry["response"]["body"]) < 2100
    assert "s3cr3t" not in entry["response"]["body"], "half a secret at the cut"


def test_artifact_of_another_plugin_that_leaks_is_withheld(suite: Suite) -> None:
    suite.checks("""
    from _pytest.junitxml import xml_key

    @pytest.mark.p0
    def test_up(environment, evidence, pytestconfig):
        passing(evidence)
        pytestconfig.stash[xml_key].add_global_property("token", environment.secret("auth.token"))
    """)
    run = suite.expect(
        "BROKEN", "--junitxml=reports/junit.xml", plugins=HTML, environ={"SCENARIO_TOKEN": TOKEN}
    )
    assert run.model["reasons"][0] == "a live secret was found in junit.xml; it is withheld"
    assert not (suite.root / "reports" / "junit.xml").exists()
    assert not (suite.root / "reports" / "results.html").exists(), "it still says READY"
    assert [entry["verdict"] for entry in suite.ledger()] == ["BROKEN"]


@pytest.mark.parametrize("line", [JWT, "AKIAABCDEFGHIJKLMNOP"])
def test_secret_in_a_collection_error(suite: Suite, line: str) -> None:
    suite.checks(f"raise RuntimeError('{line}')")
    run = suite.run()
    assert run.code == 6
    assert line not in suite.wrote("reports/readiness.json")


@pytest.mark.parametrize(
    "environ", [{"SCENARIO_TOKEN": "\udcff\udcfe-token"}, {}], ids=["not-utf-8", "empty-file"]
)
def test_an_unusable_secret_is_a_setup_error(suite: Suite, environ: dict[str, str]) -> None:
    if not environ:
        suite.write("token", "\n")
        local = suite.root / "environments/local.toml"
        local.write_text(local.read_text().replace("env:SCENARIO_TOKEN", "file:token"))
    suite.checks("""
        @pytest.mark.p0
        @pytest.mark.requires("token")
        def test_up(evidence, environment):
            passing(evidence)
            assert environment.secret("auth.token")
    """)
    run = suite.expect("NO_VERDICT", environ=environ)
    assert run.check("health/up")["class"] == "SETUP_ERROR"


def _keys(value: Any) -> Iterator[str]:
    for each in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from _keys(each)
    yield from value if isinstance(value, dict) else ()


@pytest.mark.parametrize("token", ["orders", "test_more", "environment", "readiness", "smoke/orders"])
def test_a_weak_secret_that_is_also_a_name_decides_nothing(suite: Suite, token: str) -> None:
    suite.checks("@pytest.mark.p0\ndef test_more(evidence): passing(evidence)", "smoke/orders/test_more.py")
    run = suite.run(environ={"SCENARIO_TOKEN": token})
    assert (run.code, run.verdict) == (0, "READY"), run.output()
    (entry,) = suite.ledger()
    for key in filter(str.isidentifier, {*_keys(run.model), *_keys(entry)}):
        assert Redactor([key]).text(key) == key, "a report needs its keys"


@pytest.mark.parametrize("token", ["details", "pytest", "charset", "testcase", "initial-scale"])
def test_a_weak_secret_in_the_markup_of_a_report_is_no_leak(suite: Suite, token: str) -> None:
    said = f"evidence.note('of {token} here')"
    suite.checks(f"@pytest.mark.p0\ndef test_up(evidence):\n    passing(evidence)\n    {said}")
    everything = ["--junitxml=reports/junit.xml", "--html=reports/results.html", "--self-contained-html"]
    run = suite.expect("READY", *everything, plugins=HTML, environ={"SCENARIO_TOKEN": token})
    assert run.check("health/up")["evidence"][1]["text"] == "of [redacted] here"


@pytest.mark.parametrize(
    "token", ["Evidence", "VERDICT", '{"password": "evidence"}', "two lines\nevidence"], ids=range(4)
)
def test_no_spelling_of_a_weak_secret_removes_a_key_of_the_report(suite: Suite, token: str) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    run = suite.expect("READY", environ={"SCENARIO_TOKEN": token})
    assert run.check("health/up")["evidence"][0]["kind"] == "figure"

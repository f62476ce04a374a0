"""Bad input ends the run before anything is collected or sent: exit 4, three lines, no traceback."""

import json
import os
import subprocess
import sys

import pytest

from tests.adapter.samples import LOCAL, PLAN
from tests.adapter.scenario import HTML, Suite
from tests.adapter.test_plugin_exit_codes import PASSING

IMPORTED = """
pathlib.Path(os.environ["SCENARIO_ROOT"], "imported").touch()
"""
SENDS = """
import os, pathlib

def pytest_readiness_build_identity(environment):
    pathlib.Path(os.environ["SCENARIO_ROOT"], "sent").touch()
"""
URL, KEY = 'url = "http://127.0.0.1:9"\n', '[auth]\nkey = "file:key.pem"'
LEDGER_LINE = '{"run_id": "x", "seq": 1, "prev_hash": "0", "hash": "forged"}\n'
#: One for each source of a refusal: the arguments, the files that are written (None: removed), the message.
#: What else is wrong with a profile or a plan is up to the tests of those.
CASES: dict[str, tuple[list[str], dict[str, str | None], list[str]]] = {
    "unknown environment": (["--env", "nowhere"], {},
                            ["--env: unknown environment 'nowhere'", "allowed: local", "next:"]),
    "missing profile file": (["--env", "./none.toml"], {}, ["./none.toml: cannot be read", "allowed:"]),
    "malformed plan": ([], {"readiness.toml": "title = [\n"}, ["readiness.toml: not valid TOML"]),
    "malformed schema": ([], {"environments/schema.toml": "[section.api.url]\ntype = 'link'\n"},
                         ["environments/schema.toml: section.api.url.type", "allowed: url"]),
    "missing schema": ([], {"environments/schema.toml": None}, ["environments/schema.toml: missing"]),
    "missing URL": ([], {"environments/local.toml": LOCAL.replace(URL + "[auth]", "[auth]")},
                    ["environments/local.toml: api.url: missing", "allowed:", "API_URL"]),
    "page is a directory": ([], {"reports/results.html/x": ""},
                            ["reports/results.html", "the reports cannot be written"]),
    "suite is not there": (["--env", "local"], {"readiness.toml": PLAN.replace('"smoke"', '"smok"')},
                           ["readiness.toml: suite: no such directory: 'smok'", "allowed:"]),
    "bad PEM": ([], {"environments/local.toml": LOCAL.replace("[auth]", KEY), "key.pem": "no"},
                ["environments/local.toml: auth.key", "allowed: a P-256 private key", "next:"]),
    "forged ledger": ([], {".readiness/local.jsonl": LEDGER_LINE}, [".readiness/local.jsonl", "next:"]),
    "unknown ledger": (["--readiness-ledger", "ftp://x"], {}, ["ftp://x", "allowed: file:PATH"]),
    "ledger is a directory": ([], {".readiness/local.jsonl/x": ""}, [".readiness/local.jsonl"]),
    "report is a directory": ([], {"reports/readiness.json/x": ""},
                              ["reports/readiness.json", "the reports cannot be written"]),
    "suite with NUL": ([], {"readiness.toml": PLAN.replace('"smoke"', r'"smo\u0000ke"')},
                       ["readiness.toml: suite", "NUL"]),
    "suite of a long name": ([], {"readiness.toml": PLAN.replace("smoke", "s" * 5000)},
                             ["readiness.toml: suite", "not a directory"]),
    "suite elsewhere": ([], {"readiness.toml": PLAN.replace("smoke", "../smoke")},
                        ["readiness.toml: suite: '../smoke'", "allowed: a relative path"]),
    "key of many parts": ([], {"readiness.toml": PLAN + "[facts]\n" + "a." * 20_000 + "a = 1\n"},
                          ["readiness.toml: not valid TOML", "longer than"]),
    "secret with NUL": ([], {"environments/local.toml": LOCAL.replace("env:S", r"file:a\u0000S")},
                        ["environments/local.toml: auth.token", "control character"]),
    "profile of another name": (["--env", "other"], {"environments/other.toml": LOCAL},
                                ["environments/other.toml: name: 'local' is not", "allowed: 'other'"]),
    "plan is a directory": (["--gate"], {"readiness.toml": None, "readiness.toml/x": ""},
                            ["readiness.toml: not a regular file", "next:"]),
    "no value for an option of a conftest": (["--gate", "eu"], {}, ["eu: no such file or directory"]),
    "reports cannot be written": (["--readiness-dir", "readiness.toml/reports"], {},
                                  ["the reports cannot be written", "--readiness-dir"]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "workers"),
    [
        *((case, ()) for case in CASES),
        *((case, ("-n2",)) for case in ("unknown environment", "bad PEM")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value,
)
def test_bad_input(suite: Suite, case: str, workers: tuple[str, ...]) -> None:
    args, files, parts = CASES[case]
    suite.checks(IMPORTED + PASSING)
    suite.write("smoke/conftest.py", SENDS)
    for name, text in files.items():
        if text is None:
            (suite.root / name).unlink()
        else:
            suite.write(name, text)
    run = suite.run(*args, *workers)
    assert run.code == 4, run.output()
    message = run.err[run.err.index("ERROR:") :].strip()
    assert len(message.splitlines()) <= 3, message
    for part in parts:
        assert part in message
    assert "Traceback" not in run.out + run.err
    assert not (suite.root / "imported").exists(), "nothing is collected"
    assert not (suite.root / "sent").exists(), "nothing is sent"


@pytest.mark.parametrize(
    "name", ["readiness.toml", "environments/schema.toml", "environments/local.toml", "secret"]
)
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "workers"])
def test_a_pipe_is_refused_at_once(suite: Suite, name: str, workers: tuple[str, ...]) -> None:
    suite.checks(IMPORTED + PASSING)
    suite.write("environments/local.toml", LOCAL.replace("env:SCENARIO_TOKEN", "file:secret"))
    (suite.root / name).unlink(missing_ok=True)
    os.mkfifo(suite.root / name)
    run = suite.run(*workers)
    assert run.code == 4, run.output()
    assert "not a regular file" in run.err
    assert "Traceback" not in run.out + run.err
    assert not (suite.root / "imported").exists()


@pytest.mark.parametrize(
    "name", ["readiness.toml", "environments", "environments/local.toml", "smoke/test_checks.py"]
)
def test_what_must_not_be_read_is_named(suite: Suite, name: str) -> None:
    suite.checks(IMPORTED + PASSING)
    plugin = ("-p", "pytest_readiness.adapter.plugin")
    rights = ",".join(("-dac_override", "-dac_read_search"))
    drop = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}") if os.geteuid() == 0 else ()
    (suite.root / name).chmod(0)
    try:
        run = subprocess.run(
            [*drop, sys.executable, "-m", "pytest", *plugin, "smoke"],
            cwd=suite.root,
            env={"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        (suite.root / name).chmod(0o755)
    assert run.returncode == 4, run
    message = run.stderr[run.stderr.index("ERROR:") :].strip()
    assert name in message
    assert "cannot be read: Permission denied" in message
    assert len(message.splitlines()) <= 3, message
    assert "Traceback" not in run.stdout + run.stderr
    assert not (suite.root / "imported").exists()


@pytest.mark.parametrize("value", ["\x1b[2Jlocal", "\x1b]8;;http://x\x07.toml", "lo\ncal", "\x9b2J"])
@pytest.mark.parametrize("option", ["--env", "--readiness-dir", "--readiness-ledger"])
def test_no_control_character_of_an_option_reaches_the_terminal(
    suite: Suite, option: str, value: str
) -> None:
    suite.checks(IMPORTED + PASSING)
    run = suite.run(option, value, "--gate")
    assert run.code == 4, run.output()
    assert "a control character" in run.err
    assert not {"\x1b", "\x9b", "\x07"} & {*run.out, *run.err}
    assert "Traceback" not in run.out + run.err


def test_bad_input_is_reported_beside_the_reports_of_the_last_full_run(suite: Suite) -> None:
    suite.checks(PASSING)
    full = suite.run(plugins=HTML).model
    run = suite.run("--env", "nowhere", plugins=HTML)
    assert (run.code, run.verdict, run.model["exit_code"]) == (4, "NO_VERDICT", 4)
    assert run.model["reasons"] == ["usage error: --env: unknown environment 'nowhere'"]
    assert json.loads(suite.wrote("reports/readiness.json")) == full
    assert suite.wrote("reports/results.html")
    assert not suite.wrote("reports/partial/results.html")


SHOWS_URL = """
@pytest.mark.p0
def test_url(environment, evidence):
    evidence.figure("url", environment.get("api.url"))
"""


def test_profile_by_path(suite: Suite) -> None:
    suite.checks(SHOWS_URL)
    suite.write("any.toml", LOCAL.replace('"local"', '"other"').replace("127.0.0.1:9", "127.0.0.1:10"))
    run = suite.run("--env", "./any.toml")
    assert run.code == 0, run.output()
    assert run.check("health/url")["evidence"][0]["value"] == "http://127.0.0.1:10"
    assert run.model["environment"] == "other"
    assert len(suite.ledger("other")) == 1


def test_variable_overrides_the_profile(suite: Suite) -> None:
    suite.checks(SHOWS_URL)
    run = suite.run(environ={"API_URL": "http://127.0.0.1:11"})
    assert run.check("health/url")["evidence"][0]["value"] == "http://127.0.0.1:11"


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan", "--fixtures", "--cache-show"])
def test_a_gate_that_runs_no_check_is_refused(suite: Suite, option: str) -> None:
    suite.checks("@pytest.mark.p0\ndef test_up(evidence): passing(evidence)")
    run = suite.run("--gate", option)
    assert run.code == 4, run.output()
    assert "--gate needs a run, and these options run no check" in run.err + run.out

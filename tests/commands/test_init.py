"""`readiness init`, `run` and `gate`, as an installed command in a new project."""

import http.server
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

READINESS = Path(sys.executable).with_name("readiness")
STAND_IN = ("init", "--name", "Shop", "--stand-in")


def readiness(place: Path, *arguments: str, answers: str = "") -> tuple[int, str, str]:
    """Run the installed command; return its exit code and what it printed."""
    done = subprocess.run(
        [READINESS, *arguments],
        cwd=place,
        input=answers,
        capture_output=True,
        text=True,
        timeout=120,
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
    )
    return done.returncode, done.stdout, done.stderr


def written(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def report(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "reports" / "readiness.json").read_text())
    return found


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def platform() -> Iterator[str]:
    """A service that is up; yields its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_it_writes_gives_a_verdict_at_once_and_a_streak(tmp_path: Path) -> None:
    code, out, _ = readiness(tmp_path, *STAND_IN)
    assert code == 0
    assert written(tmp_path) == {
        "readiness.toml",
        "environments/schema.toml",
        "environments/local.toml",
        "smoke/test_health.py",
        "smoke/conftest.py",
        ".github/workflows/readiness.yml",
    }
    assert "next: readiness run --env local\n" in out
    for length, command in enumerate(("run", "gate", "gate"), start=1):
        code, out, err = readiness(tmp_path, command, "-p", "no:randomly")
        assert (code, report(tmp_path)["streak"]["length"]) == (0, length), out + err
    model = report(tmp_path)
    assert (model["title"], model["verdict"], model["scope"]) == ("Shop", "READY", "full")
    assert model["declaration"] == "READY FOR FIRST DEPLOY"


def test_two_questions_are_asked(tmp_path: Path, platform: str) -> None:
    code, _, err = readiness(tmp_path, "init", "shop", answers=f'Shop "9"\n{platform}/health\n')
    assert code == 0, err
    assert err.count("?") == 2
    assert "smoke/conftest.py" not in written(tmp_path / "shop")
    code, out, _ = readiness(tmp_path / "shop", "run")
    assert code == 0, out
    assert report(tmp_path / "shop")["title"] == 'Shop "9"'


def test_a_url_elsewhere_is_the_live_environment(tmp_path: Path, platform: str) -> None:
    code, out, _ = readiness(tmp_path, "init", "--name", "Shop", "--url", "https://shop.example/health")
    assert code == 0
    assert "readiness run --env live" in out
    profile = tmp_path / "environments" / "live.toml"
    assert "live = true" in profile.read_text()
    profile.write_text(profile.read_text().replace("https://shop.example", platform))
    assert readiness(tmp_path, "gate", "--env", "live")[0] == 0
    assert report(tmp_path)["goals"][0]["status"] == "PASS"
    profile.write_text(profile.read_text().replace("/health", "/away"))
    code, out, _ = readiness(tmp_path, "gate", "--env", "live")
    assert (code, report(tmp_path)["blockers"][0]["class"]) == (1, "PLATFORM_BUG"), out


def test_any_character_of_a_name_or_a_url_is_toml(tmp_path: Path) -> None:
    title, url = 'A "shop" \\ $1 \U0001f600', "https://shop.example/\U0001f600"
    code, _, err = readiness(tmp_path, "init", "--name", title, "--url", url)
    assert code == 0, err
    assert tomllib.loads((tmp_path / "readiness.toml").read_text("utf-8"))["title"] == title
    environment = tomllib.loads((tmp_path / "environments/live.toml").read_text("utf-8"))
    assert environment["platform"]["url"] == url


def test_the_workflow_gates_the_environment(tmp_path: Path) -> None:
    readiness(tmp_path, "init", "--name", "Shop", "--url", "https://shop.example/health", "--env", "pre-1")
    workflow = yaml.safe_load((tmp_path / ".github" / "workflows" / "readiness.yml").read_text())
    steps = workflow["jobs"]["readiness"]["steps"]
    assert "readiness gate --env pre-1" in [step.get("run") for step in steps]
    restored, kept = (step["with"] for step in steps if "cache/" in step.get("uses", ""))
    assert restored["key"] == kept["key"]
    assert restored["key"].startswith(restored["restore-keys"])
    assert all("${{ github.run_id }}" in each["key"] for each in (restored, kept))


@pytest.mark.parametrize(
    "existing", ["readiness.toml", "environments/local.toml", "smoke/test_health.py", "smoke/conftest.py"]
)
def test_nothing_is_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).parent.mkdir(exist_ok=True)
    (tmp_path / existing).write_text("mine")
    code, _, err = readiness(tmp_path, *STAND_IN)
    assert code == 4
    assert f"{existing}: exists already" in err
    assert written(tmp_path) == {existing}


def test_no_question_is_asked_where_nothing_can_be_written(tmp_path: Path) -> None:
    readiness(tmp_path, *STAND_IN)
    code, _, err = readiness(tmp_path, "init")
    assert (code, "?" in err) == (4, False), err
    assert "readiness.toml" in err


def test_what_needs_the_platform_waits_for_the_first_check(tmp_path: Path) -> None:
    readiness(tmp_path, *STAND_IN)
    text = (tmp_path / "smoke" / "test_health.py").read_text()
    later = text.replace("establishes(", "requires(").replace("test_platform", "test_later_platform")
    (tmp_path / "smoke" / "test_a.py").write_text(later)
    (tmp_path / "smoke" / "conftest.py").write_text(
        (tmp_path / "smoke" / "conftest.py").read_text().replace("send_response(200)", "send_response(500)")
    )
    assert readiness(tmp_path, "run")[0] == 1
    (cause,) = report(tmp_path)["blockers"]
    assert (cause["check"], cause["behind"]) == (
        "health/platform-answers",
        ["health/later-platform-answers"],
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--url", "shop.example"), "--url: 'shop.example' is not a usable URL"),
        (("--url", "https://user:pw@shop.example"), "--url: the URL carries user info"),
        (("--url", ""), "argument --url: empty"),
        (("--name", "", "--stand-in"), "argument --name: empty"),
        (("--url", "https://shop.example", "--stand-in"), "not allowed with argument"),
        (("--stand-in", "--env", "live"), "--env: a stand-in cannot be live"),
        (("--stand-in", "--env", "../x"), "--env: '../x' is not a valid environment name"),
        (("--stand-in", "--env", "schema"), "--env: 'schema' is not a valid environment name"),
        ((), "no answer"),
    ],
)
def test_bad_input_writes_nothing(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    named = () if "--name" in arguments else ("--name", "Shop")
    code, _, err = readiness(tmp_path, "init", *named, *arguments)
    assert code == 4
    assert expected in err
    assert len(err.splitlines()) <= 3
    assert not written(tmp_path)


def test_a_run_may_be_partial_and_a_gate_may_not(tmp_path: Path) -> None:
    readiness(tmp_path, *STAND_IN)
    text = (tmp_path / "smoke" / "test_health.py").read_text()
    (tmp_path / "smoke" / "test_more.py").write_text(text.replace("answers(", "replies("))
    assert readiness(tmp_path, "run", "-k", "answers")[0] == 0
    assert readiness(tmp_path, "gate", "-k", "answers")[0] == 6
    assert readiness(tmp_path, "run", "smoke/test_health.py")[0] == 0
    assert written(tmp_path / "reports").isdisjoint({"readiness.json"})


def test_a_run_that_only_informs_leaves_the_last_report_alone(tmp_path: Path) -> None:
    readiness(tmp_path, *STAND_IN)
    assert readiness(tmp_path, "run")[0] == 0
    before = report(tmp_path)
    for option in ("--version", "--co", "--markers", "--fixtures", "--setup-plan", "--cache-show", "--help"):
        assert readiness(tmp_path, "run", option)[0] == 0, option
        assert report(tmp_path) == before, option
    assert readiness(tmp_path, "gate", "--version")[0] == 6


def test_run_answers_for_a_process_that_ends_early(tmp_path: Path) -> None:
    readiness(tmp_path, *STAND_IN)
    with (tmp_path / "smoke" / "test_health.py").open("a") as file:
        file.write("\n\n@pytest.mark.p0\ndef test_ends():\n    import os\n    os._exit(0)\n")
    code, _, err = readiness(tmp_path, "run")
    assert (code, report(tmp_path)["verdict"]) == (6, "NO_VERDICT")
    assert "pytest ended with exit status 0 before it had judged the run" in err


def test_help_has_examples_and_exit_codes(tmp_path: Path) -> None:
    _, out, _ = readiness(tmp_path, "--help")
    assert "6 NO_VERDICT" in out
    for command in ("init", "run", "gate", "ledger", "self-test"):
        code, shown, _ = readiness(tmp_path, command, "--help")
        assert (code, "examples:\n  readiness " in shown) == (0, True), shown
    assert readiness(tmp_path, "--version")[1].startswith("readiness 0.")

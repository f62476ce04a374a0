"""What does not count as proof: a report that contradicts its exit code, an endless run, another suite."""

import json
import sys
from pathlib import Path

import pytest
from pytest_readiness.selftest.platform import Platform
from pytest_readiness.selftest.runner import KILLED

from tests.selftest.project import running
from tests.selftest.scene import DOWN, MOODY, SUITE, UP, Scene, fault
from tests.stack.tools import alive, poll

WAIVER = """
[[waiver]]
check = "health/mood*"
reason = "known"
approver = "A"
issued = 2020-01-01T00:00:00Z
expires = 2999-01-01T00:00:00Z
"""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_an_exit_code_that_contradicts_the_report_proves_nothing(scene: Scene) -> None:
    # the process ends after the report and before its exit code
    scene.write(
        "smoke/conftest.py",
        "import os\n"
        "def pytest_unconfigure(config):\n"
        "    if not config.option.collectonly:\n"
        "        os._exit(0)\n",
    )
    scene.catalogue(DOWN)
    tested = scene.test("--only", "down")
    assert tested.code == 1
    assert tested.why("down").startswith("exit code 3, the report says 1")


def test_a_hook_that_changes_the_exit_status_hides_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")  # a self-test inside a worker is not a worker's run
    scene.write(
        "smoke/conftest.py",
        "import pytest\n"
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_cmdline_main(config):\n"
        "    yield\n"
        "    return 0\n",
    )
    scene.catalogue(DOWN)
    tested = scene.test("--only", "down")
    assert tested.code == 0
    assert tested.model["faults"][0]["detected"], tested.model


def test_a_run_without_end_is_killed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_readiness.selftest.runner.RUN_LIMIT_S", 5.0)
    hangs = SUITE.replace("    status, body", "    threading.Event().wait()\n#")
    scene.write("smoke/test_checks.py", "import threading\n" + hangs)
    scene.write(
        "environments/local.toml", 'name = "local"\nlive = false\n[api]\nurl = "http://127.0.0.1:1"\n'
    )
    with running("smoke", scene.root, scene.root) as runner:
        assert "health/up" in runner.checks()
        arguments = ["smoke", "--env", "local", "--readiness-dir", str(scene.root / "reports")]
        assert runner.run(arguments, {}, scene.root / "log").code == KILLED


def test_a_suite_that_was_changed_after_its_import(scene: Scene) -> None:
    words = ["sh", "-c", f"echo '# later' >> smoke/test_checks.py; exec {sys.executable} double.py"]
    plan = (scene.root / "readiness.toml").read_text().replace('["python", "double.py"]', json.dumps(words))
    scene.write("readiness.toml", plan)
    scene.catalogue(DOWN)
    tested = scene.test("--only", "down", "--workers", "1")
    assert tested.code == 1
    assert tested.model["problems"] == ["the suite changed while it was tested"]
    assert not tested.model["suite_digest"]


def test_a_failure_under_cover_is_not_a_clean_run(scene: Scene) -> None:
    scene.write("readiness.toml", (scene.root / "readiness.toml").read_text() + WAIVER)
    scene.write("smoke/test_checks.py", SUITE.replace('== "high", f"low', '== "none", f"low'))
    scene.catalogue(fault("down", UP, more='select = ["smoke/test_checks.py::test_up"]'))
    tested = scene.test("--only", "down", "--clean-runs", "1")
    assert tested.code == 1, tested.out
    assert {alarm["check"] for alarm in tested.model["alarms"]} == {
        "health/mood[morning]",
        "health/mood[evening]",
    }


def test_a_covered_check_detects_its_fault(scene: Scene) -> None:
    scene.write("readiness.toml", (scene.root / "readiness.toml").read_text() + WAIVER)
    scene.catalogue(MOODY)
    tested = scene.test("--only", "moody", "--clean-runs", "1")
    assert tested.code == 0, tested.out


def test_a_part_that_crashed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENE_MORTAL", "1")
    scene.catalogue(DOWN)
    tested = scene.test("--only", "down")
    assert tested.code == 1
    (leak,) = tested.model["leaks"]
    assert leak["what"].startswith("state empty, faults on: none, died meanwhile: api after the reset")


def test_what_a_dead_command_left_running_is_stopped(tmp_path: Path) -> None:
    announced = '{"profile": "p", "control": "http://127.0.0.1:1"}'
    command = ["sh", "-c", f"sleep 300 & echo $! > pid; echo '{announced}'"]
    platform = Platform(command, tmp_path, tmp_path / "log")
    platform.await_ready()
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    platform.stop()
    poll(lambda: not alive(pid), 5, "the child of the command that ended is gone")

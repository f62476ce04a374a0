"""The self-test as a command, against a minimal platform and suite."""

import signal
from pathlib import Path

import pytest

from tests.adapter.scenario import wait_until
from tests.selftest.scene import DOWN, MOODY, MORNING, PLAN, SUITE, UP, Scene, fault


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


UNFAULTED = """
[[unfaulted]]
check = "{check}"
reason = "it only looks on"
"""
REST = "".join(UNFAULTED.format(check=name) for name in ("work/leaves-a-note", "work/cannot-fail"))
EVENING = MORNING.replace("morning", "evening")
WHOLE = 'select = ["smoke/test_checks.py"]'


def test_every_fault_detected(scene: Scene) -> None:
    scene.catalogue(DOWN, fault("moody", f"{MORNING}, {EVENING}", "DEGRADED"), REST)
    scene.catalogue(
        fault("flaky", UP.replace("PLATFORM_BUG", "FLAKE").replace("}", ', outcome = "flaky" }'), "DEGRADED"),
        fault("outage", UP.replace("PLATFORM_BUG", "EXTERNAL_OUTAGE"), "NO_VERDICT"),
        fault("bearable", "", "READY", WHOLE),
        name="faults/more.toml",
    )
    tested = scene.test("--workers", "2", "--clean-runs", "2")
    assert tested.code == 0, tested.out
    model = tested.model
    assert (model["detected"], model["total"], model["false_alarms"]) == (5, 5, 0)
    assert (model["clean_runs"], model["scope"], model["uncovered"]) == (4, "full", [])
    assert [row["check"] for row in model["unfaulted"]] == ["work/leaves-a-note", "work/cannot-fail"]
    down = next(row for row in model["faults"] if row["id"] == "down")
    assert down["expected"]["checks"] == [
        {"id": "health/up", "severity": "P0", "outcome": "failed", "class": "PLATFORM_BUG"}
    ]
    assert {check["outcome"] for check in down["observed"]["checks"]} == {"failed", "not-run"}
    assert model["suite_digest"]
    assert model["catalogue_digest"]
    assert (
        "detected 5 of 5, 0 false alarms in 4 clean runs (2 before the faults, 2 after them), " in tested.out
    )
    page = (scene.root / "reports" / "self-test.md").read_text()
    assert "| `down` | G-1 | It is down | BROKEN: `health/up` failed (P0 PLATFORM_BUG) | yes |" in page
    assert "| `work/cannot-fail` | it only looks on |" in page


def test_a_wrong_answer_is_explained(scene: Scene) -> None:
    """The reaction to each of these faults differs from the catalogue."""
    scene.catalogue(
        fault("nowhere", '{ id = "work/cannot-fail", severity = "P0", class = "PLATFORM_BUG" }'),
        fault("outage"),
        DOWN.replace('also = ["*/*"]', 'also = ["health/*"]'),
        fault("moody", MORNING.replace("P1", "P0"), "BROKEN"),
        fault("impossible"),
        fault("flaky"),
        fault("misplaced", UP, more='select = ["smoke/test_gone.py"]'),
    )
    tested = scene.test("--workers", "1")
    assert tested.code == 1
    assert (tested.model["detected"], tested.model["total"]) == (0, 7)
    assert tested.why("nowhere").startswith("work/cannot-fail: outcome passed, not failed; ")
    assert tested.why("outage").startswith("health/up: class EXTERNAL_OUTAGE, not PLATFORM_BUG (")
    assert tested.why("down").startswith("unexplained red: work/leaves-a-note not-run (not run: api is down")
    assert tested.why("moody").startswith("health/mood[morning]: severity P1, not P0 (low in the morning)")
    assert tested.why("impossible") == "PUT /faults/impossible returned 409: this cannot be done"
    assert tested.why("flaky").startswith("health/up: outcome flaky, not failed (")
    assert tested.why("misplaced").startswith("health/up did not report; verdict NO_VERDICT, not BROKEN: ")
    assert tested.model["uncovered"] == ["health/mood[evening]", "work/leaves-a-note"]
    assert "undetected:" in tested.out
    assert "undetected: impossible" not in tested.out
    assert tested.out.count("PUT /faults/impossible returned 409") == 1
    assert "refused by the platform, so that nothing was proved:\n  impossible" in tested.out
    assert "detected 0 of 7, 1 refused by the platform, " in tested.out
    assert "checks that no fault names:\n  health/mood[evening]" in tested.out


def test_retries_try_undetected_faults_once_more_and_the_report_says_so(scene: Scene) -> None:
    """One fault takes effect only when it is switched on again, the other never does."""
    scene.catalogue(fault("late", more=WHOLE + '\nalso = ["*/*"]'), fault("never", more=WHOLE), MOODY)
    tested = scene.test("--workers", "1", "--only", "*", "--retries", "1")
    assert tested.code == 1
    assert tested.model["detected"] == 2, tested.out
    assert [row["id"] for row in tested.model["faults"] if row["missed"]] == ["late"]
    assert "detected 2 of 3 (1 only at the second attempt), " in tested.out
    assert (
        "detected only at the second attempt; the first:\n  late  G-1  health/up: outcome passed"
        in tested.out
    )
    assert "undetected:\n  never" in tested.out
    page = (scene.root / "reports" / "self-test-partial.md").read_text()
    assert "| at the second attempt |" in page


def test_what_a_fault_leaves_behind_is_found(scene: Scene) -> None:
    scene.catalogue(fault("indelible", "", "READY", WHOLE), MOODY, REST, UNFAULTED.format(check="health/up"))
    tested = scene.test("--workers", "1", "--only", "*")
    assert tested.code == 1
    assert (tested.model["detected"], tested.model["false_alarms"]) == (2, 0)
    assert tested.model["leaks"] == [
        {
            "fault": "indelible",
            "what": "state indelible, faults on: none after the reset, "
            "state empty, faults on: none after the boot",
        }
    ]
    assert len(list(scene.root.glob("platform-*.pid"))) == 2, "the platform is replaced"


def test_a_defect_that_the_state_does_not_show_is_a_false_alarm(scene: Scene) -> None:
    scene.catalogue(fault("incurable", "", "READY", WHOLE))
    tested = scene.test("--only", "incurable")
    assert tested.code == 1
    assert (tested.model["detected"], tested.model["leaks"]) == (1, [])
    assert tested.model["false_alarms"] == len(tested.model["alarms"]) == 4
    assert tested.model["alarms"][0] == {
        "run": "control run after incurable to incurable",
        "check": "health/up",
        "summary": "failed: assert 503 == 200",
    }


def test_a_defective_platform_is_a_false_alarm_from_the_start(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCENE_SICK", "1")
    scene.catalogue(DOWN)
    tested = scene.test("--clean-runs", "1")
    assert tested.code == 1
    assert tested.model["detected"] == 1
    assert {alarm["run"] for alarm in tested.model["alarms"]} == {
        "clean run 1 of 1",
        "clean run at the end, platform 1",
    }


VARIANTS = """
[[variant]]
id = "slow"
what = "It takes its time"
[[variant]]
id = "moody"
what = "It is moody, which is wrong"
"""


def with_variants(scene: Scene) -> Scene:
    scene.write("variants.toml", VARIANTS)
    scene.write("readiness.toml", PLAN + 'variants = "variants.toml"\n')
    scene.catalogue(DOWN, MOODY, REST, UNFAULTED.format(check="health/mood[evening]"))
    return scene


def test_every_variant_has_a_clean_run(scene: Scene) -> None:
    tested = with_variants(scene).test("--clean-runs", "0", "--workers", "1")
    assert tested.code == 1, tested.out
    assert (tested.model["detected"], tested.model["clean_runs"]) == (2, 3)
    assert tested.model["clean_runs_when"] == {"before": 0, "after": 1, "variant": 2}
    assert {alarm["run"] for alarm in tested.model["alarms"]} == {"variant moody"}


def test_variants_of_a_group_are_tried_at_once_and_alone_when_that_is_red(scene: Scene) -> None:
    with_variants(scene)
    scene.write("variants.toml", VARIANTS.replace("what", 'group = "both"\nwhat'))
    tested = scene.test("--clean-runs", "0", "--workers", "1")
    assert tested.code == 1, tested.out
    assert tested.model["clean_runs_when"] == {"before": 0, "after": 1, "variant": 3}
    assert {alarm["run"] for alarm in tested.model["alarms"]} == {"variant slow, moody", "variant moody"}


def test_variants_alone(scene: Scene) -> None:
    with_variants(scene)
    assert scene.test("--variants", "--only", "slow").code == 0
    tested = scene.test("--variants", "--only", "none")
    assert tested.code == 4
    assert "no variant matches none" in tested.out
    assert "slow, moody" in tested.out


def test_what_a_clean_run_leaves_behind_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENE_FORGETS_NOTHING", "1")
    scene.catalogue(MOODY)
    tested = scene.test("--only", "moody", "--clean-runs", "1")
    assert tested.code == 1
    assert [leak["fault"] for leak in tested.model["leaks"]] == ["a clean run"]


def test_the_users_variables_do_not_lead_the_suite_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCENE_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    scene.catalogue(MOODY)
    tested = scene.test("--only", "moody")
    assert tested.code == 0, tested.out


def test_only_some_faults_make_a_partial_record(scene: Scene) -> None:
    scene.catalogue(DOWN, MOODY)
    tested = scene.test("--only", "moo*")
    assert tested.code == 0, tested.out
    assert [row["id"] for row in tested.model["faults"]] == ["moody"]
    assert (tested.model["clean_runs"], tested.model["control_runs"]) == (0, 1)
    assert not (scene.root / "reports" / "self-test.json").exists(), "the record of all faults stays as it is"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_stops_every_platform(scene: Scene, number: signal.Signals) -> None:
    asked = "    status, body = ask(environment)\n"
    waits = "    pathlib.Path('asked').touch()\n    threading.Event().wait(60)\n"
    scene.write(
        "smoke/test_checks.py", "import pathlib\nimport threading\n" + SUITE.replace(asked, waits + asked)
    )
    scene.catalogue(DOWN, MOODY)
    process = scene.start("--workers", "2", "--only", "*")
    wait_until((scene.root / "asked").exists)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 6
    assert out.endswith("self-test: interrupted, nothing is proved; every platform is stopped\n")
    assert scene.platforms() == {"stopped"}
    assert not (scene.root / "reports").exists()


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ('["no-such-program"]', "the platform cannot be run: No such file or directory"),
        ('["python", "-c", "raise SystemExit(\'no memory\')"]', "ended with exit code 1: no memory"),
        ('["python", "-c", "print(42)"]', "the platform said '42'"),
        ('["python", "-c", "print(\'{}\')"]', "the platform said '{}'"),
    ],
)
def test_a_platform_that_does_not_start(scene: Scene, command: str, what: str) -> None:
    plan = (scene.root / "readiness.toml").read_text().replace('["python", "double.py"]', command)
    scene.write("readiness.toml", plan)
    scene.catalogue(DOWN)
    tested = scene.test("--clean-runs", "1")
    assert tested.code == 6
    said = tested.out.splitlines()[1:]
    assert what in said[0]
    assert len(said) <= 3


def test_a_suite_that_cannot_be_collected(scene: Scene) -> None:
    scene.write("smoke/test_checks.py", "import nothing_of_that_name\n")
    scene.catalogue(DOWN)
    tested = scene.test()
    assert tested.code == 4
    assert "the suite cannot be collected (exit code 2)" in tested.out
    assert "Traceback" not in tested.out


def test_a_plugin_that_can_be_configured_only_once_is_named_by_its_own_error(scene: Scene) -> None:
    """Such as pytest-retry: the suite is collected in the process from which the runs are forked."""
    scene.write(
        "smoke/conftest.py",
        "import builtins\n"
        "def pytest_configure():\n"
        "    if vars(builtins).setdefault('configured', 0):\n"
        "        raise ValueError('there is already a default')\n"
        "    builtins.configured = 1\n",
    )
    scene.catalogue(MOODY)
    tested = scene.test("--only", "moody")
    assert tested.code == 1, tested.out
    assert "ended before it had judged the run: " in tested.out
    assert "ValueError: there is already a default" in tested.out

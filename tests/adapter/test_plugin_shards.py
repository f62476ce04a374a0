"""A sharded run: several processes leave results, and one command judges them as one run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_readiness.core.model import IN_ALL_SHARDS, Shard, opened_shard, sealed_shard

from tests.adapter.scenario import DEFAULT, PLUGINS, Run, Suite

N = 20
UNITS = 24
RUN = ("--readiness-shard-run", "ci-41")
BUILDS = """
import pytest

@pytest.hookimpl
def pytest_readiness_build_identity(environment):
    import os
    return {"shop": os.environ.get("SHOP_BUILD", "b1")}
"""


def written_suite(root: Path) -> Suite:
    """Write 24 files of two checks; the first establishes what the others require."""
    suite = Suite(root)
    suite.checks(
        """
        @pytest.mark.p0
        @pytest.mark.establishes("base")
        def test_base(evidence):
            passing(evidence)
            if os.environ.get("DOWN"):
                raise AssertionError("down")
        """,
        name="smoke/test_base.py",
    )
    for number in range(UNITS):
        suite.checks(
            f"""
            @pytest.mark.p0
            @pytest.mark.requires("base")
            def test_a{number}(evidence):
                passing(evidence)
                if os.environ.get("CRASH") == "{number}":
                    os._exit(9)

            @pytest.mark.p1
            @pytest.mark.control("health/base")
            def test_b{number}(evidence):
                passing(evidence)
            """,
            name=f"smoke/test_unit_{number:02}.py",
        )
    suite.write("smoke/conftest.py", BUILDS)
    return suite


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return written_suite(tmp_path)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    suite = written_suite(tmp_path_factory.mktemp("shards"))
    all_shards(suite, of=2)
    return suite


@pytest.fixture
def ran(once: Suite, tmp_path: Path) -> Suite:
    """The suite after its two shards ran, as a copy."""
    shutil.copytree(once.root, tmp_path, dirs_exist_ok=True)
    suite = object.__new__(Suite)
    suite.root = tmp_path
    return suite


def shard(suite: Suite, index: int, of: int = N, **environ: str) -> Run:
    return suite.run("--readiness-shard", f"{index}/{of}", *RUN, environ=environ)


def all_shards(suite: Suite, of: int = N, **environ: str) -> dict[int, Run]:
    """Run all shards, four processes at a time."""
    runs: dict[int, Run] = {}
    for first in range(1, of + 1, 4):
        started = {
            index: suite.start("--readiness-shard", f"{index}/{of}", *RUN, environ=environ)
            for index in range(first, min(first + 4, of + 1))
        }
        runs |= {index: suite.finish(each) for index, each in started.items()}
    return runs


def merge(suite: Suite, *args: str, place: str = "reports/shards") -> Run:
    loaded = [word for name in DEFAULT for word in ("-p", PLUGINS[name])]
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(suite.root)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest_readiness.cli", "merge", place, *loaded, *args],
        cwd=suite.root,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, suite.root)


def left(suite: Suite, index: int, of: int = N) -> Path:
    return suite.root / "reports" / "shards" / Shard(index, of).file_name


def change(path: Path, **facts: Any) -> None:
    path.write_text(sealed_shard({**opened_shard(path.read_text()), **facts}))


def test_a_shard_of_a_version_without_the_clock_is_refused() -> None:
    content = dict.fromkeys(["run", "index", "status", *IN_ALL_SHARDS], "")
    with pytest.raises(ValueError, match="another version wrote it"):
        opened_shard(sealed_shard(content))
    assert opened_shard(sealed_shard(content | {"clock_jump_s": 0.0}))["clock_jump_s"] == 0.0


def test_twenty_shards_make_one_run(suite: Suite) -> None:
    runs = all_shards(suite)
    assert {run.code for run in runs.values()} <= {0, 6}, "6: a shard without a check"
    assert suite.ledger() == []
    assert not (suite.root / "reports" / "readiness.json").exists()
    run = merge(suite)
    assert (run.code, run.verdict) == (0, "READY"), run.output()
    assert run.model["run_id"] == "ci-41"
    assert (run.model["scope"], run.model["counts"]["total"]) == ("full", 2 * UNITS + 1)
    assert [entry["run_id"] for entry in suite.ledger()] == ["ci-41"]
    assert run.model["build_identity"] == {"shop": "b1"}
    assert run.model["streak"]["length"] == 1
    again = merge(suite)
    assert (again.code, again.model["streak"]["length"], len(suite.ledger())) == (0, 1, 1)
    assert "run ci-41 is in the ledger already: not appended again" in again.model["notes"]


def test_crashed_missing_torn_and_duplicate_shards_are_handled(suite: Suite) -> None:
    all_shards(suite, of=4)
    owner = next(index for index in range(1, 5) if Shard(index, 4).has("health:smoke/test_unit_07.py"))
    shutil.copy(left(suite, owner, 4), suite.root / "copy.shard")
    assert shard(suite, owner, 4, CRASH="7").code == 9
    assert not left(suite, owner, 4).exists()
    run = merge(suite)
    assert (run.code, run.verdict) == (6, "NO_VERDICT"), run.output()
    assert f"shard {owner} of 4 left no result" in run.model["reasons"][0]
    assert run.check("health/a7")["outcome"] == "not-run"
    assert suite.ledger() == []

    left(suite, owner, 4).write_text((suite.root / "copy.shard").read_text()[:-100])
    run = merge(suite)
    assert run.code == 6
    assert f"shard {owner} of 4 left no result; {owner}-of-4.shard cannot be read" in run.model["reasons"][0]

    shutil.copy(suite.root / "copy.shard", left(suite, owner, 4))
    shutil.copytree(suite.root / "reports" / "shards", suite.root / "reports" / "shards" / "again")
    run = merge(suite)
    assert (run.code, run.model["counts"]["total"]) == (0, 2 * UNITS + 1), run.output()


def test_what_a_shard_found_down_takes_back_what_others_passed(suite: Suite) -> None:
    runs = all_shards(suite, of=3, DOWN="1")
    assert 1 in {run.code for run in runs.values()}
    run = merge(suite)
    assert (run.code, run.verdict) == (1, "BROKEN"), run.output()
    outcomes = run.outcomes()
    assert outcomes.pop("health/base") == "failed"
    assert set(outcomes.values()) == {"not-run"}, "without their base or their control they prove nothing"
    assert [entry["verdict"] for entry in suite.ledger()] == ["BROKEN"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"run": "ci-42"}, ("another run", "ci-42", "ci-41")),
        ({"plan_digest": "abc"}, ("another plan digest", "abc")),
        ({"suite_digest": "abc"}, ("another suite digest", "abc")),
        ({"build_start": {"shop": "b2"}}, ("another build of shop", "b1", "b2")),
        ({"environment": "staging"}, ("another environment", "staging", "local")),
        ({"of": 3}, ("another number of shards", "3", "2")),
        ({"known": "abc"}, ("another digest of the checks found", "abc")),
        ({"index": 1}, ("another end of shard 1",)),
    ],
)
def test_shards_of_two_runs_are_refused_with_both_values(
    ran: Suite, facts: Mapping[str, Any], words: tuple[str, ...]
) -> None:
    change(left(ran, 2, 2), **facts)
    run = merge(ran)
    assert run.code == 4, run.output()
    assert all(word in run.err + run.out for word in words), run.output()
    assert ran.ledger() == []


def test_a_build_that_changed_while_a_shard_ran_leaves_no_verdict(ran: Suite) -> None:
    change(left(ran, 2, 2), build_end={"shop": "b2"})
    run = merge(ran)
    assert run.code == 6
    assert run.model["reasons"][0] == "the build of shop changed during the run: b1 -> b2"


def test_a_machine_that_slept_while_a_shard_ran_leaves_no_verdict(ran: Suite) -> None:
    change(left(ran, 2, 2), clock_jump_s=60.0)
    run = merge(ran)
    assert run.code == 6
    assert "the clock of this machine jumped 60 s ahead" in run.model["reasons"][0]


def test_another_checkout_or_environment_is_refused(ran: Suite) -> None:
    ran.write("smoke/more.txt", "another state of the suite")
    assert "suite digest differs from that of the shards" in merge(ran).output()


def test_a_part_of_the_suite_stays_a_part(suite: Suite) -> None:
    for index in (1, 2):
        suite.run("--readiness-shard", f"{index}/2", *RUN, "-k", "a1 or base")
    run = merge(suite)
    assert run.code == 6, "as gate refuses it"
    assert "the gate refuses a partial run" in run.output()


def test_nothing_to_merge(suite: Suite) -> None:
    (suite.root / "reports" / "shards").mkdir(parents=True)
    run = merge(suite)
    assert (run.code, run.verdict) == (6, "NO_VERDICT")
    assert "no shard left a result in reports/shards" in run.model["reasons"][0]
    assert merge(suite, place="--env").code == 4


def test_a_merge_of_what_is_no_shard_leaves_the_reports(suite: Suite) -> None:
    assert suite.run(*RUN).code == 0
    before = (suite.root / "reports" / "readiness.json").read_bytes()
    for place in ("smoke", "readiness.toml"):
        run = merge(suite, place=place)
        assert (run.code, run.err.count("\n")) == (4, 3)
        assert f"not the result of a shard: {place}" in run.err
    assert (suite.root / "reports" / "readiness.json").read_bytes() == before


def test_a_merge_of_missing_shards_leaves_the_reports(suite: Suite) -> None:
    """A mistyped path is not a run: the last full report stays."""
    assert suite.run(*RUN).code == 0
    before = (suite.root / "reports" / "readiness.json").read_bytes()
    run = merge(suite, place="reports/shrads")
    assert (run.code, "no such file or directory: reports/shrads" in run.err) == (4, True)
    assert (suite.root / "reports" / "readiness.json").read_bytes() == before


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/1001", "a/b", "1/3/5", " 1/3"])
def test_what_is_not_a_shard_is_refused(suite: Suite, text: str) -> None:
    run = suite.run("--readiness-shard", text, *RUN)
    assert run.code == 4
    assert "is not a shard (allowed: I/N" in run.err


def test_a_shard_needs_to_know_its_run(suite: Suite) -> None:
    run = suite.run("--readiness-shard", "1/2")
    assert (run.code, "add --readiness-shard-run ID" in run.err) == (4, True)
    for given, named in (
        ({"CI_PIPELINE_ID": "7"}, "7"),
        ({"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "2"}, "7-2"),
    ):
        assert suite.run("--readiness-shard", "1/2", environ=given).code in (0, 6)
        assert opened_shard(left(suite, 1, 2).read_text())["run"] == named


def test_the_id_of_a_run_from_the_ci_is_validated(suite: Suite) -> None:
    run = suite.run("--readiness-shard", "1/2", environ={"GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "../2"})
    assert run.code == 4
    assert "GITHUB_RUN_ID of the environment, with GITHUB_RUN_ATTEMPT: '7-../2' is not an id" in run.err


def test_workers_of_xdist_run_the_same_shard(suite: Suite) -> None:
    for index in (1, 2):
        suite.run("--readiness-shard", f"{index}/2", *RUN, "-n2")
    run = merge(suite, "-p", PLUGINS["xdist"], "-n2")
    assert (run.code, run.model["counts"]["total"]) == (0, 2 * UNITS + 1), run.output()


def test_each_unit_falls_to_one_shard_and_none_gets_all() -> None:
    units = [f"health:smoke/test_{number}.py" for number in range(400)]
    for of in (1, 7, 20):
        parts = [sum(Shard(index, of).has(unit) for unit in units) for index in range(1, of + 1)]
        assert sum(parts) == len(units)
        assert min(parts) > 0


def test_a_file_that_cannot_be_read_leaves_no_verdict_beside_complete_ones(ran: Suite) -> None:
    (left(ran, 1, 2).parent / "again.shard").write_text(left(ran, 1, 2).read_text()[:-9])
    run = merge(ran)
    assert (run.code, run.verdict) == (6, "NO_VERDICT"), run.output()
    assert "again.shard cannot be read: it is incomplete or was edited" in run.model["reasons"][0]


def test_a_build_that_changed_is_not_forgotten_for_one_that_did_not_answer(ran: Suite) -> None:
    change(left(ran, 1, 2), build_end={"shop": "b2"})
    change(left(ran, 2, 2), build_end={"shop": ""})
    run = merge(ran)
    assert (run.code, run.model["reasons"][0]) == (6, "the build of shop changed during the run: b1 -> b2")


def test_a_shard_that_ended_with_another_plugins_exit_status_leaves_no_verdict(ran: Suite) -> None:
    change(left(ran, 2, 2), status=9)
    run = merge(ran)
    assert run.code == 6
    assert "shard 2: pytest exited 9" in run.model["reasons"][0]


def test_a_shard_that_ran_again_makes_its_own_entry(ran: Suite) -> None:
    assert merge(ran).code == 0
    change(left(ran, 2, 2), finished_at="2099-01-01T00:00:00Z")
    assert merge(ran).code == 0
    assert [entry["run_id"] for entry in ran.ledger()] == ["ci-41", "ci-41"]


def test_a_test_outside_the_suite_that_failed_in_one_shard_is_not_forgotten(suite: Suite) -> None:
    suite.write("tests/test_foreign.py", "import os\ndef test_it():\n    assert not os.environ.get('FAIL')\n")
    for index, environ in ((1, {"FAIL": "1"}), (2, {})):
        suite.run("--readiness-shard", f"{index}/2", *RUN, ".", environ=environ)
    run = merge(suite)
    assert (run.code, run.verdict) == (1, "READY"), run.output()


def test_shards_are_judged_like_one_run_of_the_same_checks(tmp_path: Path) -> None:
    """In any order of collection, an outage is found before the checks that require the service."""
    suite = Suite(tmp_path)
    suite.checks(
        """
        @pytest.fixture
        def first(evidence):
            evidence.figure("in setup", 1)

        @pytest.mark.p0
        @pytest.mark.requires("base")
        def test_first(evidence, first):
            passing(evidence)

        @pytest.mark.p1
        def test_figures(evidence, first):
            passing(evidence)
        """,
        name="smoke/test_a.py",
    )
    suite.checks(
        """
        @pytest.mark.p1
        @pytest.mark.establishes("base")
        def test_base(evidence):
            passing(evidence)
            raise AssertionError("down")
        """,
        name="smoke/test_z.py",
    )
    of = next(
        of
        for of in range(2, 9)
        if not any(
            Shard(index, of).has("health:smoke/test_a.py") and Shard(index, of).has("health:smoke/test_z.py")
            for index in range(1, of + 1)
        )
    )
    all_shards(suite, of=of)
    merged, alone = merge(suite), suite.run("--gate")
    assert (merged.code, merged.verdict) == (alone.code, alone.verdict) == (6, "NO_VERDICT"), merged.output()
    for name in merged.outcomes():
        found, expected = merged.check(name), alone.check(name)
        assert [found["outcome"], len(found["evidence"])] == [expected["outcome"], len(expected["evidence"])]
    assert merged.check("health/figures")["evidence"] == alone.check("health/figures")["evidence"]


def test_names_that_sound_secret_hide_no_result(tmp_path: Path) -> None:
    suite = Suite(tmp_path)
    suite.write("smoke/conftest.py", BUILDS.replace("shop", "token"))
    suite.checks(
        """
        @pytest.mark.p0
        def test_refuses_token(evidence):
            passing(evidence)
            raise AssertionError("it was accepted")

        @pytest.mark.p0
        @pytest.mark.establishes("access-token", "base")
        def test_secret_key(evidence):
            passing(evidence)
        """
    )
    assert suite.run("--readiness-shard", "1/1", *RUN).code == 1
    content = opened_shard(left(suite, 1, 1).read_text())
    assert content["build_start"] == {"token": "b1"}
    assert content["checks"]["collected"][1]["establishes"] == ["access-token", "base"]
    run = merge(suite)
    assert (run.code, run.verdict) == (1, "BROKEN"), run.output()
    assert run.outcomes() == {"health/refuses-token": "failed", "health/secret-key": "passed"}
    assert run.model["build_identity"] == suite.ledger()[0]["build_identity"] == {"token": "b1"}

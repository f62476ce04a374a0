"""Mutation score on a minimal platform: kills, survivors, and how the score is computed."""

import argparse
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_readiness.selftest.catalogue import SuiteCheck
from pytest_readiness.selftest.mutants import SURVIVED, Experience, Fate, Mutant, MutantCampaign, Trace
from pytest_readiness.selftest.mutation_score import STATE, placed, sample, scope_of

from tests.selftest.double import MUTANTS
from tests.selftest.scene import Scene

MOST = ("--only", "answers", "--only", "notes")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def survey(scene: Scene, *args: str) -> tuple[int, str, dict[str, Any]]:
    """Run it to its end: exit code, output, mutants.json."""
    process = scene.start("--mutants", *args)
    out, _ = process.communicate(timeout=120)
    assert scene.platforms() <= {"stopped"}, out
    path = scene.root / "reports" / "mutants.json"
    return process.returncode, out, json.loads(path.read_text()) if path.is_file() else {}


def test_killed_survived_and_not_reached(scene: Scene) -> None:
    code, out, model = survey(scene, *MOST, "--workers", "2")
    assert code == 0, out
    fates = {row["id"]: (row["outcome"], row["by"]) for row in model["mutants"]}
    assert fates == {
        "moody": ("killed", fates["moody"][1]),
        "unseen": ("survived", ""),
        "forgetful": ("killed", "work/leaves-a-note"),
        "unreached": ("not reached", ""),
        "broken": ("does not start", ""),
    }
    assert fates["moody"][1].startswith("health/mood[")
    assert (model["score"], model["killed"], model["total"], model["not_started"]) == (60.0, 3, 5, 1)
    assert (model["equivalent"], model["known"]) == (1, 9)
    assert model["groups"]["notes"]["score"] == 100.0
    survivor = next(row for row in model["mutants"] if row["id"] == "unseen")
    assert survivor["reached_by"] == [
        "health/up",
        "health/mood[morning]",
        "health/mood[evening]",
        "work/cannot-fail",
    ]
    page = (scene.root / "reports" / "mutants.md").read_text()
    assert "`unseen` in api, api.py:1: `a => b`; run through by health/up" in page
    assert "| notes | 100.0 % | 1 | 1 | 0 | 0 |" in page
    assert "60.0 % of 5 mutants killed" in out


def test_what_runs_on_a_variant_alone_is_tried_there(scene: Scene) -> None:
    code, out, model = survey(scene, "--only", "variants", "--only", "moody", "--workers", "1")
    assert code == 0, out
    fates = {row["id"]: row["outcome"] for row in model["mutants"]}
    assert fates == {"moody": "killed", "elsewhere": "killed"}


def test_a_check_that_stays_red_kills_nothing(scene: Scene) -> None:
    """The platform stays low after this one, so its killers prove nothing, and the run is not green.

    It is tried again without them, until no check is left that is green without it and red with it.
    """
    code, out, model = survey(scene, "--only", "lasting", "--workers", "1")
    assert code == 1, out
    assert [(row["outcome"], row["by"]) for row in model["mutants"]] == [("survived", "")]
    assert {alarm["check"] for alarm in model["alarms"]} >= {"health/mood[morning]", "health/mood[evening]"}


def test_one_that_cannot_be_switched_on_is_not_killed(scene: Scene) -> None:
    code, out, model = survey(scene, "--only", "stubborn", "--only", "moody")
    assert code == 0, out
    fates = {row["id"]: (row["outcome"], row["why"]) for row in model["mutants"]}
    assert fates["moody"][0] == "killed"
    assert fates["stubborn"][0] == "survived"
    assert "it could not be switched on: PUT /mutants/stubborn returned 409" in fates["stubborn"][1]


def test_a_score_below_the_floor_is_red(scene: Scene) -> None:
    code, _, model = survey(scene, "--only", "unseen", "--sample", "3", "--seed", "b", "--floor", "1")
    assert (code, model["scope"]) == (1, "a sample of 1 of those that match unseen, seed 'b'")
    assert survey(scene, "--only", "moody", "--floor", "100")[0] == 0


def test_what_is_known_is_not_tried_again(scene: Scene) -> None:
    _, _, first = survey(scene, "--only", "moody", "--only", "un*")
    (scene.root / "tried.txt").unlink()
    state = scene.root / "reports" / STATE
    state.write_text(state.read_text() + '{"id": "forget')  # the run was killed while it wrote
    _, out, second = survey(scene, *MOST)
    assert (scene.root / "tried.txt").read_text().split() == ["forgetful"], out
    assert second["total"] == 5
    kept = {row["id"]: row["outcome"] for row in second["mutants"]}
    assert all(kept[row["id"]] == row["outcome"] for row in first["mutants"])


def test_another_suite_is_measured_again(scene: Scene) -> None:
    survey(scene, "--only", "moody")
    scene.write("smoke/test_checks.py", (scene.root / "smoke/test_checks.py").read_text() + "\n# changed\n")
    survey(scene, "--only", "moody")
    assert (scene.root / "tried.txt").read_text().split() == ["moody", "moody"]


@pytest.mark.parametrize(
    ("only", "said"), [("nothing-*", "no mutant matches 'nothing-*'"), ("alike", "no mutant matches")]
)
def test_a_pattern_that_means_nothing_is_bad_input(scene: Scene, only: str, said: str) -> None:
    code, out, _ = survey(scene, "--only", only)
    assert (code, said in out) == (4, True), out
    assert "a pattern for ids or files, or a group:" in out


def test_a_platform_without_mutants_proves_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCENE_IMMUTABLE", "1")
    code, out, model = survey(scene)
    assert (code, model) == (6, {})
    assert "the platform lists no mutants" in out


def test_the_seed_determines_the_sample() -> None:
    every = [Mutant.parse({**MUTANTS[0], "id": f"m{number}"}) for number in range(200)]
    chosen = sample(every, 80, "a commit")
    assert chosen == sample(list(reversed(every)), 80, "a commit")
    assert len({each.id for each in chosen}) == 80
    assert chosen != sample(every, 80, "another commit")
    assert sample(every, 81, "a commit")[:80] == chosen


class Hasty:
    """A worker where every attempt takes a minute on the given clock."""

    is_up, variant = True, ""

    def __init__(self, clock: list[float]) -> None:
        self._clock = clock

    def attempt_mutant(self, mutant: Mutant, service: str, _: Experience) -> Fate:
        self._clock[0] += 60
        return Fate(mutant=mutant, service=service, outcome=SURVIVED)

    def restore(self, _: object) -> None: ...

    def clean_run(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(alarms=())

    def close(self) -> None: ...


def test_no_mutant_starts_after_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, heard = [0.0], list[object]()
    monkeypatch.setattr("pytest_readiness.selftest.mutants.time", SimpleNamespace(monotonic=lambda: clock[0]))
    targets = [(Mutant.parse({**MUTANTS[0], "id": f"m{number}"}), "api") for number in range(9)]
    experience = Experience({}, Trace({}, (), {}), with_drills=False)
    setup: Any = SimpleNamespace(stopping=threading.Event(), runner=SimpleNamespace(close=lambda: None))
    workers: Any = [Hasty(clock)]
    MutantCampaign(workers, targets, experience, setup, until=200).run(heard.append)
    assert len(heard) == 4


@pytest.mark.parametrize(
    ("size", "tried", "scope"),
    [
        (None, 9, "all"),
        (9, 9, "a sample of 9, seed 'b'"),
        (9, 4, "a sample of 4, seed 'b', 3 min were up after 4 of 9"),
        (None, 4, "the first of all, 3 min were up after 4 of 9"),
    ],
)
def test_a_scope_says_what_was_not_tried(size: int | None, tried: int, scope: str) -> None:
    options = argparse.Namespace(only=[], sample=size, seed="b", within=3)
    assert scope_of(options, tried, 9) == scope


def test_a_mutant_is_placed_where_a_check_runs_through_it() -> None:
    many = [
        Mutant.parse({**MUTANTS[0], "id": f"m{number}", "services": ["a", "b", "c"]}) for number in range(60)
    ]
    trace = Trace(
        {"a": {"api.py": {"2": [1]}}, "b": {"api.py": {"1": [1]}}, "c": {"api.py": {"1": [0, 2]}}},
        ("x", "y"),
        {},
    )
    services = {service for _, service in placed(many, trace)}
    assert services == {"b", "c"}
    assert trace.through(many[0], "c") == ["y"]
    assert trace.through(many[0], "a") == []
    starting = Mutant.parse({**MUTANTS[0], "lines": []})
    assert trace.through(starting, "a") == ["x"]


def test_judges_are_tried_on_every_mutant() -> None:
    """It runs through no line of the mutant, nor does any check of its file."""
    checks = {
        name: SuiteCheck(nodeid=f"{file}.py::{name}", severity="P0", goal="G-1", drill=name == "drill")
        for name, file in (("a/x", "a"), ("b/y", "b"), ("z/judge", "z"), ("drill", "z"))
    }
    experience = Experience(checks, Trace({}, (*checks,), {}), with_drills=False, judges=("z/*", "drill"))
    assert experience.rest(Mutant.parse(MUTANTS[0]), ["a/x"]) == ["a/x", "z/judge"]
    in_no_service = Mutant.parse({**MUTANTS[0], "services": []})
    assert experience.rest(in_no_service, ["a/x"]) == ["a/x", "b/y", "z/judge"]


def test_a_value_runs_where_it_is_read() -> None:
    """Code that runs at a service's start counts for every check that reaches the service."""
    trace = Trace(
        {"a": {"api.py": {"1": [0], "2": [1], "7": [3]}}, "b": {"api.py": {"9": [2]}}}, ("x", "y", "z"), {}
    )
    read = Mutant.parse({**MUTANTS[0], "lines": [], "reads": [["api.py", 2, 3]], "services": ["a", "b"]})
    assert trace.through(read, "a") == ["x"]
    assert trace.through(read, "b") == []
    assert trace.through(Mutant.parse({**MUTANTS[0], "lines": [1, 1]}), "a") == ["x", "z"]


def test_what_is_in_no_service_is_seen_by_checks_that_ask_none() -> None:
    """While the second one runs, a service only does what it does by itself."""
    trace = Trace({"a": {"api.py": {"2": [1]}}, "b": {"api.py": {"1": [0, 2]}}}, ("x", "y", "z"), {})
    written = Mutant.parse({**MUTANTS[0], "services": []})
    assert placed([written], trace) == [(written, "")]
    assert trace.through(written, "") == ["y", "z"]

"""Phases run in the plan's order, also when workers share the run."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_readiness.adapter.board import Board
from pytest_readiness.adapter.catalogue import Catalogue, Check
from pytest_readiness.adapter.context import CHECK, REFUSAL
from pytest_readiness.adapter.phases import PhaseBarrier
from pytest_readiness.core.model import Severity

from tests.adapter.scenario import Suite

TIMED = """
def timed(name):
    root = pathlib.Path(os.environ["SCENARIO_ROOT"])
    begun = time.monotonic()
    # long enough that a worker without a barrier would overtake
    time.sleep(0.15 if name.endswith("slow") else 0.01)
    with open(root / "times", "a") as stream:
        stream.write(f'{{"name": "{name}", "begun": {begun}, "ended": {time.monotonic()}}}\\n')

"""


def _checks(suite: Suite, file: str, *names: str) -> None:
    body = TIMED
    for name in names:
        body += f"""
@pytest.mark.p0
@pytest.mark.phase("{name.split("-")[0]}")
def test_{name.replace("-", "_")}(evidence):
    passing(evidence)
    timed("{name}")
"""
    suite.checks(body, f"smoke/{file}")


def _times(suite: Suite) -> dict[str, dict[str, float]]:
    lines = suite.wrote("times").splitlines()
    (suite.root / "times").unlink()
    return {entry["name"]: entry for entry in map(json.loads, lines)}


def _assert_in_phases(times: dict[str, dict[str, float]]) -> None:
    phases = ("health", "work", "late")
    for before, after in pairwise(phases):
        ended = max(entry["ended"] for name, entry in times.items() if name.startswith(before))
        begun = min(entry["begun"] for name, entry in times.items() if name.startswith(after))
        assert ended <= begun, f"{after} began before {before} had ended: {times}"


def _spread(suite: Suite) -> None:
    """Files in an alphabetical order that is not the phases', one of them with checks of all phases."""
    _checks(suite, "test_a.py", "late-a1", "late-a2", "late-a3", "late-a4")
    _checks(suite, "test_b.py", "work-b-slow", "health-b-slow", "late-b-slow")
    _checks(suite, "test_c.py", "work-c1", "work-c-slow", "work-c2")
    _checks(suite, "test_d.py", "health-d-slow", "health-d1", "work-d1")


def test_order_without_workers(suite: Suite) -> None:
    _spread(suite)
    run = suite.run()
    assert run.code == 0, run.told()
    phases = [name.split("/")[0] for name in run.outcomes()]
    assert phases == sorted(phases, key=["health", "work", "late"].index)
    _assert_in_phases(_times(suite))


def test_order_without_pytest_order(suite: Suite) -> None:
    _spread(suite)
    run = suite.run(plugins=["readiness", "rerunfailures"])
    assert run.code == 0, run.told()
    _assert_in_phases(_times(suite))


@pytest.mark.parametrize(
    "args",
    [
        ("-n2",),
        ("-n3", "--dist", "load"),
        ("-n2", "--dist", "worksteal"),
        ("-n2", "--dist=loadscope"),
        ("-n2", "--dist", "loadgroup"),
    ],
    ids=lambda args: "-".join(args).replace("--dist", ""),
)
def test_order_with_workers(suite: Suite, args: tuple[str, ...]) -> None:
    _spread(suite)
    run = suite.run(*args)
    assert (run.code, run.model["scope"]) == (0, "full"), run.told()
    times = _times(suite)
    assert len(times) == 13
    _assert_in_phases(times)


def test_workers_share_a_phase(suite: Suite) -> None:
    _spread(suite)
    assert suite.run("-n2").code == 0
    times = _times(suite)
    first, second = times["health-b-slow"], times["health-d-slow"]
    assert first["begun"] < second["ended"]
    assert second["begun"] < first["ended"]


def test_each_is_refused(suite: Suite) -> None:
    _spread(suite)
    run = suite.run("-n2", "--dist", "each")
    assert run.code == 4, run.told()
    assert "allowed: loadfile" in run.err + run.out


def test_crash_in_an_early_phase_holds_no_later_one_back(suite: Suite) -> None:
    _spread(suite)
    suite.checks("@pytest.mark.p0\ndef test_crash(): os._exit(1)", "smoke/test_e.py", phase="health")
    run = suite.run("-n2")
    assert run.code == 6, run.told()
    assert run.outcomes().pop("health/crash") == "not-run"
    assert [name for name, outcome in run.outcomes().items() if outcome != "passed"] == ["health/crash"]
    _assert_in_phases(_times(suite))


def _barrier(board: Board, patience_s: float) -> PhaseBarrier:
    check = Check(id="health/a", nodeid="a", goal="", phase="health", severity=Severity.P0)
    later = Check(id="late/b", nodeid="b", goal="", phase="late", severity=Severity.P0)
    context: Any = SimpleNamespace(
        plan=SimpleNamespace(phases=("health", "late")), board=board, settings=SimpleNamespace(worker="gw0")
    )
    collector: Any = SimpleNamespace(
        catalogue=Catalogue(collected=[check, later], selected={"a": check, "b": later}),
        note_selected=lambda session: None,
    )
    assert board.path is not None
    barrier = PhaseBarrier(context, collector, board.path.parent, patience_s)
    session: Any = None
    barrier.pytest_collection_finish(session)
    return barrier


def _pass(barrier: PhaseBarrier, phase: str) -> str:
    """Let a check of a phase through; return why it was not run, or ""."""
    check = Check(id=f"{phase}/x", nodeid="x", goal="", phase=phase, severity=Severity.P0)
    item: Any = SimpleNamespace(nodeid="x", stash=pytest.Stash())
    item.stash[CHECK] = check
    steps = barrier.pytest_runtest_protocol(item)
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(True)
    refusal = item.stash.get(REFUSAL, None)
    return refusal.reason if refusal else ""


def test_barrier_has_bounded_patience(tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    barrier = _barrier(board, patience_s=0.05)
    assert _pass(barrier, "health") == ""
    assert _pass(barrier, "late") == "not run: 1 earlier checks hang: nothing ended for 0 s"
    Board(tmp_path / "board").end("a")
    assert _pass(barrier, "late") == ""


def test_barrier_gives_up_with_the_run(tmp_path: Path) -> None:
    barrier = _barrier(Board(tmp_path / "board"), patience_s=30)
    Board(tmp_path / "board").abandon("stopping after 1 failures")
    assert _pass(barrier, "late").endswith("never ended: stopping after 1 failures")


def test_run_id_is_one_for_all_workers(suite: Suite) -> None:
    for file in ("test_a.py", "test_b.py"):
        suite.checks(
            "@pytest.mark.p0\ndef test_id_" + file[5] + "(evidence, run_id): evidence.figure('id', run_id)",
            f"smoke/{file}",
        )
    run = suite.run("-n2")
    told = {check["evidence"][0]["value"] for check in run.model["checks"]}
    assert told == {run.model["run_id"]}, run.told()

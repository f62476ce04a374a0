"""The scheduler with stand-in workers: every check runs once, and nobody waits for what is behind its own."""

import random
from typing import Any

import pytest
from pytest_readiness.adapter.board import Board
from pytest_readiness.adapter.scheduler import PhaseScheduler, worker_count

SEEDS = 300
#: How likely it is at each step that the worker which replaces a crashed one has collected.
COLLECTED = 0.3


class _Worker:
    """Runs a check once it knows the next one, and only when all checks of earlier phases have ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gateway = self
        self.id = name
        self.shutting_down = False
        self.queue: list[int] = []

    def send_runtest_some(self, indices: Any) -> None:
        assert not self.shutting_down
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True


class _Config:
    def __init__(self) -> None:
        self.hook = self
        self.reports: list[pytest.CollectReport] = []
        self.abandoned: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.reports.append(report)


def _phase_of(nodeid: str) -> int:
    return int(nodeid[0])


def _scheduler(workers: int, mode: str = "loadfile") -> PhaseScheduler:
    config: Any = _Config()
    return PhaseScheduler(config, workers, mode, _phase_of, config.abandoned.append)


def _start(scheduler: PhaseScheduler, names: str, collection: list[str]) -> list[_Worker]:
    workers = [_Worker(name) for name in names]
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, collection)
    scheduler.schedule()
    return workers


def _drive(
    scheduler: PhaseScheduler, workers: list[_Worker], collection: list[str], crash: str = ""
) -> list[str]:
    """Let workers run in a random order until nobody can; return what was run, in order."""
    done: list[str] = []
    lost: list[str] = []
    collecting: list[_Worker] = []
    while True:
        if collecting and random.random() < COLLECTED:
            workers.append(_collected(scheduler, collecting.pop(), collection))
        able = [
            worker
            for worker in workers
            if worker.queue
            and (len(worker.queue) > 1 or worker.shutting_down or scheduler.tests_finished)
            and all(
                nodeid in done + lost
                for nodeid in collection
                if _phase_of(nodeid) < _phase_of(collection[worker.queue[0]])
            )
        ]
        if not able:
            if collecting and not scheduler.tests_finished:
                continue
            return done
        worker = random.choice(able)
        index = worker.queue[0]
        if collection[index] == crash and crash not in lost:
            workers.remove(worker)
            assert scheduler.remove_node(worker) == crash
            lost.append(crash)
            collecting.append(clone := _Worker("clone"))
            scheduler.add_node(clone)
            continue
        worker.queue.pop(0)
        done.append(collection[index])
        scheduler.mark_test_complete(worker, index)


def _collected(scheduler: PhaseScheduler, clone: _Worker, collection: list[str]) -> _Worker:
    scheduler.add_node_collection(clone, collection)
    scheduler.schedule()
    return clone


def _collection() -> list[str]:
    count = random.randint(1, 12)
    found = {f"{random.randint(0, 3)}/f{random.randint(0, 3)}.py::t{number}" for number in range(count)}
    files = sorted(found, key=lambda nodeid: (nodeid[0], nodeid))
    return [f"{nodeid[0]}{nodeid.split('/')[1]}" for nodeid in files]


@pytest.mark.parametrize("mode", ["loadfile", "load", "loadscope"])
def test_everything_runs_once_and_nobody_waits_forever(mode: str) -> None:
    for seed in range(SEEDS):
        random.seed(seed)
        collection = _collection()
        scheduler = _scheduler(workers := random.randint(1, 4), mode)
        done = _drive(scheduler, _start(scheduler, "abcd"[:workers], collection), collection)
        assert sorted(done) == sorted(collection), seed
        assert scheduler.tests_finished
        assert not scheduler.has_pending
        phases = [_phase_of(nodeid) for nodeid in done]
        assert phases == sorted(phases), seed


def test_crash_loses_one_check_only() -> None:
    for seed in range(SEEDS):
        random.seed(seed)
        collection = _collection()
        crash = random.choice(collection)
        scheduler = _scheduler(workers := random.randint(1, 3))
        done = _drive(scheduler, _start(scheduler, "abc"[:workers], collection), collection, crash)
        assert sorted(done) == sorted(set(collection) - {crash}), seed


def test_no_checks_at_all() -> None:
    scheduler = _scheduler(2)
    workers = _start(scheduler, "ab", [])
    assert scheduler.tests_finished
    assert all(worker.shutting_down for worker in workers)


def test_more_workers_than_work() -> None:
    scheduler = _scheduler(3)
    workers = _start(scheduler, "abc", ["0f.py::t"])
    assert [worker.queue for worker in workers] == [[0], [], []]
    assert all(worker.shutting_down for worker in workers)


def test_workers_that_collect_differently() -> None:
    scheduler = _scheduler(2)
    first, second = _Worker("gw0"), _Worker("gw1")
    for worker in (first, second):
        scheduler.add_node(worker)
    scheduler.add_node_collection(first, ["0f.py::a", "0f.py::b"])
    scheduler.add_node_collection(second, ["0f.py::a"])
    scheduler.schedule()
    config: Any = scheduler.config
    assert "workers collected different checks: 0f.py::b" in config.reports[0].longrepr
    assert scheduler.tests_finished
    assert not first.queue + second.queue


def test_late_worker_that_collects_differently_gets_no_work() -> None:
    scheduler = _scheduler(1)
    _start(scheduler, "a", ["0f.py::a"])
    odd = _Worker("odd")
    scheduler.add_node(odd)
    scheduler.add_node_collection(odd, [])
    assert odd.shutting_down
    assert odd not in scheduler.nodes


def test_what_nobody_can_take_is_given_up() -> None:
    collection = ["0a.py::a", "0a.py::b", "0a.py::c", "1b.py::a", "1b.py::b", "1b.py::c"]
    scheduler = _scheduler(2)
    first, second = _start(scheduler, "ab", collection)
    assert (first.queue, second.queue) == ([0, 1, 2], [3, 4, 5])
    assert scheduler.remove_node(first) == "0a.py::a"
    odd = _Worker("odd")
    scheduler.add_node(odd)
    assert not scheduler.tests_finished
    config: Any = scheduler.config
    assert not config.abandoned
    scheduler.add_node_collection(odd, collection[:1])
    assert config.abandoned == ["no worker is left for what a crash left over"]
    for index in (3, 4, 5):
        scheduler.mark_test_complete(second, index)
    assert second.shutting_down
    assert scheduler.tests_finished


def test_crashed_checks_are_not_tried_twice() -> None:
    scheduler = _scheduler(1)
    with pytest.raises(NotImplementedError):
        scheduler.mark_test_pending("0f.py::a")
    with pytest.raises(NotImplementedError):
        scheduler.remove_pending_tests_from_node(_Worker("a"), [1])


def test_worker_count() -> None:
    assert worker_count(["popen", "popen"]) == 2
    assert worker_count(["3*popen", "ssh=host"]) == 4


def test_board_is_shared_through_its_file(tmp_path: Any) -> None:
    ours, theirs = Board(tmp_path / "board"), Board(tmp_path / "board")
    assert not theirs.refresh()
    ours.end("a")
    ours.take_down("api", "refused")
    theirs.take_down("api", "another reason")
    theirs.refresh()
    assert (theirs.ended, theirs.abandoned) == ({"a"}, "")
    with (tmp_path / "board").open("a") as stream:
        stream.write('{"kind": "abandoned", "wh')
    assert ours.refresh()
    assert not ours.abandoned, "half a line is not read"
    with (tmp_path / "board").open("a") as stream:
        stream.write('y": "lost"}\n')
    ours.refresh()
    assert (ours.abandoned, ours.down) == ("lost", {"api": "refused"})

"""Scores that move or stay, and calls at once with readings taken meanwhile."""

import threading
from functools import partial
from typing import Any

import pytest

from smoke.platform.concurrency import at_once, sampling
from smoke.platform.dixie import Scores
from tests.smoke.log import Log


def test_calls_start_together_and_end_before_an_error_is_raised() -> Any:
    done, gate = [], threading.Barrier(3)

    def call(n: Any) -> Any:
        gate.wait(5)
        if n == 1:
            raise ValueError("one")
        done.append(n)
        return n

    with pytest.raises(ValueError, match="one"):
        at_once([partial(call, n) for n in range(3)])
    assert sorted(done) == [0, 2]


def test_sampling_reads_at_least_once_and_reports_its_error() -> None:
    with sampling(lambda: 7) as samples:
        pass
    assert samples[0] == 7
    with pytest.raises(ZeroDivisionError), sampling(lambda: 1 / 0):
        pass


class Dixie:
    def __init__(self, *scores: Any) -> None:
        self.scores = list(scores)

    def score(self, agent: Any) -> Any:
        return self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]


def eventually(probe: Any, *, within: Any, every: Any = 0.01, what: Any) -> Any:
    for _ in range(20):
        if probe():
            return True
    raise AssertionError(what)


def scores(*values: Any, log: Any = None, target_s: Any = 10) -> Any:
    dixie: Any = Dixie(*values)
    return Scores(dixie, log or Log(), cache_s=0, limit_s=1, target_s=target_s)


def test_move_of_a_score_is_recorded_with_its_delay() -> None:
    log = Log()
    assert scores(0.5, 0.5, 0.6, log=log, target_s=-1).moved("a", 0.5, eventually) == 0.6
    assert "finding: propagation" in log.notes[0]
    with pytest.raises(AssertionError, match="moves from"):
        scores(0.5).moved("a", 0.5, eventually)


def test_score_that_should_stay_is_watched() -> None:
    log = Log()
    scores(0.5, log=log).stay({"a": 0.5}, "why")
    assert log.rules
    with pytest.raises(AssertionError, match=r"went from 0.5 to 0.6: why"):
        scores(0.5, 0.6).stay({"a": 0.5}, "why")


def test_null_is_not_a_score() -> None:
    with pytest.raises(AssertionError, match="null"):
        scores(None).of("a")

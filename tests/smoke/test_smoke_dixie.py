"""Scores that move or stay, and calls at once with readings taken meanwhile."""

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smoke.platform.batch import at_once, sampling
from smoke.platform.dixie import Scores
from smoke.platform.spend import Once
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


@pytest.fixture
def scores(tmp_path: Path) -> Any:
    once = Once(tmp_path)

    def scores(*values: Any, log: Any = None, target_s: Any = 10, cache_s: Any = 0) -> Any:
        dixie: Any = Dixie(*values)
        return Scores(dixie, log or Log(), once, cache_s=cache_s, limit_s=1, target_s=target_s)

    return scores


def test_move_of_a_score_is_recorded_with_its_delay(scores: Any) -> None:
    log = Log()
    assert scores(0.5, 0.5, 0.6, log=log, target_s=-1).moved("a", 0.5, eventually) == 0.6
    assert "finding: propagation" in log.notes[0]
    with pytest.raises(AssertionError, match="moves from"):
        scores(0.5).moved("a", 0.5, eventually)


def test_score_that_should_stay_is_watched(scores: Any) -> None:
    log = Log()
    scores(0.5, log=log).stay({"a": 0.5}, "why")
    assert log.rules
    with pytest.raises(AssertionError, match=r"went from 0.5 to 0.6: why"):
        scores(0.5, 0.6).stay({"a": 0.5}, "why")


def test_score_that_a_cache_hides_is_found_by_the_one_watch_of_all(scores: Any) -> None:
    before = scores(0.5).hold("a")
    started = time.monotonic()
    scores(0.5, cache_s=60).stay(before, "why", until_held=True)
    assert time.monotonic() - started < 5, "the cache is not waited for"
    scores(0.5).held("a")
    with pytest.raises(AssertionError, match=r"score of a went from 0.5 to 0.6 between the readings of"):
        scores(0.6).held("a")
    scores(0.1).held("b")


def test_score_that_a_check_has_blamed_is_not_found_twice(scores: Any) -> None:
    before = scores(0.5).hold("a")
    with pytest.raises(AssertionError, match=r"went from 0.5 to 0.6: why"):
        scores(0.6).stay(before, "why", until_held=True)
    scores(0.6).held("a")


def test_null_is_not_a_score(scores: Any) -> None:
    with pytest.raises(AssertionError, match="null"):
        scores(None).of("a")

"""Scores that change or stay, and concurrent calls with readings taken in between."""

import threading
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytest_readiness import SetupError

from smoke.platform.backends import Newcomers
from smoke.platform.batch import at_once, sampling
from smoke.platform.scores import Scores
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
        newcomers = Newcomers(dixie, once, lambda *_: None, cache_s=cache_s)
        return Scores(dixie, log or Log(), once, newcomers, cache_s=cache_s, limit_s=1, target_s=target_s)

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


def test_score_is_watched_in_rounds_even_if_no_event_moved_one_before(
    scores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smoke.platform.scores.SETTLED_S", 0)
    log = Log()
    scores(0.5, 0.6, target_s=0, log=log).stay_after_each("a", lambda: None, "why")
    assert log.rules


def test_events_at_once_are_compared_on_agents_of_which_each_has_a_score(scores: Any) -> None:
    sent: list[str] = []

    def show(reading: Any, route: str = "a", alone: Any = None, read: Any = None) -> bool:
        on = scores(alone)
        read = read or (lambda: reading)
        return bool(on.show(eventually, lambda: None not in read(), "shown", read, sent.append, route))

    assert show([0.1, 0.2])
    later = iter([[None, None]] * 22)
    assert show(0, alone=0.5, read=lambda: next(later, [0.1, 0.2])), "a slow queue"
    for reading, alone in (([None, 0.1], None), ([None, None], 0.5)):
        with pytest.raises(AssertionError, match="all of 2 agents"):
            show(reading, alone=alone)
    assert len(sent) == 2, "one event by itself is sent where no agent has a score"
    assert not show([None, None])
    assert not show([None, None])
    assert len(sent) == 3, "the route is known not to score new agents"
    assert show([0.1, 0.2]), "it does after all"
    with pytest.raises(AssertionError, match="all of 2 agents"):
        show([None, None], route="b", alone=0.5)
    with pytest.raises(pytest.skip.Exception, match="not visible"):
        show(0, read=list)


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


def test_score_that_moved_once_is_compared_again(scores: Any) -> None:
    late = scores(0.6)
    late.once.remember("moved", agent="a", took_s=0)
    late.stayed("a", 0.5, time.monotonic(), list, "why")
    with pytest.raises(AssertionError, match=r"went from 0\.\d to 0\.\d: why"):
        scores(*[place / 10 for place in range(9)]).stayed("a", 0.5, time.monotonic(), list, "why")


def test_a_score_that_others_move_is_not_a_finding(scores: Any) -> None:
    moving = scores(*[place / 100 for place in range(90)])
    moving.quiet_s = 0.2
    with pytest.raises(SetupError, match="others send events about a"):
        moving.stay({"a": 0.0}, "why")
    still = scores(0.5, 0.6)
    still.quiet_s = 0.2
    with pytest.raises(AssertionError, match=r"b went from 0.5 to 0.6: why"):
        still.stay({"b": 0.5}, "why")


def test_null_is_not_a_score(scores: Any) -> None:
    with pytest.raises(AssertionError, match="null"):
        scores(None).of("a")


class Cached:
    """Scores that are served again for a while after they were read; new agents get some if ``scoring``."""

    def __init__(self, cache_s: float, *, scoring: bool) -> None:
        self.cache_s, self.scoring = cache_s, scoring
        self.scores: dict[str, float] = {"a": 0.5}
        self.served: dict[str, tuple[float, float | None]] = {}

    def score(self, agent: str) -> float | None:
        if self.served.get(agent, (0.0, None))[0] < time.monotonic():
            self.served[agent] = (time.monotonic() + self.cache_s, self.scores.get(agent))
        return self.served[agent][1]

    def send(self, agent: str, toward: float, _: float | None = None) -> float:
        if self.scoring or agent in self.scores:
            before = self.scores.get(agent, 0.5)
            self.scores[agent] = before + 0.1 * (toward - before)
        return toward


def poll(probe: Any, *, within: Any, every: Any = 0.01, what: Any) -> Any:
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, what
        threading.Event().wait(every)


@pytest.mark.parametrize(("scoring", "agents"), [(True, 3), (False, 1)])
def test_events_are_about_new_agents_where_these_are_scored(
    tmp_path: Path, scoring: bool, agents: int
) -> None:
    log, dixie = Log(), Cached(0.3, scoring=scoring)
    once = Once(tmp_path)
    newcomers = Newcomers(
        dixie,  # type: ignore[arg-type]
        once,
        lambda about, quality: dixie.send(about, float(quality != "bad")),
        cache_s=0.3,
    )
    scores = Scores(dixie, log, once, newcomers, cache_s=0.3, limit_s=5, target_s=5)  # type: ignore[arg-type]
    sends = {f"event {n}": lambda about, before: dixie.send(about, 1.0) for n in range(3)}
    moves = scores.moves("a", lambda about: dixie.send(about, 0.0), sends, poll)
    assert [*moves] == [*sends]
    assert len({move.agent for move in moves.values()}) == agents
    assert all(move.pull == pytest.approx(0.1) for move in moves.values())
    scores.arrives("a", lambda about, _: dixie.send(about, 1.0), poll)
    assert (dixie.scores["a"] == 0.5) is scoring


@pytest.mark.parametrize("scoring", [True, False])
def test_an_event_that_pulls_a_score_to_where_it_is_has_come(tmp_path: Path, scoring: bool) -> None:
    dixie, once = Cached(0, scoring=scoring), Once(tmp_path)
    newcomers = Newcomers(dixie, once, lambda *_: None, cache_s=0)  # type: ignore[arg-type]
    scores = Scores(dixie, Log(), once, newcomers, cache_s=0, limit_s=0.1, target_s=5)  # type: ignore[arg-type]
    with nullcontext() if scoring else pytest.raises(AssertionError, match="score of a moves"):
        scores.arrives("a", lambda about, _: dixie.send(about, 0.5), poll, or_new=True)


def test_a_score_that_moves_the_wrong_way_is_a_finding(scores: Any) -> None:
    found = scores(0.5, 0.4)
    found.once.remember("settled", agent="a")
    with pytest.raises(AssertionError, match=r"good moved the score of a from 0.5 to 0.4"):
        found.moves("a", lambda _: None, {"good": lambda *_: 1.0}, eventually)


def test_late_events_of_earlier_answers_are_waited_for_once(scores: Any) -> None:
    with pytest.raises(AssertionError, match=r"the score of a moves from 0\.6"):
        scores(0.5, 0.55, 0.6).moves("a", lambda _: None, {"good": lambda *_: 1.0}, eventually)

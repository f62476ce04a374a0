"""The reputation scores that Dixie shows: what moves them, and what must not.

A score may be served from a cache for some seconds after it was read, and so may "none". Each wait for that
is recorded; if it is long, events are about newcomers, because one agent's moves can only be seen one after
another. Newcomers are agents that no earlier run has named: they were scored and read when this run began, so
that their caches have expired. Events about them are sent early and read late, and one wait serves all
checks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

import httpx
import pytest
from pytest_readiness import Eventually, Evidence, SetupError

from smoke.contract.intake import may_become, pull

from .backends import Dixie, Newcomers, newcomer
from .http import wait
from .spend import Once

#: How long a score that must not move is watched beyond the time of Dixie's cache.
WATCHED_S = 0.05
#: How long a score must be unchanged if no event is in flight.
SETTLED_S = 0.3
EVERY_S = 0.025
#: How often a score must move after what must not move it before that is a finding.
_ROUNDS = 3
#: How often scores are read while looking for other users.
_LOOKS_FOR_OTHERS = 20
#: Maximum number of readings of a cached score until it expires.
_READINGS_OF_A_CACHE = 20
#: The figure of each wait for Dixie's cache.
WAITED = "waited for scores that may be cached"
#: The note of a check that leaves a comparison to `held`.
LEFT = "scores that may be cached are compared by loop/another-agent-does-not-move, once for all checks"

#: Sends an event about an agent with this score (None: unknown); returns the event's score.
Send = Callable[[str, float | None], float]


@dataclass(frozen=True, slots=True)
class ScoreMove:
    """The effect of one event on its agent's score, and the score that it pulled toward."""

    agent: str
    before: float
    after: float
    toward: float

    @property
    def pull(self) -> float:
        """How far it went toward the event's score, as a fraction."""
        return pull(self.before, self.after, self.toward)


class Scores:
    """The public scores of agents.

    ``held_later``: the run has a check that calls `held` at its end. ``quiet_s``: how long scores are watched
    for others' events before a move is a finding.
    """

    def __init__(
        self,
        dixie: Dixie,
        evidence: Evidence,
        once: Once,
        newcomers: Newcomers,
        *,
        cache_s: float,
        limit_s: float,
        target_s: float,
        held_later: bool = True,
        quiet_s: float = 0,
    ) -> None:
        self.dixie = dixie
        self.evidence = evidence
        self.once = once
        self.newcomers = newcomers
        self.cache_s = cache_s
        self.limit_s = limit_s
        self.target_s = target_s
        self.held_later = held_later
        self.quiet_s = quiet_s
        self.every_s = max(EVERY_S, cache_s / _READINGS_OF_A_CACHE)

    def of(self, agent: str) -> float:
        """The score of a known agent; null is not a score."""
        score = self.dixie.score(agent)
        assert score is not None, f"{agent} has no score: the query answers null"
        return score

    def shown(self, *agents: str) -> dict[str, float | None]:
        """The score of each agent; None if it has none."""
        return {agent: self.dixie.score(agent) for agent in agents}

    def until(self, probe: Callable[[], bool], what: str, eventually: Eventually) -> bool:
        """Wait until ``probe`` is true within the time that an event may take to show."""
        return eventually(probe, within=self.limit_s, every=self.every_s, what=what)

    def moved(self, agent: str, before: float | None, eventually: Eventually) -> float:
        """The first score that differs from ``before``; later than the target is a finding."""
        started = time.monotonic()
        found: list[float] = []

        def probe() -> bool:
            try:
                if before is None and self.dixie.score(agent) is None:
                    return False
                found.append(self.of(agent))
            except httpx.TransportError as error:
                self.evidence.note(f"a score query failed in transit: {type(error).__name__}")
                return False
            return found[-1] != before

        shown = "none" if before is None else f"{before:.6f}"
        self.until(probe, f"the score of {agent} moves from {shown}", eventually)
        took = time.monotonic() - started
        self.evidence.figure("propagation", round(took, 2), "s", limit=self.limit_s)
        if took > self.target_s:
            late = f"finding: propagation beyond the target of {self.target_s} s"
            self.evidence.figure(late, round(took, 2), "s", limit=self.target_s)
            self.evidence.note(f"finding: propagation took {took:.1f} s, the target is {self.target_s} s")
        self.evidence.figure(f"score of {agent}", found[-1], expected=f"not {shown}")
        self._waited(took)
        self.once.remember("moved", agent=agent, took_s=took)
        return found[-1]

    def moves(
        self,
        agent: str,
        first: Callable[[str], object],
        sends: Mapping[str, Send],
        eventually: Eventually,
        *,
        at_edge: Callable[[float], bool] = lambda _: False,
    ) -> dict[str, ScoreMove]:
        """The effect of each event, by its name; each must move its agent's score toward its own.

        Each is about a different newcomer, or all are about ``agent``, one after another, because a late one
        would look like the effect of the next. ``first`` sends an event before them that moves ``agent`` away
        from an edge at which they could not move it, or after them, to see that they have arrived.
        """
        now = self.newcomers.take(len(sends), lambda score: not at_edge(score))
        rounds = [[*zip(sends, now, strict=True)]] if now else [[(name, agent)] for name in sends]
        newcomers = bool(now)
        if not newcomers:
            if why := self.newcomers.prepare().get("why"):
                self.evidence.note(f"no agents of this run to rate: {why}")
            now = {agent: self._settled(agent)}
            if at_edge(now[agent]):
                first(agent)
                now[agent] = self.moved(agent, now[agent], eventually)
        moves = {}
        for together in rounds:
            toward = {name: sends[name](about, now[about]) for name, about in together}
            if newcomers:
                self.newcomers.first_score(first)
            for name, about in together:
                before, after = now[about], self.moved(about, now[about], eventually)
                moves[name] = ScoreMove(about, before, after, toward[name])
                if not may_become(before, [toward[name]], after):
                    self._refuse(f"{name} moved the score of {about} from {before} to {after}", about)
                now[about] = after
        return moves

    def _settled(self, agent: str) -> float:
        """The score of an agent, the first one after a while, because events of answers may be in flight."""
        score = self.of(agent)
        if self.once.remembered("settled"):
            return score
        self.once.remember("settled", agent=agent)
        started = since = time.monotonic()
        while time.monotonic() - since < SETTLED_S and time.monotonic() - started < self.limit_s:
            wait(self.every_s)
            before, score = score, self.of(agent)
            since = since if score == before else time.monotonic()
        return score

    def blame(self, *agents: str) -> None:
        """Tell `held` that a failed check may have moved these, so that the next check is not blamed."""
        for agent, score in self.shown(*agents).items():
            self._saw(agent, score, blamed=True)

    def arrives(
        self,
        agent: str,
        send: Callable[[str, float | None], object],
        eventually: Eventually,
        *,
        until_held: bool = False,
        or_new: bool = False,
    ) -> None:
        """Send an event that moves an agent's score, and wait until it has moved.

        It is about a newcomer if the run knows that newcomers are scored: no cache hides its effect. With
        ``until_held``, waiting for a cache is left to `held`, as in `stay`.

        With ``or_new``, an event about a newcomer will do if one does not move the score of a known agent.
        """
        scored = self.newcomers.prepare()["scored"]
        if self.cache_s and not scored and until_held and self._held_later:
            send(agent, None)
            self.once.remember("under-way", agent=agent)
            self.evidence.note(LEFT)
            return
        about, before = (newcomer(), None) if scored else (agent, self.of(agent))
        send(about, before)
        self.newcomers.give_time()
        try:
            self.moved(about, before, eventually)
        except AssertionError as unmoved:
            if before is None or not or_new:
                raise
            # the score may already be where the event pulls it, or move by less than its digits show
            other = newcomer()
            send(other, None)
            with suppress(AssertionError):
                self.moved(other, None, eventually)
                return
            raise unmoved

    @property
    def all_came(self) -> bool:
        """Whether an event moved a score after the last one that `arrives` could not see arrive."""
        return bool(self.once.remembered("moved")) and not self.once.remembered("under-way")

    def hold(self, *agents: str) -> dict[str, float | None]:
        """The score of each agent, which must not move for the rest of the run: `held` says what moved it.

        If scores are cached, each is read once, because another reading would need a wait.
        """
        known = self._known()
        now = {agent: known[agent] if agent in known else self.dixie.score(agent) for agent in agents}
        for agent, score in now.items():
            if agent not in known:
                self._saw(agent, score)
        return now

    def _known(self) -> dict[str, float | None]:
        """The last score of every held agent; empty if readings are free."""
        seen = self.once.remembered("score") if self.cache_s else []
        return {entry["agent"]: entry["score"] for entry in seen}

    @property
    def _held_later(self) -> bool:
        return self.held_later and not self.once.remembered("held")

    def _saw(self, agent: str, score: float | None, *, blamed: bool = False) -> None:
        by = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        self.once.remember("score", agent=agent, score=score, by=by, blamed=blamed, at=time.monotonic())

    def held(self, agent: str) -> None:
        """Assert that an agent still has the score that each check held, even if a cache hid a move from it.

        If scores are cached, this covers all agents with scores that must not move.
        """
        self.once.remember("held", agent=agent)
        agents = {agent, *self._known()}
        seen = [entry for entry in self.once.remembered("score") if entry["agent"] in agents]
        if seen:
            self._wait_until(max(entry["at"] for entry in seen) + self.cache_s)
        for about, score in self.shown(*agents).items():
            self._saw(about, score)
        for about in agents:
            seen = [entry for entry in self.once.remembered("score") if entry["agent"] == about]
            for earlier, later in pairwise(seen):
                if earlier["score"] != later["score"] and not (earlier["blamed"] or later["blamed"]):
                    self._refuse(
                        f"the score of {about} went from {earlier['score']} to {later['score']} between the"
                        f" readings of {earlier['by']} and {later['by']}, without an event for it",
                        about,
                    )
            self.evidence.evaluated(f"the score of {about} stays", len(seen))

    def show(
        self,
        eventually: Eventually,
        probe: Callable[[], bool],
        what: str,
        read: Callable[[], Iterable[float | None]] = list,
        send: Callable[[str], object] = str,
        route: str = "",
    ) -> bool:
        """Wait until a change shows on the run's own agents; skip, as seeded agents' checks assert it too.

        ``read`` gives the scores of agents with an event each, at once; ``send`` sends one about an agent, to
        ``route``. False if no event there gives a new agent a score, not even one by itself, which the
        contract allows (3).
        """
        unseen = "the effect of a lost event is not visible on agents that were not seeded"
        if self.once.remembered("unseen"):
            pytest.skip(f"{unseen}, as another check of this run found")
        late = ""
        if {"route": route} not in self.once.remembered("unscored"):
            try:
                return self.until(probe, what, eventually)
            except AssertionError as error:
                late = str(error)
        known = [score is not None for score in read()]
        if not known:
            self.once.remember("unseen", what=what)
            pytest.skip(f"{unseen}: {late}")
        if not any(known) and not (late and self._scores_one(send, eventually)):
            self.once.remember("unscored", route=route)
            self.evidence.figure("new agents with a score by an event", 0)
            self.evidence.note("not examined: new agents get no scores, so no lost event would show")
            return False
        # its queue may be slow; a lost event will not come
        each = f"all of {len(known)} agents, each with an event at once, get a score, as one alone does"
        return self.until(lambda: None not in read(), each, eventually)

    def _scores_one(self, send: Callable[[str], object], eventually: Eventually) -> bool:
        about = newcomer()
        send(about)
        with suppress(AssertionError):
            self.moved(about, None, eventually)
            return True
        return False

    def stay(self, before: Mapping[str, float | None], why: str, *, until_held: bool = False) -> None:
        """Assert that scores do not change, for as long as the cache could hide a change.

        An agent without a score must still have none. With ``until_held`` this does not wait for the cache if
        `held` compares once for all checks.
        """
        started = time.monotonic()
        later = until_held and self._held_later
        if later and self.cache_s:
            for agent in before.keys() - self._known().keys():
                self._saw(agent, before[agent])
            self.evidence.note(LEFT)
            return
        deadline = started + (0 if later else self.cache_s) + WATCHED_S
        while True:
            now = self.shown(*before)
            for agent, score in before.items():
                if now[agent] != score:
                    self._saw(agent, now[agent], blamed=True)
                    self._refuse(f"the score of {agent} went from {score} to {now[agent]}: {why}", agent)
            if time.monotonic() >= deadline:
                break
            wait(self.every_s)
        if later:
            for agent, score in now.items():
                self._saw(agent, score)
        self._waited(time.monotonic() - started)
        self.evidence.evaluated("a score stays", len(before))

    def stay_after_each(self, agent: str, send: Callable[[], object], why: str) -> None:
        """Assert that an agent's score stays, in one of a few rounds, after something that must not move it.

        Each round lasts as long as the last event took, if there was one. An earlier event may be late and
        move the score in one round, but hardly in each.
        """
        took = max((entry["took_s"] for entry in self.once.remembered("moved")[-1:]), default=self.target_s)
        for _ in range(_ROUNDS):
            before = self.shown(agent)
            send()
            wait(self.cache_s + took + SETTLED_S)
            if (now := self.shown(agent)) == before:
                self.evidence.evaluated("a score stays", 1)
                return
        self._refuse(f"the score of {agent} went from {before[agent]} to {now[agent]}: {why}", agent)

    def stayed(
        self, agent: str, score: float | None, since: float, send: Callable[[], object], why: str
    ) -> None:
        """Assert that an agent has the score that was read at ``since``, on the monotonic clock.

        An earlier event may have been late: if the score moved, `stay_after_each` decides.
        """
        self._wait_until(since + self.cache_s)
        if self.shown(agent)[agent] != score:
            self.stay_after_each(agent, send, why)
        self.evidence.evaluated("a score stays", 1)

    def stay_after(self, before: Mapping[str, float | None], send: Callable[[], object], why: str) -> None:
        """Send something that must not move scores, and assert that it did not.

        If new agents are scored and these were held, one reading after their caches expired is enough.
        """
        held = {entry["agent"]: entry["at"] for entry in self.once.remembered("score")}
        early = self.newcomers.prepare()["scored"] and before.keys() <= held.keys()
        send()
        if not early:
            self.stay(before, why)
            return
        sent = time.monotonic()
        self._wait_until(max(held[agent] for agent in before) + self.cache_s)
        self.newcomers.give_time(sent)
        now = self.shown(*before)
        if now != dict(before):
            self._refuse(f"the scores went from {dict(before)} to {now}: {why}", *before)
        self.evidence.evaluated("a score stays", len(before))

    def _refuse(self, text: str, *agents: str) -> NoReturn:
        """Raise for scores that moved: SetupError if they keep moving although this run sends nothing."""
        moved = {entry["agent"]: entry["passed"] for entry in self.once.remembered("rated-by-others")}
        started, before = time.monotonic(), self.shown(*agents)
        while not moved.keys() & {*agents} and (passed := time.monotonic() - started) < self.quiet_s:
            wait(self.quiet_s / _LOOKS_FOR_OTHERS)
            now = self.shown(*agents)
            for agent in agents if passed >= self.quiet_s / 2 else ():  # an early move may be a late event
                if now[agent] != before[agent]:
                    moved[agent] = round(passed, 1)
                    self.once.remember("rated-by-others", agent=agent, passed=moved[agent])
            before = now
        if others := [agent for agent in agents if agent in moved]:
            raise SetupError(
                f"not examined: others send events about {others[0]}: its score moved {moved[others[0]]} s "
                "after the last event of this run. Reserve agents for the run"
            )
        raise AssertionError(text)

    def _wait_until(self, moment: float) -> None:
        left = moment - time.monotonic()
        if left > 0:
            wait(left)
            self._waited(left)

    def _waited(self, seconds: float) -> None:
        if self.cache_s:
            self.evidence.figure(WAITED, round(seconds, 2), "s", limit=self.cache_s)

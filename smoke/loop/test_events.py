"""G-5, phase loop: an event counts once, and a similar event is another one."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from pytest_readiness import Eventually, Evidence

from smoke.contract.intake import Verdict, far_from
from smoke.platform.answers import require_status
from smoke.platform.backends import Dixie, judging, newcomer, now_text, quality_signal, with_status
from smoke.platform.batch import Batch, Case, at_once
from smoke.platform.freeside import Freeside, Tenants, nonce
from smoke.platform.http import Connect
from smoke.platform.scores import Scores, Send
from smoke.platform.spend import Once
from smoke.platform.tokens import SigningKeyLookup

pytestmark = [
    pytest.mark.goal("G-5"),
    pytest.mark.phase("loop"),
    pytest.mark.p1,
    pytest.mark.requires("freeside", "dixie", "key", "signing", "finn", "finn_key"),
    pytest.mark.requires("dixie.query-user", "dixie.events", "events"),
    pytest.mark.usefixtures("alone"),
    pytest.mark.flaky(reruns=0),
]

#: How often the same event is sent concurrently.
AT_ONCE = 8
#: How many different events are sent concurrently about each of three agents.
TOGETHER = 2
#: About how many new agents two events come at once.
CROWD = 4
#: The lengths of two rows of equal events, and the scores in them; the longer row must move an agent's score
#: further. Ratings are slower.
ROWS = {"dixie.events": ((20, 30), (1.0, 0.0, 0.6)), "freeside.quality": ((5, 6), (1.0, 0.0))}
BEGUN = "agents that were not seeded have scores"
#: By how much a sender's clock may be ahead, s.
AHEAD_S = 15
#: A score this close to its events' need not move (3), or by less than its digits show.
NEAR = 0.02
#: How much further than one pull a single event may move a score: a weight may grow with the events.
ONE_PULL = 1.6
#: The node part of time-based ids, instead of this machine's address.
NODE = 1 << 40


@pytest.mark.establishes("events")
def test_same_event_counts_once(
    dixie: Dixie,
    agent: str,
    bystander: str,
    scores: Scores,
    finn_key: SigningKeyLookup,
    batch: Batch,
    once: Once,
    connect: Connect,
    evidence: Evidence,
    eventually: Eventually,
) -> None:
    """An event counts once: repeated, concurrent, about another agent, with another score, or respelled."""
    credential = scores.dixie.service_credential(finn_key())
    others = scores.hold(bystander)
    unrecorded = Dixie(connect("dixie"), dixie.tenant, dixie.key)
    first: dict[str, Any] = {}

    def once_only(about: str, before: float | None) -> float:
        first.update(quality_signal(about, far_from(before)))
        require_status(dixie.post_event(first, credential), 202)
        return float(first["score"])

    def several_times(about: str, before: float | None) -> float:
        event = quality_signal(about, far_from(before))
        send = partial(unrecorded.post_event, event, credential)
        at_once([lambda: require_status(send(), 202)] * AT_ONCE)
        return float(event["score"])

    single, several = scores.moves(
        agent,
        lambda about: require_status(dixie.post_event(quality_signal(about, 0.5), credential), 202),
        {"an event": once_only, f"an event that was sent {AT_ONCE} times at once": several_times},
        eventually,
    ).values()
    once.remember("event", event=first)

    again: dict[str, dict[str, Any]] = {
        "itself": {},
        "about another agent": {"agent_id": bystander},
        "with another score": {"score": 1.0 - single.toward},
        "with another time": {"timestamp": now_text().replace("Z", ".5Z")},
        "of another collection": {"collection_id": "smoke-2"},
    }
    spelled = {
        "in upper case": first["event_id"].upper(),
        "in braces": f"{{{first['event_id']}}}",
        "as a URN": f"urn:uuid:{first['event_id']}",
        "without hyphens": first["event_id"].replace("-", ""),
    }
    rule = "an id counts once"
    batch.run(
        [
            *(
                Case(
                    f"{name} ({number})",
                    rule,
                    partial(unrecorded.post_event, first | members, credential),
                    judging(Verdict.OPEN if members else Verdict.ACCEPTED),
                )
                for name, members in again.items()
                for number in range(4)
            ),
            *(
                Case(
                    name,
                    rule,
                    partial(unrecorded.post_event, first | {"event_id": text}, credential),
                    judging(Verdict.OPEN),
                )
                for name, text in spelled.items()
            ),
        ]
    )
    after: dict[str, float | None] = {move.agent: move.after for move in (single, several)}
    # answers may move the known agent before `held` compares
    scores.stay(after | others, "the same event_id was counted twice", until_held=agent not in after)
    times = math.log1p(-several.pull) / math.log1p(-single.pull)
    evidence.figure(
        f"pulls of one event that was sent {AT_ONCE} times at once", round(times, 3), limit=ONE_PULL
    )
    assert times < ONE_PULL, f"an event that was sent {AT_ONCE} times at once counted {times:.1f} times"


def test_another_event_counts_too(
    dixie: Dixie, agent: str, scores: Scores, finn_key: SigningKeyLookup, eventually: Eventually
) -> None:
    """Events that differ only in their id count each; so do ids refused before, and all legal forms."""
    credential = scores.dixie.service_credential(finn_key())
    event = quality_signal(agent, 0.5)
    near = event["event_id"]
    refused = {
        "an id that came with a score beyond 1": (event | {"score": 2}, credential, (400, 422)),
        "an id that came without a token": (event, None, (401, 403)),
    }
    ids = {
        "an id": near,
        "an id with another last digit": _other(near, -1),
        "... first digit": _other(near, 0),
    }
    for name, (body, sender, statuses) in refused.items():
        ids[name] = new_id()
        with_status(*statuses)(dixie.post_event(body | {"event_id": ids[name]}, sender))

    def post(about: str, **members: Any) -> float:
        sent = event | {"agent_id": about} | members
        require_status(dixie.post_event(sent, credential), 202)
        return float(sent["score"])

    def sending(members: dict[str, Any]) -> Send:
        return lambda about, before: post(about, **{"score": far_from(before)} | members)

    integers: list[int] = []

    def zero_or_one(about: str, before: float | None, **members: Any) -> float:
        """The integer scores in turn, the more distant one first, so that both move the agent's score."""
        integers.append(1 - integers[-1] if integers else int(far_from(before)))
        return post(about, score=integers[-1], **members)

    def ahead(about: str, before: float | None) -> float:
        """As if from a sender whose clock is ahead. Such an event may be refused; an accepted one counts."""
        members = {"collection_id": "smoke-2", "event_id": new_id()}
        late = event | members | {"agent_id": about, "score": 1 - integers[-1]}
        late["timestamp"] = now_text(AHEAD_S).replace("Z", ".25+00:00")
        if dixie.post_event(late, credential).status_code in (400, 422):
            members["timestamp"] = now_text().replace("Z", ".25+00:00")
            return zero_or_one(about, before, **members)
        return float(late["score"])

    now = int(time.time())
    sends = {name: sending({"event_id": event_id}) for name, event_id in ids.items()}
    sends |= {
        "a whole score at epoch seconds, with an id of version 7": partial(
            zero_or_one, timestamp=now, event_id=_by_time()
        ),
        "the other whole score, of a moment to come at UTC's offset, of another collection": ahead,
        "an event of an hour ago, after later ones, with an id of version 1": sending(
            {"timestamp": now - 3600, "event_id": str(uuid.uuid1(node=NODE))}
        ),
    }
    # with the same timestamp as the events with those ids
    scores.moves(agent, lambda about: post(about, event_id=new_id()), sends, eventually)


@pytest.fixture
def senders(
    connect: Connect, dixie: Dixie, freeside: Freeside, tenants: Tenants, finn_key: SigningKeyLookup
) -> dict[str, Callable[[str, float], None]]:
    """Functions by route that send a new event about an agent with a score; it must be accepted.

    A rating is good unless the score is 0.
    """
    quiet = Dixie(connect("dixie"), dixie.tenant, dixie.key)
    credential = quiet.service_credential(finn_key())
    rating = freeside.unrecorded()

    def post(agent: str, score: float) -> None:
        require_status(quiet.post_event(quality_signal(agent, score), credential), 202)

    return {
        "dixie.events": post,
        "freeside.quality": lambda agent, score: rating.rate(tenants.main, agent, "good" if score else "bad"),
    }


@pytest.mark.parametrize(
    "route",
    [
        "dixie.events",
        pytest.param("freeside.quality", marks=pytest.mark.requires("freeside.quality", "loop")),
    ],
)
def test_events_at_once_count_each(
    route: str,
    senders: dict[str, Callable[[str, float], None]],
    connect: Connect,
    dixie: Dixie,
    scores: Scores,
    evidence: Evidence,
    eventually: Eventually,
) -> None:
    """Concurrent events move a score as far as the same events one by one.

    Only agents of this run are compared, whatever rule computes scores. All begin with a bad event, so that
    an average moves, too; what the last event adds tells whether a lost one would be visible. A row of equal
    events moves the score on toward theirs.
    """
    send, quiet = senders[route], Dixie(connect("dixie"), dixie.tenant, dixie.key)
    agents = [f"smoke-{nonce()}" for _ in range(TOGETHER + 4)]
    in_turn, crowd = agents[: TOGETHER + 1], agents[TOGETHER + 1 :]
    lengths, towards = ROWS[route]
    rows = {f"smoke-{nonce()}": (toward, length) for toward in towards for length in lengths}

    def come(*wanted: Any) -> bool:
        """If scores are cached, an early reading would hide later events: give them time to arrive."""
        return scores.newcomers.give_time() or scores.show(eventually, *wanted)

    def shown(*agents: str) -> list[float | None]:
        return [quiet.score(agent) for agent in agents]

    def apart(one: str, *others: str) -> bool:
        return not {*shown(one)} & {*shown(*others)}

    firsts = dict.fromkeys(agents, 0.0) | {agent: far_from(toward) for agent, (toward, _) in rows.items()}
    at_once([partial(send, agent, score) for agent, score in firsts.items()])
    begun = partial(shown, *firsts)
    if not come(lambda: None not in begun(), BEGUN, begun, lambda about: send(about, 0.0), route):
        return
    at_once([partial(send, agent, 1.0) for _ in range(TOGETHER) for agent in crowd])
    send_rows(send, rows)
    for number, done in enumerate(in_turn[:-1], 1):
        at_once([partial(send, agent, 1.0) for agent in in_turn[number:]])
        come(partial(apart, done, *in_turn[number:]), "an event by itself shows")
    steps: list[float | None] = []

    def all_shown() -> bool:
        steps[:] = shown(*in_turn)
        return None not in steps and len({*steps}) == len(steps)

    scores.show(eventually, all_shown, "events by themselves show")
    *_, fewer, all_ = (step or 0.0 for step in steps)
    seen: list[float | None] = []

    def alike() -> bool:
        seen[:] = shown(*crowd)
        # other influences on a score, such as time, move it less than an event
        return all(2 * abs((score or 0.0) - all_) < abs(all_ - fewer) for score in seen)

    try:
        scores.until(alike, "events at once show", eventually)
    except AssertionError as lost:
        raise AssertionError(
            f"{TOGETHER} different events at once moved the scores of three agents to {seen}; one by one "
            f"they move a score to {all_}, and {TOGETHER - 1} of them to {fewer}"
        ) from lost
    evidence.figure(f"scores after {TOGETHER} events at once", str(seen), expected=all_)
    shows_each = any(round(step or 0.0, 1) != step for step in steps)  # not rounded to one digit
    for toward in towards:
        pair = [agent for agent, row in rows.items() if row[0] == toward]
        require_row_counts(partial(shown, *pair), toward, lengths, shows_each, scores, evidence, eventually)


def test_first_events_at_once_count_each(
    senders: dict[str, Callable[[str, float], None]],
    connect: Connect,
    dixie: Dixie,
    scores: Scores,
    evidence: Evidence,
    eventually: Eventually,
) -> None:
    """Concurrent events about an agent without a score move it as far as the same events one by one."""
    send, quiet = senders["dixie.events"], Dixie(connect("dixie"), dixie.tenant, dixie.key)
    one, two, *crowd = (f"smoke-{nonce()}" for _ in range(2 + CROWD))
    at_once([partial(send, agent, 0.0) for agent in (one, two)])
    read = partial(map, quiet.score, (one, two))
    begun = (lambda: None not in read(), BEGUN, read, lambda about: send(about, 0.0), "dixie.events")
    if not scores.newcomers.give_time() and not scores.show(eventually, *begun):
        return None
    send(two, 0.0)
    shown: list[float] = []

    def show(*agents: str) -> list[float]:
        shown[:] = (-1.0 if (score := quiet.score(agent)) is None else score for agent in agents)
        return shown

    try:
        scores.until(lambda: len({*show(one, two)} - {-1.0}) == 2, "both scores show", eventually)
    except AssertionError:
        return evidence.note("not examined: a second event that equals the first one does not show")
    at_once([partial(send, agent, 0.0) for _ in range(2) for agent in crowd])

    def alike() -> bool:
        fewer, all_, *seen = show(one, two, *crowd)
        return all(2 * abs(score - all_) < abs(all_ - fewer) for score in seen)

    try:
        scores.until(alike, "events at once show", eventually)
    except AssertionError as lost:
        raise AssertionError(
            f"two first events at once moved scores to {shown[2:]}; one by one they move a score to "
            f"{shown[1]}, the first of them to {shown[0]}"
        ) from lost
    return evidence.figure("scores after two first events at once", str(shown[2:]), expected=shown[1])


def send_rows(send: Callable[[str, float], None], rows: Mapping[str, tuple[float, int]]) -> None:
    """Send each agent as many events of its score as its row is long, one after another."""
    for sent in range(max(length for _, length in rows.values())):
        at_once([partial(send, agent, score) for agent, (score, length) in rows.items() if sent < length])


def require_row_counts(
    read: Callable[[], list[float | None]],
    toward: float,
    lengths: tuple[int, int],
    shows_each: bool,
    scores: Scores,
    evidence: Evidence,
    eventually: Eventually,
) -> None:
    """Assert that the longer of two rows of equal events moved its score further, or both are near theirs."""
    last: list[float] = []

    def further() -> bool:
        last[:] = [score or 0.0 for score in read()]
        short, long = (abs(toward - each) for each in last)
        return long < short or (long == short and not shows_each) or max(short, long) < NEAR

    what = f"scores after {lengths[0]} and {lengths[1]} events of {toward:g}"
    try:
        scores.until(further, "every event in a row counts", eventually)
    except AssertionError as lost:
        raise AssertionError(f"{what}: {last[0]} and {last[1]}, each event moves it there") from lost
    evidence.figure(what, str(last))


def test_agent_asked_for_early_is_scored(
    scores: Scores, finn_key: SigningKeyLookup, eventually: Eventually, evidence: Evidence
) -> None:
    """An agent that was queried before its first event gets its score with that event, like any other.

    A service that gives no score for a single event gives neither agent one. A first event is as good or bad
    as any later one.
    """
    dixie, unasked, bad = scores.dixie, newcomer(), newcomer()
    asked, early = scores.newcomers.asked_for()
    assert early is None, f"{asked} has a score before its first event"
    credential = dixie.service_credential(finn_key())
    for agent, score in ((bad, 0.0), (unasked, 1.0), (asked, 1.0)):
        require_status(dixie.post_event(quality_signal(agent, score), credential), 202)
    scores.newcomers.give_time()
    with suppress(AssertionError):
        scores.until(lambda: dixie.score(asked) is not None, "a new agent's first event counts", eventually)
    shown = scores.shown(asked, unasked, bad)
    for name, agent in (
        ("that was asked for early", asked),
        ("that was not", unasked),
        ("of a bad event", bad),
    ):
        evidence.figure(f"score of an agent {name}", shown[agent])
    assert shown[asked] is not None or shown[unasked] is None, (
        f"an agent that was queried before its first event has no score after {scores.limit_s:g} s, "
        f"another one has {shown[unasked]}"
    )
    good, worse = shown[unasked], shown[bad]
    assert good is None or worse is None or good >= worse, (
        f"a new agent has the score {good} after an event of 1, and another one {worse} after one of 0"
    )


def new_id() -> str:
    """A new id of version 4."""
    return str(uuid.uuid4())


def _by_time() -> str:
    """A new id of version 7 (RFC 9562): milliseconds first."""
    made = f"{time.time_ns() // 10**6:012x}7{uuid.uuid4().hex[13:]}"
    return str(uuid.UUID(made))


def _other(event_id: str, place: int) -> str:
    """The id with another digit at that place."""
    digits = list(event_id)
    digits[place] = "0" if digits[place] != "0" else "1"
    return "".join(digits)

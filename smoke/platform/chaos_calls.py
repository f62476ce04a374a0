"""The calls that are made while a part goes down, and how each must end."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import httpx
from pytest_readiness import Eventually, Evidence, SafetyViolation, SetupError

from smoke.contract.intake import rating
from smoke.contract.x402 import header_of

from .answers import error_code, require_status
from .attacks import require_spent
from .backends import quality_signal
from .chaos import WARM_WITHIN_S, Attempt, Kind, TrackedCall, Traffic, answered, together
from .freeside import Freeside, cost_in, prompt_for
from .http import wait
from .invariants import Conservation, reading_of
from .parameters import OF_FREESIDE, Way, require_no_run, run_of
from .scores import Scores
from .tokens import SigningKeyLookup
from .x402 import Balances, Chain, FundedWallet, PaidRoute

#: Makes a streamed answer take a moment, so that the part goes down in the middle of some.
PADDING = 480
STREAMS, INVOKES, SENDERS = 3, 2, 3
#: The time between two direct calls.
DIRECT_PAUSE_S = 0.3
#: A rating of this quality moves a score, and so does an event with this score.
QUALITY, SCORE = "excellent", 1.0


class Money:
    """Charged calls, each with its own key: one charge and one answer, whatever went down."""

    def __init__(self, ways: Callable[[str], Way], freeside: Freeside, tenant: str) -> None:
        self._ways = ways
        self._freeside = freeside.unrecorded()
        self._tenant = tenant
        self.routes = [str(way.id) for way in OF_FREESIDE]

    def kinds(self) -> list[Kind]:
        """Invokes and streams, and readings of the budget."""
        ways = [self._ways(route) for route in self.routes]
        calls = [
            Kind(way.route, partial(self._call, way), STREAMS if way.streamed else INVOKES) for way in ways
        ]
        return [*calls, Kind("freeside.budget", self._reading)]

    def _call(self, way: Way) -> TrackedCall:
        key = str(uuid.uuid4())
        body = way.body(prompt_for(_word_for(key), padding=PADDING * way.streamed))
        return TrackedCall(key, partial(way.post, body, self._tenant, key=key))

    def _reading(self) -> TrackedCall:
        claims = {"role": "admin"} if self._freeside.dialects.budget == "gateway" else {}
        credential = self._freeside.credential(self._tenant, **claims)
        return TrackedCall("", partial(self._freeside.get_budget, self._tenant, credential))

    def settle(self, traffic: Traffic, watch: Conservation, evidence: Evidence) -> None:
        """Repeat every key; each now has one answer, and the charges equal the sum of the answers' costs.

        An invoke's answer is the one to its prompt.
        """
        calls = [call for route in self.routes for call in traffic.calls[route] if call.reached]
        readings = [call.first.answer for call in traffic.calls["freeside.budget"] if answered(call.first)]
        watch.observe_all(
            reading_of(answer, self._freeside.dialects.budget, self._tenant) for answer in readings if answer
        )
        together(calls, lambda call: call.repeat(answered))
        for call in calls:
            first, last = call.first.answer, call.last.answer
            if last is None or not answered(call.last):
                raise AssertionError(
                    f"a repeated key has no answer: {call.last.outcome}, at first {call.first.outcome}"
                )
            if first is not None and answered(call.first):
                require_no_run(run_of(first), last)
        for way in map(self._ways, self.routes):
            for call in traffic.calls[way.route] if not way.streamed else ():
                if call.reached and call.last.answer is not None:
                    found = _word_for(call.name) in way.content(call.last.answer)
                    assert found, f"{way.route}: an answer is not the one to its prompt"
        evidence.evaluated("a key that is repeated after a restart has one answer", len(calls))
        watch.charged([cost_in(call.last.answer) for call in calls if call.last.answer is not None])
        watch.released()


def _word_for(key: str) -> str:
    """The word that the call with this key requests, of constant length."""
    return f"nonce{key[-12:]}"


class Events:
    """Ratings at Freeside and events at Dixie, each about a different agent that had no score before.

    ``worth`` has the scores after one and two events of a kind, measured before.
    """

    def __init__(self, freeside: Freeside, tenant: str, scores: Scores, finn_key: SigningKeyLookup) -> None:
        self._freeside = freeside.unrecorded()
        self._tenant = tenant
        self._scores = scores
        self._dixie = scores.dixie.unrecorded()
        self._key = finn_key
        # queued behind the events of an earlier drill
        self._patience_s = max(scores.limit_s, WARM_WITHIN_S)
        self.worth: dict[str, tuple[float, float]] = {}

    def learn(self, eventually: Eventually) -> None:
        """Measure the effect of one event and whether a second one would be visible; SetupError if not."""
        for kind in self.kinds():
            single, double, later = kind.make(), kind.make(), kind.make()
            for call in (single, double, self._another(kind.name, double), later):
                require_status(call.send(), 202)
            agents = [call.name for call in (single, double, later)]

            def differ(agents: Sequence[str] = agents) -> bool:
                one, two, again = map(self._dixie.score, agents)
                if one is None or two is None or again is None:
                    return False
                # other agents' events may move a score a little, but less than a second event
                return abs(two - one) > 2 * abs(again - one)

            try:
                eventually(differ, within=self._patience_s, what="two events show, not one")
            except AssertionError as unseen:
                raise SetupError(f"not examined: whether events count once: {unseen}") from None
            self.worth[kind.name] = (self._scores.of(single.name), self._scores.of(double.name))

    def kinds(self) -> list[Kind]:
        """Ratings, and events if the profile has Finn's key."""
        makers = {"freeside.quality": self._rating, "dixie.events": self._event}
        try:
            self._key()
        except SetupError:
            makers.pop("dixie.events")
        return [Kind(name, make, SENDERS) for name, make in makers.items()]

    def _another(self, kind: str, call: TrackedCall) -> TrackedCall:
        return self._rating(call.name) if kind == "freeside.quality" else self._event(call.name)

    def _rating(self, agent: str = "") -> TrackedCall:
        agent = agent or f"smoke-chaos-{secrets.token_hex(6)}"
        credential = self._freeside.credential(self._tenant)
        return TrackedCall(agent, partial(self._freeside.post_rating, rating(agent, QUALITY), credential))

    def _event(self, agent: str = "") -> TrackedCall:
        event = quality_signal(agent or f"smoke-chaos-{secrets.token_hex(6)}", SCORE)
        credential = self._dixie.service_credential(self._key())
        return TrackedCall(event["agent_id"], partial(self._dixie.post_event, event, credential))

    def settle(self, traffic: Traffic, eventually: Eventually, evidence: Evidence) -> None:
        """Every accepted event counts, and none counts twice."""
        sent = {name: traffic.calls[name] for name in self.worth}
        events = sent.get("dixie.events", [])
        together([call for call in events if not answered(call.first)], lambda call: call.repeat(answered))
        kind_of = {call.name: name for name, calls in sent.items() for call in calls}
        due = {call.name for calls in sent.values() for call in calls if any(map(answered, call.attempts))}
        scores: dict[str, float | None] = {}

        def read(agent: str) -> None:
            scores[agent] = self._dixie.score(agent)

        def missing() -> list[str]:
            return [agent for agent in due if scores.get(agent) is None]

        def some_came() -> bool:
            before = missing()
            together(before, read)
            return len(missing()) < len(before)

        # they queue up while a part is down: if none arrives for the time that one may take, the rest is lost
        with suppress(AssertionError):
            while missing():
                eventually(some_came, within=self._scores.limit_s, what="a further event counts")
        lost = missing()
        assert not lost, f"{len(lost)} of {len(due)} accepted events never counted"
        # a duplicate has arrived once an event that is sent now has arrived
        together(events, lambda call: call.repeat(answered))
        for kind in self.kinds():
            self._require_same_worth(kind, eventually)
        watched_until = time.monotonic() + self._scores.cache_s
        while True:
            together([*kind_of], read)
            for agent, score in scores.items():
                if score is not None and self._is_of_two(kind_of[agent], score):
                    raise SafetyViolation(
                        f"an event counted more than once: its agent's score is {score}, "
                        f"not {self.worth[kind_of[agent]][0]}"
                    )
            if time.monotonic() >= watched_until:
                break
            wait(self._scores.every_s)
        evidence.evaluated("an event counts once over a restart", len(due))

    def _is_of_two(self, kind: str, score: float) -> bool:
        """Whether a score is closer to the one after two events than to the one after a single event."""
        one, two = self.worth[kind]
        return abs(score - two) < abs(score - one)

    def _require_same_worth(self, kind: Kind, eventually: Eventually) -> None:
        """SetupError if another agent's single event has a different effect from the first one's."""
        last = kind.make()
        assert answered(last.attempt()), f"{kind.name} is not accepted: {last.last.outcome}"
        eventually(
            lambda: self._dixie.score(last.name) is not None,
            within=self._patience_s,
            what="an event that was sent last counts",
        )
        if self._is_of_two(kind.name, score := self._scores.of(last.name)):
            raise SetupError(
                f"not examined: whether events count once: one is worth {score} now, "
                f"it was {self.worth[kind.name][0]}"
            )


class Payments:
    """Calls that are paid on the chain: a payment moves its price at most once, and never silently."""

    def __init__(self, paid: PaidRoute, wallet: FundedWallet, chain: Chain, balances: Balances) -> None:
        self._paid = paid.unrecorded()
        self._wallet = wallet
        self._chain = chain
        self._balances = balances

    def kinds(self) -> list[Kind]:
        """Payments, one after another."""
        return [Kind("x402", self._call)]

    def _call(self) -> TrackedCall:
        payment = self._paid.payment(self._wallet)
        return TrackedCall(
            payment["payload"]["authorization"]["nonce"], partial(self._paid.post, header_of(payment))
        )

    def settle(self, traffic: Traffic, evidence: Evidence) -> None:
        """Send every payment again: one that is used on the chain was answered, or its answer was lost.

        An error without a code comes from a load balancer in front of the part that went down.
        """
        terms, calls = self._paid.terms, [call for call in traffic.calls["x402"] if call.reached]
        together(calls, lambda call: call.repeat(lambda attempt: answered(attempt) or _is(attempt, 402)))
        used = 0
        for call in calls:
            answers = sum(map(answered, call.attempts))
            if answers > 1:
                raise SafetyViolation("a payment that was answered is answered again")
            assert answers or _is(call.last, 402), f"a payment is not judged: {call.last.outcome}"
            moved = self._chain.used(terms.asset, self._wallet.address, call.name)
            used += moved
            if answers and not moved:
                raise SafetyViolation("a payment was answered but is not used on the chain")
            if moved and not answers and call.first.answer is not None and error_code(call.first.answer):
                raise SafetyViolation(f"a call was paid for, but got {call.first.outcome}")
        self._balances.require_moved(terms.price * used, f"{used} payments of {len(calls)} that are used")
        evidence.evaluated("a payment moves its price once over a restart", len(calls))


class Direct:
    """Calls directly to Finn, for which Freeside charges another community."""

    def __init__(self, ways: Callable[[str], Way], tenant: str, *, wanted: bool, possible: bool) -> None:
        self._way = ways("finn.invoke")
        self._tenant = tenant
        self._wanted, self._possible = wanted, possible

    def kinds(self) -> list[Kind]:
        """Calls without a key, a few per second, if they are requested and possible."""
        return [Kind(self._way.route, self._call)] if self._wanted and self._possible else []

    def _call(self) -> TrackedCall:
        wait(DIRECT_PAUSE_S)
        body = self._way.body(prompt_for())
        return TrackedCall("", partial(self._way.post, body, self._tenant))

    def settle(self, traffic: Traffic, watch: Conservation, evidence: Evidence) -> None:
        """Answered calls are charged; failed ones may be, if only their answer was lost."""
        if self._wanted and not self._possible:
            evidence.note("not examined: direct calls, as this runner does not reach Finn")
        calls = [call.first for call in traffic.calls.get(self._way.route, ())]
        costs = [cost_in(call.answer) for call in calls if call.answer is not None and answered(call)]
        lost = len(calls) - len(costs)
        reading = watch.released()
        paid, blur = reading.committed - watch.first.committed, reading.tolerance_per_call * len(calls)
        least, most = sum(costs) - blur, sum(costs) + lost * max(costs, default=0) + blur
        evidence.figure("charges of direct calls", paid, "µUSD", expected=sum(costs), limit=most)
        with watch.unless_others():
            if not least <= paid <= most:
                raise SafetyViolation(
                    f"{len(costs)} direct calls were answered at {sum(costs)} µUSD, and {lost} were not: "
                    f"{paid} were charged"
                )


class Tokens:
    """Free calls. Their tokens are kept: an accepted token must stay spent."""

    def __init__(self, freeside: Freeside, tenant: str) -> None:
        self._freeside = freeside.unrecorded()
        self._tenant = tenant

    def kinds(self) -> list[Kind]:
        """Requests for the models."""
        return [Kind("freeside.models", self._call)]

    def _call(self) -> TrackedCall:
        fresh, sent = self._freeside.credential(self._tenant), list[str | None]()

        def send() -> httpx.Response:
            again = bool(sent)  # a repetition sends the accepted token again

            def credential() -> str | None:
                if not again:
                    sent.append(fresh())  # a 429 may have spent the one before
                return sent[-1]

            return self._freeside.models(credential)

        return TrackedCall("", send)

    def settle(self, traffic: Traffic, evidence: Evidence) -> None:
        """Send every accepted token again: it must be refused (1.1)."""
        calls = [call for call in traffic.calls["freeside.models"] if answered(call.first)]
        together(calls, lambda call: call.repeat(_decided))
        for call in calls:
            answer = call.last.answer
            assert answer is not None, f"a token that was sent again got {call.last.outcome}"
            require_spent(answer, "freeside", "a token that was accepted around a restart")
        evidence.evaluated("a token that was accepted is spent", len(calls))


def _decided(attempt: Attempt) -> bool:
    answer = attempt.answer
    return answer is not None and not answer.is_server_error and answer.status_code != 429


def _is(attempt: Attempt, status: int) -> bool:
    return attempt.answer is not None and attempt.answer.status_code == status

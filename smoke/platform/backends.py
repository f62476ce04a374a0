"""The APIs of Finn and Dixie; cases for Dixie's intake, agents of this run; the build of every service."""

from __future__ import annotations

import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Thread
from typing import Any

import httpx
from pytest_readiness import Environment, ExternalOutage, SetupError

from smoke.aws.account import account_of
from smoke.aws.ecs import image_in_use
from smoke.aws.inventory import same_commit, tag_of
from smoke.aws.names import Names
from smoke.contract import intake
from smoke.contract.intake import Offer, Verdict
from smoke.contract.model import SERVICES
from smoke.network.transport import http_pool, within

from . import tokens
from .answers import fields_of, is_of_a_firewall, parse_json, require_json_error, require_status, route_of
from .batch import Case, at_once, mint_command
from .freeside import cost_in
from .http import JSON_HEADERS, Credential, HttpClient, ServiceClient, address_of, trust_of, wait
from .spend import Once, SpendJournal
from .tokens import SigningKey

INVOKE_PATH = "/api/v1/invoke"


class Finn(ServiceClient):
    """One check's access to Finn, with tokens as Freeside would sign them."""

    def __init__(
        self, http: HttpClient, agent: str, key: Callable[[], SigningKey], journal: SpendJournal
    ) -> None:
        super().__init__(http)
        self.agent = agent
        self.key = key
        self.journal = journal

    def body(self, prompt: str) -> bytes:
        """The raw body of an invoke: `req_hash` covers exactly these bytes."""
        return json.dumps({"agent": self.agent, "prompt": prompt}).encode()

    def credential(self, tenant: str, body: bytes, **claims: Any) -> Credential:
        """Fresh tokens for one body, one for each send."""
        return lambda: tokens.bearer(
            self.key(), tokens.finn_claims(tenant, body, at=self.http.address) | claims
        )

    def post_invoke(
        self,
        body: bytes | Sequence[bytes],
        *,
        tenant: str,
        credential: Credential | None,
        headers: Mapping[str, str | bytes] | None = None,
        method: str = "POST",
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Post a body with any credential; a 200 is entered in the journal as a charge of ``tenant``."""
        self.journal.open()
        sent = {**JSON_HEADERS, **(headers or {})}
        with self.journal.charging(tenant, str(uuid.uuid4())) as charge:
            response = self.http.send(
                method, INVOKE_PATH, credential, headers=sent, content=body, params=params or {}
            )
            if response.status_code == 200:
                charge.settle(cost_in(response))
        self.journal.answered(tenant, response)
        return response


QUERY_PATH = "/api/reputation/query"
EVENTS_PATH = "/api/reputation/events"


class Dixie(ServiceClient):
    """One check's access to Dixie, with user tokens that Freeside would sign."""

    def __init__(self, http: HttpClient, tenant: str, key: Callable[[], SigningKey]) -> None:
        super().__init__(http)
        self.tenant = tenant
        self.key = key

    def claims(self) -> tokens.Claims:
        """A user's claims for Dixie."""
        return tokens.user_claims(self.tenant, at=self.http.address)

    def credential(self, **claims: Any) -> Credential:
        """Fresh user tokens, one for each send."""
        return lambda: tokens.bearer(self.key(), self.claims() | claims)

    def service_credential(self, key: SigningKey, **claims: Any) -> Credential:
        """Fresh tokens as Finn signs them for Dixie."""
        return lambda: tokens.bearer(key, tokens.dixie_service_claims(at=self.http.address) | claims)

    def query(
        self, routing_key: str | None, credential: Credential | None, *, plain: bool = False
    ) -> httpx.Response:
        """The answer of the reputation query; None omits the key.

        A ``plain`` one is not encoded: a query may contain a colon (RFC 3986, 3.4).
        """
        if plain:
            return self.http.send("GET", QUERY_PATH, credential, query=f"routingKey={routing_key}")
        params = {} if routing_key is None else {"routingKey": routing_key}
        return self.http.send("GET", QUERY_PATH, credential, params=params)

    def score(self, agent: str, credential: Credential | None = None) -> float | None:
        """The score of an agent, in [0, 1]; None for an unknown one."""
        answer = self.query(f"nft:{agent}", credential or self.credential())
        return score_in(require_status(answer, 200))

    def post_event(
        self,
        event: Mapping[str, Any] | bytes,
        credential: Credential | None,
        headers: Mapping[str, str] = JSON_HEADERS,
    ) -> httpx.Response:
        """Write a reputation event, or any other body."""
        content = event if isinstance(event, bytes) else json.dumps(event).encode()
        return self.http.send("POST", EVENTS_PATH, credential, headers=headers, content=content)


def score_in(answer: httpx.Response) -> float | None:
    """The score in a 200 of the query; None for null."""
    fields = fields_of(answer)
    if fields.raw("score", "a number in [0, 1] or null") is None:
        return None
    return fields.number("score", minimum=0, maximum=1)


def now_text(ahead_s: float = 0) -> str:
    """The current time as an event's timestamp, plus a number of seconds."""
    moment = datetime.now(UTC) + timedelta(seconds=ahead_s)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def quality_signal(agent: str, score: float) -> dict[str, Any]:
    """A new event about the quality of an agent's work (contract 3)."""
    return intake.quality_signal(agent, score, now_text())


#: Statuses for an invalid request (1.3). Dixie's 422 means the same.
TURNED_DOWN = (400, 413, 415, 422)
#: Statuses for an unsupported method (1.3).
NO_SUCH_ROUTE = (404, 405)
#: An agent that no check reads: events that may count are offered for it.
ELSEWHERE = "smoke-elsewhere"
OFFER_RULES = {
    Verdict.ACCEPTED: "what the contract describes is taken",
    Verdict.REFUSED: "anything else is refused, not corrected",
    Verdict.OPEN: "what the contract leaves open is accepted or refused",
}


def offer_cases(offers: Iterable[Offer], send: Callable[[bytes], httpx.Response], route: str) -> list[Case]:
    """One case for each offer to a route, judged by the contract's verdict on it."""
    return [
        Case(
            offer.name,
            OFFER_RULES[verdict],
            partial(send, offer.body),
            judging(verdict),
            partial(mint_command, route),
        )
        for offer, verdict in ((offer, offer.verdict) for offer in offers)
    ]


def judging(verdict: Verdict) -> Callable[[httpx.Response], None]:
    """Raises for an answer to a request of this verdict that the contract does not allow."""
    statuses = {
        Verdict.ACCEPTED: (202,), Verdict.REFUSED: TURNED_DOWN, Verdict.OPEN: (202, *TURNED_DOWN),
    }[verdict]  # fmt: skip
    return with_status(*statuses)


def with_status(*statuses: int) -> Callable[[httpx.Response], None]:
    """Raises for an answer with another status, and for a malformed error, unless it is a firewall's."""

    def judge(answer: httpx.Response) -> None:
        if is_of_a_firewall(answer):
            return
        require_status(answer, *statuses)
        if answer.status_code in TURNED_DOWN:
            require_json_error(answer)

    return judge


#: Number of agents per rating that gives them their score: as many as the loop's checks need.
_MADE = {"bad": 14, "good": 1}
#: When an agent's first score is read, in fractions of the cost of reading too early.
_LOOKS = (0.04, 0.04, 0.08, 0.16, 0.32)


class Newcomers:
    """Agents of this run, one stock for all of its processes; empty if nothing is cached.

    ``rate`` sends a rating of a quality about an agent. A platform need not score unknown agents, and an
    early rating may fail: then the stock is empty, and the loop's checks work without it.
    """

    def __init__(
        self, dixie: Dixie, once: Once, rate: Callable[[str, str], object], *, cache_s: float
    ) -> None:
        self._dixie = dixie
        self._once = once
        self._rate = rate
        self._cache_s = cache_s

    def prepare(self) -> dict[str, Any]:
        """Fill the stock unless it is full; return its content.

        ``scores`` by agent; ``asked``: an agent without events, with the score that was read; ``scored``:
        whether new agents get a score.
        """
        with self._once.turn("newcomers"):
            if not self._once.remembered("newcomers"):
                self._once.remember("newcomers", **self._made())
            return self._once.remembered("newcomers")[0]

    def _made(self) -> dict[str, Any]:
        ratings = [(newcomer(), quality) for quality, number in _MADE.items() for _ in range(number)]
        asked, agents = newcomer(), [agent for agent, _ in ratings]
        made: dict[str, Any] = {"scores": {}, "asked": {}, "scored": False}
        if not self._cache_s:
            return made
        try:
            made["asked"] = {asked: self._dixie.score(asked)}
            at_once([partial(self._rate, agent, quality) for agent, quality in ratings])
            if self.first_score(lambda agent: self._rate(agent, "good")):
                scores = at_once([partial(self._dixie.score, agent) for agent in agents])
                made["scores"] = {
                    agent: score for agent, score in zip(agents, scores, strict=True) if score is not None
                }
                made["scored"] = True
        except (SetupError, AssertionError, httpx.HTTPError) as error:
            made["why"] = f"{type(error).__name__} when the run began"
        return made

    def first_score(self, send: Callable[[str], object]) -> bool:
        """Send an event about new agents and wait until one of them has a score; False if none gets one.

        Earlier events have then arrived as well. Each agent is read once, because "none" is cached.
        """
        lookouts = [newcomer() for _ in _LOOKS]
        at_once([partial(send, agent) for agent in lookouts])
        started = time.monotonic()
        for agent, share in zip(lookouts, _LOOKS, strict=True):
            wait(share * self._cache_s)
            if self._dixie.score(agent) is not None:
                self._once.remember("first-score", took_s=time.monotonic() - started)
                return True
        return False

    def take(self, number: int, fits: Callable[[float], bool]) -> dict[str, float]:
        """Take this many agents with their scores from the stock, for one check only; none if too few fit."""
        stock = self.prepare()["scores"]
        with self._once.turn("newcomers"):
            taken = {entry["agent"] for entry in self._once.remembered("newcomer-taken")}
            left = [agent for agent, score in stock.items() if agent not in taken and fits(score)]
            if len(left) < number:
                return {}
            for agent in left[:number]:
                self._once.remember("newcomer-taken", agent=agent)
        return {agent: stock[agent] for agent in left[:number]}

    def asked_for(self) -> tuple[str, float | None]:
        """An agent without events that was queried (early if scores are cached), and its score then."""
        for agent, score in self.prepare()["asked"].items():
            return agent, score
        agent = newcomer()
        return agent, self._dixie.score(agent)

    def give_time(self, since: float | None = None) -> bool:
        """Wait for as long as events took recently, from ``since`` (default: now, on the monotonic clock).

        False if that is not known, or if a reading can tell.
        """
        if not self.prepare()["scored"]:
            return False
        took = float(self._once.remembered("first-score")[-1]["took_s"])
        passed = time.monotonic() - since if since else 0
        wait(max(0, min(2 * took, self._cache_s) - passed))
        return True


def newcomer() -> str:
    """Return the name of an agent that no one has used before."""
    return f"smoke-new-{uuid.uuid4().hex[:12]}"


def odd_names() -> dict[str, str]:
    """New names that a parser could mistake for something else, by that: a number, a flag, a part of it."""
    number, word = uuid.uuid4().int, newcomer()
    return {
        "digits alone": f"{number}"[:12],
        "digits behind zeros": f"00{number}"[:12],
        "digits and an e": f"1{number % 10**8:08}e7",
        "hexadecimal digits": f"0x{number:032x}"[:14],
        "the letters of nft first": f"nft-{word}",
        "a hyphen first and an underscore last": f"-{word}_",
        "two of each sign": f"__{word}--",
        "capital letters": word.upper(),
        "a word for a value that is missing": "undefined",
    }


#: Total time for the builds of all services, and the maximum length of one.
BUILDS_WITHIN_S = 3.0
LONGEST_BUILD = 200


def builds(environment: Environment) -> dict[str, str]:
    """The build of every reachable service, an empty string for one that does not answer in time.

    The worker has no route to ask: its build is its image's tag, as ECS runs it.
    """
    asked: dict[str, Callable[[], str]] = {}
    trust = trust_of(environment)  # read by one thread for all
    for service in SERVICES:
        url = environment.get(f"{service}.url")
        if url and (service != "finn" or environment.finn.reachable):
            asked[service] = partial(
                build_of,
                url + address_of(environment, service).path(SERVICES[service].health),
                trust=trust,
                proxies=environment.live,
            )
    if environment.aws.region and environment.aws.prefix:
        asked["worker"] = partial(_worker_of, environment)
    found = _in_time(asked, BUILDS_WITHIN_S)
    return {name: found.get(name, "") for name in asked}


def spelled_as(before: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Builds, each spelled as before if it is the same one, because another task may abbreviate it."""
    known = {name: before.get(name, "") for name in found}
    return {name: known[name] if same_commit(known[name], build) else build for name, build in found.items()}


def _in_time(calls: Mapping[str, Callable[[], str]], seconds: float) -> dict[str, str]:
    """The results, by name, of the calls that end within this many seconds.

    The others are left running in threads that end with the process.
    """
    results: dict[str, str] = {}

    def run(name: str) -> None:
        results[name] = calls[name]()

    threads = [Thread(target=run, args=(name,), daemon=True, name=name) for name in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(results)


def build_of(url: str, *, proxies: bool, trust: ssl.SSLContext | None = None) -> str:
    """The build in the health report at ``url``; empty if there is none in time."""
    try:
        with http_pool("pytest-readiness-smoke", proxies=proxies, trust=trust) as http:
            response = http.get(url, timeout=within(BUILDS_WITHIN_S))
        body = parse_json(response, route_of(response))
    except (httpx.HTTPError, AssertionError, SetupError):
        return ""
    build = body.get("build_sha") if isinstance(body, Mapping) else None
    return build[:LONGEST_BUILD] if isinstance(build, str) else ""


def _worker_of(environment: Environment) -> str:
    try:
        return tag_of(image_in_use(account_of(environment), Names(environment.aws.prefix), "worker"))
    except (SetupError, ExternalOutage):
        return ""

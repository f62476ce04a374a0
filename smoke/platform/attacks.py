"""Attacks on the services: where forged tokens and bad requests go, and what counts as a refusal."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import httpx
from pytest_readiness import SafetyViolation, SetupError

from smoke.contract.intake import rating
from smoke.contract.model import USER, Access, Service

from .answers import (
    MISSING,
    UnexpectedStatus,
    body_text,
    claims_in,
    error_code,
    is_of_a_firewall,
    require_error,
    require_json_error,
    route_of,
)
from .backends import INVOKE_PATH as FINN_INVOKE
from .backends import Dixie, Finn, quality_signal
from .batch import mint_command
from .forgeries import Genuine
from .freeside import INVOKE_PATH, QUALITY_PATH, Freeside, cost_in, prompt_for
from .http import JSON_HEADERS, LEAST_PAUSES_S, MAX_REPEATS, Credential, wait
from .tokens import Claims, SigningKey, bearer, dixie_service_claims, finn_claims, req_hash, user_claims

T = TypeVar("T")

REFUSALS = (401, 403)
#: A verified token that was spent before: 409 by 1.1; Finn says 401 (2), and Dixie may (3).
REPLAYS = (401, 409)
UNKNOWN_MODEL = "smoke-no-such-model"
#: The agent that accepted tokens rate; no check reads its score.
RATED = "smoke-agent-rated"
#: The same for all, so that a token bound to its body can be tried again later.
PROMPT = "Reply with exactly this word and nothing else: smoke"


@dataclass(frozen=True, slots=True)
class Target:
    """A route under attack, with one kind of token. ``claims`` would be accepted if signed properly.

    The cost of an accepted call is entered in the run's journal.
    """

    access: Access
    at: Service
    claims: Callable[[], Claims]
    send: Callable[[Credential | None], httpx.Response]
    key: Callable[[], SigningKey]
    attacker: SigningKey
    body: bytes = b""
    #: Sends any body or routing key with other headers; None for a route without either.
    send_any: Callable[[bytes, Mapping[str, str], Credential | None], httpx.Response] | None = None
    others: Callable[[], tuple[SigningKey, ...]] = tuple

    @property
    def service(self) -> str:
        """The service of the route."""
        return self.access.service

    def genuine(self) -> Genuine:
        """The parts of a new token that would be accepted."""
        kind = replace(self.access.kind, issuer=self.at.issuer(self.access.kind))
        return Genuine(
            kind, self.at.audience, self.key(), self.claims(), self.attacker, self.body,
            others=self.others(),
        )  # fmt: skip

    def offer(self, header: str | None) -> httpx.Response:
        """The answer to an Authorization header; None for none."""
        return self.send(None if header is None else lambda: header)

    def signed(self, **changed: Any) -> Credential:
        """Fresh tokens, one for each send, with some claims changed."""
        return lambda: bearer(self.key(), self.claims() | changed)

    def mint(self, case: str = "", **changed: Any) -> str:
        """The command that makes a token again: of a case by its name, or a good one with other claims."""
        return mint_command(self.access.id, case, self.body, **changed)

    def accepted(self, **changed: Any) -> httpx.Response:
        """The answer to a new token that must be accepted."""
        return self.let_in(self.send(self.signed(**changed)))

    def let_in(self, answer: httpx.Response) -> httpx.Response:
        """The answer, which must not refuse its token; other errors do not concern tokens.

        A service without a model or without money has verified the token; a missing route verifies none.
        """
        if is_let_in(answer) and not is_of_a_gateway(answer):
            return answer
        got = f"{answer.status_code} {error_code(answer)}".strip()
        why = "is missing" if answer.status_code in MISSING else "refused a valid token"
        why = "is not reached" if is_of_a_gateway(answer) else why
        text = f"{route_of(answer)} {why}: expected {self.access.success}, got {got}"
        raise UnexpectedStatus(text, answer)

    def spent(self, **changed: Any) -> Claims:
        """The claims of a valid token that was accepted just now.

        Each send has its own token, because a rate-limited one may also be spent.
        """
        sent: list[Claims] = []

        def fresh() -> str:
            sent.append(self.claims() | changed)
            return bearer(self.key(), sent[-1])

        self.let_in(self.send(fresh))
        return sent[-1]

    def again(self, claims: Claims) -> httpx.Response:
        """The answer to a token of exactly these claims."""
        return self.offer(bearer(self.key(), claims))

    def first_offer(self, header: str) -> httpx.Response:
        """The answer to a header that was not sent before; LimitedToken if it met a rate limit."""
        return self.send(for_one_send(header))

    def first(self, claims: Claims) -> httpx.Response:
        """The same for a token of exactly these claims."""
        return self.first_offer(bearer(self.key(), claims))

    def send_invalid(
        self, body: bytes, headers: Mapping[str, str], key: SigningKey, jti: str
    ) -> httpx.Response:
        """The answer to an invalid body, with a token for it that ``key`` signs."""
        assert self.send_any is not None
        bound = {"req_hash": req_hash(body)} if self.access.kind.bound else {}
        token = bearer(key, self.claims() | bound | {"jti": jti})
        return self.send_any(body, headers, lambda: token)


class LimitedToken(Exception):
    """A token was rate-limited when it was first sent, so it may or may not be spent."""


def for_one_send(header: str) -> Credential:
    """An Authorization header that can be sent once; LimitedToken if it is sent again."""
    left = [header]

    def credential() -> str:
        if not left:
            raise LimitedToken
        return left.pop()

    return credential


def with_new_tokens(attempt: Callable[[], T], pause: Callable[[float], object] = wait) -> T:
    """The result of an attempt that makes its own tokens; repeated while one of them is rate-limited."""
    for least in LEAST_PAUSES_S:
        with suppress(LimitedToken):
            return attempt()
        pause(least)
    raise SetupError(
        f"{MAX_REPEATS} tokens in turn met a rate limit when they were sent for the first time; "
        "raise the limit of the smoke tenants or run less often"
    )


def mentions(response: httpx.Response, name: str, own: str) -> bool:
    """Whether a body contains a name, even in a longer text, but not as part of another name such as `own`.

    In a query that the body repeats, names follow an equals sign.
    """
    rest = body_text(response).replace(json.dumps(own), "")
    return re.search(rf"(?<![\w=-]){re.escape(json.dumps(name)[1:-1])}(?![\w-])", rest) is not None


def is_of_a_gateway(response: httpx.Response) -> bool:
    """Whether something in front of the service answered, such as a gateway: the answer has no code."""
    return response.status_code in (502, 503, 504) and not error_code(response)


def is_let_in(answer: httpx.Response) -> bool:
    """Whether an answer shows that its token was accepted: it is neither a refusal nor a redirect."""
    return not answer.is_redirect and answer.status_code not in (*REFUSALS, *REPLAYS, *MISSING)


def target_of(
    access: Access,
    client: Freeside | Finn | Dixie,
    key: Callable[[], SigningKey],
    tenant: str,
    agent: str,
    attacker: SigningKey,
) -> Target:
    """A target for a route. An accepted token spends money of ``tenant`` or reads ``agent``'s score."""
    at = client.http.address
    if isinstance(client, Dixie):
        sends = {
            "dixie.query": lambda token: client.query(f"nft:{agent}", token),
            "dixie.events": lambda token: client.post_event(quality_signal(RATED, 1.0), token),
        }
        claims = client.claims if access.kind is USER else partial(dixie_service_claims, at=at)
        invalid = {
            "dixie.query": lambda text, _, token: client.query(text.decode(), token),
            "dixie.events": lambda body, headers, token: client.post_event(
                body, token, JSON_HEADERS | headers
            ),
        }
        return Target(access, at, claims, sends[access.route], key, attacker, send_any=invalid[access.route])
    client.journal.open()
    if isinstance(client, Finn):
        body = client.body(PROMPT)
        call = _entered(client, tenant, partial(client.http.send, "POST", FINN_INVOKE, content=body))
        any_ = _any_body(client, FINN_INVOKE)
        return Target(access, at, partial(finn_claims, tenant, body, at=at), call, key, attacker, body, any_)
    body = json.dumps(client.invoke_body(prompt_for())).encode()
    streamed = {"Accept": "text/event-stream"}
    sends = {
        "freeside.invoke": _entered(
            client, tenant, partial(client.http.send, "POST", INVOKE_PATH, content=body)
        ),
        "freeside.stream": _entered(
            client,
            tenant,
            partial(client.http.send, "POST", client.dialects.stream_path, content=body),
            streamed,
        ),
        "freeside.models": client.models,
        "freeside.budget": lambda token: client.get_budget(tenant, token),
        "freeside.quality": lambda token: client.post_rating(rating(RATED, "good"), token),
    }
    admin = (
        {"role": "admin"} if access.route == "freeside.budget" and client.dialects.budget == "gateway" else {}
    )
    bodies = {
        "freeside.invoke": _any_body(client, INVOKE_PATH),
        "freeside.stream": _any_body(client, client.dialects.stream_path, streamed),
        "freeside.quality": _any_body(client, QUALITY_PATH),
    }
    return Target(
        access, at, lambda: user_claims(tenant, at=at) | admin, sends[access.route], key, attacker,
        send_any=bodies.get(access.route),
    )  # fmt: skip


def _any_body(
    client: Freeside | Finn, path: str, more: Mapping[str, str] | None = None
) -> Callable[[bytes, Mapping[str, str], Credential | None], httpx.Response]:
    """Posts bodies that are not valid requests: none is charged."""
    return lambda body, headers, credential: client.http.send(
        "POST", path, credential, headers={**JSON_HEADERS, **(more or {}), **headers}, content=body
    )


def _entered(
    client: Freeside | Finn,
    tenant: str,
    post: Callable[..., httpx.Response],
    more: Mapping[str, str] | None = None,
) -> Callable[[Credential | None], httpx.Response]:
    """Posts a call with any credential; a 200 is entered in the journal as a charge of ``tenant``."""

    def send(credential: Credential | None) -> httpx.Response:
        key = str(uuid.uuid4())
        headers = {**JSON_HEADERS, "X-Idempotency-Key": key, **(more or {})}
        response = post(credential=credential, headers=headers)
        if response.status_code == 200:
            client.journal.learn(tenant, key, cost_in(response))
        return response

    return send


def require_refused(
    response: httpx.Response, service: str, what: str, statuses: tuple[int, ...] = REFUSALS, rule: str = ""
) -> None:
    """Assert a refusal with a JSON error; SafetyViolation if the service accepted.

    ``rule`` is the contract's name of the rule that is broken if the service does not refuse.
    """
    breaks = f"{service}: {rule}" if rule else ""
    got = f"{response.status_code} {error_code(response)}".strip()
    if response.is_success:
        raise SafetyViolation(
            f"{service} accepted {what}: {route_of(response)} answered {got}", breaks=breaks
        )
    if is_of_a_firewall(response):
        return
    if response.status_code not in statuses:
        expected = " or ".join(map(str, statuses))
        text = f"{route_of(response)}: {what}: expected {expected}, got {got}"
        raise UnexpectedStatus(text, response, breaks)
    require_json_error(response)


def require_spent(response: httpx.Response, service: str, what: str) -> None:
    """Assert that a token was refused for being spent; a 409 must carry its code, Dixie's in lower case.

    Freeside has no other status for it: with a 409, a client makes a new token and tries again (1.1). Only a
    token that has ended in the meantime may also get a 401.
    """
    end = claims_in(response.request).get("exp")
    ended = isinstance(end, int | float) and end <= time.time()
    statuses = REPLAYS if ended or service != "freeside" else (409,)
    require_refused(response, service, what, statuses)
    if response.status_code == 409:
        code = "JTI_REPLAY"
        require_error(response, 409, code.lower() if error_code(response) == code.lower() else code)

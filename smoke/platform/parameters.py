"""Parameters of checks: services, routes with a kind of token, and routes to a model behind one interface."""

from __future__ import annotations

import json
import tomllib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import pytest
from pytest_readiness import SafetyViolation

from smoke.contract.model import CALL_BODIES, DIRECT_CALL, POOLS, SERVICE, SERVICES, Access, Schema, accesses
from smoke.contract.schemas import USAGE

from .answers import fields_of
from .backends import Finn
from .batch import answering
from .freeside import Freeside, is_replay, prompt_tokens_in, spoken

#: Requirements of a check that signs as Finn.
_OF_FINN = [pytest.mark.requires("finn", "finn_key"), pytest.mark.p1]


def requires(service: str, *, finn_covered_by: str = "") -> pytest.MarkDecorator:
    """The requirements of a check of one service: the service itself.

    Finn cannot be reached from outside the VPC, where the check ``finn_covered_by`` may prove the same.
    """
    if service == "finn" and finn_covered_by:
        return pytest.mark.requires(service, covered_by=finn_covered_by)
    return pytest.mark.requires(service)


def first_access(service: str) -> Access:
    """The first token route of a service: rules about its tokens on all routes are tried there."""
    return next(access for access in accesses() if access.service == service)


def controlled(service: str) -> pytest.MarkDecorator:
    """The control of a refusal: the service accepts the same request with a good token."""
    return pytest.mark.control(f"{ACCEPTED}[{first_access(service).id}]")


def way_in(access: str) -> list[pytest.MarkDecorator]:
    """The requirements of a check that sends tokens to a route: it exists and accepts valid tokens."""
    return [pytest.mark.requires(access), pytest.mark.control(f"{ACCEPTED}[{access}]")]


ACCEPTED = "auth/valid-token-is-accepted"
SPENT_ONCE = "auth/token-is-spent-once"


def each_access(
    check: str,
    *,
    severity: pytest.MarkDecorator = pytest.mark.p0,
    control: str = ACCEPTED,
    of: Iterable[str] = (),
    money: bool = False,
) -> list[Any]:
    """Every token route, or the named ones, as the parameter `access` of the check with that id.

    Freeside's first one covers Finn's inside the VPC. Checks of Finn's tokens at Dixie are P1, like those
    routes. A refusal counts if the check ``control`` passed for the same route. ``ACCEPTED`` itself needs no
    control: it establishes the route, under its id; ``SPENT_ONCE`` establishes that a token was spent there,
    which checks that repeat the token require. With ``money``, budgets are compared if calls cost something.
    """
    chosen = [access for access in accesses() if not of or access.id in of]
    first = next(access for access in chosen if access.service == "freeside")
    return [
        pytest.param(
            access,
            id=access.id,
            marks=[
                requires(access.service, finn_covered_by=f"{check}[{first.id}]"),
                *(_OF_FINN if access.kind is SERVICE else [severity]),
                *(_resting_on(check, control, access)),
                *([pytest.mark.requires("budget")] if money and access.service != "dixie" else []),
            ],
        )
        for access in chosen
    ]


def _resting_on(check: str, control: str, access: Access) -> list[pytest.MarkDecorator]:
    if check == ACCEPTED:
        budget = [pytest.mark.requires("budget")] if access.route == "freeside.budget" else []
        return [pytest.mark.establishes(access.id), *budget]
    token = f"{access.id}.spent-token"
    return [
        pytest.mark.requires(access.id, *([token] if control == SPENT_ONCE else [])),
        pytest.mark.control(f"{control}[{access.id}]"),
        *([pytest.mark.establishes(token)] if check == SPENT_ONCE else []),
    ]


def each(
    *names: str,
    finn_covered_by: str = "",
    marks: Callable[[str], Iterable[pytest.MarkDecorator]] = lambda _: (),
) -> list[Any]:
    """The named services, all by default, as parameters of a check, each with its requirements."""
    return [
        pytest.param(name, marks=[requires(name, finn_covered_by=finn_covered_by), *marks(name)])
        for name in names or SERVICES
    ]


class Delivery(NamedTuple):
    """How a body is sent: with which headers, method and query."""

    headers: Mapping[str, str | bytes]
    method: str
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Way:
    """One route that answers calls. Accepted calls enter the run's journal as charges."""

    route: str
    schema: Schema
    #: The members of its body with the prompt and with the pool, if any.
    prompt: str
    pool: str
    _body: Callable[[str, str, str | None], dict[str, Any]]
    _post: Callable[..., httpx.Response]

    @property
    def streamed(self) -> bool:
        """Whether it answers with events."""
        return self.route == "freeside.stream"

    @property
    def direct(self) -> bool:
        """Whether it is Finn's route: the token is bound to the body and names the pool; no keys exist."""
        return self.route == "finn.invoke"

    def body(self, prompt: str, pool: str = POOLS[0], agent: str | None = None) -> dict[str, Any]:
        """A good body; the token names the pool if the route's body cannot."""
        return self._body(prompt, pool, agent)

    def own(self, pool: str) -> dict[str, Any]:
        """The claims of a token that requests a pool if the body cannot."""
        return {"pool_id": pool} if self.direct else {}

    def conversation(self, prompt: str) -> dict[str, Any]:
        """A good body with messages of each role before the prompt; empty if bodies hold a single prompt."""
        body = self.body(prompt)
        if self.prompt != "messages":
            return {}
        before = (
            ("system", "Be brief."),
            ("user", "One."),
            ("assistant", "Yes."),
            ("user", "Two."),
            ("assistant", "Yes."),
        )
        talk = [{"role": role, "content": content} for role, content in before]
        return body | {"messages": [*talk, *body["messages"]]}

    def encoded(self, body: Mapping[str, Any]) -> bytes:
        """A body as it is sent."""
        return json.dumps(body).encode()

    def post(
        self,
        body: bytes | Sequence[bytes] | Mapping[str, Any],
        tenant: str,
        *,
        key: str | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        method: str = "POST",
        params: Mapping[str, str] | None = None,
        **claims: Any,
    ) -> httpx.Response:
        """The answer to a body, of any status; ``claims`` change those of the token."""
        content = self.encoded(body) if isinstance(body, Mapping) else body
        sent = Delivery(headers or {}, method, params or {})
        return self._post(content, tenant, key or str(uuid.uuid4()), sent, claims)

    def content(self, answer: httpx.Response) -> str:
        """What the model answered, all pieces joined."""
        if self.streamed:
            return run_of(answer)[0]
        return fields_of(answer).text("response" if self.direct else "content")

    def prompt_tokens(self, answer: httpx.Response) -> int:
        """How many tokens the prompt had, as the answer declares."""
        if self.direct:
            return fields_of(answer).object("usage").integer("prompt_tokens")
        return prompt_tokens_in(answer)


def freeside_way(freeside: Freeside, *, streamed: bool) -> Way:
    """Freeside's invoke, or its stream."""

    def post(
        content: bytes | Sequence[bytes], tenant: str, key: str, sent: Delivery, claims: Mapping[str, Any]
    ) -> httpx.Response:
        return freeside.post_invoke(
            content, tenant=tenant, credential=freeside.credential(tenant, **claims), key=key,
            headers=sent.headers, method=sent.method, params=sent.params, streamed=streamed,
        )  # fmt: skip

    dialect = freeside.dialects.invoke
    return Way(
        "freeside.stream" if streamed else "freeside.invoke", CALL_BODIES[dialect],
        *(("messages", "modelAlias") if dialect == "messages" else ("prompt", "model")),
        lambda prompt, pool, agent: freeside.invoke_body(prompt, model=pool, agent=agent), post,
    )  # fmt: skip


def finn_way(finn: Finn) -> Way:
    """Finn's invoke."""

    def post(
        content: bytes | Sequence[bytes], tenant: str, _: str, sent: Delivery, claims: Mapping[str, Any]
    ) -> httpx.Response:
        raw = content if isinstance(content, bytes) else b"".join(content)
        return finn.post_invoke(
            content, tenant=tenant, credential=finn.credential(tenant, raw, **claims),
            headers=sent.headers, method=sent.method, params=sent.params,
        )  # fmt: skip

    body = lambda prompt, _, agent: {"agent": agent or finn.agent, "prompt": prompt}  # noqa: E731
    return Way("finn.invoke", DIRECT_CALL, "prompt", "", body, post)


#: The capability of Freeside's routes to a model: calls are answered there.
ANSWERS = {"freeside.invoke": "invoke", "freeside.stream": "stream"}
#: Freeside's routes to a model as parameters of a check; and all of them, for a fact that another check
#: covers.
OF_FREESIDE = [
    pytest.param(route, id=route, marks=pytest.mark.requires(route, answers))
    for route, answers in ANSWERS.items()
]


def all_ways(covered_by: str = "") -> list[Any]:
    """Every route to a model; direct calls need a runner that reaches Finn."""
    needs = {"covered_by": covered_by} if covered_by else {}
    return [
        *OF_FREESIDE,
        pytest.param(
            "finn.invoke", id="finn.invoke", marks=pytest.mark.requires("finn", "finn.invoke", **needs)
        ),
    ]


def run_of(answer: httpx.Response) -> list[str]:
    """The parts of an answer that distinguish one run of the model from another: content and usage."""
    content, usage = spoken(answer)
    return [content, json.dumps([[each.get(name) for name in USAGE["required"]] for each in usage])]


def require_no_run(run: list[str], answer: httpx.Response) -> None:
    """SafetyViolation unless an answer is the stored one of that run, or a refusal for its key."""
    answering(200, 409)(answer)
    if answer.status_code != 200:
        return
    if not is_replay(answer.headers):
        raise SafetyViolation("an answered key got an answer without X-Idempotent-Replay: true (1.2)")
    if run_of(answer) != run:
        raise SafetyViolation("a key got an answer other than the stored one (1.2)")


def plan_of(config: pytest.Config) -> dict[str, Any]:
    """The launch plan, for parameters: no fixture can be read while checks are collected."""
    return tomllib.loads((config.rootpath / "readiness.toml").read_text("utf-8"))

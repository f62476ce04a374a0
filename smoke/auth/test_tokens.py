"""G-2, phase auth: every route accepts valid tokens up to the limits of their times, and no forgery."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import httpx
import pytest
from pytest_readiness import Environment, Evidence, SetupError

from smoke.contract.model import USER, Access, accesses
from smoke.contract.neighbours import Near, own_pool_elsewhere, strings
from smoke.contract.verifier import Times, times
from smoke.platform.answers import require_status
from smoke.platform.attacks import (
    REFUSALS,
    LimitedToken,
    Target,
    require_refused,
    require_spent,
    with_new_tokens,
)
from smoke.platform.backends import Dixie, Finn
from smoke.platform.batch import Batch, Case
from smoke.platform.forgeries import (
    ENCODINGS,
    Forgery,
    Genuine,
    altered,
    forgeries,
    one_of_each,
    sendable,
    thinned,
    varieties,
)
from smoke.platform.freeside import Freeside, Tenants
from smoke.platform.http import same_clock, shares_clock
from smoke.platform.parameters import each_access

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("auth"),
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]
#: How far a service's clock may differ from this runner's.
CLOCKS_S = 10.0
#: How often a token close to a limit is sent until it stays on the intended side during the exchange.
ATTEMPTS = 20
#: How many of these attempts use the limit itself.
EXACT_ATTEMPTS = 5


def cases(target: Target, environment: Environment, *, inside: bool) -> list[Case]:
    """The cases for every limit, from one side, at a target."""
    clocks_s = 0.0 if shares_clock(environment, target.service) else CLOCKS_S
    named = [each for each in times(0.0, clocks_s=clocks_s) if each.inside is inside]
    usual = target.accepted().status_code if inside else 0

    def judge(answer: httpx.Response, rule: str) -> None:
        if inside:
            require_status(answer, usual)
        else:
            require_refused(answer, target.service, "a token beyond a limit of its times", rule=rule)

    return [
        Case(
            each.name,
            f"times {'within' if inside else 'beyond'} their limits at {target.access.id}",
            partial(_on_its_side, target, each.name, clocks_s),
            partial(judge, rule=each.rule),
            partial(target.mint, each.name),
        )
        for each in named
    ]


def _on_its_side(target: Target, name: str, clocks_s: float) -> httpx.Response:
    """The answer to a token that stayed on the intended side of the limit until it was answered.

    If none of the first answers arrives within the same second, later values are as far from the limit as
    answers take. If the service's clock differs from this runner's, they are as far away as clocks may
    differ.
    """
    took: list[float] = []
    for _ in range(ATTEMPTS):
        slack_s = math.ceil(max(took)) + 1 if len(took) >= EXACT_ATTEMPTS else 0
        found = _named(name, clocks_s + slack_s)
        began, sent = time.monotonic(), time.time()
        answer = with_new_tokens(partial(_of_now, target, found))
        took.append(time.monotonic() - began)
        if not clocks_s and not same_clock(answer, sent):
            clocks_s = CLOCKS_S
        elif took[-1] < slack_s or found.claims.items() <= _named(name, clocks_s + slack_s).claims.items():
            return answer
    raise SetupError(
        f"answers took up to {max(took):.1f} s, {ATTEMPTS} times: limits cannot be tested to the second"
    )


def _of_now(target: Target, found: Times) -> httpx.Response:
    return target.first(target.claims() | dict(found.claims))


def _named(name: str, clocks_s: float) -> Times:
    return next(each for each in times(time.time(), clocks_s=clocks_s) if each.name == name)


@pytest.mark.parametrize(
    "access", each_access("auth/times-within-limits-are-accepted", severity=pytest.mark.p1)
)
def test_times_within_limits_are_accepted(
    target: Target, access: Access, environment: Environment, batch: Batch
) -> None:
    """A token from a clock 30 s off is accepted, and one with a lifetime of an hour."""
    batch.run(cases(target, environment, inside=True))


@pytest.mark.parametrize(
    "access", each_access("auth/times-beyond-limits-are-refused", severity=pytest.mark.p1)
)
def test_times_beyond_limits_are_refused(
    target: Target, access: Access, environment: Environment, batch: Batch
) -> None:
    """A token from a clock further off is refused, and one with a lifetime a second longer."""
    batch.run(cases(target, environment, inside=False))


Forged = Callable[[Target], list[Forgery]]
#: Forged tokens of this age are replaced: they must not be refused for being old.
OLD_S = 60.0


@pytest.fixture(scope="session")
def forged() -> Forged:
    """The forgeries for a target: routes of one service and token kind share them while they are fresh."""
    kept: dict[tuple[str, str], tuple[float, list[Forgery]]] = {}

    def forged(target: Target) -> list[Forgery]:
        of = (target.service, target.access.kind.name)
        if target.access.kind.bound or of not in kept or time.monotonic() - kept[of][0] > OLD_S:
            kept[of] = (time.monotonic(), forgeries(target.genuine()))
        return kept[of][1]

    return forged


#: Rules that another encoding of an honest token breaks: about form, not about proof.
FORMS = ("encoding",)
#: Finn answers 400 (hash mismatch) to a token that is not bound to its request.
BINDING = "binding"
#: The routes on which every neighbour is tried; a service's other routes get only some.
THOROUGH = ("freeside.invoke", "finn.invoke", "dixie.query-user", "dixie.query-service")
ELSEWHERE_EVERY = 8
FIRST = THOROUGH[:3]
#: Letters of prompts to which a direct call's token is bound: more than a first block or read.
LENGTHS = (2_000, 20_000)
#: This many refusals precede the check that good tokens still pass.
REFUSED = 6
#: Suffix of the name of a case that changes such a token.
ACCEPTED = ", in a token that was accepted"
#: The cheapest route of each service for what is accepted.
CHEAPEST = ("freeside.models", "finn.invoke", "dixie.query-user")
#: One of them requires the role admin in another dialect.
EQUIVALENT = (*CHEAPEST, "freeside.budget")
#: The targets that take a user's token and know pools.
OF_USERS = [access.id for access in accesses() if access.kind is USER and access.service == "freeside"]


def case_of(target: Target, forgery: Forgery, of: str = "") -> Case:
    """The case that a target refuses a forgery made ``of`` an honest token."""
    unbound = forgery.rule == BINDING or forgery.name.startswith("req_hash")
    statuses = (*REFUSALS, 400) if unbound else REFUSALS
    return Case(
        f"{forgery.name}{of}",
        f"{forgery.rule}{of} at {target.access.id}",
        partial(target.offer, forgery.header),
        lambda answer: require_refused(
            answer, target.service, f"a token ({forgery.name})", statuses, forgery.rule
        ),
        partial(target.mint, forgery.name),
    )


@pytest.mark.parametrize("access", each_access("auth/valid-token-is-accepted"))
def test_valid_token_is_accepted(target: Target, access: Access, evidence: Evidence) -> None:
    """The positive control: without it, the route might simply refuse everything."""
    evidence.exchange(target.accepted())


@pytest.mark.parametrize("access", each_access("auth/forged-token-is-refused", money=True))
def test_forged_token_is_refused(
    target: Target,
    access: Access,
    forged: Forged,
    batch: Batch,
    freeside: Freeside,
    tenants: Tenants,
    evidence: Evidence,
) -> None:
    """A credential that breaks one rule of tokens gets 401 or 403 with a JSON error, and costs nothing.

    So does a forgery with the signature of a token that was just accepted: the signature is valid for that
    token only.
    """

    def accept() -> tuple[Genuine, str]:
        genuine = target.genuine()
        token = genuine.token()
        target.let_in(target.first_offer(f"Bearer {token}"))
        return genuine, token

    genuine, accepted = with_new_tokens(accept)
    every = 1 if access.id in THOROUGH else ELSEWHERE_EVERY
    found = [forgery for forgery in forged(target) if forgery.rule not in FORMS]
    watch = None if access.service == "dixie" else freeside.watch(tenants.main, evidence)
    batch.run(
        [
            *(case_of(target, forgery) for forgery in thinned(found, every)),
            *(case_of(target, forgery, ACCEPTED) for forgery in altered(genuine, accepted)),
        ]
    )
    if watch is not None:
        watch.unchanged(f"forged tokens at {access.id}")


@pytest.mark.p0
@pytest.mark.requires("finn", "finn.invoke", covered_by="auth/forged-token-is-refused[freeside.invoke]")
@pytest.mark.control("auth/valid-token-is-accepted[finn.invoke]")
@pytest.mark.parametrize("length", LENGTHS)
def test_token_is_bound_to_all_of_its_body(
    finn: Finn, tenants: Tenants, length: int, evidence: Evidence
) -> None:
    """The hash covers the full body, however long: one more space makes it another body (2)."""
    body = finn.body("x" * length)
    credential = finn.credential(tenants.main, body)
    others = {
        "with its last letter changed": body[:-3] + b"y" + body[-2:],
        "with an additional line break": body + b"\n",
    }
    for name, other in others.items():
        answer = finn.post_invoke(other, tenant=tenants.main, credential=credential)
        evidence.exchange(answer)
        what = f"a token for another body of {len(body)} bytes, {name}"
        require_refused(answer, "finn", what, (*REFUSALS, 400), BINDING)


@pytest.mark.parametrize(
    "access", each_access("auth/token-in-another-encoding-is-refused", severity=pytest.mark.p1)
)
def test_token_in_another_encoding_is_refused(target: Target, access: Access, batch: Batch) -> None:
    """Base64 that RFC 7515 does not allow is refused, even if the signature covers it."""
    found = forgeries(target.genuine(), ENCODINGS)
    batch.run([case_of(target, forgery) for forgery in found if forgery.rule in FORMS])


@pytest.mark.parametrize(
    "access", each_access("auth/equivalent-token-is-accepted", severity=pytest.mark.p1, of=EQUIVALENT)
)
def test_equivalent_token_is_accepted(target: Target, access: Access, batch: Batch) -> None:
    """A valid token is accepted, once, in every legal spelling of its JSON, for every caller."""
    usual, tokens = target.accepted().status_code, _varieties(target)

    def attempt(name: str) -> httpx.Response:
        try:
            return target.first_offer(tokens[name])
        except LimitedToken:
            tokens[name] = _varieties(target)[name]
            raise

    def accepted(name: str) -> Case:
        return Case(
            name,
            f"a valid token is accepted at {access.id}",
            partial(with_new_tokens, partial(attempt, name)),
            lambda answer: require_status(answer, usual),
            partial(target.mint, name),
        )

    def spent(name: str) -> Case:
        return Case(
            name,
            f"a token counts once at {access.id}",
            partial(target.offer, tokens[name]),
            lambda answer: require_spent(answer, access.service, "a token that it accepted just now"),
            partial(target.mint, name),
        )

    batch.run([accepted(name) for name in tokens])
    batch.run([spent(name) for name in tokens])


def _varieties(target: Target) -> dict[str, str]:
    return {near.name: str(near.value) for near in varieties(target.genuine())}


@pytest.mark.p0
@pytest.mark.requires("dixie_key")
def test_near_api_key_is_refused(dixie: Dixie, agent: str, environment: Environment, batch: Batch) -> None:
    """Only the exact API key that Dixie issued passes, no similar one.

    More than one space may stand before a credential (RFC 9110): that is the key itself.
    """
    key = environment.secret("dixie.api_key")
    client = dixie.unrecorded()
    sent = [near for near in strings(key) if near.value.strip() != key and sendable(f"Bearer {near.value}")]
    require_status(client.query(f"nft:{agent}", lambda: f"Bearer {key}"), 200)
    batch.run(
        [
            Case(
                near.name,
                "an API key that was never issued is refused at dixie.query",
                lambda near=near: client.query(f"nft:{agent}", lambda: f"Bearer {near.value}"),  # type: ignore[misc]
                lambda answer: require_refused(answer, "dixie", "an API key that was never issued"),
            )
            for near in [
                *sent,
                Near("its beginning alone", key[:4]),
                Near("another", "dxk_smoke_never_given_out"),
            ]
        ]
    )


@pytest.mark.parametrize(
    "access", each_access("auth/own-pool-is-one-of-the-tokens", severity=pytest.mark.p1, of=OF_USERS)
)
def test_own_pool_is_one_of_the_tokens(target: Target, access: Access, batch: Batch) -> None:
    """A token whose pool_id is outside its effective pools is refused, whatever pool is asked for (1.1)."""
    found = [*own_pool_elsewhere()]
    batch.run(
        [
            Case(
                near.name,
                f"a token's own pool is one of its effective pools at {access.id}",
                partial(target.send, target.signed(**near.value)),
                partial(require_refused, service="freeside", what=f"a token ({near.name})", rule="own-pool"),
                partial(target.mint, **near.value),
            )
            for near in (found if access.id in CHEAPEST else found[::ELSEWHERE_EVERY])
        ]
    )


@pytest.mark.parametrize("access", each_access("auth/valid-token-is-still-accepted", of=FIRST))
def test_valid_token_is_still_accepted(target: Target, access: Access, evidence: Evidence) -> None:
    """The positive control again: refusing forgeries did not lock valid tokens out."""
    for forgery in one_of_each(target.genuine())[:REFUSED]:
        case_of(target, forgery).judge(target.offer(forgery.header))
    evidence.exchange(target.accepted())

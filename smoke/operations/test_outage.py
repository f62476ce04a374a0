"""G-4, phase operations: the model provider or the facilitator is cut off, and comes back."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence, SetupError

from smoke.contract.x402 import header_of
from smoke.platform.answers import error_code, require_status
from smoke.platform.batch import answering
from smoke.platform.chaos import TrackedCall, answered, require_provider_outage, take_down
from smoke.platform.freeside import Freeside, Tenants, cost_in, nonce, prompt_for
from smoke.platform.parameters import Way, all_ways, require_no_run, run_of
from smoke.platform.x402 import Balances, FundedWallet, PaidRoute, receipt_of, require_own_answer

pytestmark = [
    pytest.mark.goal("G-4"),
    pytest.mark.phase("operations"),
    pytest.mark.p1,
    pytest.mark.drill,
    pytest.mark.requires("freeside", "key", "signing", "budget", "invoke"),
    pytest.mark.usefixtures("alone"),
    pytest.mark.timeout(180),
    pytest.mark.flaky(reruns=0),
]

PROVIDER, FACILITATOR = "provider", "facilitator"
CutOff = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def cut_off(http: httpx.Client, environment: Environment) -> CutOff:
    """Cuts a third party off inside a block, by the control URLs of its section in the profile."""

    def order(party: str, name: str) -> None:
        if refusal := take_down(http, party, environment.get(f"{party}.{name}"), name):
            raise SetupError(refusal)

    @contextmanager
    def away(party: str) -> Iterator[None]:
        try:
            order(party, "stop_url")
            yield
        finally:
            order(party, "start_url")

    return away


@pytest.mark.requires("outage_provider")
@pytest.mark.parametrize("route", all_ways())
def test_calls_without_the_provider(
    route: str,
    ways: Callable[[str], Way],
    cut_off: CutOff,
    freeside: Freeside,
    tenants: Tenants,
    environment: Environment,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """While the model provider is down, a call ends in the error that says so, and costs nothing (1.3).

    Stored answers are still replayed. Afterwards, the call's key can be used for it. A platform with a
    fallback provider answers.
    """
    way, tenant, key, word = ways(route), tenants.main, str(uuid.uuid4()), nonce()
    before = way.body(prompt_for())
    first = require_status(way.post(before, tenant, key=key), 200)
    watch = freeside.watch(tenant, evidence)
    call = TrackedCall(word, partial(way.post, way.body(prompt_for(word)), tenant, key=str(uuid.uuid4())))
    with cut_off(PROVIDER):
        outcome = call.attempt()
        evidence.note(f"without the provider: {outcome.outcome}")
        if not answered(outcome):
            require_provider_outage(route, outcome)
            watch.unchanged("a call that the provider did not answer")
        if not way.direct:
            require_no_run(run_of(first), way.post(before, tenant, key=key))
    if not answered(outcome):
        eventually(
            lambda: answered(call.attempt()),
            within=environment.limits.recovery_s,
            what="the call is answered under its key, with the provider back",
        )
    assert call.last.answer is not None
    assert word in way.content(call.last.answer), f"{route}: the answer is not for the prompt"
    watch.charged([cost_in(call.last.answer)])


@pytest.mark.goal("G-6")
@pytest.mark.requires("x402", "chain", "payment")
@pytest.mark.parametrize(
    "party",
    [pytest.param(each, marks=pytest.mark.requires(f"outage_{each}")) for each in (PROVIDER, FACILITATOR)],
)
def test_payments_without(
    party: str,
    cut_off: CutOff,
    paid: PaidRoute,
    wallet: FundedWallet,
    balances: Balances,
    freeside: Freeside,
    tenants: Tenants,
    environment: Environment,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """A payment whose call failed because of a third party moves nothing; no answer is free (1.3, 1.6).

    If no model answered, the payment can be used for its call afterwards. Without the facilitator, calls
    charged to a budget are answered as usual.
    """
    word, header = nonce(), header_of(paid.payment(wallet))
    pay = partial(paid.post, header, word=word)
    with cut_off(party):
        answer = pay()
        evidence.note(f"without the {party}: {answer.status_code} {error_code(answer)}".strip())
        if party == FACILITATOR:
            freeside.invoke(tenants.main, prompt_for())
        if answer.status_code != 200:
            answering(402, 502, 503)(answer)
            balances.require_moved(0, f"a call without the {party}")
    later = header if party == PROVIDER else header_of(paid.payment(wallet))
    calls = 1
    if answer.status_code != 200:
        eventually(
            lambda: paid.post(later, word=word).status_code == 200,
            within=environment.limits.recovery_s,
            what=f"a payment is answered, with the {party} back",
        )
        # a service that ran the model before being paid need not run it again: this payment may count as used
        calls += party == FACILITATOR and pay().status_code == 200
    else:
        require_own_answer(answer, word)
        receipt_of(answer)
    balances.require_moved(paid.terms.price * calls, f"{calls} calls that were answered")

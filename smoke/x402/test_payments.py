"""G-6, phase x402: unpaid calls get terms; payments are answered once and settled; bad ones move nothing."""

import json
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import pytest
from pytest_readiness import Environment, Eventually, Evidence, SafetyViolation, SetupError

from smoke.contract.intake import longest_name
from smoke.contract.model import CALL_BODIES, POOLS
from smoke.contract.neighbours import bad_bodies, bad_sizes
from smoke.contract.x402 import (
    BadPayment,
    Terms,
    again,
    bad_payments,
    header_of,
    near_nonces,
    refused_with,
    signed_by,
    terms_of,
    unreadable,
)
from smoke.platform.answers import ContractViolation, fields_of, json_of, require_json_error, require_status
from smoke.platform.backends import Dixie
from smoke.platform.batch import Batch, Case, answering, at_once
from smoke.platform.freeside import Freeside, Tenants, cost_in, is_replay, nonce, prompt_for
from smoke.platform.invariants import I7
from smoke.platform.scores import EVERY_S
from smoke.platform.x402 import (
    SHOWN_WITHIN_S,
    Balances,
    Chain,
    FundedWallet,
    PaidRoute,
    Wallet,
    receipt_of,
    require_own_answer,
    signing_alone,
    transferred,
)


@pytest.fixture(scope="session")
def penniless() -> Wallet:
    """A key without money."""
    return Wallet.throwaway()


@pytest.fixture(scope="session")
def refused_agent() -> str:
    """An agent named only by calls that must be refused."""
    return f"smoke-x402-{secrets.token_hex(6)}"


pytestmark = [
    pytest.mark.goal("G-6"),
    pytest.mark.phase("x402"),
    pytest.mark.p1,
    pytest.mark.requires("freeside"),
    pytest.mark.usefixtures("alone"),
]

#: The capabilities that a paying check needs.
PAYING = pytest.mark.requires("x402", "chain", "payment")
#: Calls with one payment at the same time.
AT_ONCE = 4
#: The padding before the question of a long prompt.
PADDING = 2000
#: Letters of two and of four bytes, which have a single normal form.
MARKS = "-\N{GREEK SMALL LETTER OMEGA}\N{ROCKET}"


@pytest.mark.establishes("x402")
def test_payment_is_required(paid: PaidRoute, evidence: Evidence) -> None:
    """A call without a payment is answered with 402 and the complete terms of the contract."""
    terms = paid.terms
    evidence.figure("price of a call", terms.price, f"of {terms.name}'s smallest unit")
    evidence.figure("network of the terms", terms.network, expected="base-sepolia")


@pytest.mark.requires("x402")
def test_unreadable_payment_is_refused(paid: PaidRoute, batch: Batch) -> None:
    """A header that does not parse gets 400; one that parses but is not a payment gets 400 or 402."""
    rule, quiet = "a header that does not parse is a 400 (1.6)", paid.unrecorded()
    batch.run(
        [
            Case(f"x402: {bad.name}", rule, partial(quiet.post, bad.header), answering(*bad.statuses))
            for bad in unreadable()
        ]
    )


@pytest.mark.requires("x402", "chain")
def test_terms_name_the_token(paid: PaidRoute, chain: Chain, evidence: Evidence) -> None:
    """The asset in the terms is a contract on that chain, with the name and version that payers sign."""
    terms = paid.terms
    evidence.figure("chain", chain.chain_id, expected=terms.chain_id)
    if chain.chain_id != terms.chain_id:
        raise SetupError(f"[x402] rpc_url serves chain {chain.chain_id}, the terms are for {terms.chain_id}")
    assert chain.has_code(terms.asset), f"there is no contract at the asset {terms.asset}"
    name, version = chain.token(terms.asset)
    evidence.figure("asset", f"{name} {version}", expected=f"{terms.name} {terms.version}")
    assert (name, version) == (terms.name, terms.version), f"the token signs as {name!r} {version!r}"


@pytest.mark.establishes("payment")
@pytest.mark.requires("x402", "chain", "invoke")
def test_official_client_is_answered(paid: PaidRoute, wallet: FundedWallet) -> None:
    """The x402 project's own client understands the terms, and its payment is answered with a receipt."""
    with signing_alone():
        from x402 import x402ClientSync
        from x402.http import x402HTTPClientSync
        from x402.mechanisms.evm.exact.v1.client import ExactEvmSchemeV1

    challenge, word = paid.challenge(), nonce()
    terms = terms_of(json_of(challenge))  # what it pays is counted, not what another challenge asks for
    client = x402ClientSync().register_v1(terms.network, ExactEvmSchemeV1(wallet.account))
    client.set_spend_controls(False)  # it knows a few tokens only; the wallet's own cap holds
    wallet.require(terms.price, terms.asset)
    wallet.admit(terms.price)
    headers, _ = x402HTTPClientSync(client).handle_402_response(
        dict(challenge.headers), challenge.content, str(challenge.request.url)
    )
    answer = paid.post(headers["X-PAYMENT"], word=word)
    require_own_answer(answer, word)
    receipt = receipt_of(answer)
    assert receipt.payer.lower() == wallet.address.lower(), f"the receipt is for {receipt.payer}"
    assert receipt.network == terms.network, f"the receipt is of the network {receipt.network}"


@PAYING
def test_payment_is_settled(
    paid: PaidRoute,
    wallet: FundedWallet,
    balances: Balances,
    chain: Chain,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """The receipt's transaction moved exactly the price from payer to payee, and used the nonce."""
    terms, payment = paid.terms, paid.payment(wallet)
    began = time.monotonic()
    receipt = receipt_of(require_status(paid.post(header_of(payment)), 200))
    evidence.figure("a paid call", round((time.monotonic() - began) * 1000), "ms")
    shown = partial(chain.receipt, receipt.transaction)
    found = eventually(shown, within=SHOWN_WITHIN_S, what="the transaction is on the chain") or {}
    assert found["status"] == "0x1", f"the transaction failed: its status is {found['status']}"
    moved = transferred(found, terms, payment["payload"]["authorization"])
    evidence.figure("moved by the transaction", moved, expected=terms.price)
    assert moved == terms.price, f"the transaction moved {moved} to the payee, but the price is {terms.price}"
    assert chain.used(terms.asset, wallet.address, payment["payload"]["authorization"]["nonce"]), (
        "on the chain, the payment's nonce is still unused"
    )
    balances.require_moved(terms.price, "one paid call")


@PAYING
def test_used_payment_is_refused(
    paid: PaidRoute, wallet: FundedWallet, balances: Balances, batch: Batch
) -> None:
    """A used payment is refused with the same or another body, in any spelling."""
    payment = paid.payment(wallet)
    content = paid.content()
    require_status(paid.post(header_of(payment), content=content), 200)
    rule, quiet = "a used payment is a 402 (1.6)", paid.unrecorded()
    cases = [Case("same body", rule, lambda: quiet.post(header_of(payment), content=content), answering(402))]
    batch.run(cases + _cases(quiet, [*again(payment)], rule, paid.terms))
    balances.require_moved(paid.terms.price, "one payment, used again")


@pytest.mark.drill
@PAYING
@pytest.mark.requires("restart_freeside")
def test_used_payment_outlives_a_restart(
    paid: PaidRoute,
    wallet: FundedWallet,
    balances: Balances,
    freeside: Freeside,
    environment: Environment,
    eventually: Eventually,
) -> None:
    """A used payment is still refused after a restart of Freeside, and moved the price once."""
    header = header_of(paid.payment(wallet))
    require_status(paid.post(header), 200)
    freeside.restart(environment.get("freeside.restart_url"), eventually)
    answering(402)(paid.post(header))
    balances.require_moved(paid.terms.price, "one payment, used again after a restart")


@PAYING
def test_two_at_once_are_one_payment(
    paid: PaidRoute, wallet: FundedWallet, balances: Balances, evidence: Evidence
) -> None:
    """Of concurrent calls with one payment, exactly one is answered."""
    header = header_of(paid.payment(wallet))
    answers = at_once([partial(paid.post, header) for _ in range(AT_ONCE)])
    for answer in answers:
        answering(200, 402)(answer)
    served = sum(answer.status_code == 200 for answer in answers)
    evidence.figure(f"answered of {AT_ONCE} at once", served, expected=1)
    if served != 1:
        raise SafetyViolation(f"one payment was answered {served} times for {AT_ONCE} concurrent calls")
    balances.require_moved(paid.terms.price, f"one payment in {AT_ONCE} calls")


@PAYING
def test_payments_at_once_stay_apart(
    paid: PaidRoute,
    wallet: FundedWallet,
    other_wallet: FundedWallet | None,
    balances: Balances,
    evidence: Evidence,
) -> None:
    """Concurrent paid calls to two pools get the requested pool and their own receipt.

    So does a prompt of other letters than ASCII. Their payments have no start of validity, as many payers
    sign them (EIP-3009), and nearly equal nonces.
    One has its addresses in lower case: capitals are only a checksum (EIP-55), and many payers write none.
    If the profile has another payer, that one also uses a nonce of the first: nonces are per payer.
    """
    pools = (POOLS[0], POOLS[-1])
    nonces = near_nonces(len(pools))
    payers = [(wallet, pool, near, pool == POOLS[0]) for pool, near in zip(pools, nonces, strict=True)]
    if other_wallet:
        payers.append((other_wallet, POOLS[0], nonces[0], False))
    else:
        evidence.note("not examined: whether nonces are per payer, as [x402] other_wallet_key is not set")
    calls, prices = [], Counter[str]()
    for payer, pool, near, long in payers:
        word = nonce() if long else nonce() + MARKS
        body = paid.content(word, model=pool, padding=PADDING * long)
        terms = paid.terms_for(body)
        lower = {} if long else {"from": payer.address.lower(), "to": terms.pay_to.lower()}
        header = header_of(paid.payment(payer, terms, validAfter=0, nonce=near, **lower))
        calls.append((word, pool, partial(paid.post, header, content=body)))
        prices[payer.address] += terms.price
    answers = at_once([call for *_, call in calls])
    for (word, pool, _), answer in zip(calls, answers, strict=True):
        require_own_answer(answer, word)
        fields_of(answer).text("model", among=(pool,))
    receipts = {receipt_of(answer).transaction.lower() for answer in answers}
    evidence.figure("transactions of paid calls at once", len(receipts), expected=len(answers))
    assert len(receipts) == len(answers), f"{len(answers)} paid calls share {len(receipts)} transactions"
    own = prices[wallet.address]
    balances.require_moved(own, f"{len(answers)} paid calls at once", of_others=prices.total() - own)


@PAYING
def test_bad_payment_is_refused(
    paid: PaidRoute,
    wallet: FundedWallet,
    penniless: Wallet,
    balances: Balances,
    batch: Batch,
    refused_agent: str,
) -> None:
    """An almost valid payment is refused with a reason, and moves no money.

    So is the cheapest pool's price for a call to a more expensive one.
    """
    terms = paid.terms_for(paid.content(agent=refused_agent))  # a price may go by the letters of a call
    bad = [*bad_payments(terms, wallet, penniless, time.time())]
    rule, quiet = "a payment that does not verify gets 402 (1.6)", paid.unrecorded()
    cases = _cases(quiet, bad, rule, terms, refused_agent)
    expensive = paid.content(agent=refused_agent, model=POOLS[-1])
    if paid.terms_for(expensive).price > terms.price:
        low = header_of(paid.payment(wallet, terms))
        send = partial(quiet.post, low, content=expensive)
        cases.append(Case("x402: the price of a cheaper call", rule, send, answering(402)))
    batch.run(cases)
    balances.require_moved(0, f"{len(bad)} payments that were refused")


@PAYING
def test_bad_call_costs_nothing(
    paid: PaidRoute,
    wallet: FundedWallet,
    penniless: Wallet,
    balances: Balances,
    freeside: Freeside,
    batch: Batch,
) -> None:
    """An almost valid call is refused, and does not use up its payment (1.3): another call can use it.

    Neither does a copy of the payment with a forged signature, or one that is refused for what it offers.
    """
    payment, quiet = paid.payment(wallet), paid.unrecorded()
    header = header_of(payment)
    answering(402)(quiet.post(header_of(signed_by(penniless, paid.terms, payment))))
    own = payment["payload"]["authorization"]["nonce"]
    for bad in refused_with(paid.terms, wallet, time.time(), own):
        answering(402)(quiet.post(bad.header))
    for content in (b"null", b'{"prompt": ', b'{"prompt": 7, "model": "cheap", "agent": 7, "messages": 7}'):
        require_json_error(require_status(paid.post(header, content=content), 400))
    for size in bad_sizes(paid.content()):
        answering(400, 413)(quiet.post(header, content=b"".join(size.body)))
    batch.run(
        [
            Case(
                f"x402: {bad.name}", "an invalid call is refused (1.3)",
                partial(quiet.post, header, content=b"".join(bad.body)),
                answering(*bad.statuses, 402),  # calls with its nonce are under way
            )
            for bad in bad_bodies(json.loads(paid.content()), CALL_BODIES[freeside.dialects.invoke])
        ]
    )  # fmt: skip
    balances.require_moved(0, "calls that were refused for their body or their payment")
    require_status(paid.post(header), 200)
    balances.require_moved(
        paid.terms.price, "a call after others with its nonce were refused for their body or their payment"
    )


@PAYING
@pytest.mark.requires("key", "signing")
def test_nothing_else_pays(
    paid: PaidRoute, wallet: FundedWallet, freeside: Freeside, tenants: Tenants, batch: Batch
) -> None:
    """Without a payment, a call gets its terms, whoever sends it and whatever was paid for before (1.6)."""
    key, content = str(uuid.uuid4()), paid.content()
    require_status(paid.post(header_of(paid.payment(wallet)), content=content, key=key), 200)
    quiet, rule = paid.unrecorded(), "the payment is the credential (1.6)"
    others: dict[str, dict[str, Any]] = {
        "the key of a paid call": {"key": key},
        "a user's token": {"credential": freeside.credential(tenants.main)},
        "an admin's token": {"credential": freeside.credential(tenants.main, role="admin")},
        "an expired token": {"credential": freeside.credential(tenants.main, iat=1, exp=2)},
        "another credential": {"credential": lambda: "Basic c21va2U6c21va2U="},
    }
    batch.run(
        [
            Case(f"x402: {name}", rule, partial(quiet.post, content=content, **other), answering(402))
            for name, other in others.items()
        ]
    )


@PAYING
@pytest.mark.requires("key", "signing", "budget")
def test_payment_charges_no_community(
    paid: PaidRoute, wallet: FundedWallet, freeside: Freeside, tenants: Tenants, evidence: Evidence
) -> None:
    """A call paid on the chain is charged to no budget (I-7), even with a user's token.

    Nor has it to do with what a community was answered under the same key (1.2): each runs for itself.
    """
    watches = [freeside.watch(tenant, evidence) for tenant in tenants.all()]
    key, body = str(uuid.uuid4()), freeside.invoke_body(prompt_for())

    def pay() -> str:
        header, holder = header_of(paid.payment(wallet)), freeside.credential(tenants.main)
        answer = paid.post(header, content=json.dumps(body).encode(), credential=holder, key=key)
        return fields_of(require_status(answer, 200)).text("traceId")

    traces = [pay()]
    token = freeside.credential(tenants.main)
    own = require_status(freeside.post_invoke(body, tenant=tenants.main, credential=token, key=key), 200)
    traces += [pay()]
    for watch in watches:
        if watch.first.tenant == tenants.main:
            watch.charged([cost_in(own)])
        else:
            watch.unchanged("a call that was paid for on the chain", I7)
    if is_replay(own.headers) or fields_of(own).text("traceId") in traces:
        raise SafetyViolation("a community and an on-chain payer share an answer under one key")


@PAYING
@pytest.mark.requires("dixie", "key", "signing", "dixie.query-user", "reports", "invoke")
def test_refused_payment_runs_no_model(
    paid: PaidRoute,
    wallet: FundedWallet,
    refused_agent: str,
    freeside: Freeside,
    tenants: Tenants,
    dixie: Dixie,
    environment: Environment,
    eventually: Eventually,
    evidence: Evidence,
) -> None:
    """A refused payment runs no model: Finn reports only agents of paid calls (2, 1.6).

    If no answer gives a new agent a score, paid by whom it may be, a refused call's report is not visible.
    """

    def reported(call: Callable[[str], object]) -> bool:
        call(name := longest_name(f"smoke-x402-{secrets.token_hex(6)}"))
        limit = environment.limits.propagation_s
        with suppress(AssertionError):
            return bool(
                eventually(
                    lambda: dixie.score(name) is not None, within=limit, every=EVERY_S, what="the report"
                )
            )
        return False

    used = header_of(paid.payment(wallet))
    require_status(paid.post(used), 200)
    for header in (None, used):
        if paid.post(header, agent=refused_agent).status_code == 200:
            raise ContractViolation("a call without a good payment was answered")
    if not reported(partial(paid.pay, wallet)):
        if not reported(lambda name: freeside.invoke(tenants.main, prompt_for(), agent=name)):
            evidence.figure("new agents with a score by an answer", 0)
            evidence.note("not examined: new agents get no score by an answer, so no report would show")
            return
        raise AssertionError("the answer to a paid call is not reported, unlike that to a community's call")
    score = dixie.score(refused_agent)
    evidence.figure("score of the agent of refused calls", score, expected=None)
    if score is not None:
        raise SafetyViolation(f"the model ran for a refused payment: its agent has the score {score}")


def _cases(
    paid: PaidRoute, bad: Sequence[BadPayment], rule: str, terms: Terms, agent: str | None = None
) -> list[Case]:
    def judging(one: BadPayment) -> Callable[[httpx.Response], object]:
        def judge(answer: httpx.Response) -> None:
            answering(*one.statuses)(answer)
            if answer.status_code == 402 and (reason := fields_of(answer).text("error")) == paid.asks:
                raise ContractViolation(f"the refusal has the error of a call without a payment: {reason}")
            if answer.status_code != 402 or "accepts" not in fields_of(answer).data:
                return  # a refusal need only give its reason (1.6)
            if (asked := paid.terms_in(answer)) != terms:
                raise ContractViolation(f"a refusal has other terms than the call: {asked}, not {terms}")

        return judge

    return [
        Case(f"x402: {one.name}", rule, partial(paid.post, one.header, agent=agent), judging(one))
        for one in bad
    ]

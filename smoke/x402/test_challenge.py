"""G-6, phase x402: the terms that a call without a payment is answered with."""

from functools import partial

import pytest
from pytest_readiness import Evidence, SetupError

from smoke.contract.x402 import unreadable
from smoke.platform.batch import Batch, Case, answering
from smoke.platform.x402 import Chain, PaidRoute

pytestmark = [
    pytest.mark.goal("G-6"),
    pytest.mark.phase("x402"),
    pytest.mark.p1,
    pytest.mark.requires("freeside"),
]


@pytest.mark.establishes("x402")
def test_payment_is_required(paid: PaidRoute, evidence: Evidence) -> None:
    """A call without a payment is answered with 402 and the complete terms of the contract."""
    terms = paid.terms
    evidence.figure("price of a call", terms.price, f"of {terms.name}'s smallest unit")
    evidence.figure("network of the terms", terms.network, expected="base-sepolia")


@pytest.mark.requires("x402")
def test_unreadable_payment_is_refused(paid: PaidRoute, batch: Batch) -> None:
    """A header that does not parse is answered with 400, and what is no payment with 400 or 402."""
    rule, quiet = "a header that does not parse is a 400 (1.6)", paid.unrecorded()
    batch.run(
        [
            Case(f"x402: {bad.name}", rule, partial(quiet.post, bad.header), answering(*bad.statuses))
            for bad in unreadable()
        ]
    )


@pytest.mark.requires("x402", "chain")
def test_terms_name_the_token(paid: PaidRoute, chain: Chain, evidence: Evidence) -> None:
    """The asset of the terms is a contract on their chain, with the name and version that payers sign."""
    terms = paid.terms
    evidence.figure("chain", chain.chain_id, expected=terms.chain_id)
    if chain.chain_id != terms.chain_id:
        raise SetupError(f"[x402] rpc_url serves chain {chain.chain_id}, the terms are for {terms.chain_id}")
    assert chain.has_code(terms.asset), f"there is no contract at the asset {terms.asset}"
    name, version = chain.token(terms.asset)
    evidence.figure("token", f"{name} {version}", expected=f"{terms.name} {terms.version}")
    assert (name, version) == (terms.name, terms.version), f"the token signs as {name!r} {version!r}"

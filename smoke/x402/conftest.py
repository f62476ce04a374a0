"""Fixtures of phase x402: the route, the wallet of the profile, and a key without money."""

import secrets

import pytest
from pytest_readiness import Environment, Evidence

from smoke.platform.freeside import Freeside
from smoke.platform.http import Connect
from smoke.platform.spend import Once
from smoke.platform.x402 import Balances, Chain, FundedWallet, PaidRoute, Wallet


@pytest.fixture(scope="session")
def wallet(environment: Environment, chain: Chain, once: Once) -> FundedWallet:
    """The wallet that pays."""
    x402 = environment.x402
    return FundedWallet(
        lambda: environment.secret("x402.wallet_key"), chain, x402.chain_ids, x402.max_spend, once
    )


@pytest.fixture(scope="session")
def penniless() -> Wallet:
    """A key without money."""
    return Wallet.throwaway()


@pytest.fixture(scope="session")
def refused_agent() -> str:
    """An agent that only calls name which are to be refused."""
    return f"smoke-x402-{secrets.token_hex(6)}"


@pytest.fixture
def paid(connect: Connect, evidence: Evidence, freeside: Freeside) -> PaidRoute:
    """The route, with its exchanges in this check's evidence."""
    return PaidRoute(connect("freeside", evidence), freeside.invoke_body)


@pytest.fixture
def balances(chain: Chain, paid: PaidRoute, wallet: FundedWallet, environment: Environment) -> Balances:
    """What payer and payee have before the check."""
    return Balances(chain, paid.terms, wallet.address, live=environment.live)

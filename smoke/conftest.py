"""What every phase shares: one HTTP pool, the keys that sign, clients that record for their check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_readiness import Environment, Evidence

from smoke.aws.account import read_descriptions
from smoke.aws.reader import Observed, observed_of
from smoke.platform.builds import builds
from smoke.platform.dixie import Dixie, Scores
from smoke.platform.finn import Finn
from smoke.platform.freeside import Dialects, Freeside
from smoke.platform.http import HttpClient
from smoke.platform.invariants import MICRO_PER_CENT
from smoke.platform.jwks import SigningKeyLookup
from smoke.platform.services import ServiceClient
from smoke.platform.spend import Opening, SpendJournal, period_of
from smoke.platform.tokens import SigningKey
from smoke.platform.transport import authorities, http_pool
from smoke.source.checkout import Checkout
from smoke.source.hcl import Parser
from smoke.source.terraform import Module


@dataclass(frozen=True, slots=True)
class Tenants:
    """The communities of the smoke: the usual one, a second one, and one whose budget is a few cents."""

    main: str
    other: str
    small: str

    def all(self) -> tuple[str, ...]:
        """Each community once."""
        return tuple(dict.fromkeys((self.main, self.other, self.small)))


@pytest.fixture(scope="session")
def http(environment: Environment) -> Iterator[httpx.Client]:
    """One connection pool. Proxies of the runner's environment are for live platforms only."""
    with http_pool("pytest-readiness-smoke", proxies=environment.live) as client:
        yield client


@pytest.fixture(scope="session")
def tenants(environment: Environment) -> Tenants:
    """The communities that the profile names."""
    auth = environment.auth
    return Tenants(auth.community_id, auth.other_community_id, auth.small_community_id)


@pytest.fixture(scope="session")
def dialects(environment: Environment) -> Dialects:
    """The forms of the routes that the profile names."""
    freeside = environment.freeside
    return Dialects(
        freeside.invoke_dialect, freeside.stream_dialect, freeside.budget_dialect, environment.auth.nft_id
    )


@pytest.fixture(scope="session")
def signing_key(environment: Environment, http: httpx.Client) -> SigningKeyLookup:
    """The key that signs user tokens, under the kid that Freeside publishes for it."""
    freeside = ServiceClient(HttpClient("freeside", environment.freeside.url, http))
    return SigningKeyLookup(lambda: environment.secret("auth.signing_key"), freeside.jwks)


@pytest.fixture(scope="session")
def finn_key(environment: Environment, http: httpx.Client) -> SigningKeyLookup:
    """The key that signs Finn's tokens, under the kid that Finn publishes for it."""
    finn = ServiceClient(HttpClient("finn", environment.finn.url, http))
    return SigningKeyLookup(lambda: environment.secret("auth.finn_signing_key"), finn.jwks)


@pytest.fixture(scope="session")
def attacker() -> SigningKey:
    """A key that the platform does not know."""
    return SigningKey.throwaway()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of a distributed run have in common."""
    base: Path = tmp_path_factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


@pytest.fixture(scope="session")
def spend_journal(shared: Path, environment: Environment) -> SpendJournal:
    """The run's journal of charges, one for all workers; it lets nothing pass the cap."""
    return SpendJournal(shared, environment.budget.max_spend_cents * MICRO_PER_CENT)


@pytest.fixture
def alone(spend_journal: SpendJournal) -> Iterator[None]:
    """For checks that move or compare money: no other of this run does so meanwhile, on any worker."""
    with spend_journal.alone():
        yield


@pytest.fixture(scope="session")
def opening(
    environment: Environment,
    http: httpx.Client,
    dialects: Dialects,
    signing_key: SigningKeyLookup,
    spend_journal: SpendJournal,
    tenants: Tenants,
) -> Callable[[], Opening]:
    """Reads all budgets before the run's first charge; what cannot be read says why."""

    def read() -> Opening:
        client = HttpClient("freeside", environment.freeside.url, http)
        freeside = Freeside(client, dialects, signing_key, spend_journal, dict)
        opening: dict[str, int | str] = {}
        for tenant in tenants.all():
            try:
                reading = freeside.budget(tenant)
                opening |= {tenant: reading.committed, period_of(tenant): reading.period}
            except (AssertionError, RuntimeError, httpx.HTTPError) as error:
                opening[tenant] = f"{type(error).__name__}: {error}"
        return opening

    return read


@pytest.fixture
def freeside(
    environment: Environment,
    http: httpx.Client,
    evidence: Evidence,
    dialects: Dialects,
    signing_key: SigningKeyLookup,
    spend_journal: SpendJournal,
    opening: Callable[[], Opening],
) -> Freeside:
    """Freeside, recorded for this check."""
    client = HttpClient("freeside", environment.freeside.url, http, evidence)
    return Freeside(client, dialects, signing_key, spend_journal, opening)


@pytest.fixture
def finn(
    environment: Environment,
    http: httpx.Client,
    evidence: Evidence,
    signing_key: SigningKeyLookup,
    spend_journal: SpendJournal,
    opening: Callable[[], Opening],
) -> Finn:
    """Finn, recorded for this check."""
    client = HttpClient("finn", environment.finn.url, http, evidence)
    return Finn(client, environment.auth.nft_id, signing_key, spend_journal, opening)


@pytest.fixture
def dixie(
    environment: Environment,
    http: httpx.Client,
    evidence: Evidence,
    signing_key: SigningKeyLookup,
    tenants: Tenants,
) -> Dixie:
    """Dixie, recorded for this check."""
    return Dixie(HttpClient("dixie", environment.dixie.url, http, evidence), tenants.main, signing_key)


@pytest.fixture
def scores(
    dixie: Dixie, evidence: Evidence, environment: Environment, plan_facts: Mapping[str, Any]
) -> Scores:
    """The scores that Dixie shows, with the loop's target and limit."""
    return Scores(
        dixie,
        evidence,
        cache_s=environment.dixie.cache_s,
        limit_s=environment.limits.propagation_s,
        target_s=plan_facts["loop"]["target_s"],
    )


@pytest.fixture(scope="session")
def checkout(environment: Environment) -> Checkout:
    """The checkout of the platform's repository that the profile names."""
    return Checkout.at(environment.get("source.iac_dir"))


@pytest.fixture(scope="session")
def terraform(
    checkout: Checkout,
    plan_facts: Mapping[str, Any],
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> Module:
    """The Terraform of the checkout. What was parsed once is kept from run to run, if pytest has a cache."""
    kept = getattr(pytestconfig, "cache", None)
    cache = kept.mkdir("terraform") if kept is not None else tmp_path_factory.mktemp("terraform")
    source = plan_facts["source"]
    return Module.read(checkout, source["terraform"], Parser(Path(cache)), source["var_files"])


@pytest.fixture(scope="session")
def observed(environment: Environment, shared: Path) -> Observed:
    """What AWS says, one for all checks of this worker."""
    return observed_of(environment, shared)


@pytest.fixture
def aws(observed: Observed, request: pytest.FixtureRequest) -> Observed:
    """What AWS says, each thing read once; a check that is run again has it read anew."""
    if getattr(request.node, "execution_count", 1) > 1:
        observed.forget()
    return observed


def pytest_readiness_warm() -> None:
    """Read what takes every forked run of a few checks longer than those: trust and AWS's descriptions."""
    authorities()
    read_descriptions()


def pytest_readiness_build_identity(environment: Environment) -> dict[str, str]:
    """The build that each service says it runs, and the worker's by its image; empty where none is told."""
    return builds(environment)

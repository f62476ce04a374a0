"""What every phase shares: one HTTP pool, the keys that sign, clients that record for their check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from smoke.aws.account import read_descriptions
from smoke.aws.observed import Observed, observed_of
from smoke.platform.budget import MICRO_PER_CENT
from smoke.platform.dixie import Dixie
from smoke.platform.finn import Finn
from smoke.platform.freeside import JWKS_PATH, Dialects, Freeside
from smoke.platform.identity import builds
from smoke.platform.jwks import key_set_of
from smoke.platform.keyring import KeyRing
from smoke.platform.purse import Opening, Purse, period_of
from smoke.platform.scores import Scores
from smoke.platform.tls import authorities
from smoke.platform.tokens import SigningKey
from smoke.platform.wire import Evidence, Unrecorded, Wire, require_status
from smoke.source.checkout import Checkout
from smoke.source.hcl import Parser
from smoke.source.terraform import Module

CONNECT_TIMEOUT_S = 2.0
#: An answer may take longer than the latency limit of G-3: that check wants to see by how much.
ANSWER_TIMEOUT_S = 30.0


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
def http(environment: Any) -> Iterator[httpx.Client]:
    """One connection pool. Proxies of the runner's environment are for live platforms only."""
    with httpx.Client(
        verify=authorities(),
        timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=40, max_keepalive_connections=40),
        headers={"User-Agent": "pytest-readiness-smoke"},
        trust_env=environment.live,
    ) as client:
        yield client


@pytest.fixture(scope="session")
def tenants(environment: Any) -> Tenants:
    """The communities that the profile names."""
    auth = environment.auth
    return Tenants(auth.community_id, auth.other_community_id, auth.small_community_id)


@pytest.fixture(scope="session")
def dialects(environment: Any) -> Dialects:
    """The forms of the routes that the profile names."""
    freeside = environment.freeside
    return Dialects(
        freeside.invoke_dialect, freeside.stream_dialect, freeside.budget_dialect, environment.auth.nft_id
    )


@pytest.fixture(scope="session")
def signing_key(environment: Any, http: httpx.Client) -> KeyRing:
    """The key that signs user tokens, under the kid that Freeside publishes for it."""
    wire = Wire("freeside", environment.freeside.url, http, Unrecorded())
    return KeyRing(
        lambda: environment.secret("auth.signing_key"),
        lambda: key_set_of(require_status(wire.send("GET", JWKS_PATH), 200)),
    )


@pytest.fixture(scope="session")
def finn_key(environment: Any, http: httpx.Client) -> KeyRing:
    """The key that signs Finn's tokens, under the kid that Finn publishes for it."""
    wire = Wire("finn", environment.finn.url, http, Unrecorded())
    return KeyRing(
        lambda: environment.secret("auth.finn_signing_key"),
        lambda: key_set_of(require_status(wire.send("GET", JWKS_PATH), 200)),
    )


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
def purse(shared: Path, environment: Any) -> Purse:
    """The run's journal of charges, one for all workers; it lets nothing pass the cap."""
    return Purse(shared, environment.budget.max_spend_cents * MICRO_PER_CENT)


@pytest.fixture
def alone(purse: Purse) -> Iterator[None]:
    """For checks that move or compare money: no other of this run does so meanwhile, on any worker."""
    with purse.alone():
        yield


@pytest.fixture(scope="session")
def opening(
    environment: Any,
    http: httpx.Client,
    dialects: Dialects,
    signing_key: KeyRing,
    purse: Purse,
    tenants: Tenants,
) -> Callable[[], Opening]:
    """Reads all budgets before the run's first charge; what cannot be read says why."""

    def read() -> Opening:
        wire = Wire("freeside", environment.freeside.url, http, Unrecorded())
        freeside = Freeside(wire, dialects, signing_key, purse, dict)
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
    environment: Any,
    http: httpx.Client,
    evidence: Evidence,
    dialects: Dialects,
    signing_key: KeyRing,
    purse: Purse,
    opening: Callable[[], Opening],
) -> Freeside:
    """Freeside, recorded for this check."""
    wire = Wire("freeside", environment.freeside.url, http, evidence)
    return Freeside(wire, dialects, signing_key, purse, opening)


@pytest.fixture
def finn(
    environment: Any,
    http: httpx.Client,
    evidence: Evidence,
    signing_key: KeyRing,
    purse: Purse,
    opening: Callable[[], Opening],
) -> Finn:
    """Finn, recorded for this check."""
    wire = Wire("finn", environment.finn.url, http, evidence)
    return Finn(wire, environment.auth.nft_id, signing_key, purse, opening)


@pytest.fixture
def dixie(
    environment: Any, http: httpx.Client, evidence: Evidence, signing_key: KeyRing, tenants: Tenants
) -> Dixie:
    """Dixie, recorded for this check."""
    return Dixie(Wire("dixie", environment.dixie.url, http, evidence), tenants.main, signing_key)


@pytest.fixture
def scores(dixie: Dixie, evidence: Evidence, environment: Any, plan_facts: Mapping[str, Any]) -> Scores:
    """The scores that Dixie shows, with the loop's target and limit."""
    return Scores(
        dixie,
        evidence,
        cache_s=environment.dixie.cache_s,
        limit_s=environment.limits.propagation_s,
        target_s=plan_facts["loop"]["target_s"],
    )


@pytest.fixture(scope="session")
def checkout(environment: Any) -> Checkout:
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
def observed(environment: Any, shared: Path) -> Observed:
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


def pytest_readiness_build_identity(environment: Any) -> dict[str, str]:
    """The build that each service says it runs, and the worker's by its image; empty where none is told."""
    return builds(environment)

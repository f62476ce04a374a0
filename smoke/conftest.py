"""Fixtures of every phase: the HTTP pool, signing keys, and clients that record in a check's evidence."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from pytest_readiness import Environment, Evidence, SetupError

from smoke.aws.account import read_descriptions
from smoke.aws.reader import AwsReader, reader_of
from smoke.contract.exchange import MICRO_PER_CENT
from smoke.contract.model import SERVICE, Access
from smoke.network.connections import authorities
from smoke.network.transport import http_pool
from smoke.platform.attacks import Target, target_of
from smoke.platform.backends import Dixie, Finn, Newcomers, builds, spelled_as
from smoke.platform.batch import Batch
from smoke.platform.freeside import Dialects, Freeside, Tenants
from smoke.platform.http import Connect, HttpClient, ServiceClient, address_of, trust_of
from smoke.platform.invariants import Conservation
from smoke.platform.parameters import Way, finn_way, freeside_way
from smoke.platform.recorded import AnswerLog
from smoke.platform.scores import Scores
from smoke.platform.spend import Once, OpeningBalance, SpendJournal
from smoke.platform.tokens import SigningKey, SigningKeyLookup
from smoke.platform.x402 import Balances, Chain, FundedWallet, PaidRoute
from smoke.source.checkout import Checkout
from smoke.source.infrastructure.definitions import Definitions, read
from smoke.source.rules import Ownership
from smoke.source.terraform.configuration import Configuration

#: The minimum time between two checks whether somebody rotated the keys that the run signs with.
REREAD_S = 10.0


@pytest.fixture(scope="session")
def http(environment: Environment) -> Iterator[httpx.Client]:
    """One connection pool. Only live platforms are reached through the runner's proxies."""
    trust = trust_of(environment)
    with http_pool("pytest-readiness-smoke", proxies=environment.live, trust=trust) as client:
        yield client


@pytest.fixture(scope="session")
def tenants(environment: Environment) -> Tenants:
    """The communities that the profile names."""
    auth = environment.auth
    return Tenants(auth.community_id, auth.other_community_id, auth.small_community_id)


@pytest.fixture(scope="session")
def dialects(environment: Environment) -> Dialects:
    """The route dialects that the profile names."""
    freeside = environment.freeside
    return Dialects(
        freeside.invoke_dialect, freeside.stream_dialect, freeside.budget_dialect, environment.auth.nft_id
    )


@pytest.fixture(scope="session")
def answer_log(shared: Path) -> AnswerLog:
    """Every answer of the run, judged."""
    return AnswerLog(shared)


@pytest.fixture(scope="session")
def connect(environment: Environment, http: httpx.Client, answer_log: AnswerLog) -> Connect:
    """Makes the HTTP client of any service of the profile."""

    def connect(service: str, evidence: Evidence | None = None) -> HttpClient:
        url, address = environment.get(f"{service}.url"), address_of(environment, service)
        return HttpClient(service, url, http, evidence, address=address, log=answer_log)

    return connect


@pytest.fixture(scope="session")
def signing_key(environment: Environment, connect: Connect) -> SigningKeyLookup:
    """The key that signs user tokens, with the kid under which Freeside publishes it."""
    return lookup_of(environment, "auth.signing_key", ServiceClient(connect("freeside")))


@pytest.fixture(scope="session")
def finn_key(environment: Environment, connect: Connect) -> SigningKeyLookup:
    """The key that signs Finn's tokens, with the kid under which Finn publishes it."""
    return lookup_of(environment, "auth.finn_signing_key", ServiceClient(connect("finn")))


def lookup_of(environment: Environment, name: str, client: ServiceClient) -> SigningKeyLookup:
    """Looks up a key in the profile's secret, and again while a rotated key is still valid."""

    def again() -> str:
        environment.renew(name)
        return environment.secret(name)

    every_s = min(REREAD_S, environment.get("keys.watch_s") / 3)
    named = ", from ".join(filter(None, (name, environment.profile.origins.get(name))))
    return SigningKeyLookup(lambda: environment.secret(name), client.jwks, again, every_s, named)


@pytest.fixture(scope="session")
def attacker() -> SigningKey:
    """A key that the platform does not know."""
    return SigningKey.throwaway()


@pytest.fixture(scope="session")
def agent(environment: Environment) -> str:
    """The seeded agent that the loop moves."""
    return str(environment.auth.nft_id)


@pytest.fixture(scope="session")
def bystander(environment: Environment) -> str:
    """A seeded agent that no answered call of the run names: reports on such calls may still be in flight."""
    return str(environment.auth.other_nft_id)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of a distributed run share."""
    base: Path = tmp_path_factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


@pytest.fixture(scope="session")
def journal(
    shared: Path,
    environment: Environment,
    connect: Connect,
    dialects: Dialects,
    signing_key: SigningKeyLookup,
    tenants: Tenants,
) -> SpendJournal:
    """The run's journal of charges, shared by all workers; it refuses a call that would exceed the cap."""

    def read_balances() -> dict[str, OpeningBalance]:
        freeside = Freeside(connect("freeside"), dialects, signing_key, run_journal)
        return freeside.opening_balances(tenants.all())

    run_journal = SpendJournal(
        shared,
        environment.budget.max_spend_cents * MICRO_PER_CENT,
        read_balances,
        quiet_s=environment.get("limits.quiet_s"),
        wealthy={tenants.main, tenants.other} - {tenants.small},
    )
    return run_journal


@pytest.fixture(scope="session")
def once(shared: Path) -> Once:
    """The tokens, keys and events that the run spent and tries again at its end."""
    return Once(shared)


@pytest.fixture
def batch(environment: Environment, evidence: Evidence) -> Batch:
    """Sends families of derived cases, as many at once as the profile allows."""
    return Batch(evidence, environment.limits.concurrency, environment.name if environment.live else "")


@pytest.fixture
def opened(
    request: pytest.FixtureRequest,
    agent: str,
    tenants: Tenants,
    attacker: SigningKey,
    signing_key: SigningKeyLookup,
    finn_key: SigningKeyLookup,
) -> Callable[[Access], Target]:
    """Makes a target, without recording its exchanges: the batch records what matters."""

    def opened(access: Access) -> Target:
        client = request.getfixturevalue(access.service).unrecorded()
        key, other = (finn_key, signing_key) if access.kind is SERVICE else (signing_key, finn_key)
        target = target_of(access, client, key, tenants.main, agent, attacker)
        return replace(target, others=lambda: _offered(other))

    return opened


@pytest.fixture
def target(opened: Callable[[Access], Target], access: Access) -> Target:
    """The parametrised target; no other service's client is built."""
    return opened(access)


def _offered(key: SigningKeyLookup) -> tuple[SigningKey, ...]:
    """The key, if this runner has it; a separate check reports why not."""
    try:
        return (key(),)
    except (SetupError, AssertionError, httpx.HTTPError):
        return ()


@pytest.fixture
def alone(journal: SpendJournal) -> Iterator[None]:
    """Serialises the checks that move or compare money, on all workers of the run."""
    with journal.alone():
        yield


@pytest.fixture(scope="session")
def make_freeside(
    connect: Connect, dialects: Dialects, signing_key: SigningKeyLookup, journal: SpendJournal
) -> Callable[[Evidence | None], Freeside]:
    """Makes a client of Freeside, with its exchanges in the evidence, if any."""
    return lambda evidence: Freeside(connect("freeside", evidence), dialects, signing_key, journal)


@pytest.fixture
def freeside(make_freeside: Callable[[Evidence | None], Freeside], evidence: Evidence) -> Freeside:
    """Freeside, with its exchanges in this check's evidence."""
    return make_freeside(evidence)


@pytest.fixture
def finn(
    connect: Connect, evidence: Evidence, agent: str, signing_key: SigningKeyLookup, journal: SpendJournal
) -> Finn:
    """Finn, with its exchanges in this check's evidence."""
    return Finn(connect("finn", evidence), agent, signing_key, journal)


@pytest.fixture
def ways(
    connect: Connect,
    make_freeside: Callable[[Evidence | None], Freeside],
    agent: str,
    signing_key: SigningKeyLookup,
    journal: SpendJournal,
) -> Callable[[str], Way]:
    """Gives the way to a model by its route, unrecorded: families of cases are too large for evidence."""

    def way(route: str) -> Way:
        if route == "finn.invoke":
            return finn_way(Finn(connect("finn"), agent, signing_key, journal))
        return freeside_way(make_freeside(None), streamed=route == "freeside.stream")

    return way


@pytest.fixture
def dixie(connect: Connect, evidence: Evidence, signing_key: SigningKeyLookup, tenants: Tenants) -> Dixie:
    """Dixie, with its exchanges in this check's evidence."""
    return Dixie(connect("dixie", evidence), tenants.main, signing_key)


@pytest.fixture
def watch(freeside: Freeside, tenants: Tenants, evidence: Evidence) -> Conservation:
    """The main community's budget, settled and read before the check and compared from then on."""
    return freeside.watch(tenants.main, evidence)


@pytest.fixture(scope="session")
def newcomers(
    connect: Connect,
    make_freeside: Callable[[Evidence | None], Freeside],
    environment: Environment,
    once: Once,
    signing_key: SigningKeyLookup,
    tenants: Tenants,
) -> Newcomers:
    """Agents of this run that have scores, where Dixie caches what it serves."""
    freeside = make_freeside(None)
    return Newcomers(
        Dixie(connect("dixie"), tenants.main, signing_key),
        once,
        lambda agent, quality: freeside.rate(tenants.main, agent, quality),
        cache_s=environment.dixie.cache_s,
    )


@pytest.fixture
def scores(
    request: pytest.FixtureRequest,
    dixie: Dixie,
    evidence: Evidence,
    once: Once,
    newcomers: Newcomers,
    environment: Environment,
    plan_facts: Mapping[str, Any],
) -> Scores:
    """The scores that Dixie shows, with the loop's target and limit."""
    return Scores(
        dixie,
        evidence,
        once,
        newcomers,
        cache_s=environment.dixie.cache_s,
        limit_s=environment.limits.propagation_s,
        target_s=plan_facts["loop"]["target_s"],
        quiet_s=environment.get("limits.quiet_s"),
        held_later=any(item.name == "test_another_agent_does_not_move" for item in request.session.items),
    )


@pytest.fixture(scope="session")
def checkout(environment: Environment) -> Checkout:
    """The checkout of the platform's repository that the profile names."""
    return Checkout.at(environment.get("source.iac_dir"))


@pytest.fixture(scope="session")
def terraform(checkout: Checkout, plan_facts: Mapping[str, Any]) -> Configuration:
    """The Terraform of the checkout."""
    source = plan_facts["source"]
    return Configuration(checkout, source["terraform"], source["var_files"])


@pytest.fixture(scope="session")
def definitions(
    terraform: Configuration, plan_facts: Mapping[str, Any], plan_inventory: Sequence[Mapping[str, Any]]
) -> Definitions:
    """What the services and tasks of the plan use by their Terraform."""
    members = {member for group in plan_facts["definitions"].values() for member in group}
    members |= {row["ecs"] for row in plan_inventory if row["ecs"]} | {*plan_facts["source"]["migrations"]}
    return read(terraform, members)


@pytest.fixture
def ownership(plan_facts: Mapping[str, Any]) -> Ownership:
    """The services and tasks of each definition, by the plan."""
    return Ownership(plan_facts["definitions"])


@pytest.fixture(scope="session")
def observed(environment: Environment, shared: Path) -> AwsReader:
    """What AWS reports, one reader for all checks of this worker."""
    return reader_of(environment, shared)


@pytest.fixture
def aws(observed: AwsReader, request: pytest.FixtureRequest) -> AwsReader:
    """What AWS reports, each thing read once; a rerun reads it again."""
    if getattr(request.node, "execution_count", 1) > 1:
        observed.forget()
    return observed


@pytest.fixture(scope="session")
def chain(environment: Environment, http: httpx.Client) -> Chain:
    """The chain on which payments are settled."""
    return Chain(http, environment.get("x402.rpc_url"))


@pytest.fixture(scope="session")
def wallet(environment: Environment, chain: Chain, once: Once) -> FundedWallet:
    """The wallet that pays."""
    return _wallet("wallet_key", environment, chain, once)


@pytest.fixture(scope="session")
def other_wallet(
    environment: Environment, chain: Chain, once: Once, wallet: FundedWallet
) -> FundedWallet | None:
    """The wallet of another payer, where the profile has one."""
    if not environment.get("x402.other_wallet_key"):
        return None
    other = _wallet("other_wallet_key", environment, chain, once)
    if other.address == wallet.address:
        raise SetupError(
            "[x402] other_wallet_key is the key of the first wallet: use another payer's, or none"
        )
    return other


def _wallet(key: str, environment: Environment, chain: Chain, once: Once) -> FundedWallet:
    allowed, most = environment.x402.chain_ids, environment.x402.max_spend
    return FundedWallet(lambda: environment.secret(f"x402.{key}"), chain, allowed, most, once)


@pytest.fixture
def paid(connect: Connect, evidence: Evidence, freeside: Freeside) -> PaidRoute:
    """The route, with its exchanges in this check's evidence."""
    return PaidRoute(connect("freeside", evidence), freeside.invoke_body)


@pytest.fixture
def balances(chain: Chain, paid: PaidRoute, wallet: FundedWallet, environment: Environment) -> Balances:
    """What payer and payee have before the check."""
    return Balances(chain, paid.terms, wallet.address, live=environment.live)


@pytest.fixture(scope="session", autouse=True)
def early_chain(request: pytest.FixtureRequest, environment: Environment, chain: Chain) -> None:
    """Call the chain when a run with payments begins, so that one that starts on demand is up in time."""
    if "x402" in phases_of(request.session) and environment.get("x402.rpc_url"):
        Thread(target=chain.wake, daemon=True).start()


@pytest.fixture(scope="session", autouse=True)
def early_scores(request: pytest.FixtureRequest, environment: Environment, newcomers: Newcomers) -> None:
    """Have agents scored when a run with the loop begins, so that cached scores expire in time."""
    if environment.dixie.cache_s and "loop" in phases_of(request.session):
        Thread(target=newcomers.prepare, daemon=True).start()


def phases_of(session: pytest.Session) -> set[str]:
    """The phases of a run's checks."""
    return {mark.args[0] for item in session.items for mark in item.iter_markers("phase")}


def pytest_collection_finish() -> None:
    """Collect garbage rarely: AWS's service descriptions and the chain's client are large and stay."""
    gc.set_threshold(20_000, 10, 100)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep useless slow work out of the end of the run.

    That is collecting garbage among what it has loaded, and importing hypothesis, if installed, for the
    summary of a run that did not use it.
    """
    gc.freeze()
    manager = session.config.pluginmanager
    if "hypothesis" not in sys.modules and manager.has_plugin("hypothesispytest"):
        manager.unregister(name="hypothesispytest")


def pytest_readiness_warm() -> None:
    """Load what costs every forked run more than a few checks: certificates, AWS's descriptions, psycopg."""
    authorities()
    read_descriptions()
    import_module("psycopg")


_builds: dict[str, str] = {}


def pytest_readiness_build_identity(environment: Environment) -> dict[str, str]:
    """The build that each service reports, and the worker's by its image; empty where it is unknown."""
    found = spelled_as(_builds, builds(environment))
    _builds.update(found)
    return found

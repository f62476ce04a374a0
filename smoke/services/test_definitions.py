"""G-1, phase services: three independent definitions, as the platform's Terraform writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pytest_readiness import Environment, Evidence, SetupError

from smoke.aws.inventory import known_port
from smoke.aws.names import BUILDS, DASHBOARDS, HOSTS, IF_SET, MIGRATIONS, Names
from smoke.contract.model import ROUTES, SERVICES, USER
from smoke.platform.http import key_paths
from smoke.platform.parameters import plan_of
from smoke.source.checkout import Checkout, Examined, Finding, listed
from smoke.source.credentials import exposed
from smoke.source.infrastructure.addresses import directory_of, led
from smoke.source.infrastructure.conflicts import conflicts, misdeclared
from smoke.source.infrastructure.connections import Address, connected
from smoke.source.infrastructure.databases import Budget, served
from smoke.source.infrastructure.definitions import ROLES, Definitions, named, unnamed
from smoke.source.infrastructure.definitions import unseen as not_seen
from smoke.source.infrastructure.network import reached
from smoke.source.infrastructure.shapes import misshapen
from smoke.source.infrastructure.starting import generated, partless, starts, unscaled
from smoke.source.infrastructure.tasks import images, inventory, logged, of_another, one_build, twins
from smoke.source.pipeline.rollback import expiring
from smoke.source.rules import FAMILY, LOGS, NETWORK, OWN, REQUIRED, SECRET, Ownership, elsewhere
from smoke.source.terraform.configuration import Configuration
from smoke.source.terraform.references import undeclared

pytestmark = [
    pytest.mark.goal("G-1"),
    pytest.mark.phase("services"),
    pytest.mark.requires("iac"),
    pytest.mark.static,
]
#: What definitions may not share; a role counts if it lets one definition read another's secrets.
APART = (FAMILY, NETWORK, LOGS, SECRET)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a check for each `definition` or `inventoried` service of the plan, if it takes one."""
    plan = plan_of(metafunc.config)
    if "definition" in metafunc.fixturenames:
        metafunc.parametrize("definition", [_covered(name) for name in plan["facts"]["definitions"]])
    if "inventoried" in metafunc.fixturenames:
        metafunc.parametrize("inventoried", [row["ecs"] for row in plan["inventory"] if row.get("ecs")])


def _covered(name: str) -> object:
    """Without a checkout, what runs in AWS shows the same fact."""
    return pytest.param(name, marks=pytest.mark.requires("iac", covered_by=f"services/independent[{name}]"))


@pytest.fixture
def found(definitions: Definitions, terraform: Configuration, evidence: Evidence) -> Definitions:
    """All resources that a service or a task uses."""
    evidence.figure("Terraform files", terraform.sources.count)
    evidence.figure("uses of roles, networks, log groups and secrets", len(definitions.uses))
    return definitions


@pytest.fixture
def unseen(
    terraform: Configuration,
    found: Definitions,
    plan_facts: Mapping[str, Any],
    plan_inventory: Sequence[Mapping[str, Any]],
) -> list[Finding]:
    """Parts of the plan that may be in unread files, which no rule has examined."""
    members = {member for group in plan_facts["definitions"].values() for member in group}
    return not_seen(terraform, found, members | {row["ecs"] for row in plan_inventory if row["ecs"]})


@pytest.mark.p0
@pytest.mark.establishes("iac")
def test_checkout(checkout: Checkout, plan_facts: Mapping[str, Any], evidence: Evidence) -> None:
    """The checkout is the platform's repository: it has at least one file that the plan names."""
    source = plan_facts["source"]
    wanted = [
        source["terraform"], *source["var_files"], source["decisions"], plan_facts["pipeline"]["workflow"],
    ]  # fmt: skip
    there = [path for path in wanted if (checkout.root / path).exists()]
    evidence.figure("checkout", str(checkout.root))
    evidence.figure("commit", checkout.commit())
    evidence.figure("changed and untracked files", checkout.changes())
    evidence.figure("files that the plan names and that exist", there)
    if not there:
        raise SetupError(
            f"{checkout.root} is not the platform's repository: it contains none of {', '.join(wanted)}; "
            "correct [source] iac_dir of the profile, or [facts.source] of readiness.toml"
        )


@pytest.mark.p1
def test_checkout_holds_no_credentials(checkout: Checkout, evidence: Evidence) -> None:
    """No tracked file holds a private key, an access key, a token or the password of a host."""
    count, found = exposed(checkout)
    evidence.figure("files", count, at_least=1)
    assert not found, listed(found)


@pytest.mark.p1
def test_definitions_can_be_read(terraform: Configuration, evidence: Evidence) -> None:
    """Every Terraform file is valid, and every module is in the checkout; others were not examined."""
    evidence.figure("Terraform files", terraform.sources.count)
    evidence.figure("modules", len(terraform.modules))
    Examined([], terraform.unread).require()


@pytest.mark.p0
def test_definitions_refer_to_what_is_declared(terraform: Configuration, evidence: Evidence) -> None:
    """Every variable, local value, resource and module that is referred to is declared, once."""
    count, examined = undeclared(terraform)
    examined.findings.extend(misdeclared(terraform))
    evidence.figure("references", count, at_least=1)
    examined.require()


@pytest.mark.p0
def test_definitions_are_complete(terraform: Configuration, evidence: Evidence) -> None:
    """Every resource has its required arguments, and no value that Terraform or AWS refuses."""
    count, examined = misshapen(terraform)
    examined.findings.extend(conflicts(terraform))
    evidence.figure("resources of a known shape", count, at_least=1)
    examined.require()


@pytest.mark.p0
def test_definitions_can_start(
    terraform: Configuration, found: Definitions, unseen: list[Finding], evidence: Evidence
) -> None:
    """The role that starts a task can be assumed, and may pull the image, write logs and read the secrets."""
    evidence.evaluated("a task can start", sum(len(each.tasks) for each in found.definitions))
    examined = starts(terraform, found)
    examined.not_examined.extend(unseen)
    examined.require()


@pytest.mark.p1
def test_definitions_have_their_names(
    terraform: Configuration, found: Definitions, plan_facts: Mapping[str, Any], evidence: Evidence
) -> None:
    """Cluster, services, tasks, log groups, topic, dashboards and database have the contract's names.

    Each service logs to the group with its name.
    """
    names = Names(plan_facts["source"]["prefix"])
    services = {member for group in plan_facts["definitions"].values() for member in group} - {*MIGRATIONS}
    wanted = {
        "aws_ecs_cluster": [names.cluster],
        "aws_ecs_service": [names.full(each) for each in services],
        "aws_ecs_task_definition": [names.full(each) for each in (*services, *MIGRATIONS)],
        "aws_cloudwatch_log_group": [f"{names.logs}{each}" for each in services],
        "aws_service_discovery_private_dns_namespace": [names.namespace],
        "aws_secretsmanager_secret": [f"{names.prefix}/{each}/es256-private-key" for each in SERVICES],
        "aws_sns_topic": [names.topic],
        "aws_cloudwatch_dashboard": [names.full(each) for each in DASHBOARDS],
        "aws_db_instance": [names.database],
    }
    evidence.evaluated("something has its name", sum(map(len, wanted.values())))
    examined = named(terraform, wanted)
    examined.findings.extend(logged(found, names.logs, services))
    examined.findings.extend(unscaled(terraform, wanted["aws_ecs_service"], names.cluster))
    examined.require()


@pytest.mark.p1
def test_definitions_are_found_at_their_addresses(
    terraform: Configuration,
    found: Definitions,
    unseen: list[Finding],
    plan_facts: Mapping[str, Any],
    plan_inventory: Sequence[Mapping[str, Any]],
    evidence: Evidence,
) -> None:
    """Each service is registered in the private zone, and behind the load balancer at its public host."""
    zone = Names(plan_facts["source"]["prefix"]).namespace
    hosts = {BUILDS.get(host, host): host for host in HOSTS}
    addresses = {}
    for row in plan_inventory:
        public = "" if row["url"].partition(":")[0].endswith(zone) else row["url"]
        health = SERVICES[row["key"]].health if row["key"] in SERVICES else ""
        paths = [each.path.replace("{id}", "x") for each in ROUTES
                 if each.service == row["key"] and not any(each.dialect)
                 if each.path == health or USER.name in each.credentials]  # fmt: skip
        addresses[row["ecs"]] = Address(
            hosts.get(row["ecs"], ""), zone, public, health, known_port(row), tuple(paths)
        )
    evidence.evaluated("a service is found at its address", len(addresses))
    examined = connected(terraform, found, addresses)
    examined.not_examined.extend(unseen)
    examined.require()


@pytest.mark.p1
def test_definitions_lead_to_this_platform(
    terraform: Configuration,
    found: Definitions,
    unseen: list[Finding],
    plan_facts: Mapping[str, Any],
    plan_inventory: Sequence[Mapping[str, Any]],
    environment: Environment,
    evidence: Evidence,
) -> None:
    """Tasks get this environment's hosts, ports, regions, keys and pool sizes."""
    names = Names(plan_facts["source"]["prefix"])
    members = {f"{host}.{names.namespace}": BUILDS.get(host, host) for host in HOSTS}
    public = [
        row["url"] for row in plan_inventory if not row["url"].partition(":")[0].endswith(names.namespace)
    ]
    budgets = {"pgbouncer": Budget.of(plan_facts["connections"])}
    keys = key_paths(environment, names.namespace)
    directory = directory_of(terraform, found, names.prefix, members, public, IF_SET, budgets, keys)
    region = environment.aws.region
    count, examined = led(terraform, found, directory, region)
    secrets = [f"{names.prefix}/{each}/es256-private-key" for each in SERVICES]
    examined.findings.extend([*generated(terraform, secrets), *partless(terraform, found)])
    connections = plan_facts["connections"]["total"]
    examined.findings.extend(served(terraform, found, names.database, connections))
    evidence.figure("variables", count, at_least=1)
    examined.not_examined.extend(unseen)
    examined.require()


@pytest.mark.p1
def test_definitions_let_each_other_in(
    terraform: Configuration,
    found: Definitions,
    unseen: list[Finding],
    plan_facts: Mapping[str, Any],
    evidence: Evidence,
) -> None:
    """Security groups allow every connection that the plan requires."""
    count, examined = reached(terraform, found, plan_facts["reach"])
    evidence.figure("ways", count, at_least=1)
    examined.not_examined.extend(unseen)
    examined.require()


@pytest.mark.p0
def test_definitions_are_independent(
    terraform: Configuration,
    found: Definitions,
    ownership: Ownership,
    definition: str,
    plan_facts: Mapping[str, Any],
    evidence: Evidence,
) -> None:
    """A definition has its own family, service, role, network, logs and secret, and shares none of them."""
    examined = Examined(ownership.shared(found.uses, APART).get(definition, []), list(found.not_examined))
    members = ownership.groups[definition]
    own = [use for use in found.uses if use.owner in members]
    examined.findings.extend(elsewhere(own, plan_facts["source"]["prefix"]))
    examined.not_examined.extend(ownership.unclear(own, [*OWN, SECRET]))
    for what in ownership.lacks(definition, found.uses, found.required(members)):
        if found.not_examined:
            break  # what is missing may be in a definition that could not be read
        terraform.lacks(examined, f"{definition} is incomplete: {what}", members)
    files = [use.path for member in members for use in own if (use.owner, use.kind) == (member, FAMILY)]
    below = f"{plan_facts['source']['terraform']}/"
    names = [*dict.fromkeys(path.removeprefix(below) for path in files)]
    evidence.figure(f"definition of {definition}", names)
    evidence.evaluated(f"nothing of {definition} is another's", len(own))
    examined.require()


@pytest.mark.p0
def test_definitions_read_named_secrets_only(
    found: Definitions, unseen: list[Finding], ownership: Ownership, evidence: Evidence
) -> None:
    """No role may read a secret that its policy does not name, except by a pattern for its own group."""
    evidence.figure("secrets and patterns in policies", len(found.grants))
    examined = unnamed(found, ownership)
    examined.not_examined.extend(unseen)
    examined.require()


@pytest.mark.p1
def test_definitions_share_no_roles(
    found: Definitions, unseen: list[Finding], ownership: Ownership, evidence: Evidence
) -> None:
    """No role belongs to several definitions. (Reading another's secret is a P0 above.)"""
    evidence.figure("roles", len(found.roles))
    shared = ownership.shared(found.uses, list(ROLES))
    findings = sorted({finding for each in shared.values() for finding in each})
    Examined(findings, [*ownership.unclear(found.uses, list(ROLES)), *unseen]).require()


@pytest.mark.p1
def test_definitions_share_no_credentials(
    found: Definitions, unseen: list[Finding], ownership: Ownership, evidence: Evidence
) -> None:
    """No credential serves several definitions."""
    secrets = {use.identity for use in found.uses if use.kind == SECRET}
    evidence.figure("secrets", len(secrets))
    unclear = [*ownership.unclear(found.uses, [SECRET]), *unseen]
    Examined(ownership.communal(found.uses), unclear).require()


@pytest.mark.p1
def test_definitions_of_all_services_differ(
    terraform: Configuration,
    found: Definitions,
    unseen: list[Finding],
    ownership: Ownership,
    plan_inventory: Sequence[Mapping[str, Any]],
    evidence: Evidence,
) -> None:
    """Each service has its own family, roles, network and logs; a one-shot task may share its service's."""
    evidence.figure("services and tasks", len({use.owner for use in found.uses}))
    examined = Examined(ownership.crowded(found.uses, found.services, OWN))
    examined.not_examined.extend([*found.not_examined, *ownership.unclear(found.uses, OWN), *unseen])
    members = {member for group in ownership.groups.values() for member in group}
    for service in sorted(found.services & (members | {row["ecs"] for row in plan_inventory})):
        kinds = {use.kind for use in found.uses if use.owner == service}
        for kind in REQUIRED:
            if kind not in kinds and not found.not_examined:
                terraform.lacks(examined, f"{service} has no {kind}", (service,))
    examined.require()


@pytest.mark.p1
def test_definitions_pin_their_images(
    terraform: Configuration, found: Definitions, unseen: list[Finding], evidence: Evidence
) -> None:
    """No image has a mutable tag, or expires from the registry while it is needed."""
    seen, examined = images(terraform)
    examined.findings.extend(expiring(terraform, found))
    evidence.figure("images", seen)
    examined.not_examined.extend(unseen)
    if not seen and not examined.not_examined:
        terraform.lacks(examined, "no container has an image", ("",))
    examined.require()


@pytest.mark.p1
def test_definitions_fit_the_inventory(
    terraform: Configuration,
    found: Definitions,
    plan_inventory: Sequence[Mapping[str, Any]],
    inventoried: str,
    evidence: Evidence,
) -> None:
    """CPU, memory and image match the plan's inventory; services that share an image run one build."""
    row = next(row for row in plan_inventory if row["ecs"] == inventoried)
    seen, examined = inventory(terraform, found, row)
    one_shots = [{"ecs": task, "image": row["image"]} for task, of in MIGRATIONS.items() if of == row["ecs"]]
    for each in (row, *one_shots):
        examined.findings.extend(one_build(found, [*plan_inventory, *one_shots], each))
    for each in one_shots:
        examined.findings.extend(of_another(found, plan_inventory, each))
    examined.findings.extend(twins(found, plan_inventory, row))
    for column in ("cpu", "memory", "image"):
        evidence.figure(f"{column} of {inventoried}", seen.get(column, ""), expected=row[column] or None)
    examined.require()

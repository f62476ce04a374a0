"""G-1, phase services: three independent definitions, as the platform's Terraform writes them."""

from collections.abc import Mapping
from typing import Any

import pytest
from pytest_readiness import Evidence

from smoke.source.checkout import listed
from smoke.source.definitions import grants, required, uses, wildcards
from smoke.source.ownership import OWN, SECRET, Ownership, Use
from smoke.source.rules import images
from smoke.source.terraform import Module

pytestmark = [
    pytest.mark.goal("G-1"),
    pytest.mark.phase("services"),
    pytest.mark.requires("iac"),
    pytest.mark.static,
]


@pytest.fixture
def found(terraform: Module, evidence: Evidence) -> list[Use]:
    """Everything that a service or a task uses."""
    used = uses(terraform)
    evidence.figure("Terraform files", terraform.files)
    evidence.figure("uses of roles, networks, log groups and secrets", len(used))
    return used


@pytest.fixture
def ownership(plan_facts: Mapping[str, Any]) -> Ownership:
    """The services and tasks of each definition, by the plan."""
    return Ownership(plan_facts["definitions"])


@pytest.mark.p0
@pytest.mark.parametrize(
    "group",
    [
        # what runs in AWS shows the same fact, where there is no checkout
        pytest.param(group, marks=pytest.mark.requires("iac", covered_by=f"services/independent[{group}]"))
        for group in ("freeside", "finn", "dixie")
    ],
)
def test_definitions_stand_alone(
    terraform: Module, found: list[Use], ownership: Ownership, group: str, evidence: Evidence
) -> None:
    """A definition has its own family, service, role, network, logs and secret, and none of another's."""
    lacking = ownership.lacks(group, found, required(terraform, ownership.groups[group]))
    common = ownership.shared(found, [*OWN, SECRET]).get(group, [])
    evidence.evaluated(
        f"nothing of {group} is another's", sum(ownership.of(use.owner) == group for use in found)
    )
    assert not lacking, f"{terraform.directory}: {group} is incomplete: {'; '.join(lacking)}"
    assert not common, listed(common, f"{group} is not independent")


@pytest.mark.p0
def test_definitions_read_named_secrets_only(terraform: Module, evidence: Evidence) -> None:
    """No role may read a secret that its policy does not name."""
    evidence.figure("secrets that policies name", len(list(grants(terraform))))
    wildcards_found = wildcards(terraform)
    assert not wildcards_found, listed(wildcards_found)


@pytest.mark.p1
def test_definitions_share_no_credentials(found: list[Use], ownership: Ownership, evidence: Evidence) -> None:
    """No credential serves several definitions, including those of no single definition."""
    secrets = {use.identity for use in found if use.kind == SECRET}
    evidence.figure("secrets", len(secrets))
    communal = ownership.communal(found)
    assert not communal, listed(communal)


@pytest.mark.p1
def test_definitions_of_all_services_differ(found: list[Use], evidence: Evidence) -> None:
    """Each service and task has its own family, role, network and logs, also within one definition."""
    evidence.figure("services and tasks", len({use.owner for use in found}))
    common = [finding for each in Ownership({}).shared(found, OWN).values() for finding in each]
    assert not common, listed(common)


@pytest.mark.p1
def test_definitions_pin_their_images(terraform: Module, evidence: Evidence) -> None:
    """No image has a tag that can come to mean another one."""
    seen = images(terraform)
    evidence.figure("images", [image for image, _ in seen])
    findings = [finding for _, finding in seen if finding is not None]
    assert seen, "no container has an image"
    assert not findings, listed(findings)

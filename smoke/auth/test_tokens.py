"""G-2, phase auth: valid tokens are accepted and spent once, forgeries refused, tenants kept apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.model import SERVICES
from smoke.platform.answers import body_text, require_status
from smoke.platform.attacks import (
    REFUSALS,
    Target,
    require_refused,
    require_spent,
    target_of,
)
from smoke.platform.forgeries import cases
from smoke.platform.freeside import Freeside, Tenants, cost_in
from smoke.platform.invariants import I7, reading_of
from smoke.platform.prompts import prompt_for
from smoke.platform.services import controlled, each, requires
from smoke.platform.tokens import SigningKey, bearer

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("auth"),
    pytest.mark.requires("freeside", "key", "signing"),
    pytest.mark.usefixtures("alone"),
]

#: To Finn a token without the hash of its request is also a hash mismatch, which it answers with 400.
UNBOUND = ("finn", "missing-req_hash")

#: How a request might name a community that is not its token's.
NAMED_BY: dict[str, Callable[[str], tuple[dict[str, str], dict[str, str]]]] = {
    "body": lambda victim: ({"tenant_id": victim, "communityId": victim}, {}),
    "header": lambda victim: ({}, {"X-Tenant-Id": victim, "X-Community-Id": victim}),
}


def each_service(check: str) -> list[Any]:
    """Every service as a parameter of one check. Freeside's control covers Finn's behind the VPC."""
    return each(finn_covered_by=f"auth/{check}[freeside]")


def each_forgery() -> list[Any]:
    """Every forgery at every service that has to refuse it.

    From outside the VPC only what Freeside accepts reaches Finn: there the same forgery at Freeside, or
    another one that it must refuse, covers Finn's refusal.
    """
    return [
        pytest.param(
            service,
            case,
            marks=[
                controlled(service),
                requires(
                    service,
                    finn_covered_by=(
                        f"auth/refused[freeside-{case if case in cases('freeside') else 'tampered-payload'}]"
                    ),
                ),
            ],
            id=f"{service}-{case}",
        )
        for service in SERVICES
        for case in cases(service)
    ]


@pytest.fixture
def target(
    request: pytest.FixtureRequest, service: str, agent: str, tenants: Tenants, attacker: SigningKey
) -> Target:
    """The parametrised service as an attacker meets it; no other service's client is built."""
    return target_of(request.getfixturevalue(service), tenants.main, agent, attacker)


@pytest.mark.p0
@pytest.mark.parametrize("service", each_service("valid-token-is-accepted"))
def test_valid_token_is_accepted(target: Target, service: str) -> None:
    """The positive control: without it every refusal could be a service that refuses everything."""
    target.accepted()


@pytest.mark.p0
@pytest.mark.parametrize(("service", "case"), each_forgery())
def test_refused(
    target: Target, service: str, case: str, freeside: Freeside, tenants: Tenants, evidence: Evidence
) -> None:
    """A forged credential gets 401 or 403 (400 for a missing body hash) with a JSON error, and no charge."""
    watch = None if service == "dixie" else freeside.watch(tenants.main, evidence)
    statuses = (*REFUSALS, 400) if (service, case) == UNBOUND else REFUSALS
    require_refused(target.forged(case), service, case, statuses)
    if watch is not None:
        watch.unchanged(f"{service} refused {case}")


@pytest.mark.p0
@pytest.mark.parametrize("service", each_service("jti-is-spent-once"))
def test_jti_is_spent_once(target: Target, service: str) -> None:
    """A used token is refused when it is sent again."""
    header, _ = target.spent()
    require_spent(target.send(lambda: header), service, "a token that was used before")


@pytest.mark.p0
def test_jti_is_spent_on_every_route(
    freeside: Freeside, tenants: Tenants, agent: str, attacker: SigningKey
) -> None:
    """A token that was used on one route is refused on another."""
    target = target_of(freeside, tenants.main, agent, attacker)
    header, _ = replace(target, send=freeside.models).spent()
    require_spent(target.send(lambda: header), "freeside", "a token that was used on another route")


@pytest.mark.p1
@pytest.mark.parametrize("service", each_service("jti-is-spent-across-tenants"))
def test_jti_is_spent_across_tenants(target: Target, service: str, tenants: Tenants) -> None:
    """A jti that one tenant's token used is refused in a token of another tenant."""
    _, claims = target.spent()
    foreign = target.claims() | {"jti": claims["jti"], "tenant_id": tenants.other}
    answer = target.send(lambda: bearer(target.key(), foreign))
    require_spent(answer, service, "a jti that another tenant's token used")


@pytest.mark.p0
def test_budget_of_another_tenant_is_closed(freeside: Freeside, tenants: Tenants) -> None:
    """Another community's budget is refused to a valid token, whether that community exists or not."""
    freeside.budget(tenants.other)
    if freeside.dialects.budget == "gateway":
        own_figures_only(freeside, tenants)
        return
    for community in (tenants.main, "smoke-no-such-community"):
        answer = freeside.get_budget(community, freeside.credential(tenants.other))
        require_refused(
            answer, "freeside", f"a token of {tenants.other} for the budget of {community}", (403,)
        )


def own_figures_only(freeside: Freeside, tenants: Tenants) -> None:
    """The gateway's route names no community: naming another one must not change the figures."""
    credential = freeside.credential(tenants.other, role="admin")
    params = {"communityId": tenants.main, "tenant_id": tenants.main}
    answer = freeside.http.send("GET", "/api/agents/budget", credential, params=params)
    if answer.status_code == 200 and tenants.main in body_text(answer):
        raise SafetyViolation(f"a token of {tenants.other} was shown the budget of {tenants.main}")
    if answer.status_code == 200:
        reading_of(answer, "gateway", tenants.other)
    else:
        require_refused(answer, "freeside", "a request for another community's budget", (400, 403))


@controlled("freeside")
@pytest.mark.p0
@pytest.mark.parametrize("named_by", NAMED_BY)
def test_another_tenant_is_never_charged(
    freeside: Freeside, tenants: Tenants, named_by: str, evidence: Evidence
) -> None:
    """A request that names another community is charged to the token's community, or refused."""
    victim, payer = tenants.small, tenants.main
    members, headers = NAMED_BY[named_by](victim)
    victims, payers = (freeside.watch(tenant, evidence) for tenant in (victim, payer))
    body = freeside.invoke_body(prompt_for()) | members
    answer = freeside.post_invoke(body, tenant=payer, credential=freeside.credential(payer), headers=headers)
    require_status(answer, 200, 400, 403)
    victims.unchanged(f"a token of {payer} named {victim} in the {named_by}", I7)
    payers.charged([cost_in(answer)] if answer.status_code == 200 else [])


@pytest.mark.p0
@pytest.mark.parametrize("service", each_service("valid-token-is-still-accepted"))
def test_valid_token_is_still_accepted(target: Target, service: str) -> None:
    """The positive control again: refusing forgeries did not lock valid tokens out."""
    for case in ("garbage", "expired", "tampered-signature", "unknown-kid", "alg-none"):
        require_refused(target.forged(case), service, case)
    target.accepted()

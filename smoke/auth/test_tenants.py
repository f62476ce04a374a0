"""G-2, phase auth: tenants are kept apart, even those with similar names."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.contract.model import TIER_POOLS
from smoke.contract.neighbours import Near, strings, values
from smoke.platform.answers import body_text, require_status
from smoke.platform.attacks import mentions, require_refused
from smoke.platform.batch import Batch, Case, answering, mint_command
from smoke.platform.freeside import Freeside, Tenants, cost_in, nonce, prompt_for
from smoke.platform.invariants import I7, reading_of
from smoke.platform.parameters import Way, controlled

pytestmark = [
    pytest.mark.goal("G-2"),
    pytest.mark.phase("auth"),
    pytest.mark.requires("freeside", "key", "signing", "budget"),
    pytest.mark.usefixtures("alone"),
]

#: Places and names with which a request might name another community than its token's; a name in a header is
#: also tried in the query.
NAMED_BY = {"body": ("tenant_id", "communityId"), "header": ("X-Tenant-Id", "X-Community-Id")}


#: How many of the names closest to a tenant's are tried with a call.
CALLS = 4


@pytest.mark.p0
def test_budget_of_another_tenant_is_closed(freeside: Freeside, tenants: Tenants, batch: Batch) -> None:
    """Another community's budget is refused to any token, even an admin's, whether it exists or not."""
    own_figures_only(freeside, tenants)
    if freeside.dialects.budget == "gateway":
        admins_only(freeside, tenants, batch)
        return
    for community in (tenants.main, "smoke-no-such-community"):
        for whose, claims in {"a token": {}, "an admin's token": {"role": "admin"}}.items():
            answer = freeside.get_budget(community, freeside.credential(tenants.other, **claims))
            what = f"{whose} of {tenants.other} for the budget of {community}"
            require_refused(answer, "freeside", what, (403,))


def own_figures_only(freeside: Freeside, tenants: Tenants) -> None:
    """A query or a header that names another community does not change whose figures are shown.

    The figures before and after may differ: charges may still arrive, or come from others.
    """
    own = freeside.budget(tenants.other)
    credential, path = (
        freeside.credential(tenants.other, role="admin"),
        freeside.dialects.budget_path(own.tenant),
    )
    named, headers = (dict.fromkeys(names, tenants.main) for names in NAMED_BY.values())
    for params, more in ((named, {}), ({}, headers)):
        answer = freeside.http.send("GET", path, credential, params=params, headers=more)
        if answer.status_code != 200:
            require_refused(answer, "freeside", "a request for another community's budget", (400, 403))
            continue
        shown = reading_of(answer, freeside.dialects.budget, own.tenant).committed
        before, own = own, freeside.budget(tenants.other)
        least, most = sorted((before.committed, own.committed))
        if mentions(answer, tenants.main, own.tenant) or not least <= shown <= most:
            raise SafetyViolation(f"a token of {own.tenant} was shown the budget of {tenants.main}")


def admins_only(freeside: Freeside, tenants: Tenants, batch: Batch) -> None:
    """The gateway's route is only for the role admin: no other or similar role reads the figures."""
    quiet = freeside.unrecorded()
    roles = {"no role": {}, **{near.name: {"role": near.value} for near in values("admin")}}
    roles["a list of roles"] = {"roles": ["admin"]}
    batch.run(
        [
            Case(
                f"read with {name}",
                "the gateway's budget is for admins (1.5)",
                partial(quiet.get_budget, tenants.other, quiet.credential(tenants.other, **claims)),
                partial(require_refused, service="freeside", what=f"a budget's reader with {name}"),
                partial(mint_command, "freeside.budget", **claims),
            )
            for name, claims in roles.items()
        ]
    )


@controlled("freeside")
@pytest.mark.p1
@pytest.mark.requires("freeside.budget")
def test_unknown_tenant_has_no_budget(freeside: Freeside, batch: Batch) -> None:
    """A token for an unknown community sees no figures, whatever its role and tier."""
    quiet, named = freeside.unrecorded(), ("smoke-no-such-community", f"smoke-{nonce()}")
    whose: dict[str, dict[str, Any]] = {"an admin": {"role": "admin"}}
    if freeside.dialects.budget == "community":
        whose |= {"a user": {}, **{f"a user of the tier {tier}": {"tier": tier} for tier in TIER_POOLS}}
    batch.run(
        [
            Case(
                f"{community}, asked by {who}",
                "an unknown community has no budget (1)",
                partial(quiet.get_budget, community, quiet.credential(community, **claims)),
                answering(401, 403, 404),
                partial(mint_command, "freeside.budget", tenant_id=community, **claims),
            )
            for community in named
            for who, claims in whose.items()
        ]
    )


def named_on_each_route() -> list[Any]:
    """The ways to name a community, on every charged route."""
    covered_by = {"covered_by": "auth/another-tenant-is-never-charged[body]"}
    needs = {
        "freeside.invoke": ("", pytest.mark.requires("invoke")),
        "freeside.stream": ("-stream", pytest.mark.requires("freeside.stream", "stream")),
        "finn.invoke": ("-direct", pytest.mark.requires("finn", "finn.invoke", **covered_by)),
    }
    return [
        pytest.param(route, named_by, id=f"{named_by}{suffix}", marks=mark)
        for route, (suffix, mark) in needs.items()
        for named_by in NAMED_BY
    ]


@controlled("freeside")
@pytest.mark.p0
@pytest.mark.parametrize(("route", "named_by"), named_on_each_route())
def test_another_tenant_is_never_charged(
    route: str,
    named_by: str,
    ways: Callable[[str], Way],
    freeside: Freeside,
    tenants: Tenants,
    evidence: Evidence,
) -> None:
    """A request that names another community is charged to the token's community, or refused."""
    way, victim, payer = ways(route), tenants.small, tenants.main
    named, headers = (dict.fromkeys(names, victim) for names in NAMED_BY.values())
    victims, payers = (freeside.watch(tenant, evidence) for tenant in (victim, payer))
    if named_by == "body":
        answer = way.post(way.body(prompt_for()) | named, payer)
    else:
        answer = way.post(way.body(prompt_for()), payer, headers=headers, params=named)
    require_status(answer, 200, 400, 403)
    victims.unchanged(f"a token of {payer} named {victim} in the {named_by}", I7)
    payers.charged([cost_in(answer)] if answer.status_code == 200 else [])


@pytest.mark.p0
@controlled("freeside")
def test_near_tenant_is_another_tenant(
    freeside: Freeside, tenants: Tenants, batch: Batch, evidence: Evidence
) -> None:
    """A tenant with a similar name can neither read nor charge a tenant's budget."""
    victim, quiet = tenants.main, freeside.unrecorded()
    watch = freeside.watch(victim, evidence)
    near = [each for each in strings(victim) if each.value.isprintable()]
    gateway = freeside.dialects.budget == "gateway"

    def read(token_of: str, path_of: str) -> httpx.Response:
        claims = {"tenant_id": token_of} | ({"role": "admin"} if gateway else {})
        path = freeside.dialects.budget_path(quote(path_of, safe=""))
        return quiet.http.send("GET", path, quiet.credential(victim, **claims))

    def call(other: str) -> httpx.Response:
        credential = quiet.credential(victim, tenant_id=other)
        return quiet.post_invoke(quiet.invoke_body(prompt_for()), tenant=other, credential=credential)

    def closed(answer: httpx.Response) -> None:
        if not (gateway and answer.is_success):
            require_refused(answer, "freeside", "the budget of a tenant with a similar name", (401, 403, 404))
        elif json.dumps(victim) in body_text(answer):
            raise SafetyViolation(f"the budget of {victim} was shown to a tenant with a similar name")

    rule = "tenants with similar names are different tenants"
    cases = []
    for each in near:
        mint = partial(mint_command, "freeside.budget", tenant_id=each.value)
        cases.append(Case(f"read by {each.name}", rule, partial(read, each.value, victim), closed, mint))
    for each in near[:CALLS]:
        mint = partial(mint_command, "freeside.invoke", tenant_id=each.value)
        cases.append(Case(f"call by {each.name}", rule, partial(call, each.value), _answered, mint))
    for each in near if not gateway else ():
        if each.value.strip():
            mint = partial(mint_command, "freeside.budget")
            cases.append(Case(f"path of {each.name}", rule, partial(read, victim, each.value), closed, mint))
            mint = partial(mint_command, "freeside.budget", tenant_id=each.value)
            own = partial(read, each.value, each.value)
            cases.append(Case(f"its own, by {each.name}", rule, own, _unknown, mint))
    batch.run(cases)
    watch.unchanged(f"calls by tenants with a name like that of {victim}", I7)


@pytest.mark.p0
@pytest.mark.requires("finn", "finn.invoke", covered_by="auth/another-tenant-is-never-charged[body]")
@pytest.mark.control("auth/valid-token-is-accepted[finn.invoke]")
def test_unknown_tenant_has_no_direct_call(
    ways: Callable[[str], Way], freeside: Freeside, tenants: Tenants, batch: Batch, evidence: Evidence
) -> None:
    """A direct call for an unknown tenant, even if one letter differs, is refused and costs nothing."""
    way, watch = ways("finn.invoke"), freeside.watch(tenants.main, evidence)
    near = [each for each in strings(tenants.main) if each.value.isprintable()]
    unknown = [*near, Near("unlike any", "smoke-no-such-community")]
    batch.run(
        [
            Case(
                f"call by {each.name}",
                "a direct call is for a known tenant (2)",
                partial(way.post, way.body(prompt_for()), each.value),
                partial(require_refused, service="finn", what="an unknown tenant", statuses=(401, 403, 404)),
            )
            for each in unknown
        ]
    )
    watch.unchanged("direct calls of unknown tenants", I7)


def _unknown(answer: httpx.Response) -> None:
    """An unknown tenant has no budget; a new one that has made a call may have one."""
    require_status(answer, 200, 401, 403, 404)


def _answered(answer: httpx.Response) -> None:
    """An unknown tenant may be refused, or accepted as a new one that pays for itself."""
    require_status(answer, 200, 401, 402, 403, 404)

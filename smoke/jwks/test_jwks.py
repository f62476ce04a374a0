"""G-2, phase jwks: published keys verify ES256, contain no private member, and include the signing key."""

import pytest
from pytest_readiness import Evidence, SafetyViolation

from smoke.platform.answers import DIGITS, require_status
from smoke.platform.freeside import Freeside
from smoke.platform.http import ServiceClient
from smoke.platform.parameters import each
from smoke.platform.tokens import KeySet, SigningKeyLookup

pytestmark = [pytest.mark.goal("G-2"), pytest.mark.phase("jwks")]

MAX_CACHE_S = 300

#: Finn's own set is inside the VPC and used by Dixie; a runner outside cannot read it and need not.
SERVICES = each(marks=lambda name: [pytest.mark.p1 if name == "finn" else pytest.mark.p0])


@pytest.fixture
def key_set(request: pytest.FixtureRequest, service: str, evidence: Evidence) -> KeySet:
    """The published keys of the parametrised service."""
    client: ServiceClient = request.getfixturevalue(service)
    found = client.jwks()
    evidence.figure(f"keys of {service}", len(found.keys), at_least=1)
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_keys_verify_es256(key_set: KeySet, service: str) -> None:
    """There is a P-256 key for ES256, and every key is consistent with its own description."""
    assert key_set.keys, f"{key_set.route}: no key is published"
    assert key_set.for_es256(), f"{key_set.route}: none of the {len(key_set.keys)} keys is for ES256"
    assert not key_set.faults(), f"{key_set.route}: {'; '.join(key_set.faults())}"


@pytest.mark.parametrize("service", SERVICES)
def test_kids_are_unique(key_set: KeySet, service: str) -> None:
    """Every key has a kid, and no two share one."""
    assert key_set.keys, f"{key_set.route}: no key is published"
    assert not key_set.kid_faults(), f"{key_set.route}: {'; '.join(key_set.kid_faults())}"


@pytest.mark.parametrize("service", SERVICES)
def test_no_private_member(key_set: KeySet, service: str) -> None:
    """No part of a private key is published."""
    assert key_set.keys, f"{key_set.route}: no key is published"
    if key_set.private_members():
        raise SafetyViolation(f"{key_set.route}: published private members: {key_set.private_members()}")


@pytest.mark.p0
@pytest.mark.requires("freeside", "key")
@pytest.mark.establishes("signing")
def test_signing_key_is_published(signing_key: SigningKeyLookup, evidence: Evidence) -> None:
    """The signing key's public half is published under the kid that tokens carry."""
    signing_key.forget()
    evidence.figure("kid of the signing key", signing_key().kid)


@pytest.mark.p1
@pytest.mark.requires("freeside")
def test_cache_is_short(freeside: Freeside, evidence: Evidence) -> None:
    """The key set may be cached, for at most 5 minutes, so that a withdrawn key expires in time."""
    response = require_status(freeside.get_jwks(), 200)
    directives = [part.strip().lower() for part in response.headers.get("cache-control", "").split(",")]
    closed = sorted({"private", "no-cache", "no-store"} & {*directives})
    assert not closed, f"the key set is public for a time, its cache-control says {', '.join(closed)}"
    ages = [part.removeprefix("max-age=") for part in directives if part.startswith("max-age=")]
    assert len(ages) == 1, f"cache-control {directives} does not contain exactly one max-age"
    assert DIGITS.fullmatch(ages[0]), f"max-age is {ages[0]!r}, not whole seconds"
    evidence.figure("max-age", int(ages[0]), "s", limit=MAX_CACHE_S)
    assert int(ages[0]) <= MAX_CACHE_S, f"the key set may be cached for {ages[0]} s; limit {MAX_CACHE_S} s"


@pytest.mark.p1
@pytest.mark.requires("freeside")
def test_etag_answers_304(freeside: Freeside) -> None:
    """A request with the current ETag gets 304, any other one the key set."""
    first = require_status(freeside.get_jwks(), 200)
    tag = first.headers.get("etag", "")
    assert tag, "the key set has no ETag"
    for offered in (tag, f'W/"not-this-one", {tag}'):
        require_status(freeside.get_jwks(**{"If-None-Match": offered}), 304)
    require_status(freeside.get_jwks(**{"If-None-Match": 'W/"not-this-one"'}), 200)

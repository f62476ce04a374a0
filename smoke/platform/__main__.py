"""`python -m smoke.platform mint`: a throw-away credential, to send a counterexample of a report again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import httpx
from pytest_readiness import Environment, ProfileError, SetupError, load_environment

from smoke.contract.model import Access, Service, accesses
from smoke.contract.verifier import times
from smoke.network.transport import http_pool

from . import tokens
from .forgeries import Genuine, forgeries, varieties
from .http import HttpClient, ServiceClient, address_of, trust_of
from .tokens import Claims, SigningKey, SigningKeyLookup

#: The secret of the key that signs, by the service whose key set publishes it.
SECRETS = {"freeside": "auth.signing_key", "finn": "auth.finn_signing_key"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one Authorization header for curl's -H; exit 1 with a reason if there is none."""
    parser = argparse.ArgumentParser(prog="python -m smoke.platform", description=__doc__)
    commands = parser.add_subparsers(required=True)
    mint = commands.add_parser("mint", help="print an Authorization header that lives for five minutes")
    mint.add_argument("--env", required=True, metavar="NAME|PATH.toml", help="environment, as for pytest")
    mint.add_argument("--to", required=True, choices=[access.id for access in accesses()], metavar="ROUTE")
    mint.add_argument(
        "--case", default="", metavar="NAME", help="the case of the report (default: a good token)"
    )
    mint.add_argument(
        "--claim",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="a claim of a good token that is other",
    )
    mint.add_argument("--body", default="", help="the request's body, for a token that is bound to it")
    options = parser.parse_args(arguments)
    access = next(access for access in accesses() if access.id == options.to)
    try:
        environment = load_environment(options.env)
        with http_pool(
            "pytest-readiness-smoke", proxies=environment.live, trust=trust_of(environment)
        ) as pool:
            changed = {
                name: json.loads(value) for name, _, value in (one.partition("=") for one in options.claim)
            }
            genuine = genuine_of(environment, pool, access, options.body)
            header = header_of(replace(genuine, claims=genuine.claims | changed), options.case)
    except (ProfileError, SetupError, AssertionError, LookupError, ValueError, httpx.HTTPError) as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    print(f"Authorization: {header or ''}".rstrip())  # noqa: T201
    return 0


def genuine_of(environment: Environment, pool: httpx.Client, access: Access, body: str) -> Genuine:
    """A token that the route would accept from the suite's own tenant."""
    key = _key(environment, pool, access.kind.signer)
    at = address_of(environment, access.service)
    claims = claims_of(access, at, environment.auth.community_id, body)
    others: list[SigningKey] = []
    for signer in SECRETS.keys() - {access.kind.signer}:
        with suppress(SetupError, AssertionError, httpx.HTTPError):
            others.append(_key(environment, pool, signer))
    attacker = SigningKey.throwaway("smoke-attacker")
    kind = replace(access.kind, issuer=at.issuer(access.kind))
    return Genuine(kind, at.audience, key, claims, attacker, body.encode(), others=tuple(others))


def _key(environment: Environment, pool: httpx.Client, signer: str) -> SigningKey:
    address = address_of(environment, signer)
    client = ServiceClient(HttpClient(signer, environment.get(f"{signer}.url"), pool, address=address))
    return SigningKeyLookup(lambda: environment.secret(SECRETS[signer]), client.jwks)()


def claims_of(access: Access, at: Service, tenant: str, body: str) -> Claims:
    """The claims of that token. An admin's role does no harm where it is not required."""
    if access.kind.name == "call":
        return tokens.finn_claims(tenant, body.encode(), at=at)
    if access.kind.name == "service":
        return tokens.dixie_service_claims(at=at)
    return tokens.user_claims(tenant, at=at) | {"role": "admin"}


def header_of(genuine: Genuine, case: str) -> str | None:
    """The header of a case by its name, None for a request without one; LookupError when there is no such."""
    if not case:
        return f"Bearer {genuine.token()}"
    for each in times(time.time()):
        if each.name == case:
            return f"Bearer {genuine.token(claims=genuine.claims | dict(each.claims))}"
    for forgery in forgeries(genuine):
        if forgery.name == case:
            return forgery.header
    for near in varieties(genuine):
        if near.name == case:
            return near.value
    raise LookupError(f"no case {case!r}: take the name from the report")


if __name__ == "__main__":
    sys.exit(main())

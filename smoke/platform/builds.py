"""The build of every running service: from its health route, or its image's tag."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from functools import partial
from threading import Thread

import httpx
from pytest_readiness import Environment, ExternalOutage, SetupError

from smoke.aws.account import account_of
from smoke.aws.ecs import image_in_use
from smoke.aws.inventory import same_commit, tag_of
from smoke.aws.names import Names
from smoke.contract.model import SERVICES
from smoke.network.transport import http_pool, within

from .answers import parse_json, route_of
from .http import address_of, trust_of

#: Total time for the builds of all services, and the maximum length of one.
BUILDS_WITHIN_S = 3.0
LONGEST_BUILD = 200


def builds(environment: Environment) -> dict[str, str]:
    """The build of every reachable service, an empty string for one that does not answer in time.

    The worker has no route to ask: its build is its image's tag, as ECS runs it.
    """
    asked: dict[str, Callable[[], str]] = {}
    trust = trust_of(environment)  # read by one thread for all
    for service in SERVICES:
        url = environment.get(f"{service}.url")
        if url and (service != "finn" or environment.finn.reachable):
            asked[service] = partial(
                build_of,
                url + address_of(environment, service).path(SERVICES[service].health),
                trust=trust,
                proxies=environment.live,
            )
    if environment.aws.region and environment.aws.prefix:
        asked["worker"] = partial(_worker_of, environment)
    found = _in_time(asked, BUILDS_WITHIN_S)
    return {name: found.get(name, "") for name in asked}


def spelled_as(before: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Builds, each spelled as before if it is the same one, because another task may abbreviate it."""
    known = {name: before.get(name, "") for name in found}
    return {name: known[name] if same_commit(known[name], build) else build for name, build in found.items()}


def _in_time(calls: Mapping[str, Callable[[], str]], seconds: float) -> dict[str, str]:
    """The results, by name, of the calls that end within this many seconds.

    The others are left running in threads that end with the process.
    """
    results: dict[str, str] = {}

    def run(name: str) -> None:
        results[name] = calls[name]()

    threads = [Thread(target=run, args=(name,), daemon=True, name=name) for name in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(results)


def build_of(url: str, *, proxies: bool, trust: ssl.SSLContext | None = None) -> str:
    """The build in the health report at ``url``; empty if there is none in time."""
    try:
        with http_pool("pytest-readiness-smoke", proxies=proxies, trust=trust) as http:
            response = http.get(url, timeout=within(BUILDS_WITHIN_S))
        body = parse_json(response, route_of(response))
    except (httpx.HTTPError, AssertionError, SetupError):
        return ""
    build = body.get("build_sha") if isinstance(body, Mapping) else None
    return build[:LONGEST_BUILD] if isinstance(build, str) else ""


def _worker_of(environment: Environment) -> str:
    try:
        return tag_of(image_in_use(account_of(environment), Names(environment.aws.prefix), "worker"))
    except (SetupError, ExternalOutage):
        return ""

"""The platform's own services as parts of the stack: addresses, environments, replacements."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from stack.aws.inventory import CREDENTIALS, PREFIX, SOURCES_DIGEST, build_sha, secret_id, sources_digest
from stack.host import LOOPBACK, RunDir, StackError, answers_ok
from stack.supervisor import Command, Part

HEALTH = {"provider": "/health", "finn": "/health", "dixie": "/api/health", "freeside": "/health"}
# The worker has no port; it is replaced together with the API, because both work on the same tables.
COMPANIONS = {"worker": "freeside"}
SECRET_POLL_S = "1"
JWKS_CACHE_S = "5"
# What a child may see of the caller's environment: no proxy, no AWS profile, no credentials.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True)
class Addresses:
    """Where each HTTP service answers, and which of them run elsewhere."""

    urls: Mapping[str, str]
    replaced: frozenset[str]

    @classmethod
    def choose(cls, ports: Mapping[str, int], environ: Mapping[str, str]) -> "Addresses":
        """Take `STACK_<SERVICE>_URL` from the environment where it is set, else a local port.

        `STACK_<SERVICE>_PORT` fixes the port, so that a stand-in of another service knows it beforehand.
        Raises StackError for a value that is not an http(s) URL, or not a port.
        """
        urls = {name: f"http://{LOOPBACK}:{_port(name, environ) or ports[name]}" for name in HEALTH}
        replaced = {}
        for name in HEALTH:
            variable = f"STACK_{name.upper()}_URL"
            value = environ.get(variable, "").rstrip("/")
            if not value:
                continue
            address = urlsplit(value)
            if address.scheme not in ("http", "https") or not address.hostname:
                raise StackError(
                    f"{variable} is not a URL: {value!r}", "allowed: http://HOST[:PORT] or https://HOST"
                )
            replaced[name] = value
        return cls({**urls, **replaced}, frozenset(replaced))

    def hosts(self) -> dict[str, str]:
        """Return HOST:PORT of every service."""
        found = {}
        for name, url in self.urls.items():
            address = urlsplit(url)
            found[name] = f"{address.hostname}:{address.port or (443 if address.scheme == 'https' else 80)}"
        return found


def _port(name: str, environ: Mapping[str, str]) -> int:
    """The port that the environment fixes for a service; 0 where it does not."""
    variable = f"STACK_{name.upper()}_PORT"
    text = environ.get(variable, "")
    if text and not (text.isdecimal() and 0 < int(text) < 65536):
        raise StackError(f"{variable} is not a port: {text!r}", "allowed: 1 to 65535")
    return int(text or 0)


def base_environ() -> dict[str, str]:
    """Return the environment that every child starts from, with the `stack` package importable."""
    environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {
        **environ,
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONUNBUFFERED": "1",
        SOURCES_DIGEST: sources_digest(),
    }


def python(module: str, *arguments: str) -> list[str]:
    """Return the command line of one of the stack's own processes."""
    return [sys.executable, "-m", module, *arguments]


def parts(
    run: RunDir,
    addresses: Addresses,
    shared: Mapping[str, str],
    dsns: Mapping[str, str],
    needs: frozenset[str],
    settings: Mapping[str, str],
) -> list[Part]:
    """Return a part for every service that runs here.

    `shared` is every service's environment, `dsns` the connection URL of each database user, `needs` what
    must be up before the services that keep state start (the model provider keeps none), `settings` what a
    variant gives every service beyond that.
    """
    found = []
    for name in (*HEALTH, *COMPANIONS):
        owner = COMPANIONS.get(name, name)
        if owner in addresses.replaced:
            continue
        environ = {**base_environ(), **CREDENTIALS, **shared, "STACK_PREFIX": PREFIX,
                   "STACK_BUILD_SHA": build_sha(name), "STACK_SECRET_POLL_S": SECRET_POLL_S,
                   "STACK_JWKS_CACHE_S": JWKS_CACHE_S}  # fmt: skip
        environ |= {f"STACK_{other.upper()}_URL": url for other, url in addresses.urls.items()}
        if owner in dsns:
            environ |= {"STACK_DSN": dsns[owner], "STACK_SECRET_ID": secret_id(owner)}
        ready: Callable[[], bool] = _has_no_port
        if name in HEALTH:
            environ["STACK_PORT"] = str(urlsplit(addresses.urls[name]).port)
            ready = partial(answers_ok, addresses.urls[name] + HEALTH[name])
        command = Command(python("stack.serve", name), {**environ, **settings}, run.path)
        found.append(Part(name, command, needs if owner in dsns else frozenset(), ready))
    return found


def _has_no_port() -> bool:
    # The worker has no health route: it is up as long as it runs.
    return True

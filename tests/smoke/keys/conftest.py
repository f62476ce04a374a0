"""The commands of `smoke.keys` and the platform that they act on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_readiness import load_environment

from smoke.keys.context import SERVICES, KeyPlatform
from smoke.keys.revocation import bootstrap
from stack.launch import Stack
from tests.smoke.keys.command import Command
from tests.smoke.keys.fakes import Bench
from tests.smoke.keys.proxy import AwsProxy

ROOT = Path(__file__).parents[3]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The platform once its services follow their secrets again."""
    for name, value in stack.environ.items():
        monkeypatch.setenv(name, value)
    with KeyPlatform(load_environment(str(stack.profile_path))) as platform:
        bootstrap(platform, SERVICES, lambda _: None)
    return stack


@pytest.fixture
def platform(stack: Stack) -> Iterator[KeyPlatform]:
    """The platform as the commands see it."""
    with KeyPlatform(load_environment(str(stack.profile_path))) as platform:
        yield platform


@pytest.fixture
def proxy(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsProxy]:
    """A recording proxy that commands started from here on use."""
    proxy = AwsProxy(stack.profile["aws"]["endpoint_url"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.close()


@pytest.fixture
def keys(stack: Stack) -> Iterator[Command]:
    """Starts `python -m smoke.keys` against the platform; nothing that it started survives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(command: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "smoke.keys", command, "--env", str(stack.profile_path), *arguments],
            cwd=ROOT,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield Command(start)
    for process in started:
        process.kill()
        process.communicate()

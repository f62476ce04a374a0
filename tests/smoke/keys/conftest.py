"""One running platform for the tests that turn its keys; each finds the keys as they were after the boot."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_readiness import load_environment

from smoke.keys.bootstrap import bootstrap
from smoke.keys.context import SERVICES, KeyPlatform
from stack.launch import Stack
from tests.smoke.keys.command import Command
from tests.smoke.keys.proxy import AwsProxy
from tests.stack.tools import request

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def running() -> Iterator[Stack]:
    """A platform for all tests."""
    with Stack.start() as stack:
        yield stack


@pytest.fixture
def stack(running: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """The platform after a reset, once its services follow their secrets again."""
    status, answer = request("POST", f"{running.control_url}/reset", timeout=30)
    assert status == 200, answer
    for name, value in running.environ.items():
        monkeypatch.setenv(name, value)
    with KeyPlatform(load_environment(str(running.profile_path))) as platform:
        bootstrap(platform, SERVICES, lambda _: None)
    return running


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

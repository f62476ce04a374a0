"""The commands against the running platform: what they call and refuse; no key is ever shown."""

import json
from pathlib import Path

import pytest
from pytest_readiness import load_environment

from smoke.keys.context import SERVICES, KeyPlatform, parse
from smoke.keys.store import DRY_RUN
from stack.launch import Stack
from tests.smoke.keys.command import Command, Ended
from tests.smoke.keys.proxy import AwsProxy
from tests.stack.tools import request

WRITES = {"PutSecretValue", "UpdateSecretVersionStage"}


def versions(platform: KeyPlatform) -> dict[str, object]:
    return {service: dict(platform.store(service).labels()) for service in SERVICES}


def assert_ended(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended
    lines = ended.err.strip().splitlines()
    assert 1 <= len(lines) <= 3, ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.err


@pytest.mark.parametrize(
    "command",
    [
        ["bootstrap"],
        ["bootstrap", "--dry-run"],
        ["rotate", "--dry-run"],
        ["revoke", "--service", "finn", "--dry-run"],
    ],
)
def test_dry_runs_and_a_second_bootstrap_write_nothing(
    platform: KeyPlatform, proxy: AwsProxy, keys: Command, command: list[str]
) -> None:
    before = versions(platform)
    ended = keys(*command)
    assert ended.code == 0, ended
    assert proxy.calls, "the proxy saw no call"
    assert not WRITES & set(proxy.calls)
    allowed = {permission.partition(":")[2] for permission in DRY_RUN}
    assert set(proxy.calls) <= allowed
    assert versions(platform) == before


def test_a_dry_run_names_the_steps_and_the_operator(keys: Command) -> None:
    ended = keys("rotate", "--service", "finn", "--dry-run")
    assert [line.split()[0] for line in ended.out.splitlines()[1:9]] == list("12345678")
    assert "role/arrakis-staging-key-operator is allowed all 4 actions" in ended.out


def test_a_missing_permission_is_named(stack: Stack, keys: Command) -> None:
    request("PUT", f"{stack.control_url}/faults/operator-cannot-write")
    assert_ended(
        keys("rotate", "--service", "finn", "--dry-run"), 6, "secretsmanager:PutSecretValue", "key-operator"
    )


@pytest.mark.parametrize(
    ("call", "code", "status", "words"),
    [
        ("GetSecretValue", "AccessDeniedException", 400, ["secretsmanager:GetSecretValue", "grant"]),
        ("DescribeSecret", "AccessDeniedException", 400, ["secretsmanager:DescribeSecret", "grant"]),
        ("PutSecretValue", "AccessDeniedException", 400, ["secretsmanager:PutSecretValue", "grant"]),
        ("UpdateSecretVersionStage", "AccessDeniedException", 400, ["UpdateSecretVersionStage", "grant"]),
        ("GetSecretValue", "ThrottlingException", 400, ["ThrottlingException", "inconclusive"]),
        ("GetSecretValue", "InternalServiceError", 500, ["InternalServiceError", "inconclusive"]),
        ("GetSecretValue", "ExpiredTokenException", 400, ["ExpiredTokenException", "renew"]),
    ],
)
def test_a_refusal_by_aws_names_the_permission(
    platform: KeyPlatform, proxy: AwsProxy, keys: Command, call: str, code: str, status: int, words: list[str]
) -> None:
    proxy.refuse = {call: (code, status)}
    current = {service: platform.current(service) for service in SERVICES}
    assert_ended(keys("rotate", "--service", "dixie"), 6, *words)
    assert {service: platform.current(service) for service in SERVICES} == current


def test_a_bootstrap_that_cannot_read_writes_nothing(keys: Command, proxy: AwsProxy) -> None:
    proxy.refuse = {"GetSecretValue": ("AccessDeniedException", 400)}
    assert_ended(keys("bootstrap"), 6, "secretsmanager:GetSecretValue")
    assert not WRITES & set(proxy.calls)


def test_bad_input_is_refused_with_what_is_allowed(keys: Command, proxy: AwsProxy) -> None:
    assert_ended(keys("rotate", "--service", "nobody"), 4, "freeside", "finn", "dixie")
    assert_ended(keys("revoke"), 4, "--service", "freeside, finn, dixie")
    assert_ended(keys("twist"), 4, "bootstrap", "rotate", "revoke")
    assert_ended(keys("rotate", "--service", "finn", "--resume"), 4, "nothing to resume")
    assert not WRITES & set(proxy.calls)


def test_a_protected_environment_is_left_alone(
    stack: Stack, keys: Command, proxy: AwsProxy, tmp_path: Path
) -> None:
    text = stack.profile_path.read_text().replace("protected = false", "protected = true")
    profile = tmp_path / "protected.toml"
    profile.write_text(text)
    for command in (["bootstrap"], ["rotate"], ["revoke", "--service", "finn"]):
        process = keys.start(*command, "--env", str(profile))
        assert_ended(keys.end(process), 4, "protected", "--dry-run")
    assert proxy.calls == []
    dry = keys.end(keys.start("rotate", "--service", "finn", "--dry-run", "--env", str(profile)))
    assert dry.code == 0, dry


def test_a_revocation_limit_beyond_the_contracts_is_refused(
    stack: Stack, keys: Command, tmp_path: Path
) -> None:
    profile = tmp_path / "lax.toml"
    profile.write_text(
        stack.profile_path.read_text().replace("revocation_limit_s = 10", "revocation_limit_s = 301")
    )
    assert_ended(
        keys.end(keys.start("bootstrap", "--env", str(profile))), 4, "keys.revocation_limit_s", "1 to 300"
    )


def test_a_fresh_platform_is_bootstrapped_and_followed(
    stack: Stack, keys: Command, platform: KeyPlatform
) -> None:
    request("PUT", f"{stack.control_url}/faults/secret-placeholder-dixie")
    ended = keys("bootstrap")
    assert ended.code == 0, ended
    assert "dixie: bootstrapped, dixie-20" in ended.out
    assert "not compared" not in ended.out
    assert "KEYS-NEXT" not in platform.store("dixie").labels()


@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_no_key_is_ever_shown(
    keys: Command,
    proxy: AwsProxy,
    platform: KeyPlatform,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Not with every logger at DEBUG, not in the arguments, not in a traceback of the interpreter itself."""
    hook = tmp_path / "sitecustomize.py"
    hook.write_text("import logging\nlogging.basicConfig(level=logging.DEBUG)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = keys.start(command, "--service", "finn")
    arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    ended = keys.end(process)
    assert ended.code == 0, ended.out
    assert "DEBUG" in ended.err, "the loggers said nothing, so this proves nothing"
    secrets = set()
    for body in proxy.bodies:
        value = json.loads(body).get("SecretString", "")
        document = parse(value, "finn") if "privateKey" in value else None
        if document is not None:
            secrets |= {line for line in json.loads(value)["privateKey"].splitlines() if "-----" not in line}
    assert len(secrets) >= 2, "no key was written, so this proves nothing"
    shown = ended.out + ended.err + arguments.decode()
    assert not [secret for secret in secrets if secret in shown]
    assert "PRIVATE KEY" not in shown


def test_an_unknown_environment_is_refused() -> None:
    with pytest.raises(Exception, match="unknown environment"):
        load_environment("nowhere")

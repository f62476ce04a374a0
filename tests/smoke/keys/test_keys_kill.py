"""Rotations killed at each step and resumed, two at once, a revocation: with valid tokens throughout."""

import pytest

from smoke.keys.context import KeyPlatform
from smoke.keys.rotation import STEPS, Issuer, TokenStream
from smoke.keys.store import LOCK, NEXT
from smoke.keys.verifiers import TokenReply
from tests.smoke.keys.command import Command


def stream_of(platform: KeyPlatform, service: str) -> TokenStream:
    """A token every 50 ms to every verifier, signed as an issuer would that reads the secret every second."""
    context = platform.context(service)
    issuer = Issuer(context.store, context.named, platform.environment.keys.reread_s)
    return TokenStream(platform.context(service).verifiers, issuer)


def assert_nobody_was_refused(stream: TokenStream) -> None:
    assert [str(refusal) for refusal in stream.refusals] == []
    for name, count in stream.counts.items():
        assert count.answers[TokenReply.SILENT] == 0, (name, count)
        assert count.longest_gap_s < 3.0, (name, count)
        # half of one every 50 ms: the machine is shared
        assert count.answers[TokenReply.ACCEPTED] >= stream.lasted_s / 0.1, (name, stream.lasted_s, count)


def assert_clean(platform: KeyPlatform, service: str, old_kid: str) -> None:
    """Exactly one published key, with no lock and no prepared version left."""
    context = platform.context(service)
    reading = context.read()
    assert reading.document.active.kid != old_kid
    assert reading.document.pending is None
    assert context.unpublished(reading.document.active, gone=(old_kid,)) == ""
    assert not {LOCK, NEXT} & set(context.store.labels())
    for verifier in context.verifiers:
        assert verifier.ask(reading.document.active) is TokenReply.ACCEPTED


@pytest.mark.parametrize("step", range(1, len(STEPS) + 1))
def test_a_kill_at_a_step_is_resumed_without_refusing_anybody(
    keys: Command, platform: KeyPlatform, step: int
) -> None:
    old_kid = platform.context("freeside").read().document.active.kid
    with stream_of(platform, "freeside") as stream:
        process = keys.until(f"{step}/8", "rotate", "--service", "freeside")
        process.kill()
        process.wait()
        if LOCK in platform.store("freeside").labels():
            again = keys("rotate", "--service", "freeside")
            assert again.code == 4
            assert "rotate --resume" in again.err
            ended = keys("rotate", "--service", "freeside", "--resume")
        else:
            assert step == 1, "only the first step may be killed before the lock is taken"
            ended = keys("rotate", "--service", "freeside")
        assert ended.code == 0, ended
    assert_nobody_was_refused(stream)
    assert_clean(platform, "freeside", old_kid)


def test_two_at_once_are_refused_and_the_first_one_ends_well(keys: Command, platform: KeyPlatform) -> None:
    old_kid = platform.context("finn").read().document.active.kid
    with stream_of(platform, "finn") as stream:
        first = keys.until("4/8", "rotate", "--service", "finn")
        second = keys("rotate", "--service", "finn")
        assert second.code == 4
        assert "locked by a rotate of finn's key" in second.err
        assert len(second.err.strip().splitlines()) == 3
        assert keys.end(first).code == 0
    assert_nobody_was_refused(stream)
    assert_clean(platform, "finn", old_kid)


def test_a_revocation_takes_the_lock_of_a_rotation_that_runs(keys: Command, platform: KeyPlatform) -> None:
    rotation = keys.until("4/8", "rotate", "--service", "dixie")
    revocation = keys("revoke", "--service", "dixie")
    assert revocation.code == 0, revocation
    assert "taking the lock from the rotate of dixie's key" in revocation.out
    assert keys.end(rotation).code == 1
    active = platform.context("dixie").read().document.active.kid
    assert active.startswith("dixie-emergency-")
    assert not {LOCK, NEXT} & set(platform.store("dixie").labels())


def test_a_killed_revocation_is_resumed(keys: Command, platform: KeyPlatform) -> None:
    process = keys.until("2/3", "revoke", "--service", "freeside")
    process.kill()
    process.wait()
    ended = keys("revoke", "--service", "freeside", "--resume")
    assert ended.code == 0, ended
    assert "left in the new state: freeside-emergency-" in ended.out
    for name in ("freeside", "finn", "dixie", "freeside's key set"):
        assert f"{name}: old key last accepted after" in ended.out

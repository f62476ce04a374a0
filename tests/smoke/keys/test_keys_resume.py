"""The lock of a rotation: kills before and after every write, resumption, rivals, changes from outside."""

import pytest

from smoke.keys.context import Document, new_key, parse, same_key
from smoke.keys.revocation import Revocation
from smoke.keys.rotation import Rotation
from smoke.keys.store import LOCK, CommandRefused, KeyFault, Lock, LockHeld
from tests.smoke.keys.fakes import SECRET, Bench, writes_of


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", writes_of(Rotation))
def test_a_kill_at_any_write_can_be_resumed(bench: Bench, number: int, when: str) -> None:
    bench.kill(Rotation(bench.context()).run, number, when)
    bench.secrets.after = bench.secrets.before = lambda _: bench.assert_the_active_key_is_accepted()
    held = LOCK in bench.labels
    if not held and bench.kids == ["first"]:
        Rotation(bench.context()).run()
    elif held:
        with pytest.raises(LockHeld, match="rotate --resume"):
            Rotation(bench.context()).run()
        Rotation(bench.context("another")).run(resume=True)
    assert len(bench.kids) == 1
    assert bench.kids != ["first"]
    assert bench.labels == {"AWSCURRENT", "AWSPREVIOUS"}


def test_the_key_that_a_killed_run_prepared_is_the_one_that_is_published(bench: Bench) -> None:
    bench.kill(Rotation(bench.context()).run, 5, "before")
    assert bench.kids == ["first"]
    staged = parse(bench.secrets.versions[bench.secrets.labels["KEYS-NEXT"]]["SecretString"], SECRET)
    Rotation(bench.context()).run(resume=True)
    current = parse(bench.secrets.current, SECRET)
    assert staged is not None
    assert staged.pending is not None
    assert current is not None
    assert same_key(staged.pending, current.active)


def test_two_at_once_are_refused(bench: Bench) -> None:
    def other(name: str) -> None:
        if name == "put_secret_value" and LOCK in bench.labels:
            bench.secrets.before = lambda _: None
            with pytest.raises(LockHeld, match=r"locked by a rotate .* by tester"):
                Rotation(bench.context("second")).run()

    bench.secrets.before = other
    new = Rotation(bench.context()).run().new_kid
    assert bench.kids == [new]


def test_a_run_that_lost_its_lock_stops_before_it_writes(bench: Bench) -> None:
    def seized(name: str) -> None:
        if name == "put_secret_value" and len(bench.kids) == 2:
            bench.secrets.after = lambda _: None
            Rotation(bench.context("impatient")).run(resume=True)

    bench.secrets.after = seized
    with pytest.raises(KeyFault, match=r"took over the lock|another process changed the secret"):
        Rotation(bench.context()).run()
    assert len(bench.kids) == 1
    assert LOCK not in bench.labels


def test_a_run_that_lost_its_lock_changes_nothing_more(bench: Bench) -> None:
    """Although the secret has not changed since, so that no compare-and-set would stop it."""

    def seized(name: str) -> None:
        if name == "put_secret_value" and "KEYS-NEXT" in bench.labels:
            bench.secrets.after = lambda _: None
            lock = Lock(bench.store)
            holder = lock.holder()
            assert holder is not None
            lock.take_over(holder, "impatient")

    bench.secrets.after = seized
    with pytest.raises(KeyFault, match="took over the lock"):
        Rotation(bench.context()).run()
    assert bench.kids == ["first"]


def test_a_change_from_outside_is_not_overwritten(bench: Bench) -> None:
    intruder = Document(new_key("intruder")).to_secret()

    def intrude(name: str) -> None:
        if name == "put_secret_value" and "KEYS-NEXT" in bench.labels:
            bench.secrets.after = lambda _: None
            bench.secrets.overwrite(intruder)

    bench.secrets.after = intrude
    with pytest.raises(KeyFault, match="another process changed the secret"):
        Rotation(bench.context()).run()
    assert bench.kids == ["intruder"]
    with pytest.raises(KeyFault, match="holds intruder"):
        Rotation(bench.context()).run(resume=True)
    assert bench.kids == ["intruder"]


@pytest.mark.parametrize("held", ["nothing", "revocation"])
def test_only_a_rotation_can_be_resumed(bench: Bench, held: str) -> None:
    if held == "revocation":
        bench.kill(Revocation(bench.context()).run, 4)
    with pytest.raises(
        CommandRefused, match="nothing to resume" if held == "nothing" else "not by a rotation"
    ):
        Rotation(bench.context()).run(resume=True)


def test_a_secret_that_changes_while_the_lock_is_taken_is_left_alone(bench: Bench) -> None:
    def intrude(name: str) -> None:
        if name == "put_secret_value":
            bench.secrets.after = lambda _: None
            bench.secrets.overwrite(Document(new_key("other")).to_secret())

    bench.secrets.after = intrude
    with pytest.raises(CommandRefused, match="changed while the lock was taken"):
        Rotation(bench.context()).run()
    assert bench.kids == ["other"]
    assert LOCK not in bench.labels


def test_the_plan_reports_a_stale_lock(bench: Bench) -> None:
    bench.kill(Rotation(bench.context()).run, 6)
    with pytest.raises(LockHeld, match="rotate --resume"):
        Rotation(bench.context()).plan()

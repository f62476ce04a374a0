"""The rotation against a secret in memory: its states, and a kill before and after every single write."""

import json

import pytest
from pytest_readiness import SafetyViolation

from smoke.clients.tokens import SigningKey
from smoke.keys.documents import Document, new_key
from smoke.keys.errors import KeyFault, LockHeld, Refused
from smoke.keys.lock import LOCK
from smoke.keys.probes import Answer
from smoke.keys.revocation import Revocation
from smoke.keys.rotation import Rotation
from tests.smoke.keys.fakes import Bench, FakeService, Killed


@pytest.fixture
def bench() -> Bench:
    return Bench()


def writes_of_a_rotation() -> int:
    bench = Bench()
    Rotation(bench.subject()).run()
    return len(bench.secrets.writes)


def test_a_rotation_ends_with_the_new_key_alone(bench: Bench) -> None:
    outcome = Rotation(bench.subject()).run()
    assert (outcome.old_kid, bench.kids) == ("first", [outcome.new_kid])
    assert bench.value().keys() == {"schemaVersion", "activeKid", "privateKey"}
    assert bench.labels == {"AWSCURRENT", "AWSPREVIOUS"}
    assert sorted(outcome.took) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_secret_passes_through_the_contracts_states(bench: Bench) -> None:
    seen: list[list[str]] = []

    def look(_: str) -> None:
        if bench.kids not in seen:
            seen.append(bench.kids)

    bench.secrets.after = look
    new = Rotation(bench.subject()).run().new_kid
    assert seen == [["first"], ["first", new], [new, "first"], [new]]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, writes_of_a_rotation() + 1))
def test_a_kill_at_any_write_can_be_resumed(bench: Bench, number: int, when: str) -> None:
    bench.kill_at(number, when)
    with pytest.raises(Killed):
        Rotation(bench.subject()).run()
    bench.heal()
    held = LOCK in bench.labels
    if not held and bench.kids == ["first"]:
        Rotation(bench.subject()).run()
    elif held:
        with pytest.raises(LockHeld, match="rotate --resume"):
            Rotation(bench.subject()).run()
        Rotation(bench.subject("another")).run(resume=True)
    assert len(bench.kids) == 1
    assert bench.kids != ["first"]
    assert bench.labels == {"AWSCURRENT", "AWSPREVIOUS"}


def test_a_kill_never_leaves_a_key_that_nobody_knows(bench: Bench) -> None:
    """The key that a killed run generated is the one that its resumption publishes."""
    bench.kill_at(5, "before")
    with pytest.raises(Killed):
        Rotation(bench.subject()).run()
    bench.heal()
    staged = bench.secrets.versions[bench.secrets.labels["KEYS-NEXT"]]["SecretString"]
    bench.secrets.calls.clear()
    Rotation(bench.subject()).run(resume=True)
    assert staged in [version["SecretString"] for version in bench.secrets.versions.values()]
    assert f'"activeKid": "{bench.kids[0]}"' not in staged
    assert bench.kids[0] in staged


def test_two_at_once_are_refused(bench: Bench) -> None:
    def other(name: str) -> None:
        if name == "put_secret_value" and LOCK in bench.labels:
            bench.secrets.before = lambda _: None
            with pytest.raises(LockHeld, match=r"locked by a rotate .* by tester"):
                Rotation(bench.subject("second")).run()

    bench.secrets.before = other
    new = Rotation(bench.subject()).run().new_kid
    assert bench.kids == [new]


def test_a_run_that_lost_its_lock_stops_before_it_writes(bench: Bench) -> None:
    def seized(name: str) -> None:
        if name == "put_secret_value" and len(bench.kids) == 2:
            bench.secrets.after = lambda _: None
            Rotation(bench.subject("impatient")).run(resume=True)

    bench.secrets.after = seized
    with pytest.raises(KeyFault, match=r"taken the lock over|changed by somebody else"):
        Rotation(bench.subject()).run()
    assert len(bench.kids) == 1
    assert LOCK not in bench.labels


def test_a_change_from_outside_is_not_overwritten(bench: Bench) -> None:
    intruder = Document(new_key("intruder")).to_secret()

    def intrude(name: str) -> None:
        if name == "put_secret_value" and "KEYS-NEXT" in bench.labels:
            bench.secrets.after = lambda _: None
            bench.secrets.overwrite(intruder)

    bench.secrets.after = intrude
    with pytest.raises(KeyFault, match="changed by somebody else"):
        Rotation(bench.subject()).run()
    assert bench.kids == ["intruder"]
    with pytest.raises(KeyFault, match="holds intruder"):
        Rotation(bench.subject()).run(resume=True)
    assert bench.kids == ["intruder"]


@pytest.mark.parametrize("held", ["nothing", "revocation"])
def test_only_a_rotation_can_be_resumed(bench: Bench, held: str) -> None:
    if held == "revocation":
        bench.kill_at(4, "after")
        with pytest.raises(Killed):
            Revocation(bench.subject()).run()
        bench.heal()
    with pytest.raises(Refused, match="nothing to resume" if held == "nothing" else "no rotation"):
        Rotation(bench.subject()).run(resume=True)


def test_a_service_that_does_not_follow_keeps_both_keys_valid(bench: Bench) -> None:
    bench.verifiers[2].follows = False
    with pytest.raises(KeyFault, match=r"dixie .*\n.*rotate --resume"):
        Rotation(bench.subject()).run()
    assert bench.kids[0] == "first"
    assert len(bench.kids) == 2
    bench.verifiers[2].follows = True
    new = Rotation(bench.subject()).run(resume=True).new_kid
    assert bench.kids == [new]


def test_an_old_key_that_stays_accepted_is_a_fault(bench: Bench) -> None:
    bench.verifiers[1].keeps_old = True
    with pytest.raises(KeyFault, match="first is not refused by finn"):
        Rotation(bench.subject()).run()
    assert LOCK in bench.labels


def test_a_valid_token_that_is_refused_is_a_safety_violation(bench: Bench) -> None:
    class Forgetful(FakeService):
        def ask(self, key: SigningKey) -> Answer:
            answer = super().ask(key)
            return Answer.REFUSED if len(bench.kids) == 2 and self.asked % 7 == 0 else answer

    bench.verifiers = (Forgetful("freeside", bench.secrets),)
    with pytest.raises(SafetyViolation, match="freeside refused a valid token"):
        Rotation(bench.subject()).run()


def test_a_verifier_that_accepts_anything_proves_nothing(bench: Bench) -> None:
    class Gullible(FakeService):
        def ask(self, key: SigningKey) -> Answer:
            return Answer.ACCEPTED

    bench.verifiers = (Gullible("freeside", bench.secrets),)
    with pytest.raises(SafetyViolation, match="a stranger signed"):
        Rotation(bench.subject()).run()
    assert bench.secrets.writes == []


def test_a_silent_verifier_is_no_reason_to_switch(bench: Bench) -> None:
    bench.verifiers[1].silent = True
    with pytest.raises(KeyFault, match="finn"):
        Rotation(bench.subject()).run()
    assert bench.secrets.writes == []


def test_a_foreign_pending_key_is_left_alone(bench: Bench) -> None:
    bench.secrets.overwrite(Document(new_key("first"), new_key("whose")).to_secret())
    with pytest.raises(KeyFault, match="whose was not left by a run"):
        Rotation(bench.subject()).run()
    assert bench.secrets.writes == []


def test_a_bare_pem_keeps_the_kid_that_is_published(bench: Bench) -> None:
    key = new_key("thumbprint")
    bench.secrets.overwrite(json.loads(Document(key).to_secret())["privateKey"])
    bench.owner.names_pem = bench.verifiers[0].names_pem = "thumbprint"
    bench.verifiers = bench.verifiers[:1]
    seen: list[list[str]] = []
    bench.secrets.after = lambda _: seen.append(bench.kids)
    outcome = Rotation(bench.subject()).run()
    assert outcome.old_kid == "thumbprint"
    assert ["thumbprint", outcome.new_kid] in seen
    assert bench.kids == [outcome.new_kid]


def test_a_bare_pem_that_nobody_publishes_gets_no_made_up_kid(bench: Bench) -> None:
    bench.secrets.overwrite(json.loads(Document(new_key("")).to_secret())["privateKey"])
    bench.owner.follows = False
    with pytest.raises(KeyFault, match="none of the published keys is its public half"):
        Rotation(bench.subject()).run()
    assert bench.secrets.writes == []


def test_the_plan_writes_nothing_and_names_every_step(bench: Bench) -> None:
    plan = Rotation(bench.subject()).plan()
    assert [line.split()[0] for line in plan] == list("12345678")
    assert bench.secrets.writes == []


def test_the_plan_tells_of_a_lock_that_was_left(bench: Bench) -> None:
    bench.kill_at(6, "after")
    with pytest.raises(Killed):
        Rotation(bench.subject()).run()
    bench.heal()
    with pytest.raises(LockHeld, match="rotate --resume"):
        Rotation(bench.subject()).plan()

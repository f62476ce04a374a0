"""The rotation against a secret in memory: its states, and what stops it."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from pytest_readiness import SafetyViolation

from smoke.keys.context import Document, new_key
from smoke.keys.rotation import Rotation
from smoke.keys.store import LOCK, CommandRefused, KeyFault, Unproved
from smoke.keys.verifiers import TokenReply
from smoke.platform.tokens import KeySet, SigningKey
from tests.smoke.keys.fakes import QUICK, Bench, FakeService, OddService


def test_a_rotation_ends_with_the_new_key_alone(bench: Bench) -> None:
    outcome = Rotation(bench.context()).run()
    assert (outcome.old_kid, bench.kids) == ("first", [outcome.new_kid])
    assert bench.value().keys() == {"schemaVersion", "activeKid", "privateKey"}
    assert bench.labels == {"AWSCURRENT", "AWSPREVIOUS"}
    assert sorted(outcome.took) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_key_that_signs_is_accepted_between_any_two_calls(bench: Bench) -> None:
    bench.secrets.after = bench.secrets.before = lambda _: bench.assert_the_active_key_is_accepted()
    Rotation(bench.context()).run()
    assert bench.checked > 50


def test_the_secret_passes_through_the_contracts_states(bench: Bench) -> None:
    seen: list[list[str]] = []

    def look(_: str) -> None:
        if bench.kids not in seen:
            seen.append(bench.kids)

    bench.secrets.after = look
    new = Rotation(bench.context()).run().new_kid
    assert seen == [["first"], ["first", new], [new, "first"], [new]]


def test_a_service_that_does_not_follow_keeps_both_keys_valid(bench: Bench) -> None:
    bench.verifiers[2].follows = False
    with pytest.raises(KeyFault, match=r"dixie .*\n.*rotate --resume"):
        Rotation(bench.context()).run()
    assert bench.kids[0] == "first"
    assert len(bench.kids) == 2
    bench.verifiers[2].follows = True
    new = Rotation(bench.context()).run(resume=True).new_kid
    assert bench.kids == [new]


def test_an_old_key_that_stays_accepted_is_a_fault(bench: Bench) -> None:
    bench.verifiers[1].keeps_old = True
    with pytest.raises(KeyFault, match="first is not refused by finn"):
        Rotation(bench.context()).run()
    assert LOCK in bench.labels


@pytest.mark.parametrize(
    ("reply", "when", "raised", "message"),
    [
        (TokenReply.REFUSED, lambda _, service, key: service.asked % 7 == 0, SafetyViolation, "finn refused"),
        (TokenReply.REFUSED, lambda kids, _, key: kids[1] == key.kid == "first", SafetyViolation,
         "finn refused a valid token, signed by first"),
        (TokenReply.SILENT, lambda kids, *_: kids[1] == "first", Unproved, "finn gave no conclusive answer"),
    ],
    ids=["refuses-now-and-then", "refuses-the-old-key", "silent-after-the-switch"],
)  # fmt: skip
def test_a_verifier_that_fails_while_both_keys_are_valid_stops_the_rotation(
    bench: Bench, reply: TokenReply, when: Callable[..., bool], raised: type[Exception], message: str
) -> None:
    def fails(service: FakeService, key: SigningKey) -> bool:
        return len(bench.kids) == 2 and when(bench.kids, service, key)

    bench.verifiers = (OddService("finn", bench.secrets, reply, fails),)
    with pytest.raises(raised, match=message):
        Rotation(bench.context()).run()
    assert len(bench.kids) == 2, "both stay published"


def test_the_old_key_is_watched_for_as_long_as_its_tokens_live(bench: Bench) -> None:
    bench.timing = replace(QUICK, watch_s=0.3)
    assert Rotation(bench.context()).run().took[6] >= 0.3


def test_both_keys_must_stay_published_while_they_are_watched(bench: Bench) -> None:
    class Coy(FakeService):
        def key_set(self) -> KeySet:
            found = super().key_set()
            return KeySet(found.route, found.keys[:1]) if bench.kids[-1] == "first" else found

    bench.owner = Coy("freeside", bench.secrets, lag=1)
    with pytest.raises(KeyFault, match="does not publish first"):
        Rotation(bench.context()).run()
    assert len(bench.kids) == 2


def test_a_verifier_that_cannot_be_asked_refuses_a_rotation_and_shows_in_its_plan(bench: Bench) -> None:
    blind = replace(bench.context(), unreachable=("finn (finn.reachable is false)",))
    for resume in (False, True):
        with pytest.raises(CommandRefused, match="cannot ask every verifier of the key: finn"):
            Rotation(blind).run(resume=resume)
    assert Rotation(blind).plan()[0] == "0 from here a rotation is refused: finn (finn.reachable is false)"
    assert bench.secrets.writes == []


def test_a_verifier_that_accepts_anything_proves_nothing(bench: Bench) -> None:
    bench.verifiers = (OddService("freeside", bench.secrets, TokenReply.ACCEPTED, lambda *_: True),)
    with pytest.raises(SafetyViolation, match="signed by an unknown key"):
        Rotation(bench.context()).run()
    assert bench.secrets.writes == []


def test_a_silent_verifier_is_not_a_reason_to_switch(bench: Bench) -> None:
    bench.verifiers[1].silent = True
    with pytest.raises(KeyFault, match="finn"):
        Rotation(bench.context()).run()
    assert bench.secrets.writes == []


def test_a_foreign_pending_key_is_left_alone(bench: Bench) -> None:
    bench.secrets.overwrite(Document(new_key("first"), new_key("foreign")).to_secret())
    with pytest.raises(CommandRefused, match="foreign was not left by a run"):
        Rotation(bench.context()).run()
    assert bench.secrets.writes == []


def test_a_bare_pem_keeps_the_kid_that_is_published(bench: Bench) -> None:
    key = new_key("thumbprint")
    bench.secrets.overwrite(json.loads(Document(key).to_secret())["privateKey"])
    bench.owner.names_pem = bench.verifiers[0].names_pem = "thumbprint"
    bench.verifiers = bench.verifiers[:1]
    seen: list[list[str]] = []
    bench.secrets.after = lambda _: seen.append(bench.kids)
    outcome = Rotation(bench.context()).run()
    assert outcome.old_kid == "thumbprint"
    assert ["thumbprint", outcome.new_kid] in seen
    assert bench.kids == [outcome.new_kid]


def test_a_bare_pem_that_is_not_published_gets_no_invented_kid(bench: Bench) -> None:
    bench.secrets.overwrite(json.loads(Document(new_key("")).to_secret())["privateKey"])
    bench.owner.follows = False
    with pytest.raises(KeyFault, match="none of the published keys is its public half"):
        Rotation(bench.context()).run()
    assert bench.secrets.writes == []


def test_the_plan_writes_nothing_and_names_every_step(bench: Bench) -> None:
    plan = Rotation(bench.context()).plan()
    assert [line.split()[0] for line in plan] == list("12345678")
    assert bench.secrets.writes == []

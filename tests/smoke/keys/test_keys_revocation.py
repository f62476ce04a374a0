"""The revocation against a secret in memory: what is timed, what fails it; it outranks a rotation."""

import json

import pytest
from pytest_readiness import SafetyViolation

from smoke.keys.context import Document, new_key, parse
from smoke.keys.revocation import Revocation, Timeline
from smoke.keys.rotation import Rotation
from smoke.keys.store import CommandRefused, KeyFault, LockHeld
from smoke.keys.verifiers import Timing, TokenReply
from smoke.platform.tokens import SigningKey
from tests.smoke.keys.fakes import QUICK, SECRET, Bench, FakeService, OddService, writes_of


def test_the_old_key_is_refused_everywhere_and_the_new_state_reported(bench: Bench) -> None:
    report = Revocation(bench.context()).run()
    assert report.old_kids == ("first",)
    assert bench.kids == [report.new_kid]
    assert report.new_kid.startswith("freeside-emergency-")
    assert bench.value()["revocation"]["reason"] == "emergency"
    assert [one.name for one in report.timelines] == ["freeside", "finn", "dixie", "freeside's key set"]
    for one in report.timelines:
        assert one.refused_from is not None
        assert one.refused_from <= QUICK.revocation_limit_s
        assert one.new_accepted is not None


def test_no_staging_label_stays_on_a_revoked_key(bench: Bench) -> None:
    report = Revocation(bench.context()).run()
    assert bench.labels == {"AWSCURRENT", "AWSPREVIOUS"}
    for version in bench.secrets.labels.values():
        document = parse(bench.secrets.versions[version]["SecretString"], SECRET)
        assert document is not None
        assert [key.kid for key in document.keys] == [report.new_kid]


def test_whatever_the_secret_holds_is_revoked(bench: Bench) -> None:
    bench.secrets.overwrite(Document(new_key("first"), new_key("second")).to_secret())
    report = Revocation(bench.context()).run()
    assert report.old_kids == ("first", "second")
    assert bench.kids == [report.new_kid]


def test_beyond_the_limit_it_fails_on_any_service(bench: Bench) -> None:
    bench.verifiers[2].keeps_old = True
    with pytest.raises(
        KeyFault, match=r"first not refused within 1 s by dixie \(last accepted after 1\.\d s\)"
    ):
        Revocation(bench.context()).run()
    assert bench.kids != ["first"], "the new key stays in force"
    bench.verifiers[2].keeps_old = False
    with pytest.raises(LockHeld, match="revoke --resume"):
        Revocation(bench.context()).run()
    with pytest.raises(KeyFault, match="within 1 s by"):
        Revocation(bench.context()).run(resume=True)


def test_accepted_again_is_a_safety_violation(bench: Bench) -> None:
    class Wavering(FakeService):
        def ask(self, key: SigningKey) -> TokenReply:
            self.keeps_old = self.asked % 4 == 0
            return super().ask(key)

    bench.verifiers = (Wavering("dixie", bench.secrets, lag=1),)
    bench.timing = Timing(0.4, 0.3, 0.05, 1.0, 0.004)
    with pytest.raises(SafetyViolation, match="dixie accepted a revoked key again"):
        Revocation(bench.context()).run()


def test_a_new_key_that_a_verifier_refuses_is_a_fault(bench: Bench) -> None:
    closed = OddService("finn", bench.secrets, TokenReply.REFUSED, lambda _, key: "emergency" in key.kid)
    bench.verifiers = (closed,)
    with pytest.raises(KeyFault, match="finn never accepted the new key"):
        Revocation(bench.context()).run()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", writes_of(Revocation))
def test_a_kill_at_any_write_can_be_resumed(bench: Bench, number: int, when: str) -> None:
    bench.kill(Revocation(bench.context()).run, number, when)
    if "KEYS-LOCK" in bench.labels:
        Revocation(bench.context("another")).run(resume=True)
    elif bench.kids == ["first"]:
        Revocation(bench.context()).run()
    assert bench.kids[0].startswith("freeside-emergency-")
    assert bench.labels == {"AWSCURRENT", "AWSPREVIOUS"}
    previous = bench.secrets.versions[bench.secrets.labels["AWSPREVIOUS"]]["SecretString"]
    assert "first" not in previous


@pytest.mark.parametrize("number", range(3, 13))
def test_it_outranks_a_rotation_in_any_state(bench: Bench, number: int) -> None:
    bench.kill(Rotation(bench.context()).run, number)
    held = set(bench.kids)
    report = Revocation(bench.context()).run()
    assert set(report.old_kids) == held
    assert bench.kids == [report.new_kid]
    assert bench.labels == {"AWSCURRENT", "AWSPREVIOUS"}
    with pytest.raises(CommandRefused, match="nothing to resume"):
        Rotation(bench.context()).run(resume=True)


def test_a_rotation_that_runs_on_is_overtaken(bench: Bench) -> None:
    """A write that comes between the revocation's read and its own does not keep the key alive."""
    intruder = Document(new_key("first"), new_key("late")).to_secret()

    def late(name: str) -> None:
        if name == "put_secret_value" and "KEYS-LOCK" in bench.labels:
            bench.secrets.after = lambda _: None
            bench.secrets.overwrite(intruder)

    bench.secrets.after = late
    report = Revocation(bench.context()).run()
    assert bench.kids == [report.new_kid]


def test_a_pem_without_a_known_kid_is_replaced_but_not_timed(bench: Bench) -> None:
    bench.secrets.overwrite(json.loads(Document(new_key("")).to_secret())["privateKey"])
    bench.owner.follows = False
    report = Revocation(bench.context()).run()
    assert bench.kids == [report.new_kid]
    assert report.unseen == ("freeside", "finn", "dixie")
    assert report.timelines == []


def test_only_a_revocation_can_be_resumed(bench: Bench) -> None:
    with pytest.raises(CommandRefused, match="no revocation to resume"):
        Revocation(bench.context()).run(resume=True)
    assert bench.secrets.writes == []


def test_the_plan_writes_nothing(bench: Bench) -> None:
    assert "first leaves the secret" in "\n".join(Revocation(bench.context()).plan())
    assert bench.secrets.writes == []


def test_a_timeline_reports_an_acceptance_after_a_refusal() -> None:
    timeline = Timeline("x")
    replies = (
        TokenReply.ACCEPTED,
        TokenReply.SILENT,
        TokenReply.REFUSED,
        TokenReply.SILENT,
        TokenReply.REFUSED,
    )
    for at, old in enumerate(replies):
        timeline.note(old, TokenReply.ACCEPTED, float(at))
    assert (timeline.last_accepted, timeline.first_refused, timeline.accepted_again) == (0.0, 2.0, False)
    timeline.note(TokenReply.ACCEPTED, TokenReply.ACCEPTED, 9.0)
    assert timeline.accepted_again
    assert timeline.refused_from == 9.0

"""`--attest` and `readiness verify`, against an independent implementation of DSSE."""

import base64
import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pytest_readiness.cli import main
from pytest_readiness.report import attestation
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from tests.adapter.scenario import Suite
from tests.core.build import check, model

KEYS: dict[str, Callable[[], Any]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
}
PASSES = "@pytest.mark.p0\ndef test_up(evidence):\n    passing(evidence)\n"
BUILDS = """
def pytest_readiness_build_identity(environment):
    commit = "0123456789abcdef0123456789abcdef01234567"
    return {"shop": "abc1234", "till": commit, "web": "sha256:" + 64 * "a"}
"""
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
STATEMENT = {"_type": attestation.STATEMENT_TYPE, "predicateType": attestation.PREDICATE_TYPE}
VERDICT = "reports/readiness.intoto.json"


def private(key: Any, secret: serialization.KeySerializationEncryption | None = None) -> str:
    text: bytes = key.private_bytes(PEM, PKCS8, secret or serialization.NoEncryption())
    return text.decode()


def public(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def independent(key: Any, text: str) -> dict[str, Any]:
    """Return the statement as securesystemslib verifies it."""
    envelope = Envelope.from_dict(json.loads(text))
    known = SSlibKey.from_crypto(key.public_key(), keyid=attestation.key_id(key.public_key()))
    assert len(envelope.verify([known], 1)) == 1
    assert envelope.payload_type == "application/vnd.in-toto+json"
    found: dict[str, Any] = json.loads(envelope.payload)
    return found


@pytest.fixture
def signed(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A suite that is green, with a key pair beside it."""
    suite.checks(PASSES)
    suite.write("smoke/conftest.py", BUILDS)
    key = ed25519.Ed25519PrivateKey.generate()
    suite.write("key.pem", private(key))
    suite.write("key.pub", public(key))
    monkeypatch.chdir(suite.root)
    return suite


def verified(
    capsys: pytest.CaptureFixture[str], *options: str, env: Sequence[str] = ("--env", "local")
) -> tuple[int, str]:
    found = main(["verify", VERDICT, "--key", "key.pub", *env, *options])
    out, err = capsys.readouterr()
    return found, out + err


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("reference", ["{path}", "file:{path}", "env:SIGNING_KEY"])
def test_another_implementation_verifies_what_a_run_signed(suite: Suite, kind: str, reference: str) -> None:
    key = KEYS[kind]()
    suite.checks(PASSES)
    suite.write("smoke/conftest.py", BUILDS)
    suite.write("key.pem", private(key))
    run = suite.run("--attest=" + reference.format(path="key.pem"), environ={"SIGNING_KEY": private(key)})
    assert run.code == 0, run.output()
    found = independent(key, (suite.root / VERDICT).read_text())
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    subjects = {each["name"]: each["digest"] for each in found["subject"]}
    assert subjects["till"] == {"gitCommit": "0123456789abcdef0123456789abcdef01234567"}
    assert subjects["web"] == {"sha256": 64 * "a"}
    assert {*subjects} == {"shop", "till", "web", "suite", "plan", "readiness.json"}
    assert all(len(digest.get("sha256", 64 * "a")) == 64 for digest in subjects.values())
    assert found["predicate"]["result"] == "PASSED"
    assert found["predicate"]["passedTests"] == ["health/up"]
    assert found["predicate"]["readiness"]["run_id"] == run.model["run_id"]
    body = private(key).splitlines()[1]
    for path in (path for path in suite.root.rglob("*") if path.is_file() and path.name != "key.pem"):
        assert body.encode() not in path.read_bytes(), path


def test_a_green_run_is_accepted_and_a_changed_report_is_not(
    signed: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    assert signed.run("--attest=key.pem").code == 0
    code, out = verified(capsys, "--build", "shop=abc1234", "--max-age", "1h")
    assert code == 0, out
    assert out.startswith("READY  local  ")
    usual = out.removesuffix("accepted\n")
    assert usual != out
    for options, problem in (
        (("--env", "staging"), "local was checked, not staging"),
        (("--build", "shop=abc1235"), "build of shop: abc1234 was checked, not abc1235"),
        (("--build", "shop=abc1234", "--build", "cart=1"), "build of cart: unknown was checked, not 1"),
        (("--report", "readiness.toml"), "readiness.toml is not the report that was signed"),
        (("--max-age", "0s"), "ago, more than 0.0 min"),
    ):
        assert verified(capsys, *options) == (1, out_with(usual, problem, verified(capsys, *options)[1]))
    code, out = verified(capsys, env=())
    assert (code, "local is not a live environment" in out) == (1, True)
    report = signed.root / "reports" / "readiness.json"
    report.write_text(report.read_text().replace("Scenario", "Scenery"))
    code, out = verified(capsys)
    assert (code, "is not the report that was signed" in out) == (1, True)


def out_with(usual: str, problem: str, found: str) -> str:
    """Assert that the output ends with exactly this reason, and return it."""
    *first, last = found.splitlines()
    assert first == usual.splitlines()
    assert last.startswith("not accepted: ")
    assert last.endswith(problem)
    return found


@pytest.mark.parametrize(
    ("more", "arguments", "code", "problem"),
    [
        ("def test_bad(evidence):\n    passing(evidence)\n    assert 0\n", (), 1, "the verdict is BROKEN"),
        ("def test_skips():\n    pytest.skip()\n", (), 6, "the verdict is NO_VERDICT"),
        (
            "def test_more(evidence):\n    passing(evidence)\n",
            ("-k", "up"),
            0,
            "not the verdict of a full run",
        ),
    ],
)
def test_no_other_run_is_accepted(
    signed: Suite,
    capsys: pytest.CaptureFixture[str],
    more: str,
    arguments: tuple[str, ...],
    code: int,
    problem: str,
) -> None:
    assert signed.run("--attest=key.pem").code == 0
    signed.checks(f"{PASSES}\n@pytest.mark.p0\n{more}")
    assert signed.run("--attest=key.pem", *arguments).code == code
    if arguments:
        assert verified(capsys)[0] == 0, "a partial run leaves the full run's verdict"
        assert main(["verify", "reports/partial/readiness.intoto.json", "--key", "key.pub"]) == 1
        assert problem in capsys.readouterr().out
    else:
        found, out = verified(capsys)
        assert (found, problem in out) == (1, True), out


def test_degraded_is_accepted_on_request(signed: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    signed.checks(
        f"{PASSES}\n@pytest.mark.p1\ndef test_minor(evidence):\n    passing(evidence)\n    assert 0\n"
    )
    assert signed.run("--attest=key.pem").code == 2
    assert verified(capsys)[0] == 1
    assert verified(capsys, "--accept", "DEGRADED")[0] == 0


def test_ready_beside_a_failed_test_of_another_suite_is_not_accepted(
    signed: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    signed.write("unit/test_unit.py", "def test_unit():\n    assert 0\n")
    run = signed.run("--attest=key.pem", "smoke", "unit")
    assert (run.code, run.verdict) == (1, "READY"), run.output()
    found, out = verified(capsys)
    assert (found, "its run ended with exit code 1" in out) == (1, True), out


@pytest.mark.parametrize(("outcome", "code", "verdict"), [("True", 6, None), ("False", 1, "BROKEN")])
def test_a_run_that_cannot_be_signed_may_be_broken_but_nothing_better(
    signed: Suite, outcome: str, code: int, verdict: str | None
) -> None:
    signed.checks(f"@pytest.mark.p0\ndef test_up(evidence):\n    passing(evidence)\n    assert {outcome}\n")
    signed.write(
        "smoke/conftest.py",
        "import pathlib\n\ndef pytest_sessionfinish(session):\n"
        f"    (session.config.rootpath / {VERDICT!r}).mkdir()\n",
    )
    run = signed.run("--attest=key.pem")
    assert run.code == code, run.output()
    assert "readiness.intoto.json" in run.out + run.err
    left = signed.root / "reports/readiness.json"
    assert (json.loads(left.read_text())["verdict"] if left.exists() else None) == verdict


def test_no_older_signed_verdict_stays(signed: Suite) -> None:
    assert signed.run("--attest=key.pem").code == 0
    signed.checks("import os\n@pytest.mark.p0\ndef test_up(evidence):\n    os._exit(0)\n")
    signed.run("--attest=key.pem")
    assert not (signed.root / VERDICT).exists()


def test_bad_input_keeps_it(signed: Suite) -> None:
    assert signed.run("--attest=key.pem").code == 0
    before = (signed.root / VERDICT).read_bytes()
    assert signed.run("--attest=key.pem", "--env=nowhere").code == 4
    assert (signed.root / VERDICT).read_bytes() == before
    assert not (signed.root / "reports" / "partial" / "readiness.intoto.json").exists()


def test_a_run_is_signed_on_the_controller_of_xdist(
    signed: Suite, capsys: pytest.CaptureFixture[str]
) -> None:
    assert signed.run("--attest=key.pem", "-n1").code == 0
    assert verified(capsys)[0] == 0


@pytest.mark.parametrize(
    ("key", "reference", "problem"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), "key.pem", "no key to sign with"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "key.pem", "no key to sign with"),
        (None, "key.pub", "no key to sign with"),
        (None, "nowhere.pem", "cannot read nowhere.pem"),
        (None, "env:NOWHERE", "environment variable NOWHERE is not set"),
        (None, "", "empty"),
    ],
)
def test_what_cannot_sign_is_refused_first(signed: Suite, key: Any, reference: str, problem: str) -> None:
    if key is not None:
        signed.write("key.pem", private(key()))
    run = signed.run(f"--attest={reference}")
    assert (run.code, problem in run.err + run.out) == (4, True), run.output()
    assert "BEGIN" not in run.output()


def test_a_key_with_a_passphrase_and_a_key_itself_are_refused(signed: Suite) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    signed.write("key.pem", private(key, serialization.BestAvailableEncryption(b"open")))
    assert "no key to sign with" in signed.run("--attest=key.pem").err
    run = signed.run(f"--attest={private(key)}")
    assert (run.code, "a key must not be on a command line" in run.err) == (4, True)
    assert private(key).splitlines()[1] not in run.output()


def changed(text: str, **members: Any) -> str:
    return json.dumps({**json.loads(text), **members})


def reworded(text: str, before: str, after: str) -> str:
    payload = base64.b64decode(json.loads(text)["payload"]).decode()
    assert before in payload
    return changed(text, payload=base64.b64encode(payload.replace(before, after).encode()).decode())


@pytest.mark.parametrize("kind", KEYS)
def test_a_forged_envelope_is_opened_by_neither_implementation(kind: str) -> None:
    key, other = KEYS[kind](), KEYS[kind]()
    content = attestation.statement(model(check(), check("b/b", "failed", cls="PLATFORM_BUG")), b"report")
    genuine = attestation.signed(content, key)
    assert attestation.opened(genuine, key.public_key()) == content == independent(key, genuine)
    foreign = attestation.signed(content, other)
    (signature,) = json.loads(genuine)["signatures"]
    flipped = bytearray(base64.b64decode(signature["sig"]))
    flipped[-1] ^= 1
    forged = (
        foreign,
        reworded(genuine, "BROKEN", "READY"),
        changed(genuine, signatures=[]),
        changed(genuine, signatures=[{**signature, "sig": base64.b64encode(flipped).decode()}]),
        changed(genuine, signatures=[{**signature, "sig": ""}]),
        changed(foreign, signatures=[{**json.loads(foreign)["signatures"][0], "keyid": signature["keyid"]}]),
    )
    for text in forged:
        with pytest.raises(attestation.NotGenuine, match="did not sign it"):
            attestation.opened(text, key.public_key())
        with pytest.raises((VerificationError, ValueError)):
            independent(key, text)
    both = [*json.loads(foreign)["signatures"], signature]
    assert attestation.opened(changed(genuine, signatures=both), key.public_key()) == content


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "5", "{}", '{"payload": 5}', "[" * 100_000),
        '{"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": 5}',
        '{"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": [5]}',
        '{"payload": "e3 0=", "payloadType": "application/vnd.in-toto+json", "signatures": []}',
        '{"payload": "e30=", "payloadType": "text/plain", "signatures": []}',
        '{"payload": "e30=", "payloadType": [], "signatures": []}',
    ],
)
def test_what_is_not_an_envelope_is_not_accepted(
    signed: Suite, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    signed.write(VERDICT, text)
    code, out = verified(capsys)
    assert (code, out.startswith("not accepted: it ")) == (1, True), out


@pytest.mark.parametrize(
    "content",
    [
        *([], {}, 5, STATEMENT),
        {**STATEMENT, "predicateType": "https://slsa.dev/provenance/v1", "predicate": {"readiness": {}}},
        {**STATEMENT, "_type": "https://in-toto.io/Statement/v0.1", "predicate": {"readiness": {}}},
        {**STATEMENT, "predicate": {}},
        {**STATEMENT, "predicate": []},
    ],
)
def test_another_statement_of_the_same_key_gives_no_verdict(content: Any) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(attestation.NotGenuine, match="not a verdict of readiness"):
        attestation.opened(attestation.signed(content, key), key.public_key())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"finished_at": (datetime.now(UTC) - timedelta(hours=25)).isoformat()}, "ago, more than 24.0 h"),
        ({"finished_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, "dated in the future"),
        ({"finished_at": "yesterday"}, "does not say when the run ended"),
        ({"finished_at": None}, "does not say when the run ended"),
        ({"complete": False}, "not the verdict of a full run"),
        ({"complete": None}, "not the verdict of a full run"),
        ({"verdict": "ready"}, "the verdict is ready"),
        ({"exit_code": 1}, "its run ended with exit code 1"),
        ({"verdict": "DEGRADED"}, "the verdict is DEGRADED"),
        ({"build_identity": []}, "build of shop: unknown was checked"),
        ({"environment": "staging", "live": True}, "staging was checked, not local"),
    ],
)
def test_a_genuine_verdict_that_does_not_fit_is_not_accepted(
    signed: Suite, capsys: pytest.CaptureFixture[str], change: dict[str, Any], problem: str
) -> None:
    assert signed.run("--attest=key.pem").code == 0
    key = attestation.private_key((signed.root / "key.pem").read_text(), "")
    found = attestation.opened((signed.root / VERDICT).read_text(), key.public_key())
    found["predicate"]["readiness"] |= change
    (signed.root / VERDICT).write_text(attestation.signed(found, key))
    code, out = verified(capsys, "--build", "shop=abc1234")
    assert (code, problem in out) == (1, True), out


def test_a_live_verdict_needs_no_name(signed: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    assert signed.run("--attest=key.pem").code == 0
    key = attestation.private_key((signed.root / "key.pem").read_text(), "")
    found = attestation.opened((signed.root / VERDICT).read_text(), key.public_key())
    found["predicate"]["readiness"] |= {"environment": "staging", "live": True}
    (signed.root / VERDICT).write_text(attestation.signed(found, key))
    code, out = verified(capsys, env=())
    assert code == 0, out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((VERDICT, "--key", "key.pem"), "key.pem: not a public key"),
        ((VERDICT, "--key", "readiness.toml"), "not a public key"),
        ((VERDICT, "--key", "nowhere"), "nowhere: cannot be read"),
        (("nowhere", "--key", "key.pub"), "nowhere: cannot be read"),
        ((VERDICT, "--key", "key.pub", "--max-age", "soon"), "'soon' is not an age"),
        ((VERDICT, "--key", "key.pub", "--build", "shop"), "'shop' is not a build"),
        ((VERDICT,), "required: --key"),
    ],
)
def test_bad_input_is_exit_4(
    signed: Suite, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], problem: str
) -> None:
    signed.write(VERDICT, "{}")
    try:
        code = main(["verify", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    assert (code, problem in capsys.readouterr().err) == (4, True)
    assert Path(os.getcwd()) == signed.root

"""What a secret may hold, and that no message and no repr shows it."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from smoke.keys.context import Document, emergency_kid, new_key, parse, rotation_kid, same_key
from smoke.keys.store import KeyFault, Stored


def pem_of(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def parsed(value: str) -> Document:
    document = parse(value, "here")
    assert document is not None
    return document


def test_a_document_survives_the_secret() -> None:
    document = Document(new_key("a"), new_key("b"), {"reason": "emergency"})
    again = parsed(document.to_secret())
    assert [key.kid for key in again.keys] == ["a", "b"]
    assert same_key(again.active, document.active)
    assert again.revocation == {"reason": "emergency"}
    assert again.key("b") is again.pending
    assert again.key("c") is None


def test_a_pem_has_no_kid() -> None:
    pem = pem_of(ec.generate_private_key(ec.SECP256R1()))
    assert parsed(f"\n{pem}\n").active.kid == ""
    assert parsed(json.dumps({"activeKid": "k", "privateKey": pem})).active.kid == "k"


@pytest.mark.parametrize("value", ["", " ", "PLACEHOLDER", "CHANGE_ME", "{}", "PLACEHOLDER\n"])
def test_placeholders_hold_no_key(value: str) -> None:
    assert parse(value, "here") is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (pem_of(ec.generate_private_key(ec.SECP384R1())), "not on P-256"),
        (pem_of(ed25519.Ed25519PrivateKey.generate()), "not on P-256"),
        (
            "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----",
            "holds no readable private key",
        ),
        ("topsecret-junk", "holds no readable private key"),
        ('{"activeKid": "topsecret-junk"', "broken JSON"),
        ('{"activeKid": " ", "privateKey": "topsecret-junk"}', "has no activeKid"),
        ('{"activeKid": "a"}', "has no privateKey"),
        ('{"activeKid": "a", "privateKey": "topsecret-junk"}', "holds no readable private key"),
        ('{"schemaVersion": 7, "activeKid": "topsecret-junk"}', "schemaVersion"),
    ],
)
def test_everything_else_is_refused_without_being_quoted(value: str, reason: str) -> None:
    with pytest.raises(KeyFault) as caught:
        parse(value, "here")
    message = str(caught.value)
    assert reason in message
    assert "topsecret" not in message
    assert len(message.splitlines()) == 3
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("half", ["pendingKid", "pendingPrivateKey"])
def test_half_a_pending_key_is_refused(half: str) -> None:
    value = json.loads(Document(new_key("a"), new_key("b")).to_secret())
    del value[half]
    with pytest.raises(KeyFault, match=half):
        parse(json.dumps(value), "here")


def test_no_repr_shows_a_key() -> None:
    document = Document(new_key("a"), new_key("b"))
    stored = Stored("version", document.to_secret())
    body = json.loads(stored.text)["privateKey"].splitlines()[1]
    for shown in (repr(document), repr(stored), str(document), repr(document.active)):
        assert body not in shown
        assert "PRIVATE" not in shown


def test_kids_name_service_and_occasion() -> None:
    assert rotation_kid("finn").startswith("finn-20")
    assert rotation_kid("finn") != rotation_kid("finn")
    assert emergency_kid("dixie").startswith("dixie-emergency-20")

"""Key sets: what is wrong with a key is named, and the key that signs is found by its public half."""

import base64
import json
from datetime import datetime
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from pytest_readiness import SetupError

from smoke.platform.answers import ContractViolation
from smoke.platform.tokens import KeySet, SigningKey, SigningKeyLookup, key_set_of, private_key_of

KEY = SigningKey.throwaway("k1")


def keys(*documents: Any) -> Any:
    return KeySet("GET /jwks", tuple(documents))


def test_sound_set_has_no_fault() -> None:
    sound = keys(KEY.public_jwk(), SigningKey.throwaway("k2").public_jwk())
    assert (sound.faults(), sound.kid_faults(), sound.private_members()) == ([], [], [])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kty": "RSA"}, "kty"), ({"crv": "P-384"}, "crv"), ({"alg": "none"}, "alg"), ({"use": "enc"}, "use"),
        ({"x": "!!"}, "x"), ({"y": None}, "y"), ({"x": KEY.public_jwk()["x"] + "="}, "x"),
        ({"x": "A" * 42 + "E"}, "not on P-256"),
        ({"x": "_" * 64, "y": "_" * 64}, "32 bytes"),
    ],
)  # fmt: skip
def test_fault_of_any_key_is_named(change: Any, named: Any) -> None:
    found = keys(KEY.public_jwk(), KEY.public_jwk() | {"kid": "k2"} | change).faults()
    assert found
    assert all(fault.startswith("keys[1]") for fault in found)
    assert any(named in fault for fault in found)


RSA = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True)
ED25519 = OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True)
P384 = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
AGREEMENT = SigningKey.throwaway("a").public_jwk() | {"use": "enc", "alg": "ECDH-ES+A256KW"}
POINT = {
    "x": "9ycBkUUmjSsHQqQXEbDOI9XN4PGaC6WazxpIaidm-d0",
    "y": "0Owhv3XaswsjAIq0Exk7yS46z5C_LCGiClfdRuYPlcw",
}
FIXED = KEY.public_jwk() | POINT


@pytest.mark.parametrize(
    "other",
    [
        RSA, ED25519, P384, RSA | {"use": "sig"}, ED25519 | {"use": "sig"}, P384 | {"key_ops": ["verify"]},
        RSA | {"alg": "RS256"}, ED25519 | {"alg": "EdDSA"}, P384 | {"alg": "ES384"}, AGREEMENT,
        AGREEMENT | {"key_ops": ["deriveKey", "deriveBits"]}, {"kty": "LMS", "pub": "AA"},
        {"kty": "OKP", "crv": "Ed9999", "x": "AA"}, FIXED | {"key_ops": ["sign", "verify"]},
        FIXED | {"issuer": "https://idp", "cloud_instance_name": 7, "x5u": "https://idp/x"},
    ],
)  # fmt: skip
def test_keys_of_identity_providers_are_sound(other: Any) -> None:
    published = keys(KEY.public_jwk(), {**other, "kid": "other"})
    assert (published.faults(), published.kid_faults(), published.private_members()) == ([], [], [])
    assert published.for_es256()[0] == KEY.public_jwk()


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (FIXED | {"x": POINT["x"].replace("-", "+")}, "keys[0].x: expected base64url"),
        (FIXED | {"y": POINT["y"].replace("_", "/")}, "keys[0].y: expected base64url"),
        (FIXED | {"x": POINT["x"] + "="}, "x: expected base64url"),
        (FIXED | {"y": POINT["y"][:-1] + "x"}, "y: expected base64url"),
        (FIXED | {"x": POINT["x"][:-1]}, "x: expected"), (FIXED | {"x": POINT["x"] + "\n"}, "x: expected"),
        (FIXED | {"x": "\u0660" * 43}, "x: expected"),
        (FIXED | {"key_ops": ["encrypt"]}, "key_ops"), (FIXED | {"key_ops": ["sign"]}, "key_ops"),
        (FIXED | {"key_ops": ["verify", "verify"]}, "key_ops"), (FIXED | {"key_ops": "verify"}, "key_ops"),
        (FIXED | {"key_ops": []}, "key_ops"), (FIXED | {"key_ops": [{}]}, "key_ops"),
        (AGREEMENT | {"key_ops": ["verify"]}, "key_ops"),
        (RSA | {"n": RSA["n"][:300]}, "2048 bits"), (RSA | {"n": RSA["n"] + "=="}, "n: expected base64url"),
        ({"kty": "RSA", "n": RSA["n"]}, "e: expected"), ({"kty": "RSA", "alg": "ES256"}, "kty"),
        (P384 | {"x": P384["y"]}, "not on P-384"), (P384 | {"y": POINT["y"]}, "48 bytes"),
        (ED25519 | {"x": "AAAA"}, "32 bytes"), (FIXED | {"x5t": "a+b="}, "x5t"),
        (FIXED | {"x5c": "text"}, "x5c"), (FIXED | {"x5c": ["-_"]}, "x5c"), (FIXED | {"x5c": []}, "x5c"),
    ],
)  # fmt: skip
def test_what_no_key_may_say(key: Any, named: str) -> None:
    assert any(named in fault for fault in keys(key).faults())


def certificate_of(key: Any) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2036, 1, 1))
    return base64.b64encode(made.sign(key, SHA256()).public_bytes(serialization.Encoding.DER)).decode()


def test_a_certificate_must_belong_to_its_key() -> None:
    own = KEY.public_jwk() | {"x5c": [certificate_of(KEY.private)]}
    assert keys(own).faults() == []
    assert (
        keys(own | {"x5c": ["AAAA"]}).faults() == []
    )  # not examined: no certificate that this library reads
    for other in (SigningKey.throwaway().private, rsa.generate_private_key(65537, 2048)):
        (fault,) = keys(KEY.public_jwk() | {"x5c": [certificate_of(other)]}).faults()
        assert "got another key's" in fault


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("deep", [DEEP, DEEP[:100_000], f'{{"keys":{DEEP}}}', f'{{"keys":[{{"x":{DEEP}}}]}}'])
def test_a_deep_set_is_a_finding(deep: str) -> None:
    kind = {"content-type": "application/json"}
    answer = httpx.Response(200, text=deep, headers=kind, request=httpx.Request("GET", "http://h/j"))
    with pytest.raises(ContractViolation):
        key_set_of(answer)


@pytest.mark.parametrize(
    ("kid", "named"),
    [(None, "non-empty"), ("", "non-empty"), (" ", "non-empty"), (7, "non-empty"), ("k1", "already")],
)
def test_bad_kid_is_named(kid: Any, named: str) -> None:
    (fault,) = keys(KEY.public_jwk(), KEY.public_jwk() | {"kid": kid}).kid_faults()
    assert fault.startswith("keys[1].kid: ")
    assert named in fault


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"])
def test_private_member_is_named_and_not_shown(member: Any) -> None:
    found = keys(KEY.public_jwk() | {member: "secret-value"}).private_members()
    assert found == [f"keys[0].{member}"]


@pytest.mark.parametrize("body", [{"keys": {}}, {"keys": ["text"]}, [], {}])
def test_set_must_be_a_set(body: Any) -> None:
    answer = httpx.Response(200, json=body, request=httpx.Request("GET", "http://h/j"))
    with pytest.raises(ContractViolation):
        key_set_of(answer)


def pem(key: Any) -> Any:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def test_lookup_finds_the_kid_and_remembers_only_success() -> None:
    answers = [
        keys(SigningKey.throwaway("other").public_jwk()),
        keys(KEY.public_jwk() | {"kid": "published"}),
    ]
    lookup = SigningKeyLookup(lambda: pem(KEY.private), lambda: answers.pop(0), named="a.key, from X")
    with pytest.raises(AssertionError, match=r"none of 1 keys .* signs \(a\.key, from X\)$"):
        lookup()
    assert [lookup().kid, lookup().kid] == ["published"] * 2
    lookup.forget()
    with pytest.raises(IndexError):
        lookup()


def test_a_key_that_somebody_rotates_is_followed_once_it_is_published() -> None:
    new, secret, published = SigningKey.throwaway("new"), [KEY.private], [KEY.public_jwk()]

    def again() -> str:
        if not secret:
            raise SetupError("credentials ran out")
        return str(pem(secret[-1]))

    lookup = SigningKeyLookup(lambda: pem(KEY.private), lambda: keys(*published), again, every_s=0)
    first = lookup()
    secret.append(new.private)
    assert lookup() is first, "the new key is not published yet"
    published.append(new.public_jwk())
    assert lookup().kid == "new"
    secret.clear()
    assert lookup().kid == "new", "what cannot be read says nothing"


def test_json_secret_gives_the_active_key() -> None:
    value = json.dumps({"schemaVersion": 1, "activeKid": "a", "privateKey": pem(KEY.private)})
    assert private_key_of(value).private_numbers() == KEY.private.private_numbers()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        *[(text, "placeholder") for text in ("", "PLACEHOLDER", "CHANGE_ME", "{}")],
        ('{"activeKid": "a"}', "without a privateKey"), ("{broken", "without a privateKey"),
        ("-----BEGIN", "no readable private key"), ("text", "no readable private key"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "not on P-256"),
    ],
)  # fmt: skip
def test_secret_that_is_not_a_p256_key_is_the_platforms_fault(value: str, named: str) -> None:
    with pytest.raises(AssertionError, match=named):
        private_key_of(value)

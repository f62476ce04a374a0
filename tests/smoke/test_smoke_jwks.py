"""Key sets: what is wrong with a key is named, and the key that signs is found by its public half."""

import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from smoke.platform.answers import ContractViolation
from smoke.platform.jwks import KeySet, SigningKeyLookup, key_set_of
from smoke.platform.tokens import SigningKey, private_key_of

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


@pytest.mark.parametrize(
    ("kid", "named"),
    [(None, "non-empty"), ("", "non-empty"), (" ", "non-empty"), (7, "non-empty"), ("k1", "already")],
)
def test_bad_kid_is_named(kid: Any, named: str) -> None:
    (fault,) = keys(KEY.public_jwk(), KEY.public_jwk() | {"kid": kid}).kid_faults()
    assert fault.startswith("keys[1].kid: ")
    assert named in fault


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
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
    lookup = SigningKeyLookup(lambda: pem(KEY.private), lambda: answers.pop(0))
    with pytest.raises(AssertionError, match="none of 1 keys"):
        lookup()
    assert [lookup().kid, lookup().kid] == ["published"] * 2
    lookup.forget()
    with pytest.raises(IndexError):
        lookup()


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
def test_secret_that_is_no_p256_key_is_the_platforms_fault(value: str, named: str) -> None:
    with pytest.raises(AssertionError, match=named):
        private_key_of(value)

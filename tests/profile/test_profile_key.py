"""A P-256 private key in PEM, and near misses that are refused."""

import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pytest_readiness.core.errors import ProfileError
from pytest_readiness.core.redaction import Redactor
from pytest_readiness.profile import Vault
from pytest_readiness.profile.profile import p256_problem

from tests.profile.test_profile import PROFILE, profile

P256 = ec.generate_private_key(ec.SECP256R1())
DAMAGED = "is damaged, or is not a private key"
BEGIN, END = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
PKCS8, SEC1 = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, form: PrivateFormat = PKCS8) -> str:
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


GOOD = pem(P256)


@pytest.mark.parametrize("form", [PKCS8, SEC1])
def test_both_pem_formats_are_accepted(form: PrivateFormat) -> None:
    assert p256_problem(pem(P256, form)) == ""


def test_parameters_before_the_key_are_passed_over() -> None:
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert p256_problem(parameters + pem(P256, SEC1)) == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not PEM"),
        ("PLACEHOLDER", "is not PEM"),
        (GOOD.replace("END", "EMD"), DAMAGED),
        (P256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), DAMAGED),
        (P256.private_bytes(Encoding.PEM, PKCS8, BestAvailableEncryption(b"pass")).decode(), "is encrypted"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "is not a P-256 key"),
        (pem(rsa.generate_private_key(65537, 2048)), "is not a P-256 key"),
        (GOOD.replace("MIGH", "M!GH"), DAMAGED),
        (GOOD.replace(GOOD.splitlines()[2], "AAAA"), DAMAGED),
        (f"{BEGIN}\n{END}", DAMAGED),
        (f"{BEGIN}\nMAA=\n{END}", DAMAGED),
    ],
)
def test_problems(text: str, problem: str) -> None:
    assert p256_problem(text) == problem


def test_a_bad_key_is_a_usage_error_that_does_not_show_it() -> None:
    made = profile(PROFILE + '[auth]\nkey = "file:/keys/k.pem"')
    made.check_secret("auth.key", GOOD)
    made.check_secret("auth.api_key", "anything")
    with pytest.raises(ProfileError) as caught:
        made.check_secret("auth.key", "hunter2")
    assert str(caught.value) == (
        "environments/staging.toml: auth.key: file:/keys/k.pem is not PEM\n"
        "  allowed: a P-256 private key in PEM (PKCS#8 or SEC1), not encrypted\n"
        "  next: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
    )


def test_a_secret_in_aws_without_boto3_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    made = profile(PROFILE + '[auth]\nkey = "secretsmanager:staging/key"')
    with pytest.raises(ProfileError) as caught:
        Vault(made, Redactor()).resolve_all()
    assert str(caught.value) == (
        "secretsmanager:staging/key: needs boto3, which is not installed\n"
        "  next: pip install 'pytest-readiness[aws]'"
    )

"""Credentials in tracked files: which are found, and what only looks like one."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from smoke.source.credentials import exposed
from tests.smoke.source.repository import repository

KEY = ec.generate_private_key(ec.SECP256R1())
RANDOM = "Zk3mQ9xW7vLt2RbY8nHc5DfJ6sGa4PeU9oTi"
KEY_ID = "AKIA" + "Z7QF3TWMK2LNXR5B"
ACCESS_KEY = f"{KEY_ID}\n{RANDOM}+/x1"
RDS = "arrakis.c1.us-east-1.rds.amazonaws.com"


def pem(form: PrivateFormat, lock: KeySerializationEncryption | None = None) -> str:
    return KEY.private_bytes(Encoding.PEM, form, lock or NoEncryption()).decode()


def found(directory: Path, path: str, text: str) -> list[str]:
    return [str(each) for each in exposed(repository(directory, {path: text}))[1]]


@pytest.mark.parametrize(
    "form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL, PrivateFormat.OpenSSH]
)
def test_a_private_key_is_found(tmp_path: Path, form: PrivateFormat) -> None:
    assert found(tmp_path / "a", "deploy/a.pem", pem(form)) == [
        "deploy/a.pem:1: a private key is in the repository"
    ]
    account = json.dumps({"type": "service_account", "private_key": pem(form)}, indent=2)
    assert found(tmp_path / "b", "a.json", account) == ["a.json:3: a private key is in the repository"]


def test_a_key_that_is_encrypted_public_or_for_tests_is_no_secret(tmp_path: Path) -> None:
    locked = pem(PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    shortened = "-----BEGIN PRIVATE KEY-----\nMIGH...\n-----END PRIVATE KEY-----\n"
    plain = pem(PrivateFormat.PKCS8)
    files = {"a.pem": locked, "b.pem": public, "c.md": shortened, "tests/d.pem": plain}
    files |= {"certs/localhost-key.pem": plain, "src/__tests__/k.ts": plain, "dev.env": plain}
    files |= {"src/testutil/a.ts": plain, "conftest.py": plain, ".devcontainer/a.pem": plain}
    files |= {"e.pem": plain, ".gitattributes": "e.pem filter=git-crypt diff=git-crypt"}
    assert exposed(repository(tmp_path, files))[1] == []


@pytest.mark.parametrize(
    ("path", "text", "what"),
    [
        (".env.staging", f"ID={ACCESS_KEY}".replace("\n", "\nKEY="), "an access key of AWS"),
        ("docs/a.md", ACCESS_KEY, "an access key of AWS"),
        (".env.staging", ACCESS_KEY.partition("\n")[0], ""),
        ("a.md", "AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""),
        ("compose.dev.yaml", ACCESS_KEY, ""),
        ("a.sh", f"git clone https://ghp_{RANDOM}@github.com/a/b", "a token of GitHub"),
        ("a.sh", f"ghp_{'x' * 36}", ""),
        (".npmrc", f"//registry/:_authToken=npm_{RANDOM}", "a token of npm"),
        (".npmrc", "//registry/:_authToken=${NPM_TOKEN}", ""),
        ("a.yml", f"https://hooks.slack.com/services/T0/B0/{RANDOM}", "a token of Slack"),
        ("a.yml", "https://hooks.slack.com/services/T000/B000/XXXXXXXXXXXXXXXXXXXXXXXX", ""),
        ("a.ts", f'stripe("sk_live_{RANDOM}")', "a token of Stripe"),
        ("a.json", f'{{"kty": "EC", "d": "{RANDOM}_abc-xyz"}}', "a private key"),
        ("compose.yaml", f"URL: postgres://app:h7Kq9vTz@{RDS}/app", f"the password of a user of {RDS}"),
        ("compose.yaml", f"# URL: postgres://app:h7Kq9vTz@{RDS}/app", ""),
        ("compose.yaml", "URL: postgres://postgres:postgres@db:5432/app", ""),
        ("compose.yaml", "URL: postgres://app:h7Kq9vTz@localhost/app", ""),
        ("README.md", f"postgres://app:h7Kq9vTz@{RDS}/app", ""),
        ("a.sh", f'psql "postgres://app:$PASSWORD@{RDS}/app"', ""),
        ("a.ts", f"`postgres://app:${{password}}@{RDS}`", ""),
        ("x.tfvars", 'db_password = "h7Kq9vTz2mWx4"', "db_password is in the repository"),
        ("x.tfvars.json", '{\n  "api_key": "h7Kq9vTz2mWx4"\n}', "api_key is in the repository"),
        ("x.tfvars", 'db_password_secret = "Arrakis2/staging/db"', ""),
        ("x.tfvars", 'db_password = "change-Me-12345"', ""),
        ("x.tfvars", 'token_lifetime = "h7Kq9vTz2mWx4"', ""),
        ("x.tfvars.example", 'db_password = "h7Kq9vTz2mWx4"', ""),
        (".env", "DB_PASSWORD=h7Kq9vTz2mWx4", ""),
        (".env.production", "DB_PASSWORD=h7Kq9vTz2mWx4", "DB_PASSWORD is in the repository"),
        ("secrets.enc.yaml", "db_password: ENC[AES256_GCM,data:h7Kq9vTz2mWx4,type:str]", ""),
        ("terraform.tfstate", '{"resources": [{"type": "random_password"}]}', "Terraform's state"),
        ("terraform.tfstate", '{"resources": [{"type": "aws_sqs_queue"}]}', ""),
        ("terraform.tfstate.backup", '{"resources": [{"type": "random_password"}]}', "Terraform's state"),
        ("a.yml", f"uses: a/b@3df4ab11eba7bda6032a0b82a6bb43b11571feac\nid: {KEY_ID}", ""),
        (".env.production", f"NEXT_PUBLIC_MAPS_API_KEY=AIzaSy{RANDOM}", ""),
        (".env.production", f"VITE_MAP_TOKEN=pk{RANDOM}", ""),
        (".env.production", f"PUBLISHER_TOKEN=pk{RANDOM}", "PUBLISHER_TOKEN is in the repository"),
        ("a.md", '{"kty":"EC","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}', ""),
        ("a.yml", "xoxb-fake-token-for-the-ci-2", ""),
        ("a.yml", f"xoxb-17653285-17653286-{RANDOM}", "a token of Slack"),
        ("compose.yaml", "URL: postgres://app:h7Kq9vTz@db.prod.svc.cluster.local/app", ""),
        ("compose.yaml", "URL: postgres://app:h7Kq9vTz@your-db.rds.amazonaws.com/app", ""),
        ("compose.yaml", f"URL: postgres://app:x@h7Kq9vTz.y@{RDS}/app", f"the password of a user of {RDS}"),
        ("a.sh", "curl https://api.acme.org:8443?to=a@b.org", ""),
    ],
)
def test_credentials_are_told_from_what_stands_for_them(
    tmp_path: Path, path: str, text: str, what: str
) -> None:
    said = found(tmp_path, path, text)
    assert [what in each for each in said] == [True] * bool(what)
    assert not any(RANDOM in each or "h7Kq9vTz" in each for each in said), "the value is shown"


def test_files_that_nobody_wrote_by_hand_are_not_read(tmp_path: Path) -> None:
    text = f"ghp_{RANDOM}\n"
    assert found(tmp_path / "a", "data.json", text + "x" * 1_000_001) == []
    assert found(tmp_path / "b", "image.bin", text + "\0") == []


@pytest.mark.parametrize("text", [f"://{'a:' * 400_000}", f"-----BEGIN PRIVATE KEY-----{' ' * 900_000}"])
def test_a_long_line_is_read_soon(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, ".env.production", text) == []

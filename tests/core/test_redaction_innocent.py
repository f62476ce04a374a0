"""Text without secrets stays readable: ids, digests, addresses, source code, and prose about secrets."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pytest_readiness.core.redaction import Redactor

_DIGEST = hashlib.sha256(b"x").hexdigest()
_PUBLIC = (
    ec.derive_private_key(8, ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)
IDENTIFIERS = [
    *(str(uuid.uuid5(uuid.NAMESPACE_DNS, str(n))) for n in range(8)),
    *(hashlib.sha1(str(n).encode()).hexdigest() for n in range(8)),
    *(hashlib.sha256(str(n).encode()).hexdigest() for n in range(8)),
    *(f"sha256:{hashlib.sha256(str(n).encode()).hexdigest()}" for n in range(4)),
    *("0x" + hashlib.sha1(str(n).encode()).hexdigest() for n in range(8)),
    "0x1234...abcd",
    "wallet 0x52908400098527886E0F7030069857D2E4169EE7 is funded",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "x-request-id: 4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
    f'"hash": "{_DIGEST}", "previous": "{_DIGEST}"',
    "20261126T142750Z-a1b2c3",
    "2026-11-26T14:27:50Z",
    "arn:aws:secretsmanager:us-east-1:000000000000:secret:staging/shop/es256-private-key-f5cfe1",
    "arn:aws:iam::000000000000:role/key-operator",
    "us-east-1_AbCdEfGhI",
    "registry.example/shop@sha256:" + _DIGEST,
    'etag: W/"33a64df551425fcc55e4d42a148795d9f25f89d4"',
    "idempotency-key: 4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
    '{"kid": "2026-11-key-1", "kty": "EC", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"}',
    _PUBLIC,
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl user@host",
    "https://host:8443/v1/agents/a1b2c3?limit=5&page=2",
    "http://127.0.0.1:39121/.well-known/jwks.json",
    "ssh://git@github.com/owner/repo",
    "mail someone@example.org",
    "integrity sha512-" + "Ab3+" * 21 + "==",
    "max_tokens: 256, total_tokens: 1024",
    '"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46',
    '{"max_tokens": 4096, "next_token": "page-2"}',
    "nextToken=page2",
    "data:text/plain;base64,SGVsbG8gd29ybGQh",
    "smoke/auth/test_forgeries.py::test_unknown_key[freeside-es256] PASSED",
    "test_rejects_a_stale_token[dixie-expired-by-one-second]",
    "auth/rejects-token-signed-by-unknown-key[freeside]",
    "PublicKeyToken of the assembly",
    "keyJournal.entries.first",
    "monkeyJobs.example.org",
    "tokenizer.json and keyboard.layout",
    "AKIA is how a key id begins",
    "ASIANCOUNTRIES2026",
    "eyJ is how a token begins",
    "secret_name = staging/shop/es256-private-key",
    "token_type=Bearer",
    "token_endpoint: https://host/oauth2/token",
    "password_policy: strict",
    "cookie_count=2",
    "key: value",
    "public_key: see /keys",
    "sort_key=created_at",
    "primary_key=id",
    "Content-Length: 1024",
    "retry-after: 3",
    "7f000001",
    "v1.2.3-rc.4+build.5",
    "libpython3.11.so.1.0",
    "C:\\new\\table\\users",
    "100% of 364 checks, 50%25 done",
    "a&b &amp; c &lt; d",
    "\x1b[32mPASSED\x1b[0m",
]
PROSE = [
    "the token was refused",
    "a bearer token was refused",
    "token: expired",
    "the token: it has expired",
    "token expired yesterday",
    "an unsigned token is refused with 401",
    "password: must be at least 12 characters",
    "Password must not be empty",
    "password is required",
    "password: required",
    "secret: not found",
    "secret = not configured",
    "no secret is set",
    "the secret staging/shop/es256-private-key has no value",
    "auth.token: environment variable SCENARIO_TOKEN is not set: export it",
    "auth.key: holds EC PRIVATE KEY, not an unencrypted private key",
    "auth.signing_key is not offered by environment 'local': set it in the profile",
    "signing_key: staging/shop/es256-private-key not found",
    'api_key = "env:SHOP_API_KEY"',
    'signing_key = "secretsmanager:staging/shop/es256-private-key"',
    'key = "file:~/.keys/smoke.pem"',
    "X-Api-Key: header is missing",
    "Authorization: header is missing",
    "the Authorization header is missing",
    'WWW-Authenticate: Bearer realm="api", error="invalid_token"',
    "set a Cookie: yes or no",
    "cookies: none",
    "credentials: missing",
    "give this runner AWS credentials and a region",
    "no AWS credentials: 41 checks",
    "Unable to locate credentials",
    "token=None",
    "password=''",
    "secret=<hidden>",
    "token=${TOKEN}",
    "token={token}",
    "Authorization: Bearer <token>",
    "Authorization: Bearer {token}",
    "Authorization: Bearer $TOKEN",
    "?token=...",
    "password=***",
    "token = null",
    '{"token": null, "password": false}',
    '{"token_type": "Bearer", "scope": "read"}',
    '{"error": "invalid_token", "error_description": "The access token expired"}',
    '{"detail": "token is expired"}',
    '{"signature": "valid", "signed_by": "smoke"}',
    "signature: invalid",
    "the signature does not verify",
    "value must start with -----BEGIN PRIVATE KEY----- and hold one key",
    "ES256 token: RS256 is not accepted",
    "token: ES256 was expected",
    "a token with 3 parts",
    "tokens: 5 of 10 left",
    "tokens=5",
    "5 tokens per second",
    "secrets are kept in AWS Secrets Manager",
    "key rotation: every 90 days",
    "api key rotation is due",
    "the API key: see the runbook",
    "private key: ES256, kept in Secrets Manager",
    "jwt: signature mismatch",
    "JWT: wrong audience",
    "authorization: denied by policy",
    "access key: rotated 3 days ago",
    "mnemonic: a word that helps",
    "passphrase: none",
    "0x is how a number begins",
    "bearer of bad news",
    "Basic authentication is off",
    "cookie: chocolate",
    "auth.token: AccessDeniedException on secret a/denied: grant this runner secretsmanager:GetSecretValue",
    "token: JsonWebTokenError",
    "session token: expired 3 minutes ago",
]
SOURCE = [
    "token = environment.secret('auth.token')",
    "    token = make_token(key, claims)",
    "headers = {'Authorization': f'Bearer {token}'}",
    "client.get(url, token=token)",
    "assert verify(token=forged, key=key)",
    "def test_refused(dixie, token, secret):",
    "password = os.environ['DB_PASSWORD']",
    "secret: str = ''",
    "def login(user: str, password: str) -> Token:",
    "@pytest.mark.requires('token')",
    "@pytest.mark.parametrize('token', TOKENS)",
    "for token in tokens:",
    "if token is None: return",
    "self._token = token",
    "response.headers['set-cookie']",
    "E       AssertionError: assert 200 == 401",
    "E        +  where 401 = <Response [401]>.status_code",
    "smoke/auth/test_tokens.py:41: AssertionError",
    "import secrets as tokens",
    "secrets.token_urlsafe(32)",
]
INNOCENT = [*IDENTIFIERS, *PROSE, *SOURCE]


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len({*INNOCENT}) >= 150


@pytest.mark.parametrize("texts", [IDENTIFIERS, PROSE, SOURCE], ids=["identifiers", "prose", "source"])
def test_what_is_not_a_secret_stays(texts: list[str]) -> None:
    redactor = Redactor(["some/other-secret=value"], ["acme_"])
    for text in texts:
        assert redactor.text(text) == text
        assert redactor.leaks(text.encode()) == [], text
        document = json.dumps({"log": f"first line\n{text}\nlast line", "n": 1})
        assert redactor.text(document) == document


@pytest.mark.parametrize(
    "data",
    [
        {"tokens": ["Hello", " world"], "usage": {"total_tokens": 5}},
        {"name": "token", "value": 5},
        {"kind": "figure", "name": "answers to a stale token", "value": "401", "expected": "401"},
        {"key": "AAPL", "value": "1234567890"},
        {"vector": {"d": "distance", "k": "nearest"}},
        {"secret_name": "staging/shop/key", "password_policy": "strict", "token_type": "Bearer"},
        {"auth": {"token": None, "secret": "secretsmanager:staging/shop/key"}},
        {"requires": ["token", "password"], "pair": ["token", "abc"]},
    ],
    ids=lambda data: str(next(iter(data))),
)
def test_data_without_secrets_stays(data: dict[str, Any]) -> None:
    assert Redactor().data(data) == data
